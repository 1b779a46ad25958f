"""Draw report.html: every video with its verdict, most suspicious first, its faces with their scores, and how far to trust them.

Reads   video_preds.csv, and metrics.json, people_preds.csv, robustness.csv where they are   (04_mapreduce_video_preds.py)
        cnn_preds_values.json, best_model.json, failures of 00 and 01a; per video frames.json, faces/, explained/ below <frames>
Writes  report.html: one file, pictures inside, that opens without a network
Rerun   draws it again

Names and metadata are data: the page shows them, and runs nothing but its own script.
"""

import base64
import hashlib
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

from common import cli, files, paths
from common.constants import CANNOT_JUDGE, CLASS_NAMES, FACE_KINDS, SELF_BLENDED_FACES, THRESHOLD
from common.messages import printable, say
from deepfake.evaluation import aggregation, predictions, verdicts
from deepfake.parallel import failures
from deepfake.preprocessing import inputs, quality
from deepfake.report import charts, pictures, words

STAGE = "05"
TEMPLATES_DIR = paths.REPOSITORY_DIR / "deepfake" / "report"
MOST_VIDEOS = 2000  # beyond, browsers get slow; the rest is in video_preds.csv
MISTAKES, FACES_PER_MISTAKE = 10, 6


def clock(seconds):
    """Return a moment of a video as m:ss.s."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths // 10:02}.{tenths % 10}"


def as_face(line):
    """Return a line of the predictions as the page shows it, or None if it is of no face."""
    if None in (line["file"], line["frame"], line["frame_s"], line["person"]):
        return None
    score = line["score"]
    return line | {
        "p_fake": None if score is None else 1 - score,
        "verdict": None if score is None else aggregation.verdict_of(score),
        "reason": line.get("reason"),
    }


def read_faces(path, wanted):
    """Return ({video_id: its faces in time order} of the wanted videos, {video_id: split} of all, {weights: number of faces}).

    The weights are the first digits of the digest of those that made the score; older predictions do not say.
    """
    faces, splits, weights = defaultdict(list), {}, Counter()
    with open(path, "rb") as file:
        for text in file:
            try:
                line = predictions.parse_line(text)
            except (ValueError, RecursionError):
                continue  # 04 has said so
            splits[line["video_id"]] = line["split"]
            if isinstance(known := line.get("weights"), str):
                weights[known] += 1
            if line["video_id"] in wanted and (face := as_face(line)):
                faces[face["video_id"]].append(face)
    for found in faces.values():
        found.sort(key=lambda face: (face["frame"], face["person"]))
    return faces, splits, weights


def lowest_and_highest(faces):
    """Return the range of the faces' P(fake), (None, None) without any."""
    found = [face["p_fake"] for face in faces if face["p_fake"] is not None]
    return min(found, default=None), max(found, default=None)


def folder_of(frames_dir, video_id):
    """Return the folder of a video's frames, or None for an id that leads elsewhere."""
    try:
        predictions.check_file_name(video_id)
    except ValueError:
        return None
    return frames_dir / video_id


def read_frames_record(folder):
    """Return what the page shows of a frames.json: width, height, length_s, if they are numbers, and warnings."""
    record = files.read_object(folder / paths.FRAMES_RECORD)
    numbers = {name: record.get(name) for name in ("width", "height", "length_s")}
    warnings = record.get("warnings")
    return {
        **{
            name: value
            for name, value in numbers.items()
            if isinstance(value, (int, float)) and 0 < value < predictions.LARGEST_NUMBER
        },
        "warnings": [str(warning) for warning in warnings] if isinstance(warnings, list) else [],
    }


