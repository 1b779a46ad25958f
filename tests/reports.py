"""A finished run as 00 to 04 leave it, written directly: what 05 reads."""

import json
from html.parser import HTMLParser

import numpy as np

from common.files import write_csv, write_json
from common.paths import FRAMES_RECORD
from deepfake.evaluation.aggregation import verdict_of
from deepfake.evaluation.verdicts import PEOPLE_COLUMNS, VERDICTS_COLUMNS
from tests.datasets import face_bgr, write_picture

HOSTILE_NAME = "<img src=x onerror=alert(1)>.mp4"
LONG_NAME = "a_very_long_name_" * 9 + ".mp4"
VOID = {"meta", "link", "img", "br", "input", "source", "hr"}


def video(name, label=None, scores=(), reason=None, **more):
    """Return a video to write: `scores` P(real) of each face in time order, or one such list per person."""
    people = scores if scores and isinstance(scores[0], (list, tuple)) else [scores] if scores else []
    return {"name": name, "label": label, "people": people, "reason": reason, **more}


def write_run(data_dir, videos, crop=None, metrics=None, record=None, people_table=False, crops_per_video=None):
    """Write frames.json, crops, predictions, video_preds.csv, metrics.json and best_model.json of such videos below `data_dir`.

    `crop`: the picture of every face; else they differ. `crops_per_video`: so many files, which its faces share; else one each.
    """
    rows, people_rows, lines = [], [], []
    for place, one in enumerate(videos):
        video_id = one.get("video_id", f"video_{place:04d}")
        folder = data_dir / "train_sample_videos" / f"video_{place:04d}"
        facts = {"width": 640, "height": 360, "length_s": 5.0, "warnings": one.get("warnings", [])}
        write_json(folder / FRAMES_RECORD, {"made_from": {"filename": one["name"]}, **facts})
        shared = {"video_id": video_id, "filename": one["name"], "label": one["label"]}
        for person, scores in enumerate(one["people"]):
            for frame, score in enumerate(scores):
                file = f"video_{place:04d}-{frame % (crops_per_video or len(scores)):03d}-{person:02d}.png"
                if not (folder / "faces" / file).exists():
                    write_picture(folder / "faces" / file, face_bgr(frame % 2, place) if crop is None else crop)
                lines.append(
                    {
                        **shared,
                        "group": video_id,
                        "split": "test",
                        "frame": frame,
                        "frame_s": 0.48 * frame,
                        "person": person,
                        "file": file,
                        "confidence": 0.99,
                        "face_px": 90.0,
                        "score": score,
                        **({} if score is not None else {"reason": "faces too dark"}),
                    }
                )
            found = [score for score in scores if score is not None]
            mean = float(np.mean(found)) if found and not one["reason"] else None
            verdict = {"score": mean, "p_fake": None if mean is None else 1 - mean, "verdict": verdict_of(mean)}
            people_rows.append({**shared, "person": person, **verdict, "frames": len(found)})
        if not one["people"]:
            lines.append(
                {**shared, "group": video_id, "split": "test", "file": None, "score": None, "reason": one["reason"]}
            )
        found = [score for scores in one["people"] for score in scores if score is not None]
        score = float(np.mean(found)) if found and not one["reason"] else None
        verdict = {"score": score, "p_fake": None if score is None else 1 - score, "verdict": verdict_of(score)}
        rows.append({**shared, **verdict, "faces": len(found), "people": len(one["people"]), "reason": one["reason"]})
    (data_dir / "cnn_preds_values.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    write_csv(data_dir / "video_preds.csv", VERDICTS_COLUMNS, rows)
    if people_table:
        write_csv(data_dir / "people_preds.csv", PEOPLE_COLUMNS, people_rows)
    if metrics is not None:
        write_json(data_dir / "metrics.json", metrics)
    if record is not None:
        write_json(data_dir / "tmp_checkpoint" / "best_model.json", record)
    return rows


class Page(HTMLParser):
    """What a parsed report holds: `tags` as (name, {attribute: value}), `text`, and the elements that were never closed."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.pieces, self.open, self.wrong, self.code = [], [], [], [], {}
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data):
        if self.open and self.open[-1] in ("script", "style"):
            self.code[self.open[-1]] = self.code.get(self.open[-1], "") + data
        else:
            self.pieces.append(data)

    @property
    def text(self):
        return " ".join(" ".join(self.pieces).split())

    def all(self, tag, **attributes):
        """Return the attributes of every such element; `class_` for class."""
        wanted = {name.rstrip("_"): value for name, value in attributes.items()}
        return [have for name, have in self.tags if name == tag and all(have.get(k) == v for k, v in wanted.items())]
