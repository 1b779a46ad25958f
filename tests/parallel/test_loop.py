"""The work loop: workers that die, hang or cannot start, progress, and what a job's result leads to."""

import ctypes
import dataclasses
import importlib
import os
import shutil
import signal
import time
from argparse import Namespace
from pathlib import Path

import pytest

from common import messages as progressing
from common.errors import InputError, OutputError
from common.files import write_json
from deepfake.parallel import loop, pool
from deepfake.parallel.failures import failures


class Unpicklable(Exception):
    """An exception that can be sent to another process but not be rebuilt there, like many of PyAV's."""

    def __init__(self, code, message):
        super().__init__(message)


def behave(task):
    """Do in a worker what the task says."""
    if task == "exit":
        os._exit(7)
    if task == "crash":
        ctypes.string_at(0)
    if task == "hang":
        time.sleep(3600)
    if task == "busy":
        while True:
            pass
    if task == "raise":
        raise ZeroDivisionError("inside a library")
    if task == "unpicklable":
        raise Unpicklable(3, "strange")
    if task == "input":
        raise InputError("bad file")
    if task == "full":
        raise OutputError("disk full")
    return f"{task} by {os.getpid()}"


def cannot_start():
    raise ImportError("No module named 'mtcnn'")


def count_start(folder):
    (Path(folder) / str(os.getpid())).touch()


def collect(tasks, workers=2, timeout_s=60, **options):
    return dict(pool.run_in_workers(behave, tasks, workers, timeout_s, **options))


def test_bad_tasks_cost_only_themselves():
    tasks = ["a", "exit", "b", "crash", "raise", "c", "unpicklable", "input", "d"]
    results = collect(tasks)
    assert set(results) == set(tasks)
    assert [task for task in tasks if isinstance(results[task], str)] == ["a", "b", "c", "d"]
    assert str(results["exit"]) == "the process that read it died (exit code 7)"
    assert "died" in str(results["crash"])
    assert str(results["raise"]) == "ZeroDivisionError: inside a library"
    assert str(results["unpicklable"]) == "Unpicklable: strange"
    assert str(results["input"]) == "bad file"
    assert all(isinstance(results[task], InputError) for task in ("exit", "crash", "raise", "unpicklable", "input"))


def test_time_limit():
    started = time.monotonic()
    results = collect(["a", "hang", "b", "busy", "c"], timeout_s=1.5)
    assert time.monotonic() - started < 20
    assert str(results["hang"]) == str(results["busy"]) == "took longer than 1.5 s (--timeout) and was stopped"
    assert all(isinstance(results[task], str) for task in "abc")


def test_output_errors_end_everything():
    with pytest.raises(OutputError, match="disk full"):
        collect(["a", "full", *(f"more {index}" for index in range(50))], workers=1)


def test_workers_that_cannot_start_end_everything():
    with pytest.raises(OutputError, match="cannot start a worker: ImportError: No module named 'mtcnn'"):
        collect(["a", "b"], initializer=cannot_start)


def test_workers_are_started_once_each(tmp_path):
    tasks = [f"t{index}" for index in range(30)]
    results = collect(tasks, initializer=count_start, initargs=(str(tmp_path),))
    started = {path.name for path in tmp_path.iterdir()}
    assert len(results) == 30 and 1 <= len(started) <= 2
    assert {text.split(" by ")[1] for text in results.values()} <= started
    assert str(os.getpid()) not in started


class SlowFromTheSecondOn:
    """An argument that the second and later workers unpickle slowly, so that they are still starting."""

    def __init__(self):
        self.workers = 0

    def __reduce__(self):  # called once for each worker
        self.workers += 1
        return time.sleep, (1.5 if self.workers > 1 else 0,)


def refuse_to_end(task):
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # so that the pool waits before it ends the next one
    return task


def accept(argument):
    assert argument is None


def test_a_worker_that_is_still_starting_ends_without_a_word(capfd):
    late = SlowFromTheSecondOn()
    results = pool.run_in_workers(refuse_to_end, ["a"], 2, 60, initializer=accept, initargs=(late,))
    assert list(results) == [("a", "a")]
    assert late.workers == 2
    assert capfd.readouterr().err == ""


