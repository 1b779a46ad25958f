"""Score faces with trained weights, without training: 1 is real, 0 is fake.

Reads   tmp_checkpoint/best_model.h5 and best_model.json, or --weights; and either split_dataset (its test faces), or,
        with --videos-dir, every face below <frames>, labelled or not   (03_train_cnn.py, 01a_crop_faces_mtcnn.py)
Writes  cnn_preds_values.json, one face per line; with labels Confusion.png
Rerun   scores again

The weights are loaded into a network that this project builds; a model file never brings code.
"""

import sys
import time
from pathlib import Path

from common.cli import add_frames_dir, add_path, add_seed, make_parser, positive, require, require_videos_dir, say, stop
from common.constants import FACE_KINDS, THRESHOLD
from common.labels import load_videos
from common.metrics import describe, format_metric
from common.model import load_model
from common.paths import BEST_MODEL, SPLIT_RECORD, SPLIT_TABLE, TEST_PREDICTIONS, data_root, frames_dir_of, locate
from common.plots import draw_confusion
from common.predictions import cannot_judge_line, prediction_line, read_split, score_faces, write_predictions
from common.records import InputError, OutputError, read_json, writing
from common.runner import list_messages

STAGE = "03a"


def test_faces(split_dir, limit):
    """Return (rows with `path`, rows of videos without a face, kind of faces) of the test split."""
    require(split_dir / SPLIT_TABLE, "it would list the test faces", "02_prepare_dataset.py")
    dataset = read_json(split_dir / SPLIT_RECORD)
    if dataset is None:
        stop(f"{split_dir / SPLIT_RECORD} is missing or broken; run 02_prepare_dataset.py --force")
    faceless = [row for row in dataset["faceless"] if row["split"] == "test"]
    return read_split(split_dir)["test"][:limit], faceless, dataset["faces"]


def faces_of_videos(videos, face_kind):
    """Return (rows with `path`, rows of videos without a face) for the videos of `common.labels.load_videos`."""
    rows, faceless = [], []
    for video in videos:
        shared = {"video_id": video.video_id, "filename": video.filename, "group": video.group, "label": video.label}
        if not video.faces:
            faceless.append({**shared, "reason": video.reason})
        for face in video.faces:
            names = ("file", "frame", "frame_s", "person", "confidence", "face_px")
            rows.append(
                {**shared, **{name: face[name] for name in names}, "path": video.folder / face_kind / face["file"]}
            )
    return rows, faceless


def check_faces(record, face_kind, weights_path):
    """Raise InputError if the weights were trained on another kind of crops."""
    if record["faces"] != face_kind:
        raise InputError(
            f"{weights_path} was trained on {record['faces']}, but these are {face_kind}; "
            f"use --faces {record['faces']} (02 and 03a know this option) or other weights"
        )


def build_parser():
    parser = make_parser(__doc__)
    parser.add_argument(
        "--videos-dir",
        metavar="PATH",
        help="score every face of these videos (default: the test faces of split_dataset)",
    )
    add_frames_dir(parser)
    add_path(parser, "split_dir")
    add_path(parser, "checkpoint_dir")
    add_path(parser, "output_dir")
    parser.add_argument("--weights", metavar="PATH", help="an .h5 file with its .json (default: the checkpoint's)")
    parser.add_argument("--faces", choices=FACE_KINDS, default="faces", help="with --videos-dir (default: %(default)s)")
    parser.add_argument("--limit", type=positive, metavar="N", help="score the first N faces or videos only")
    add_seed(parser)
    return parser


def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    weights_path = Path(args.weights) if args.weights else locate(args, "checkpoint_dir") / BEST_MODEL
    output_dir, problems, face_kind = locate(args, "output_dir"), [], args.faces
    if not args.weights:
        require(weights_path, "it would hold the trained weights", "03_train_cnn.py")
    if args.videos_dir:
        frames_dir = frames_dir_of(args)
        videos, problems = load_videos(require_videos_dir(args), frames_dir, data_root(args))
        if not videos:
            stop(f"{args.videos_dir} holds no videos or photos")
        rows, faceless = faces_of_videos(videos[: args.limit], face_kind)
    else:
        rows, faceless, face_kind = test_faces(locate(args, "split_dir"), args.limit)
    try:
        model, record = load_model(weights_path)
        check_faces(record, face_kind, weights_path)
        scores = score_faces(model, [row["path"] for row in rows], record["input_size"], STAGE)
        lines = [prediction_line(row, score) for row, score in zip(rows, scores, strict=True) if score is not None]
        unreadable = [row for row, score in zip(rows, scores, strict=True) if score is None]
        scored = {line["video_id"] for line in lines}
        lost = {row["video_id"]: {**row, "reason": "its faces are not readable; run 01a_crop_faces_mtcnn.py --force"}
                for row in unreadable if row["video_id"] not in scored}  # fmt: skip
        lines += [cannot_judge_line(row, row["reason"]) for row in [*faceless, *lost.values()]]
        write_predictions(output_dir / TEST_PREDICTIONS, sorted(lines, key=lambda line: line["video_id"]))
        labelled = [line for line in lines if line["label"] is not None and line["score"] is not None]
        if labelled:
            predicted = [int(line["score"] >= THRESHOLD) for line in labelled]
            title = "Faces, score per face"
            draw_confusion(
                output_dir / "Confusion.png", [line["label"] for line in labelled], predicted, title, "faces"
            )
            columns = [[line[name] for line in labelled] for name in ("label", "score", "group")]
            for name, entry in describe(*columns, args.seed).items():
                say(f"{STAGE}: faces: {format_metric(name, entry)}")
        else:
            with writing():
                (output_dir / "Confusion.png").unlink(missing_ok=True)  # it would be of other faces
            if lines:
                say(f"{STAGE}: no face has a label: no Confusion.png")
    except (InputError, OutputError) as error:
        stop(str(error))
    list_messages(STAGE, "failed", [(row["path"], "is not readable") for row in unreadable])
    list_messages(STAGE, "warning", [tuple(line.split(": ", 1)) for line in problems])
    say(
        f"{STAGE}: {len(scored) + len(faceless) + len(lost)} videos, {len(rows) - len(unreadable)} faces scored, "
        f"{len(faceless)} videos without a face, {len(unreadable)} faces failed, {time.monotonic() - started:.0f} s"
    )
    return 1 if unreadable or problems else 0


if __name__ == "__main__":
    sys.exit(main())
