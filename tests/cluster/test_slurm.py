"""The whole pipeline on a real Slurm, submitted by jobs/slurm/submit_all.sh; a task that is killed; judging without training."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from common.paths import FACES_RECORD, FRAMES_RECORD
from deepfake.parallel.loop import share_of
from deepfake.preprocessing.inputs import list_frame_dirs
from tests.cluster.conftest import (
    REPOSITORY_DIR,
    TRAINING,
    read_rows,
    same_faces,
    same_failures,
    same_frames,
    same_verdicts,
)
from tests.cluster.daemons import wait_until
from tests.cluster.slurm import missing_programs, running_slurm

SUBMIT_ALL = REPOSITORY_DIR / "jobs" / "slurm" / "submit_all.sh"
SHARDS, KILLED = 3, 2
STEP_LIMIT_S = 1200  # seconds of CPU time are few; a busy machine gives them slowly


@pytest.fixture(scope="module")
def slurm():
    """Environment of commands that talk to a running Slurm; jobs use the Python that runs this test."""
    if missing := missing_programs():
        message = f"Slurm is not installed (missing: {', '.join(missing)}); apt-get install slurm-wlm munge"
        pytest.skip(message) if os.environ.get("SKIP_WITHOUT_SLURM") else pytest.fail(message)
    with running_slurm() as environment:
        yield {**environment, "VENV": sys.prefix}


def run(slurm, *command):
    done = subprocess.run(list(map(str, command)), env=slurm, cwd="/", capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def submit(slurm, *options):
    """Run submit_all.sh; return {step: (job id, the sbatch command that submits it again)}."""
    lines = run(slurm, SUBMIT_ALL, *options).splitlines()
    return {step: (job, shlex.split(command)) for step, job, command in (line.split("\t") for line in lines)}


def states(slurm, job):
    """Return the states of a job, or of the tasks of an array."""
    return set(re.findall(r"JobState=(\w+)", run(slurm, "scontrol", "show", "job", job)))


def wait_for(slurm, jobs):
    """Wait until the jobs have ended; all must have succeeded, else the logs are shown."""
    for job in jobs:
        wait_until(lambda: states(slurm, job) <= {"COMPLETED", "FAILED", "CANCELLED"}, STEP_LIMIT_S, f"job {job}")  # noqa: B023
        assert states(slurm, job) == {"COMPLETED"}, run(slurm, "scontrol", "show", "job", job)


def process_of(words):
    """Return the id of the Python process whose command line holds all `words`."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if "python" in Path(command[0]).name and all(word in command for word in words):
            return int(folder.name)
    return None


def faces_of(folders):
    """Return {folder: modification time of its faces.json} of those that 01a has completed."""
    records = {folder: folder / "faces" / FACES_RECORD for folder in folders}
    return {folder: path.stat().st_mtime_ns for folder, path in records.items() if path.is_file()}


def test_pipeline_with_a_killed_task(slurm, cluster_videos, local_run, tmp_path):
    data_dir = tmp_path / "on slurm"
    options = [word for option in TRAINING for word in ("--03", option)]
    place = ("--shards", SHARDS, "--data-dir", data_dir, "--frames-dir", data_dir / "frames")
    jobs = submit(slurm, cluster_videos, *place, "--cpu", "--cpus-per-task=1", *options)
    assert list(jobs) == ["00", "01a", "02", "03", "04"]
    wait_for(slurm, [jobs["00"][0]])
    same_frames(data_dir, local_run)

    folders = list_frame_dirs(data_dir / "frames")
    sizes = [(folder / FRAMES_RECORD).stat().st_size for folder in folders]
    share = share_of(folders, sizes, (KILLED, SHARDS))
    assert len(share) > 3
    wait_until(lambda: faces_of(share), STEP_LIMIT_S, "the first faces of the task to kill")
    os.kill(process_of([f"{KILLED}/{SHARDS}", str(data_dir), "01a_crop_faces_mtcnn.py"]), signal.SIGKILL)
    wait_until(lambda: "FAILED" in states(slurm, jobs["01a"][0]), STEP_LIMIT_S, "the killed task")
    before = faces_of(share)
    assert 0 < len(before) < len(share), "killed in the middle"
    assert states(slurm, jobs["02"][0]) == {"PENDING"}, "nothing goes on without a shard"

    again = [word for word in jobs["01a"][1] if not word.startswith(("--array", "--dependency"))]
    again = subprocess.run(
        [again[0], "--parsable", f"--array={KILLED}", *again[1:]],
        env=slurm,
        cwd=REPOSITORY_DIR,
        capture_output=True,
        text=True,
    )
    waits = f"Dependency=afterok:{again.stdout.strip()},afterany:{jobs['01a'][0]}"
    run(slurm, "scontrol", "update", f"JobId={jobs['02'][0]}", waits)
    wait_for(slurm, [again.stdout.strip(), *(jobs[step][0] for step in ("02", "03", "04"))])
    after = faces_of(share)
    assert len(after) == len(share) and {folder: after[folder] for folder in before} == before, (
        "only the unfinished are redone"
    )
    same_faces(data_dir, local_run)
    same_failures(data_dir, local_run)
    same_verdicts(data_dir, local_run, tolerance=0.1)
    logs = {path.name: path.read_text() for path in (data_dir / "logs").iterdir()}
    assert sum("status 1: some inputs failed" in log for log in logs.values()) == 1, "the shard of broken.mp4"

    weights = data_dir / "tmp_checkpoint" / "best_model.h5"
    judged = submit(
        slurm, cluster_videos, *place, "--judge", "--03a", f"--weights={weights}", "--gpu", "--cpus-per-task=2"
    )
    assert list(judged) == ["00", "01a", "03a", "04"]
    scores = {row["video_id"]: row["score"] for row in read_rows(data_dir / "video_preds.csv")}
    wait_for(slurm, [job for job, _ in judged.values()])
    rows = read_rows(data_dir / "video_preds.csv")
    assert {row["video_id"] for row in rows if row["verdict"] == "CANNOT JUDGE"} == {"broken", "no_face"} and len(
        rows
    ) == 18
    for row in rows:
        if scores.get(row["video_id"]):
            assert float(row["score"]) == pytest.approx(float(scores[row["video_id"]]), abs=1e-3)


def test_status_2_stops_what_comes_after(slurm, cluster_videos, tmp_path):
    data_dir = tmp_path / "data"
    (tmp_path / "no videos").mkdir()
    jobs = submit(slurm, tmp_path / "no videos", "--shards", 1, "--data-dir", data_dir)
    wait_until(lambda: states(slurm, jobs["00"][0]) == {"FAILED"}, STEP_LIMIT_S, "00 without videos")
    assert "ExitCode=2:0" in run(slurm, "scontrol", "show", "job", jobs["00"][0])
    assert all(states(slurm, jobs[step][0]) == {"PENDING"} for step in ("01a", "02", "03", "04"))
    run(slurm, "scancel", *(jobs[step][0] for step in ("01a", "02", "03", "04")))
