"""Kills at any moment: after ten of them, a rerun ends with what an uninterrupted run gives."""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from common.files import digest
from deepfake.evaluation.predictions import FIELDS, write_predictions
from tests.videos import B_PYRAMID, REPOSITORY_DIR, read_png, record_of, run_script, tree, write_numbered

KILLS = 10
CLIPS = ("actor_000_real", "actor_001_real", "actor_003_real")


def start(script, *arguments):
    return subprocess.Popen(
        [sys.executable, str(REPOSITORY_DIR / script), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    )


def kill_after(process, wait_s):
    """Kill the main process at that moment; return whether it was still at work then."""
    try:
        process.wait(wait_s)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return process.returncode == -signal.SIGKILL


def wait_until(condition, process, limit_s=120):
    """Wait for a condition, or for the end of the process."""
    deadline = time.monotonic() + limit_s
    while not condition() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)


def leftovers(folder):
    return [path for path in folder.rglob(".*")]


def children_of(process):
    """Return {process id: command line} of the processes that it has started, by any of its threads."""
    found = {}
    for thread in Path(f"/proc/{process.pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # it has just ended
            for child in thread.read_text().split():
                found[int(child)] = Path(f"/proc/{child}/cmdline").read_bytes().decode(errors="replace")
    return found


def interrupt(process, sign, wait_s):
    """Press Ctrl-C, which all processes of a terminal get, `wait_s` after a child with `sign` in its command line is there.

    Return (lines of standard error, ids of the children).
    """
    wait_until(lambda: any(sign in command for command in children_of(process).values()), process)
    time.sleep(wait_s)
    children = children_of(process)
    os.killpg(process.pid, signal.SIGINT)
    return process.communicate(timeout=120)[1].decode().splitlines(), children


def runs(child):
    """Tell whether a process has not ended; one that nobody has asked for its status (Z) has."""
    try:
        return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def all_end(children, limit_s=20):
    deadline = time.monotonic() + limit_s
    while (left := [child for child in children if runs(child)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    return not left


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("wait_s", [0, 0.3, 0.6])
def test_ctrl_c_does_not_reach_workers_that_start(tmp_path, wait_s):
    (tmp_path / "videos").mkdir()
    for index in range(8):
        write_numbered(tmp_path / "videos" / f"{index}.mp4", 150, size=(640, 480), options=B_PYRAMID)
    places = ["--data-dir", tmp_path, "--videos-dir", tmp_path / "videos", "--workers", 2]
    process = start("00_convert_video_to_image.py", *places)
    lines, children = interrupt(process, "spawn_main", wait_s)
    assert "00: interrupted; run it again to go on where it stopped" in lines and process.returncode == 130
    assert not any("KeyboardInterrupt" in line for line in lines)  # a worker that is ended while it starts may complain
    assert children and all_end(children)
    assert run_script("00_convert_video_to_image.py", *places).returncode == 0


LONG_JOB = """
import importlib, pathlib, sys
verdicts = importlib.import_module("04_mapreduce_video_preds")
def collect(spark, *rest):
    pathlib.Path(sys.argv[1], "working").touch()
    return spark.range(10**15).selectExpr("sum(id)").collect()
verdicts.collect_verdicts = collect
sys.exit(verdicts.main(["--data-dir", sys.argv[1]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("works", [False, True])
def test_ctrl_c_while_spark_starts_or_works_is_one_line_and_ends_java(tmp_path, works):
    line = {**dict.fromkeys(FIELDS), "video_id": "a", "file": "0.png", "frame": 0, "person": 0, "score": 0.5}
    write_predictions(tmp_path / "cnn_preds_values.json", [line])
    driver = tmp_path / "driver.py"
    driver.write_text(f"import sys; sys.path.insert(0, {str(REPOSITORY_DIR)!r}){LONG_JOB}")
    process = start(driver, tmp_path)
    if works:
        wait_until((tmp_path / "working").exists, process)
    lines, children = interrupt(process, "java", 1)
    assert lines == ["interrupted; run it again"] and process.returncode == 130
    assert children and all_end(children) and not (tmp_path / "video_preds.csv").exists()


@pytest.mark.slow
def test_frames_after_ten_kills_are_byte_for_byte_the_same(tmp_path):
    videos_dir = tmp_path / "videos"
    videos_dir.mkdir()
    for index, name in enumerate("abc"):
        write_numbered(videos_dir / f"{name}.mp4", 150 + index, size=(640, 480), options=B_PYRAMID)

    def arguments(name):
        data_dir = tmp_path / name
        return ["--data-dir", data_dir, "--videos-dir", videos_dir, "--frames-dir", data_dir / "frames", "--workers", 2]

    started = time.monotonic()
    done = run_script("00_convert_video_to_image.py", *arguments("whole"))
    usual_s = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    whole = tree(tmp_path / "whole" / "frames")
    assert len(whole) == 3 * (1 + 11 + 1)

    killed_dir, rng, kills, partial = tmp_path / "killed", random.Random(1), 0, 0
    frames_dir = killed_dir / "frames"
    for _ in range(40):
        if kills == KILLS:
            break
        process = start("00_convert_video_to_image.py", *arguments("killed"))
        if kills < 4:  # any moment of the run, its start-up included
            moment_s = usual_s * rng.uniform(0.1, 0.9)
        else:  # while it works: after the first sign of it
            wait_until(frames_dir.is_dir, process)
            moment_s = rng.uniform(0, 0.3) * min(usual_s, 1)
        kills += kill_after(process, moment_s)
        partial += frames_dir.is_dir() and tree(frames_dir) != whole
        if frames_dir.is_dir() and (kills % 3 == 0 or complete(frames_dir, 3)):
            compare_frames(arguments("killed"), killed_dir, whole)
            shutil.rmtree(killed_dir)
    assert kills == KILLS
    assert partial >= 3, "too few kills left a half-finished folder: the moments are badly chosen"
    compare_frames(arguments("killed"), killed_dir, whole)


def complete(frames_dir, count):
    return len([*frames_dir.glob("*/frames.json")]) == count


def compare_frames(arguments, killed_dir, whole):
    """Let a rerun finish, and compare everything below its frames folder."""
    done = run_script("00_convert_video_to_image.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert tree(killed_dir / "frames") == whole
    assert leftovers(killed_dir / "frames") == []
    assert (killed_dir / "failed.csv").read_text() == "stage,video,reason\n"


@pytest.mark.slow
def test_faces_after_ten_kills_are_the_same(tmp_path, sample_dir):
    frames_dir = tmp_path / "frames"
    for name in CLIPS:
        done = run_script(
            "00_convert_video_to_image.py",
            "--data-dir",
            tmp_path,
            "--videos-dir",
            sample_dir / f"{name}.mp4",
            "--frames-dir",
            frames_dir,
        )
        assert done.returncode == 0, done.stderr
    shutil.copytree(frames_dir, tmp_path / "killed")

    def arguments(folder):
        return ["--data-dir", tmp_path / f"data of {folder.name}", "--frames-dir", folder, "--workers", 1]

    started = time.monotonic()
    process = start("01a_crop_faces_mtcnn.py", *arguments(frames_dir))
    wait_until(lambda: list(frames_dir.glob("*/faces")), process)
    first_s = time.monotonic() - started  # start-up and the first clip
    assert process.wait(120) == 0
    work_s = time.monotonic() - started - first_s
    process.communicate()

    killed_dir, rng, kills, partial = tmp_path / "killed", random.Random(2), 0, 0
    for _ in range(30):
        if kills == KILLS:
            break
        process, before = start("01a_crop_faces_mtcnn.py", *arguments(killed_dir)), inodes(killed_dir)
        if kills < 3:  # any moment, the import of TensorFlow included
            moment_s = rng.uniform(0.1, 0.95) * first_s
        else:  # after the first clip of this run, while the others are in work
            wait_until(lambda before=before: inodes(killed_dir) != before, process)
            moment_s = rng.uniform(0, 0.8) * work_s
        kills += kill_after(process, moment_s)
        partial += 0 < len(inodes(killed_dir)) < len(CLIPS)
        if len(inodes(killed_dir)) == len(CLIPS):
            compare_faces(frames_dir, killed_dir)
        if len(inodes(killed_dir)) > 1:  # leave two clips to do, or the next run would end before its kill
            for folder in rng.sample(CLIPS, 2):
                shutil.rmtree(killed_dir / folder / "faces", ignore_errors=True)
    assert kills == KILLS
    assert partial >= 2, "too few kills came between two clips: the moments are badly chosen"
    done = run_script("01a_crop_faces_mtcnn.py", *arguments(killed_dir))
    assert done.returncode == 0, done.stderr
    compare_faces(frames_dir, killed_dir)
    assert leftovers(killed_dir) == []


def inodes(frames_dir):
    """Return which clips have faces, and which folders those are."""
    return {(folder.parent.name, folder.stat().st_ino) for folder in frames_dir.glob("*/faces")}


def compare_faces(whole_dir, killed_dir):
    for name in CLIPS:
        whole, again = (record_of(folder / name / "faces", "faces.json") for folder in (whole_dir, killed_dir))
        names = [row["file"] for row in whole["faces"]]
        assert [row["file"] for row in again["faces"]] == names and len(names) >= 9
        assert sorted(os.listdir(killed_dir / name / "faces")) == sorted([*names, "faces.json"])
        for row, other in zip(whole["faces"], again["faces"], strict=True):
            assert np.allclose(row["box_xywh"], other["box_xywh"], atol=1)
            assert row["confidence"] == pytest.approx(other["confidence"], abs=1e-3)
            assert other["digest"] == digest(killed_dir / name / "faces" / other["file"])
            assert read_png(killed_dir / name / "faces" / other["file"]).shape[:2] == tuple(other["crop_xywh"][:1:-1])
        assert {**whole, "faces": None} == {**again, "faces": None}
