"""95 % intervals of the metrics: a cluster bootstrap, which resamples whole groups, and the exact binomial interval."""

import numpy as np

from common.constants import FAKE, REAL, THRESHOLD
from common.messages import say
from deepfake.evaluation import metrics

RESAMPLES = 1000
RESAMPLED_AT_ONCE = 2**18  # videos (or faces) of several resamples: an array of 2 MB stays in the cache
MIN_GROUPS, MIN_GROUPS_OF_CLASS = 20, 10  # in all, and of each class: fewer are too few for a bootstrap
TOO_FEW = "too few to bound"
AT_LIMIT, ALIKE = "exactly 0 or 1: no interval", "the same in nearly every resample: no interval"
HEADLINE = ("accuracy", "balanced_accuracy", "roc_auc", "log_loss")  # the metrics that a terminal shows
NAMES = ("accuracy", "roc_auc")  # the metrics of a subgroup
# {subgroup: (column, lower bounds of all bins but the first, names of the bins)}
BINS = {
    # the longer side of 480p (640 or 854), 720p (1280) and 1080p (1920), which is what cameras and sites use
    "resolution": (
        "frame_px",
        (640, 1280, 1920),
        ("under 640 px", "640 to 1279 px", "1280 to 1919 px", "1920 px and more"),
    ),
    # of two people, the other's faces are half of the mean; of three, most of it
    "people": ("people", (2, 3), ("1 person", "2 people", "3 people and more")),
    # with its margins a face of 80 px is 128 px wide; 160 and 320 are its doubles
    "face_size": ("face_px", (80, 160, 320), ("under 80 px", "80 to 159 px", "160 to 319 px", "320 px and more")),
    # 98 % of clean portraits are between 90 and 180; under 45 is a stop darker than those
    "brightness": ("brightness", (45, 90, 180), ("under 45 of 255", "45 to 89", "90 to 179", "180 and more")),
    # 1 % of clean portraits are under 90, half of them under 400; the ROC AUC of blurred ones falls below 25 (evaluate.py)
    "sharpness": ("sharpness", (25, 100, 400), ("under 25", "25 to 99", "100 to 399", "400 and more")),
}


def subgroups(rows, seed):
    """Return {subgroup: [{"name", "videos", "real", "fake", "accuracy", "roc_auc"}]} of labelled, judged videos.

    Bins without a video are left out, and so are videos whose column is not known. The metrics are those of `describe`.
    """
    import pandas as pd

    result = {}
    for subgroup, (column, bounds, names) in BINS.items():
        table = pd.DataFrame(rows, columns=["label", "score", "group", column])
        bins = pd.cut(table[column].astype(float), [-np.inf, *bounds, np.inf], right=False, labels=names)
        result[subgroup] = []
        for name, part in table.groupby(bins, observed=True):
            labels = part["label"].tolist()
            counts = {"videos": len(part), "real": labels.count(REAL), "fake": labels.count(FAKE)}
            metrics = describe(labels, part["score"], part["group"], seed, rows_are_videos=True, names=NAMES)
            result[subgroup].append({"name": name, **counts, **metrics})
    return result


def binomial_interval(successes, trials):
    """Return the exact 95 % interval of a proportion (Clopper & Pearson, Biometrika 26, 1934)."""
    from scipy.stats import binomtest

    return list(binomtest(successes, trials).proportion_ci(method="exact"))


def resampled_weights(groups, labels, seed):
    """Yield weights (resamples, n), a few resamples at a time: how often the group of each row is drawn.

    As many groups are drawn as there are. Where there are two classes, a resample without both is drawn again.
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
    """Return {name: [low, high]}: 95 % intervals of metrics by cluster bootstrap, as percentiles over the resamples."""
    order = np.argsort(scores, kind="stable")  # sorting sorted scores again, in each resample, is quick
    labels, scores, groups = labels[order], scores[order], groups[order]
    values = {name: [] for name in names}
    for weights in resampled_weights(groups, labels, seed):
        for name in names:
            values[name].append(metrics.METRICS[name](labels, scores, weights))
    return {name: np.percentile(np.concatenate(parts), (2.5, 97.5)).tolist() for name, parts in values.items()}


def enough_groups(labels, groups):
    """Return (whether the groups are enough for metrics that need one class, the same for those that compare two)."""
    enough = len(np.unique(groups)) >= MIN_GROUPS
    of_class = [len(np.unique(groups[labels == label])) for label in (FAKE, REAL)]
    return enough, enough and min(of_class) >= MIN_GROUPS_OF_CLASS


def describe(labels, scores, groups, seed, rows_are_videos=False, names=tuple(metrics.METRICS)):
    """Return {metric: {"value", "interval", "method"}} for videos (or faces) that have a label and a score.

    `names`: the wanted metrics; with one class, those that need both are left out. The interval is None where the groups are too
    few or every resample gives the same; `method` says which. With too few groups, the accuracy of videos has the exact binomial
    interval, that of faces has none: faces of one video are no independent trials.
    """
    labels, scores, groups = np.asarray(labels), np.asarray(scores, float), np.asarray(groups)
    if not len(labels):
        return {}
    names = [name for name in names if len(np.unique(labels)) == 2 or name in metrics.NEEDS_ONE_CLASS]
    result = {name: {"value": float(metrics.METRICS[name](labels, scores))} for name in names}
    for_one_class, for_two = enough_groups(labels, groups)
    bounded = [name for name in names if (for_one_class if name in metrics.NEEDS_ONE_CLASS else for_two)]
    intervals = bootstrap_intervals(labels, scores, groups, bounded, seed) if bounded else {}
    for name, entry in result.items():
        low, high = intervals.get(name, (None, None))
        if low is None:
            entry |= {"interval": None, "method": TOO_FEW}
        elif low == high:
            entry |= {"interval": None, "method": AT_LIMIT if low == entry["value"] in (0, 1) else ALIKE}
        else:
            entry |= {"interval": [low, high], "method": "cluster bootstrap"}
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
    """Print a line for each metric of HEADLINE that is there. `whose`: what the lines begin with, such as "04: videos"."""
    for name in filter(metrics.get, HEADLINE):
        say(f"{whose}: {format_metric(name, metrics[name])}")
