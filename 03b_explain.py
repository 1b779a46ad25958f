"""Show where the scorer saw signs of a fake, in the most suspicious faces of every video.

Reads   cnn_preds_values.json, the weights that made it, and the crops   (03_train_cnn.py or 03a_load_model.py)
Writes  <frames>/<video_id>/explained/: an overlay for each of these crops, of the same name and size, and explained.json
Rerun   skips videos whose overlays are complete and of the same faces, scores and weights

A map is HiResCAM (Draelos & Carin, 2020): activation times gradient of the logit of FAKE = 1 - P(real), summed over the channels.
What speaks for REAL is left out. Grad-CAM (Selvaraju et al., ICCV 2017) also averages the gradient over the picture; at the last
layer, both are the same. The map comes from that layer, which has one cell for 32 x 32 px of the input. Of faces under 192 px
that is too coarse: there it comes from a layer with one cell for 16 x 16 px. tools/base_weights/measure_explanations.py measures
how often a map points to the altered half of a face.
"""

import sys
import time
from itertools import groupby

import cv2
import numpy as np

from common import cli, files, messages, paths
from common.errors import InputError
from common.messages import progress, say
from deepfake.evaluation import predictions
from deepfake.evaluation.calibration import calibrate, read_parameters
from deepfake.model import grad_cam
from deepfake.model import record as model_record
from deepfake.parallel import loop
from deepfake.preprocessing import crops

STAGE = "03b"
HOW_TO_READ = (
    "Colour marks the places that moved the network most towards FAKE, the lighter the more; in a grey face, none did much. "
    "It says where the network found something, not what, nor whether it is right: no proof of an alteration, nor its outline."
)
METHOD = "HiResCAM (Draelos & Carin, 2020) of the logit of FAKE = 1 - P(real)"
RECORD_OF = {"faces": paths.FACES_RECORD, "marked_faces": paths.MARKS_RECORD}
BATCH, BATCH_PIXELS = 32, 2**19  # at most so many faces, and so many pixels of them, are scored at once
# Log-odds of FAKE that the whole crop would have if it were like the place. With 25, a line is drawn on 88 % of the validation
# blends that the base weights (224 px) call FAKE, and on no real face that they call REAL. A face without such a place stays
# grey.
FULL_COLOUR = 25
VISIBLE, OPAQUE = 0.2, 0.6  # of full colour: a place is grey below the first, as opaque as can be from the second on
MAX_OPACITY = 0.65
SAME_SCORE = 0.05  # mixed precision moves scores by a hundredth; other weights or other faces by more


def colour_share(heat, slope):
    """Return heat (rows, columns), in logits, as a share of full colour, at most 1.

    A face whose strongest place is above full colour is scaled by that place: else it would be one colour all over.
    `slope` of the calibration turns logits into log-odds.
    """
    share = slope * heat * heat.size / FULL_COLOUR
    return share / max(1.0, share.max())


