"""tools/draw_verdicts.py: one picture of a run's verdicts."""

import importlib
import json

import cv2
import numpy as np
import pytest

from common.files import write_csv

tool = importlib.import_module("tools.draw_verdicts")
COLUMNS = ("video_id", "filename", "label", "score", "p_fake", "verdict", "faces", "people", "reason")


@pytest.fixture
def run_dir(tmp_path):
    """A data root with one judged video of two faces, the second missing on disk, and one that cannot be judged."""
    rows = [
        {"video_id": "a", "filename": "a.mp4", "label": 0, "score": 0.25, "p_fake": 0.75, "verdict": "FAKE"},
        {"video_id": "b", "filename": "b.mp4", "verdict": "CANNOT JUDGE", "reason": "no face"},
    ]
    write_csv(tmp_path / "video_preds.csv", COLUMNS, rows)
    lines = [{"video_id": "a", "file": f"a-{n:03d}-00.png", "score": 0.25} for n in range(2)]
    lines.append({"video_id": "b", "file": None, "score": None})
    (tmp_path / "cnn_preds_values.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    faces_dir = tmp_path / "train_sample_videos" / "a" / "faces"
    faces_dir.mkdir(parents=True)
    green = np.zeros((12, 10, 3), np.uint8)
    green[..., 1] = 255
    (faces_dir / "a-000-00.png").write_bytes(cv2.imencode(".png", green)[1])
    return tmp_path


def test_picture_shows_the_faces_and_names_the_verdicts(run_dir):
    assert tool.main(["--data-dir", str(run_dir), "--out", str(run_dir / "v.png")]) == 0
    picture = cv2.imread(str(run_dir / "v.png")).astype(int)
    is_green = (picture[..., 1] > 200) & (picture[..., 0] < 60) & (picture[..., 2] < 60)
    assert is_green.sum() > 500, "the face that is there is drawn"
    videos, faces = tool.read_rows(run_dir, run_dir / "cnn_preds_values.json")
    texts = [
        text.get_text() for text in tool.draw(videos, faces, run_dir / "train_sample_videos", "faces").axes[0].texts
    ]
    assert {"a.mp4", "verdict FAKE, P(fake) 0.750", "label FAKE", "verdict CANNOT JUDGE", "no face"} <= set(texts)
    assert texts.count("0.750") == 2, "each face has its P(fake)"


def test_missing_verdicts_and_an_unwritable_picture_are_one_line(run_dir, tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        tool.main(["--data-dir", str(tmp_path / "none"), "--out", str(tmp_path / "v.png")])
    assert stopped.value.code == 2 and "04_mapreduce_video_preds.py" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        tool.main(["--data-dir", str(run_dir), "--out", str(run_dir / "video_preds.csv" / "v.png")])
    assert stopped.value.code == 2
