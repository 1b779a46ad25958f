"""How the scores of a video's faces become one score and a verdict.

The three rules are here in NumPy, for the choice that 03 makes on validation videos, and in 04 in Spark, for any number of
videos; tests/evaluation/test_aggregation.py compares the two.
"""

from collections import Counter, defaultdict

import numpy as np

from common.constants import CANNOT_JUDGE, CLASS_NAMES, FAKE, PERSON_MIN_FRAMES, REAL, THRESHOLD
from common.errors import InputError
from deepfake.evaluation import intervals, metrics
from deepfake.evaluation.calibration import UNCHANGED, calibrate
from deepfake.preprocessing import quality

AGGREGATES = ("mean", "lowest-person", "confident")
SCORE_DECIMALS = 12  # Spark adds up in any order; rounding keeps a tie at 0.5 a tie
CERTAIN_ENOUGH = 1e-9  # added to |score - 0.5|: else faces at exactly 0.5 would have no weighted mean
MEASURES = ("face_px", "frame_px", "brightness", "sharpness")  # of a video: the means of its usable faces
CRITERION = (
    "ROC AUC of validation videos; another rule than the mean only if the 95 % interval of its gain is above 0 and its log loss, "
    "which suffers where scores are too low or too high, is not higher"
)


def rule_of(aggregate, record, record_path):
    """Return the rule that --aggregate names: one of AGGREGATES, for "auto" that of the model card. Raises InputError."""
    rule = record.get("aggregation") if aggregate == "auto" else aggregate
    if rule not in AGGREGATES:
        raise InputError(f"{record_path} does not say how to aggregate; name it with --aggregate")
    return rule


def commonest(reasons):
    """Return the commonest text, of several the first by the alphabet; None if there is no text."""
    counts = Counter(reasons)
    return min(counts, key=lambda reason: (-counts[reason], reason), default=None)


def needed_frames(video_frames):
    """Return in how many frames a video needs a usable face: 3, or all of a shorter video; 1 if their number is not known."""
    return min(PERSON_MIN_FRAMES, video_frames or 1)


def why_not_judged(reasons, usable_frames, video_frames):
    """Return why a video with too few usable faces cannot be judged: the commonest reason of its frames.

    `reasons`: of its unusable faces, or of the video if it has no face. Frames without either count as TOO_FEW_FRAMES.
    """
    if not usable_frames:
        return commonest(reasons) or quality.NO_USABLE_FACE
    missing = (video_frames or 0) - usable_frames - len(reasons)
    return commonest([*reasons, *[quality.TOO_FEW_FRAMES] * missing]) or quality.TOO_FEW_FRAMES


def verdict_columns(score, calibration):
    """Return {"score", "p_fake", "verdict"} of a score from Spark, which may be None."""
    if score is not None:
        score = round(float(score if calibration == UNCHANGED else calibrate(score, calibration)), SCORE_DECIMALS)
    return {"score": score, "p_fake": None if score is None else 1 - score, "verdict": verdict_of(score)}


def people_rows(people, is_judged, calibration):
    """Return the rows of people_preds.csv of one video, without its names. `people`: as from 04's `judge_videos`.

    In a video that is judged, people seen in at least 3 frames are judged, or everybody if there is no such person.
    """
    people = sorted((person for person in people if person["person"] is not None), key=lambda p: p["person"])
    needed = PERSON_MIN_FRAMES if any(person["frames"] >= PERSON_MIN_FRAMES for person in people) else 1
    rows = []
    for person in people:
        counts = is_judged and person["frames"] >= needed
        reason = None if counts else commonest(person["reasons"]) or quality.TOO_FEW_FRAMES
        score = verdict_columns(person["score"] if counts else None, calibration)
        rows.append({"person": person["person"], **score, "frames": person["frames"], "reason": reason})
    return rows


