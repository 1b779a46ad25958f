"""Draw real faces, below each where it is blended, and below that its self-blended version.

Reads   split_dataset/split.csv and its faces   (02_prepare_dataset.py)
Writes  the PNG given as --out
Rerun   draws it again, the same for the same seed
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli
from common.constants import REAL
from deepfake.augmentation import self_blending
from deepfake.dataset import table
from deepfake.model import batches, efficientnet
from deepfake.report import plots

NAMES = ("real, as it\nenters the blend", "share of the\nchanged copy", "self-blended,\ncounts as fake")
SIDE_IN, NAME_WIDTH = 1.25, 1.0  # of a face; of the names, in faces
GAP = 1.04  # from face to face, in faces


def first_real_faces(rows, count):
    """Return the row of the first real face of each of `count` groups, evenly spread over all groups."""
    firsts = {}
    for row in rows:
        if row["label"] == REAL:
            firsts.setdefault(row["group"], row)
    return [firsts[group] for group in table.evenly_spread(sorted(firsts), count)]


def draw(triples):
    """Return a figure with a column per (real, mask, fake)."""
    figure, axes = plots.new_figure(SIDE_IN * GAP * (len(triples) + NAME_WIDTH), SIDE_IN * GAP * len(NAMES))
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
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    parser.add_argument("--out", required=True, metavar="PNG")
    parser.add_argument("--count", type=cli.positive, default=8, metavar="N", help="faces (default: %(default)s)")
    cli.add_seed(parser)
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    _, parts = table.read_dataset(cli.locate(args, "split_dir"))
    part = batches.load_part(first_real_faces(parts["train"], args.count), efficientnet.DEFAULT_INPUT_SIZE, None)
    triples = []
    for number, face in enumerate(zip(part.faces_rgb, part.landmarks, strict=True)):
        real, fake, mask = self_blending.self_blend(*face, np.random.default_rng((args.seed, number)))
        triples.append((real, mask, fake))
    plots.save_figure(draw(triples), Path(args.out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
