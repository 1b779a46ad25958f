"""Measure weights on fakes made of real faces: ROC AUC as they are and corrupted.

Reads   split_dataset/ (its real faces of a part) and weights with their .json   (02_prepare_dataset.py, 03_train_cnn.py)
Writes  the JSON given as --out, if any; prints a table
Rerun   measures again, the same for the same seed

Each real face makes --draws pairs with fresh seeds: the face as it enters a blend (1) and the blend (0). With --fakes exchanged,
the fake has the face of somebody else in the same set, by Poisson blending (Perez et al., "Poisson Image Editing", SIGGRAPH 2003;
OpenCV's seamlessClone), which no training here uses. Both halves of a pair get the same corruption, so that only the blend tells
them apart. Intervals are over groups (people). Light is a factor on grey levels; H.264 is one intra frame of the crop. --limits
goes from mild to severe darkness, blur and small size, and prints what deepfake/preprocessing/quality.py measures on these faces:
the evidence for its limits.
"""

import sys
from functools import partial
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
from deepfake.preprocessing import quality

AS_THEY_ARE = "as they are"
FRESH = 1000  # number of the first pair in its seed; 03 blends validation and test with the seed alone
# Severities of --limits: factors on grey levels; grey levels of noise then; px of 128; shares of the crop's width; face width.
LIGHTS, NOISE_SIGMAS, BLURS_PX = (0.5, 0.25, 0.12, 0.09, 0.06, 0.04), (0.0, 3.0), (1, 2, 3, 4, 6)
SMEARS, SIZES_PX = (0.06, 0.12, 0.2, 0.3), (64, 48, 40, 32, 24, 16)


def keep(face_rgb, rng):
    return face_rgb


def darken(face_rgb, rng, light, sigma):
    return corruptions.darken(face_rgb, light, sigma, 1, rng)


def smear(face_rgb, rng, share):
    return corruptions.smear(face_rgb, share * len(face_rgb), rng.uniform(0, np.pi))


def defocus(face_rgb, rng, sigma_px):
    return corruptions.defocus(face_rgb, sigma_px * len(face_rgb) / 128)


def shrink(face_rgb, rng, size_px):
    """Shrink a crop, which has margins, so that its face is `size_px` wide; never enlarge."""
    return corruptions.shrink(face_rgb, min(1, size_px * (1 + 2 * MARGIN) / len(face_rgb)))


CORRUPTIONS = {  # {name: function of (face_rgb, rng)}
    AS_THEY_ARE: keep,
    "a quarter of the light, with noise": partial(darken, light=0.25, sigma=3.0),
    "motion blur": partial(smear, share=0.06),
    "H.264 at CRF 36": lambda face_rgb, rng: corruptions.compress_h264(face_rgb, 36),
    "face 48 px wide": partial(shrink, size_px=48),
    "JPEG at quality 30": lambda face_rgb, rng: corruptions.compress_jpeg(face_rgb, 30),
}


def corruptions_to_the_limit():
    """Return the corruptions of --limits, like CORRUPTIONS, from mild to severe."""
    return {
        AS_THEY_ARE: keep,
        **{f"light {a}, noise {s:g}": partial(darken, light=a, sigma=s) for a in LIGHTS for s in NOISE_SIGMAS},
        **{f"out of focus, {sigma} px": partial(defocus, sigma_px=sigma) for sigma in BLURS_PX},
        **{f"motion, {share} of the width": partial(smear, share=share) for share in SMEARS},
        **{f"face {size} px wide": partial(shrink, size_px=size) for size in SIZES_PX},
    }


def corrupted(part, corrupt, seed):
    """Return the Part with each picture corrupted, both halves of a pair alike; `part` holds the reals, then their blends."""
    half = len(part.labels) // 2
    rngs = (np.random.default_rng((seed, place % half)) for place in range(2 * half))
    return part._replace(faces_rgb=np.stack(list(map(corrupt, part.faces_rgb, rngs))))


