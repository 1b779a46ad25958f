"""Score faces with trained weights, without training: 1 is real, 0 is fake.

Reads   tmp_checkpoint/best_model.h5 and best_model.json, or --weights; and either split_dataset (its test faces), or,
        with --videos-dir, every face below <frames>, labelled or not   (03_train_cnn.py, 01a_crop_faces_mtcnn.py)
Writes  cnn_preds_values.json, one face per line; with labels Confusion.png
Rerun   scores again

A face that is too small, too dark or too blurred to be judged has a reason instead of a score.

The weights are loaded into a network that this project builds; a model file never brings code.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from common.calibration import read_parameters
from common.cli import (
    add_frames_dir,
    add_path,
    add_seed,
    add_weights,
    make_parser,
    positive,
    require_videos_dir,
    say,
    stop,
    stops_in_words,
    weights_of,
)  # fmt: skip
from common.constants import FACE_KINDS, THRESHOLD
from common.dataset import REDO_DATASET, read_test_faces
from common.labels import load_videos
from common.metrics import HEADLINE, describe, say_headline
from common.model_record import check_faces
from common.network import load_network
from common.paths import (
    FACES_CONFUSION,
    FACES_RECORD,
    FRAMES_RECORD,
    TEST_PREDICTIONS,
    data_root,
    digest,
    frames_dir_of,
    locate,
)
from common.plots import draw_confusion
from common.predictions import (
    cannot_judge_line,
    measured,
    prediction_line,
    score_faces,
    write_predictions,
)
from common.progress import list_messages
from common.records import InputError, failures, writing

STAGE = "03a"
REDO_FACES = {
    "faces": "run 01a_crop_faces_mtcnn.py --force", "marked_faces": "run 01b_mark_landmarks.py --force"
}  # fmt: skip


def check_steps(videos, videos_dir, frames_dir, data_dir):
    """Stop and name the step before that has not run on these videos; one that failed on them has."""
    folders = [Path(os.path.abspath(video.folder)) for video in videos]
    framed = [folder for folder in folders if (folder / FRAMES_RECORD).is_file()]
    faced = [folder for folder in framed if (folder / "faces" / FACES_RECORD).is_file()]
    failed = [(record["stage"], Path(record["path"])) for record in failures(data_dir)]
    root = os.path.abspath(videos_dir)
    if not framed and not any(stage == "00" and path.is_relative_to(root) for stage, path in failed):
        stop(f"{frames_dir} holds no frames of these videos. Run 00_convert_video_to_image.py first.")
    if framed and not faced and not any(stage == "01a" and path in framed for stage, path in failed):
        stop(f"{frames_dir} holds no faces of these videos. Run 01a_crop_faces_mtcnn.py first.")


def faces_of_videos(videos, face_kind):
    """Return (rows with `path`, rows of videos without a face) for the videos of `common.labels.load_videos`."""
    rows, faceless = [], []
    for video in videos:
        shared = {"video_id": video.video_id, "filename": video.filename, "group": video.group, "label": video.label}
        shared |= {"frame_px": video.frame_px, "video_frames": video.frames}
        if not video.faces:
            faceless.append({**shared, "reason": video.reason})
        for face in video.faces:
            names = ("file", "frame", "frame_s", "person", "confidence", "face_px")
            rows.append(
                {
                    **shared,
                    **{name: getattr(face, name) for name in names},
                    "path": video.folder / face_kind / face.file,
                }
            )
    return rows, faceless


def check_marks(rows):
    """Raise InputError if none of the videos has a folder of such faces: 01b has not run."""
    if rows and not any(row["path"].parent.is_dir() for row in rows):
        folder = rows[0]["path"].parent
        raise InputError(f"{folder} and its like do not exist. Run 01b_mark_landmarks.py first.")


def videos_of(args):
    """Return (videos below --videos-dir, metadata problems), or stop in words if there is nothing to score."""
    videos_dir, frames_dir = require_videos_dir(args), frames_dir_of(args)
    videos, problems = load_videos(videos_dir, frames_dir, data_root(args))
    if not videos:
        stop(f"{videos_dir} holds no videos or photos")
    check_steps(videos, videos_dir, frames_dir, data_root(args))
    return videos[: args.limit], problems


def lines_of(rows, scores, faceless, remedy):
    """Return (prediction lines by video, rows of the faces without a score); every video has a line."""
    lines = [prediction_line(row, score) for row, score in zip(rows, scores, strict=True) if score is not None]
    unreadable = [row for row, score in zip(rows, scores, strict=True) if score is None]
    scored = {line["video_id"] for line in lines}
    lost = {row["video_id"]: row for row in unreadable if row["video_id"] not in scored}
    lines += [cannot_judge_line(row, f"its faces are not readable; {remedy}") for row in lost.values()]
    lines += [cannot_judge_line(row, row["reason"]) for row in faceless]
    return sorted(lines, key=lambda line: line["video_id"]), unreadable


def report(lines, path, seed):
    """Draw the confusion matrix of the labelled faces and print their metrics; without any, remove an older plot."""
    labelled = [line for line in lines if line["label"] is not None and line["score"] is not None]
    if not labelled:
        with writing():
            path.unlink(missing_ok=True)  # it would be of other faces
        say(f"{STAGE}: no face has a label: no {path.name}")
        return
    labels, scores, groups = ([line[name] for line in labelled] for name in ("label", "score", "group"))
    draw_confusion(path, labels, [int(score >= THRESHOLD) for score in scores], "Faces, score per face", "faces")
    say_headline(f"{STAGE}: faces", describe(labels, scores, groups, seed, names=HEADLINE))


def build_parser():
    parser = make_parser(__doc__)
    parser.add_argument(
        "--videos-dir",
        metavar="PATH",
        help="score every face of these videos (default: the test faces of split_dataset)",
    )
    add_frames_dir(parser)
    add_path(parser, "split_dir")
    add_weights(parser)
    add_path(parser, "output_dir")
    parser.add_argument("--faces", choices=FACE_KINDS, default="faces", help="with --videos-dir (default: %(default)s)")
    parser.add_argument("--limit", type=positive, metavar="N", help="try the first N videos only")
    add_seed(parser)
    return parser


@stops_in_words
def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    weights_path = weights_of(args)
    problems, face_kind, remedy = [], args.faces, REDO_FACES[args.faces]
    if args.videos_dir:
        videos, problems = videos_of(args)
        rows, faceless = faces_of_videos(videos, face_kind)
    else:
        rows, faceless, face_kind = read_test_faces(locate(args, "split_dir"), args.limit)
        remedy = REDO_DATASET
    network, record = load_network(weights_path)
    check_faces(record, face_kind, weights_path)
    if args.videos_dir and face_kind == "marked_faces":
        check_marks(rows)
    calibration = read_parameters(record, "faces")
    measures = np.zeros((len(rows), 2))
    scores = score_faces(network, [row["path"] for row in rows], record["input_size"], STAGE, calibration, measures)
    lines, unreadable = lines_of(measured(rows, measures), scores, faceless, remedy)
    output_dir = locate(args, "output_dir")
    write_predictions(output_dir / TEST_PREDICTIONS, lines, digest(weights_path))
    report(lines, output_dir / FACES_CONFUSION, args.seed)
    list_messages(STAGE, "failed", [(row["path"], f"is not readable; {remedy}") for row in unreadable])
    list_messages(STAGE, "warning", problems)  # metadata.json is needed by 02 only: no failure here
    scored = [line for line in lines if line["score"] is not None]
    videos, judged = (len({line["video_id"] for line in part}) for part in (lines, scored))
    say(
        f"{STAGE}: {videos} videos, {len(scored)} faces scored, {len(rows) - len(scored) - len(unreadable)} too small, dark or "
        f"blurred, {videos - judged} videos without a usable face, {len(unreadable)} faces failed, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
