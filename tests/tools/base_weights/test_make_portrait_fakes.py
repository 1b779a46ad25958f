"""Fakes made of portraits: whose faces meet, what stays of a photo, and that the pipeline takes photos and clips as they are."""

import importlib
import json
import shutil
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from skimage import data

from common.constants import REAL
from common.errors import InputError
from deepfake.dataset.table import read_dataset
from deepfake.dataset.videos import Video, load_videos
from tests.datasets import write_split_dataset
from tools.base_weights import make_portrait_fakes
from tools.base_weights.make_portrait_fakes import CLIP_FRAMES, LEAST_EYES_PX, Portrait, find_portraits, make_pairs

LARGE = LEAST_EYES_PX + 6


def portrait(name, group, eyes_px=LARGE):
    landmarks = np.float64([(100, 100), (100 + eyes_px, 100), (115, 115), (102, 130), (128, 130)])
    return Portrait(Path(name), landmarks, group)


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Options that name two photos of two real people, their frames and their faces."""
    folder = tmp_path_factory.mktemp("portraits")
    (folder / "videos").mkdir()
    hopper = cv2.imread(str(Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")))
    photos = {"astronaut.png": cv2.cvtColor(data.astronaut(), cv2.COLOR_RGB2BGR), "hopper.png": hopper}
    for name, photo in photos.items():
        cv2.imwrite(str(folder / "videos" / name), photo)
    groups = {name: {"label": "REAL", "group": name[:3]} for name in photos}
    (folder / "videos" / "metadata.json").write_text(json.dumps(groups))
    options = [
        "--data-dir",
        str(folder),
        "--videos-dir",
        str(folder / "videos"),
        "--frames-dir",
        str(folder / "frames"),
    ]
    for script in ("00_convert_video_to_image", "01a_crop_faces_mtcnn"):
        assert importlib.import_module(script).main(options) == 0
    return options


@pytest.fixture(scope="module")
def made(portraits, tmp_path_factory):
    """The folder that the tool makes of them, with one actor."""
    folder = tmp_path_factory.mktemp("made") / "new" / "fakes"
    assert make_portrait_fakes.main([*portraits, "--everyone", "--out", str(folder), "--actors", "1"]) == 0
    return folder


def test_neighbours_become_pairs_and_small_portraits_join_the_pair_before():
    people = [
        portrait("a.png", "a"),
        portrait("b1.png", "b"),
        portrait("b2.png", "b", LARGE + 4),
        portrait("c.png", "c", 10),
    ]
    people += [portrait("d.png", "d"), portrait("e.png", "e"), portrait("f.png", "f")]
    pairs = make_pairs(people[::-1])
    assert [[str(found.picture) for found in pair.actors] for pair in pairs] == [
        ["a.png", "b2.png"],
        ["d.png", "e.png"],
    ]
    members = [["a.png", "b1.png", "b2.png", "c.png"], ["d.png", "e.png", "f.png"]]
    assert [[str(found.picture) for found in pair.portraits] for pair in pairs] == members
    assert make_pairs(people[:1]) == make_pairs([]) == []


def test_each_photo_gets_a_fake_that_differs_only_round_the_face(portraits, made):
    videos = Path(portraits[3])
    changes = []
    for place, name in enumerate(("astronaut.png", "hopper.png")):
        photo = cv2.imread(str(videos / name))
        real, fake = (cv2.imread(str(made / "a_photos" / f"p0000_{place}_{kind}.png")) for kind in ("real", "fake"))
        assert np.array_equal(real, photo)
        changed = cv2.absdiff(real, fake).max(axis=2)
        rows, columns = np.nonzero(changed > 0)
        left, top, right, bottom = {"astronaut.png": (150, 30, 300, 220), "hopper.png": (150, 60, 400, 380)}[name]
        assert left < columns.min() and columns.max() < right and top < rows.min() and rows.max() < bottom
        changes.append(changed[changed > 0].mean())
    assert min(changes) > 3  # grey levels


def test_another_persons_face_is_blended_in_not_a_changed_copy(portraits):
    """Where the mask is full, the fake is much more like the other person, laid over, than like the photo."""
    videos, _ = load_videos(portraits[3], portraits[5], portraits[1])
    target, source = find_portraits(videos)
    rng = np.random.default_rng(3)
    fakes = [make_portrait_fakes.exchange_face(target, source, rng) for _ in range(8)]
    nose = target.landmarks[2].astype(int)
    around = np.s_[nose[1] - 12 : nose[1] + 12, nose[0] - 12 : nose[0] + 12]

    def likeness(first, second):
        return np.corrcoef(first[around].mean(axis=2).ravel(), second[around].mean(axis=2).ravel())[0, 1]

    to_target = cv2.estimateAffine2D(source.landmarks, target.landmarks)[0]
    photo = target.read()
    other = cv2.warpAffine(source.read(), to_target, photo.shape[1::-1])
    assert max(likeness(fake, other) - likeness(fake, photo) for fake in fakes) > 0.2


def test_clips_are_short_and_named_with_their_original(made):
    entries = json.loads((made / "clips" / "metadata.json").read_text())
    assert list(entries) == ["p0000_0_fake.mp4", "p0000_0_real.mp4"]
    assert entries["p0000_0_fake.mp4"]["original"] == "p0000_0_real.mp4"
    assert all(entry["drawn"] is True for entry in entries.values())
    clips = []
    for name in entries:
        clip, frames = cv2.VideoCapture(str(made / "clips" / name)), []
        while (read := clip.read())[0]:
            frames.append(read[1])
        clips.append(np.stack(frames))
    assert [len(clip) for clip in clips] == [CLIP_FRAMES, CLIP_FRAMES]
    assert cv2.absdiff(clips[0][20], clips[1][20]).max() > 10
    assert cv2.absdiff(clips[0][0], clips[0][20]).mean() > 1  # it moves


def test_the_pipeline_finds_faces_labels_and_one_group(made, tmp_path):
    options = ["--data-dir", str(tmp_path), "--videos-dir", str(made), "--frames-dir", str(tmp_path / "frames")]
    assert importlib.import_module("00_convert_video_to_image").main([*options, "--frames", "4"]) == 0
    assert importlib.import_module("01a_crop_faces_mtcnn").main(options) == 0
    videos, problems = load_videos(made, tmp_path / "frames", tmp_path)
    assert not problems and len(videos) == 6 and len({video.group for video in videos}) == 1
    assert sorted(video.label for video in videos) == [0, 0, 0, 1, 1, 1]
    assert [len(video.faces) for video in videos] == [1, 1, 1, 1, 4, 4]


def test_only_people_of_the_training_set_are_taken_where_a_split_is_given(tmp_path):
    write_split_dataset(tmp_path, classes=(REAL,))
    _, parts = read_dataset(tmp_path / "split_dataset")
    known = {split: {row["video_id"] for row in rows} for split, rows in parts.items()}
    videos = [Video(name, f"{name}.mp4", tmp_path) for split in known for name in sorted(known[split])]
    found = make_portrait_fakes.videos_of_training(videos, tmp_path / "split_dataset")
    assert {video.video_id for video in found} == known["train"] and len(found) < len(videos)


def test_an_existing_folder_is_not_touched(portraits, made, capsys):
    before = sorted(path.stat().st_mtime_ns for path in made.rglob("*"))
    with pytest.raises(SystemExit) as stopped:
        make_portrait_fakes.main([*portraits, "--everyone", "--out", str(made)])
    assert stopped.value.code == 2 and "is there already" in capsys.readouterr().err
    assert sorted(path.stat().st_mtime_ns for path in made.rglob("*")) == before


def refusal(options, tmp_path, capsys):
    """Return what the tool says when it refuses."""
    with pytest.raises(SystemExit) as stopped:
        make_portrait_fakes.main([*options, "--out", str(tmp_path / "fakes")])
    assert stopped.value.code == 2 and not (tmp_path / "fakes").exists()
    return capsys.readouterr().err


def test_one_person_is_too_few(portraits, tmp_path, capsys):
    options = [*portraits[:3], str(Path(portraits[3]) / "hopper.png"), *portraits[4:], "--everyone"]
    assert "fewer than two people" in refusal(options, tmp_path, capsys)


def test_whoever_may_be_somebody_else_is_refused(portraits, tmp_path, capsys):
    """Two photos of one person must not be taken for two people: one could be in training, the other in the test set."""
    assert "--train-of" in refusal(portraits, tmp_path, capsys)  # who is to be left unseen must be said
    videos = tmp_path / "videos"
    shutil.copytree(portraits[3], videos)
    options = [*portraits[:3], str(videos), *portraits[4:], "--everyone"]
    metadata = json.loads((videos / "metadata.json").read_text())
    del metadata["hopper.png"]["group"]
    (videos / "metadata.json").write_text(json.dumps(metadata))
    assert "hopper.png: metadata.json gives no group" in refusal(options, tmp_path, capsys)
    metadata["hopper.png"] = {"label": "FAKE", "group": "hop"}
    (videos / "metadata.json").write_text(json.dumps(metadata))
    assert "fewer than two people" in refusal(options, tmp_path, capsys)  # a fake is nobody's portrait
    (videos / "metadata.json").write_text("{")
    assert "metadata.json: cannot be used" in refusal(options, tmp_path, capsys)


def test_missing_frames_are_named(portraits, tmp_path, capsys):
    options = [*portraits[:5], str(tmp_path / "nowhere"), "--everyone"]
    assert f"{tmp_path / 'nowhere'} does not exist" in refusal(options, tmp_path, capsys)
    with pytest.raises(InputError, match=r"gone\.png is missing or damaged"):
        portrait(tmp_path / "gone.png", "a").read()
