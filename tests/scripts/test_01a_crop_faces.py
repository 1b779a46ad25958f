"""01a: boxes, crops, people's numbers, and the contract of faces.json, with the real MTCNN on the sample's clips."""

import importlib
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from common.constants import LANDMARK_NAMES, MARGIN, MIN_CONFIDENCE
from common.errors import InputError
from common.files import digest
from deepfake.parallel import loop
from deepfake.preprocessing import mtcnn
from deepfake.preprocessing.mtcnn import build_detector
from tests.videos import mtimes, read_png, record_of, run_script, tree

step = importlib.import_module("01a_crop_faces_mtcnn")
TWO_PEOPLE = "actor_003_real"
CLIPS = ("actor_000_real", "actor_001_real", TWO_PEOPLE, "no_face")


# boxes


@pytest.mark.parametrize(
    ("box_xywh", "expected"),
    [
        ((100, 100, 50, 100), (85, 70, 80, 160)),
        ((0, 0, 10, 10), (0, 0, 13, 13)),
        ((310, 235, 10, 5), (307, 234, 13, 6)),
        ((-20, -20, 400, 300), (0, 0, 320, 240)),
        ((10.4, 10.4, 1, 1), (10, 10, 2, 2)),
    ],
)
def test_grown_box(box_xywh, expected):
    grown = step.grown_box(box_xywh, 0.3, 320, 240)
    assert grown == expected and all(isinstance(value, int) for value in grown)


def test_as_face_scales_clips_and_names():
    row = np.array([10, 20, 30, 60, 0.9876543, 12, 28, 20, 14, 26, 30, 31, 40, 50, 51])
    face = step.as_face(row, 0.5, 200, 100)
    assert face["box_xywh"] == [20, 40, 40, 80], "the box is MTCNN's own: it may leave the frame, the crop may not"
    assert face["landmarks"] == [[24, 60], [56, 62], [40, 80], [28, 100], [52, 102]]
    assert face["confidence"] == 0.987654
    json.dumps(face)
    assert step.as_face(row, 0.5, 20, 100) is None
    assert step.as_face(np.r_[-50, -50, -10, -10, row[4:]], 1, 200, 100) is None


def test_colour_histogram():
    red, blue = np.zeros((2, 8, 6, 3), np.uint8)
    red[..., 2], blue[..., 0] = 255, 255
    assert step.colour_histogram(red).shape == (64,)
    assert step.colour_histogram(red).sum() == pytest.approx(1)
    assert step.colour_histogram(red)[3] == 1 and step.colour_histogram(blue)[48] == 1
    half = np.concatenate([red, blue])[2:-2]
    assert step.colour_histogram(half)[[3, 48]] == pytest.approx([0.5, 0.5])


# people


def face(x, colour, y=50, size=40):
    """Return a face at x whose colours are mostly bin `colour`."""
    colours = np.full(64, 0.2 / 63)
    colours[colour] = 0.8
    return {"box_xywh": [x, y, size, size], "colours": colours / colours.sum()}


def test_match_cost():
    here = face(100, 0)
    assert step.match_cost(here, here) == 0
    assert step.match_cost(here, face(120, 0)) == pytest.approx(0.25), "half a face width away"
    assert step.match_cost(here, face(900, 0)) == pytest.approx(10), "twenty face widths away"
    assert step.match_cost(here, face(80, 0, y=30, size=80)) == pytest.approx(np.log(2))
    assert 2 < step.match_cost(here, face(100, 9)) <= 3
    assert step.match_cost(here, face(110, 9, size=50)) == pytest.approx(step.match_cost(face(110, 9, size=50), here))


def test_people_keep_their_numbers_whatever_order_they_are_found_in():
    frames = [[face(200 + t, 1), face(20 + t, 0)] if t % 2 else [face(20 + t, 0), face(200 + t, 1)] for t in range(11)]
    assert step.number_people(frames) == [[1, 0] if t % 2 else [0, 1] for t in range(11)]


def test_a_person_missed_in_some_frames_is_remembered():
    frames = [[face(20, 0), face(200, 1)]] * 3 + [[face(200, 1)]] * 3 + [[]] + [[face(200, 1), face(25, 0)]] * 3
    assert step.number_people(frames) == [[0, 1]] * 3 + [[1]] * 3 + [[]] + [[1, 0]] * 3