def exchange_face(target_rgb, landmarks, source_rgb, source_landmarks, region):
    """Return the target, uint8 RGB, with a region ("face" or "inner") of the source's face cloned in seamlessly."""
    size = len(target_rgb)
    laid = self_blending.lay_over(source_rgb, source_landmarks, landmarks, (size, size))
    inside = np.s_[2:-2, 2:-2]  # seamlessClone needs a border
    mask = np.zeros((size, size), np.uint8)
    mask[inside] = 255 * (self_blending.region_mask(landmarks, size, region)[inside] > 0)
    left, top, width, height = cv2.boundingRect(mask)
    return cv2.seamlessClone(laid, target_rgb, mask, (left + width // 2, top + height // 2), cv2.NORMAL_CLONE)


def exchanged_pairs(part, groups, seed):
    """Return a Part: the faces of `part`, all real, then each with the face of someone of a random other group, as fakes."""
    groups, fakes = np.asarray(groups), []
    for place, (face_rgb, landmarks) in enumerate(zip(part.faces_rgb, part.landmarks, strict=True)):
        rng = np.random.default_rng([*seed, place])
        source = rng.choice(np.flatnonzero(groups != groups[place]))
        region = rng.choice(["face", "inner"])
        fakes.append(exchange_face(face_rgb, landmarks, part.faces_rgb[source], part.landmarks[source], region))
    labels = np.repeat((REAL, FAKE), len(fakes))
    return batches.Part(np.concatenate([part.faces_rgb, np.stack(fakes)]), labels, np.tile(part.landmarks, (2, 1, 1)))


def make_pairs(part, groups, args):
    """Return --draws Parts of pairs, made of the real faces of `part` with fresh seeds. Raises InputError."""
    seeds = [(FRESH + number, args.seed) for number in range(args.draws)]
    if args.fakes == "blended":
        return [batches.blended_pairs(part, seed) for seed in seeds]
    if len(set(groups)) < 2:
        raise InputError("faces cannot be exchanged: all are of one group")
    return [exchanged_pairs(part, groups, seed) for seed in seeds]


def raw_scores(model, part):
    """Return the model's own scores (n,) of a Part."""
    faces = batches.plain_batches(part.faces_rgb, part.labels, scoring.BATCH)
    return model.predict(faces.as_dataset(), verbose=0)[:, 0]


def measure(model, calibration, draws, groups, corrupt, seed):
    """Return ({"metrics", "mean_real_score"}, uint8 RGB faces) of corrupted pairs. `groups`: of each draw's real faces."""
    parts = [corrupted(part, corrupt, seed + number) for number, part in enumerate(draws)]
    labels, faces_rgb = (np.concatenate([getattr(part, name) for part in parts]) for name in ("labels", "faces_rgb"))
    scores = calibrate(np.concatenate([raw_scores(model, part) for part in parts]), calibration)
    found = intervals.describe(labels, scores, np.tile(groups, 2 * len(draws)), seed)
    return {"metrics": found, "mean_real_score": float(scores[labels == REAL].mean())}, faces_rgb


def real_faces(args):
    """Return (record of the dataset, model, model card, real rows of --split, their Part). Raises InputError."""
    dataset, parts = table.read_dataset(cli.locate(args, "split_dir"))
    rows = [row for row in parts[args.split] if row["label"] == REAL]
    model, record = weights.load_model(args.weights)
    return dataset, model, record, rows, batches.load_part(rows, record["input_size"], None)


def add_options(parser):
    """Add the options that the measuring tools share."""
    cli.add_path(parser, "split_dir")
    path = "an .h5 file (default: the base weights)"
    parser.add_argument("--weights", metavar="PATH", default=weights.BASE_WEIGHTS, help=path)
    parser.add_argument("--split", choices=("val", "test"), default="test", help="which part (default: %(default)s)")
    fakes = "fakes per face (default: %(default)s)"
    parser.add_argument("--draws", type=cli.positive, default=4, metavar="N", help=fakes)
    cli.add_seed(parser)


def build_parser():
    parser = cli.make_parser(__doc__)
    add_options(parser)
    fakes = "faces blended with themselves, or exchanged between people (default: %(default)s)"
    parser.add_argument("--fakes", choices=("blended", "exchanged"), default="blended", help=fakes)
    limits = "corrupt the faces until too little is left of them to judge"
    parser.add_argument("--limits", action="store_true", help=limits)
    parser.add_argument("--out", metavar="JSON")
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    dataset, model, record, rows, part = real_faces(args)
    calibration, groups = read_parameters(record, "faces"), [row["group"] for row in rows]
    draws = make_pairs(part, groups, args)
    learnt_from = {known.get("data_digest") for known in (record, *record.get("averaged", ()))}
    same, results = learnt_from == {dataset["digest"]}, {}
    known = "the weights come from the training part" if same else "whether the weights have seen them is not known"
    settings = {"faces": len(rows), "groups": len(set(groups)), "draws": args.draws, "seed": args.seed}
    pairs = f"{len(rows)} faces of {settings['groups']} groups, {args.draws} pairs each, fakes {args.fakes}"
    print(f"{pairs} ({known}); score = P(real)")
    quality_head = "   brightness: median   sharpness: 1 %, median, 99 %" if args.limits else ""
    print(f"{'corruption':36}{'ROC AUC':>8}  95 % interval    mean score of reals, change{quality_head}")
    for name, corrupt in (corruptions_to_the_limit() if args.limits else CORRUPTIONS).items():
        results[name], faces_rgb = measure(model, calibration, draws, groups, corrupt, args.seed)
        auc, mean = results[name]["metrics"]["roc_auc"], results[name]["mean_real_score"]
        interval = "{:.3f} to {:.3f}".format(*auc["interval"]) if auc["interval"] else auc["method"]
        change = mean - results[AS_THEY_ARE]["mean_real_score"]
        line = f"{name:36}{auc['value']:8.3f}  {interval}   {mean:.3f}  {change:+.3f}"
        if args.limits:
            brightness, sharpness = np.array([quality.measure(face_rgb[..., ::-1]) for face_rgb in faces_rgb]).T
            low, middle, high = np.percentile(sharpness, (1, 50, 99))
            line += f"{np.median(brightness):35.1f}{low:16.1f}{middle:9.1f}{high:9.1f}"
        print(line, flush=True)
    if args.out:
        files.write_json(Path(args.out), {**settings, "split": args.split, "fakes": args.fakes, "results": results})
    return 0


if __name__ == "__main__":
    sys.exit(main())
