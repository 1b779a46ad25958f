"""03a_load_model.py: scores of faces, with trained weights and without training."""

import importlib
import json
import os
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest

from common.constants import FAKE, REAL
from common.errors import InputError
from common.files import digest, write_json
from common.paths import REPOSITORY_DIR
from deepfake.evaluation import scoring
from deepfake.evaluation.predictions import FIELDS
from deepfake.model import scorer
from deepfake.model.record import check_faces
from deepfake.model.weights import load_model, save_model
from deepfake.parallel.failures import note_failure
from deepfake.preprocessing.crops import load_faces, read_image
from deepfake.preprocessing.quality import TOO_BLURRED, TOO_DARK, TOO_SMALL, measure
from tests.datasets import FACELESS_REASON, lively_network, write_picture, write_split_dataset, write_video_folder

load = importlib.import_module("03a_load_model")
SCRIPT = REPOSITORY_DIR / "03a_load_model.py"
SIZE = 32
RECORD = {"backbone": "B0", "input_size": SIZE, "faces": "faces"}


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    """EfficientNetB0 as 03 leaves it. Treat it as read-only."""
    path = tmp_path_factory.mktemp("weights") / "tmp_checkpoint" / "best_model.h5"
    save_model(lively_network(), path, RECORD)
    return path


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Large pictures take long to draw."""
    monkeypatch.setattr(importlib.import_module("deepfake.report.plots"), "DPI", 20)


@pytest.fixture
def videos_dir(tmp_path):
    """Two labelled videos of two faces, one without a label, one without a face; frames folders only."""
    folder = tmp_path / "train_sample_videos"
    for video_id, label in (("a_real", REAL), ("b_fake", FAKE), ("c_unknown", REAL)):
        write_video_folder(folder, video_id, label)
    write_video_folder(folder, "d_empty", REAL, faces=0, reason=FACELESS_REASON)
    write_json(folder / "metadata.json", {"a_real.mp4": {"label": "REAL"}, "b_fake.mp4": {"label": "FAKE"}})
    return folder


def run(data_dir, weights_path, *arguments):
    return load.main(["--data-dir", str(data_dir), "--weights", str(weights_path), *map(str, arguments)])


def stopped(capsys, *arguments):
    """Run main; assert status 2 and one line, and return it."""
    with pytest.raises(SystemExit) as caught:
        load.main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and len(lines) == 1
    return lines[0]


def lines_of(data_dir):
    text = (data_dir / "cnn_preds_values.json").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_by_default_the_test_faces_are_scored(tmp_path, weights_path, capsys):
    rows = [row for row in write_split_dataset(tmp_path) if row["split"] == "test"]
    assert run(tmp_path, weights_path) == 0
    lines = {line["file"]: line for line in lines_of(tmp_path)}
    assert lines.pop(None)["reason"] == FACELESS_REASON
    assert lines.keys() == {os.path.basename(row["file"]) for row in rows}
    model = load_model(weights_path)[0]  # Keras itself
    for row in rows:
        line = lines[os.path.basename(row["file"])]
        for name in ("video_id", "filename", "group", "split", "frame", "frame_s", "person", "confidence", "label"):
            assert line[name] == row[name], name
        faces_rgb, _ = load_faces([tmp_path / "split_dataset" / row["file"]], SIZE)
        assert line["score"] == pytest.approx(float(model(faces_rgb)[0, 0]), abs=1e-5)
    assert (tmp_path / "Confusion.png").read_bytes().startswith(b"\x89PNG")
    written = (tmp_path / "cnn_preds_values.json").read_text().splitlines()
    assert {json.loads(line)["weights"] for line in written} == {digest(weights_path)[:8]}
    printed = capsys.readouterr().err
    assert "03a: faces: accuracy" in printed
    assert (
        "03a: 5 videos, 8 faces scored, 0 too small, dark or blurred, 1 videos without a usable face, 0 faces failed"
        in printed
    )


def test_limit_scores_the_first_videos_of_the_test_split(tmp_path, weights_path):
    write_split_dataset(tmp_path)
    assert run(tmp_path, weights_path, "--limit", 3) == 0
    expected = ["empty_test", *["test_fake_0"] * 2, *["test_fake_1"] * 2]
    assert [line["video_id"] for line in lines_of(tmp_path)] == expected
    assert run(tmp_path, weights_path, "--limit", 1) == 0
    assert [line["video_id"] for line in lines_of(tmp_path)] == ["empty_test"]


def test_faces_of_videos_labelled_and_not(tmp_path, weights_path, videos_dir):
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir) == 0
    lines = lines_of(tmp_path)
    assert [line["video_id"] for line in lines] == ["a_real"] * 2 + ["b_fake"] * 2 + ["c_unknown"] * 2 + ["d_empty"]
    assert [line["label"] for line in lines] == [1, 1, 0, 0, None, None, None]
    for line in lines[:-1]:
        assert line.keys() == {*FIELDS, "score"} and 0 < line["score"] < 1 and line["split"] is None
    assert lines[-1]["score"] is None and lines[-1]["reason"] == FACELESS_REASON
    assert (tmp_path / "Confusion.png").exists()


def test_frames_dir_elsewhere(tmp_path, weights_path, videos_dir):
    videos_dir.rename(tmp_path / "frames")
    videos_dir.mkdir()
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir, "--frames-dir", tmp_path / "frames") == 0
    assert len(lines_of(tmp_path)) == 7


def test_limit_scores_the_first_videos(tmp_path, weights_path, videos_dir):
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir, "--limit", 1) == 0
    assert {line["video_id"] for line in lines_of(tmp_path)} == {"a_real"}


def test_without_labels_no_confusion_matrix_of_other_faces_remains(tmp_path, weights_path, videos_dir, capsys):
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir) == 0
    assert (tmp_path / "Confusion.png").exists()
    (videos_dir / "metadata.json").unlink()
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir) == 0
    assert not (tmp_path / "Confusion.png").exists()
    assert "no face has a label: no Confusion.png" in capsys.readouterr().err
    assert [line["label"] for line in lines_of(tmp_path)] == [None] * 7


def test_nothing_but_videos_without_a_face(tmp_path, weights_path):
    write_video_folder(tmp_path / "train_sample_videos", "d_empty", REAL, faces=0, reason=FACELESS_REASON)
    assert run(tmp_path, weights_path, "--videos-dir", tmp_path / "train_sample_videos") == 0
    assert [line["reason"] for line in lines_of(tmp_path)] == [FACELESS_REASON]


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    "step, what", [("00_convert_video_to_image.py", "frames"), ("01a_crop_faces_mtcnn.py", "faces")]
)
def test_steps_that_never_ran_are_named_and_older_predictions_stay(
    tmp_path, weights_path, videos_dir, capsys, step, what
):
    (tmp_path / "cnn_preds_values.json").write_text("of other videos")
    for video_id in ("a_real", "b_fake", "c_unknown", "d_empty"):
        (videos_dir / f"{video_id}.mp4").write_bytes(b"a video")
        shutil.rmtree(videos_dir / video_id if what == "frames" else videos_dir / video_id / "faces")
    for stage in ("00", "01a"):
        note_failure(tmp_path, stage, tmp_path, "is of another folder")
    before = snapshot(tmp_path)
    line = stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path, "--videos-dir", videos_dir)
    assert f"Run {step} first" in line and f"{videos_dir} holds no {what}" in line
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("stage", ["00", "01a"])
def test_nothing_but_broken_files_gives_their_list(tmp_path, weights_path, stage):
    path = tmp_path / "videos" / "broken.mp4"
    path.parent.mkdir()
    path.write_bytes(b"not a video")
    if stage == "01a":
        path = write_video_folder(path.parent, "broken", REAL)
        shutil.rmtree(path / "faces")
    note_failure(tmp_path, stage, path, "is damaged")
    assert run(tmp_path, weights_path, "--videos-dir", tmp_path / "videos") == 0
    assert [(line["video_id"], line["reason"]) for line in lines_of(tmp_path)] == [("broken", "is damaged")]


def test_a_failed_and_an_unprocessed_video_have_their_line(tmp_path, weights_path, videos_dir):
    for name in ("e_failed.mp4", "f_new.mp4"):
        (videos_dir / name).write_bytes(b"not a video")
    note_failure(tmp_path, "00", videos_dir / "e_failed.mp4", "is not a video")
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir) == 0
    lines = {line["video_id"]: line for line in lines_of(tmp_path)}
    assert lines["e_failed"]["score"] is None and lines["e_failed"]["reason"] == "is not a video"
    assert lines["f_new"]["score"] is None and "00_convert_video_to_image.py" in lines["f_new"]["reason"]


def test_an_unreadable_crop_is_named_and_the_others_are_scored(tmp_path, weights_path, videos_dir, capsys):
    crop = videos_dir / "a_real" / "faces" / "a_real-001-00.png"
    crop.write_bytes(b"broken")
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir) == 1
    printed = capsys.readouterr().err
    assert f"03a: failed: {crop}: is not readable" in printed and "1 faces failed" in printed
    lines = lines_of(tmp_path)
    assert [line["file"] for line in lines if line["video_id"] == "a_real"] == ["a_real-000-00.png"]
    assert len(lines) == 6 and "4 videos, 5 faces scored" in printed


def test_faces_that_cannot_be_judged_have_a_reason_instead_of_a_score(tmp_path, weights_path, videos_dir, capsys):
    folder = videos_dir / "a_real" / "faces"
    dark, blurred = folder / "a_real-000-00.png", folder / "a_real-001-00.png"
    write_picture(dark, read_image(dark) // 20)
    write_picture(blurred, cv2.GaussianBlur(read_image(blurred), (0, 0), 8))
    record = json.loads((videos_dir / "b_fake" / "faces" / "faces.json").read_text())
    record["faces"][0]["face_px"] = 39.9
    write_json(videos_dir / "b_fake" / "faces" / "faces.json", record)
    frames = json.loads((videos_dir / "b_fake" / "frames.json").read_text())
    write_json(videos_dir / "b_fake" / "frames.json", {**frames, "width": 360, "height": 640, "frames": [{}] * 7})
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir) == 0
    lines = lines_of(tmp_path)
    assert [line.get("reason") for line in lines] == [
        TOO_DARK,
        TOO_BLURRED,
        TOO_SMALL,
        None,
        None,
        None,
        FACELESS_REASON,
    ]
    assert all((line["score"] is None) == ("reason" in line) for line in lines)
    assert [(line["frame_px"], line["video_frames"]) for line in lines[1:4]] == [(None, None), (640, 7), (640, 7)]
    for line in lines[:-1]:
        crop_bgr = read_image(videos_dir / line["video_id"] / "faces" / line["file"])
        assert (line["brightness"], line["sharpness"]) == pytest.approx(measure(crop_bgr), abs=0.06)
    printed = capsys.readouterr().err
    assert "4 videos, 3 faces scored, 3 too small, dark or blurred, 2 videos without a usable face, 0 faces" in printed


def test_a_video_that_loses_all_its_crops_is_not_dropped(tmp_path, weights_path, videos_dir):
    for crop in (videos_dir / "a_real" / "faces").glob("*.png"):
        crop.unlink()
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir) == 1
    [line] = [line for line in lines_of(tmp_path) if line["video_id"] == "a_real"]
    assert line["score"] is None and "not readable; run 01a_crop_faces_mtcnn.py --force" in line["reason"]


def test_a_broken_entry_of_metadata_is_a_warning_and_no_failure(tmp_path, weights_path, videos_dir, capsys):
    write_json(videos_dir / "metadata.json", {"a_real.mp4": {"label": "PERHAPS"}})
    assert run(tmp_path, weights_path, "--videos-dir", videos_dir) == 0
    printed = capsys.readouterr().err
    assert f"03a: warning: {videos_dir / 'metadata.json'}: " in printed and "must be REAL or FAKE" in printed
    assert sum(line["score"] is not None for line in lines_of(tmp_path)) == 6


def test_marked_faces_and_faces_are_not_mixed(tmp_path, weights_path, videos_dir, capsys):
    line = stopped(
        capsys, "--data-dir", tmp_path, "--weights", weights_path, "--videos-dir", videos_dir, "--faces", "marked_faces"
    )
    assert str(weights_path) in line and "was trained on faces, but these are marked_faces" in line
    write_split_dataset(tmp_path, face_kind="marked_faces")
    assert "these are marked_faces" in stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path)
    assert not (tmp_path / "cnn_preds_values.json").exists()


@pytest.fixture
def trained_on_marks(weights_path, monkeypatch):
    network, record = scorer.load_scorer(weights_path)
    monkeypatch.setattr(scorer, "load_scorer", lambda path: (network, {**record, "faces": "marked_faces"}))


def test_marked_faces_are_read_from_their_folder(tmp_path, weights_path, trained_on_marks, capsys):
    folder = write_video_folder(tmp_path / "train_sample_videos", "a", REAL, face_kind="marked_faces")
    options = ("--videos-dir", tmp_path / "train_sample_videos", "--faces", "marked_faces")
    assert run(tmp_path, weights_path, *options) == 0
    assert all(0 < line["score"] < 1 for line in lines_of(tmp_path))
    for crop in (folder / "marked_faces").iterdir():
        crop.write_bytes(b"broken")
    assert run(tmp_path, weights_path, *options) == 1
    assert "is not readable; run 01b_mark_landmarks.py --force" in capsys.readouterr().err
    assert "01b_mark_landmarks.py --force" in lines_of(tmp_path)[0]["reason"]


def test_without_any_marks_01b_is_named(tmp_path, weights_path, videos_dir, trained_on_marks, capsys):
    options = ("--videos-dir", videos_dir, "--faces", "marked_faces")
    line = stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path, *options)
    assert "Run 01b_mark_landmarks.py first" in line
    assert not (tmp_path / "cnn_preds_values.json").exists()
    shutil.copytree(videos_dir / "a_real" / "faces", videos_dir / "a_real" / "marked_faces")
    assert run(tmp_path, weights_path, *options) == 1  # the other videos' marks are missing
    assert [line["score"] is None for line in lines_of(tmp_path)] == [False] * 2 + [True] * 3


def test_an_unreadable_test_face_names_02(tmp_path, weights_path, capsys):
    row = [row for row in write_split_dataset(tmp_path) if row["split"] == "test"][0]
    (tmp_path / "split_dataset" / row["file"]).unlink()
    assert run(tmp_path, weights_path) == 1
    assert "is not readable; run 02_prepare_dataset.py --force" in capsys.readouterr().err


def test_check_faces():
    check_faces({"faces": "faces"}, "faces", "w.h5")
    with pytest.raises(InputError, match="w.h5 was trained on marked_faces, but these are faces"):
        check_faces({"faces": "marked_faces"}, "faces", "w.h5")


def test_an_interrupted_run_is_one_line(tmp_path, weights_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    write_split_dataset(tmp_path)
    monkeypatch.setattr(scoring, "score_faces", interrupt)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, weights_path)
    assert caught.value.code == 130 and capsys.readouterr().err == "interrupted; run it again\n"
    assert not (tmp_path / "cnn_preds_values.json").exists()


def test_missing_weights_name_03(tmp_path, capsys):
    line = stopped(capsys, "--data-dir", tmp_path)
    assert str(tmp_path / "tmp_checkpoint" / "best_model.h5") in line and "Run 03_train_cnn.py first" in line
    write_split_dataset(tmp_path)
    line = stopped(capsys, "--data-dir", tmp_path, "--weights", tmp_path / "gone.h5")
    assert line == f"error: {tmp_path / 'gone.h5'} does not exist"


@pytest.mark.parametrize("damage", ["not HDF5", "truncated", "no record", "of other weights"])
def test_unusable_weights_are_refused_in_one_line(tmp_path, weights_path, capsys, damage):
    write_split_dataset(tmp_path)
    shutil.copytree(weights_path.parent, tmp_path / "tmp_checkpoint")
    copy, record = (tmp_path / "tmp_checkpoint" / name for name in ("best_model.h5", "best_model.json"))
    if damage == "not HDF5":
        copy.write_bytes(b"no HDF5")
    elif damage == "truncated":
        copy.write_bytes(copy.read_bytes()[:200_000])
        record.write_text(json.dumps(RECORD))
    elif damage == "no record":
        record.unlink()
    else:
        write_json(record, {**RECORD, "weights_digest": "0" * 32})
    assert stopped(capsys, "--data-dir", tmp_path).startswith(f"error: {copy} ")


def test_missing_inputs_name_the_step_before(tmp_path, weights_path, capsys):
    line = stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path)
    assert "split.csv" in line and "Run 02_prepare_dataset.py first" in line
    line = stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path, "--videos-dir", tmp_path / "none")
    assert str(tmp_path / "none") in line
    (tmp_path / "empty").mkdir()
    line = stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path, "--videos-dir", tmp_path / "empty")
    assert "holds no videos or photos" in line


def test_a_dataset_without_its_record_names_02(tmp_path, weights_path, capsys):
    write_split_dataset(tmp_path)
    (tmp_path / "split_dataset" / "split.json").unlink()
    assert "02_prepare_dataset.py --force" in stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path)


def test_an_output_that_cannot_be_written_is_status_2(tmp_path, weights_path, capsys):
    write_split_dataset(tmp_path)
    (tmp_path / "file").touch()
    options = ("--data-dir", tmp_path, "--weights", weights_path, "--output-dir", tmp_path / "file" / "out")
    assert stopped(capsys, *options).startswith("error: cannot write ")


def test_scores_do_not_depend_on_the_other_faces(tmp_path, weights_path):
    """Batches of another size give the same score per face."""
    write_split_dataset(tmp_path, faces={"train": 1, "val": 1, "test": 35})
    assert run(tmp_path, weights_path) == 0
    together = {line["file"]: line["score"] for line in lines_of(tmp_path) if line["file"]}
    assert run(tmp_path, weights_path, "--limit", 2) == 0
    few = {line["file"]: line["score"] for line in lines_of(tmp_path) if line["file"]}
    assert len(together) == 70 and len(few) == 2
    assert few == pytest.approx({file: together[file] for file in few}, abs=1e-5)
    assert np.ptp(list(together.values())) > 1e-2


@pytest.mark.slow
def test_started_from_another_folder(tmp_path, weights_path):
    data_dir = tmp_path / "Łódź data"
    write_split_dataset(data_dir)
    shutil.copytree(weights_path.parent, data_dir / "tmp_checkpoint")
    (tmp_path / "elsewhere").mkdir()
    environment = {**os.environ, "DEEPFAKE_DATA_DIR": str(data_dir)}
    found = subprocess.run(
        [sys.executable, str(SCRIPT)], cwd=tmp_path / "elsewhere", env=environment, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == "" and all(line.startswith("03a: ") for line in found.stderr.splitlines())
    assert len(lines_of(data_dir)) == 9 and os.listdir(tmp_path / "elsewhere") == []
