"""Measure how long 11 frames of a 10-s 1080p clip take: this project against what one would run instead, in turns.

Reads   nothing: it makes the clips
Writes  <work-dir>/clips/ and copies of them; prints tables
Rerun   keeps the clips, measures again

    python benchmarks/frames.py --work-dir /tmp/bench

Needs requirements-bench.txt. One process each (ffmpeg: one per clip); starting Python and writing PNG are measured apart. A
contender's own decoding threads are left as they come, ffmpeg has one. This project shrinks its frames to 960 px, the others give
1080p.
"""

import importlib
import json
import statistics
import subprocess
import sys
import time

import numpy as np
from clips import KINDS, make_clips
from measure import (
    REPOSITORY_DIR,
    Cost,
    in_turns,
    machine,
    make_bench_parser,
    markdown_table,
    median_and_spread,
    run_once,
)

from common.constants import FRAMES_PER_VIDEO, MAX_SIDE_PX
from common.messages import say
from deepfake.parallel import pool

COPIES = 48  # videos for the whole script
LIMIT = "ffmpeg, decoding only, one thread"


def wanted_of(total):
    """Return the numbers of the frames to take out of `total`."""
    return np.linspace(0, total - 1, FRAMES_PER_VIDEO).round().astype(int).tolist()


def this_project(path):
    return importlib.import_module("00_convert_video_to_image").read_video(path, FRAMES_PER_VIDEO, MAX_SIDE_PX)[0]


def opencv_reading_all(path):
    import cv2

    video, frames, number = cv2.VideoCapture(str(path)), [], 0
    wanted = set(wanted_of(int(video.get(cv2.CAP_PROP_FRAME_COUNT))))
    while True:
        there, frame = video.read()
        if not there:
            return frames
        if number in wanted:
            frames.append(frame)
        number += 1


def opencv_seeking(path):
    import cv2

    video, frames = cv2.VideoCapture(str(path)), []
    for number in wanted_of(int(video.get(cv2.CAP_PROP_FRAME_COUNT))):
        video.set(cv2.CAP_PROP_POS_FRAMES, number)
        there, frame = video.read()
        frames += [frame] if there else []
    return frames


def pyav_reading_all(path):
    import av

    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        wanted = set(wanted_of(stream.frames))
        return [
            frame.to_ndarray(format="bgr24")
            for number, frame in enumerate(container.decode(stream))
            if number in wanted
        ]


def decord(path):
    from decord import VideoReader

    video = VideoReader(str(path))
    return list(video.get_batch(wanted_of(len(video))).asnumpy())


def ffmpeg_decoding_only(path):
    from imageio_ffmpeg import get_ffmpeg_exe

    subprocess.run(
        [get_ffmpeg_exe(), "-v", "error", "-threads", "1", "-i", path, "-map", "0:v", "-f", "null", "-"], check=True
    )
    return [None] * FRAMES_PER_VIDEO


CONTENDERS = {
    "this project": this_project,
    "OpenCV, read() every frame": opencv_reading_all,
    "OpenCV, seek to each frame": opencv_seeking,
    "PyAV, every frame": pyav_reading_all,
    "decord": decord,
    LIMIT: ffmpeg_decoding_only,
}


def contend(name, paths):
    """Run one contender on the clips and print the seconds per clip as JSON; the first is read once before, uncounted."""
    CONTENDERS[name](paths[0])
    seconds = []
    for path in paths:
        started = time.perf_counter()
        frames = CONTENDERS[name](path)
        seconds.append(time.perf_counter() - started)
        if len(frames) != FRAMES_PER_VIDEO:
            raise SystemExit(f"{name} took {len(frames)} frames of {path}")
    print(json.dumps({"seconds": seconds}))
    return 0


def contender(work_dir, name, paths):
    """Return the command with which this script calls itself."""
    return [sys.executable, __file__, "--work-dir", work_dir, "--contender", name, *paths]


def seconds_of(costs: list[Cost]):
    """Return one mean number of seconds per video for each run."""
    return [statistics.mean(cost.said["seconds"]) for cost in costs]


def png_seconds(path):
    """Return the median seconds that the 11 frames of a clip take as PNG, as 00 writes them."""
    import cv2

    cv2.setNumThreads(1)
    frames, seconds = this_project(path), []
    for _ in range(5):
        started = time.perf_counter()
        for frame in frames:
            cv2.imencode(".png", frame)
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def whole_script(videos_dir, workers):
    """Run 00 from nothing on a folder; return its Cost."""
    frames_dir = videos_dir.parent / f"{videos_dir.name}_frames"
    command = [sys.executable, REPOSITORY_DIR / "00_convert_video_to_image.py", "--videos-dir", videos_dir]
    command += ["--frames-dir", frames_dir, "--data-dir", frames_dir, "--workers", workers, "--force"]
    return run_once(command)


def copies_of(paths, folder, number):
    """Hard-link clips into a folder until it holds `number`; return the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(number):
        target = folder / f"clip_{index:04d}.mp4"
        if not target.exists():
            target.hardlink_to(paths[index % len(paths)])
    return folder


def build_parser():
    return make_bench_parser(__doc__, "for the clips, 200 MB", repetitions=5)


def main(argv=None):
    args = build_parser().parse_args(argv)
    if args.contender:
        return contend(args.contender[0], args.contender[1:])
    work_dir = args.work_dir.resolve()
    rows, clips = [], make_clips(work_dir / "clips")
    for kind, paths in clips.items():
        say(f"clips: {kind}")
        command = {name: (contender(work_dir, name, paths), None) for name in CONTENDERS}
        costs = in_turns(command, args.repetitions)
        limit = statistics.median(seconds_of(costs[LIMIT]))
        for name, found in costs.items():
            seconds = seconds_of(found)
            peak_mb = f"{max(cost.peak_mb for cost in found):.0f}"
            times = f"{statistics.median(seconds) / limit:.2f}"
            rows.append((kind.replace("_", " "), name, median_and_spread(seconds, 3), times, peak_mb))
    print(f"11 frames of 10 s of 1080p, {machine()}; median (lowest to highest) of {args.repetitions} rounds\n")
    print(markdown_table(("clips", "how", "seconds per video", "times ffmpeg", "peak MB"), rows))
    first = clips["b_frames"][0]
    print(f"\nwriting them as PNG takes this project {png_seconds(first):.3f} s per video more")
    rows = []
    for kind in KINDS:
        folder = copies_of(clips[kind], work_dir / f"videos_{kind}", COPIES)
        speeds = {}
        for number in range(2 * args.repetitions):
            workers = (1, len(pool.usable_cpus()))[number % 2]
            cost = whole_script(folder, workers)
            speeds.setdefault(workers, []).append((COPIES / cost.wall_s, cost.peak_mb))
        for workers, found in speeds.items():
            videos_per_s = [speed for speed, _ in found]
            gains = [speed / alone for speed, (alone, _) in zip(videos_per_s, speeds[1], strict=True)]
            peak_mb = f"{max(peak for _, peak in found):.0f}"
            rows.append(
                (kind.replace("_", " "), workers, median_and_spread(videos_per_s), median_and_spread(gains), peak_mb)
            )
    print(f"\n00 on {COPIES} videos, start-up and PNG included\n")
    print(markdown_table(("clips", "workers", "videos/s", "times one worker", "peak MB of a worker"), rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
