"""Measure where darkness, blur and small size leave too little of a face to judge: the evidence for common/constants.py.

Reads   split_dataset/ (its real test faces) and weights with their .json   (02_prepare_dataset.py, 03_train_cnn.py)
Writes  nothing; prints a table
Rerun   measures again, the same for the same seed

As tools/evaluate_self_blended.py: each face makes --draws pairs, the real face and its blend, both damaged alike. The table has
the ROC AUC of every damage, and what common/quality.py measures on the damaged faces.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import degrade
from common.batches import blended_pairs, load_part, plain_batches
from common.calibration import calibrate, read_parameters
from common.cli import add_path, add_seed, make_parser, positive, require, stop
from common.constants import MARGIN, REAL
from common.metrics import roc_auc
from common.model import BASE_WEIGHTS, load_model
from common.paths import SPLIT_TABLE, locate
from common.predictions import BATCH, read_split
from common.quality import measure
from common.records import InputError
from tools.evaluate_self_blended import FRESH, degraded

LIGHTS = (0.5, 0.25, 0.12, 0.09, 0.06, 0.04)  # factors on grey levels
NOISE_SIGMAS = (0.0, 3.0)  # grey levels, after the light was taken away
BLURS = (1, 2, 3, 4, 6)  # standard deviation, px of 128
SMEARS = (0.06, 0.12, 0.2, 0.3)  # of the crop's width
SIZES_PX = (64, 48, 40, 32, 24, 16)  # width of the face


def damages():
    """Return {name: function of (face_rgb, rng)}."""
    steps = {"none": lambda face, rng: face}
    for light in LIGHTS:
        for sigma in NOISE_SIGMAS:
            steps[f"light {light}, noise {sigma:g}"] = lambda f, rng, a=light, s=sigma: degrade.darken(f, a, s, 1, rng)
    for sigma in BLURS:
        steps[f"out of focus, {sigma} px"] = lambda f, rng, s=sigma: degrade.defocus(f, s * len(f) / 128)
    for share in SMEARS:
        steps[f"motion, {share} of the width"] = lambda f, rng, s=share: degrade.smear(
            f, s * len(f), rng.uniform(0, np.pi)
        )
    for size in SIZES_PX:
        steps[f"face {size} px wide"] = lambda f, rng, s=size: degrade.shrink(f, min(1, s * (1 + 2 * MARGIN) / len(f)))
    return steps


def build_parser():
    parser = make_parser(__doc__)
    add_path(parser, "split_dir")
    parser.add_argument(
        "--weights", metavar="PATH", default=BASE_WEIGHTS, help="an .h5 file (default: the base weights)"
    )
    parser.add_argument("--draws", type=positive, default=2, metavar="N", help="pairs per face (default: %(default)s)")
    add_seed(parser)
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    split_dir = locate(args, "split_dir")
    require(split_dir / SPLIT_TABLE, "it would list the test faces", "02_prepare_dataset.py")
    rows = [row for row in read_split(split_dir)["test"] if row["label"] == REAL]
    try:
        model, record = load_model(args.weights)
        parameters = read_parameters(record, "faces")
        part = load_part(rows, record["input_size"], None)
    except InputError as error:
        stop(str(error))
    draws = [blended_pairs(part, (FRESH + number, args.seed)) for number in range(args.draws)]
    print(f"{'damage':28}{'ROC AUC':>8}  brightness: median   sharpness: 1 %, median, 99 %")
    for name, step in damages().items():
        labels, scores, measures = [], [], []
        for number, draw in enumerate(draws):
            damaged = degraded(draw, step, args.seed + number)
            found = model.predict(plain_batches(damaged.faces_rgb, damaged.labels, BATCH), verbose=0)[:, 0]
            labels, scores = [*labels, *damaged.labels], [*scores, *calibrate(found, parameters)]
            measures += [measure(face_rgb[..., ::-1]) for face_rgb in damaged.faces_rgb]
        brightness, sharpness = np.array(measures).T
        low, median, high = np.percentile(sharpness, (1, 50, 99))
        auc = roc_auc(np.array(labels), np.array(scores))
        print(f"{name:28}{auc:8.3f}{np.median(brightness):19.1f}{low:16.1f}{median:9.1f}{high:9.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
