"""Measure 00 and 01a together on 20 1080p videos against the plain way of doing the same, in turns.

Reads   nothing: it makes the clips
Writes  <work-dir>/; prints a table
Rerun   keeps the clips, measures again

    python benchmarks/pipeline.py --work-dir /tmp/bench

Everything included: starting, reading, PNG. The plain way is plain_way.py.
"""

import shutil
import statistics
import sys
from pathlib import Path

from clips import make_clips
from frames import copies_of
from measure import REPOSITORY_DIR, in_turns, machine, make_bench_parser, markdown_table, median_and_spread

VIDEOS, VIDEOS_DIR = 20, "videos_twenty"
STEPS = ("00_convert_video_to_image.py", "01a_crop_faces_mtcnn.py")
OURS, PLAIN = "this project: 00 and 01a", "the plain way"


def build_parser():
    return make_bench_parser(__doc__, "for clips and frames, 1 GB")


def main(argv=None):
    args = build_parser().parse_args(argv)
    work_dir = args.work_dir.resolve()
    clips = make_clips(work_dir / "clips", ("b_frames",))["b_frames"]
    videos_dir = copies_of(clips, work_dir / VIDEOS_DIR, VIDEOS)
    out_dir = work_dir / "pipeline_out"
    place = f"--videos-dir '{videos_dir}' --frames-dir '{out_dir}' --data-dir '{out_dir}'"
    ours = "set -e; " + "; ".join(f"'{sys.executable}' '{REPOSITORY_DIR / step}' {place}" for step in STEPS)
    commands = {
        OURS: (["sh", "-c", ours], None),
        PLAIN: ([sys.executable, Path(__file__).with_name("plain_way.py"), videos_dir, out_dir], None),
    }
    costs = in_turns(commands, args.repetitions, before=lambda name: shutil.rmtree(out_dir, ignore_errors=True))
    plain = statistics.median(cost.wall_s for cost in costs[PLAIN])
    rows = []
    for name, found in costs.items():
        seconds = [cost.wall_s / VIDEOS for cost in found]
        times = f"{plain / VIDEOS / statistics.median(seconds):.1f}"
        rows.append((name, median_and_spread(seconds), times, f"{max(cost.peak_mb for cost in found):.0f}"))
    print(f"{VIDEOS} videos ({len(clips)} clips, copied) of 10 s, 1080p, {machine()}; {args.repetitions} rounds\n")
    print(markdown_table(("how", "seconds per video", "times as fast", "peak MB of a process"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
