"""What a network's record and its tests say of it, checked and in words."""

from common.constants import CLASS_NAMES, SELF_BLENDED_FACES
from common.metrics import ALIKE, AT_LIMIT
from common.model_record import record_path
from common.paths import ROBUSTNESS_PLOT, ROBUSTNESS_SCORES, ROBUSTNESS_TABLE
from common.predictions import LARGEST_NUMBER
from common.verdicts import read_object, read_table

MOST_PLOT_BYTES = 2 * 2**20
CHANCE_AUC = 0.5
AGGREGATE_WORDS = {
    "mean": "the mean of the scores of its faces",
    "mean, calibrated": "the mean of the scores of its faces, turned into a probability that was fitted on validation videos",
    "lowest-person": "that of the person who looks least real (people seen in fewer than 3 frames are ignored)",
    "confident": "the mean of the scores of its faces, those far from 0.5 counting more",
}
GROUPS = "Validation: set apart from training, to adjust the network; a group: videos that belong together, such as of one person"
STARTS = {  # of a training: starting_weights of its record
    "base": "the weights that come with this program, which have learnt from real portraits and fakes made of them",
    "imagenet": "weights that tell apart the things of everyday photos (ImageNet)",
    "noisy-student": "weights that tell apart the things of everyday photos (ImageNet, noisy student)",
    "file": "the weights of another training", "averaged": "several trainings, whose weights were averaged",
    "none": "random numbers",
}  # fmt: skip
BLENDS = "real faces and blends of them"
ALL_KINDS = "real faces, blends and exchanges of them, and clips drawn of them"  # tools/average_weights.py
NO_DEEPFAKES = (
    "these weights have learnt from {learnt}, never from deepfakes: take a verdict as a hint to look closer "
    '(README: "What it can and cannot see")'
)
DRAWN = (
    "these weights have learnt from clips that a program drew: what they say of filmed people or deepfakes is untested"
)


def objects_in(record, names):
    """Return the record with {} for each of its entries `names` that is no object."""
    return record | {name: record[name] if isinstance(record.get(name), dict) else {} for name in names}


def are_metrics(entries):
    """Tell whether parsed JSON is {metric: {"value", "interval"}}, as `common.metrics.describe` gives it."""
    return isinstance(entries, dict) and all(
        isinstance(entry, dict) and {"value", "interval"} <= entry.keys() for entry in entries.values()
    )


def read_model_facts(weights):
    """Return the record of the weights, {} if there is none; what it says of metrics and the like is {} if not understood."""
    record = read_object(record_path(weights))
    if not record:
        return {}
    record = objects_in(record, ("calibration", "metrics", "provenance", "trained_on"))
    return record | {
        "metrics": {name: entries for name, entries in record["metrics"].items() if are_metrics(entries)},
        "trained_on": record["trained_on"] if is_training(record["trained_on"]) else {},
        "weights_digest": str(record.get("weights_digest") or ""),
    }


def is_training(known):
    """Tell whether parsed JSON says what a network was trained on, as 03 writes it."""
    numbers = [known.get(name) for name in ("real_videos", "fake_videos", "faces", "self_blend")]
    folders = known.get("fake_folders")
    return all(isinstance(n, (int, float)) and 0 <= n < LARGEST_NUMBER for n in numbers) and (
        isinstance(folders, list) and all(isinstance(name, str) for name in folders)
    )


def read_metrics(path):
    """Return metrics.json, without what is not understood."""
    metrics = objects_in(read_object(path), ("metrics", "subgroups", "made_from"))
    return metrics | {"metrics": metrics["metrics"] if are_metrics(metrics["metrics"]) else {}}


