"""The options and messages that the scripts have in common."""

import argparse
import functools
import logging
import os
import sys
import traceback
import warnings
from pathlib import Path

from common.arguments import above_0, positive, seed, shard, spark_master
from common.constants import SEED
from common.paths import BEST_MODEL, DATA_DIR_VARIABLE, DEFAULT_NAMES, locate
from common.records import InputError, OutputError

INTERRUPTED = 130  # exit status after Ctrl-C, as shells give it

OPTION_HELP = {
    "videos_dir": "folder of videos and photos, or one such file",
    "prepared_dir": "the balanced faces, in real/ and fake/",
    "split_dir": "the balanced faces, in train/, val/ and test/",
    "checkpoint_dir": "where the best weights and their record are kept",
    "predictions": "scores per face, JSON Lines",
    "output_dir": "where the results go",
}


def make_parser(doc):
    """Return a parser whose help text is the script's docstring, with --data-dir."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--data-dir", metavar="DIR", help=f"data root (default: ${DATA_DIR_VARIABLE}, else the folder of this script)"
    )
    return parser


def add_path(parser, option):
    """Add `--videos-dir` and the like, with its default below the data root named in the help."""
    name = DEFAULT_NAMES[option]
    parser.add_argument(
        f"--{option.replace('_', '-')}", metavar="PATH", help=f"{OPTION_HELP[option]} (default: DATA_DIR/{name})"
    )


def add_frames_dir(parser):
    """Add --frames-dir, for videos on read-only storage."""
    parser.add_argument(
        "--frames-dir", metavar="DIR", help="where the per-video folders are (default: beside the videos)"
    )


def add_seed(parser):
    """Add --seed, which NumPy and Keras take from 0 to 2**32 - 1."""
    parser.add_argument("--seed", type=seed, default=SEED, help="the only source of randomness (default: %(default)s)")


def add_weights(parser, what="an .h5 file with its .json"):
    """Add --checkpoint-dir and --weights, for `weights_of`."""
    add_path(parser, "checkpoint_dir")
    parser.add_argument("--weights", metavar="PATH", help=f"{what} (default: the checkpoint's)")


def weights_of(args, needed=True):
    """Return the path of --weights, else of the checkpoint's weights; stop if those are `needed` and not there."""
    if args.weights:
        return Path(args.weights)
    path = locate(args, "checkpoint_dir") / BEST_MODEL
    if needed:
        require(path, "it would hold the trained weights", "03_train_cnn.py")
    return path


def add_work_options(parser, timeout_s):
    """Add what 00, 01a and 01b share: --workers or --spark-master, --shard, --limit, --force, --timeout."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive, metavar="N", help="processes (default: one per CPU)")
    where.add_argument(
        "--spark-master", type=spark_master, metavar="URL",
        help="work on the executors of this Spark cluster, such as spark://host:7077; they have to see the same files and this "
        "folder under the same paths (under spark-submit: its cluster)",
    )  # fmt: skip
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help="do the I-th of N shares only")
    parser.add_argument("--limit", type=positive, metavar="N", help="try the first N videos only")
    parser.add_argument("--force", action="store_true", help="redo what is complete")
    parser.add_argument(
        "--timeout",
        type=above_0,
        default=timeout_s,
        metavar="S",
        help="seconds one video may take (default: %(default)g)",
    )


def usable_cpus():
    """Return the CPUs this process may use, by affinity where the system knows it."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def under_spark_submit():
    """Tell whether spark-submit has started this process."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def on_spark(args):
    """Tell whether the work of a step is for a Spark cluster: the named one, or that of spark-submit."""
    return bool(args.spark_master) or under_spark_submit()


def require(path, what, made_by):
    """Stop with one line and status 2 unless `path` exists: it names the path and the script to run."""
    if not path.exists():
        stop(f"{path} does not exist: {what}. Run {made_by} first.")


def require_videos_dir(args):
    """Return the videos directory (or file), or stop with status 2 if there is none."""
    videos_dir = locate(args, "videos_dir")
    if not videos_dir.exists():
        stop(f"{videos_dir} does not exist: put your videos there, or name their folder with --videos-dir")
    return videos_dir


def stop(message):
    """Print one line and end with status 2: the script could not run."""
    say(f"error: {message}")
    raise SystemExit(2)


def stops_in_words(main):
    """Decorate the main function of a script: what stops it is one line, also Ctrl-C, and an exit status.

    A crash of a script ends with 2 instead of Python's 1, which would mean that some inputs failed and the rest is done.
    """

    @functools.wraps(main)
    def run(argv=None):
        try:
            return main(argv)
        except (InputError, OutputError) as error:
            stop(str(error))
        except KeyboardInterrupt:
            say("interrupted; run it again")
            raise SystemExit(INTERRUPTED) from None
        except Exception:
            if argv is not None:  # called by another program, whose business it is
                raise
            traceback.print_exc()
            raise SystemExit(2) from None

    return run


def say(message):
    """Print one line for people to read; standard output stays free for results."""
    print(printable(message), file=sys.stderr, flush=True)


def printable(text):
    """Return a text without what would move a terminal's cursor or cannot be encoded: file names are data."""
    return "".join(c if c.isprintable() else "?" for c in str(text))


def quiet_libraries():
    """Silence the start-up noise of TensorFlow and its friends; call before importing them."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    logging.getLogger("absl").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=UserWarning, module=r"keras|tensorflow|efficientnet")
