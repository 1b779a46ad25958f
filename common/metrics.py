"""Metrics with their 95 % intervals. Labels are 1 real, 0 fake; scores are P(real)."""

import numpy as np

from common.constants import FAKE, REAL, THRESHOLD

RESAMPLES = 1000
MIN_GROUPS = 20  # fewer cannot carry a bootstrap
CALIBRATION_BINS = 10
EPSILON = 1e-7  # keeps the log loss of a certain mistake finite


def accuracy(labels, scores, weights=None):
    """Share of verdicts that are right."""
    return float(np.average((scores >= THRESHOLD) == labels, weights=weights))


def balanced_accuracy(labels, scores, weights=None):
    """Mean of the accuracies on real and on fake."""
    right = (scores >= THRESHOLD) == labels
    weights = np.ones(len(labels)) if weights is None else weights
    return float(np.mean([np.average(right[labels == c], weights=weights[labels == c]) for c in (FAKE, REAL)]))


def roc_auc(labels, scores, weights=None):
    """Return the chance that a real one scores higher than a fake one, ties counted half (Mann & Whitney, 1947)."""
    weights = np.ones(len(labels)) if weights is None else weights
    order = np.argsort(scores, kind="stable")
    starts = np.flatnonzero(np.diff(scores[order], prepend=-np.inf))  # of runs of equal scores
    real = np.add.reduceat((weights * (labels == REAL))[order], starts)
    fake = np.add.reduceat((weights * (labels == FAKE))[order], starts)
    return float(np.sum(real * (np.cumsum(fake) - fake / 2)) / (real.sum() * fake.sum()))


def log_loss(labels, scores, weights=None):
    """Mean of -ln of the chance given to the right class."""
    scores = np.clip(scores, EPSILON, 1 - EPSILON)
    return float(np.average(-np.log(np.where(labels == REAL, scores, 1 - scores)), weights=weights))


def expected_calibration_error(labels, scores, weights=None):
    """Mean distance between P(real) and the share of reals, over 10 bins of equal width (Naeini et al., AAAI 2015)."""
    weights = np.ones(len(labels)) if weights is None else weights
    bins = np.minimum((scores * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    gaps = np.bincount(bins, weights * (scores - (labels == REAL)), CALIBRATION_BINS)
    return float(np.abs(gaps).sum() / weights.sum())


METRICS = {"accuracy": accuracy, "balanced_accuracy": balanced_accuracy, "roc_auc": roc_auc, "log_loss": log_loss}
NEEDS_BOTH_CLASSES = ("balanced_accuracy", "roc_auc")


def binomial_interval(successes, trials):
    """Return the exact 95 % interval of a proportion (Clopper & Pearson, Biometrika 26, 1934)."""
    from scipy.stats import beta

    low = beta.ppf(0.025, successes, trials - successes + 1) if successes else 0.0
    high = beta.ppf(0.975, successes + 1, trials - successes) if successes < trials else 1.0
    return [float(low), float(high)]


def bootstrap_intervals(labels, scores, groups, names, seed):
    """Return {name: [low, high]}: percentiles over resamples of whole groups; one without both classes is drawn again."""
    order = np.argsort(scores, kind="stable")  # sorted once, the area under the curve is quick in every resample
    labels, scores, groups = labels[order], scores[order], groups[order]
    _, members = np.unique(groups, return_inverse=True)
    number = members.max() + 1
    rng, values = np.random.default_rng(seed), {name: [] for name in names}
    while len(values[names[0]]) < RESAMPLES:
        weights = np.bincount(rng.integers(number, size=number), minlength=number)[members].astype(float)
        if len(np.unique(labels)) == 2 and not all(weights[labels == c].any() for c in (FAKE, REAL)):
            continue
        for name in names:
            values[name].append(METRICS[name](labels, scores, weights))
    return {name: [float(bound) for bound in np.percentile(found, (2.5, 97.5))] for name, found in values.items()}


def describe(labels, scores, groups, seed, rows_are_videos=False):
    """Return {metric: {"value", "interval", "method"}} for videos (or faces) that have a label and a score.

    The interval is None where the data are too few to bound the metric. Metrics that need both classes are left out
    when there is only one. The faces of a video are not independent trials: the binomial interval is for videos only.
    """
    labels, scores, groups = np.asarray(labels), np.asarray(scores, float), np.asarray(groups)
    if not len(labels):
        return {}
    names = [name for name in METRICS if len(np.unique(labels)) == 2 or name not in NEEDS_BOTH_CLASSES]
    result = {name: {"value": METRICS[name](labels, scores)} for name in names}
    if len(np.unique(groups)) >= MIN_GROUPS:
        for name, interval in bootstrap_intervals(labels, scores, groups, names, seed).items():
            result[name] |= {"interval": interval, "method": "bootstrap over groups"}
        few = {name for name in names if name != "log_loss" and result[name]["value"] in (0, 1)}
    else:
        few = set(names)
    for name in few:
        result[name] |= {"interval": None, "method": "too few to bound"}
    if "accuracy" in few and rows_are_videos:
        right = int(((scores >= THRESHOLD) == labels).sum())
        result["accuracy"] |= {"interval": binomial_interval(right, len(labels)), "method": "exact binomial"}
    return result


def format_metric(name, entry):
    """Return one line of text: the metric, its value and its interval."""
    low_high = entry["interval"]
    interval = f"95 % interval {low_high[0]:.3f} to {low_high[1]:.3f}" if low_high else "too few to bound"
    return f"{name.replace('_', ' '):18} {entry['value']:.3f}  ({interval})"
