"""The job scripts without a scheduler: what they run, with which status they end. On a real one: tests/cluster."""

import os
import subprocess
import sys

import pytest

from common.paths import REPOSITORY_DIR

JOBS_DIR = REPOSITORY_DIR / "jobs"
SCHEDULED = (
    "00_convert_video_to_image",
    "01a_crop_faces_mtcnn",
    "02_prepare_dataset",
    "03_train_cnn",
    "03a_load_model",
    "04_mapreduce_video_preds",
)
TASK = {"SLURM_SUBMIT_DIR": str(REPOSITORY_DIR), "SLURM_ARRAY_TASK_ID": "2", "SLURM_CPUS_PER_TASK": "3"}
TASK |= {"SGE_TASK_ID": "2", "NSLOTS": "3"}


def run(command, folder, status=0, **environment):
    """Run a job with a Python that says its arguments and ends with `status`; return the finished process."""
    python = folder / "my environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nprintf "<%s>" "$@"\n[ "$2" = --help ] && exit 0\nexit {status}\n')
    python.chmod(0o755)
    environment = {**os.environ, **TASK, "VENV": str(python.parent.parent), "CONDA_ENV": "", **environment}
    return subprocess.run(list(map(str, command)), cwd=REPOSITORY_DIR, env=environment, capture_output=True, text=True)


@pytest.mark.parametrize(("status", "ends_with"), [(0, 0), (1, 0), (2, 2), (137, 137)])
def test_only_status_1_becomes_0(tmp_path, status, ends_with):
    done = run(["bash", JOBS_DIR / "run.sh", "x.py", "a b"], tmp_path, status)
    assert (done.returncode, done.stdout) == (ends_with, "<x.py><a b>")
    assert ("some inputs failed" in done.stderr) == (status == 1)


@pytest.mark.parametrize(
    "code", ["import no_such_module", "from common.cli import stops_in_words\nstops_in_words(len)()"]
)
def test_a_script_that_crashes_is_no_input_that_failed(tmp_path, code):
    script = tmp_path / "x.py"
    script.write_text(
        f"import sys; sys.path.insert(0, {str(REPOSITORY_DIR)!r})\n'--help' in sys.argv and sys.exit()\n{code}\n"
    )
    if "no_such" in code:
        script.write_text(f"{code}\n")
    environment = {**os.environ, "VENV": sys.prefix, "CONDA_ENV": ""}
    done = subprocess.run(
        ["bash", JOBS_DIR / "run.sh", script], cwd=REPOSITORY_DIR, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 2 and "Traceback" in done.stderr and "some inputs failed" not in done.stderr


def test_an_environment_that_is_not_there_is_named(tmp_path):
    done = run(["bash", JOBS_DIR / "run.sh", "x.py"], tmp_path, VENV="no/where")
    assert done.returncode == 2 and "error: no/where/bin/python does not exist" in done.stderr


@pytest.mark.parametrize("name", SCHEDULED)
@pytest.mark.parametrize("scheduler", ["slurm", "gridengine"])
def test_every_job_runs_its_script_with_its_options(tmp_path, scheduler, name):
    job = JOBS_DIR / scheduler / f"{name}.{'sbatch' if scheduler == 'slurm' else 'sh'}"
    is_array = name.startswith(("00", "01a"))
    done = run(["bash", job, *(["16"] if is_array else []), "--data-dir", "/a b"], tmp_path)
    own = {
        "00": "<--shard><2/16><--workers><3>",
        "01": "<--shard><2/16><--workers><3>",
        "04": "<--spark-master><local[3]>",
    }
    assert (done.returncode, done.stdout) == (0, f"<{name}.py>{own.get(name[:2], '')}<--data-dir></a b>")
    options = done.stdout.strip("<>").split("><")[1:]
    known = subprocess.run(
        [sys.executable, f"{name}.py", "--help"], cwd=REPOSITORY_DIR, capture_output=True, text=True
    ).stdout
    assert all(option in known for option in options if option.startswith("--"))


@pytest.mark.parametrize(("status", "ends_with"), [(0, 0), (1, 0), (2, 100), (137, 100)])
def test_on_grid_engine_what_failed_holds_what_waits_for_it(tmp_path, status, ends_with):
    assert run(["bash", JOBS_DIR / "gridengine" / "02_prepare_dataset.sh"], tmp_path, status).returncode == ends_with


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "VIDEOS_DIR is not a folder"),
        (["/does/not/exist"], "/does/not/exist is not a folder"),
        (["/tmp", "/var"], "one folder of videos, not two"),
        (["/tmp", "--shards", "0"], "--shards 0 is not a number above 0"),
        (["/tmp", "--shards"], "--shards needs a value"),
        (["/tmp", "--what", "1"], "unknown option --what"),
    ],
)
def test_bad_options_submit_nothing(options, message):
    done = subprocess.run([JOBS_DIR / "slurm" / "submit_all.sh", *options], capture_output=True, text=True)
    assert done.returncode == 2 and message in done.stderr and not done.stdout
