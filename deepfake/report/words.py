"""What the report says in plain words of the scorer, the metrics and the failures."""

from common import files, paths
from common.constants import CLASS_NAMES, SELF_BLENDED_FACES
from common.errors import InputError
from deepfake.evaluation import intervals, predictions, verdicts
from deepfake.model import record as model_record
from deepfake.preprocessing import quality

NO_FACE_WORDS = "No face was seen clearly enough in any of the moments looked at."
STEP_MISSING = "A step before was left out or interrupted; run it again."
WORDS_OF_CODES = {  # code of an InputError: what it means to someone who has never seen this program
    "empty": "The file holds nothing: perhaps copying it was interrupted.",
    "not_a_video": "This is not a video, or it is damaged so badly that no player could show it.",
    "not_a_photo": "This is not a photo, or it is damaged so badly that it cannot be shown.",
    "no_pictures": "The file holds no pictures, only sound perhaps.",
    "no_frame": "Not one picture of this video could be read: it is damaged or cut off.",
    "unsupported": "Files of this kind cannot be read here; most programs that show them can save them as another.",
    "too_slow": "Reading it took so long that it was given up; it may be damaged or very large.",
    "crashed": "The program that read it broke down over it: it may be damaged.",
    "bad_size": "It says that its pictures have a size that none has: it is damaged, or made to do harm.",
    "same_id": "Two files have the same name but for its ending; give one of them another name.",
    "not_ours": "Something of yours lies where its results belong; give one of them another name.",
    "not_allowed": "This program is not allowed to read it.",
}
WORDS_OF_REASONS = {  # beginning of a reason in predictions or faces.json: what it means
    quality.NO_FACE: NO_FACE_WORDS,
    quality.NO_USABLE_FACE: NO_FACE_WORDS,
    quality.TOO_SMALL: "The faces are so small that traces of a change could not be seen.",
    quality.TOO_BLURRED: "The faces are too blurred to judge.",
    quality.TOO_DARK: "The faces are too dark to judge.",
    quality.TOO_FEW_FRAMES: "A face was seen well enough in too few moments to judge.",
    quality.NO_FRAMES: STEP_MISSING,
    quality.NO_FACES: STEP_MISSING,
    quality.FACES_UNREADABLE: STEP_MISSING,
}
MOST_PLOT_BYTES = 2 * 2**20
CHANCE_AUC = 0.5
AGGREGATE_WORDS = {
    "mean": "the mean of the scores of its faces",
    "mean, calibrated": "the mean of the scores of its faces, turned into a probability that was fitted on validation videos",
    "lowest-person": "that of the person who looks least real (people seen in fewer than 3 frames are ignored)",
    "confident": "the mean of the scores of its faces, those far from 0.5 counting more",
}
GROUPS = "Validation: set apart from training, to adjust the network; a group: videos that belong together, such as of one person"
STARTS = {  # `starting_weights` of a model card: what they are
    "base": "the weights that come with this program, which have learnt from real portraits and fakes made of them",
    "imagenet": "weights that tell apart the things of everyday photos (ImageNet)",
    "noisy-student": "weights that tell apart the things of everyday photos (ImageNet, noisy student)",
    "file": "the weights of another training",
    "averaged": "several trainings, whose weights were averaged",
    "none": "random numbers",
}
BLENDS = "real faces and blends of them"
ALL_KINDS = "real faces, blends and exchanges of them, and synthetic clips of them"  # base_weights/average_weights.py
NO_DEEPFAKES = (
    "these weights have learnt from {learnt}, never from deepfakes: take a verdict as a hint to look closer "
    '(README: "What it can and cannot see")'
)
SYNTHETIC = "these weights have learnt from synthetic clips: what they say of filmed people or deepfakes is untested"


def are_metrics(entries):
    """Tell whether parsed JSON is {metric: {"value", "interval"}}, as `intervals.describe` returns it."""
    return isinstance(entries, dict) and all(
        isinstance(entry, dict) and {"value", "interval"} <= entry.keys() for entry in entries.values()
    )


def read_model_facts(weights):
    """Return the model card of the weights, {} if there is none. Its metrics and training are {} if not understood."""
    path = model_record.record_path(weights)
    record = files.read_json(path, calibration={}, metrics={}, provenance={}, trained_on={}, weights_digest="")
    if not model_record.is_model_record(record):
        return {}
    return record | {
        "metrics": {name: entries for name, entries in record["metrics"].items() if are_metrics(entries)},
        "trained_on": record["trained_on"] if is_training(record["trained_on"]) else {},
    }


def is_training(known):
    """Tell whether a JSON object says what a scorer was trained on, as 03 writes it."""
    numbers = [known.get(name) for name in ("real_videos", "fake_videos", "faces", "self_blend")]
    folders = known.get("fake_folders")
    if not all(isinstance(n, (int, float)) and 0 <= n < predictions.LARGEST_NUMBER for n in numbers):
        return False
    return isinstance(folders, list) and all(isinstance(name, str) for name in folders)


