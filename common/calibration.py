"""From a network's score to a probability: sigmoid(a * logit(score) + b), fitted on validation faces (Platt, 1999).

A calibration is what a model's record says under "calibration": a and b for faces, and for the means of calibrated faces of a
video. Probabilities hold where there are as many fakes as reals.
"""

import math

import numpy as np

from common.constants import FAKE, REAL
from common.metrics import EPSILON, expected_calibration_error, log_loss
from common.records import InputError

MIN_GROUPS = 30  # fewer say too little about the tails of the scores
UNCHANGED = {"a": 1.0, "b": 0.0}
HOLDS_FOR = "as many fakes as reals"


def logit(scores):
    """Return ln(p / (1 - p)) of scores in 0..1, finite also at 0 and 1."""
    scores = np.clip(np.asarray(scores, np.float64), EPSILON, 1 - EPSILON)
    return np.log(scores / (1 - scores))


def calibrate(scores, parameters):
    """Return sigmoid(a * logit + b) of an array of scores, as float64."""
    return 1 / (1 + np.exp(-(parameters["a"] * logit(scores) + parameters["b"])))


def fit(labels, scores):
    """Return {"a", "b"} for which the calibrated scores have the lowest log loss, both classes counting the same.

    The answers are Platt's, a little short of 0 and 1, so that separable scores have a finite optimum.
    """
    from sklearn.linear_model import LogisticRegression

    labels, logits = np.asarray(labels), logit(scores)[:, None]
    counts = {label: int((labels == label).sum()) for label in (REAL, FAKE)}
    answers = np.where(labels == REAL, (counts[REAL] + 1) / (counts[REAL] + 2), 1 / (counts[FAKE] + 2))
    balance = np.where(labels == REAL, 1 / counts[REAL], 1 / counts[FAKE]) * len(labels) / 2
    fitted = LogisticRegression(C=math.inf).fit(  # a share of each sample says real, the rest says fake
        np.concatenate([logits, logits]), np.repeat([REAL, FAKE], len(labels)),
        np.concatenate([balance * answers, balance * (1 - answers)]),
    )  # fmt: skip
    return {"a": float(fitted.coef_[0, 0]), "b": float(fitted.intercept_[0])}


def read_parameters(record, kind):
    """Return {"a", "b"} for "faces" or "videos" of a model's record; raises InputError if it holds something else."""
    calibration = record.get("calibration")
    if calibration is None:
        return UNCHANGED
    try:
        parameters = {name: float(calibration[kind][name]) for name in ("a", "b")}
    except (TypeError, KeyError, ValueError) as error:
        raise InputError(f"the calibration of the weights is not understood: {calibration!r}") from error
    if not (math.isfinite(parameters["b"]) and 0 < parameters["a"] < math.inf):
        raise InputError(f"the calibration of the weights is not usable: {parameters}")
    return parameters


def video_means(labels, scores, video_ids):
    """Return (labels, mean scores), one per video."""
    _, first, members = np.unique(video_ids, return_index=True, return_inverse=True)
    return np.asarray(labels)[first], np.bincount(members, scores) / np.bincount(members)


def make_calibration(labels, scores, video_ids, groups, starting):
    """Return the calibration of a model from its validation faces, or, with too few groups, that of its starting weights.

    `scores` are the network's own; `starting` is the record of the starting weights (or {}). What the result says of log loss
    and expected calibration error is measured on the same faces.
    """
    labels, groups = np.asarray(labels), len(set(groups))
    fitted = groups >= MIN_GROUPS
    result, notes = {}, []
    for kind in ("faces", "videos"):
        if kind == "videos":
            labels, scores = video_means(labels, calibrate(scores, result["faces"]), video_ids)
        parameters = fit(labels, scores) if fitted else read_parameters(starting, kind)
        if parameters["a"] <= 0:  # no better than chance: there is nothing to calibrate
            parameters = UNCHANGED
            notes.append(f"{kind}: scores no better than chance, left as they are")
        before, after = (np.asarray(values, np.float64) for values in (scores, calibrate(scores, parameters)))
        result[kind] = {
            **parameters,
            "log_loss": {"before": log_loss(labels, before), "after": log_loss(labels, after)},
            "expected_calibration_error": {
                "before": expected_calibration_error(labels, before), "after": expected_calibration_error(labels, after),
            },
        }  # fmt: skip
    if fitted:
        source = f"{groups} validation groups"
    else:
        kept = "that of the starting weights stays" if starting.get("calibration") else "scores are left as they are"
        source = f"not fitted: {groups} validation groups, {MIN_GROUPS} are needed; {kept}"
    return {**result, "fitted_on": source, "holds_for": HOLDS_FOR, "notes": notes}


def in_words(calibration):
    """Return one line: what it was fitted on, and what it changed for validation faces."""
    faces = calibration["faces"]
    losses, errors = faces["log_loss"], faces["expected_calibration_error"]
    return (
        f"{calibration['fitted_on']}; log loss of validation faces {losses['before']:.3f} before, {losses['after']:.3f} after; "
        f"expected calibration error {errors['before']:.3f} before, {errors['after']:.3f} after"
    )
