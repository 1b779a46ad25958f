"""01b: red points on the landmarks, under the same names, without a detector."""

import importlib
import json
import os

import cv2
import numpy as np
import pytest

from common.files import digest
from deepfake.preprocessing.crops import landmarks_in_crop
from tests.videos import mtimes, read_png, record_of, run_script

step = importlib.import_module("01b_mark_landmarks")
LANDMARKS = [[60.4, 72.6], [100, 70], [80, 90], [65, 110], [95, 110]]  # in frame pixels
CROP_XYWH = [30, 40, 100, 90]
RED = [0, 0, 255]


def write_faces(videos_dir, video_id="x", frames=3, grey=90):
    """Write what 01a leaves: plain grey crops and faces.json."""
    folder = videos_dir / video_id / "faces"
    folder.mkdir(parents=True, exist_ok=True)
    (videos_dir / video_id / "frames.json").write_text('{"made_from": {}}')
    rows = []
    for frame in range(frames):
        name = f"{video_id}-{frame:03d}-00.png"
        crop = np.full((CROP_XYWH[3], CROP_XYWH[2], 3), grey + frame, np.uint8)
        (folder / name).write_bytes(cv2.imencode(".png", crop)[1].tobytes())
        rows.append({"file": name, "crop_xywh": CROP_XYWH, "landmarks": LANDMARKS})
    (folder / "faces.json").write_text(json.dumps({"faces": rows, "grey": grey}))
    return folder


@pytest.fixture
def videos_dir(tmp_path):
    folder = tmp_path / "train_sample_videos"
    write_faces(folder, "x")
    write_faces(folder, "y", frames=0)
    return folder


def run(videos_dir, *arguments):
    return step.main(["--data-dir", str(videos_dir.parent), "--workers", "1", *arguments])


def test_mark_draws_red_discs_on_a_copy():
    face_bgr = np.full((80, 120, 3), 128, np.uint8)
    marked = step.mark(face_bgr, [[20.4, 30.6], [100, 60]])
    assert (face_bgr == 128).all()
    red = (marked == RED).all(axis=2)
    assert red[31, 20] and red[60, 100] and red[31 - 3, 20] and not red[31 - 4, 20]
    assert (marked[~red] == 128).all()
    assert 40 < red.sum() < 80, "two discs of radius 120 / 40"
    assert (step.mark(face_bgr[:, :30], [[15, 15]]) == RED).all(axis=2).sum() == 5, "radius 1 on a small face"
    assert step.mark(face_bgr, [[-5, 300]]).shape == face_bgr.shape, "a landmark outside the crop is no error"


def test_landmarks_in_crop():
    face = {"crop_xywh": CROP_XYWH, "landmarks": LANDMARKS}
    assert landmarks_in_crop(face)[:2] == [[30.4, 32.6], [70, 30]]


def test_marks_are_red_at_the_landmarks_under_the_same_names(videos_dir, capfd):
    assert run(videos_dir) == 0
    assert "01b: 2 videos, 3 faces marked, 0 failed" in capfd.readouterr().err
    marks = videos_dir / "x" / "marked_faces"
    names = {path.name for path in (videos_dir / "x" / "faces").glob("*.png")}
    assert {path.name for path in marks.glob("*.png")} == names and len(names) == 3
    for frame in range(3):
        marked = read_png(marks / f"x-{frame:03d}-00.png")
        for x, y in LANDMARKS:
            assert marked[round(y - 40), round(x - 30)].tolist() == RED
        assert marked[2, 2].tolist() == [90 + frame] * 3
    record = record_of(marks, "marked_faces.json")
    assert record["digests"] == {name: digest(marks / name) for name in names} and record["warnings"] == []
    assert record_of(videos_dir / "y" / "marked_faces", "marked_faces.json")["digests"] == {}


