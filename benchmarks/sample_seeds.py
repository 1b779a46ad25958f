"""Train on the sample of several seeds in several ways, and pool the verdicts on their test videos.

Reads   nothing: it makes the samples
Writes  <out>/seed_<seed>/ (sample, faces, split; a folder per way of training) and <out>/results.json; prints tables
Rerun   goes on with what is complete

    python benchmarks/sample_seeds.py --out /tmp/seeds --seeds 1 2 3

No actor of a test set is in that seed's training or validation set. Score = P(real), 1 real, 0 fake. Intervals: cluster
bootstrap over actors.
"""

import csv
import os
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli, files, paths
from common.constants import FAKE, SEED
from common.errors import InputError, OutputError
from common.messages import say
from deepfake.evaluation import intervals

ACTORS = 400  # as in make demo, and so is the training
TRAINING = "--epochs 2 --keep last --learning-rate 1e-3 --train-frames 4"
WAYS = {  # name: options of 03
    "base weights": ["--weights", "base"],
    "base weights, half self-blended": ["--weights", "base", "--self-blend", "0.5"],
    "random weights": ["--weights", "none"],
    "random weights, half self-blended": ["--weights", "none", "--self-blend", "0.5"],
}
STRENGTHS = ("strong", "medium", "subtle")


def run(data_dir, script, *options):
    """Run a script of the repository on a data root; one that could not run (status 2) stops this one."""
    environment = {**os.environ, "DEEPFAKE_DATA_DIR": str(data_dir)}
    command = [sys.executable, paths.REPOSITORY_DIR / script, *map(str, options)]
    if subprocess.run(command, env=environment).returncode not in (0, 1):
        cli.stop(f"{script} could not run on {data_dir}")


def prepare(data_dir, number, actors):
    """Make the sample of one seed, its faces and its split."""
    run(
        data_dir,
        "tools/make_sample_videos.py",
        "--out",
        data_dir / "train_sample_videos",
        "--actors",
        actors,
        "--seed",
        number,
    )
    for script in ("00_convert_video_to_image.py", "01a_crop_faces_mtcnn.py", "02_prepare_dataset.py"):
        run(data_dir, script)


def train_and_judge(data_dir, name, options):
    """Train in one way; return the rows of video_preds.csv that have a label and a score."""
    place = data_dir / name.replace(", ", "_").replace(" ", "_")
    output = ["--checkpoint-dir", place / "tmp_checkpoint", "--output-dir", place]
    run(data_dir, "03_train_cnn.py", *output, *options)
    run(data_dir, "04_mapreduce_video_preds.py", *output, "--predictions", place / paths.TEST_PREDICTIONS)
    with open(place / paths.VERDICTS_TABLE, encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["label"] and row["score"]]


def facts_of(data_dir):
    """Return {filename: row of sample.csv}."""
    with open(data_dir / "train_sample_videos" / "sample.csv", encoding="utf-8", newline="") as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


def measure(rows):
    """Return the metrics of rows with seed, actor, label and score."""
    labels, scores = [row["label"] for row in rows], [row["score"] for row in rows]
    return intervals.describe(
        labels, scores, [f"{row['seed']}/{row['actor']}" for row in rows], SEED, rows_are_videos=True
    )


def summarise(rows):
    """Return {what: metrics}: pooled, of each seed, and of each strength (its fakes against their own originals)."""
    results = {
        "pooled": measure(rows)  # scores of several scorers, each with its own scale: the seeds are given as well
    }
    results |= {
        f"seed {number}": measure([r for r in rows if r["seed"] == number])
        for number in sorted({r["seed"] for r in rows})
    }
    for strength in STRENGTHS:
        actors = {(r["seed"], r["actor"]) for r in rows if r["label"] == FAKE and r["strength"] == strength}
        results[f"{strength} fakes"] = measure([r for r in rows if (r["seed"], r["actor"]) in actors])
    return results


def print_table(results):
    """Print the ROC AUC (interval) and accuracy of every way, as a Markdown table."""
    print("| | " + " | ".join(results) + " |\n|" + "---|" * (len(results) + 1))
    for what in next(iter(results.values())):
        cells = []
        for found in results.values():
            auc, accuracy = found[what]["roc_auc"], found[what]["accuracy"]
            interval = " ({:.2f} to {:.2f})".format(*auc["interval"]) if auc["interval"] else ""
            cells.append(f"ROC AUC {auc['value']:.3f}{interval}, accuracy {accuracy['value']:.2f}")
        print(f"| {what} | " + " | ".join(cells) + " |")


def build_parser():
    parser = cli.make_parser(__doc__)
    parser.add_argument("--out", required=True, metavar="DIR", help="about 9 GB for three seeds")
    parser.add_argument("--seeds", type=cli.seed, nargs="+", default=[1, 2, 3], metavar="N")
    parser.add_argument(
        "--actors", type=cli.positive, default=ACTORS, metavar="N", help="people per seed (default: %(default)s)"
    )
    parser.add_argument(
        "--training",
        type=shlex.split,
        default=TRAINING,
        metavar="OPTIONS",
        help='of 03, as one text (default: those of make demo: --training="%(default)s")',
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS), metavar="NAME", help=" | ".join(WAYS))
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    out_dir, rows = Path(args.out).resolve(), {way: [] for way in args.ways}
    for number in args.seeds:
        data_dir = out_dir / f"seed_{number}"
        prepare(data_dir, number, args.actors)
        facts = facts_of(data_dir)
        for way in args.ways:
            say(f"seed {number}: {way}")
            for row in train_and_judge(data_dir, way, [*args.training, *WAYS[way]]):
                known = {name: facts[row["filename"]][name] for name in ("actor", "strength")}
                rows[way].append({"seed": number, **known, "label": int(row["label"]), "score": float(row["score"])})
    results = {way: summarise(found) for way, found in rows.items()}
    try:
        files.write_json(out_dir / "results.json", {"seeds": args.seeds, "training": args.training, "results": results})
    except (InputError, OutputError) as error:
        cli.stop(str(error))
    actors = len({(row["seed"], row["actor"]) for row in next(iter(rows.values()))})
    print(f"{len(next(iter(rows.values())))} test videos of {actors} actors")
    print_table(results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
