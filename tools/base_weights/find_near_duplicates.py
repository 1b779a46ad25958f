"""Look for nearly the same face picture in two parts of a split, such as one photo under two names.

Reads   split_dataset/split.csv and its faces   (02_prepare_dataset.py)
Writes  nothing; prints the pairs of different groups in different parts that are most alike
Rerun   looks again

Faces are compared as small grey pictures, also mirrored, by their correlation. A crop, a recompressed or a recoloured copy stays
above 0.95, two photos of one person mostly do not. Look at the pairs: this finds pictures, not people.
"""

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common import cli
from common.constants import SPLITS
from deepfake.dataset import table
from deepfake.model import batches

SIDE_PX = 32
BLOCK = 256  # faces compared at once with all others: with 100,000 others about 400 MB


def as_vectors(faces_rgb):
    """Return float32 vectors (n, pixels) of length 1: grey, without the outer eighth, mean subtracted."""
    border = SIDE_PX // 8
    grey = faces_rgb[:, border:-border, border:-border].mean(axis=3, dtype=np.float32).reshape(len(faces_rgb), -1)
    grey -= grey.mean(axis=1, keepdims=True)
    return grey / np.maximum(np.linalg.norm(grey, axis=1, keepdims=True), 1e-6)


def alike(faces_rgb, parts, groups, threshold):
    """Return (correlation, first, second) of the pairs in different parts and groups, most alike first."""
    vectors, mirrored = as_vectors(faces_rgb), as_vectors(faces_rgb[:, :, ::-1])
    parts, groups = np.asarray(parts), np.asarray(groups)
    pairs = []
    for start in range(0, len(vectors), BLOCK):
        block = slice(start, start + BLOCK)
        correlation = np.maximum(vectors[block] @ vectors.T, mirrored[block] @ vectors.T)
        apart = (parts[block, None] != parts) & (groups[block, None] != groups)
        for first, second in np.argwhere(apart & (correlation >= threshold)):
            if start + first < second:
                pairs.append((float(correlation[first, second]), start + first, second))
    return sorted(pairs, reverse=True)


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    threshold, count = "correlation (default: %(default)s)", "pairs to print (default: %(default)s)"
    parser.add_argument("--threshold", type=cli.share, default=0.95, metavar="R", help=threshold)
    parser.add_argument("--count", type=cli.positive, default=20, metavar="N", help=count)
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    _, parts = table.read_dataset(cli.locate(args, "split_dir"))
    rows = [row for split in SPLITS for row in parts[split]]
    part = batches.load_part(rows, SIDE_PX, None)
    pairs = alike(part.faces_rgb, [row["split"] for row in rows], [row["group"] for row in rows], args.threshold)
    for correlation, first, second in pairs[: args.count]:
        print(f"{correlation:.3f}  {rows[first]['file']}  {rows[second]['file']}")
    what = f"{len(pairs)} pairs of {len(rows)} faces are in different parts and groups"
    print(f"{what} and correlate at {args.threshold} or more")
    return 0


if __name__ == "__main__":
    sys.exit(main())
