"""Metrics with their 95 % intervals. Labels are 1 real, 0 fake; scores are P(real).

Where one class has to be the one that is looked for, it is the fakes: recall is the share of fakes that are called fake, a false
positive is a real one called fake.
"""

import numpy as np

from common.cli import say
from common.constants import FAKE, REAL, THRESHOLD

RESAMPLES = 1000
RESAMPLED_AT_ONCE = 2**18  # videos (or faces) in all: 2 MB per array, which stays in the cache
MIN_GROUPS, MIN_GROUPS_OF_CLASS = 20, 10  # in all, and with each class: fewer cannot carry a bootstrap
CALIBRATION_BINS = 10
EPSILON = 1e-7  # keeps the log loss of a certain mistake finite
TOO_FEW = "too few to bound"
AT_LIMIT, ALIKE = "exactly 0 or 1: no interval", "the same in nearly every resample: no interval"


def weighted_mean(values, weights):
    """Return the mean of values (n,) for weights (n,) or, one per resample, (resamples, n); None: all alike."""
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
    """Return (fake, real): the weights (..., k) of each class at the k distinct scores, the lowest (most likely fake) first."""
    weights = np.ones(len(labels)) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of runs of equal scores
    ordered, is_fake = weights[..., order], labels[order] == FAKE
    return [np.add.reduceat(ordered * part, starts, axis=-1) for part in (is_fake, ~is_fake)]


def roc_auc(labels, scores, weights=None):
    """Return the chance that a real one scores higher than a fake one, ties counted half (Mann & Whitney, 1947)."""
    fake, real = ranked(labels, scores, weights)
    found = np.cumsum(fake, axis=-1)
    return np.sum(real * (found - fake / 2), axis=-1) / (real.sum(axis=-1) * found[..., -1])


def average_precision(labels, scores, weights=None):
    """Return the mean, over the fakes, of the share of fakes among all that are at least as suspicious; not interpolated."""
    fake, real = ranked(labels, scores, weights)
    found = np.cumsum(fake, axis=-1)
    called = np.maximum(found + np.cumsum(real, axis=-1), EPSILON)  # none, as long as all weights are 0
    return np.sum(fake * found / called, axis=-1) / found[..., -1]


def roc_curve(labels, scores, weights=None):
    """Return (false-positive rates, recalls) from calling nothing fake to calling everything fake."""
    fake, real = (np.cumsum(counts, axis=-1) for counts in ranked(labels, scores, weights))
    rates = [np.zeros((*counts.shape[:-1], counts.shape[-1] + 1)) for counts in (real, fake)]
    for rate, counts in zip(rates, (real, fake), strict=True):
        rate[..., 1:] = counts / counts[..., -1:]
    return rates


def at(rates, places):
    """Return the rate (...) at one place of each curve (..., k)."""
    return np.take_along_axis(rates, places[..., None], axis=-1)[..., 0]


def equal_error_rate(labels, scores, weights=None):
    """Return the rate at which as many reals are called fake as fakes are missed; between two thresholds, on the line."""
    false_positives, recalls = roc_curve(labels, scores, weights)
    excess = 1 - recalls - false_positives  # falls from 1 to -1
    after = np.argmax(excess <= 0, axis=-1)
    step = at(excess, after - 1) / (at(excess, after - 1) - at(excess, after))
    return at(false_positives, after - 1) + step * (at(false_positives, after) - at(false_positives, after - 1))


def false_positive_rate(recall):
    """Return the metric: share of reals called fake at the first threshold that finds at least `recall` of the fakes."""

    def metric(labels, scores, weights=None):
        false_positives, recalls = roc_curve(labels, scores, weights)
        return at(false_positives, np.argmax(recalls >= recall, axis=-1))

    return metric


METRICS = {
    "accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "roc_auc": roc_auc, "average_precision": average_precision,
    "log_loss": log_loss, "equal_error_rate": equal_error_rate, "fpr_at_90_recall": false_positive_rate(0.90),
    "fpr_at_95_recall": false_positive_rate(0.95), "expected_calibration_error": expected_calibration_error,
}  # fmt: skip
MEANINGS = {  # of those that are defined in more than one way
    "average_precision": "area under the precision-recall curve, not interpolated; fakes are the positive class",
    "equal_error_rate": "rate at which as many reals are called fake as fakes are missed, interpolated on the ROC curve",
    "fpr_at_90_recall": "share of reals called fake where at least 90 % of the fakes are found",
    "fpr_at_95_recall": "share of reals called fake where at least 95 % of the fakes are found",
    "expected_calibration_error": f"mean distance of P(real) from the share of reals, {CALIBRATION_BINS} bins of equal width",
}
NEEDS_ONE_CLASS = ("accuracy", "log_loss", "expected_calibration_error")  # the others compare both
HEADLINE = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")  # what a terminal shows


