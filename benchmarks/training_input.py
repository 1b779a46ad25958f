"""Measure the training input: images/s of this project against Keras's own with the same augmentation, and what training waits.

Reads   split_dataset/, such as make demo leaves   (02_prepare_dataset.py)
Writes  nothing; prints tables
Rerun   measures again

    python benchmarks/training_input.py --data-dir demo

All decode, resize and augment the same files on all CPUs (OpenCV in one thread) and hand batches of 32 to the `fit` of a model
that looks at one pixel. The first epoch comes from disk, later ones from memory: for this project, and for Keras with `cache()`,
which keeps uint8 faces; Keras as it comes decodes again. One run each, imports apart. Images per CPU second say what the input
takes away from a training on the same CPUs; a busy machine disturbs them less.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from pathlib import Path

import numpy as np
from measure import in_turns, machine, markdown_table, median_and_spread

from common import cli, paths
from common.constants import CLASS_NAMES
from common.errors import InputError
from common.messages import say
from deepfake.augmentation import augment
from deepfake.dataset import table
from deepfake.model import batches, efficientnet, training

BATCH_SIZE = 32
INPUT_SIZES = (128, 224)  # px
EPOCHS = 4  # the first apart
TRAINING_STEPS = 24  # of one measurement: 13 s on 2 cores
LEARNING_RATE = 1e-4
PROJECT, KERAS, CACHED_KERAS = "this project", "Keras", "Keras with cache()"
AUGMENTED, CONSTANT = "augmented batches", "one constant batch"
TIMES_KERAS, LARGEST_LOSS = 3, 0.05  # what this project promises


def project_epochs(split_dir, input_size, seed):
    """Yield the dataset of one epoch after the other, as 03 makes them."""
    part = batches.load_part(table.read_split(split_dir)["train"], input_size, None)
    with batches.prefetch(lambda epoch: batches.augmented_batches(part, BATCH_SIZE, seed, epoch)) as batches_of:
        for epoch in range(1, EPOCHS + 1):
            yield batches_of(epoch).as_dataset()


def keras_epochs(split_dir, input_size, seed, cached=False):
    """Yield the same `image_dataset_from_directory`, augmented face by face, once per epoch."""
    import tensorflow as tf

    keras, _ = efficientnet.load_keras()

    def changed(face, label):
        face = tf.numpy_function(lambda face_rgb: augment.augment(face_rgb, np.random.default_rng()), [face], tf.uint8)
        return tf.ensure_shape(face, (input_size, input_size, 3)), tf.ensure_shape(label, (1,))

    dataset = keras.utils.image_dataset_from_directory(
        split_dir / "train",
        label_mode="binary",
        class_names=list(CLASS_NAMES),
        batch_size=None,
        verbose=False,
        image_size=(input_size, input_size),
        seed=seed,
    )
    dataset = dataset.map(lambda face, label: (tf.cast(face, tf.uint8), label))
    if cached:
        dataset = dataset.cache().shuffle(len(dataset), seed)
    dataset = dataset.map(changed, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(BATCH_SIZE, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
    for _ in range(EPOCHS):
        yield dataset


def cached_keras_epochs(split_dir, input_size, seed):
    """Yield the same, with the decoded faces kept in memory."""
    return keras_epochs(split_dir, input_size, seed, cached=True)


CONTENDERS = {PROJECT: project_epochs, KERAS: keras_epochs, CACHED_KERAS: cached_keras_epochs}


def idle_model(input_size):
    """Return a compiled model that looks at one pixel of a face, so that `fit` costs nothing but its input.

    It takes the uint8 faces as they are: turning them into floats is the model's work.
    """
    keras, _ = efficientnet.load_keras()
    inputs = keras.Input((input_size, input_size, 3), dtype="uint8")
    pixel = keras.layers.Flatten()(keras.layers.Cropping2D(((0, input_size - 1), (0, input_size - 1)))(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid")(pixel))
    model.compile(optimizer="sgd", loss="binary_crossentropy", jit_compile=False)
    return model


def cpu_seconds():
    """Return the CPU time of this process and of those that it has running, seconds."""
    used_s = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        used_s += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")  # proc(5): utime, stime
    return used_s


def contend(name, split_dir, input_size, seed):
    """Print the images/s of one contender's first epoch and of the later ones as JSON, and those per second of CPU time."""
    import cv2

    cv2.setNumThreads(1)
    model = idle_model(input_size)
    model.fit(np.zeros((2, input_size, input_size, 3), np.uint8), np.zeros((2, 1)), verbose=0)  # traces it
    epochs, images, seconds, cpu_s = CONTENDERS[name](split_dir, input_size, seed), [], [], []
    for _ in range(EPOCHS):
        started, cpu_started = time.perf_counter(), cpu_seconds()
        epoch_batches = next(epochs)
        model.fit(epoch_batches, shuffle=False, verbose=0)
        seconds.append(time.perf_counter() - started)
        cpu_s.append(cpu_seconds() - cpu_started)
        images.append(len(epoch_batches) * BATCH_SIZE)
    later = sum(images[1:])
    rates = {"first_epoch": images[0] / seconds[0], "later_epochs": later / sum(seconds[1:])}
    print(json.dumps({**rates, "later_epochs_cpu": later / sum(cpu_s[1:])}))
    return 0


