"""From face files to scores: batches of faces, decoded while the batch before is scored."""

from concurrent.futures import ThreadPoolExecutor

from common.messages import progress
from deepfake.evaluation.calibration import UNCHANGED, calibrate
from deepfake.preprocessing import crops

BATCH = 64  # faces that are scored together, while the next ones are decoded
BATCH_PIXELS = 2**22  # of a batch at most: 13 MB


def score_faces(network, paths, input_size, stage, calibration=UNCHANGED, measures=None, read=crops.read_image):
    """Return the score P(real) of every face file, in order; None for a file that cannot be read.

    `network`: of `deepfake.model.scorer`. `calibration`: {"a", "b"} of `deepfake.evaluation.calibration`. `measures`, an array
    (n, 2), receives brightness and sharpness. `read` gives the BGR picture of a path, or None.
    """
    size = max(1, min(BATCH, BATCH_PIXELS // input_size**2))
    starts = range(0, len(paths), size)

    def load(start):
        part = None if measures is None else measures[start : start + size]
        return crops.load_faces(paths[start : start + size], input_size, measures=part, read=read)

    found, unreadable, ahead = [], set(), ThreadPoolExecutor(1)
    try:
        batches = (job.result() for job in one_ahead(ahead, load, starts))
        for faces_rgb, lost in progress(batches, len(starts), stage, f"x {size} faces"):
            found += calibrate(network.score(faces_rgb), calibration).tolist()
            unreadable.update(lost)
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)
    return [None if path in unreadable else score for path, score in zip(paths, found, strict=True)]


def one_ahead(executor, function, arguments):
    """Yield a job of the function for each argument, in order, when the next one was submitted too."""
    waiting = None
    for argument in arguments:
        job = executor.submit(function, argument)
        if waiting:
            yield waiting
        waiting = job
    if waiting:
        yield waiting