def test_no_tasks_start_no_worker(tmp_path):
    assert collect([], initializer=count_start, initargs=(str(tmp_path),)) == {}
    assert not list(tmp_path.iterdir())


def test_progress_passes_everything_on_and_prints_plain_lines(monkeypatch, capsys):
    monkeypatch.setattr(progressing, "PLAIN_LINE_EVERY_S", 0)
    assert list(progressing.progress(iter("abcd"), 4, "00", "videos")) == list("abcd")
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4 and lines[0].startswith("00: 1 of 4 videos, ") and lines[0].endswith(" min left")
    monkeypatch.setattr(progressing, "PLAIN_LINE_EVERY_S", 60)
    assert list(progressing.progress(iter("abcd"), 4, "00", "videos")) == list("abcd")
    assert capsys.readouterr().err == ""


def test_progress_on_a_terminal_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(progressing.sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progressing.progress(iter("ab"), 2, "00", "videos")) == ["a", "b"]
    assert "min left" not in capsys.readouterr().err


# work_through


def origin(job):
    return {"content": job.path.read_text()}


def job_of(path):
    return loop.Job(path, path.with_name(f"{path.name}.out"), "record.json", origin, {"size": 1})


def work(job):
    behave(job.path.read_text())
    warnings = ["odd"] if "odd" in job.path.name else []
    record = {"made_from": job.made_from(), "counts": {"letters": 2}, "warnings": warnings}
    return job.write({"x.png": b"picture"}, record)


def through(folder, problems=(), force=False, **content):
    jobs = []
    for name, text in sorted(content.items()):
        (folder / name).write_text(text)
        jobs.append(job_of(folder / name))
    args = Namespace(workers=1, timeout=60, force=force, spark_master=None)
    return loop.work_through("00", work, jobs, args, folder / "data", problems)


def test_work_through_counts_skips_and_remembers(tmp_path, capfd):
    (tmp_path / "d.heic").touch()
    problems = [(tmp_path / "d.heic", InputError("not supported", "unsupported"))]
    assert through(tmp_path, problems, a="", b="raise", c_odd="") == 1
    message = capfd.readouterr().err
    assert f"00: failed: {tmp_path / 'b'}: ZeroDivisionError" in message
    assert f"00: failed: {tmp_path / 'd.heic'}: not supported" in message
    assert f"00: warning: {tmp_path / 'c_odd'}: odd" in message
    assert message.splitlines()[-1].startswith("00: 4 videos, 4 letters, 2 failed, ")
    noted = [(record["video"], record["code"]) for record in failures(tmp_path / "data")]
    assert noted == [("b", None), ("d.heic", "unsupported")]
    assert through(tmp_path, a="", b="", c_odd="") == 0
    message = capfd.readouterr().err
    assert message.splitlines()[-1].startswith("00: 3 videos, 6 letters, 2 were complete, 0 failed, ")
    assert f"00: warning: {tmp_path / 'c_odd'}: odd" in message, "a skipped video keeps its warning"
    before = job_of(tmp_path / "a").target_dir.joinpath("record.json").stat().st_ino
    assert through(tmp_path, force=True, a="", b="", c_odd="") == 0
    assert job_of(tmp_path / "a").target_dir.joinpath("record.json").stat().st_ino != before


def test_failed_input_loses_its_outdated_result_only(tmp_path):
    mine = tmp_path / "b.out"
    mine.mkdir()
    (mine / "diary.txt").touch()
    assert through(tmp_path, a="") == 0
    assert through(tmp_path, force=True, a="raise", b="raise") == 1
    assert not (tmp_path / "a.out").exists() and (mine / "diary.txt").exists()


def test_a_job_is_finished_while_its_input_settings_and_result_are_the_same(tmp_path):
    (tmp_path / "a").write_text("1")
    job = job_of(tmp_path / "a")
    assert job.finished() is None
    assert job.write({"x.png": b"picture"}, {"made_from": job.made_from()}) == job.finished()
    assert (job.target_dir / "x.png").read_bytes() == b"picture"
    assert dataclasses.replace(job, settings={"size": 2}).finished() is None
    write_json(job.target_dir / "record.json", {"made_from": job.made_from(), "unreadable": ["y.png"]})
    assert job.finished() is None, "to be tried again"
    for damaged in ("{", "[1]", ""):
        (job.target_dir / "record.json").write_text(damaged)
        assert job.finished() is None
    write_json(job.target_dir / "record.json", {"made_from": job.made_from()})
    (tmp_path / "a").write_text("2")
    assert job.finished() is None
    (tmp_path / "a").unlink()
    assert job.finished() is None