def read_robustness(output_dir, weights_digest):
    """Return (rows of robustness.csv, bytes of its plot or None, whether there is a table but of other weights)."""
    table, plot = output_dir / ROBUSTNESS_TABLE, output_dir / ROBUSTNESS_PLOT
    made_from = objects_in(read_object(output_dir / ROBUSTNESS_SCORES), ["made_from"])["made_from"]
    if not weights_digest or made_from.get("weights_digest") != weights_digest:
        return [], None, table.is_file()
    rows = read_table(table, ("kind", "strength"), "03c_robustness.py") if table.is_file() else []
    has_plot = plot.is_file() and plot.stat().st_size <= MOST_PLOT_BYTES
    return rows, plot.read_bytes() if has_plot else None, False


def foreign_faces(scored_by, weights_digest):
    """Return how many faces were scored by other weights; `scored_by`: {first digits of the weights' digest: number of faces}."""
    return sum(n for known, n in scored_by.items() if weights_digest and not weights_digest.startswith(known))


def learnt_from(record):
    """Return what weights without deepfakes have learnt from: an average may know drawn clips besides real faces."""
    return ALL_KINDS if record.get("averaged") and record.get("drawn") else BLENDS


def training_data(record):
    """Return what the network was trained on, as far as its record says."""
    if not record:
        return "unknown videos"
    known = record["trained_on"]
    blends = record.get("fakes") == SELF_BLENDED_FACES or known.get("self_blend") == 1
    what = "real and fake videos"
    if blends:
        what = f"{learnt_from(record)}, no deepfakes"
    if known:
        counts = " and ".join(
            f"{known[f'{kind}_videos']:,} {kind}" for kind in CLASS_NAMES[::-1] if known[f"{kind}_videos"]
        )
        what += f": {known['faces']:,} faces of {counts} videos or photos"
        if folders := known["fake_folders"]:
            what += f"; fakes from {', '.join(folders)}"
        if known["self_blend"] and not blends:
            what += f"; {known['self_blend']:.0%} of the pairs were a real face and a blend of it"
    elif provenance := record["provenance"].get("data"):
        what += f": {provenance}"
    return what


def model_facts(record, weights, aggregate):
    """Return {term: text} that says which network judged; `aggregate`: how metrics.json names what made a video's score."""
    score = {"A video's score": AGGREGATE_WORDS.get(aggregate, aggregate or "unknown")}
    if not record:
        return {"Network": "unknown network", "File": f"unknown: {record_path(weights).name} was not found", **score}
    fitted = record["calibration"].get("fitted_on")
    start, size = record.get("starting_weights"), record.get("input_size")
    return {
        "Network": f"EfficientNet{record.get('backbone')}",
        "What it sees": f"one face at a time, resized to {size} × {size} pixels",
        "Training started from": STARTS.get(start, start or "unknown weights"),
        "P(fake) matched to shares of fakes": f"{fitted}. {GROUPS}" if fitted else "no",
        **score,
        "File": f"{weights.name}; its digest, a fingerprint of the content: {record['weights_digest'] or 'unknown'}",
    }  # fmt: skip


def doubt(record):
    """Return why the verdicts of weights with this record mean little, or None."""
    learnt, doubts = learnt_from(record), []
    if record.get("fakes") == SELF_BLENDED_FACES:
        doubts.append(NO_DEEPFAKES.format(learnt=learnt))
    if record.get("drawn") and learnt != ALL_KINDS:
        doubts.append(DRAWN)
    auc = (record.get("metrics") or {}).get("val_faces", {}).get("roc_auc")
    if not auc:
        return "; ".join(doubts) or None
    tested = f"ROC AUC {auc['value']:.2f} on faces set apart from training; 0.5 is guessing, 1 perfect"
    if not auc["interval"] and auc.get("method") not in (AT_LIMIT, ALIKE):
        doubts.append(
            f"these weights were tested on too few people to say how good they are ({tested}): take their verdicts as hints"
        )
    elif (low := auc["interval"][0] if auc["interval"] else auc["value"]) <= CHANCE_AUC:
        lowest = f", interval from {low:.2f}" if auc["interval"] else ""
        doubts.append(
            f"these weights were not shown to be better than chance ({tested}{lowest}): the verdicts mean little"
        )
    return "; ".join(doubts) or None
