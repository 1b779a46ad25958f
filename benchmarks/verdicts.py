"""Compare 04's verdicts, Spark's start included, with those of pandas: wall time, CPU time and peak memory, in turns.

Reads   nothing: it makes up the scores, in the form that 03a writes
Writes  <work-dir>/faces_VIDEOSxFACES.json and each contender's video_preds.csv; prints a table
Rerun   measures again, on the same scores

    python benchmarks/verdicts.py --work-dir /tmp/verdicts

No contender draws plots, bootstraps, or writes anything but video_preds.csv. There is no table unless all wrote the same.
"""

import csv
import importlib
import json
import math
import os
import resource
import statistics
import sys
from pathlib import Path

from measure import in_turns, machine, make_bench_parser, markdown_table, median_and_spread

from common import cli, files
from common.constants import CANNOT_JUDGE, FAKE, REAL, THRESHOLD
from common.messages import say
from deepfake.evaluation import predictions, verdicts

STAGE = "verdicts"
VIDEOS_PER_GROUP = 5  # an original and four fakes of it
UNLABELLED, TWO_PEOPLE, FACELESS = 10, 8, 100  # every 10th group, every 8th video, one more video per 100
ID_LETTERS, ID_LENGTH = 26, 10  # of a video's id, as in DFDC
ID_STEP = 86_028_121_013  # shares no factor with 26, so that every number has an id of its own
CHUNK = 100_000  # faces that pandas parses at a time
BYTES_PER_FACE = 2900  # that pandas takes to parse all faces at once, measured
SAME = 1e-6  # scores may be this far apart
WALL_TARGETS = (1.5, 1.0)  # of pandas' wall time, at the smaller and at the larger number of faces