def test_a_job_never_replaces_what_is_the_users(tmp_path):
    job = job_of(tmp_path / "a")
    assert job.blocked() is None
    job.target_dir.mkdir()
    assert job.blocked().code == "not_ours" and str(job.target_dir) in str(job.blocked())
    (job.target_dir / "record.json").write_text('{"fps": 30}')
    assert job.blocked()
    for ours in ('{"made_from": {}}', '{"made_'):
        (job.target_dir / "record.json").write_text(ours)
        assert job.blocked() is None
    shutil.rmtree(job.target_dir)
    job.target_dir.symlink_to(tmp_path / "nowhere")
    assert job.blocked()


def test_set_up_gets_the_threads_of_each_worker(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(pool, "usable_cpus", lambda: list(range(8)))
    monkeypatch.setattr(pool, "run_in_workers", lambda *arguments: asked.append(arguments) or iter(()))
    for name in "abc":
        (tmp_path / name).touch()
    args = Namespace(workers=None, timeout=60, force=False, spark_master=None)
    loop.work_through("00", work, [job_of(tmp_path / name) for name in "abc"], args, tmp_path / "data", set_up=print)
    ((_, todo, workers, timeout_s, set_up, threads),) = asked
    assert (len(todo), workers, timeout_s, set_up, threads) == (3, 3, 60, print, (2,))


def test_a_failure_of_an_unchanged_input_keeps_its_result(tmp_path, monkeypatch):
    assert through(tmp_path, a="") == 0
    failure = job_of(tmp_path / "a"), InputError("took too long")
    monkeypatch.setattr(pool, "run_in_workers", lambda *arguments: iter([failure]))
    assert through(tmp_path, force=True, a="") == 1
    assert (tmp_path / "a.out" / "record.json").is_file()


def test_output_errors_give_2_and_one_line(tmp_path, capfd):
    assert through(tmp_path, a="full", b="") == 2
    assert capfd.readouterr().err == "error: disk full\n"
    (tmp_path / "data").write_text("a file in the way")
    assert through(tmp_path, a="") == 2
    message = capfd.readouterr().err
    assert message.startswith("error: cannot write ") and message.count("\n") == 1


def test_interrupt_gives_130_and_one_line(tmp_path, monkeypatch, capfd):
    def interrupted(*arguments):
        raise KeyboardInterrupt
        yield

    monkeypatch.setattr(pool, "run_in_workers", interrupted)
    assert through(tmp_path, a="") == 130
    assert capfd.readouterr().err == "00: interrupted; run it again to go on where it stopped\n"


def test_long_lists_are_shortened(capsys):
    progressing.list_messages("00", "failed", [(Path(f"{index}.mp4"), "bad") for index in range(25)])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21 and lines[-1] == "00: failed: … and 5 more"


def test_workers_end_with_the_main_process(tmp_path):
    """A killed run must leave no worker that goes on writing."""
    videos = importlib.import_module("tests.videos")
    script = tmp_path / "driver.py"
    script.write_text(
        f"import os, signal, sys, time\nsys.path.insert(0, {str(videos.REPOSITORY_DIR)!r})\n"
        "from deepfake.parallel.pool import run_in_workers\n"
        "def slow(task):\n    open(f'{task}.{os.getpid()}', 'w').close()\n    time.sleep(3600)\n"
        "if __name__ == '__main__':\n"
        "    import threading\n"
        "    def kill():\n"
        "        while not [name for name in os.listdir('.') if name.startswith('task.')]:\n"
        "            time.sleep(0.05)\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    threading.Thread(target=kill).start()\n"
        "    list(run_in_workers(slow, ['task'], 1, 60))\n"
    )
    done = videos.run_script(script, cwd=tmp_path)
    assert done.returncode == -9
    worker = next(int(path.suffix[1:]) for path in tmp_path.glob("task.*"))
    deadline = time.monotonic() + 5
    while is_running(worker) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(worker)


def is_running(process_id):
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rsplit(")", 1)[1].split()[0] not in "ZX"
    except OSError:
        return False
