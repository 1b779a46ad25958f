"""Average the scores of the faces into one verdict per video, with PySpark: REAL when the score is at least 0.5.

Reads   cnn_preds_values.json: JSON Lines, one face per line   (03_train_cnn.py, 03a_load_model.py), or with
        --predictions at any URL that Spark reads: s3a://bucket/preds.json, hdfs://host/preds.json, file:///disk/preds-*.json
Writes  mapreduce_res.txt, video_preds.csv, people_preds.csv (one row per person of a video), submission.csv (label = P(fake)),
        metrics.json; with labels ConfusionVideo.png
Rerun   does nothing if the predictions and options are the same; predictions at a URL are judged again

A video is CANNOT JUDGE, with the commonest reason, unless 3 of its frames (all, if it has fewer) hold a usable face. In the
tables, `faces` and `frames` count what was usable. Runs by itself or under spark-submit.

--aggregate: mean, of all scores; lowest-person, the mean of the person who looks least real (people in fewer than 3 frames count
only if nobody has 3); confident, the mean weighted by |score - 0.5|; auto, the one that 03 has chosen on validation videos.

--calibrated turns the mean into a probability, sigmoid(a * logit(mean) + b). 03 has fitted a and b on the means of validation
videos. The probabilities hold for as many fakes as reals.
"""

import re
import sys
import time
from collections import Counter
from pathlib import Path

from common import cli, files, paths
from common.constants import CANNOT_JUDGE, FAKE, PERSON_MIN_FRAMES, REAL, THRESHOLD
from common.errors import InputError, writing
from common.messages import say
from deepfake.evaluation import aggregation, intervals, verdicts
from deepfake.evaluation.calibration import UNCHANGED, read_parameters
from deepfake.evaluation.metrics import MEANINGS
from deepfake.model import record as model_record
from deepfake.parallel.spark import hush, start_spark
from deepfake.report import plots

STAGE = "04"
SCHEMA = (
    "video_id string, filename string, `group` string, split string, frame int, person int, label int, "
    "score double, reason string, face_px double, frame_px double, brightness double, sharpness double, video_frames int, "
    "broken string"
)
IS_FACE = "broken is null and video_id is not null and coalesce(score, 0) between 0 and 1 "
IS_FACE += "and coalesce(label, 0) in (0, 1)"
# Where no line is a prediction, this rule would leave out the stage that counts the broken ones.
KEEPS_OBSERVATION = "org.apache.spark.sql.execution.adaptive.AQEPropagateEmptyRelation"
MISSING_P_FAKE = 0.5  # Kaggle's form has no "cannot judge"


def judge_videos(faces, aggregate):
    """Return a DataFrame with one row per video from one row per face (the columns of SCHEMA).

    `people` is a list of {person, frames, score, reasons}: how many usable faces, their mean, why the others are not usable.
    deepfake/evaluation/aggregation.py has the same rules in NumPy.
    """
    from pyspark.sql import functions as f

    names = ("filename", "group", "label", "video_frames")  # the same in every line of a video
    usable, certainty = f.col("score").isNotNull(), f.abs(f.col("score") - THRESHOLD) + aggregation.CERTAIN_ENOUGH
    people = faces.groupBy("video_id", "person").agg(
        *(f.min(name).alias(name) for name in names),
        f.count("score").alias("faces"),
        f.sum("score").alias("total"),
        f.sum(f.col("score") * certainty).alias("weighted"),
        f.sum(certainty).alias("weights"),
        f.collect_set(f.when(usable, f.coalesce("frame", f.lit(0)))).alias("frames"),
        f.collect_list(f.when(~usable, f.col("reason"))).alias("reasons"),
        *(f.sum(f.when(usable, f.col(name))).alias(name) for name in aggregation.MEASURES),
        *(f.count(f.when(usable, f.col(name))).alias(f"{name}_known") for name in aggregation.MEASURES),
    )
    mean_of_person = f.col("total") / f.col("faces")
    person = f.struct("person", f.col("faces").alias("frames"), mean_of_person.alias("score"), "reasons")
    often = f.min(f.when(f.col("faces") >= PERSON_MIN_FRAMES, mean_of_person))
    score = {
        "mean": f.sum("total") / f.sum("faces"),
        "lowest-person": f.coalesce(often, f.min(mean_of_person)),
        "confident": f.sum("weighted") / f.sum("weights"),
    }[aggregate]
    return people.groupBy("video_id").agg(
        *(f.min(name).alias(name) for name in names),
        f.sum("faces").alias("faces"),
        f.size(f.array_distinct(f.flatten(f.collect_list("frames")))).alias("usable_frames"),
        f.collect_list(person).alias("people"),
        f.round(score, aggregation.SCORE_DECIMALS).alias("score"),
        *((f.sum(name) / f.sum(f"{name}_known")).alias(name) for name in aggregation.MEASURES),
    )


