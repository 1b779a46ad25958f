"""Score the test faces again after what cameras and the internet do to them: how much can the verdicts be trusted then?

Reads   split_dataset/ (its test faces), the weights, and for H.264 the videos, their frames.json and faces.json   (02, 03)
Writes  robustness.csv and Robustness.png; robustness_scores.json, the scores behind them
Rerun   goes on after the last complete severity; only draws again if all are complete of the same weights and dataset

score = P(real): 1 real, 0 fake. A crop is corrupted as it was saved, before it is resized for the scorer. For H.264, the whole
video is encoded again with x264. Its faces are cut out at the same moments, in the boxes that 01a found in the original video, so
that only the compression differs. All rows of a corruption are of the same faces: those with a score at every severity. Its row
"none" is of these faces as they were. Groups are those of 02: people who share videos.
"""

import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from common import cli, files, messages, paths
from common.constants import FAKE, REAL
from common.errors import InputError
from common.messages import progress, say
from deepfake.augmentation import corruptions
from deepfake.dataset import table
from deepfake.evaluation import calibration, intervals, scoring
from deepfake.model import record as model_record
from deepfake.model import scorer
from deepfake.parallel import pool
from deepfake.preprocessing import crops, decoding, inputs
from deepfake.report import plots

STAGE = "03c"
TIMEOUT_S = 600  # per video and severity
TIME_ROUNDING_S = 0.0006  # frames.json holds milliseconds
MEASURED = ("roc_auc", "log_loss", "accuracy")
COLUMNS = ("corruption", "severity", "label", "faces", "videos", "groups")
COLUMNS += tuple(f"{of}{name}{end}" for of in ("", "video_") for name in MEASURED for end in ("", "_low", "_high"))


@dataclass(frozen=True)
class Recompression:
    """One video to encode again, and the faces to cut out of it."""

    path: Path  # the video
    folder: Path  # its frames
    files: frozenset  # names of the crops that are wanted
    crf: int
    input_size: int


def crops_after(job):
    """Return {name of the crop: uint8 BGR (size, size, 3)} of a video that is compressed again. Raises InputError."""
    record = files.read_json(job.folder / paths.FRAMES_RECORD)
    faces = files.read_json(job.folder / "faces" / paths.FACES_RECORD)
    if not record or not faces:
        raise InputError(f"{job.folder} has no {paths.FRAMES_RECORD} or no faces/{paths.FACES_RECORD}; run 00 and 01a")
    wanted = [face for face in faces["faces"] if face["file"] in job.files]
    moments = sorted({(face["frame_s"], face["frame"]) for face in wanted})
    size = [round(side * record["scale"]) for side in (record["width"], record["height"])]
    numbers = {}  # {number of a frame in the stream: number of the saved frame}

    def pictures():
        for number, (time_s, picture) in enumerate(decoding.shown_frames(job.path)):
            if len(numbers) < len(moments) and time_s >= moments[len(numbers)][0] - TIME_ROUNDING_S:
                numbers[number] = moments[len(numbers)][1]
            yield picture
            if len(numbers) == len(moments):
                return

    cut = {}
    for number, frame in corruptions.recompress(pictures(), job.crf):
        if number not in numbers:
            continue
        picture = decoding.to_picture(frame, *size)
        for face in wanted:
            if face["frame"] == numbers[number]:
                x, y, w, h = face["crop_xywh"]
                cut[face["file"]] = crops.to_square(picture[y : y + h, x : x + w], job.input_size)[..., ::-1]
    if cut.keys() != job.files:
        found = f"only {len(cut)} of its {len(job.files)} faces were found again"
        raise InputError(f"{found}; the video or its frames changed")
    return cut


def corrupting_reader(corrupt, severity, seed):
    """Return a function of a path: its uint8 BGR crop, corrupted, always alike for one seed; None if it is not readable."""

    def read(path):
        face_bgr = crops.read_image(path)
        if face_bgr is None:
            return None
        rng = np.random.default_rng((seed, int(files.digest(path.name.encode())[:8], 16)))
        return np.ascontiguousarray(corrupt(np.ascontiguousarray(face_bgr[..., ::-1]), severity, rng)[..., ::-1])

    return read


