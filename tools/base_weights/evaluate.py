"""Measure weights on fakes made of real faces: ROC AUC as they are and after what videos do to faces.

Reads   split_dataset/ (its real test faces) and weights with their .json   (02_prepare_dataset.py, 03_train_cnn.py)
Writes  the JSON given as --out, if any; prints a table
Rerun   measures again, the same for the same seed

Each real face makes --draws pairs with fresh seeds: the face as it enters a blend (1) and the blend (0). With --fakes exchanged
the fake has the face of somebody else of the same set, by Poisson blending (Perez et al., "Poisson Image Editing", SIGGRAPH 2003;
OpenCV's seamlessClone), which no training of ours uses. Both halves of a pair get the same degradation, so that only the blend
tells them apart. Intervals are over groups (people). Light is a factor on grey levels; H.264 is one intra frame of the crop.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common import cli, files
from common.constants import FAKE, MARGIN, REAL
from common.errors import InputError
from deepfake.augmentation import corruptions, self_blending
from deepfake.dataset import table
from deepfake.evaluation import intervals, scoring
from deepfake.evaluation.calibration import calibrate, read_parameters
from deepfake.model import batches, weights

LIGHT, DARK_NOISE_SIGMA = 0.25, 3.0  # factor on grey levels; grey levels of noise at that light
MOTION_SHARE = 0.06  # of the crop's width
CRF = 36
SMALL_FACE_PX = 48  # width of the face; the crop is wider by its margins
JPEG_QUALITY = 30
AS_THEY_ARE = "as they are"
FRESH = 1000  # the number of the first draw; 03 blends validation and test with the seed alone


def small_scale(face_rgb):
    """Return how much a crop must shrink for its face to be 48 px wide; never enlarge."""
    return min(1, SMALL_FACE_PX * (1 + 2 * MARGIN) / len(face_rgb))


DEGRADATIONS = {
    AS_THEY_ARE: lambda face_rgb, rng: face_rgb,
    "a quarter of the light, with noise": lambda face_rgb, rng: corruptions.darken(
        face_rgb, LIGHT, DARK_NOISE_SIGMA, 1, rng
    ),
    "motion blur": lambda face_rgb, rng: corruptions.smear(
        face_rgb, MOTION_SHARE * len(face_rgb), rng.uniform(0, np.pi)
    ),
    "H.264 at CRF 36": lambda face_rgb, rng: corruptions.compress_h264(face_rgb, CRF),
    "face 48 px wide": lambda face_rgb, rng: corruptions.shrink(face_rgb, small_scale(face_rgb)),
    "JPEG at quality 30": lambda face_rgb, rng: corruptions.compress_jpeg(face_rgb, JPEG_QUALITY),
}


def degraded(part, step, seed):
    """Return the Part with each picture degraded; `part` holds the reals and then their blends."""
    half = len(part.labels) // 2
    faces_rgb = [step(face, np.random.default_rng((seed, place % half))) for place, face in enumerate(part.faces_rgb)]
    return batches.Part(np.stack(faces_rgb), part.labels, part.landmarks)


def exchange_face(target_rgb, landmarks, source_rgb, source_landmarks, region):
    """Return the target, uint8 RGB, with a region ("face" or "inner") of the source's face in its place, seamlessly."""
    size = len(target_rgb)
    laid = self_blending.lay_over(source_rgb, source_landmarks, landmarks, (size, size))
    mask = np.zeros((size, size), np.uint8)
    mask[2:-2, 2:-2] = 255 * (
        self_blending.region_mask(landmarks, size, region)[2:-2, 2:-2] > 0
    )  # seamlessClone needs a border
    left, top, width, height = cv2.boundingRect(mask)
    return cv2.seamlessClone(laid, target_rgb, mask, (left + width // 2, top + height // 2), cv2.NORMAL_CLONE)


def exchanged_pairs(part, groups, seed):
    """Return a Part of the faces of `part`, all real, and then of each with the face of a random other group, as fakes."""
    groups, fakes = np.asarray(groups), []
    for place, (face_rgb, landmarks) in enumerate(zip(part.faces_rgb, part.landmarks, strict=True)):
        rng = np.random.default_rng([*seed, place])
        source = rng.choice(np.flatnonzero(groups != groups[place]))
        region = rng.choice(["face", "inner"])
        fakes.append(exchange_face(face_rgb, landmarks, part.faces_rgb[source], part.landmarks[source], region))
    labels = np.repeat((REAL, FAKE), len(fakes))
    return batches.Part(np.concatenate([part.faces_rgb, np.stack(fakes)]), labels, np.tile(part.landmarks, (2, 1, 1)))


def load_pairs(rows, args, fakes="blended"):
    """Return (network, its record, [Part of pairs made of the real faces of `rows` with fresh seeds]). Raises InputError."""
    model, record = weights.load_model(args.weights)
    part, groups = batches.load_part(rows, record["input_size"], None), [row["group"] for row in rows]
    if fakes == "exchanged" and len(set(groups)) < 2:
        raise InputError("faces cannot be exchanged: all are of one group")
    seeds = [(FRESH + number, args.seed) for number in range(args.draws)]
    if fakes == "exchanged":
        return model, record, [exchanged_pairs(part, groups, seed) for seed in seeds]
    return model, record, [batches.blended_pairs(part, seed) for seed in seeds]


def score_pairs(model, calibration, draws, step, seed):
    """Return (labels, scores, uint8 RGB faces) of all draws, each face after a degradation."""
    parts = [degraded(part, step, seed + number) for number, part in enumerate(draws)]
    datasets = [batches.plain_batches(part.faces_rgb, part.labels, scoring.BATCH).as_dataset() for part in parts]
    found = [model.predict(dataset, verbose=0)[:, 0] for dataset in datasets]
    labels, faces_rgb = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "faces_rgb"))
    return labels, calibrate(np.concatenate(found), calibration), faces_rgb


