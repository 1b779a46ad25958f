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
from common.calibration import read_parameters
from common.cli import add_path, add_seed, make_parser, positive, stops_in_words
from common.constants import MARGIN, REAL
from common.dataset import read_dataset
from common.metrics import roc_auc
from common.model import BASE_WEIGHTS
from common.paths import locate
from common.quality import measure
from tools.evaluate_self_blended import load_pairs, score_pairs

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


@stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    _, parts = read_dataset(locate(args, "split_dir"))
    model, record, draws = load_pairs([row for row in parts["test"] if row["label"] == REAL], args)
    calibration = read_parameters(record, "faces")
    print(f"{'damage':28}{'ROC AUC':>8}  brightness: median   sharpness: 1 %, median, 99 %")
    for name, step in damages().items():
        labels, scores, faces_rgb = score_pairs(model, calibration, draws, step, args.seed)
        brightness, sharpness = np.array([measure(face_rgb[..., ::-1]) for face_rgb in faces_rgb]).T
        low, median, high = np.percentile(sharpness, (1, 50, 99))
        auc = roc_auc(labels, scores)
        print(f"{name:28}{auc:8.3f}{np.median(brightness):19.1f}{low:16.1f}{median:9.1f}{high:9.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
