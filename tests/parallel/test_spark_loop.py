"""The work loop on Spark's executors: it gives what the local one gives, also for what dies or hangs."""

import os
from argparse import Namespace

import pytest

from common.errors import InputError, OutputError
from deepfake.parallel import loop, pool, spark
from tests.spark_tasks import behave_as_record, cannot_start, count_start  # by a name that executors can import

MASTER = "local[2]"


def collect(tasks, timeout_s=60, **options):
    return dict(spark.run_on_spark(MASTER, "test", behave_as_record, tasks, timeout_s, **options))


def test_bad_tasks_cost_what_they_cost_locally(tmp_path):
    tasks = ["a", "exit", "b", "crash", "raise", "unpicklable", "input", "hang", "c"]
    found = collect(tasks, timeout_s=15, initializer=count_start, initargs=(str(tmp_path),))
    expected = dict(pool.run_in_workers(behave_as_record, tasks, 2, 15))
    assert set(found) == set(tasks)
    for task in tasks:
        if isinstance(expected[task], InputError):
            assert isinstance(found[task], InputError) and str(found[task]) == str(expected[task])
        else:
            assert found[task] == {"counts": {"letters": 1}, "warnings": [task]}
    died = sum(task in ("exit", "crash", "hang") for task in tasks)
    assert 1 <= len(list(tmp_path.iterdir())) <= 2 + died, (
        "set up once per Python worker, and again after one that died"
    )


def test_many_tasks_are_done_once_each_by_two_workers_set_up_once(tmp_path, monkeypatch):
    monkeypatch.setattr(spark, "MOST_TASKS", 8)
    tasks = [f"t{index}" for index in range(30)]
    arrived = list(spark.run_on_spark(MASTER, "test", behave_as_record, tasks, 60, count_start, (str(tmp_path),)))
    assert sorted(task for task, _ in arrived) == sorted(tasks)
    assert 1 <= len(list(tmp_path.iterdir())) <= 2
    assert str(os.getpid()) not in {path.name for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("task", "initializer", "message"),
    [("full", None, "disk full"), ("a", cannot_start, "cannot start a worker: ImportError: No module named 'mtcnn'")],
)
def test_what_ends_everything_ends_it_here_too(task, initializer, message):
    with pytest.raises(OutputError, match=message):
        collect([task], initializer=initializer)


def test_work_through_takes_spark(monkeypatch, capsys, tmp_path):
    asked = []

    def run_on_spark(master, name, function, todo, *more):
        asked.append((master, name))
        return ((job, {"counts": {"letters": 2}}) for job in todo)

    monkeypatch.setattr(spark, "run_on_spark", run_on_spark)
    args = Namespace(spark_master=MASTER, workers=None, timeout=1, force=False)
    assert (
        loop.work_through(
            "00", None, [loop.Job(tmp_path, tmp_path / "absent", "record.json", dict, {})], args, tmp_path
        )
        == 0
    )
    assert asked == [(MASTER, "00 of 1 videos")] and "00: 1 videos, 2 letters, 0 failed" in capsys.readouterr().err


def test_spark_submit_is_known_by_its_gateway(monkeypatch):
    assert not spark.under_spark_submit()
    monkeypatch.setenv("PYSPARK_GATEWAY_PORT", "4040")
    assert spark.under_spark_submit()
