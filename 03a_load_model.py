"""Score faces with trained weights, without training: 1 is real, 0 is fake.

Reads   tmp_checkpoint/best_model.h5 and best_model.json, or --weights; and either split_dataset (its test faces), or,
        with --videos-dir, every face below <frames>, labelled or not   (03_train_cnn.py, 01a_crop_faces_mtcnn.py)
Writes  cnn_preds_values.json, one face per line; with labels Confusion.png
Rerun   scores again

A face that is too small, too dark or too blurred to be judged has a reason instead of a score.
Only arrays are read from the weights file, never code: the model is built here.
"""

import sys
import time

from common import cli, files, messages, paths
from common.constants import FACE_KINDS, THRESHOLD
from common.errors import InputError, writing
from common.messages import say
from deepfake.dataset import table, videos
from deepfake.evaluation import intervals, predictions, scoring
from deepfake.model import record as model_record
from deepfake.model import scorer
from deepfake.preprocessing import quality
from deepfake.report import plots

STAGE = "03a"
REDO_FACES = {"faces": "run 01a_crop_faces_mtcnn.py --force", "marked_faces": "run 01b_mark_landmarks.py --force"}


def check_marks(rows):
    """Raise InputError if none of the videos has a folder of such faces: 01b has not run."""
    if rows and not any(row["path"].parent.is_dir() for row in rows):
        folder = rows[0]["path"].parent
        raise InputError(f"{folder} and its like do not exist. Run 01b_mark_landmarks.py first.")


def videos_of(args):
    """Return (videos below --videos-dir, problems of metadata.json), or stop in words if there is nothing to score."""
    videos_dir, frames_dir = cli.require_videos_dir(args), cli.frames_dir_of(args)
    found, problems = videos.load_videos(videos_dir, frames_dir, cli.data_root(args))
    if not found:
        cli.stop(f"{videos_dir} holds no videos or photos")
    videos.check_steps(found, videos_dir, frames_dir, cli.data_root(args))
    return found[: args.limit], problems


def lines_of(rows, scores, faceless, remedy):
    """Return (prediction lines sorted by video, rows of the unreadable faces). Every video has a line."""
    pairs = list(zip(rows, scores, strict=True))
    lines = [predictions.prediction_line(row, score) for row, score in pairs if score is not None]
    unreadable = [row for row, score in pairs if score is None]
    scored = {line["video_id"] for line in lines}
    lost = {row["video_id"]: row for row in unreadable if row["video_id"] not in scored}
    lines += [predictions.cannot_judge_line(row, f"{quality.FACES_UNREADABLE}; {remedy}") for row in lost.values()]
    lines += [predictions.cannot_judge_line(row, row["reason"]) for row in faceless]
    return sorted(lines, key=lambda line: line["video_id"]), unreadable


def report(lines, path, seed):
    """Draw the confusion matrix of the labelled faces and print their metrics. Without a labelled face, remove an older plot."""
    labelled = [line for line in lines if line["label"] is not None and line["score"] is not None]
    if not labelled:
        with writing():
            path.unlink(missing_ok=True)  # it is of other faces
        say(f"{STAGE}: no face has a label: no {path.name}")
        return
    labels, scores, groups = ([line[name] for line in labelled] for name in ("label", "score", "group"))
    plots.draw_confusion(path, labels, [int(score >= THRESHOLD) for score in scores], "Faces, score per face", "faces")
    metrics = intervals.describe(labels, scores, groups, seed, names=intervals.HEADLINE)
    intervals.say_headline(f"{STAGE}: faces", metrics)


def build_parser():
    parser = cli.make_parser(__doc__)
    what = "score every face of these videos (default: the test faces of split_dataset)"
    parser.add_argument("--videos-dir", metavar="PATH", help=what)
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
        found, problems = videos_of(args)
        rows, faceless = table.faces_of_videos(found, face_kind)
    else:
        rows, faceless, face_kind = table.read_test_faces(cli.locate(args, "split_dir"), args.limit)
        remedy = table.REDO_DATASET
    face_scorer, record = scorer.load_scorer(weights_path)
    model_record.check_faces(record, face_kind, weights_path)
    if args.videos_dir and face_kind == "marked_faces":
        check_marks(rows)
    rows, scores = scoring.score_rows(face_scorer, rows, record, STAGE)
    lines, unreadable = lines_of(rows, scores, faceless, remedy)
    output_dir = cli.locate(args, "output_dir")
    predictions.write_predictions(output_dir / paths.TEST_PREDICTIONS, lines, files.digest(weights_path))
    report(lines, output_dir / paths.FACES_CONFUSION, args.seed)
    messages.list_messages(STAGE, "failed", [(row["path"], f"is not readable; {remedy}") for row in unreadable])
    messages.list_messages(STAGE, "warning", problems)  # metadata.json is needed by 02 only: no failure here
    scored = [line for line in lines if line["score"] is not None]
    total, judged = (len({line["video_id"] for line in part}) for part in (lines, scored))
    say(
        f"{STAGE}: {total} videos, {len(scored)} faces scored, {len(rows) - len(scored) - len(unreadable)} too small, dark or "
        f"blurred, {total - judged} videos without a usable face, {len(unreadable)} faces failed, "
        f"{time.monotonic() - started:.0f} s"
    )
    return 1 if unreadable else 0


if __name__ == "__main__":
    sys.exit(main())