def test_people_who_change_places_are_told_apart_by_their_colours():
    frames = [[face(20, 0), face(110, 1)]] * 5 + [[face(110, 0), face(20, 1)]] * 4
    assert step.number_people(frames) == [[0, 1]] * 9


def test_a_passer_by_comes_last():
    frames = [[face(150, 0), face(300, 1)]] * 8
    frames[4] = [face(2, 5), *frames[4]]
    numbers = step.number_people(frames)
    assert numbers[4] == [2, 0, 1] and numbers[3] == numbers[5] == [0, 1]


def test_few_frames_and_no_faces():
    assert step.number_people([]) == []
    assert step.number_people([[], []]) == [[], []]
    assert step.number_people([[face(90, 0), face(5, 1)]]) == [[1, 0]], "from left to right, also in a photo"


def test_two_faces_of_one_frame_are_never_one_person():
    frames = [[face(20, 0), face(22, 0)]] * 4
    assert all(sorted(numbers) == [0, 1] for numbers in step.number_people(frames))


# the whole step, once, on the sample

DRIVER = """
import importlib, os, sys
sys.path.insert(0, {repository!r})
from deepfake.preprocessing import mtcnn
step = importlib.import_module("01a_crop_faces_mtcnn")
if __name__ == "__main__":
    sys.exit(step.main())
build = mtcnn.build_detector
def counting(threads):  # in a worker: count how often a detector is built
    with open(os.path.join({folder!r}, str(os.getpid())), "a") as file:
        file.write("built\\n")
    return build(threads)
mtcnn.build_detector = counting
"""


@pytest.fixture(scope="module")
def sample_run(sample_dir, tmp_path_factory):
    """Some of the sample's clips with frames and faces: made by 00, and by 01a run from elsewhere, its detectors counted.

    One clip more, `damaged`, has an unreadable frame.
    """
    data_dir, counted = tmp_path_factory.mktemp("faces"), tmp_path_factory.mktemp("counted")
    videos_dir = data_dir / "train_sample_videos"
    videos_dir.mkdir()
    for name in CLIPS:
        shutil.copy(sample_dir / f"{name}.mp4", videos_dir)
    shutil.copy(videos_dir / "actor_000_real.mp4", videos_dir / "damaged.mp4")
    convert = importlib.import_module("00_convert_video_to_image")
    assert convert.main(["--data-dir", str(data_dir), "--workers", "2"]) == 0
    (videos_dir / "damaged" / "damaged-004.png").write_bytes(b"not a picture")
    driver = counted.parent / "count_detectors.py"
    driver.write_text(DRIVER.format(repository=str(Path(step.__file__).parent), folder=str(counted)))
    done = run_script(driver, "--data-dir", data_dir, "--workers", 2, cwd=counted)
    return data_dir, done, counted


@pytest.fixture(scope="module")
def detector():
    """The real MTCNN in this process."""
    step.detector = build_detector(2)
    yield step.detector
    step.detector = None


def all_records(data_dir):
    records = [record_of(path.parent, "faces.json") for path in data_dir.glob("*/*/faces/faces.json")]
    return sorted(records, key=lambda record: record["video_id"])


@pytest.mark.slow
def test_run_ends_well_and_says_little(sample_run):
    data_dir, done, _ = sample_run
    assert done.returncode == 0 and done.stdout == "", done.stderr
    warning, summary = done.stderr.splitlines()
    folder = data_dir / "train_sample_videos" / "damaged"
    assert warning.startswith(f"01a: warning: {folder}: damaged-004.png is not readable; run 00_convert")
    assert re.match(r"01a: 5 videos, 54 frames, \d+ faces, 1 without a face, 0 failed, \d+ s", summary)


@pytest.mark.slow
def test_one_detector_per_worker(sample_run):
    _, _, counted = sample_run
    built = [path.read_text().splitlines() for path in counted.iterdir()]
    assert 1 <= len(built) <= 2 and all(lines == ["built"] for lines in built)


