"""The embedded sample: real clips, read back as any other video would be."""

import csv
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from common.errors import OutputError

drawing = importlib.import_module("tools.drawing")
make_sample_videos = importlib.import_module("tools.make_sample_videos")

ACTORS, SEED = 4, 7  # actor 3 has a companion
SCRIPT = Path(make_sample_videos.__file__).resolve()


def read_frames(path):
    """Return all frames of a clip, uint8 BGR (frames, h, w, 3)."""
    video = cv2.VideoCapture(str(path))
    frames = []
    while (read := video.read())[0]:
        frames.append(read[1])
    return np.stack(frames)


def read_rows(sample_dir):
    with (sample_dir / "sample.csv").open(newline="", encoding="utf-8") as file:
        return {row["filename"]: row for row in csv.DictReader(file)}


def modification_times(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


@pytest.fixture(scope="module")
def sample_dir(tmp_path_factory):
    """A sample made by the script as a user runs it, from another working directory."""
    folder = tmp_path_factory.mktemp("sample") / "clips"
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--out", str(folder), "--actors", str(ACTORS), "--seed", str(SEED)],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"sample: {2 * ACTORS + 1} clips, {ACTORS} actors, 1 without a face, ")
    return folder


@pytest.fixture(scope="module")
def first_actor():
    """The uncompressed frames of actor 0: (facts, reals, fakes, differences)."""
    facts, frames = drawing.actor_frames(SEED, 0)
    reals, fakes, differences = zip(*frames, strict=True)
    return facts, np.stack(reals), np.stack(fakes), differences


@pytest.fixture(scope="module")
def detector():
    from mtcnn import MTCNN

    return MTCNN()


def clip_names():
    return sorted(["no_face.mp4"] + [f"actor_{i:03d}_{kind}.mp4" for i in range(ACTORS) for kind in ("real", "fake")])


def test_folder_holds_the_clips_and_nothing_half_written(sample_dir):
    assert sorted(path.name for path in sample_dir.iterdir()) == sorted(
        [*clip_names(), "metadata.json", "sample.csv", "sample.json"]
    )


@pytest.mark.parametrize("name", clip_names())
def test_clip_format(sample_dir, name):
    video = cv2.VideoCapture(str(sample_dir / name))
    assert int(video.get(cv2.CAP_PROP_FOURCC)).to_bytes(4, "little") in (b"FMP4", b"mp4v")
    assert video.get(cv2.CAP_PROP_FPS) == 25
    assert read_frames(sample_dir / name).shape == (125, 360, 480, 3)


def test_clips_have_no_sound(sample_dir):
    av = pytest.importorskip("av")
    with av.open(str(sample_dir / "actor_000_real.mp4")) as video:
        assert [stream.type for stream in video.streams] == ["video"]
        assert video.streams[0].codec_context.name == "mpeg4"


def test_metadata_is_dfdc(sample_dir):
    entries = json.loads((sample_dir / "metadata.json").read_text())
    assert sorted(entries) == clip_names()
    assert entries.pop("no_face.mp4") == {"label": "REAL", "original": None, "drawn": True}
    for name, entry in entries.items():
        expected = {"label": "REAL", "original": None, "drawn": True}
        if "fake" in name:
            expected |= {"label": "FAKE", "original": name.replace("fake", "real")}
        if name == "actor_003_fake.mp4":
            assert entry.pop("altered_person") in (0, 1)
        assert entry == expected


def test_table_tells_how_each_fake_was_altered(sample_dir):
    rows = read_rows(sample_dir)
    entries = json.loads((sample_dir / "metadata.json").read_text())
    assert list(rows) == clip_names()
    for name, row in rows.items():
        assert tuple(row) == make_sample_videos.COLUMNS
        assert row["label"] == entries[name]["label"]
        assert row["original"] == (entries[name]["original"] or "")
        assert row["altered_person"] == str(entries[name].get("altered_person", ""))
        assert row["people"] == ("0" if name == "no_face.mp4" else "2" if "_003_" in name else "1")
        if row["label"] == "REAL":
            assert not any(row[key] for key in ("strength", "region", "alterations", "difference"))
            continue
        number = int(row["actor"].removeprefix("actor_"))
        assert row["strength"] == ("subtle", "medium", "strong")[number % 3]
        least, most = drawing.DIFFERENCE_RANGES[row["strength"]]
        assert least <= float(row["difference"]) <= most
        assert row["region"] in ("face", "mouth")
        alterations = row["alterations"].split("+")
        assert len(set(alterations)) >= 2
        assert set(alterations) <= set(drawing.ALTERATIONS)


def test_strengths_do_not_overlap():
    ranges = [drawing.DIFFERENCE_RANGES[name] for name in drawing.STRENGTHS]
    assert all(lower[1] < upper[0] for lower, upper in zip(ranges, ranges[1:], strict=False))


def test_measured_difference_is_that_of_the_frames(sample_dir, first_actor):
    _, reals, fakes, differences = first_actor
    changed = np.abs(reals.astype(int) - fakes)
    written = float(read_rows(sample_dir)["actor_000_fake.mp4"]["difference"])
    assert written == pytest.approx(np.mean(differences), abs=0.01)
    region = changed.max(axis=3) > 0
    # the soft edge differs less than the inside, so the mean over all changed pixels is lower, but not by far
    assert 0.4 * np.mean(differences) < changed[region].mean() < np.mean(differences) * 1.05


def test_real_and_fake_are_equal_outside_the_face(sample_dir, first_actor):
    _, reals, fakes, _ = first_actor
    changed = (reals != fakes).any(axis=3)
    assert changed.any(axis=(1, 2)).all(), "every frame of a fake is altered"
    assert changed.mean() < 0.15
    for index in (0, 60, 124):  # one blob, of the size of a face or mouth
        rows, columns = np.nonzero(changed[index])
        assert np.ptp(rows) < 200 and np.ptp(columns) < 180
    far = ~cv2.dilate(changed.any(axis=0).astype(np.uint8), np.ones((33, 33))).astype(bool)
    encoded_reals, encoded_fakes = (read_frames(sample_dir / f"actor_000_{kind}.mp4") for kind in ("real", "fake"))
    off = np.abs(encoded_reals.astype(int) - encoded_fakes)
    assert off[:, far].mean() < 1.5, "nothing but compression differs far from the alteration"
    assert off[changed].mean() > 2 * off[:, far].mean()


def test_clips_show_the_frames(sample_dir, first_actor):
    _, reals, fakes, _ = first_actor
    for kind, frames in (("real", reals), ("fake", fakes)):
        encoded = read_frames(sample_dir / f"actor_000_{kind}.mp4")
        assert np.abs(encoded.astype(int) - frames).mean() < 6


def test_same_seed_same_frames_whatever_the_number_of_actors(sample_dir, tmp_path):
    assert make_sample_videos.main(["--out", str(tmp_path / "again"), "--actors", "1", "--seed", str(SEED)]) == 0
    for name in ("actor_000_real.mp4", "actor_000_fake.mp4", "no_face.mp4"):
        np.testing.assert_array_equal(read_frames(tmp_path / "again" / name), read_frames(sample_dir / name))


def test_other_seeds_and_actors_are_other_people(first_actor):
    _, reals, _, _ = first_actor
    for seed, actor in ((SEED + 1, 0), (SEED, 1)):
        _, frames = drawing.actor_frames(seed, actor)
        assert np.abs(next(frames)[0].astype(int) - reals[0]).mean() > 10


@pytest.mark.slow
@pytest.mark.parametrize("landmarks", ["HOPPER_LANDMARKS", "ASTRONAUT_LANDMARKS"])
def test_landmarks_are_those_of_mtcnn(detector, landmarks):
    import matplotlib
    from skimage import data

    if landmarks == "ASTRONAUT_LANDMARKS":
        portrait_rgb = data.astronaut()
    else:
        path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
        portrait_rgb = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
    (face,) = detector.detect_faces(portrait_rgb)
    found = [face["keypoints"][key] for key in ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")]
    assert np.abs(np.array(found, float) - getattr(drawing, landmarks)).max() <= 2


@pytest.mark.slow
def test_mtcnn_finds_everybody_and_nobody_else(sample_dir, detector):
    """At 0.95, in nearly every frame; the two people each in their half."""
    wanted, found = 0, 0
    for name, row in read_rows(sample_dir).items():
        frames_rgb = [cv2.cvtColor(frame, cv2.COLOR_BGR2RGB) for frame in read_frames(sample_dir / name)[10::50]]
        for faces in detector.detect_faces(frames_rgb):
            if row["people"] == "0":
                assert not [face for face in faces if face["confidence"] >= 0.9]
                continue
            boxes = sorted(face["box"] for face in faces if face["confidence"] >= 0.95)
            assert len(boxes) <= int(row["people"])
            wanted, found = wanted + int(row["people"]), found + len(boxes)
            if len(boxes) == 2:
                assert boxes[0][0] + boxes[0][2] < 240 < boxes[1][0]
            if row["people"] == "1" and boxes:
                assert 85 <= boxes[0][2] <= 165
    assert wanted == 30
    assert found >= wanted - 1


def test_altered_person_is_counted_from_the_left(sample_dir):
    real, fake = (read_frames(sample_dir / f"actor_003_{kind}.mp4").astype(int) for kind in ("real", "fake"))
    halves = [np.abs(real - fake)[:, :, half].mean() for half in (slice(0, 240), slice(240, 480))]
    entry = json.loads((sample_dir / "metadata.json").read_text())["actor_003_fake.mp4"]
    assert int(np.argmax(halves)) == entry["altered_person"]


def test_rerun_does_nothing(sample_dir, capsys):
    before = modification_times(sample_dir)
    assert make_sample_videos.main(["--out", str(sample_dir), "--actors", str(ACTORS), "--seed", str(SEED)]) == 0
    assert modification_times(sample_dir) == before
    assert capsys.readouterr().out == f"sample: {sample_dir} is complete, nothing to do\n"


def test_unfinished_sample_is_made_again_and_frames_beside_it_stay(tmp_path):
    settings = {"recipe": drawing.RECIPE_VERSION, "actors": 2, "seed": 1, "complete": False}
    (tmp_path / "sample.json").write_text(json.dumps(settings))
    (tmp_path / ".actor_001_real.mp4").write_bytes(b"half")
    (tmp_path / "actor_001_real.mp4").write_bytes(b"old")
    (tmp_path / "actor_000_real").mkdir()
    assert make_sample_videos.main(["--out", str(tmp_path), "--actors", "1", "--seed", "1", "--workers", "1"]) == 0
    assert sorted(os.listdir(tmp_path)) == [
        "actor_000_fake.mp4",
        "actor_000_real",
        "actor_000_real.mp4",
        "metadata.json",
        "no_face.mp4",
        "sample.csv",
        "sample.json",
    ]
    assert json.loads((tmp_path / "sample.json").read_text()) == settings | {"actors": 1, "complete": True}


def refusal(capsys, out):
    """Return what the script says when it refuses to write to a folder."""
    with pytest.raises(SystemExit) as stop:
        make_sample_videos.main(["--out", str(out), "--actors", "1"])
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("with_record", [False, True])
def test_folder_with_other_files_is_refused(tmp_path, capsys, with_record):
    (tmp_path / "holiday.mp4").write_bytes(b"mine")
    if with_record:
        (tmp_path / "sample.json").write_text("{}")
    before = modification_times(tmp_path)
    error = refusal(capsys, tmp_path)
    assert modification_times(tmp_path) == before
    assert str(tmp_path) in error and "holiday.mp4" in error and "--out" in error


def test_clips_without_a_record_are_the_users(tmp_path, capsys):
    (tmp_path / "actor_000_real.mp4").write_bytes(b"mine")
    assert "actor_000_real.mp4" in refusal(capsys, tmp_path)
    assert (tmp_path / "actor_000_real.mp4").read_bytes() == b"mine"


def test_file_in_place_of_the_folder_is_refused(tmp_path, capsys):
    (tmp_path / "clips").write_text("")
    assert "clips" in refusal(capsys, tmp_path / "clips")


@pytest.mark.parametrize("options", [["--actors", "0"], ["--actors", "1001"], ["--seed", "-1"], ["--workers", "0"]])
def test_bad_arguments(tmp_path, options):
    with pytest.raises(SystemExit) as stop:
        make_sample_videos.main(["--out", str(tmp_path), *options])
    assert stop.value.code == 2
    assert not list(tmp_path.iterdir())


def test_unwritable_clip_is_an_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        drawing.write_clips([tmp_path / "missing" / "a.mp4"], [])


def test_interrupted_clip_does_not_appear(tmp_path):
    few = [(np.zeros((360, 480, 3), np.uint8),)] * 3
    with pytest.raises(OutputError, match="whole"):
        drawing.write_clips([tmp_path / "a.mp4"], few)
    assert not (tmp_path / "a.mp4").exists()
