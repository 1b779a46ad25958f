"""The metrics of parts of the videos, so that a weak spot shows: small pictures, several people, small, dark or soft faces."""

import numpy as np

from common.constants import FAKE, REAL
from common.metrics import describe

NAMES = ("accuracy", "roc_auc")
# {subgroup: (column, lower bounds of all bins but the first, their names)}
BINS = {
    # the longer side of 480p (640 or 854), 720p (1280) and 1080p (1920), which is what cameras and sites use
    "resolution": (
        "frame_px",
        (640, 1280, 1920),
        ("under 640 px", "640 to 1279 px", "1280 to 1919 px", "1920 px and more"),
    ),
    # with two, the other person's faces are half of the mean; with three, most of it
    "people": ("people", (2, 3), ("1 person", "2 people", "3 people and more")),
    # with its margins a face of 80 px is 128 px wide; 160 and 320 are its doubles
    "face_size": ("face_px", (80, 160, 320), ("under 80 px", "80 to 159 px", "160 to 319 px", "320 px and more")),
    # 98 % of undamaged portraits are between 90 and 180; under 45 is a stop darker than those
    "brightness": ("brightness", (45, 90, 180), ("under 45 of 255", "45 to 89", "90 to 179", "180 and more")),
    # 1 % of undamaged portraits are under 90, half of them under 400; the ROC AUC of blurred ones falls below 25 (measure_limits)
    "sharpness": ("sharpness", (25, 100, 400), ("under 25", "25 to 99", "100 to 399", "400 and more")),
}


def subgroups(rows, seed):
    """Return {subgroup: [{"name", "videos", "real", "fake", "accuracy", "roc_auc"}]} of labelled, judged videos.

    Bins without a video are left out, and so are videos of which the column is not known. Metrics: `common.metrics.describe`.
    """
    result = {}
    for subgroup, (column, bounds, names) in BINS.items():
        known = [row for row in rows if row[column] is not None]
        places = np.searchsorted(bounds, [row[column] for row in known], side="right")
        result[subgroup] = []
        for place, name in enumerate(names):
            part = [row for row, found in zip(known, places, strict=True) if found == place]
            if part:
                labels, scores, groups = ([row[key] for row in part] for key in ("label", "score", "group"))
                counts = {"videos": len(part), "real": labels.count(REAL), "fake": labels.count(FAKE)}
                metrics = describe(labels, scores, groups, seed, rows_are_videos=True, names=NAMES)
                result[subgroup].append({"name": name, **counts, **metrics})
    return result