def measure(rows, scores, seed):
    """Return the metrics of the faces in `scores`, {file: score}, and of the means of their videos, as in robustness.csv."""
    rows = [row for row in rows if row["file"] in scores]
    found = np.array([scores[row["file"]] for row in rows])
    labels, groups, ids = (np.array([row[name] for row in rows]) for name in ("label", "group", "video_id"))
    _, first = np.unique(ids, return_index=True)
    result = {"faces": len(rows), "videos": len(first), "groups": len(set(groups))}
    if not rows:
        return result
    means = calibration.video_means(labels, found, ids)
    of_videos = intervals.describe(*means, groups[first], seed, rows_are_videos=True)
    for prefix, metrics in (("", intervals.describe(labels, found, groups, seed)), ("video_", of_videos)):
        for name in MEASURED:
            entry = metrics.get(name, {"value": None, "interval": None})
            low, high = entry["interval"] or (None, None)
            result |= {f"{prefix}{name}": entry["value"], f"{prefix}{name}_low": low, f"{prefix}{name}_high": high}
    return result


def recompressed_scores(jobs, score):
    """Return ({file: score}, [(path, reason)]) of videos compressed again, each in a worker process."""
    scores, failed = {}, []
    results = pool.run_in_workers(crops_after, jobs, min(len(jobs), len(pool.usable_cpus())), TIMEOUT_S) if jobs else ()
    for job, pictures in progress(results, len(jobs), STAGE, "videos"):
        if isinstance(pictures, InputError):
            failed.append((job.path, str(pictures)))
        else:
            names = sorted(pictures)
            scores |= zip(names, score(names, pictures.get), strict=True)
    return scores, failed


def corrupted_scores(paths, read, score):
    """Return ({file: score}, [(path, reason)]) of the crops of `paths`, {file: path}, as `read` gives them."""
    found = dict(zip(paths, score(list(paths.values()), read), strict=True))
    lost = [(paths[file], f"is not readable; {table.REDO_DATASET}") for file in paths if found[file] is None]
    return {file: value for file, value in found.items() if value is not None}, lost


def videos_of(rows, videos_dir, frames_dir, crf, input_size):
    """Return a Recompression per video; photos are none."""
    files = defaultdict(set)
    for row in rows:
        if not row["filename"].lower().endswith(inputs.PHOTO_SUFFIXES):
            files[row["video_id"], row["filename"]].add(row["file"])
    root = videos_dir.parent if videos_dir.is_file() else videos_dir
    return [
        Recompression(root / filename, frames_dir / video_id, frozenset(names), crf, input_size)
        for (video_id, filename), names in sorted(files.items())
    ]


def score_all(args, rows, chosen, face_scorer, record, scores_path, made_from):
    """Yield (corruption, severity, {file: score}, [(path, reason)]), the faces as they are first.

    `scores_path` keeps every complete severity, so that the next run goes on after it.
    """
    kept = files.read_json(scores_path, scores={})
    complete = kept["scores"] if kept.get("made_from") == made_from and not args.force else {}
    paths = {row["file"]: row["path"] for row in rows}

    def score(names, read):
        size, parameters = record["input_size"], made_from["calibration"]
        return scoring.score_faces(face_scorer, names, size, STAGE, parameters, read=read)

    def scores_after(corruption, severity):
        if corruption == corruptions.H264:
            videos_dir, frames_dir = cli.locate(args, "videos_dir"), cli.frames_dir_of(args)
            return recompressed_scores(videos_of(rows, videos_dir, frames_dir, severity, record["input_size"]), score)
        if corruption == corruptions.NONE:
            return corrupted_scores(paths, crops.read_image, score)
        corrupt = corruptions.CORRUPTIONS[corruption].corrupt
        return corrupted_scores(paths, corrupting_reader(corrupt, severity, args.seed), score)

    steps = [(name, severity) for name in chosen for severity in corruptions.CORRUPTIONS[name].severities]
    steps.insert(0, (corruptions.NONE, corruptions.NONE))
    for corruption, severity in progress(steps, len(steps), STAGE, "severities"):
        name, lost = f"{corruption} {severity}", []
        scores = complete.get(name)
        if scores is None:
            scores, lost = scores_after(corruption, severity)
            if not lost:  # what failed is tried again by the next run
                complete[name] = scores
                files.write_json(scores_path, {"made_from": made_from, "scores": complete})
        yield corruption, severity, scores, lost