def measure(model, calibration, draws, groups, step, seed):
    """Return {"metrics", "mean_real_score"} of pairs after a degradation. `groups`: of each draw's real faces."""
    labels, scores, _ = score_pairs(model, calibration, draws, step, seed)
    metrics = intervals.describe(labels, scores, np.tile(groups, 2 * len(draws)), seed)
    return {"metrics": metrics, "mean_real_score": float(scores[labels == REAL].mean())}


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    parser.add_argument(
        "--weights", metavar="PATH", default=weights.BASE_WEIGHTS, help="an .h5 file (default: the base weights)"
    )
    parser.add_argument("--split", choices=("val", "test"), default="test", help="which part (default: %(default)s)")
    parser.add_argument(
        "--fakes",
        choices=("blended", "exchanged"),
        default="blended",
        help="faces blended with themselves, or exchanged between people (default: %(default)s)",
    )
    parser.add_argument(
        "--draws", type=cli.positive, default=4, metavar="N", help="pairs per face (default: %(default)s)"
    )
    parser.add_argument("--out", metavar="JSON")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    dataset, parts = table.read_dataset(cli.locate(args, "split_dir"))
    rows = [row for row in parts[args.split] if row["label"] == REAL]
    model, record, draws = load_pairs(rows, args, args.fakes)
    calibration, groups = read_parameters(record, "faces"), [row["group"] for row in rows]
    learnt_from = {part.get("data_digest") for part in (record, *record.get("averaged", ()))}
    same, results = learnt_from == {dataset["digest"]}, {}
    known = "the weights come from the training part" if same else "whether the weights have seen them is not known"
    print(
        f"{len(rows)} faces of {len(set(groups))} groups, {args.draws} pairs each, fakes {args.fakes} ({known}); score = P(real)"
    )
    print(f"{'degradation':36}{'ROC AUC':>8}  95 % interval    mean score of reals, change")
    for name, step in DEGRADATIONS.items():
        results[name] = measure(model, calibration, draws, groups, step, args.seed)
        auc, mean = results[name]["metrics"]["roc_auc"], results[name]["mean_real_score"]
        interval = "{:.3f} to {:.3f}".format(*auc["interval"]) if auc["interval"] else auc["method"]
        change = mean - results[AS_THEY_ARE]["mean_real_score"]
        print(f"{name:36}{auc['value']:8.3f}  {interval}   {mean:.3f}  {change:+.3f}", flush=True)
    if args.out:
        settings = {"faces": len(rows), "groups": len(set(groups)), "draws": args.draws, "seed": args.seed}
        files.write_json(Path(args.out), {**settings, "split": args.split, "fakes": args.fakes, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
