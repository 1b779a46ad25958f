"""Plan past one machine: hours, node-hours, storage and the bottleneck of judging many videos on many nodes.

Reads   benchmarks/scaling.json: every figure with where it comes from
Writes  the tables of docs/cluster.md to standard output; with --write PATH between that file's markers
Rerun   gives the same

Each step's time is the longest of three: its computing, the bytes and the files that it moves over the shared file system. A
simulation of the shards, with videos of different length, checks the first.
"""

import argparse
import heapq
import json
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
from measure import markdown_table

from common import files
from common.constants import SEED
from common.messages import say

FIGURES = Path(__file__).with_name("scaling.json")
VIDEOS, NODES = (1_000, 115_000, 10_000_000), (1, 50, 500)
SIMULATED = 100_000  # items at most; more videos are simulated in blocks of equal number
BEGIN, END = "<!-- begin of the tables of benchmarks/scaling.py -->", "<!-- end of the tables -->"
BOUNDS = ("computing", "bytes", "files")
SWITCHES = (  # what to leave out -> factors of the figures
    ("nothing", {}),
    ("00 --max-side 640: smaller frames and crops", {"frame_bytes": (640 / 960) ** 2, "face_bytes": (640 / 960) ** 2}),
    ("00 --frames 6: fewer frames and faces", {"frames_per_video": 6 / 11, "faces_per_video": 6 / 11}),
    ("delete the frames after 01a", {"kept_frames": 0}),
)
SWITCHED = (115_000, 50)  # videos and nodes of the table of switches


class Step(NamedTuple):
    """What a step of the pipeline needs for all videos."""

    name: str
    core_s: float
    start_s: float
    nodes: int  # that can work on it
    bytes: float  # read and written
    files: float  # opened and created

    def bounds_s(self, figures):
        """Return the seconds that computing, bytes and files each take at least."""
        cores = self.nodes * figures["cores_per_node"]
        moved_s = self.bytes / figures["storage_bytes_per_s"]
        return self.start_s + self.core_s / cores, moved_s, self.files / figures["storage_files_per_s"]

    def wall_s(self, figures):
        return max(self.bounds_s(figures))

    def bound(self, figures):
        """Return what the time of the step is due to."""
        bounds_s = self.bounds_s(figures)
        return BOUNDS[bounds_s.index(max(bounds_s))]


def read_figures():
    return {name: value for name, (value, _) in json.loads(FIGURES.read_text(encoding="utf-8")).items()}