def describe_people(faces, people, folder, frames_record, face_kind, explained, limit):
    """Return what the page shows of each person of a video: score, faces in time order, score over time."""
    known = {row["person"]: row for row in people}
    numbers = sorted({face["person"] for face in faces})
    described = []
    for number in numbers:
        own = [face for face in faces if face["person"] == number]
        scores = [face["score"] for face in own if face["score"] is not None]
        mean = sum(scores) / len(scores) if scores else None
        person = known.get(number, {"score": mean, "verdict": aggregation.verdict_of(mean)})
        low, high = lowest_and_highest(own)
        shown = pictures.choose_faces(own, max(1, limit // len(numbers)), explained)
        for face in shown:
            face |= pictures.paths_of(face, folder, face_kind, explained)
        described.append(
            {
                "number": number,
                "p_fake": None if person["score"] is None else 1 - person["score"],
                "verdict": person["verdict"],
                "reason": person.get("reason"),
                "frames": len(own),
                "low": low,
                "high": high,
                "scored": [face for face in own if face["p_fake"] is not None],
                "pictures": shown,
                "left_out": len(own) - len(shown),
            }
        )
    return described


def describe_video(row, faces, people, frames_dir, face_kind, model_digest, limit):
    """Return a row of video_preds.csv with what the page shows beside it."""
    folder = folder_of(frames_dir, row["video_id"])
    frames_record = read_frames_record(folder) if folder else {}
    low, high = lowest_and_highest(faces)
    explained, how_to_read = pictures.explained_faces(folder, model_digest)
    is_photo = (row["filename"] or "").lower().endswith(inputs.PHOTO_SUFFIXES)
    length_s = frames_record.get("length_s")
    return row | {
        "name": row["filename"] or row["video_id"],
        "outcome": outcome_of(row),
        "plain": words.plain_words(row["reason"]),
        "label": None if row["label"] is None else CLASS_NAMES[row["label"]].upper(),
        "is_photo": is_photo,
        "length_s": length_s,
        "length": "photo" if is_photo else f"{length_s:.1f} s" if length_s else None,
        "size": "{width} × {height} px".format(**frames_record)
        if {"width", "height"} <= frames_record.keys()
        else None,
        "low": low,
        "high": high,
        "warnings": frames_record.get("warnings", []),
        "anchor": None,
        "how_to_read": how_to_read,
        "persons": describe_people(faces, people, folder, frames_record, face_kind, explained, limit),
    }


def outcome_of(row):
    """Return "right" or "wrong" for a labelled video that was judged, else None."""
    if row["label"] is None or row["score"] is None:
        return None
    return "right" if row["verdict"] == CLASS_NAMES[row["label"]].upper() else "wrong"


def worst_mistakes(rows):
    """Return the rows of the most confident wrong verdicts, the worst first."""
    wrong = (row for row in rows if outcome_of(row) == "wrong")
    return sorted(wrong, key=lambda row: -abs(row["score"] - THRESHOLD))[:MISTAKES]


def some_faces(video):
    """Return a few of the pictures of a video, of all its people."""
    return pictures.evenly(
        [picture for person in video["persons"] for picture in person["pictures"]], FACES_PER_MISTAKE
    )


def render(**content):
    """Return the page. Everything but the style and the script is escaped, and no other script or style may run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str and not value.isprintable() else value,
    )
    style, script = ((TEMPLATES_DIR / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    environment.globals |= {"some_faces": some_faces, "cannot_judge": CANNOT_JUDGE}
    environment.filters |= {"clock": clock, "p2": "{:.2f}".format, "p3": "{:.3f}".format}
    template = environment.get_template("report.html.j2")
    return template.render(style=Markup(style), script=Markup(script), policy=policy, **content)


def gather(args, rows, weights):
    """Return what the page shows; the pictures of `videos` and `mistakes` are not loaded yet."""
    output_dir, record = cli.locate(args, "output_dir"), words.read_model_facts(weights)
    shown, mistakes, people = rows[: args.limit], worst_mistakes(rows), verdicts.read_people(output_dir)
    wanted = {row["video_id"]: row for row in shown + mistakes}
    faces, splits, scored_by = read_faces(cli.locate(args, "predictions"), wanted)
    face_kind = record.get("faces") if record.get("faces") in FACE_KINDS else FACE_KINDS[0]
    settings = (
        cli.frames_dir_of(args),
        face_kind,
        record.get("weights_digest"),
        max(1, pictures.MOST_PICTURES // len(wanted)),
    )
    videos = {
        video_id: describe_video(row, faces.get(video_id, []), people[video_id], *settings)
        for video_id, row in wanted.items()
    }
    for place, row in enumerate(shown, start=1):
        videos[row["video_id"]]["anchor"] = f"video-{place}"
    labelled = [row for row in rows if outcome_of(row)]
    metrics = words.read_metrics(output_dir / paths.METRICS_RECORD)
    robustness, plot, robustness_is_older = words.read_robustness(output_dir, record.get("weights_digest"))
    if robustness_is_older:
        say(f"{STAGE}: {output_dir / paths.ROBUSTNESS_TABLE} is of other weights and left out; run 03c_robustness.py")
    failed = failures.failed_inputs(cli.data_root(args), cli.locate(args, "videos_dir"), cli.frames_dir_of(args), rows)
    unjudged = defaultdict(list)
    for row in rows:
        if row["score"] is None:
            unjudged[row["reason"] or quality.NO_USABLE_FACE].append(row["filename"] or row["video_id"])
    return {
        "videos": [videos[row["video_id"]] for row in shown],
        "total": len(rows),
        "mistakes": [videos[row["video_id"]] for row in mistakes],
        "verdicts": Counter(row["verdict"] for row in rows),
        "failed": [row | {"plain": words.plain_words(row["reason"])} for row in failed],
        "unjudged": [(reason, words.plain_words(reason), names) for reason, names in sorted(unjudged.items())],
        "facts": words.model_facts(record, weights, metrics.get("aggregate")),
        "trained_on": words.training_data(record),
        "record": record,
        "warning": words.doubt(record),
        "foreign": words.foreign_faces(scored_by, record.get("weights_digest")),
        "only_blends": record.get("fakes") == SELF_BLENDED_FACES,
        "learnt": words.learnt_from(record),
        "metrics": metrics,
        "labelled": len(labelled),
        "splits": Counter(splits.get(row["video_id"]) for row in labelled),
        "charts": charts.draw_charts(labelled) if labelled else [],
        "robustness": robustness,
        "robustness_plot": plot and charts.data_uri(plot, "png"),
    }


def is_outdated(metrics, predictions):
    """Tell whether the verdicts were made from other predictions than these."""
    made_from, stamp = metrics.get("made_from") or {}, files.source_stamp(predictions)
    return any(name in made_from and made_from[name] != stamp[name] for name in stamp)


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "videos_dir")
    cli.add_frames_dir(parser)
    cli.add_path(parser, "predictions")
    cli.add_path(parser, "output_dir")
    cli.add_weights(parser, "the .h5 file that judged, with its .json")
    parser.add_argument("--output", metavar="HTML", help=f"the page (default: OUTPUT_DIR/{paths.REPORT})")
    parser.add_argument(
        "--limit",
        type=cli.positive,
        metavar="N",
        default=MOST_VIDEOS,
        help="show the N most suspicious videos only (default: %(default)s, which browsers still take well)",
    )
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
        say(
            f"{STAGE}: warning: {predictions} has changed since the verdicts were made; run 04_mapreduce_video_preds.py"
        )
    if content["foreign"]:
        say(
            f"{STAGE}: warning: {content['foreign']} faces were scored by other weights than {weights}; name them: --weights"
        )
    counts = pictures.load_pictures(
        content["mistakes"] + content["videos"], STAGE
    )  # the mistakes first, as long as there is room
    page = render(**content, **counts, outdated=outdated)
    files.write_atomic(report, page)
    if counts["unreadable"]:
        place = f"{cli.frames_dir_of(args)} (--frames-dir, --videos-dir)"
        say(f"{STAGE}: failed: {counts['unreadable']} faces are not there or not readable below {place}")
    say(
        f"{STAGE}: {len(content['videos'])} of {len(rows)} videos, {counts['pictures']} faces, {counts['unreadable']} failed, "
        f"{len(page) / 1e6:.1f} MB, {time.monotonic() - started:.0f} s: {report}"
    )
    return 1 if counts["unreadable"] else 0


if __name__ == "__main__":
    sys.exit(main())
