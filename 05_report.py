"""Draw report.html: every video with its verdict, most suspicious first, its faces with their scores, and how far to trust them.

Reads   video_preds.csv, and metrics.json, people_preds.csv, robustness.csv where they are   (04_mapreduce_video_preds.py)
        cnn_preds_values.json, best_model.json, failures of 00 and 01a; per video frames.json, faces/, explained/ below <frames>
Writes  report.html: one file, pictures inside, that opens offline
Rerun   draws it again

Names and metadata are data: the page shows them, and runs nothing but its own script.
"""

import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from common import cli, files, paths
from common.constants import FACE_KINDS
from common.messages import say
from deepfake.evaluation import predictions, verdicts
from deepfake.parallel import failures
from deepfake.preprocessing import quality
from deepfake.report import charts, page, pictures, words

STAGE = "05"
MOST_VIDEOS = 2000  # beyond, browsers get slow; the rest is in video_preds.csv


def read_faces(path, wanted):
    """Return ({video_id: its faces in time order} of the wanted videos, {video_id: split} of all, {weights: number of faces}).

    `weights`: the first digits of the digest of those that scored a face; None where older predictions do not say.
    """
    faces, splits, weights = defaultdict(list), {}, Counter()
    with open(path, "rb") as file:
        for text in file:
            try:
                line = predictions.parse_line(text)
            except (ValueError, RecursionError):
                continue  # 04 has said so
            splits[line["video_id"]] = line["split"]
            weights[line["weights"]] += 1
            if line["video_id"] in wanted and (face := page.as_face(line)):
                faces[face["video_id"]].append(face)
    for found in faces.values():
        found.sort(key=lambda face: (face["frame"], face["person"]))
    return faces, splits, weights


def choose_videos(args, rows, weights_digest, face_kind):
    """Return ({video_id: what the page shows of it}, rows of the worst mistakes, then the last two of `read_faces`)."""
    shown, mistakes = rows[: args.limit], page.worst_mistakes(rows)
    wanted = {row["video_id"]: row for row in shown + mistakes}
    faces, *rest = read_faces(cli.locate(args, "predictions"), wanted)
    people, most_pictures = verdicts.read_people(cli.locate(args, "output_dir")), pictures.MOST_PICTURES // len(wanted)
    settings = cli.frames_dir_of(args), face_kind, weights_digest, max(1, most_pictures)
    videos = {name: page.describe_video(row, faces[name], people[name], *settings) for name, row in wanted.items()}
    for place, row in enumerate(shown, start=1):
        videos[row["video_id"]]["anchor"] = f"video-{place}"
    return videos, mistakes, *rest


def gather(args, rows, weights):
    """Return what the page shows. Its pictures are not loaded yet."""
    output_dir, data_dir, record = cli.locate(args, "output_dir"), cli.data_root(args), words.read_model_facts(weights)
    weights_digest = record.get("weights_digest")
    videos, mistakes, splits, scored_by = choose_videos(args, rows, weights_digest, record.get("faces", FACE_KINDS[0]))
    labelled = [row for row in rows if page.outcome_of(row)]
    robustness, plot, left_out = words.read_robustness(output_dir, weights_digest)
    if left_out:
        say(f"{STAGE}: {output_dir / paths.ROBUSTNESS_TABLE} is {left_out} and left out; run 03c_robustness.py")
    unjudged = defaultdict(list)
    for row in rows:
        if row["score"] is None:
            unjudged[row["reason"] or quality.NO_USABLE_FACE].append(row["filename"] or row["video_id"])
    return {
        "videos": [videos[row["video_id"]] for row in rows[: args.limit]],
        "total": len(rows),
        "mistakes": [videos[row["video_id"]] for row in mistakes],
        "verdicts": Counter(row["verdict"] for row in rows),
        "failed": failures.failed_inputs(data_dir, cli.locate(args, "videos_dir"), cli.frames_dir_of(args), rows),
        "unjudged": unjudged,
        "codes": failures.codes_of_reasons(data_dir),
        "record": record,
        "weights": weights,
        "foreign": words.foreign_faces(scored_by, weights_digest),
        "metrics": words.read_metrics(output_dir / paths.METRICS_RECORD),
        "labelled": len(labelled),
        "splits": Counter(splits.get(row["video_id"]) for row in labelled),
        "charts": charts.draw_charts(labelled) if labelled else [],
        "robustness": robustness,
        "robustness_plot": plot and charts.data_uri(plot, "png"),
    }


def is_outdated(metrics, predictions):
    """Tell whether the verdicts were made from other predictions than these."""
    made_from, stamp = metrics["made_from"], files.source_stamp(predictions)
    return any(name in made_from and made_from[name] != stamp[name] for name in stamp)


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "videos_dir", "predictions", "output_dir")
    cli.add_frames_dir(parser)
    cli.add_weights(parser, "the .h5 file that judged, with its .json")
    parser.add_argument("--output", metavar="HTML", help=f"the page (default: OUTPUT_DIR/{paths.REPORT})")
    most = "show the N most suspicious videos only (default: %(default)s, which browsers still take well)"
    parser.add_argument("--limit", type=cli.positive, metavar="N", default=MOST_VIDEOS, help=most)
    return parser


@cli.stops_in_words
def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    output_dir, predictions = cli.locate(args, "output_dir"), cli.locate(args, "predictions")
    cli.require(output_dir / paths.VERDICTS_TABLE, "it would hold the verdicts", "04_mapreduce_video_preds.py")
    cli.require(predictions, "it would hold the scores of the faces", "03_train_cnn.py or 03a_load_model.py")
    weights = cli.weights_of(args, needed=False)
    report = Path(args.output) if args.output else output_dir / paths.REPORT
    rows = verdicts.read_verdicts(output_dir)
    if not rows:
        cli.stop(f"{output_dir / paths.VERDICTS_TABLE} holds no verdicts. Run 04_mapreduce_video_preds.py first.")
    content = gather(args, rows, weights)
    outdated = is_outdated(content["metrics"], predictions)
    if outdated:
        again = "run 04_mapreduce_video_preds.py"
        say(f"{STAGE}: warning: {predictions} has changed since the verdicts were made; {again}")
    if content["foreign"]:
        others = f"{content['foreign']} faces were scored by other weights than {weights}"
        say(f"{STAGE}: warning: {others}; name them: --weights")
    in_order = content["mistakes"] + content["videos"]  # the mistakes first, as long as there is room
    counts = pictures.load_pictures(in_order, STAGE)
    html = page.render(**content, **counts, outdated=outdated)
    files.write_atomic(report, html)
    if counts["unreadable"]:
        place = f"{cli.frames_dir_of(args)} (--frames-dir, --videos-dir)"
        say(f"{STAGE}: failed: {counts['unreadable']} faces are not there or not readable below {place}")
    say(
        f"{STAGE}: {len(content['videos'])} of {len(rows)} videos, {counts['pictures']} faces, {counts['unreadable']} failed, "
        f"{len(html) / 1e6:.1f} MB, {time.monotonic() - started:.0f} s: {report}"
    )
    return 1 if counts["unreadable"] else 0


if __name__ == "__main__":
    sys.exit(main())
