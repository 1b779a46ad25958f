"""Run contenders in turns, each in a process of its own, and say what they cost: median, spread, peak memory."""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli
from common.messages import say
from common.paths import REPOSITORY_DIR
from deepfake.parallel import pool

# A small process between this one and the contender: a process begins with the peak memory of the one that started it.
LAUNCHER = """
import json, os, subprocess, sys, time
started = time.perf_counter()
process = subprocess.Popen(sys.argv[2:])
_, status, used = os.wait4(process.pid, 0)
with open(sys.argv[1], "w") as file:
    json.dump([time.perf_counter() - started, os.waitstatus_to_exitcode(status), used.ru_maxrss], file)
"""


class Cost(NamedTuple):
    """What one run of a contender took."""

    wall_s: float
    peak_mb: float  # of the largest process it consisted of
    said: dict  # the JSON object on its last line of output, {} if there is none


def make_bench_parser(doc, work_dir_help, repetitions=3):
    """Return a parser with --work-dir, --repetitions and the hidden --contender, with which a benchmark calls itself."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, required=True, metavar="DIR", help=work_dir_help)
    parser.add_argument(
        "--repetitions", type=cli.positive, default=repetitions, metavar="N", help="in turns (default: %(default)s)"
    )
    parser.add_argument("--contender", nargs="+", help=argparse.SUPPRESS)
    return parser


def run_once(command, environment=None):
    """Run a command to its end and return its Cost; one that fails in any way stops the benchmark with its output."""
    command = [str(part) for part in command]
    environment = {**os.environ, **(environment or {})}
    with (
        tempfile.NamedTemporaryFile("r") as used,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as errors,
    ):
        launch = [sys.executable, "-I", "-S", "-c", LAUNCHER, used.name, *command]
        subprocess.run(launch, cwd=REPOSITORY_DIR, env=environment, stdout=output, stderr=errors, check=True)
        wall_s, status, peak = json.load(used)
        output.seek(0)
        errors.seek(0)
        said_text, error_text = (file.read().decode(errors="replace") for file in (output, errors))
    if status != 0:
        print(error_text, file=sys.stderr)
        cli.stop(f"{' '.join(command)} ended with status {status}")
    peak_mb = peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)
    try:
        said = json.loads(said_text.strip().rpartition("\n")[2])
    except ValueError:
        said = {}
    return Cost(wall_s, peak_mb, said if isinstance(said, dict) else {})


def in_turns(contenders, repetitions, before=None):
    """Return {name: [Cost]} of contenders {name: (command, environment)}: one after the other, `repetitions` rounds, every second
    round in the opposite order, so that a machine that gets slower treats them alike. `before(name)` is called before each."""
    costs = {name: [] for name in contenders}
    for number in range(repetitions):
        names = list(contenders) if number % 2 == 0 else list(reversed(contenders))
        for name in names:
            if before:
                before(name)
            costs[name].append(run_once(*contenders[name]))
            say(f"round {number + 1} of {repetitions}: {name}: {costs[name][-1].wall_s:.1f} s")
    return costs


def median_and_spread(values, digits=2):
    """Return "median (lowest to highest)"."""
    values = list(values)
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def markdown_table(header, rows):
    """Return the lines of a Markdown table."""
    lines = ["| " + " | ".join(map(str, row)) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], "|" + "---|" * len(header), *lines[1:]])


def machine():
    """Return one line about the machine: processor, cores, memory, Python."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
        memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (OSError, ValueError):
        memory_gib = float("nan")
    return f"{model}, {len(pool.usable_cpus())} cores, {memory_gib:.0f} GiB, Python {platform.python_version()}"