def read_metrics(path):
    """Return metrics.json, without what is not understood."""
    metrics = files.read_json(path, metrics={}, subgroups={}, made_from={})
    return metrics | {"metrics": metrics["metrics"] if are_metrics(metrics["metrics"]) else {}}


def read_robustness(output_dir, weights_digest):
    """Return (rows of robustness.csv, bytes of its plot or None, None or why an existing table is left out)."""
    table, plot = output_dir / paths.ROBUSTNESS_TABLE, output_dir / paths.ROBUSTNESS_PLOT
    if not table.is_file():
        return [], None, None
    made_from = files.read_json(output_dir / paths.ROBUSTNESS_SCORES, made_from={})["made_from"]
    if not weights_digest or made_from.get("weights_digest") != weights_digest:
        return [], None, "of other weights"
    try:
        rows = verdicts.read_table(table, ("corruption", "severity"), "03c_robustness.py")
    except InputError:
        return [], None, "of an older version or damaged"
    has_plot = plot.is_file() and plot.stat().st_size <= MOST_PLOT_BYTES
    return rows, plot.read_bytes() if has_plot else None, None


def foreign_faces(scored_by, weights_digest):
    """Return how many faces were scored by other weights. `scored_by`: {first digits of the weights' digest: number of faces}."""
    return sum(n for known, n in scored_by.items() if weights_digest and not weights_digest.startswith(known or ""))


def learnt_from(record):
    """Return what weights that never saw deepfakes have learnt from. An average of weights may know synthetic clips too."""
    return ALL_KINDS if record.get("averaged") and record.get("drawn") else BLENDS


def training_data(record):
    """Return what the scorer was trained on, as far as its model card says."""
    if not record:
        return "unknown videos"
    known = record["trained_on"]
    blends = record.get("fakes") == SELF_BLENDED_FACES or known.get("self_blend") == 1
    what = f"{learnt_from(record)}, no deepfakes" if blends else "real and fake videos"
    if known:
        videos = {name: known[f"{name}_videos"] for name in CLASS_NAMES[::-1]}
        counts = " and ".join(f"{number:,} {name}" for name, number in videos.items() if number)
        what += f": {known['faces']:,} faces of {counts} videos or photos"
        if folders := known["fake_folders"]:
            what += f"; fakes from {', '.join(folders)}"
        if known["self_blend"] and not blends:
            what += f"; {known['self_blend']:.0%} of the pairs were a real face and a blend of it"
    elif provenance := record["provenance"].get("data"):
        what += f": {provenance}"
    return what


def model_facts(record, weights, aggregate):
    """Return {term: text} about the scorer that judged. `aggregate`: the rule in metrics.json that made a video's score."""
    score = {"A video's score": AGGREGATE_WORDS.get(aggregate, aggregate or "unknown")}
    if not record:
        lost = f"unknown: {model_record.record_path(weights).name} was not found"
        return {"Network": "unknown network", "File": lost, **score}
    fitted = record["calibration"].get("fitted_on")
    start, size = record.get("starting_weights"), record.get("input_size")
    return {
        "Network": f"EfficientNet{record.get('backbone')}",
        "What it sees": f"one face at a time, resized to {size} × {size} pixels",
        "Training started from": STARTS.get(start, start or "unknown weights"),
        "P(fake) matched to shares of fakes": f"{fitted}. {GROUPS}" if fitted else "no",
        **score,
        "File": f"{weights.name}; its digest, a fingerprint of the content: {record['weights_digest'] or 'unknown'}",
    }


def doubt(record):
    """Return why verdicts by weights with this model card mean little, or None."""
    learnt, doubts = learnt_from(record), []
    if record.get("fakes") == SELF_BLENDED_FACES:
        doubts.append(NO_DEEPFAKES.format(learnt=learnt))
    if record.get("drawn") and learnt != ALL_KINDS:
        doubts.append(SYNTHETIC)
    auc = record.get("metrics", {}).get("val_faces", {}).get("roc_auc")
    if not auc:
        return "; ".join(doubts) or None
    tested = f"ROC AUC {auc['value']:.2f} on faces set apart from training; 0.5 is guessing, 1 perfect"
    if not auc["interval"] and auc.get("method") not in (intervals.AT_LIMIT, intervals.ALIKE):
        doubts.append(
            f"these weights were tested on too few people to say how good they are ({tested}): take their verdicts as hints"
        )
    elif (low := auc["interval"][0] if auc["interval"] else auc["value"]) <= CHANCE_AUC:
        lowest = f", interval from {low:.2f}" if auc["interval"] else ""
        doubts.append(
            f"these weights were not shown to be better than chance ({tested}{lowest}): the verdicts mean little"
        )
    return "; ".join(doubts) or None


def plain_words(reason, code):
    """Return a sentence that says what a reason means, or None if there is none for it."""
    begins = (words for text, words in WORDS_OF_REASONS.items() if (reason or "").startswith(text))
    return WORDS_OF_CODES.get(code) or next(begins, None)