def steps_of(videos, nodes, figures):
    """Return the Steps of judging `videos` on `nodes`: 00 and 01a on all of them, 03a and 04 on one."""
    f = figures
    frames, faces = videos * f["frames_per_video"], videos * f["faces_per_video"]
    video_bytes, records = videos * f["video_bytes"], videos * f["record_bytes"]
    frame_bytes, face_bytes, line_bytes = (
        frames * f["frame_bytes"],
        faces * f["face_bytes"],
        faces * f["prediction_bytes"],
    )
    verdicts_core_s = videos * f["verdicts_core_s_per_video"] + faces * f["verdicts_core_s_per_face"]
    used = min(nodes, max(1, videos // f["cores_per_node"]))
    files_00, files_01a, files_03a = 2 * videos + frames, 2 * videos + frames + faces, 2 * videos + faces
    return [
        Step("00", videos * f["frames_core_s_per_video"], f["start_s"], used, video_bytes + frame_bytes, files_00),
        Step(
            "01a",
            frames * f["faces_core_s_per_frame"],
            f["start_s"],
            used,
            frame_bytes + face_bytes + records,
            files_01a,
        ),
        Step(
            "03a",
            faces * f["scores_core_s_per_face"],
            f["scores_start_s"],
            1,
            face_bytes + records + line_bytes,
            files_03a,
        ),
        Step("04", verdicts_core_s, f["verdicts_s"], 1, line_bytes, 1),
    ]


def storage_of(videos, figures):
    """Return {what: (bytes, files)} that lies on the shared file system in the end."""
    frames, faces = videos * figures["frames_per_video"], videos * figures["faces_per_video"]
    return {
        "videos": (videos * figures["video_bytes"], videos),
        "frames": tuple(figures.get("kept_frames", 1) * number for number in (frames * figures["frame_bytes"], frames)),
        "faces": (faces * figures["face_bytes"], faces),
        "records": (videos * figures["record_bytes"], 2 * videos),
        "predictions": (faces * figures["prediction_bytes"], 1),
    }


def last_worker_s(seconds, workers):
    """Return when the last of `workers` is done with items that each takes in order when it is free."""
    free_at = [0.0] * workers
    for needed_s in seconds:
        heapq.heapreplace(free_at, free_at[0] + needed_s)
    return max(free_at)


def simulate_s(videos, nodes, core_s_per_video, figures, seed=SEED):
    """Return the seconds until the last shard of a step is done: videos of different length, dealt out by their size as the
    scripts do it (share_of in common/paths.py), the size telling the seconds but for a third of their spread."""
    rng, items = np.random.default_rng(seed), min(videos, SIMULATED)
    spread = figures["video_spread"]
    known, hidden = rng.normal(0, spread * np.sqrt(2 / 3), items), rng.normal(0, spread * np.sqrt(1 / 3), items)
    lengths = np.exp(known + hidden)
    seconds = (lengths * videos * core_s_per_video / lengths.sum()).tolist()
    sizes = (1e6 * np.exp(known)).astype(int).tolist()
    workers = figures["cores_per_task"]
    shards = min(nodes * figures["cores_per_node"] // workers, items)
    numbered = share_numbers(sizes, shards)
    shard_s = [last_worker_s([seconds[place] for place in places], workers) for places in numbered]
    return figures["start_s"] + max(shard_s)


def share_numbers(sizes, shards):
    """Return the items of every shard at once, by the rule of share_of, which gives them for one."""
    loads, places = [(0, index) for index in range(shards)], [[] for _ in range(shards)]
    for place in sorted(range(len(sizes)), key=lambda place: (-sizes[place], place)):
        load, index = loads[0]
        heapq.heapreplace(loads, (load + max(1, sizes[place]), index))
        places[index].append(place)
    return [sorted(found) for found in places]


def hours(seconds):
    """Return seconds as people read them."""
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.0f} s"


def volume(number_of_bytes):
    for unit, size in (("TB", 1e12), ("GB", 1e9)):
        if number_of_bytes >= size:
            return f"{number_of_bytes / size:,.1f} {unit}"
    return f"{number_of_bytes / 1e6:,.1f} MB"


def time_rows(figures):
    """Return the rows of the table of times."""
    rows = []
    for videos in VIDEOS:
        for nodes in NODES:
            steps = steps_of(videos, nodes, figures)
            wall_s = [step.wall_s(figures) for step in steps]
            node_h = sum(step.nodes * time_s for step, time_s in zip(steps, wall_s, strict=True)) / 3600
            slowest = steps[wall_s.index(max(wall_s))]
            simulated_s = sum(
                simulate_s(videos, step.nodes, step.core_s / videos, figures)
                for step in steps
                if step.name in ("00", "01a")
            )
            computed_s = sum(step.bounds_s(figures)[0] for step in steps[:2])
            rows.append(
                (
                    f"{videos:,}",
                    nodes,
                    *map(hours, wall_s),
                    hours(sum(wall_s)),
                    f"{node_h:,.1f}",
                    f"{slowest.name}, {slowest.bound(figures)}",
                    f"{hours(computed_s)}, {hours(simulated_s)}",
                )
            )
    return rows


def switch_rows(figures):
    """Return the rows of the table that says what leaving something out saves."""
    rows, (videos, nodes) = [], SWITCHED
    for what, factors in SWITCHES:
        changed = {"kept_frames": 1, **figures}
        changed |= {name: changed[name] * factor for name, factor in factors.items()}
        wall_s = [step.wall_s(changed) for step in steps_of(videos, nodes, changed)]
        stored = [number for name, number in storage_of(videos, changed).items() if name != "videos"]
        size, files = (sum(column) for column in zip(*stored, strict=True))
        rows.append((what, hours(sum(wall_s[:2])), hours(sum(wall_s)), volume(size), f"{files:,.0f}"))
    return rows


def tables(figures):
    """Return the Markdown of the tables: times, storage, switches."""
    header = (
        "videos",
        "nodes",
        "00",
        "01a",
        "03a",
        "04",
        "in all",
        "node-hours",
        "bottleneck",
        "00 + 01a computing: arithmetic, simulation",
    )
    times = markdown_table(header, time_rows(figures))
    rows = []
    for videos in VIDEOS:
        parts = storage_of(videos, figures)
        files = sum(number for _, number in parts.values())
        rows.append((f"{videos:,}", *(volume(size) for size, _ in parts.values()), f"{files:,.0f}"))
    storage = markdown_table(("number of videos", *parts, "files"), rows)
    videos, nodes = SWITCHED
    header = (
        f"left out, {videos:,} videos on {nodes} nodes",
        "00 + 01a",
        "in all",
        "stored beside the videos",
        "files",
    )
    return f"{times}\n\n{storage}\n\n{markdown_table(header, switch_rows(figures))}"


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="PATH", help="replace the tables in this file")
    args = parser.parse_args(argv)
    text = tables(read_figures())
    if not args.write:
        print(text)
        return 0
    before, found, rest = args.write.read_text(encoding="utf-8").partition(BEGIN)
    _, found_end, after = rest.partition(END)
    if not (found and found_end):
        say(f"error: {args.write} has no lines {BEGIN} and {END}")
        return 2
    files.write_atomic(args.write, f"{before}{BEGIN}\n\n{text}\n\n{END}{after}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
