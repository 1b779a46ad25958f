"""Metrics of scores. Labels are 1 real, 0 fake; scores are P(real).

Fakes are the positive class: recall is the share of fakes that are called fake, a false positive is a real called fake.
"""

from functools import partial

import numpy as np

from common.constants import FAKE, REAL, THRESHOLD

CALIBRATION_BINS = 10
EPSILON = 1e-7  # keeps the log loss of a certain mistake finite


def weighted_mean(values, weights):
    """Return the mean of values (n,): one for weights (n,) or None (all alike), (resamples,) for weights (resamples, n)."""
    weights = np.ones(len(values)) if weights is None else weights
    return weights @ values / weights.sum(axis=-1)


def accuracy(labels, scores, weights=None):
    """Share of verdicts that are right."""
    return weighted_mean((scores >= THRESHOLD) == labels, weights)


def balanced_accuracy(labels, scores, weights=None):
    """Mean of the accuracies on real and on fake."""
    weights = np.ones(len(labels)) if weights is None else weights
    shares = [accuracy(labels[labels == c], scores[labels == c], weights[..., labels == c]) for c in (FAKE, REAL)]
    return (shares[0] + shares[1]) / 2


def log_loss(labels, scores, weights=None):
    """Mean of -ln of the chance given to the right class."""
    scores = np.clip(scores, EPSILON, 1 - EPSILON)
    return weighted_mean(-np.log(np.where(labels == REAL, scores, 1 - scores)), weights)


def expected_calibration_error(labels, scores, weights=None):
    """Mean distance between P(real) and the share of reals, over 10 bins of equal width (Naeini et al., AAAI 2015)."""
    weights = np.ones(len(labels)) if weights is None else weights
    bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = weights @ (np.eye(CALIBRATION_BINS)[bins] * (scores - (labels == REAL))[:, None])
    return np.abs(gaps).sum(axis=-1) / weights.sum(axis=-1)


def ranked(labels, scores, weights=None):
    """Return (fake, real): the weights (..., k) of each class at the k distinct scores, the lowest score first."""
    weights = np.ones(len(labels)) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of runs of equal scores
    ordered, is_fake = weights[..., order], labels[order] == FAKE
    return [np.add.reduceat(ordered * part, starts, axis=-1) for part in (is_fake, ~is_fake)]


def roc_auc(labels, scores, weights=None):
    """Return the chance that a real scores higher than a fake, a tie counting half (Mann & Whitney, 1947)."""
    fake, real = ranked(labels, scores, weights)
    found = np.cumsum(fake, axis=-1)
    return np.sum(real * (found - fake / 2), axis=-1) / (real.sum(axis=-1) * found[..., -1])


def average_precision(labels, scores, weights=None):
    """Return the mean, over the fakes, of the precision at their score: the share of fakes among all at or below it."""
    fake, real = ranked(labels, scores, weights)
    found = np.cumsum(fake, axis=-1)
    called = np.maximum(found + np.cumsum(real, axis=-1), EPSILON)  # 0 as long as all weights are 0
    return np.sum(fake * found / called, axis=-1) / found[..., -1]


def roc_curve(labels, scores, weights=None):
    """Return (false-positive rates, recalls), each (..., k + 1), from calling nothing fake to calling everything fake."""
    fake, real = (np.cumsum(counts, axis=-1) for counts in ranked(labels, scores, weights))
    return [np.insert(counts / counts[..., -1:], 0, 0, axis=-1) for counts in (real, fake)]


def at(rates, places):
    """Return the rate (...) at one place of each curve (..., k)."""
    return np.take_along_axis(rates, places[..., None], axis=-1)[..., 0]


def equal_error_rate(labels, scores, weights=None):
    """Return the rate at which as many reals are called fake as fakes are missed, interpolated between two thresholds."""
    false_positives, recalls = roc_curve(labels, scores, weights)
    excess = 1 - recalls - false_positives  # falls from 1 to -1
    after = np.argmax(excess <= 0, axis=-1)
    step = at(excess, after - 1) / (at(excess, after - 1) - at(excess, after))
    return at(false_positives, after - 1) + step * (at(false_positives, after) - at(false_positives, after - 1))


def false_positive_rate(labels, scores, weights=None, *, recall):
    """Return the share of reals called fake at the first threshold that finds at least `recall` of the fakes."""
    false_positives, recalls = roc_curve(labels, scores, weights)
    return at(false_positives, np.argmax(recalls >= recall, axis=-1))


METRICS = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "roc_auc": roc_auc,
    "average_precision": average_precision,
    "log_loss": log_loss,
    "equal_error_rate": equal_error_rate,
    "fpr_at_90_recall": partial(false_positive_rate, recall=0.90),
    "fpr_at_95_recall": partial(false_positive_rate, recall=0.95),
    "expected_calibration_error": expected_calibration_error,
}
MEANINGS = {  # of those that are defined in more than one way
    "average_precision": "area under the precision-recall curve, not interpolated; fakes are the positive class",
    "equal_error_rate": "rate at which as many reals are called fake as fakes are missed, interpolated on the ROC curve",
    "fpr_at_90_recall": "share of reals called fake where at least 90 % of the fakes are found",
    "fpr_at_95_recall": "share of reals called fake where at least 95 % of the fakes are found",
    "expected_calibration_error": f"mean distance of P(real) from the share of reals, {CALIBRATION_BINS} bins of equal width",
}
NEEDS_ONE_CLASS = ("accuracy", "log_loss", "expected_calibration_error")  # the others compare both
