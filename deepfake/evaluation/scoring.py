"""From face files to scores: one batch of faces is decoded while the one before it is scored."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np

from common.messages import progress
from deepfake.evaluation import predictions
from deepfake.evaluation.calibration import UNCHANGED, calibrate, read_parameters
from deepfake.preprocessing import crops

BATCH = 64  # faces that are scored together
BATCH_PIXELS = 2**22  # of a batch, at most: 13 MB


def score_faces(scorer, paths, input_size, stage, calibration=UNCHANGED, measures=None, read=crops.read_image):
    """Return the score P(real) of every face file, in order; None for a file that cannot be read.

    `scorer`: from deepfake/model/scorer.py. `calibration`: {"a", "b"}. `measures`, an array (n, 2), receives brightness and
    sharpness. `read` gives the BGR picture of a path, or None.
    """
    size = max(1, min(BATCH, BATCH_PIXELS // input_size**2))
    starts = range(0, len(paths), size)

    def load(start):
        part = None if measures is None else measures[start : start + size]
        return crops.load_faces(paths[start : start + size], input_size, measures=part, read=read)

    found, unreadable = [], set()
    with ThreadPoolExecutor(1) as prefetch:
        batch = prefetch.submit(load, 0)
        for start in progress(starts, len(starts), stage, f"x {size} faces"):
            faces_rgb, lost = batch.result()
            batch = prefetch.submit(load, start + size)  # after the last batch, an empty one
            found += calibrate(scorer.score(faces_rgb), calibration).tolist()
            unreadable.update(lost)
    return [None if path in unreadable else score for path, score in zip(paths, found, strict=True)]


def score_rows(scorer, rows, record, stage):
    """Return (rows with brightness and sharpness, their scores as from `score_faces`) of rows with `path`.

    `record`: the model card, with input_size and, perhaps, calibration.
    """
    measures, face_paths = np.zeros((len(rows), 2)), [row["path"] for row in rows]
    scores = score_faces(scorer, face_paths, record["input_size"], stage, read_parameters(record, "faces"), measures)
    return predictions.measured(rows, measures), scores
