"""Measure how costs grow: 00 and 01a on 10, 100 and 1,000 short videos, 02 on a million faces.

Reads   nothing: it makes videos and faces
Writes  <work-dir>/; prints tables
Rerun   keeps videos and faces, measures again

    python benchmarks/growth.py --work-dir /tmp/bench
"""

import argparse
import shutil
import sys
from pathlib import Path

from frames import copies_of
from measure import REPOSITORY_DIR, machine, markdown_table, run_once

from common import cli, files
from common.messages import say
from tests.trees import write_pairs

ACTORS = 5  # two clips each, of which the others are copies
FACES_PER_VIDEO = 11


def script(name, *options):
    """Return the command of a script of the repository."""
    return [sys.executable, REPOSITORY_DIR / name, *options]


def measure_videos(work_dir, numbers):
    """Return rows (script, videos, seconds per video, peak MB of a worker)."""
    sample_dir, rows = work_dir / "growth_sample", []
    run_once(script("tools/make_sample_videos.py", "--out", sample_dir, "--actors", ACTORS))
    clips = sorted(sample_dir.glob("actor_*.mp4"))
    for number in numbers:
        folder = copies_of(clips, work_dir / f"growth_{number}", number)
        frames_dir = work_dir / f"growth_frames_{number}"
        shutil.rmtree(frames_dir, ignore_errors=True)
        for name in ("00_convert_video_to_image.py", "01a_crop_faces_mtcnn.py"):
            say(f"{name}: {number} videos")
            place = ["--videos-dir", folder, "--frames-dir", frames_dir, "--data-dir", frames_dir]
            cost = run_once(script(name, *place))
            rows.append((name, f"{number:,}", f"{cost.wall_s / number:.3f}", f"{cost.peak_mb:.0f}"))
    return sorted(rows, key=lambda row: row[0])


def measure_dataset(work_dir, faces):
    """Return a row (script, faces, seconds, peak MB) of 02 on a tree with that many tiny faces."""
    data_dir = work_dir / f"growth_{faces}_faces"
    done, settings = data_dir / "complete.json", {"faces": faces}
    if files.read_json(done) != settings:
        say(f"writing {faces:,} faces")
        shutil.rmtree(data_dir, ignore_errors=True)
        write_pairs(data_dir, actors=faces // (2 * FACES_PER_VIDEO), frames=FACES_PER_VIDEO)
        files.write_json(done, settings)
    for name in ("prepared_dataset", "split_dataset"):
        shutil.rmtree(data_dir / name, ignore_errors=True)
    cost = run_once(script("02_prepare_dataset.py", "--data-dir", data_dir))
    written = faces // (2 * FACES_PER_VIDEO) * 2 * FACES_PER_VIDEO
    return ("02_prepare_dataset.py", f"{written:,}", f"{cost.wall_s:.0f}", f"{cost.peak_mb:.0f}")


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work-dir", type=Path, required=True, metavar="DIR", help="4 GB and two million files")
    parser.add_argument("--videos", type=cli.positive, nargs="+", default=[10, 100, 1000], metavar="N")
    parser.add_argument(
        "--faces", type=cli.positive, default=1_000_000, metavar="N", help="for 02 (default: %(default)s)"
    )
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    work_dir = args.work_dir.resolve()
    rows = measure_videos(work_dir, args.videos)
    print(f"clips of 5 s, 480x360, start-up included, one run each, {machine()}\n")
    print(markdown_table(("script", "videos", "seconds per video", "peak MB of the largest process"), rows))
    print()
    print(markdown_table(("script", "faces", "seconds", "peak MB"), [measure_dataset(work_dir, args.faces)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
