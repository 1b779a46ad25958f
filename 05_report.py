"""Draw report.html: every video with its verdict, most suspicious first, its faces with their scores, and how far to trust them.

Reads   video_preds.csv, and metrics.json, people_preds.csv, robustness.csv where they are   (04_mapreduce_video_preds.py)
        cnn_preds_values.json, best_model.json, failed.csv; per video frames.json, faces/ and explained/ below <frames>
Writes  report.html: one file, pictures inside, that opens without a network
Rerun   draws it again

Names and metadata are data: the page shows them, and runs nothing but its own script.
"""

import base64
import hashlib
import json
import sys
import time
from collections import Counter, defaultdict
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from common.cli import add_frames_dir, add_path, make_parser, positive, printable, require, say, stop, usable_cpus
from common.constants import (
    CLASS_NAMES,
    FACE_KINDS,
    FAKE,
    NO_USABLE_FACE,
    PHOTO_SUFFIXES,
    REAL,
    SELF_BLENDED_FACES,
    THRESHOLD,
)
from common.model import record_path
from common.paths import (
    BEST_MODEL,
    EXPLAINED_DIR,
    EXPLAINED_RECORD,
    FAILED_TABLE,
    FRAMES_RECORD,
    METRICS_RECORD,
    PEOPLE_TABLE,
    REPORT,
    REPOSITORY_DIR,
    ROBUSTNESS_PLOT,
    ROBUSTNESS_TABLE,
    SPLIT_RECORD,
    SPLIT_TABLE,
    VERDICTS_TABLE,
    data_root,
    frames_dir_of,
    locate,
)
from common.records import InputError, OutputError, read_json, source_stamp, write_atomic
from common.verdicts import (
    doubt,
    plain_words,
    read_table,
    read_verdicts,
    verdict_of,
)

STAGE = "05"
TEMPLATES_DIR = REPOSITORY_DIR / "templates"
FEW_PICTURES, LARGE_PX, SMALL_PX = 2000, 160, 96  # up to so many faces are shown large; longer side, of 80 on the page
WEBP_QUALITY = 75
MOST_PICTURES = 12_000  # 1,000 videos of 11 faces, with room; of more videos fewer faces each are shown
MOST_PICTURES_LENGTH = 42_000_000  # characters of all pictures together: the page stays under 60 MB
MOST_PLOT_BYTES = 2 * 2**20
MOST_VIDEOS = 2000  # beyond, browsers get slow; the rest is in video_preds.csv
AGGREGATE_WORDS = {
    "mean": "the mean of the scores of its faces",
    "lowest-person": "that of the person who looks least real (people seen in fewer than 3 frames are ignored)",
    "confident": "the mean of the scores of its faces, those far from 0.5 counting more",
}
MISTAKES, FACES_PER_MISTAKE = 10, 6
PLOT_LEFT, PLOT_TOP, PLOT_WIDTH, PLOT_HEIGHT = 40, 8, 252, 64  # px of the score over time, inside 300 x 90


