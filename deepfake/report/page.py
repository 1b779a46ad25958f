"""What report.html shows of each video, and the page made of it (report.html.j2)."""

import base64
import hashlib
from pathlib import Path

from common import files, paths
from common.constants import CANNOT_JUDGE, CLASS_NAMES, TEMPORARY_PREFIX, THRESHOLD
from common.messages import printable
from deepfake.dataset import table
from deepfake.evaluation import aggregation, predictions
from deepfake.preprocessing import inputs
from deepfake.report import pictures, words

TEMPLATES_DIR = Path(__file__).parent
MISTAKES, FACES_PER_MISTAKE = 10, 6


def p_fake_of(score):
    """Return P(fake) = 1 - score, None without a score."""
    return None if score is None else 1 - score


def as_face(line):
    """Return a prediction line as the page shows it, or None if it is of no face."""
    if None in (line["file"], line["frame"], line["frame_s"], line["person"]):
        return None
    verdict = aggregation.verdict_of(line["score"])
    return line | {"p_fake": p_fake_of(line["score"]), "verdict": verdict, "reason": line.get("reason")}


def folder_of(frames_dir, video_id):
    """Return the folder of a video's frames; for an id that leads out of `frames_dir`, one that never exists."""
    try:
        predictions.check_file_name(video_id)
    except ValueError:
        video_id = f"{TEMPORARY_PREFIX}none"
    return frames_dir / video_id


def describe_people(faces, people, folder, face_kind, explained, limit):
    """Return what the page shows of each person of a video: score, scored faces in time order, faces with a picture."""
    known = {row["person"]: row for row in people}
    numbers = sorted({face["person"] for face in faces})
    described = []
    for number in numbers:
        own = [face for face in faces if face["person"] == number]
        scored = [face for face in own if face["score"] is not None]
        mean = sum(face["score"] for face in scored) / len(scored) if scored else None
        person = known.get(number, {"score": mean, "verdict": aggregation.verdict_of(mean), "reason": None})
        shown = pictures.choose_faces(own, max(1, limit // len(numbers)), explained)
        for face in shown:
            face |= pictures.paths_of(face, folder, face_kind, explained)
        judged = {"p_fake": p_fake_of(person["score"]), "verdict": person["verdict"], "reason": person["reason"]}
        described.append(judged | {"number": number, "frames": len(own), "scored": scored, "pictures": shown})
    return described


def describe_video(row, faces, people, frames_dir, face_kind, model_digest, limit):
    """Return a row of video_preds.csv with what the page shows besides; about `limit` pictures of faces at most."""
    folder = folder_of(frames_dir, row["video_id"])
    record = files.read_json(folder / paths.FRAMES_RECORD, width=0, height=0, length_s=0.0, warnings=[])
    explained, how_to_read = pictures.explained_faces(folder, model_digest)
    return row | {
        "name": row["filename"] or row["video_id"],
        "outcome": outcome_of(row),
        "label": None if row["label"] is None else CLASS_NAMES[row["label"]].upper(),
        "is_photo": (row["filename"] or "").lower().endswith(inputs.PHOTO_SUFFIXES),
        "length_s": record["length_s"] if 0 < record["length_s"] < predictions.LARGEST_NUMBER else None,
        "size_px": (record["width"], record["height"]),
        "scored": [face for face in faces if face["score"] is not None],
        "warnings": record["warnings"],
        "anchor": None,
        "how_to_read": how_to_read,
        "persons": describe_people(faces, people, folder, face_kind, explained, limit),
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
    """Return a few pictures of a video, spread over its people."""
    shown = [picture for person in video["persons"] for picture in person["pictures"]]
    return table.evenly_spread(shown, FACES_PER_MISTAKE)


def p_range(faces):
    """Return the lowest and the highest P(fake) of faces with a score, (None, None) without any."""
    found = [face["p_fake"] for face in faces]
    return min(found, default=None), max(found, default=None)


def clock(seconds):
    """Return a moment of a video as m:ss.s."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes}:{tenths // 10:02}.{tenths % 10}"


def render(**content):
    """Return the page as HTML. All but its own style and script is escaped, and no other style or script may run."""
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
    environment.globals |= {"words": words, "some_faces": some_faces, "cannot_judge": CANNOT_JUDGE}
    environment.filters |= {"clock": clock, "p2": "{:.2f}".format, "p3": "{:.3f}".format, "p_range": p_range}
    template = environment.get_template("report.html.j2")
    return template.render(style=Markup(style), script=Markup(script), policy=policy, **content)