def read_faces(spark, path):
    """Return (DataFrame of faces, Observation of the broken lines: their `number` and an `example`).

    The observation is complete once a result of the DataFrame has been collected.
    """
    from pyspark.sql import Observation
    from pyspark.sql import functions as f

    face = f.from_json("value", SCHEMA, {"columnNameOfCorruptRecord": "broken"}).alias("face")
    lines = spark.read.text(path).where("trim(value) <> ''").select("value", face).select("value", "face.*")
    is_face = f.coalesce(f.expr(IS_FACE), f.lit(False))
    broken, line = Observation(), f.when(~is_face, f.col("value"))
    return lines.observe(broken, f.count(line).alias("number"), f.min(line).alias("example")).where(is_face), broken


def spark_path(path):
    """Return a local path as Spark takes it: not percent-encoded, and a backslash before what would be a pattern."""
    return "file:///" + re.sub(r"([\\{}\[\]*?])", r"\\\1", Path(path).resolve().as_posix().lstrip("/"))


def collect_verdicts(spark, path, aggregate, calibration=UNCHANGED):
    """Return (rows of video_preds.csv, number of broken lines, one of them). Raises InputError if Spark cannot read `path`."""
    from py4j.protocol import Py4JError
    from pyspark.errors import PySparkException

    spark.conf.set("spark.sql.adaptive.optimizer.excludedRules", KEEPS_OBSERVATION)
    try:
        faces, observed = read_faces(spark, path)
        rows = [aggregation.as_row(judged, calibration) for judged in judge_videos(faces, aggregate).collect()]
    except (PySparkException, Py4JError) as error:
        raise InputError(f"{path} cannot be read by Spark: {str(error).strip().splitlines()[0]}") from error
    return sorted(rows, key=lambda row: row["video_id"]), observed.get["number"], observed.get["example"]


def is_current(output_dir, made_from):
    """Tell whether every output is there and was made from the same predictions with the same settings."""
    record = files.read_json(output_dir / paths.METRICS_RECORD)
    names = (paths.VERDICTS_TEXT, paths.VERDICTS_TABLE, paths.PEOPLE_TABLE, paths.KAGGLE_TABLE)
    names += (paths.VIDEOS_CONFUSION,) if record.get("labelled") else ()
    return record.get("made_from") == made_from and all((output_dir / name).is_file() for name in names)


def count_classes(rows):
    """Return {"real", "fake"}: how many rows have that label."""
    return {"real": sum(row["label"] == REAL for row in rows), "fake": sum(row["label"] == FAKE for row in rows)}


def write_results(rows, aggregate, output_dir, seed, made_from):
    """Write every output of this step, metrics.json last; return the metrics of the labelled, judged videos."""
    with writing():  # it says that all is complete, which is not so until it is written anew
        (output_dir / paths.METRICS_RECORD).unlink(missing_ok=True)
    judged, left_out = ([row for row in rows if (row["score"] is None) == out] for out in (False, True))
    labelled = [row for row in judged if row["label"] is not None]
    labels, scores, groups = ([row[name] for row in labelled] for name in ("label", "score", "group"))
    metrics = intervals.describe(labels, scores, groups, seed, rows_are_videos=True)
    files.write_csv(output_dir / paths.VERDICTS_TABLE, verdicts.VERDICTS_COLUMNS, rows)
    people = (person for row in rows for person in row["people_rows"])
    files.write_csv(output_dir / paths.PEOPLE_TABLE, verdicts.PEOPLE_COLUMNS, people)
    p_fakes = (MISSING_P_FAKE if row["p_fake"] is None else row["p_fake"] for row in rows)
    names = (row["filename"] or row["video_id"] for row in rows)
    kaggle = ({"filename": name, "label": p_fake} for name, p_fake in zip(names, p_fakes, strict=True))
    files.write_csv(output_dir / paths.KAGGLE_TABLE, ("filename", "label"), kaggle)
    files.write_atomic(output_dir / paths.VERDICTS_TEXT, verdicts.text_report(rows, metrics, aggregate))
    plot = output_dir / paths.VIDEOS_CONFUSION
    if labelled:
        predicted = [int(score >= THRESHOLD) for score in scores]
        plots.draw_confusion(plot, labels, predicted, f"Videos, aggregate: {aggregate}", "videos")
    else:
        with writing():
            plot.unlink(missing_ok=True)  # it is of other videos
    counts = {"videos": len(rows), "judged": len(judged), "cannot_judge": len(left_out), "labelled": len(labelled)}
    record = {
        "score": "P(real): 1 real, 0 fake; REAL when at least 0.5",
        "aggregate": aggregate,
        **counts,
        **count_classes(labelled),
        "cannot_judge_reasons": dict(sorted(Counter(row["reason"] for row in left_out).items())),
        "cannot_judge_labels": count_classes(left_out),
        "made_from": made_from,
        "metrics": metrics,
        "definitions": MEANINGS,
        "subgroups": intervals.subgroups(labelled, seed) if labelled else {},
        "note": None if metrics else "no judged video has a label",
    }
    files.write_json(output_dir / paths.METRICS_RECORD, record)
    return metrics


