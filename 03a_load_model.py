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

from common import cli, files, messages, paths
from common.constants import FACE_KINDS, THRESHOLD
from common.errors import InputError, writing
from common.messages import say
from deepfake.dataset import table
from deepfake.dataset.videos import load_videos
from deepfake.evaluation import intervals, predictions, scoring
from deepfake.evaluation.calibration import read_parameters
from deepfake.model import record as model_record
from deepfake.model import scorer
from deepfake.parallel import failures
from deepfake.report import plots

STAGE = "03a"
REDO_FACES = {"faces": "run 01a_crop_faces_mtcnn.py --force", "marked_faces": "run 01b_mark_landmarks.py --force"}


def check_steps(videos, videos_dir, frames_dir, data_dir):
    """Stop and name the step before that has not run on these videos; one that failed on them has."""
    folders = [Path(os.path.abspath(video.folder)) for video in videos]
    framed = [folder for folder in folders if (folder / paths.FRAMES_RECORD).is_file()]
    faced = [folder for folder in framed if (folder / "faces" / paths.FACES_RECORD).is_file()]
    failed = [(record["stage"], Path(record["path"])) for record in failures.failures(data_dir)]
    root = os.path.abspath(videos_dir)
    if not framed and not any(stage == "00" and path.is_relative_to(root) for stage, path in failed):
        cli.stop(f"{frames_dir} holds no frames of these videos. Run 00_convert_video_to_image.py first.")
    if framed and not faced and not any(stage == "01a" and path in framed for stage, path in failed):
        cli.stop(f"{frames_dir} holds no faces of these videos. Run 01a_crop_faces_mtcnn.py first.")


def faces_of_videos(videos, face_kind):
    """Return (rows with `path`, rows of videos without a face) for the videos of `deepfake.dataset.metadata.load_videos`."""
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
    videos_dir, frames_dir = cli.require_videos_dir(args), cli.frames_dir_of(args)
    videos, problems = load_videos(videos_dir, frames_dir, cli.data_root(args))
    if not videos:
        cli.stop(f"{videos_dir} holds no videos or photos")
    check_steps(videos, videos_dir, frames_dir, cli.data_root(args))
    return videos[: args.limit], problems


def lines_of(rows, scores, faceless, remedy):
    """Return (prediction lines by video, rows of the faces without a score); every video has a line."""
    lines = [
        predictions.prediction_line(row, score) for row, score in zip(rows, scores, strict=True) if score is not None
    ]
    unreadable = [row for row, score in zip(rows, scores, strict=True) if score is None]
    scored = {line["video_id"] for line in lines}
    lost = {row["video_id"]: row for row in unreadable if row["video_id"] not in scored}
    lines += [predictions.cannot_judge_line(row, f"its faces are not readable; {remedy}") for row in lost.values()]
    lines += [predictions.cannot_judge_line(row, row["reason"]) for row in faceless]
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
    plots.draw_confusion(path, labels, [int(score >= THRESHOLD) for score in scores], "Faces, score per face", "faces")
    intervals.say_headline(
        f"{STAGE}: faces", intervals.describe(labels, scores, groups, seed, names=intervals.HEADLINE)
    )


def build_parser():
    parser = cli.make_parser(__doc__)
    parser.add_argument(
        "--videos-dir",
        metavar="PATH",
        help="score every face of these videos (default: the test faces of split_dataset)",
    )
    cli.add_frames_dir(parser)
    cli.add_path(parser, "split_dir")
    cli.add_weights(parser)
    cli.add_path(parser, "output_dir")
    parser.add_argument("--faces", choices=FACE_KINDS, default="faces", help="with --videos-dir (default: %(default)s)")
    parser.add_argument("--limit", type=cli.positive, metavar="N", help="try the first N videos only")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    weights_path = cli.weights_of(args)
    problems, face_kind, remedy = [], args.faces, REDO_FACES[args.faces]
    if args.videos_dir:
        videos, problems = videos_of(args)
        rows, faceless = faces_of_videos(videos, face_kind)
    else:
        rows, faceless, face_kind = table.read_test_faces(cli.locate(args, "split_dir"), args.limit)
        remedy = table.REDO_DATASET
    face_scorer, record = scorer.load_scorer(weights_path)
    model_record.check_faces(record, face_kind, weights_path)
    if args.videos_dir and face_kind == "marked_faces":
        check_marks(rows)
    calibration = read_parameters(record, "faces")
    measures = np.zeros((len(rows), 2))
    scores = scoring.score_faces(
        face_scorer, [row["path"] for row in rows], record["input_size"], STAGE, calibration, measures
    )
    lines, unreadable = lines_of(predictions.measured(rows, measures), scores, faceless, remedy)
    output_dir = cli.locate(args, "output_dir")
    predictions.write_predictions(output_dir / paths.TEST_PREDICTIONS, lines, files.digest(weights_path))
    report(lines, output_dir / paths.FACES_CONFUSION, args.seed)
    messages.list_messages(STAGE, "failed", [(row["path"], f"is not readable; {remedy}") for row in unreadable])
    messages.list_messages(STAGE, "warning", problems)  # metadata.json is needed by 02 only: no failure here
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
