"""Measure where darkness, blur and small size leave too little of a face to judge: the evidence for common/constants.py.

Reads   split_dataset/ (its real test faces) and weights with their .json   (02_prepare_dataset.py, 03_train_cnn.py)
Writes  nothing; prints a table
Rerun   measures again, the same for the same seed

As tools/base_weights/evaluate.py: each face makes --draws pairs, the real face and its blend, both damaged alike. The table has
the ROC AUC of every damage, and what deepfake/preprocessing/quality.py measures on the damaged faces.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common import cli
from common.constants import MARGIN, REAL
from deepfake.augmentation import corruptions
from deepfake.dataset import table
from deepfake.evaluation import metrics
from deepfake.evaluation.calibration import read_parameters
from deepfake.model import weights
from deepfake.preprocessing import quality
from tools.base_weights import evaluate

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
            steps[f"light {light}, noise {sigma:g}"] = lambda f, rng, a=light, s=sigma: corruptions.darken(
                f, a, s, 1, rng
            )
    for sigma in BLURS:
        steps[f"out of focus, {sigma} px"] = lambda f, rng, s=sigma: corruptions.defocus(f, s * len(f) / 128)
    for share in SMEARS:
        steps[f"motion, {share} of the width"] = lambda f, rng, s=share: corruptions.smear(
            f, s * len(f), rng.uniform(0, np.pi)
        )
    for size in SIZES_PX:
        steps[f"face {size} px wide"] = lambda f, rng, s=size: corruptions.shrink(
            f, min(1, s * (1 + 2 * MARGIN) / len(f))
        )
    return steps


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    parser.add_argument(
        "--weights", metavar="PATH", default=weights.BASE_WEIGHTS, help="an .h5 file (default: the base weights)"
    )
    parser.add_argument(
        "--draws", type=cli.positive, default=2, metavar="N", help="pairs per face (default: %(default)s)"
    )
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    _, parts = table.read_dataset(cli.locate(args, "split_dir"))
    model, record, draws = evaluate.load_pairs([row for row in parts["test"] if row["label"] == REAL], args)
    calibration = read_parameters(record, "faces")
    print(f"{'damage':28}{'ROC AUC':>8}  brightness: median   sharpness: 1 %, median, 99 %")
    for name, step in damages().items():
        labels, scores, faces_rgb = evaluate.score_pairs(model, calibration, draws, step, args.seed)
        brightness, sharpness = np.array([quality.measure(face_rgb[..., ::-1]) for face_rgb in faces_rgb]).T
        low, median, high = np.percentile(sharpness, (1, 50, 99))
        auc = metrics.roc_auc(labels, scores)
        print(f"{name:28}{auc:8.3f}{np.median(brightness):19.1f}{low:16.1f}{median:9.1f}{high:9.1f}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