def video_calibration(record, aggregate):
    """Return the calibration of video means that a model's record holds, or stop in words if there is none."""
    if aggregate != "mean":
        cli.stop(f"--calibrated goes with --aggregate mean: no other has been calibrated, and this is {aggregate}")
    content = files.read_json(record)
    if not content.get("calibration"):
        cli.stop(f"{record} holds no calibration; run 03_train_cnn.py, or leave out --calibrated")
    try:
        calibration = read_parameters(content, "videos")
    except InputError as error:
        cli.stop(f"{record}: {error}")
    source = content["calibration"].get("fitted_on", "unknown")
    if calibration == UNCHANGED:
        cli.stop(f"{record} says that its scores are not calibrated ({source}); leave out --calibrated")
    say(f"{STAGE}: calibration of video means: {source}")
    return calibration


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "predictions")
    cli.add_path(parser, "output_dir")
    how = "how a video's faces become its score; auto: as best_model.json says (default: %(default)s)"
    parser.add_argument("--aggregate", choices=(*aggregation.AGGREGATES, "auto"), default="mean", help=how)
    what = "give the mean as the probability that 03 has fitted; name --weights if the scores are not the checkpoint's"
    parser.add_argument("--calibrated", action="store_true", help=what)
    cli.add_weights(parser, "an .h5 file, whose .json --aggregate auto and --calibrated read")
    where = "such as spark://host:7077 (default: all local cores)"
    parser.add_argument("--spark-master", type=cli.spark_master, metavar="URL", help=where)
    parser.add_argument("--limit", type=cli.positive, metavar="N", help="judge the first N videos only")
    parser.add_argument("--force", action="store_true", help="judge again even if nothing has changed")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    predictions, output_dir = args.predictions or str(cli.locate(args, "predictions")), cli.locate(args, "output_dir")
    is_local = "://" not in predictions
    if is_local:
        cli.require(Path(predictions), "it would hold the scores of the faces", "03_train_cnn.py or 03a_load_model.py")
    record = model_record.record_path(cli.weights_of(args, needed=False))
    aggregate = aggregation.rule_of(args.aggregate, files.read_json(record), record)
    calibration = video_calibration(record, aggregate) if args.calibrated else UNCHANGED
    made_from = {"aggregate": aggregate, "calibration": calibration, "seed": args.seed, "limit": args.limit}
    if is_local:
        made_from |= files.source_stamp(Path(predictions))
        if not args.force and is_current(output_dir, made_from):
            say(f"{STAGE}: {output_dir} already holds the verdicts of {predictions}; --force judges again")
            return 0
    spark = start_spark(args.spark_master)
    try:
        path = spark_path(predictions) if is_local else predictions
        rows, broken, example = collect_verdicts(spark, path, aggregate, calibration)
    except KeyboardInterrupt:
        hush(spark)
        raise
    finally:
        spark.stop()
    rows = rows[: args.limit]
    if broken:
        say(f"{STAGE}: failed: {predictions}: {broken} lines are not predictions, such as {example[:60]!r}")
    if not rows:
        cli.stop(f"{predictions} holds no predictions")
    name = aggregate if calibration == UNCHANGED else f"{aggregate}, calibrated"
    made_from = None if broken or not is_local else made_from  # a rerun says again what is broken
    metrics = write_results(rows, name, output_dir, args.seed, made_from)
    intervals.say_headline(f"{STAGE}: videos", metrics)
    counted, duration_s = Counter(row["verdict"] for row in rows), time.monotonic() - started
    counts = ", ".join(f"{counted[verdict]} {verdict}" for verdict in ("FAKE", "REAL", CANNOT_JUDGE))
    say(f"{STAGE}: {len(rows)} videos: {counts}; aggregate {name}; {broken} lines failed, {duration_s:.0f} s")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
