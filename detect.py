"""Judge any video, photo or folder of them: was a face in it altered? Runs 00, 01a, 03a, 04, 03b and 05 one after the other.

Reads   PATH, which is never changed, and weights: --weights, else those trained in the data root, else the shipped ones
Writes  detect/<name>-<hash of the path>/ below the data root; nothing beside your files
Rerun   goes on with what is complete

Prints a table, most suspicious first: verdict, P(fake), faces, people and a reason. The reason says why a video cannot be judged,
or who of several people looks least real (numbered from the left, from 0), and what could not be read. The last line is the path
of report.html, which shows the faces and where the scorer looked. A video is REAL when its score P(real) = 1 - P(fake) is at
least 0.5. A score is an indication, no proof. --json prints the same for programs: "videos" has every input, "failed" repeats
those that failed before step 04. Exit status: 0 all was judged; 1 something could not be judged; 2 could not run; 130
interrupted.
"""

import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common import cli, files
from common.messages import say
from deepfake.evaluation import aggregation
from deepfake.model import record as model_record
from deepfake.model import scorer, weights
from deepfake.parallel import spark
from deepfake.report import answer

FRAMES_DIR = "frames"  # in the working folder
LONGEST_NAME = 50  # characters of the working folder's name; file systems allow 255 bytes


def choose_weights(args):
    """Return the path of the weights to judge with, or stop and say how to make some."""
    path = cli.weights_of(args, needed=False)
    if args.weights and not path.is_file():
        cli.stop(f"{path} does not exist")
    for found in (path, weights.BASE_WEIGHTS):
        if found.is_file():
            return found
    cli.stop(
        f"there are no weights at {path}. Make some with: make train VIDEOS=<folder of labelled videos>, or name some: "
        "--weights FILE (those of make demo, only to see how it works: --weights demo/tmp_checkpoint/best_model.h5)"
    )


def working_dir(args, path):
    """Return the folder for everything made from `path`; two paths never share one."""
    path = path.resolve()
    return cli.data_root(args) / "detect" / f"{path.name[:LONGEST_NAME]}-{files.digest(os.fsencode(path))[:8]}"


def run_step(name, options):
    """Run a script in this process and return its exit status; end with that status if the script could not finish."""
    status = importlib.import_module(name).main(options)
    if status not in (0, 1):
        raise SystemExit(status)
    return status


def explain(options):
    """Run 03b and return 0: where it fails, the page has no maps, but the verdicts stand."""
    try:
        importlib.import_module("03b_explain").main(options)
    except SystemExit as stopped:
        if stopped.code == cli.INTERRUPTED:
            raise
    except Exception as error:  # whatever a scorer may raise, for want of memory say
        say(f"03b: stopped: {error}")
    return 0


def prefetch(weights_path):
    """Return an executor that loads the scorer, then Spark, while other processes read the videos. The caller shuts it down.

    An error in it is ignored: the step that needs the scorer or Spark meets it again and says so. A scorer that is being loaded
    delays the end of the process.
    """
    executor = ThreadPoolExecutor(1)
    executor.submit(scorer.load_scorer, weights_path)
    executor.submit(spark.start_spark, None)
    return executor


def run_steps(args, path, folder, weights_path):
    """Run the pipeline on `path` into `folder`; return (worst exit status, whether there are verdicts)."""
    place = ["--data-dir", str(folder)]
    videos = [*place, "--videos-dir", os.path.abspath(path), "--frames-dir", str(folder / FRAMES_DIR)]
    work = [*(["--workers", str(args.workers)] if args.workers else []), *(["--force"] if args.force else [])]
    model = ["--weights", str(weights_path)]
    worst = 0
    for name, options in [
        ("00_convert_video_to_image", [*videos, *work, "--prune"]),
        ("01a_crop_faces_mtcnn", [*videos, *work]),
        ("03a_load_model", [*videos, *model]),
        ("04_mapreduce_video_preds", [*place, *model, "--aggregate", args.aggregate]),
        ("03b_explain", [*videos, *model]),
        ("05_report", [*videos, *model]),
    ]:
        worst = max(worst, explain(options) if name == "03b_explain" else run_step(name, options))
        if not any((folder / FRAMES_DIR).glob("[!.]*")):
            return worst, False  # nothing could be read; the failures say why
    return worst, True


def build_parser():
    parser = cli.make_parser(__doc__)
    parser.add_argument("path", metavar="PATH", help="a video, a photo, or a folder of them")
    cli.add_weights(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of the table")
    rules = (*aggregation.AGGREGATES, "auto")
    parser.add_argument("--aggregate", choices=rules, default="mean", help="as for 04 (default: %(default)s)")
    parser.add_argument("--workers", type=cli.positive, metavar="N", help="as for 00 and 01a")
    parser.add_argument("--force", action="store_true", help="redo what is complete")
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    path = Path(args.path)
    if not path.exists():
        cli.stop(f"{path} does not exist")
    weights_path = choose_weights(args)
    record = model_record.read_model_record(weights_path)
    model_record.check_faces(record, "faces", weights_path)
    aggregation.rule_of(args.aggregate, record, model_record.record_path(weights_path))  # now, not after minutes
    folder = working_dir(args, path)
    say(f"judging {path} with {weights_path}")
    executor = prefetch(weights_path)
    try:
        worst, has_verdicts = run_steps(args, path, folder, weights_path)
    finally:
        executor.shutdown(wait=False, cancel_futures=True)
    found = answer.collect(path, folder, folder / FRAMES_DIR, has_verdicts, weights_path)
    answer.print_answer(found, args.json)
    return 1 if worst or any(row["score"] is None for row in found["videos"]) else 0


if __name__ == "__main__":
    sys.exit(main())
