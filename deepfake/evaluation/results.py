"""What 03 finds out about the scorer that it has trained: predictions, calibration, the rule for videos, metrics."""

from itertools import compress

import numpy as np

from common import paths
from common.errors import InputError
from common.messages import say
from deepfake.evaluation import aggregation, intervals, predictions, scoring
from deepfake.evaluation.calibration import calibrate, check_calibration, in_words, make_calibration

PREDICTIONS = {"val": paths.VAL_PREDICTIONS, "test": paths.TEST_PREDICTIONS}


def score_rows(scorer, rows, input_size, stage):
    """Return (rows with brightness and sharpness, the scorer's own scores). Raises InputError if a face is not readable."""
    rows, scores = scoring.score_rows(scorer, rows, {"input_size": input_size}, stage)
    if None in scores:
        raise InputError(f"{rows[scores.index(None)]['path']} is not readable; run 02_prepare_dataset.py --force")
    return rows, np.array(scores)


def pairs_of(rows):
    """Return the rows of real faces as they enter a blend, then those of the blends."""
    return [{**row, "self_blended": "target"} for row in rows] + [predictions.self_blended_row(row) for row in rows]


def starting_calibration(record):
    """Return the calibration in the model card of starting weights, or None. Raises InputError if it makes no sense."""
    check_calibration(record)
    return record.get("calibration")


def fit_calibration(rows, scores, starting):
    """Return the calibration of the scorer's own scores, fitted on the validation faces that can be judged."""
    usable = np.array([predictions.reason_of(row) is None for row in rows])
    if len({row["label"] for row in compress(rows, usable)}) < 2:
        usable[:] = True  # both classes are needed
    kept = list(compress(rows, usable))
    labels, video_ids, groups = ([row[name] for row in kept] for name in ("label", "video_id", "group"))
    return make_calibration(labels, scores[usable], video_ids, groups, {"calibration": starting})


def evaluate(scored, faceless, starting, seed):
    """Return ({split: prediction lines}, {"aggregation", "aggregation_choice", "calibration", "metrics"} for the model card).

    `scored`: {"val" and "test": (rows, the scorer's own scores)}. `faceless`: rows of the videos without a face. `starting`:
    calibration of the starting weights, or None. Calibration and aggregation are chosen on validation. A face that cannot be
    judged counts nowhere: it has a line with a reason.
    """
    calibration, metrics, lines = fit_calibration(*scored["val"], starting), {}, {}
    for split, (rows, scores) in scored.items():
        scores = calibrate(scores, calibration["faces"]).tolist()
        lines[split] = [predictions.prediction_line(row, score) for row, score in zip(rows, scores, strict=True)]
        judged = [line for line in lines[split] if line["score"] is not None]
        columns = ([line[name] for line in judged] for name in ("label", "score", "group"))
        metrics[f"{split}_faces"] = intervals.describe(*columns, seed)
    rule, choice = aggregation.choose_aggregate(lines["val"], seed)
    for row in faceless:
        if row["split"] in lines:
            lines[row["split"]].append(predictions.cannot_judge_line(row, row["reason"]))
    found = {"aggregation": rule, "aggregation_choice": choice, "calibration": calibration, "metrics": metrics}
    return lines, found


def write_predictions(output_dir, lines, weights_digest):
    """Write the predictions of validation and test, each in one step."""
    for split, name in PREDICTIONS.items():
        predictions.write_predictions(output_dir / name, lines[split], weights_digest)


def say_results(stage, found):
    """Print the calibration, the rule for videos and the metrics of the test faces that `evaluate` has found."""
    say(f"{stage}: calibration: {in_words(found['calibration'])}")
    choice = found["aggregation_choice"]["note"] or aggregation.CRITERION
    say(f"{stage}: aggregation for 04 --aggregate auto: {found['aggregation']} ({choice})")
    intervals.say_headline(f"{stage}: test faces", found["metrics"]["test_faces"])