def binomial_interval(successes, trials):
    """Return the exact 95 % interval of a proportion (Clopper & Pearson, Biometrika 26, 1934)."""
    from scipy.stats import beta

    low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    return [float(low), float(high)]


def resampled_weights(groups, labels, seed):
    """Yield (resamples, n) weights, a few at a time: how often each group is drawn, groups as many as there are.

    A resample without both classes, where there are two, is drawn again.
    """
    _, members = np.unique(groups, return_inverse=True)
    number = members.max() + 1
    classes = [np.bincount(members[labels == label], minlength=number) for label in np.unique(labels)]
    rng, chances, left = np.random.default_rng(seed), np.full(number, 1 / number), RESAMPLES
    while left:
        draws = rng.multinomial(number, chances, size=min(left, max(1, RESAMPLED_AT_ONCE // len(labels))))
        draws = draws[np.all([draws @ counts > 0 for counts in classes], axis=0)]
        left -= len(draws)
        yield draws[:, members].astype(float)


def bootstrap_intervals(labels, scores, groups, names, seed):
    """Return {name: [low, high]}: percentiles over resamples of whole groups; one without both classes is drawn again."""
    order = np.argsort(scores, kind="stable")  # sorted once, it is quick in every resample
    labels, scores, groups = labels[order], scores[order], groups[order]
    values = {name: [] for name in names}
    for weights in resampled_weights(groups, labels, seed):
        for name in names:
            values[name].append(METRICS[name](labels, scores, weights))
    found = {name: np.percentile(np.concatenate(parts), (2.5, 97.5)) for name, parts in values.items()}
    return {name: bounds.tolist() for name, bounds in found.items()}


def enough_groups(labels, groups):
    """Return whether there are groups enough for a bootstrap: (of metrics that need one class, of those that compare two)."""
    enough = len(np.unique(groups)) >= MIN_GROUPS
    of_class = [len(np.unique(groups[labels == label])) for label in (FAKE, REAL)]
    return enough, enough and min(of_class) >= MIN_GROUPS_OF_CLASS


def describe(labels, scores, groups, seed, rows_are_videos=False, names=tuple(METRICS)):
    """Return {metric: {"value", "interval", "method"}} for videos (or faces) that have a label and a score.

    The interval is None where the data are too few to bound it or every resample says the same (the method says which). Metrics
    that need both classes are left out when there is only one. The binomial interval is for videos only: faces of one are no
    independent trials. `names`: the metrics wanted.
    """
    labels, scores, groups = np.asarray(labels), np.asarray(scores, float), np.asarray(groups)
    if not len(labels):
        return {}
    names = [name for name in names if len(np.unique(labels)) == 2 or name in NEEDS_ONE_CLASS]
    result = {name: {"value": float(METRICS[name](labels, scores))} for name in names}
    for_one_class, for_two = enough_groups(labels, groups)
    bounded = [name for name in names if (for_one_class if name in NEEDS_ONE_CLASS else for_two)]
    intervals = bootstrap_intervals(labels, scores, groups, bounded, seed) if bounded else {}
    for name, entry in result.items():
        low, high = intervals.get(name, (None, None))
        if low is None:
            entry |= {"interval": None, "method": TOO_FEW}
        elif low == high:
            entry |= {"interval": None, "method": AT_LIMIT if low == entry["value"] in (0, 1) else ALIKE}
        else:
            entry |= {"interval": [low, high], "method": "bootstrap over groups"}
    if "accuracy" in names and not result["accuracy"]["interval"] and rows_are_videos:
        right = int(((scores >= THRESHOLD) == labels).sum())
        result["accuracy"] |= {"interval": binomial_interval(right, len(labels)), "method": "exact binomial"}
    return result


def format_metric(name, entry):
    """Return one line of text: the metric, its value and its interval."""
    low_high = entry["interval"]
    interval = f"95 % interval {low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else entry.get("method", TOO_FEW)
    return f"{name.replace('_', ' '):26} {entry['value']:.3f}  ({interval})"


def say_headline(whose, metrics):
    """Print the metrics of HEADLINE that are there, a line each; `whose`: what the lines begin with, "04: videos"."""
    for name in HEADLINE:
        if name in metrics:
            say(f"{whose}: {format_metric(name, metrics[name])}")
