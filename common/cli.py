"""The options that scripts share, what these mean, and how a script stops."""

import argparse
import functools
import os
import re
import traceback
from pathlib import Path

from common import paths
from common.constants import SEED
from common.errors import InputError, OutputError
from common.messages import say

INTERRUPTED = 130  # exit status after Ctrl-C, as shells give it
OPTION_HELP = {  # of `add_path`
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
    place = f"data root (default: ${paths.DATA_DIR_VARIABLE}, else the folder of this script)"
    parser.add_argument("--data-dir", metavar="DIR", help=place)
    return parser


def add_path(parser, *options):
    """Add `--videos-dir` and the like, with their defaults below the data root named in the help."""
    for option in options:
        place = f"{OPTION_HELP[option]} (default: DATA_DIR/{paths.DEFAULT_NAMES[option]})"
        parser.add_argument(f"--{option.replace('_', '-')}", metavar="PATH", help=place)


def add_frames_dir(parser):
    """Add --frames-dir, for videos on read-only storage."""
    place = "where the per-video folders are (default: beside the videos)"
    parser.add_argument("--frames-dir", metavar="DIR", help=place)


def add_seed(parser):
    """Add --seed: NumPy and Keras take 0 to 2**32 - 1."""
    parser.add_argument("--seed", type=seed, default=SEED, help="the only source of randomness (default: %(default)s)")


def add_weights(parser, what="an .h5 file with its .json"):
    """Add --checkpoint-dir and --weights, for `weights_of`."""
    add_path(parser, "checkpoint_dir")
    parser.add_argument("--weights", metavar="PATH", help=f"{what} (default: the checkpoint's)")


def weights_of(args, needed=True):
    """Return the path of --weights, else of the checkpoint's weights; if `needed`, stop where these do not exist."""
    if args.weights:
        return Path(args.weights)
    path = locate(args, "checkpoint_dir") / paths.BEST_MODEL
    if needed:
        require(path, "it would hold the trained weights", "03_train_cnn.py")
    return path


def add_work_options(parser, timeout_s):
    """Add what 00, 01a and 01b share. `timeout_s`: how long one video may take."""
    add_path(parser, "videos_dir")
    add_frames_dir(parser)
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--workers", type=positive, metavar="N", help="processes (default: one per CPU)")
    cluster = (
        "work on the executors of this Spark cluster, such as spark://host:7077; they have to see the same files and this "
        "folder under the same paths (under spark-submit: its cluster)"
    )
    where.add_argument("--spark-master", type=spark_master, metavar="URL", help=cluster)
    parser.add_argument("--shard", type=shard, default=(1, 1), metavar="I/N", help="do the I-th of N shares only")
    add_limit_and_force(parser)
    limit = "seconds one video may take (default: %(default)g)"
    parser.add_argument("--timeout", type=above_0, default=timeout_s, metavar="S", help=limit)


def add_limit_and_force(parser):
    """Add --limit and --force."""
    parser.add_argument("--limit", type=positive, metavar="N", help="try the first N videos only")
    parser.add_argument("--force", action="store_true", help="redo what is complete")


def require(path, what, made_by):
    """Unless `path` exists, stop with status 2 and one line that names the path and the script to run."""
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
    """Decorate the main function of a script: whatever stops it, Ctrl-C too, becomes one line and an exit status.

    A crash shows its traceback and ends with 2. Python's 1 would mean that some inputs failed and the rest is done.
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
            if argv is not None:  # the program that called this deals with it
                raise
            traceback.print_exc()
            raise SystemExit(2) from None

    return run


def number_that(fits, words, parse=float):
    """Return a parser of numbers for which `fits(number)` is true; `words` say which those are."""

    def number(text):  # argparse says this name where a text is no number
        if not fits(parse(text)):
            raise argparse.ArgumentTypeError(f"{text} is not {words}")
        return parse(text)

    return number


share = number_that(lambda value: 0 <= value <= 1, "a number from 0 to 1")
above_0 = number_that(lambda value: 0 < value < float("inf"), "a number above 0")
positive = number_that(lambda value: value >= 1, "at least 1", int)
seed = number_that(lambda value: 0 <= value < 2**32, "0 to 4294967295", int)


def shard(text):
    """Parse `I/N` with 1 <= I <= N."""
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with 1 <= I <= N, for example 2/16")
    return int(found[1]), int(found[2])


def spark_master(text):
    """Parse the address of a Spark cluster."""
    if not re.match(r"(local(\[|$)|yarn$|(spark|k8s|mesos)://)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not local[N], spark://host:7077, yarn, k8s:// or mesos://")
    return text


def data_root(args):
    """Return `--data-dir`, else the environment variable DEEPFAKE_DATA_DIR, else the repository root."""
    return Path(args.data_dir or os.environ.get(paths.DATA_DIR_VARIABLE) or paths.REPOSITORY_DIR)


def locate(args, option):
    """Return the path that `args` gives for `option`, else its default below the data root."""
    given = getattr(args, option)
    return Path(given) if given else data_root(args) / paths.DEFAULT_NAMES[option]


def frames_dir_of(args):
    """Return `--frames-dir`, else the folder of the videos."""
    if args.frames_dir:
        return Path(args.frames_dir)
    videos_dir = locate(args, "videos_dir")
    return videos_dir.parent if videos_dir.is_file() else videos_dir
