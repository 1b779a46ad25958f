"""From a score to a probability: sigmoid(a * logit(score) + b), fitted on validation faces (Platt, 1999).

A model card holds, under "calibration", a and b twice: for faces, and for the mean of a video's calibrated faces. The
probabilities hold where there are as many fakes as reals.
"""

import math

import numpy as np

from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.evaluation import metrics

GROUPS_TO_CALIBRATE = 30  # fewer say too little about the tails of the scores
LEVELS = ("faces", "videos")
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
    """Return {"a", "b"} that give the calibrated scores the lowest log loss, both classes counting the same.

    The targets are Platt's, a little inside 0 and 1: else separable scores would have no finite optimum.
    """
    from sklearn.linear_model import LogisticRegression

    labels, logits = np.asarray(labels), logit(scores)[:, None]
    counts = {label: int((labels == label).sum()) for label in (REAL, FAKE)}
    targets = np.where(labels == REAL, (counts[REAL] + 1) / (counts[REAL] + 2), 1 / (counts[FAKE] + 2))
    balance = balancing_weights(labels)
    fitted = LogisticRegression(C=math.inf).fit(  # each sample counts as real by its target, as fake by the rest
        np.concatenate([logits, logits]),
        np.repeat([REAL, FAKE], len(labels)),
        np.concatenate([balance * targets, balance * (1 - targets)]),
    )
    return {"a": float(fitted.coef_[0, 0]), "b": float(fitted.intercept_[0])}


def read_parameters(record, level):
    """Return {"a", "b"} of a model card for "faces" or "videos", UNCHANGED if it has none. Raises InputError."""
    calibration = record.get("calibration")
    if calibration is None:
        return UNCHANGED
    try:
        parameters = {name: float(calibration[level][name]) for name in ("a", "b")}
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
    """Raise InputError if a model card holds a calibration that cannot be used."""
    for level in LEVELS:
        read_parameters(record, level)


def make_calibration(labels, scores, video_ids, groups, starting):
    """Return the calibration fitted on validation faces or, with too few groups, that of the starting weights.

    `scores` are the scorer's own; `starting` is the model card of the starting weights, or {}. Log loss and expected calibration
    error before and after are of these faces, both classes counting the same.
    """
    labels, groups = np.asarray(labels), len(set(groups))
    fitted = groups >= GROUPS_TO_CALIBRATE
    result, notes = {}, []
    for level in LEVELS:
        if level == "videos":
            labels, scores = video_means(labels, calibrate(scores, result["faces"]), video_ids)
        parameters = fit(labels, scores) if fitted else read_parameters(starting, level)
        if parameters["a"] <= 0:  # no better than chance: there is nothing to calibrate
            parameters = UNCHANGED
            notes.append(f"{level}: scores no better than chance, left as they are")
        measured = {"before": np.asarray(scores, np.float64), "after": calibrate(scores, parameters)}
        weights = balancing_weights(labels)
        result[level] = parameters | {
            name: {when: metrics.METRICS[name](labels, values, weights) for when, values in measured.items()}
            for name in ("log_loss", "expected_calibration_error")
        }
    unchanged = all(result[level]["a"] == 1 and result[level]["b"] == 0 for level in LEVELS)
    if fitted:
        source = f"{groups} validation groups"
    else:
        kept = "scores are left as they are" if unchanged else "that of the starting weights stays"
        source = f"not fitted: {groups} validation groups, {GROUPS_TO_CALIBRATE} are needed; {kept}"
    holds_for = HOLDS_FOR if fitted and not unchanged else None
    return {**result, "fitted_on": source, "holds_for": holds_for, "measured_on": MEASURED_ON, "notes": notes}


def in_words(calibration):
    """Return one line: what the calibration was fitted on, and what it changed for validation faces."""
    faces = calibration["faces"]
    losses, errors = faces["log_loss"], faces["expected_calibration_error"]
    notes = "".join(f"; {note}" for note in calibration["notes"])
    return (
        f"{calibration['fitted_on']}{notes}; on validation faces log loss {losses['before']:.3f} before, {losses['after']:.3f} "
        f"after; expected calibration error {errors['before']:.3f} before, {errors['after']:.3f} after"
    )
