"""From a score to a probability: sigmoid(a * logit(score) + b), fitted on validation faces (Platt, 1999).

A calibration is what a model's record says under "calibration": a and b for faces, and for the means of calibrated faces of a
video. Probabilities hold where there are as many fakes as reals.
"""

import math

import numpy as np

from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.evaluation import metrics

GROUPS_TO_CALIBRATE = 30  # fewer say too little about the tails of the scores
KINDS = ("faces", "videos")
UNCHANGED = {"a": 1.0, "b": 0.0}
MEASURED_ON = "the same validation faces, so that after is a little too good"
HOLDS_FOR = "as many fakes as reals"


def logit(scores):
    """Return ln(p / (1 - p)) of scores in 0..1, finite also at 0 and 1."""
    scores = np.clip(np.asarray(scores, np.float64), metrics.EPSILON, 1 - metrics.EPSILON)
    return np.log(scores / (1 - scores))


def calibrate(scores, parameters):
    """Return sigmoid(a * logit + b) of an array of scores, as float64."""
    from scipy.special import expit

    return expit(parameters["a"] * logit(scores) + parameters["b"])


def balancing_weights(labels):
    """Return a weight per label so that both classes count the same."""
    return np.where(labels == REAL, 1 / np.sum(labels == REAL), 1 / np.sum(labels == FAKE)) * len(labels) / 2


def fit(labels, scores):
    """Return {"a", "b"} for which the calibrated scores have the lowest log loss, both classes counting the same.

    The answers are Platt's, a little short of 0 and 1, so that separable scores have a finite optimum.
    """
    from sklearn.linear_model import LogisticRegression

    labels, logits = np.asarray(labels), logit(scores)[:, None]
    counts = {label: int((labels == label).sum()) for label in (REAL, FAKE)}
    answers = np.where(labels == REAL, (counts[REAL] + 1) / (counts[REAL] + 2), 1 / (counts[FAKE] + 2))
    balance = balancing_weights(labels)
    fitted = LogisticRegression(C=math.inf).fit(  # a share of each sample says real, the rest says fake
        np.concatenate([logits, logits]),
        np.repeat([REAL, FAKE], len(labels)),
        np.concatenate([balance * answers, balance * (1 - answers)]),
    )
    return {"a": float(fitted.coef_[0, 0]), "b": float(fitted.intercept_[0])}


def read_parameters(record, kind):
    """Return {"a", "b"} for "faces" or "videos" of a model's record; raises InputError if it holds something else."""
    calibration = record.get("calibration")
    if calibration is None:
        return UNCHANGED
    try:
        parameters = {name: float(calibration[kind][name]) for name in ("a", "b")}
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise InputError(f"the calibration of the weights is not understood: {calibration!r}") from error
    if not (math.isfinite(parameters["b"]) and 0 < parameters["a"] < math.inf):
        raise InputError(f"the calibration of the weights is not usable: {parameters}")
    return parameters


def video_means(labels, scores, video_ids):
    """Return (labels, mean scores), one per video."""
    _, first, members = np.unique(video_ids, return_index=True, return_inverse=True)
    return np.asarray(labels)[first], np.bincount(members, scores) / np.bincount(members)


def check_calibration(record):
    """Raise InputError if a model's record holds a calibration that cannot be used."""
    for kind in KINDS:
        read_parameters(record, kind)


def make_calibration(labels, scores, video_ids, groups, starting):
    """Return the calibration of a model from its validation faces, or, with too few groups, that of its starting weights.

    `scores` are the scorer's own; `starting` is the record of the starting weights (or {}). Log loss and expected calibration
    error, before and after, are of the same faces, both classes counting the same.
    """
    labels, groups = np.asarray(labels), len(set(groups))
    fitted = groups >= GROUPS_TO_CALIBRATE
    result, notes = {}, []
    for kind in KINDS:
        if kind == "videos":
            labels, scores = video_means(labels, calibrate(scores, result["faces"]), video_ids)
        parameters = fit(labels, scores) if fitted else read_parameters(starting, kind)
        if parameters["a"] <= 0:  # no better than chance: there is nothing to calibrate
            parameters = UNCHANGED
            notes.append(f"{kind}: scores no better than chance, left as they are")
        measured = {"before": np.asarray(scores, np.float64), "after": calibrate(scores, parameters)}
        weights = balancing_weights(labels)
        result[kind] = parameters | {
            name: {when: metrics.METRICS[name](labels, values, weights) for when, values in measured.items()}
            for name in ("log_loss", "expected_calibration_error")
        }
    unchanged = all(result[kind]["a"] == 1 and result[kind]["b"] == 0 for kind in KINDS)
    if fitted:
        source = f"{groups} validation groups"
    else:
        kept = "scores are left as they are" if unchanged else "that of the starting weights stays"
        source = f"not fitted: {groups} validation groups, {GROUPS_TO_CALIBRATE} are needed; {kept}"
    holds_for = HOLDS_FOR if fitted and not unchanged else None
    return {**result, "fitted_on": source, "holds_for": holds_for, "measured_on": MEASURED_ON, "notes": notes}


def in_words(calibration):
    """Return one line: what it was fitted on, and what it changed for validation faces."""
    faces = calibration["faces"]
    losses, errors = faces["log_loss"], faces["expected_calibration_error"]
    notes = "".join(f"; {note}" for note in calibration["notes"])
    return (
        f"{calibration['fitted_on']}{notes}; on validation faces log loss {losses['before']:.3f} before, {losses['after']:.3f} "
        f"after; expected calibration error {errors['before']:.3f} before, {errors['after']:.3f} after"
    )