def clock(seconds):
    """Return a moment of a video as m:ss.s."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths // 10:02}.{tenths % 10}"


def as_face(line):
    """Return a prediction as the page shows it, or None if it is of no face. One that cannot be judged has no P(fake)."""
    face = json.loads(line)
    if not face["file"]:
        return None
    score = face["score"]
    if score is not None and not 0 <= score <= 1 or not 0 <= face["frame_s"] < float("inf"):
        raise ValueError("is no prediction")
    return face | {
        "p_fake": None if score is None else 1 - score, "verdict": None if score is None else verdict_of(score),
        "frame": int(face["frame"]), "person": int(face["person"]), "time": clock(face["frame_s"]),
    }  # fmt: skip


def read_faces(path, video_ids):
    """Return {video_id: its faces in time order} from the predictions, of these videos only."""
    faces = defaultdict(list)
    with open(path, encoding="utf-8") as file:
        for line in file:
            try:
                face = as_face(line)
            except (ValueError, KeyError, TypeError):
                continue  # 04 has said so
            if face and face["video_id"] in video_ids:
                faces[face["video_id"]].append(face)
    return {
        video_id: sorted(found, key=lambda face: (face["frame"], face["person"])) for video_id, found in faces.items()
    }


def evenly(items, number):
    """Return `number` of the items (all if there are fewer), evenly spaced, the first and the last among them."""
    if len(items) <= number:
        return list(items)
    return [items[round(place * (len(items) - 1) / max(1, number - 1))] for place in range(number)]


def choose_faces(faces, number, explained):
    """Return `number` of the faces (all if there are fewer) in their order: those explained first, then evenly over time."""
    if len(faces) <= number:
        return list(faces)
    chosen = [face["file"] for face in faces if face["file"] in explained][:number]
    rest = [face["file"] for face in faces if face["file"] not in chosen]
    chosen = {*chosen, *evenly(rest, number - len(chosen))}
    return [face for face in faces if face["file"] in chosen]


def time_plot(faces, length_s):
    """Return the points (x, y, verdict) and the lines of one person's P(fake) over time, in px of the plot; None for one point.

    A line is interrupted where there is no score in a frame.
    """
    faces = [face for face in faces if face["p_fake"] is not None]
    if len(faces) < 2:
        return None
    length_s = max(length_s or 0, faces[-1]["frame_s"]) or 1
    points, lines, before = [], [], None
    for face in faces:
        x = round(PLOT_LEFT + PLOT_WIDTH * face["frame_s"] / length_s, 1)
        y = round(PLOT_TOP + PLOT_HEIGHT * (1 - face["p_fake"]), 1)
        points.append((x, y, face["verdict"]))
        if before is None or face["frame"] - before > 1:
            lines.append([])
        lines[-1].append(f"{x},{y}")
        before = face["frame"]
    return {"points": points, "lines": [" ".join(line) for line in lines if len(line) > 1], "end": clock(length_s)}


def inside(folder, name):
    """Return the path of a file directly in `folder`, or None for a name that leads elsewhere."""
    return folder / name if name and Path(name).name == name and name not in (".", "..") else None


def lowest_and_highest(faces):
    """Return the range of the faces' P(fake), (None, None) without any."""
    found = [face["p_fake"] for face in faces if face["p_fake"] is not None]
    return min(found, default=None), max(found, default=None)


def explained_faces(folder, model_digest):
    """Return ({file: score} of the faces that 03b explained with this model, how to read the overlays)."""
    record = read_json(folder / EXPLAINED_DIR / EXPLAINED_RECORD) if folder else None
    if not isinstance(record, dict) or not model_digest or record.get("model_digest") != model_digest:
        return {}, None
    try:
        return {face["file"]: face["score"] for face in record["faces"]}, str(record["how_to_read"])
    except (KeyError, TypeError):
        return {}, None