def as_row(judged, calibration=UNCHANGED):
    """Return a row of 04's `judge_videos` as a row of video_preds.csv, with `group`, `people_rows` and MEASURES added."""
    row = judged.asDict()
    people, usable, frames = (row.pop(name) for name in ("people", "usable_frames", "video_frames"))
    is_judged, names = usable >= needed_frames(frames), {name: row[name] for name in ("video_id", "filename")}
    reasons = [reason for person in people for reason in person["reasons"]]
    return row | {
        "group": row["group"] or row["video_id"],
        **verdict_columns(row["score"] if is_judged else None, calibration),
        "people": sum(person["frames"] > 0 for person in people),
        "reason": None if is_judged else why_not_judged(reasons, usable, frames),
        "people_rows": [names | person for person in people_rows(people, is_judged, calibration)],
    }


def video_score(lines, aggregate):
    """Return the score P(real) of one video from its prediction lines, by one of AGGREGATES; None if it cannot be judged."""
    lines = [line for line in lines if line["score"] is not None]
    frames = len({line["frame"] for line in lines})
    if frames < needed_frames(max((line.get("video_frames") or 0 for line in lines), default=0)):
        return None
    scores = np.array([line["score"] for line in lines])
    if aggregate == "mean":
        score = scores.mean()
    elif aggregate == "confident":
        score = np.average(scores, weights=np.abs(scores - THRESHOLD) + CERTAIN_ENOUGH)
    else:
        people = defaultdict(list)
        for line in lines:
            people[line["person"]].append(line["score"])
        often = [found for found in people.values() if len(found) >= PERSON_MIN_FRAMES] or people.values()
        score = min(np.mean(found) for found in often)
    return round(float(score), SCORE_DECIMALS)


def choose_aggregate(lines, seed):
    """Return (one of AGGREGATES, {"criterion", "roc_auc", "log_loss", "gain", "note"}) for prediction lines of validation.

    `gain`: {rule: [low, high]}, the 95 % interval (cluster bootstrap) of how much its ROC AUC is above the mean's. With few
    groups, or without a gain beyond noise, the mean is chosen. Where metadata.json names the altered person of a fake, validation
    holds only that person's faces: there the rules differ less than on whole videos.
    """
    videos = defaultdict(list)
    for line in lines:
        videos[line["video_id"]].append(line)
    judged = [found for found in videos.values() if video_score(found, "mean") is not None]
    labels, groups = (np.array([found[0][name] for found in judged]) for name in ("label", "group"))
    result = {"criterion": CRITERION, "roc_auc": {}, "log_loss": {}, "gain": {}, "note": None}
    if not intervals.enough_groups(labels, groups)[1]:
        needed = f"at least {intervals.MIN_GROUPS}, and {intervals.MIN_GROUPS_OF_CLASS} with each class, are needed to compare"
        return "mean", {**result, "note": f"{len(set(groups.tolist()))} validation groups; {needed}"}
    scores = {rule: np.array([video_score(found, rule) for found in judged], float) for rule in AGGREGATES}
    weights = np.concatenate(list(intervals.resampled_weights(groups, labels, seed)))
    for rule, found in scores.items():
        result["roc_auc"][rule] = float(metrics.roc_auc(labels, found))
        result["log_loss"][rule] = float(metrics.log_loss(labels, found))
        if rule != "mean":
            gains = metrics.roc_auc(labels, found, weights) - metrics.roc_auc(labels, scores["mean"], weights)
            result["gain"][rule] = np.percentile(gains, (2.5, 97.5)).tolist()
    losses = result["log_loss"]
    better = [rule for rule, (low, _) in result["gain"].items() if low > 0 and losses[rule] <= losses["mean"]]
    return max(["mean", *better], key=result["roc_auc"].get), result


def verdict_of(score):
    """Return "REAL" when the score P(real) is at least 0.5, "FAKE" below, "CANNOT JUDGE" for None."""
    return CANNOT_JUDGE if score is None else CLASS_NAMES[REAL if score >= THRESHOLD else FAKE].upper()
