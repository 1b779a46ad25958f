"""00: its record, what a rerun does, shards, workers, links, and where things go."""

import importlib
import json
import os

import numpy as np
import pytest
from PIL import Image

from tests.videos import mtimes, number_of, numbered_picture, read_png, record_of, run_script, tree, write_numbered

step = importlib.import_module("00_convert_video_to_image")


def run(data_dir, *arguments):
    return step.main(["--data-dir", str(data_dir), "--workers", "1", *map(str, arguments)])


@pytest.fixture
def data_dir(tmp_path):
    """A data root with two short videos and a photo."""
    videos_dir = tmp_path / "train_sample_videos"
    videos_dir.mkdir()
    write_numbered(videos_dir / "x.mp4", 30, size=(320, 240))
    write_numbered(videos_dir / "y.mkv", 12)
    Image.fromarray(numbered_picture(3)).save(videos_dir / "z.png")
    return tmp_path


def test_frames_json(data_dir):
    assert run(data_dir, "--max-side", 160) == 0
    videos_dir = data_dir / "train_sample_videos"
    record, status = record_of(videos_dir / "x"), (videos_dir / "x.mp4").stat()
    assert record["made_from"] == {
        "filename": "x.mp4",
        "size_bytes": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "frames": 11,
        "max_side": 160,
    }
    assert (record["video_id"], record["width"], record["height"], record["scale"]) == ("x", 320, 240, 0.5)
    assert (record["fps"], record["length_s"], record["frames_total"]) == (25.0, 1.2, 30)
    assert (record["warnings"], record["counts"]) == ([], {"frames": 11})
    assert [frame["file"] for frame in record["frames"]] == [f"x-{index:03d}.png" for index in range(11)]
    assert {path.name for path in (videos_dir / "x").iterdir()} == {
        "frames.json",
        *(frame["file"] for frame in record["frames"]),
    }
    for frame in record["frames"]:
        picture = read_png(videos_dir / "x" / frame["file"])
        assert picture.shape == (120, 160, 3)
        assert number_of(np.repeat(np.repeat(picture, 2, 0), 2, 1)) == round(frame["time_s"] * 25)
    photo = record_of(videos_dir / "z-png")
    assert [photo[key] for key in ("fps", "length_s", "frames_total", "scale")] == [None, 0.0, 1, 1.0]
    assert number_of(read_png(videos_dir / "z-png" / "z-png-000.png")) == 3


def test_options_change_count_and_size(data_dir):
    assert run(data_dir, "--frames", 3, "--max-side", 80) == 0
    frames = record_of(data_dir / "train_sample_videos" / "x")["frames"]
    assert [round(frame["time_s"] * 25) for frame in frames] == step.choose_frames(range(30), 3)
    assert read_png(data_dir / "train_sample_videos" / "x" / "x-002.png").shape == (60, 80, 3)


def test_rerun_skips_what_is_complete_and_unchanged(data_dir, capfd):
    assert run(data_dir) == 0
    before = mtimes(data_dir / "train_sample_videos")
    assert run(data_dir) == 0
    assert mtimes(data_dir / "train_sample_videos") == before
    assert "00: 3 videos, 23 frames, 3 were complete, 0 failed" in capfd.readouterr().err


def test_rerun_redoes_what_changed(data_dir):
    videos_dir = data_dir / "train_sample_videos"
    run(data_dir)

    def redone(*arguments):
        before = {folder: (videos_dir / folder).stat().st_ino for folder in ("x", "y", "z-png")}
        assert run(data_dir, *arguments) == 0
        assert not [path for path in videos_dir.rglob(".*")]
        return [folder for folder in before if (videos_dir / folder).stat().st_ino != before[folder]]

    assert redone() == []
    write_numbered(videos_dir / "y.mkv", 14)
    assert redone() == ["y"] and record_of(videos_dir / "y")["frames_total"] == 14
    os.utime(videos_dir / "z.png", ns=(1, 1))
    assert redone() == ["z-png"]
    assert redone("--frames", 5) == ["x", "y", "z-png"]
    assert len(list((videos_dir / "x").glob("*.png"))) == 5, "no frame of the older run is left"
    assert redone("--frames", 5, "--max-side", 100) == ["x", "y", "z-png"]
    assert redone("--frames", 5, "--max-side", 100) == []
    assert redone("--frames", 5, "--max-side", 100, "--force") == ["x", "y", "z-png"]
    (videos_dir / "x" / "frames.json").write_text("[1, 2")
    assert redone("--frames", 5, "--max-side", 100) == ["x"]


def test_outputs_are_never_inputs(data_dir):
    run(data_dir)
    run(data_dir)
    videos_dir = data_dir / "train_sample_videos"
    assert sorted(path.name for path in videos_dir.iterdir()) == ["x", "x.mp4", "y", "y.mkv", "z-png", "z.png"]
    assert (data_dir / "failed.csv").read_text() == "stage,video,reason\n"