@pytest.mark.slow
def test_faces_json_keeps_its_contract(sample_run):
    data_dir, _, _ = sample_run
    records = all_records(data_dir)
    assert len(records) == 5
    for record in records:
        folder = data_dir / "train_sample_videos" / record["video_id"]
        frames = record_of(folder)
        assert record["landmark_names"] == list(LANDMARK_NAMES)
        assert record["made_from"]["frames_digest"] == digest(folder / "frames.json")
        assert record["made_from"]["min_confidence"] == MIN_CONFIDENCE and record["made_from"]["margin"] == MARGIN
        assert record["counts"]["faces"] == len(record["faces"])
        names = [row["file"] for row in record["faces"]]
        assert sorted(path.name for path in (folder / "faces").iterdir()) == sorted([*names, "faces.json"])
        for row in record["faces"]:
            assert row["file"] == f"{record['video_id']}-{row['frame']:03d}-{row['person']:02d}.png"
            assert row["frame_s"] == frames["frames"][row["frame"]]["time_s"]
            assert 0.95 <= row["confidence"] <= 1
            frame_bgr = read_png(folder / frames["frames"][row["frame"]]["file"])
            height, width = frame_bgr.shape[:2]
            x, y, w, h = row["box_xywh"]
            assert x < width and y < height and x + w > 0 and y + h > 0, "some of it is in the frame"
            assert tuple(row["crop_xywh"]) == step.grown_box(row["box_xywh"], 0.3, width, height)
            assert row["face_px"] == pytest.approx(max(w, h) / frames["scale"], abs=0.06)
            x, y, w, h = row["crop_xywh"]
            assert np.array_equal(read_png(folder / "faces" / row["file"]), frame_bgr[y : y + h, x : x + w])
            assert row["digest"] == digest(folder / "faces" / row["file"])