def video_id_of(number):
    """Return ten letters that are different for every number."""
    code = number * ID_STEP % ID_LETTERS**ID_LENGTH
    return "".join(chr(ord("a") + code // ID_LETTERS**place % ID_LETTERS) for place in range(ID_LENGTH))


def video_row(number):
    """Return what all lines of a video have in common."""
    group, place = divmod(number, VIDEOS_PER_GROUP)
    video_id, original = video_id_of(number), video_id_of(number - place)
    label = None if group % UNLABELLED == 0 else REAL if place == 0 else FAKE
    return {"video_id": video_id, "filename": f"{video_id}.mp4", "group": original, "split": "test", "label": label}


def face_lines(number, faces, rng):
    """Return the lines of one video: dicts, one per face."""
    video, people = video_row(number), 2 if number % TWO_PEOPLE == 0 else 1
    scores = rng.beta(*((3, 2) if video["label"] == REAL else (2, 3)), faces)
    confidences, widths_px = 1 - 0.05 * rng.random(faces) ** 4, rng.uniform(60, 400, faces)
    lines = []
    for face in range(faces):
        frame, person = divmod(face, people)
        file = f"{video['video_id']}-{frame:03d}-{person:02d}.png"
        row = {
            **video,
            "frame": frame,
            "frame_s": round(10 * frame * people / faces, 3),
            "person": person,
            "file": file,
        }
        row |= {"confidence": round(float(confidences[face]), 6), "face_px": round(float(widths_px[face]), 1)}
        lines.append(predictions.prediction_line(row, float(scores[face])))
    return lines


def make_predictions(path, videos, faces):
    """Write the lines of `videos` videos of `faces` faces each, and of one more video without a face per hundred."""
    import numpy as np

    rng, partial = np.random.default_rng(0), path.with_suffix(".partial")
    with open(partial, "w", encoding="utf-8", newline="\n") as file:
        for number in range(videos + videos // FACELESS):
            if number < videos:
                lines = face_lines(number, faces, rng)
            else:
                lines = [predictions.cannot_judge_line(video_row(number), "no face of confidence >= 0.95 in 11 frames")]
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    partial.replace(path)


def judge_with_04(predictions, output):
    """Do what 04 does, up to video_preds.csv."""
    script = importlib.import_module("04_mapreduce_video_preds")
    spark = script.start_spark(None)
    java = spark.sparkContext._gateway.proc
    rows, broken, _ = script.collect_verdicts(spark, script.spark_path(predictions), "mean")
    spark.stop()
    files.write_csv(output, verdicts.VERDICTS_COLUMNS, rows)
    if broken:
        cli.stop(f"{broken} lines are broken")
    java.stdin.close()  # ends it; waited for, its memory is known and it does not run on beside the next contender
    java.wait()


def judge_with_pandas(predictions, output):
    """Write the same table by read_json and groupby."""
    import pandas as pd

    write_pandas(pd.read_json(predictions, lines=True), output)


def judge_with_pandas_in_chunks(predictions, output):
    """Write the same table by pandas without ever holding more than the columns that it needs of all faces."""
    import pandas as pd

    needed = ["video_id", "filename", "person", "label", "score", "reason"]
    chunks = pd.read_json(predictions, lines=True, chunksize=CHUNK)
    write_pandas(pd.concat((chunk.reindex(columns=needed) for chunk in chunks), ignore_index=True), output)


def write_pandas(faces, output):
    """Write video_preds.csv from a pandas DataFrame of faces."""
    videos = faces.groupby("video_id")
    table = videos[["filename", "label", "reason"]].first().astype({"label": "Int64"})
    table.insert(2, "score", videos["score"].mean())
    table.insert(3, "p_fake", 1 - table["score"])
    table.insert(4, "verdict", (table["score"] >= THRESHOLD).map({True: "REAL", False: "FAKE"}))
    table.loc[table["score"].isna(), "verdict"] = CANNOT_JUDGE
    table.insert(5, "faces", videos["score"].count())
    people = faces.dropna(subset="score").groupby("video_id")["person"].nunique()
    table.insert(6, "people", people.reindex(table.index, fill_value=0))
    table.to_csv(output, lineterminator="\n")


OURS, AT_ONCE = "04", "pandas"
CONTENDERS = {OURS: judge_with_04, AT_ONCE: judge_with_pandas, "pandas, in chunks": judge_with_pandas_in_chunks}


def be_contender(name, predictions, output):
    """Judge, then print as JSON what Cost does not hold: the CPU time of all processes and the peak memory of this one."""
    CONTENDERS[name](predictions, output)
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    python_mb = own.ru_maxrss / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    cpu_s = sum(used.ru_utime + used.ru_stime for used in (own, children))
    print(json.dumps({"cpu_s": cpu_s, "python_mb": python_mb}))


def difference(path, other):
    """Return the first difference between two video_preds.csv in words, None if there is none."""
    with open(path, encoding="utf-8", newline="") as file, open(other, encoding="utf-8", newline="") as other_file:
        tables = [list(csv.DictReader(lines)) for lines in (file, other_file)]
    if len(tables[0]) != len(tables[1]):
        return f"{len(tables[0])} rows and {len(tables[1])}"
    for row, other_row in zip(*tables, strict=True):
        if list(row) != list(other_row):
            return f"columns {list(row)} and {list(other_row)}"
        for name, value in row.items():
            other_value, same = other_row[name], value == other_row[name]
            if not same and name in ("score", "p_fake") and value and other_value:
                same = math.isclose(float(value), float(other_value), rel_tol=0, abs_tol=SAME)
            if not same:
                return f"{name} of {row['video_id']}: {value!r} and {other_value!r}"
    return None


def memory_for(faces):
    """Tell whether this machine has free memory enough for pandas to parse so many faces at once."""
    try:
        return faces * BYTES_PER_FACE < os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (OSError, ValueError):  # macOS does not say
        return True


def print_results(found, repetitions):
    """Print the table of {(contender, faces): [Cost]}, then how 04 compares with pandas and each with itself."""
    print(f"{machine()}; median (lowest to highest) of {repetitions} runs in turns\n")
    header = (
        "contender",
        "faces",
        "wall s",
        "CPU s",
        "peak MB of Python",
        "peak MB of its largest process (04: the JVM)",
    )
    rows, typical = [], {}
    for (name, faces), costs in found.items():
        columns = {"wall_s": [cost.wall_s for cost in costs]}
        columns |= {key: [cost.said[key] for cost in costs] for key in ("cpu_s", "python_mb")}
        columns |= {"peak_mb": [cost.peak_mb for cost in costs]}
        rows.append((name, f"{faces:,}", *(median_and_spread(values, 1) for values in columns.values())))
        typical[name, faces] = {key: statistics.median(values) for key, values in columns.items()}
    print(markdown_table(header, rows))
    print("\nThe JVM is Spark's driver and, on one machine, its workers too.\n")
    sizes = sorted({faces for _, faces in found})
    for faces, target in zip(sizes, WALL_TARGETS, strict=False):
        ours = typical[OURS, faces]
        for name in list(CONTENDERS)[1:]:
            if theirs := typical.get((name, faces)):
                wall, cpu = (ours[key] / theirs[key] for key in ("wall_s", "cpu_s"))
                print(
                    f"{faces:,} faces: 04 takes {wall:.2f} of the wall time of {name} (target: {target}), {cpu:.2f} of its CPU"
                )
            else:
                print(
                    f"{faces:,} faces: {name} would take {faces * BYTES_PER_FACE / 1e9:.0f} GB, more than is free here"
                )
    for name in CONTENDERS:
        if (name, sizes[-1]) in typical:
            few, many = (typical[name, faces]["peak_mb"] for faces in (sizes[0], sizes[-1]))
            print(f"{sizes[-1] / sizes[0]:g} times the faces: {name} takes {many / few:.2f} times the memory")


def build_parser():
    parser = make_bench_parser(__doc__, "for the scores, 5 GB; made if missing")
    for option, default, what in (
        ("videos", 115_000, "with faces"),
        ("faces", 11, "of each video"),
        ("times", 10, "as many in the larger file"),
    ):
        parser.add_argument(
            f"--{option}", type=cli.positive, default=default, metavar="N", help=f"{what} (default: %(default)s)"
        )
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    if args.contender:
        name, predictions, output = args.contender
        be_contender(name, predictions, Path(output))
        return 0
    work_dir = args.work_dir.resolve()
    work_dir.mkdir(parents=True, exist_ok=True)
    commands, outputs = {}, {}
    for per_video in (args.faces, args.faces * args.times):
        faces, predictions = args.videos * per_video, work_dir / f"faces_{args.videos}x{per_video}.json"
        if not predictions.is_file():
            say(f"{STAGE}: making {predictions}, {faces:,} faces")
            make_predictions(predictions, args.videos, per_video)
        for number, name in enumerate(CONTENDERS):
            if name == AT_ONCE and not memory_for(faces):
                continue
            output = work_dir / f"{predictions.stem}_{number}" / "video_preds.csv"
            output.parent.mkdir(exist_ok=True)
            output.unlink(missing_ok=True)  # of an earlier run
            outputs[name, faces] = output
            run = (sys.executable, __file__, "--work-dir", work_dir, "--contender", name, predictions, output)
            commands[f"{name}, {faces:,} faces"] = (run, None)
    found = dict(zip(outputs, in_turns(commands, args.repetitions).values(), strict=True))
    for (name, faces), output in outputs.items():
        if what := difference(outputs[OURS, faces], output):
            cli.stop(f"04 and {name} differ at {faces:,} faces: {what}")
    say(f"{STAGE}: all wrote the same rows, scores within {SAME}")
    print_results(found, args.repetitions)
    return 0


if __name__ == "__main__":
    sys.exit(main())
