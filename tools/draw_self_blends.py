"""Draw real faces above their self-blended versions, and between them where each was blended.

Reads   split_dataset/split.csv and its faces   (02_prepare_dataset.py)
Writes  the PNG given as --out
Rerun   draws it again, the same for the same seed
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common.batches import load_part
from common.cli import add_path, add_seed, make_parser, positive, stops_in_words
from common.constants import DEFAULT_INPUT_SIZE, REAL
from common.dataset import evenly_spread, read_dataset
from common.paths import locate
from common.plots import new_figure, save_figure
from common.selfblend import self_blend

NAMES = ("real, as it\nenters the blend", "share of the\nchanged copy", "self-blended,\ncounts as fake")
SIDE_IN, NAME_WIDTH = 1.25, 1.0  # of a face; of the names, in faces
GAP = 1.04  # between faces, in faces


def first_real_faces(rows, count):
    """Return the first face of each group's first real video, of `count` groups spread over all."""
    firsts = {}
    for row in rows:
        if row["label"] == REAL:
            firsts.setdefault(row["group"], row)
    return [firsts[group] for group in evenly_spread(sorted(firsts), count)]


def draw(triples):
    """Return a figure with a column per (real, mask, fake)."""
    figure, axes = new_figure(SIDE_IN * GAP * (len(triples) + NAME_WIDTH), SIDE_IN * GAP * len(NAMES))
    for line, name in enumerate(NAMES):
        axes.text(-0.08, GAP * line + 0.5, name, ha="right", va="center", fontsize=10)
    for column, (real, mask, fake) in enumerate(triples):
        grey = np.repeat((255 * mask[..., None]).astype(np.uint8), 3, axis=2)
        for line, picture in enumerate((real, grey, fake)):
            axes.imshow(picture, extent=(GAP * column, GAP * column + 1, GAP * line + 1, GAP * line))
    axes.set(xlim=(-NAME_WIDTH, GAP * len(triples)), ylim=(GAP * len(NAMES), 0))
    axes.axis("off")
    return figure


def build_parser():
    parser = make_parser(__doc__)
    add_path(parser, "split_dir")
    parser.add_argument("--out", required=True, metavar="PNG")
    parser.add_argument("--count", type=positive, default=8, metavar="N", help="faces (default: %(default)s)")
    add_seed(parser)
    return parser


@stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    _, parts = read_dataset(locate(args, "split_dir"))
    part = load_part(first_real_faces(parts["train"], args.count), DEFAULT_INPUT_SIZE, None)
    triples = []
    for number, (face_rgb, landmarks) in enumerate(zip(part.faces_rgb, part.landmarks, strict=True)):
        real, fake, mask = self_blend(face_rgb, landmarks, np.random.default_rng((args.seed, number)))
        triples.append((real, mask, fake))
    save_figure(draw(triples), Path(args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