@pytest.mark.slow
def test_landmarks_lie_where_their_names_say(sample_run):
    for record in all_records(sample_run[0]):
        for row in record["faces"]:
            left_eye, right_eye, nose, mouth_left, mouth_right = np.array(row["landmarks"])
            assert left_eye[0] < nose[0] + 5 and mouth_left[0] < mouth_right[0] and left_eye[0] < right_eye[0]
            assert max(left_eye[1], right_eye[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
            x, y, w, h = row["crop_xywh"]
            assert all(x <= px <= x + w and y <= py <= y + h for px, py in row["landmarks"])


@pytest.mark.slow
def test_faces_are_found_in_nearly_every_frame(sample_run):
    for record in all_records(sample_run[0]):
        frames = {row["frame"] for row in record["faces"]}
        assert len(frames) == 0 if record["video_id"] == "no_face" else len(frames) >= 9, record["video_id"]


@pytest.mark.slow
def test_a_clip_without_a_face_has_a_reason(sample_run):
    data_dir, _, _ = sample_run
    record = record_of(data_dir / "train_sample_videos" / "no_face" / "faces", "faces.json")
    assert record["faces"] == [] and record["reason"] == "no face of confidence >= 0.95 in 11 frames"
    assert record["counts"] == {"frames": 11, "faces": 0, "without a face": 1}
    assert (data_dir / "failed.csv").read_text() == "stage,video,reason\n"
    assert all(record["reason"] is None for record in all_records(data_dir) if record["faces"])


@pytest.mark.slow
def test_two_people_keep_their_numbers(sample_run):
    folder = sample_run[0] / "train_sample_videos" / TWO_PEOPLE / "faces"
    rows = record_of(folder, "faces.json")["faces"]
    people = {person: [row for row in rows if row["person"] == person] for person in (0, 1)}
    assert {row["person"] for row in rows} == {0, 1} and min(map(len, people.values())) >= 9
    middle = {person: [row["box_xywh"][0] + row["box_xywh"][2] / 2 for row in people[person]] for person in people}
    assert np.median(middle[0]) < np.median(middle[1])
    colours = {
        person: [step.colour_histogram(read_png(folder / row["file"])) for row in people[person]] for person in people
    }
    means = {person: np.mean(colours[person], axis=0) for person in colours}
    for person in (0, 1):
        for histogram in colours[person]:
            own, other = (np.abs(histogram - means[number]).sum() for number in (person, 1 - person))
            assert own < other


@pytest.mark.slow
def test_an_unreadable_frame_costs_itself_until_it_is_mended(sample_run, detector, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(sample_run[0] / "train_sample_videos" / "damaged", folder)
    job = step.job_of(folder)
    record = record_of(folder / "faces", "faces.json")
    assert record["unreadable"] == ["damaged-004.png"] and record["frames_read"] == 10
    assert {row["frame"] for row in record["faces"]} == set(range(11)) - {4}
    assert job.finished() is None, "to be tried again"
    shutil.copy(folder / "damaged-003.png", folder / "damaged-004.png")
    assert 4 in {row["frame"] for row in step.crop_faces(job)["faces"]}
    assert job.finished()["unreadable"] == [] and (folder / "faces" / "damaged-004-00.png").is_file()
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match="none of its frames is readable"):
        step.crop_faces(job)
    (folder / "frames.json").write_text("{")
    with pytest.raises(InputError, match="frames.json is not readable"):
        step.crop_faces(job)


@pytest.mark.slow
def test_rerun_skips_then_redoes_what_changed(sample_run, tmp_path, capfd):
    videos_dir = tmp_path / "train_sample_videos"
    for name in ("actor_000_real", "no_face", "actor_001_real"):
        shutil.copytree(sample_run[0] / "train_sample_videos" / name, videos_dir / name)
    arguments = ["--data-dir", str(tmp_path), "--workers", "1"]
    before = mtimes(videos_dir)
    assert step.main(arguments) == 0
    assert mtimes(videos_dir) == before
    assert "01a: 3 videos, 33 frames, 22 faces, 1 without a face, 3 were complete, 0 failed" in capfd.readouterr().err
    (videos_dir / "actor_000_real" / "faces" / "actor_000_real-009-07.png").write_bytes(b"stale")
    frames = record_of(videos_dir / "actor_000_real")
    frames["frames"] = frames["frames"][:4]
    (videos_dir / "actor_000_real" / "frames.json").write_text(json.dumps(frames))
    for path in (videos_dir / "actor_001_real").glob("*.png"):
        path.write_bytes(b"")
    (videos_dir / "actor_001_real" / "frames.json").touch()
    frames = record_of(videos_dir / "actor_001_real")
    (videos_dir / "actor_001_real" / "frames.json").write_text(json.dumps(frames))  # other bytes
    assert step.main(arguments) == 1
    names = {path.name for path in (videos_dir / "actor_000_real" / "faces").iterdir()}
    assert names == {"faces.json", *(f"actor_000_real-{frame:03d}-00.png" for frame in range(4))}
    assert not (videos_dir / "actor_001_real" / "faces").exists(), "stale faces are gone"
    assert "01a,actor_001_real,none of its frames is readable" in (tmp_path / "failed.csv").read_text()
    changed = {path for path, mtime in mtimes(videos_dir / "no_face").items() if mtime != before[path]}
    assert changed == set()


@pytest.mark.slow
def test_in_process_result_is_that_of_the_worker(sample_run, detector, tmp_path):
    """The same faces with one and with two workers' threads: the record is a function of the frames."""
    source = sample_run[0] / "train_sample_videos" / TWO_PEOPLE
    shutil.copytree(source, tmp_path / TWO_PEOPLE, ignore=shutil.ignore_patterns("faces"))
    again, first = step.crop_faces(step.job_of(tmp_path / TWO_PEOPLE)), record_of(source / "faces", "faces.json")
    assert [row["file"] for row in again["faces"]] == [row["file"] for row in first["faces"]]
    for row, other in zip(again["faces"], first["faces"], strict=True):
        assert np.allclose(row["box_xywh"], other["box_xywh"], atol=1)
        assert row["confidence"] == pytest.approx(other["confidence"], abs=1e-3)


# detect


@pytest.fixture(scope="module")
def frames_bgr(sample_run):
    folder = sample_run[0] / "train_sample_videos" / "actor_000_real"
    return [read_png(folder / f"actor_000_real-{index:03d}.png") for index in (0, 5)]


@pytest.mark.parametrize("shape", [(5, 5), (900, 12), (90, 120), (0, 9), (31, 640)])
def test_an_odd_frame_has_no_face(detector, shape):
    assert step.detect(np.zeros((*shape, 3), np.uint8)) == []


@pytest.mark.slow
def test_boxes_are_in_pixels_of_the_saved_frame(detector, frames_bgr):
    """Detection sees a smaller copy; the box must fit the frame it was given, three times as large here."""
    small, large = frames_bgr[0], np.repeat(np.repeat(frames_bgr[0], 3, 0), 3, 1)
    assert max(large.shape) > step.DETECT_SIDE_PX
    (face_small,), (face_large,) = step.detect(small), step.detect(large)
    width = face_small["box_xywh"][2]
    assert np.allclose(np.array(face_large["box_xywh"]) / 3, face_small["box_xywh"], atol=0.2 * width)
    assert np.allclose(np.array(face_large["landmarks"]) / 3, face_small["landmarks"], atol=0.1 * width)
    assert step.shrunk_for_detection(large)[0].shape[1] == step.DETECT_SIDE_PX
    assert np.array_equal(step.shrunk_for_detection(small[:99])[0], small[:99, :, ::-1])


def test_uncertain_faces_are_dropped_also_when_alone(monkeypatch):
    def row(confidence, x=10):
        return np.array([x, 10, x + 40, 60, confidence, *range(10)], float)

    answers = [[row(0.9499)], [row(0.9501)], [row(0.99), row(0.5, 80), row(0.951, 150)], []]
    monkeypatch.setattr(mtcnn, "find_faces", lambda detector, picture: answers.pop(0))
    found = [step.detect(np.zeros((240, 320, 3), np.uint8)) for _ in range(4)]
    assert [[face["confidence"] for face in faces] for faces in found] == [[], [0.9501], [0.99, 0.951], []]


# could not run


def test_missing_frames_name_the_script_to_run(tmp_path):
    done = run_script("01a_crop_faces_mtcnn.py", "--data-dir", tmp_path, cwd=tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert str(tmp_path / "train_sample_videos") in done.stderr and "00_convert_video_to_image.py" in done.stderr
    (tmp_path / "train_sample_videos" / "mine").mkdir(parents=True)
    with pytest.raises(SystemExit) as stopped:
        step.main(["--data-dir", str(tmp_path)])
    assert stopped.value.code == 2


def test_shards_of_folders(tmp_path, monkeypatch):
    for index in range(5):
        folder = tmp_path / "train_sample_videos" / f"v{index}"
        folder.mkdir(parents=True)
        (folder / "frames.json").write_text(json.dumps({"made_from": {}, "frames": ["x" * 99] * index}))
    shares = []
    monkeypatch.setattr(
        loop, "work_through", lambda *arguments, **_: shares.append([job.path.name for job in arguments[2]])
    )
    for number in range(1, 17):
        step.main(["--data-dir", str(tmp_path), "--shard", f"{number}/16"])
    assert sorted(sum(shares, [])) == [f"v{index}" for index in range(5)] and len(shares) == 16
    step.main(["--data-dir", str(tmp_path), "--limit", "2"])
    assert shares[-1] == ["v0", "v1"]


def test_help_is_instant_and_imports_nothing_heavy(tmp_path):
    for name in ("tensorflow", "mtcnn", "onnxruntime", "onnx"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('imported')")
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")])}
    done = run_script("01a_crop_faces_mtcnn.py", "--help", environment=environment)
    assert done.returncode == 0 and "Rerun" in done.stdout and "--workers" in done.stdout


def test_a_detector_that_cannot_be_built_is_one_line(tmp_path):
    """As when onnxruntime is not installed: status 2 at once, instead of workers started for ever."""
    folder = tmp_path / "train_sample_videos" / "x"
    folder.mkdir(parents=True)
    (folder / "frames.json").write_text('{"video_id": "x", "made_from": {}, "frames": []}')
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('no onnxruntime here')")
    environment = {"PYTHONPATH": str(tmp_path)}
    done = run_script("01a_crop_faces_mtcnn.py", "--data-dir", tmp_path, environment=environment)
    assert done.returncode == 2
    assert done.stderr == "error: cannot start a worker: ImportError: no onnxruntime here\n"
    assert tree(folder).keys() == {"frames.json"}