def test_rerun_skips_and_redoes_after_the_faces_change(videos_dir, capfd):
    run(videos_dir)
    before = mtimes(videos_dir)
    assert run(videos_dir) == 0 and mtimes(videos_dir) == before
    assert "2 were complete" in capfd.readouterr().err
    write_faces(videos_dir, "x", frames=2, grey=200)
    assert run(videos_dir) == 0
    assert {path.name for path in (videos_dir / "x" / "marked_faces").glob("*.png")} == {"x-000-00.png", "x-001-00.png"}
    assert read_png(videos_dir / "x" / "marked_faces" / "x-000-00.png")[2, 2].tolist() == [200] * 3
    assert mtimes(videos_dir / "y" / "marked_faces").items() <= before.items()
    assert run(videos_dir, "--force") == 0
    assert not mtimes(videos_dir / "y" / "marked_faces").items() <= before.items()


def test_an_unreadable_crop_is_a_warning_until_it_is_mended(videos_dir, capfd):
    broken = videos_dir / "x" / "faces" / "x-001-00.png"
    good = broken.read_bytes()
    broken.write_bytes(b"")
    assert run(videos_dir) == 0
    assert f"01b: warning: {videos_dir / 'x'}: x-001-00.png is not readable" in capfd.readouterr().err
    assert len(list((videos_dir / "x" / "marked_faces").glob("*.png"))) == 2
    broken.write_bytes(good)
    assert run(videos_dir) == 0 and "warning" not in capfd.readouterr().err
    assert len(list((videos_dir / "x" / "marked_faces").glob("*.png"))) == 3


def test_broken_faces_json_costs_one_video(videos_dir):
    write_faces(videos_dir, "z")
    (videos_dir / "z" / "faces" / "faces.json").write_text("{")
    assert run(videos_dir) == 1
    assert "01b,z,faces.json is not readable" in (videos_dir.parent / "failed.csv").read_text()
    assert (videos_dir / "x" / "marked_faces").is_dir() and not (videos_dir / "z" / "marked_faces").exists()
    write_faces(videos_dir, "z")
    assert run(videos_dir) == 0
    assert (videos_dir.parent / "failed.csv").read_text() == "stage,video,reason\n"


def test_a_folder_of_the_users_own_is_not_replaced(videos_dir):
    mine = videos_dir / "x" / "marked_faces"
    mine.mkdir()
    (mine / "diary.txt").write_text("mine")
    assert run(videos_dir) == 1
    assert "a file or folder of your own" in (videos_dir.parent / "failed.csv").read_text()
    assert [path.name for path in mine.iterdir()] == ["diary.txt"]


def test_never_runs_the_detector_and_works_from_elsewhere(videos_dir, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for name in ("tensorflow", "mtcnn"):
        (elsewhere / f"{name}.py").write_text("raise SystemExit('imported')")
    environment = {"PYTHONPATH": str(elsewhere), "DEEPFAKE_DATA_DIR": str(videos_dir.parent)}
    before = {path: mtime for path, mtime in mtimes(videos_dir / "x").items() if "/faces" in path}
    done = run_script("01b_mark_landmarks.py", cwd=elsewhere, environment=environment)
    assert (done.returncode, done.stdout) == (0, "") and "3 faces marked" in done.stderr
    assert len(list((videos_dir / "x" / "marked_faces").glob("*.png"))) == 3
    assert before.items() <= mtimes(videos_dir / "x").items(), "the faces themselves stay unmarked"
    assert sorted(os.listdir(elsewhere)) == ["mtcnn.py", "tensorflow.py"]


def test_shard_and_limit(videos_dir):
    for video_id in "abc":
        write_faces(videos_dir, video_id)
    done = set()
    for number in (1, 2, 3):
        assert run(videos_dir, "--shard", f"{number}/3") == 0
        now = {path.parent.name for path in videos_dir.glob("*/marked_faces")}
        assert done < now
        done = now
    assert done == set("abcxy")
    assert run(videos_dir, "--limit", "1") == 0


def test_missing_faces_name_the_script_to_run(tmp_path):
    done = run_script("01b_mark_landmarks.py", "--data-dir", tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1 and "01a_crop_faces_mtcnn.py" in done.stderr
    (tmp_path / "train_sample_videos").mkdir()
    done = run_script("01b_mark_landmarks.py", "--data-dir", tmp_path)
    assert done.returncode == 2 and "01a_crop_faces_mtcnn.py" in done.stderr