def describe_people(faces, people, folder, frames_record, face_kind, explained, limit):
    """Return what the page shows of each person of a video: score, faces in time order, score over time."""
    known = {row["person"]: row for row in people}
    numbers = sorted({face["person"] for face in faces})
    described = []
    for number in numbers:
        own = [face for face in faces if face["person"] == number]
        scores = [face["score"] for face in own if face["score"] is not None]
        mean = sum(scores) / len(scores) if scores else None
        person = known.get(number, {"score": mean, "verdict": verdict_of(mean)})
        low, high = lowest_and_highest(own)
        shown = choose_faces(own, max(1, limit // len(numbers)), explained)
        for face in shown:
            on_disk = folder and face.get("self_blended") != "blend"
            same = face["score"] is not None and explained.get(face["file"]) == face["score"]
            face |= {
                "path": inside(folder / face_kind, face["file"]) if on_disk else None, "data": None, "overlay": None,
                "overlay_path": inside(folder / EXPLAINED_DIR, face["file"]) if on_disk and same else None,
            }  # fmt: skip
        described.append({
            "number": number, "p_fake": None if person["score"] is None else 1 - person["score"],
            "verdict": person["verdict"], "reason": person.get("reason"), "frames": len(own), "low": low, "high": high,
            "plot": time_plot(own, frames_record.get("length_s")), "pictures": shown, "left_out": len(own) - len(shown),
        })  # fmt: skip
    return described


def describe_video(row, faces, people, frames_dir, face_kind, model_digest, limit):
    """Return a row of video_preds.csv with what the page shows beside it."""
    folder = inside(frames_dir, row["video_id"])
    frames_record = (read_json(folder / FRAMES_RECORD) if folder else None) or {}
    low, high = lowest_and_highest(faces)
    explained, how_to_read = explained_faces(folder, model_digest)
    is_photo = (row["filename"] or "").lower().endswith(PHOTO_SUFFIXES)
    length_s = frames_record.get("length_s")
    return row | {
        "name": row["filename"] or row["video_id"], "answer": answer_of(row), "plain": plain_words(row["reason"]),
        "truth": None if row["label"] is None else CLASS_NAMES[row["label"]].upper(),
        "is_photo": is_photo, "length": "photo" if is_photo else f"{length_s:.1f} s" if length_s else None,
        "size": f"{frames_record['width']} × {frames_record['height']} px" if "width" in frames_record else None,
        "low": low, "high": high, "warnings": frames_record.get("warnings", []),
        "split": faces[0].get("split") if faces else None, "anchor": None, "how_to_read": how_to_read,
        "persons": describe_people(faces, people, folder, frames_record, face_kind, explained, limit),
    }  # fmt: skip


def thumbnail(path, side_px):
    """Return a picture shrunk to `side_px` (longer side) as base64 WebP with its size, or None if it is not readable."""
    import cv2

    from common.pixels import read_image

    picture = read_image(path) if path else None
    if picture is None:
        return None
    height, width = picture.shape[:2]
    scale = min(1, side_px / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    encoded = cv2.imencode(".webp", small, [cv2.IMWRITE_WEBP_QUALITY, WEBP_QUALITY])[1]
    return base64.b64encode(encoded.tobytes()).decode()


def load_pictures(videos):
    """Fill in the `data` and `overlay` of every picture; return how many were shown, not readable, left out."""
    from common.runner import progress

    different = {id(video): video for video in videos}.values()
    pictures = [picture for video in different for person in video["persons"] for picture in person["pictures"]]
    side_px = LARGE_PX if len(pictures) <= FEW_PICTURES else SMALL_PX

    def load(picture):
        overlay_path = picture["overlay_path"]
        overlay = thumbnail(overlay_path, side_px) if overlay_path and overlay_path.is_file() else None
        return thumbnail(picture["path"], side_px), overlay

    counts, spent = {"pictures": 0, "overlays": 0, "unreadable": 0, "left_out": 0}, 0
    with ThreadPoolExecutor(len(usable_cpus())) as threads:
        loaded = progress(threads.map(load, pictures), len(pictures), STAGE, "faces")
        for picture, (data, overlay) in zip(pictures, loaded, strict=True):
            spent += len(data or "") + len(overlay or "")
            if data is None:
                counts["unreadable"] += picture["path"] is not None
            elif spent > MOST_PICTURES_LENGTH:
                counts["left_out"] += 1
            else:
                picture["data"], picture["overlay"] = data, overlay
                counts["pictures"] += 1
                counts["overlays"] += overlay is not None
    return counts


def training_data(record, split_dir):
    """Return what the network was trained on, counted if `split_dir` is still what it was trained on."""
    if not record:
        return "unknown videos"
    blends = record.get("fakes") == SELF_BLENDED_FACES
    what = "real faces and blends of them, no fake videos" if blends else "real and fake videos"
    digest = record.get("data_digest")
    if digest and (read_json(split_dir / SPLIT_RECORD) or {}).get("digest") == digest:
        rows = [row for row in read_table(split_dir / SPLIT_TABLE) if row["split"] == "train"]
        videos = Counter(dict((row["video_id"], row["label"]) for row in rows).values())
        counts = " and ".join(f"{videos[label]:,} {CLASS_NAMES[label]}" for label in (REAL, FAKE) if videos[label])
        what += f": {len(rows):,} faces of {counts} videos"
    elif provenance := (record.get("provenance") or {}).get("data"):
        what += f": {provenance}"
    return what


def model_facts(record, weights):
    """Return {term: text} that says which network judged."""
    if not record:
        return {"Weights": f"unknown: {record_path(weights).name} was not found", "Network": "unknown network"}
    return {
        "Weights": f"{weights.name}, digest {record.get('weights_digest', 'unknown')}",
        "Network": f"EfficientNet{record.get('backbone')} that sees faces at {record.get('input_size')} px",
        "Started from": f"{record.get('starting_weights', 'unknown')} weights",
        "Calibration": (record.get("calibration") or {}).get("fitted_on") or "none",
    }


def data_uri(data, kind):
    """Return bytes as the address of a picture inside the page."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def draw_charts(labelled):
    """Return the charts of labelled, judged videos: {"title", "text", "light", "dark"}, the last two addresses of pictures."""
    from common.plots import score_charts, svg_of

    charts = score_charts([row["label"] for row in labelled], [row["score"] for row in labelled])
    return [
        {"title": title, "text": text, **{theme: data_uri(svg, "svg+xml") for theme, svg in svg_of(draw).items()}}
        for title, text, draw in charts
    ]  # fmt: skip


def answer_of(row):
    """Return "right" or "wrong" for a labelled video that was judged, else None."""
    if row["label"] is None or row["score"] is None:
        return None
    return "right" if row["verdict"] == CLASS_NAMES[row["label"]].upper() else "wrong"


def worst_mistakes(rows):
    """Return the rows of the most confident wrong verdicts, the worst first."""
    wrong = (row for row in rows if answer_of(row) == "wrong")
    return sorted(wrong, key=lambda row: -abs(row["score"] - THRESHOLD))[:MISTAKES]


def some_faces(video):
    """Return a few of the pictures of a video, of all its people."""
    return evenly([picture for person in video["persons"] for picture in person["pictures"]], FACES_PER_MISTAKE)


def render(**content):
    """Return the page. Everything but the style and the script is escaped, and no other script or style may run."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES_DIR), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True,
        finalize=lambda value: printable(value) if type(value) is str and not value.isprintable() else value,
    )  # fmt: skip
    style, script = ((TEMPLATES_DIR / f"report.{kind}").read_text(encoding="utf-8") for kind in ("css", "js"))
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in (style, script)]
    policy = (
        f"default-src 'none'; img-src data:; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )
    environment.globals["aggregate_words"] = AGGREGATE_WORDS
    environment.globals["some_faces"] = some_faces
    environment.filters |= {"p2": "{:.2f}".format, "p3": "{:.3f}".format}
    template = environment.get_template("report.html.j2")
    return template.render(style=Markup(style), script=Markup(script), policy=policy, **content)


def read_optional(path, read):
    """Return what `read` makes of a file, or None if there is none."""
    return read(path) if path.is_file() else None


def gather(args, rows, weights):
    """Return what the page shows; the pictures of `videos` and `mistakes` are not loaded yet."""
    output_dir, record = locate(args, "output_dir"), read_json(record_path(weights)) or {}
    shown, mistakes, people = rows[: args.limit], worst_mistakes(rows), defaultdict(list)
    for person in read_optional(output_dir / PEOPLE_TABLE, read_table) or []:
        people[person["video_id"]].append(person)
    wanted = {row["video_id"]: row for row in shown + mistakes}
    faces = read_faces(locate(args, "predictions"), wanted)
    face_kind = record.get("faces") if record.get("faces") in FACE_KINDS else FACE_KINDS[0]
    settings = (frames_dir_of(args), face_kind, record.get("weights_digest"), max(1, MOST_PICTURES // len(wanted)))
    videos = {
        video_id: describe_video(row, faces.get(video_id, []), people[video_id], *settings) for video_id, row in wanted.items()
    }  # fmt: skip
    for place, row in enumerate(shown, start=1):
        videos[row["video_id"]]["anchor"] = f"video-{place}"
    labelled = [row for row in rows if answer_of(row)]
    metrics, plot = read_json(output_dir / METRICS_RECORD) or {}, output_dir / ROBUSTNESS_PLOT
    has_plot = plot.is_file() and plot.stat().st_size <= MOST_PLOT_BYTES
    failed = read_optional(data_root(args) / FAILED_TABLE, read_table) or []
    unjudged = defaultdict(list)
    for row in rows:
        if row["score"] is None:
            unjudged[row["reason"] or NO_USABLE_FACE].append(row["filename"] or row["video_id"])
    return {
        "videos": [videos[row["video_id"]] for row in shown], "total": len(rows),
        "mistakes": [videos[row["video_id"]] for row in mistakes],
        "verdicts": Counter(row["verdict"] for row in rows),
        "failed": [row | {"plain": plain_words(row["reason"])} for row in failed],
        "unjudged": [(reason, plain_words(reason), names) for reason, names in sorted(unjudged.items())],
        "facts": model_facts(record, weights), "trained_on": training_data(record, locate(args, "split_dir")),
        "record": record, "warning": doubt(record),
        "only_blends": record.get("fakes") == SELF_BLENDED_FACES, "metrics": metrics, "labelled": len(labelled),
        "splits": Counter(videos[row["video_id"]]["split"] for row in labelled if row["video_id"] in videos),
        "charts": draw_charts(labelled) if labelled else [],
        "robustness": read_optional(output_dir / ROBUSTNESS_TABLE, read_table) or [],
        "robustness_plot": data_uri(plot.read_bytes(), "png") if has_plot else None,
    }  # fmt: skip


def is_outdated(metrics, predictions):
    """Tell whether the verdicts were made from other predictions than these."""
    made_from, stamp = metrics.get("made_from") or {}, source_stamp(predictions)
    return any(name in made_from and made_from[name] != stamp[name] for name in stamp)


def build_parser():
    parser = make_parser(__doc__)
    add_path(parser, "videos_dir")
    add_frames_dir(parser)
    add_path(parser, "predictions")
    add_path(parser, "split_dir")
    add_path(parser, "checkpoint_dir")
    add_path(parser, "output_dir")
    parser.add_argument("--weights", metavar="PATH", help="the .h5 file that judged (default: the checkpoint's)")
    parser.add_argument("--output", metavar="HTML", help=f"the page (default: OUTPUT_DIR/{REPORT})")
    parser.add_argument(
        "--limit", type=positive, metavar="N", default=MOST_VIDEOS,
        help="show the N most suspicious videos only (default: %(default)s, which browsers still take well)",
    )  # fmt: skip
    return parser


def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    output_dir, predictions = locate(args, "output_dir"), locate(args, "predictions")
    require(output_dir / VERDICTS_TABLE, "it would hold the verdicts", "04_mapreduce_video_preds.py")
    require(predictions, "it would hold the scores of the faces", "03_train_cnn.py or 03a_load_model.py")
    weights = Path(args.weights) if args.weights else locate(args, "checkpoint_dir") / BEST_MODEL
    report = Path(args.output) if args.output else output_dir / REPORT
    rows = read_verdicts(output_dir)
    if not rows:
        stop(f"{output_dir / VERDICTS_TABLE} holds no verdicts. Run 04_mapreduce_video_preds.py first.")
    content = gather(args, rows, weights)
    outdated = is_outdated(content["metrics"], predictions)
    if outdated:
        say(
            f"{STAGE}: warning: {predictions} has changed since the verdicts were made; run 04_mapreduce_video_preds.py"
        )
    counts = load_pictures(content["videos"] + content["mistakes"])
    try:
        page = render(**content, **counts, outdated=outdated)
        write_atomic(report, page)
    except (InputError, OutputError) as error:
        stop(str(error))
    if counts["unreadable"]:
        place = f"{frames_dir_of(args)} (--frames-dir, --videos-dir)"
        say(f"{STAGE}: failed: {counts['unreadable']} faces are not there or not readable below {place}")
    say(
        f"{STAGE}: {len(content['videos'])} of {len(rows)} videos, {counts['pictures']} faces, {counts['unreadable']} failed, "
        f"{len(page) / 1e6:.1f} MB, {time.monotonic() - started:.0f} s: {report}"
    )
    return 1 if counts["unreadable"] else 0


if __name__ == "__main__":
    sys.exit(main())
