"""The verdicts that 04 leaves, as the scripts that show them read them, and what to doubt about them."""

import csv
import re

from common.constants import CANNOT_JUDGE, CLASS_NAMES, FAKE, REAL, SELF_BLENDED_FACES, THRESHOLD
from common.paths import VERDICTS_TABLE

NUMBERS = {  # columns of the tables that are no text
    "score": float, "p_fake": float, "label": int, "faces": int, "people": int, "person": int, "frames": int
}  # fmt: skip
CHANCE_AUC = 0.5
ONLY_BLENDS = (
    "these weights have learnt from real faces and blends of them, never from deepfakes: take a verdict as a hint to look closer "
    '(README: "What it can and cannot see")'
)
PLAIN_WORDS = (  # what a reason begins with or holds, and what it means to someone who has never seen this program
    (r"^no face of confidence|^no usable face", "No face was seen clearly enough in any of the moments looked at."),
    (r"^faces too small", "The faces are so small that traces of a change could not be seen."),
    (r"^faces too blurred", "The faces are too blurred to judge."),
    (r"^faces too dark", "The faces are too dark to judge."),
    (r"^usable faces in too few frames", "A face was seen well enough in too few moments to judge."),
    (r"is empty", "The file holds nothing: perhaps copying it was interrupted."),
    (r"not a readable video", "This is not a video, or it is damaged so badly that no player could show it."),
    (r"not a readable photo", "This is not a photo, or it is damaged so badly that it cannot be shown."),
    (r"no video stream", "The file holds no pictures, only sound perhaps."),
    (r"no readable frame", "Not one picture of this video could be read: it is damaged or cut off."),
    (r"not supported", "Files of this kind cannot be read here; most programs that show them can save them as another."),
    (r"took longer than", "Reading it took so long that it was given up; it may be damaged or very large."),
    (r"process that read it died|cannot start a worker", "The program that read it broke down over it: it may be damaged."),
    (r"claims to be", "It says that its pictures have a size that none has: it is damaged, or made to do harm."),
    (r"would share the id", "Two files have the same name but for its ending; give one of them another name."),
    (r"file or folder of your own", "Something of yours lies where its results belong; give one of them another name."),
    (r"cannot be read: Permission|folder cannot be read", "This program is not allowed to read it."),
    (r"was not processed|not looked for|faces are not readable", "A step before was left out or interrupted; run it again."),
)  # fmt: skip


def verdict_of(score):
    """Return "REAL" when the score P(real) is at least 0.5, "FAKE" below, "CANNOT JUDGE" for None."""
    if score is None:
        return CANNOT_JUDGE
    return CLASS_NAMES[REAL if score >= THRESHOLD else FAKE].upper()


def read_table(path):
    """Return the rows of a CSV table as dicts, numbers as numbers; None for an empty field."""
    with open(path, encoding="utf-8", newline="") as file:
        return [{k: NUMBERS.get(k, str)(v) if v else None for k, v in row.items()} for row in csv.DictReader(file)]


def suspicion(row):
    """Sort key: the highest P(fake) first, what could not be judged last."""
    return (row["p_fake"] is None, -(row["p_fake"] or 0), row["filename"] or row["video_id"])


def read_verdicts(folder):
    """Return the rows of video_preds.csv, most suspicious first."""
    return sorted(read_table(folder / VERDICTS_TABLE), key=suspicion)


def doubt(record):
    """Return why the verdicts of weights with this record mean little, or None."""
    auc = (record.get("metrics") or {}).get("val_faces", {}).get("roc_auc")
    if not auc or (auc["interval"] and auc["interval"][0] > CHANCE_AUC):
        return ONLY_BLENDS if record.get("fakes") == SELF_BLENDED_FACES else None
    tested = f"ROC AUC {auc['value']:.2f} on their own validation faces"
    if not auc["interval"]:
        return f"these weights were tested on too few people to say how good they are ({tested}): take their verdicts as hints"
    return (
        f"these weights were not shown to be better than chance ({tested}, interval from {auc['interval'][0]:.2f}): "
        "the verdicts mean little"
    )


def plain_words(reason):
    """Return a sentence that says what a reason means, or None for one that must speak for itself."""
    return next((words for pattern, words in PLAIN_WORDS if re.search(pattern, reason or "")), None)