def draw_overlay(face_bgr, share):
    """Return the uint8 BGR face (h, w, 3) in grey, under the colours of `share` (rows, columns), 0..1, with a line at OPAQUE.

    The colours are viridis, which gets lighter evenly, also for the colour-blind and in print (Smith & van der Walt, 2015).
    """
    height, width = face_bgr.shape[:2]
    share = np.clip(cv2.resize(share.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC), 0, 1)
    grey = cv2.cvtColor(cv2.cvtColor(face_bgr, cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR)
    colours = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_VIRIDIS)
    opacity = MAX_OPACITY * np.clip((share - VISIBLE) / (OPAQUE - VISIBLE), 0, 1)[..., None]
    mixed = (grey + opacity * (colours.astype(np.float32) - grey) + 0.5).astype(np.uint8)
    outlines, _ = cv2.findContours((share > OPAQUE).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    thickness = max(1, round(width / 150))
    cv2.drawContours(mixed, outlines, -1, (0, 0, 0), 3 * thickness)
    cv2.drawContours(mixed, outlines, -1, (255, 255, 255), thickness)
    return mixed


def origin(job):
    """Return what identifies the faces of a Job and their scores. Its payload: lines of the predictions."""
    face_kind = job.settings["faces"]
    digest = files.digest(job.path / face_kind / RECORD_OF[face_kind])
    return {"faces_digest": digest, "scores": [[face["file"], face["score"]] for face in job.payload]}


def is_complete(job):
    """Tell whether the overlays of a Job are all there and of the same faces, scores and weights."""
    return job.finished() is not None and all((job.target_dir / face["file"]).is_file() for face in job.payload)


def faces_to_explain(path):
    """Return (lines of faces with a score and an own file, number of lines that are no predictions). Raises InputError."""
    lines, broken = predictions.read_predictions(path)
    if broken and not lines:
        raise InputError(f"{path} holds no predictions")
    scored = [line for line in lines if line["file"] and line["score"] is not None]
    return [line for line in scored if not line.get("self_blended")], broken


def most_suspicious(lines, count):
    """Return {video_id: its `count` faces of the lowest P(real), the lowest first}, sorted by video."""
    lines = sorted(lines, key=lambda line: (line["video_id"], line["score"], line["file"]))
    return {video_id: list(group)[:count] for video_id, group in groupby(lines, key=lambda line: line["video_id"])}


def read_crops(job):
    """Return the uint8 BGR crops (h, w, 3) of a job. Raises InputError."""
    if not files.is_our_folder(job.path, paths.FRAMES_RECORD):
        raise InputError(f"has no frames in {job.path}; name the place with --videos-dir or --frames-dir")
    if error := job.blocked():
        raise error
    crop_paths = [job.path / job.settings["faces"] / face["file"] for face in job.payload]
    pictures = [crops.read_image(path) for path in crop_paths]
    for path, crop in zip(crop_paths, pictures, strict=True):
        if crop is None:
            raise InputError(f"{path} is not readable")
    return pictures


def write_explained(job, pictures, heats, scores):
    """Write the overlays of one video and their record. Raises InputError if its scores differ from the predictions."""
    listed, images = [], {}
    for face, picture, heat, score in zip(job.payload, pictures, heats, scores, strict=True):
        if abs(face["score"] - score) > SAME_SCORE:
            raise InputError(
                f"{face['file']} now has the score {score:.3f}, but {face['score']:.3f} in the predictions: other weights "
                "made them, or of other faces; run 03a_load_model.py"
            )
        share = colour_share(heat, job.settings["calibration"]["a"])
        images[face["file"]] = crops.as_png(draw_overlay(picture, share))
        known = {name: face.get(name) for name in ("file", "frame", "person", "score")}
        listed.append(known | {"peak": round(float(share.max()), 3)})
    record = {
        "video_id": job.payload[0]["video_id"],
        "made_from": job.made_from(),
        **{name: job.settings[name] for name in ("model_digest", "method", "layer")},
        "score": "P(real): 1 real, 0 fake",
        "peak": "of full colour",
        "how_to_read": HOW_TO_READ,
        "faces": listed,
    }
    job.write(images, record)


def explain_batch(batch, explain, input_size, size):
    """Write the overlays of `batch`, [(job, crops)], at most `size` faces at once; yield (job, None or InputError)."""
    faces_rgb = np.stack([crops.to_square(crop, input_size) for _, pictures in batch for crop in pictures])
    parts = [explain(faces_rgb[start : start + size]) for start in range(0, len(faces_rgb), size)]
    heats, scores = (np.concatenate(found) for found in zip(*parts, strict=True))
    ends = np.cumsum([len(pictures) for _, pictures in batch])[:-1]
    by_job = zip(batch, np.split(heats, ends), np.split(scores, ends), strict=True)
    for (job, pictures), own_heats, own_scores in by_job:
        try:
            write_explained(job, pictures, own_heats, calibrate(own_scores, job.settings["calibration"]))
            yield job, None
        except InputError as error:
            yield job, error


def explain_jobs(jobs, explain, input_size):
    """Write the overlays of every job, several videos at a time; yield (job, None or InputError)."""
    size = max(1, min(BATCH, BATCH_PIXELS // input_size**2))
    batch = []
    for job in jobs:
        try:
            batch.append((job, read_crops(job)))
        except InputError as error:
            yield job, error
        if sum(len(pictures) for _, pictures in batch) >= size:
            yield from explain_batch(batch, explain, input_size, size)
            batch = []
    if batch:
        yield from explain_batch(batch, explain, input_size, size)


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "videos_dir", "predictions")
    cli.add_frames_dir(parser)
    cli.add_weights(parser)
    count = "the most suspicious ones (default: %(default)s)"
    parser.add_argument("--faces-per-video", type=cli.positive, default=3, metavar="N", help=count)
    cli.add_limit_and_force(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    predictions = cli.locate(args, "predictions")
    cli.require(predictions, "it would hold the scores of the faces", "03_train_cnn.py or 03a_load_model.py")
    weights_path = cli.weights_of(args)
    record = model_record.read_model_record(weights_path)
    settings = {
        "faces": record["faces"],
        "model_digest": files.digest(weights_path),
        "calibration": read_parameters(record, "faces"),
        "method": METHOD,
        "layer": grad_cam.layer_for(record["input_size"]),
        "full_colour": [FULL_COLOUR, "or the strongest place"],
        "faces_per_video": args.faces_per_video,
    }
    lines, broken = faces_to_explain(predictions)
    chosen = most_suspicious(lines, args.faces_per_video)
    frames_dir = cli.frames_dir_of(args)
    jobs = []
    for video_id, faces in list(chosen.items())[: args.limit]:
        folder = frames_dir / video_id
        target = folder / paths.EXPLAINED_DIR, paths.EXPLAINED_RECORD
        jobs.append(loop.Job(folder, *target, origin, settings, faces))
    todo = [job for job in jobs if args.force or not is_complete(job)]
    results, done, failed = (), 0, []
    if todo:
        explain = grad_cam.find_explainer(weights_path, record["input_size"])
        results = explain_jobs(todo, explain, record["input_size"])
    for job, error in progress(results, len(todo), STAGE, "videos"):
        if error:
            failed.append((job.path, error))
        else:
            done += len(job.payload)
    if broken:
        failed.append((predictions, f"{broken} lines are no predictions"))
    messages.list_messages(STAGE, "failed", failed)
    say(
        f"{STAGE}: {len(jobs)} videos, {done} faces explained, {len(jobs) - len(todo)} videos were complete, "
        f"{len(failed)} failed, {time.monotonic() - started:.0f} s"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
