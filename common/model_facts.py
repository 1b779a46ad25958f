"""What a network's record and its tests say of it, checked and in words."""

from common.constants import CLASS_NAMES, SELF_BLENDED_FACES
from common.metrics import AT_LIMIT
from common.model import record_path
from common.predictions import LARGEST_NUMBER
from common.verdicts import read_object

CHANCE_AUC = 0.5
ONLY_BLENDS = (
    "these weights have learnt from real faces and blends of them, never from deepfakes: take a verdict as a hint to look closer "
    '(README: "What it can and cannot see")'
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


def training_data(record):
    """Return what the network was trained on, as far as its record says."""
    if not record:
        return "unknown videos"
    known, blends = record["trained_on"], record.get("fakes") == SELF_BLENDED_FACES
    what = "real faces and blends of them, no fake videos" if blends else "real and fake videos"
    if known:
        counts = " and ".join(
            f"{known[f'{kind}_videos']:,} {kind}" for kind in CLASS_NAMES[::-1] if known[f"{kind}_videos"]
        )
        what += f": {known['faces']:,} faces of {counts} videos"
        if folders := known["fake_folders"]:
            what += f"; fakes from {', '.join(folders)}"
        if known["self_blend"] and not blends:
            what += f"; {known['self_blend']:.0%} of the pairs were a real face and a blend of it"
    elif provenance := record["provenance"].get("data"):
        what += f": {provenance}"
    return what


def model_facts(record, weights):
    """Return {term: text} that says which network judged."""
    if not record:
        return {"Weights": f"unknown: {record_path(weights).name} was not found", "Network": "unknown network"}
    return {
        "Weights": f"{weights.name}, digest {record.get('weights_digest', 'unknown')}",
        "Network": f"EfficientNet{record.get('backbone')} that sees faces at {record.get('input_size')} px",
        "Started from": f"{record.get('starting_weights', 'unknown')} weights",
        "Calibration": record["calibration"].get("fitted_on") or "none",
    }


def doubt(record):
    """Return why the verdicts of weights with this record mean little, or None."""
    doubts = [ONLY_BLENDS] if record.get("fakes") == SELF_BLENDED_FACES else []
    auc = (record.get("metrics") or {}).get("val_faces", {}).get("roc_auc")
    if not auc:
        return "; ".join(doubts) or None
    tested = f"ROC AUC {auc['value']:.2f} on their own validation faces"
    if not auc["interval"] and auc.get("method") != AT_LIMIT:
        doubts.append(
            f"these weights were tested on too few people to say how good they are ({tested}): take their verdicts as hints"
        )
    elif (low := auc["interval"][0] if auc["interval"] else auc["value"]) <= CHANCE_AUC:
        doubts.append(
            f"these weights were not shown to be better than chance ({tested}, interval from {low:.2f}): the verdicts mean little"
        )
    return "; ".join(doubts) or None