def training_part(split_dir):
    """Return the Part of the training faces, no more of each class than TRAINING_STEPS steps take."""
    part = batches.load_part(table.read_split(split_dir)["train"], INPUT_SIZES[0], None)
    most = TRAINING_STEPS * BATCH_SIZE // 2
    kept = np.concatenate([np.flatnonzero(part.labels == label)[:most] for label in range(len(CLASS_NAMES))])
    return batches.Part(*(values[kept] for values in part))


def measure_waiting(split_dir, seed, repetitions):
    """Return ({name: (seconds, CPU seconds) of each round}, steps) of training on augmented batches and on a constant one."""
    efficientnet.quiet_libraries()
    import tensorflow as tf

    part = training_part(split_dir)
    first = batches.augmented_batches(part, BATCH_SIZE, seed, 1)
    steps, warm_up = len(first), first.as_dataset()
    # Without the same options it took 20 s instead of 13 in two of three rounds, each right after an augmented epoch.
    constant = tf.data.Dataset.from_tensors(first[0]).repeat(steps).with_options(warm_up.options())
    model = efficientnet.build_model("B0", INPUT_SIZES[0], for_training=True)
    optimizer = training.make_optimizer(LEARNING_RATE, steps * repetitions)
    model.compile(optimizer=optimizer, loss="binary_crossentropy", metrics=["accuracy"], jit_compile=False)
    times = {AUGMENTED: [], CONSTANT: []}
    with batches.prefetch(lambda epoch: batches.augmented_batches(part, BATCH_SIZE, seed, epoch)) as batches_of:
        for epoch_batches in (warm_up, constant):
            model.fit(epoch_batches, steps_per_epoch=2, verbose=0)  # traces it
        for number in range(1, repetitions + 1):
            inputs = {AUGMENTED: batches_of(number).as_dataset(), CONSTANT: constant}
            for name, epoch_batches in sorted(inputs.items(), reverse=number % 2 == 0):
                started, cpu_started = time.perf_counter(), cpu_seconds()
                model.fit(epoch_batches, shuffle=False, verbose=0)
                times[name].append((time.perf_counter() - started, cpu_seconds() - cpu_started))
                say(f"training, round {number} of {repetitions}: {name}: {times[name][-1][0]:.1f} s for {steps} steps")
    return times, steps


def in_words(reached, target):
    return f"target {target}: {'kept' if reached else 'missed'}"


def report_input(size, costs):
    """Print the table of one input size, and how many times the others' later epochs this project's are."""
    rows, rates = [], {}
    for name, found in costs.items():
        rates[name] = {what: [cost.said[what] for cost in found] for what in found[0].said}
        cells = (median_and_spread(values, 0) for values in rates[name].values())
        rows.append((name, *cells, f"{statistics.median(cost.peak_mb for cost in found):.0f}"))
    header = ("images/s", "first epoch", "later epochs", "later epochs, per CPU second", "peak MB")
    print(f"\n{size} px\n\n{markdown_table(header, rows)}\n")
    for name in (KERAS, CACHED_KERAS):
        times, cpu_times = (
            [ours / theirs for ours, theirs in zip(rates[PROJECT][what], rates[name][what], strict=True)]
            for what in ("later_epochs", "later_epochs_cpu")
        )
        target = f"; {in_words(statistics.median(times) >= TIMES_KERAS, TIMES_KERAS)}" if name == KERAS else ""
        print(
            f"later epochs: {median_and_spread(times)} times {name}, per CPU second {median_and_spread(cpu_times)}{target}"
        )


def report_waiting(times, steps):
    """Print what share of the training's time its input takes."""
    print(f"\n{steps} steps of B0 at {INPUT_SIZES[0]} px\n")
    rows = [
        (name, *(median_and_spread(values, 1) for values in zip(*found, strict=True))) for name, found in times.items()
    ]
    print(markdown_table(("batches", "seconds", "CPU seconds"), rows))
    pairs = list(zip(times[AUGMENTED], times[CONSTANT], strict=True))
    lost, cpu_lost = ([1 - constant[i] / augmented[i] for augmented, constant in pairs] for i in range(2))
    target = in_words(statistics.median(lost) < LARGEST_LOSS, LARGEST_LOSS)
    print(f"\nshare lost: {median_and_spread(lost, 3)}; of CPU time {median_and_spread(cpu_lost, 3)}; {target}")


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "split_dir")
    parser.add_argument(
        "--repetitions", type=cli.positive, default=5, metavar="N", help="in turns (default: %(default)s)"
    )
    cli.add_seed(parser)
    parser.add_argument("--contender", choices=CONTENDERS, help=argparse.SUPPRESS)  # how this script calls itself
    parser.add_argument("--input-size", type=cli.positive, help=argparse.SUPPRESS)
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    split_dir = cli.locate(args, "split_dir").resolve()
    cli.require(split_dir / paths.SPLIT_TABLE, "it would list the faces", "02_prepare_dataset.py")
    try:
        if args.contender:
            return contend(args.contender, split_dir, args.input_size, args.seed)
        print(f"batches of {BATCH_SIZE}, {machine()}; median (lowest to highest) of {args.repetitions} rounds")
        for size in INPUT_SIZES:
            command = [sys.executable, __file__, "--split-dir", split_dir, "--seed", args.seed, "--input-size", size]
            contenders = {name: ([*command, "--contender", name], None) for name in CONTENDERS}
            report_input(size, in_turns(contenders, args.repetitions))
        report_waiting(*measure_waiting(split_dir, args.seed, args.repetitions))
    except InputError as error:
        cli.stop(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(main())