def test_prune_removes_only_what_lost_its_video(data_dir):
    videos_dir = data_dir / "train_sample_videos"
    run(data_dir)
    (videos_dir / "mine").mkdir()
    assert run(data_dir, "--videos-dir", videos_dir / "x.mp4", "--prune") == 0
    assert {"x", "y", "z-png"} <= {path.name for path in videos_dir.iterdir()}
    (videos_dir / "y.mkv").unlink()
    assert run(data_dir) == 0 and (videos_dir / "y").exists()
    assert run(data_dir, "--prune") == 0
    assert sorted(path.name for path in videos_dir.iterdir() if path.is_dir()) == ["mine", "x", "z-png"]


def test_frames_dir_keeps_the_videos_folder_as_it_was(data_dir):
    before = mtimes(data_dir / "train_sample_videos")
    assert run(data_dir, "--frames-dir", data_dir / "elsewhere" / "frames") == 0
    assert mtimes(data_dir / "train_sample_videos") == before
    assert sorted(path.name for path in (data_dir / "elsewhere" / "frames").iterdir()) == ["x", "y", "z-png"]


def test_one_file_as_videos_dir(data_dir):
    assert run(data_dir, "--videos-dir", data_dir / "train_sample_videos" / "x.mp4") == 0
    assert (data_dir / "train_sample_videos" / "x").is_dir() and not (data_dir / "train_sample_videos" / "y").exists()
    (data_dir / "x.txt").touch()
    assert run(data_dir, "--videos-dir", data_dir / "x.txt") == 1


def test_limit(data_dir):
    assert run(data_dir, "--limit", 2) == 0
    assert [path.name for path in sorted((data_dir / "train_sample_videos").iterdir()) if path.is_dir()] == ["x", "y"]


def test_linked_videos_and_subfolders(data_dir):
    videos_dir = data_dir / "train_sample_videos"
    (data_dir / "store").mkdir()
    write_numbered(data_dir / "store" / "far.mp4", 12)
    (videos_dir / "part_0").symlink_to(data_dir / "store", target_is_directory=True)
    (videos_dir / "link.mp4").symlink_to(data_dir / "store" / "far.mp4")
    (videos_dir / "loop").symlink_to(videos_dir, target_is_directory=True)
    assert run(data_dir) == 0
    assert record_of(videos_dir / "part_0__far")["made_from"]["filename"] == "part_0/far.mp4"
    assert (videos_dir / "link" / "link-010.png").is_file()
    assert sorted(path.name for path in (data_dir / "store").iterdir()) == ["far.mp4"]


def test_workers_change_nothing(data_dir):
    assert run(data_dir, "--frames-dir", data_dir / "one") == 0
    assert run(data_dir, "--frames-dir", data_dir / "two", "--workers", 2) == 0
    assert tree(data_dir / "one") == tree(data_dir / "two")


@pytest.mark.parametrize("count", [3, 16])
def test_shards_together_do_everything_once(tmp_path, count):
    videos_dir = tmp_path / "train_sample_videos"
    videos_dir.mkdir()
    for index in range(7):
        Image.fromarray(numbered_picture(index)).resize((40 * (index + 1), 90)).save(videos_dir / f"p{index}.jpg")
    (videos_dir / "x.heic").touch()
    shares = []
    for number in range(1, count + 1):
        done = {path.name for path in videos_dir.iterdir() if path.is_dir()}
        assert run(tmp_path, "--shard", f"{number}/{count}") == (1 if number == 1 else 0)
        shares.append({path.name for path in videos_dir.iterdir() if path.is_dir()} - done)
    assert set.union(*shares) == {f"p{index}-jpg" for index in range(7)}
    assert sum(map(len, shares)) == 7 and max(map(len, shares)) <= (3 if count == 3 else 1)
    assert "x.heic" in (tmp_path / "failed.csv").read_text(), "no shard loses another's failure"


def test_as_a_script_from_elsewhere(data_dir, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    environment = {"DEEPFAKE_DATA_DIR": str(data_dir)}
    done = run_script("00_convert_video_to_image.py", cwd=elsewhere, environment=environment)
    assert (done.returncode, done.stdout) == (0, "")
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("00: 3 videos, 23 frames, 0 failed, ")
    assert not list(elsewhere.iterdir())
    assert json.loads((data_dir / "train_sample_videos" / "x" / "frames.json").read_text())["video_id"] == "x"


def test_help_names_what_it_reads_and_writes(tmp_path):
    done = run_script("00_convert_video_to_image.py", "--help", cwd=tmp_path)
    assert done.returncode == 0
    for word in (
        "Reads",
        "Writes",
        "Rerun",
        "--frames",
        "--max-side",
        "--prune",
        "--shard",
        "--timeout",
        "default: 11",
    ):
        assert word in done.stdout
