"""Measure what self-blending costs: images/s of the input alone and of the training, with and without it, in turns.

Reads   split_dataset/, such as make demo leaves   (02_prepare_dataset.py)
Writes  nothing; prints a table
Rerun   measures again

    python benchmarks/self_blend.py --data-dir demo
"""

import statistics
import sys
import time
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli, paths
from common.errors import InputError
from deepfake.dataset import table
from deepfake.model import batches, efficientnet, training
from deepfake.parallel import pool

BATCH_SIZE = 32
INPUT_STEPS, TRAINING_STEPS = 60, 30  # batches of one measurement
INPUT_SIZE = 128  # px
LEARNING_RATE = 1e-4
SHARES = {"without": 0.0, "--self-blend 1": 1.0}


def repeated(part, steps):
    """Return the part repeated so often that an epoch has at least `steps` steps."""
    times = -(-2 * steps * BATCH_SIZE // len(part.labels))
    return batches.Part(*(np.concatenate([values] * times) for values in part))


def input_rate(batches):
    """Return the images/s of the batches alone, made as a training has them made."""
    started = time.perf_counter()
    images = sum(len(faces) for faces, _ in islice(batches, INPUT_STEPS))
    return images / (time.perf_counter() - started)


def training_rate(model, batches):
    """Return the images/s of training on them."""
    started = time.perf_counter()
    model.fit(batches.as_dataset(), steps_per_epoch=TRAINING_STEPS, epochs=1, shuffle=False, verbose=0)
    return TRAINING_STEPS * BATCH_SIZE / (time.perf_counter() - started)


def measure(part, seed, repetitions):
    """Return {(what, name): images/s of each round}, one round after the other, every second in the opposite order."""

    def epochs(share):
        return batches.prefetch(lambda epoch: batches.augmented_batches(part, BATCH_SIZE, seed, epoch, share))

    rates = {}
    with ExitStack() as stack:  # as 03 does, before there is a model
        batches_of = {name: stack.enter_context(epochs(share)) for name, share in SHARES.items()}
        model = efficientnet.build_model("B0", INPUT_SIZE, for_training=True)
        optimizer = training.make_optimizer(LEARNING_RATE, TRAINING_STEPS)
        model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=False)
        training_rate(model, batches.augmented_batches(part, BATCH_SIZE, seed, 1))  # traces the model once
        for number in range(1, repetitions + 1):
            for name in sorted(SHARES, reverse=number % 2 == 0):
                rates.setdefault(("input alone", name), []).append(input_rate(batches_of[name](number)))
                rates.setdefault(("training", name), []).append(training_rate(model, batches_of[name](number)))
    return rates


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    parser.add_argument(
        "--repetitions", type=cli.positive, default=5, metavar="N", help="in turns (default: %(default)s)"
    )
    cli.add_seed(parser)
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    split_dir = cli.locate(args, "split_dir")
    cli.require(split_dir / paths.SPLIT_TABLE, "it would list the faces", "02_prepare_dataset.py")
    try:
        part = batches.load_part(table.read_split(split_dir)["train"], INPUT_SIZE, None)
    except InputError as error:
        cli.stop(str(error))
    part = repeated(part, max(INPUT_STEPS, TRAINING_STEPS))
    rates = measure(part, args.seed, args.repetitions)
    print(
        f"images/s of {INPUT_SIZE} px on {len(pool.usable_cpus())} CPUs: median (lowest to highest) of {args.repetitions}"
    )
    for (what, name), found in rates.items():
        print(f"{what:12} {name:16} {statistics.median(found):7.0f} ({min(found):.0f} to {max(found):.0f})")
    for what in ("input alone", "training"):
        with_blends, without = (statistics.median(rates[what, name]) for name in reversed(SHARES))
        print(f"{what}: {with_blends / without:.0%} of the speed without self-blending")
    return 0


if __name__ == "__main__":
    sys.exit(main())