def make_table(results, rows, seed):
    """Return (rows of robustness.csv, [(path, reason)]) from what `score_all` yields; print a line for each severity.

    A face without a score at one severity is left out of all rows of the corruption: else the rows would be of different faces.
    """
    table_rows, failed, as_they_are = [], {}, {}
    for corruption, of_corruption in groupby(results, key=lambda result: result[0]):
        found = {corruptions.NONE: as_they_are}
        for _, severity, scores, lost in of_corruption:
            found[severity] = scores
            failed |= dict(lost)
        if corruption == corruptions.NONE:
            as_they_are = found[corruptions.NONE]
            continue
        same = set.intersection(*(set(scores) for scores in found.values() if scores))
        for severity, scores in found.items():
            kept = {file: score for file, score in scores.items() if file in same}
            row = {"corruption": corruption, "severity": severity, "label": corruptions.label_of(corruption, severity)}
            row |= measure(rows, kept, seed)
            table_rows.append(row)
            values = [f"{name.replace('_', ' ')} {row[name]:.3f}" for name in MEASURED if row.get(name) is not None]
            if severity != corruptions.NONE or len(table_rows) == 1:  # the faces as they are: once
                say(f"{STAGE}: {row['label']}: {row['faces']} faces: {', '.join(values)}")
    return table_rows, sorted(failed.items())


def faces_to_score(split_dir, limit):
    """Return (rows of the test faces, of at most `limit` videos; kind of faces). Raises InputError without both classes."""
    rows, _, face_kind = table.read_test_faces(split_dir, None)
    if limit:  # the first ones by name could be alike
        kept = set(table.evenly_spread(sorted({row["video_id"] for row in rows}), limit))
        rows = [row for row in rows if row["video_id"] in kept]
    if {row["label"] for row in rows} != {FAKE, REAL}:
        reason = "are not of both classes: nothing to compare (--limit may be too small)"
        raise InputError(f"the test faces in {split_dir} {reason}")
    return rows, face_kind


def possible_corruptions(wanted, face_kind):
    """Return the names of the wanted corruptions, in order; of marked faces without H.264. Raises InputError if none is left."""
    chosen = [name for name in corruptions.CORRUPTIONS if name in wanted]
    if face_kind == "faces" or corruptions.H264 not in chosen:
        return chosen
    chosen.remove(corruptions.H264)
    if not chosen:
        raise InputError("frames taken anew have no landmarks drawn in, so that of the --corruptions nothing is left")
    say(f"{STAGE}: no H.264 rows: frames taken anew have no landmarks drawn in")
    return chosen


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "videos_dir")
    cli.add_frames_dir(parser)
    cli.add_path(parser, "split_dir")
    cli.add_weights(parser)
    cli.add_path(parser, "output_dir")
    names = list(corruptions.CORRUPTIONS)
    parser.add_argument("--corruptions", nargs="+", choices=names, default=names, help="to measure (default: all)")
    parser.add_argument("--limit", type=cli.positive, metavar="N", help="try N videos only, evenly spread")
    parser.add_argument("--force", action="store_true", help="redo what is complete")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    weights_path, split_dir = cli.weights_of(args), cli.locate(args, "split_dir")
    output_dir = cli.locate(args, "output_dir")
    rows, face_kind = faces_to_score(split_dir, args.limit)
    chosen = possible_corruptions(args.corruptions, face_kind)
    face_scorer, record = scorer.load_scorer(weights_path)
    model_record.check_faces(record, face_kind, weights_path)
    made_from = {
        "weights_digest": files.digest(weights_path),
        "calibration": calibration.read_parameters(record, "faces"),
        "seed": args.seed,
        "data_digest": files.digest(split_dir / paths.SPLIT_RECORD),
        "videos": args.limit,
    }
    results = score_all(args, rows, chosen, face_scorer, record, output_dir / paths.ROBUSTNESS_SCORES, made_from)
    table_rows, failed = make_table(results, rows, args.seed)
    files.write_csv(output_dir / paths.ROBUSTNESS_TABLE, COLUMNS, table_rows)
    names = {name: corruptions.CORRUPTIONS[name].name for name in chosen}
    plots.draw_robustness(output_dir / paths.ROBUSTNESS_PLOT, table_rows, names)
    messages.list_messages(STAGE, "failed", failed)
    counts = f"{len(rows)} test faces of {len({row['video_id'] for row in rows})} videos, {len(table_rows)} rows"
    end = f"{len(failed)} failed, {time.monotonic() - started:.0f} s"
    say(f"{STAGE}: {counts} in {output_dir / paths.ROBUSTNESS_TABLE}, {end}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
