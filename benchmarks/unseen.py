"""Measure how long detect.py takes for unseen 1080p clips, everything included: one clip, and 20.

Reads   nothing: it makes the clips
Writes  <work-dir>/; prints a table
Rerun   keeps the clips, judges them anew

    python benchmarks/unseen.py --work-dir /tmp/bench [--weights FILE]
"""

import shutil
import sys

from clips import make_clips
from frames import copies_of
from measure import REPOSITORY_DIR, in_turns, machine, make_bench_parser, markdown_table, median_and_spread
from pipeline import VIDEOS, VIDEOS_DIR

from deepfake.model import weights


def build_parser():
    parser = make_bench_parser(__doc__, "for clips and frames, 500 MB")
    parser.add_argument("--weights", default=weights.BASE_WEIGHTS, metavar="FILE", help="(default: the base weights)")
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    work_dir = args.work_dir.resolve()
    clips = make_clips(work_dir / "clips", ("b_frames",))["b_frames"]
    folder = copies_of(clips, work_dir / VIDEOS_DIR, VIDEOS)
    data_dir = work_dir / "unseen"
    command = [sys.executable, REPOSITORY_DIR / "detect.py", "--weights", args.weights]
    environment = {"DEEPFAKE_DATA_DIR": str(data_dir)}
    commands = {1: ([*command, clips[0]], environment), VIDEOS: ([*command, folder], environment)}
    costs = in_turns(commands, args.repetitions, before=lambda number: shutil.rmtree(data_dir, ignore_errors=True))
    rows = []
    for number, found in costs.items():
        seconds = [cost.wall_s for cost in found]
        each = median_and_spread([value / number for value in seconds])
        rows.append((number, median_and_spread(seconds, 1), each, f"{max(cost.peak_mb for cost in found):.0f}"))
    print(
        f"detect.py on {len(clips)} clips of 10 s, 1080p, and copies, from nothing; {machine()}; {args.repetitions} times\n"
    )
    print(markdown_table(("clips", "seconds", "seconds per clip", "peak MB of a process"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
