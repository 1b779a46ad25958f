"""Measure face detection on frames of 1080p clips, and what it finds: this project against what one would run instead, in turns.

Reads   nothing: it makes the clips and, with 00, their frames
Writes  <work-dir>/clips/, <work-dir>/frames_<longer side>/; prints tables
Rerun   keeps clips and frames, measures again

    python benchmarks/faces.py --work-dir /tmp/bench [--facenet-python /tmp/facenet/bin/python]

Reading the PNG is included; the time to start is a column of its own. All contenders use all cores. facenet-pytorch needs other
versions than this project and so a virtual environment of its own: pip install facenet-pytorch==2.6.0.
"""

import importlib
import json
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from clips import HEIGHT_PX, WIDTH_PX, make_clips
from frames import copies_of
from measure import REPOSITORY_DIR, in_turns, machine, make_bench_parser, markdown_table, median_and_spread, run_once

from common.constants import MAX_SIDE_PX, MIN_CONFIDENCE
from deepfake.model import efficientnet
from deepfake.parallel import pool
from deepfake.preprocessing import crops

SMALLEST_PX = 60  # width of a face in the 1080p frame that has to be found
SAME_FACE_IOU = 0.5
PACKAGE = "mtcnn, 1080p frames, one at a time"
OURS = "this project, saved frames"


def boxes_of(name):
    """Run in a worker: return the boxes (x, y, w, h) in a frame, in pixels of that frame."""
    step = importlib.import_module("01a_crop_faces_mtcnn")
    return [face["box_xywh"] for face in step.detect(crops.read_image(name))]


def this_project(names):
    """Yield the boxes of each frame; the first yield is None, when everything has started."""
    workers = len(pool.usable_cpus())
    step = importlib.import_module("01a_crop_faces_mtcnn")
    with ProcessPoolExecutor(workers, initializer=step.set_up, initargs=(1,)) as executor:
        list(executor.map(boxes_of, names[: 2 * workers]))
        yield None
        yield from executor.map(boxes_of, names)


def mtcnn_package(names, batch):
    """As this_project, with the mtcnn package on `batch` frames at a time."""
    efficientnet.quiet_libraries()
    from mtcnn import MTCNN

    detector = MTCNN()

    def detect(part):
        pictures = [np.ascontiguousarray(crops.read_image(name)[..., ::-1]) for name in part]
        for faces in detector.detect_faces(pictures):
            yield [face["box"] for face in faces if face["confidence"] >= MIN_CONFIDENCE]

    list(detect(names[:batch]))
    yield None
    for start in range(0, len(names), batch):
        yield from detect(names[start : start + batch])


CONTENDERS = {
    OURS: (MAX_SIDE_PX, this_project),
    PACKAGE: (WIDTH_PX, lambda names: mtcnn_package(names, 1)),
    "mtcnn, 1080p frames, 11 at a time": (WIDTH_PX, lambda names: mtcnn_package(names, 11)),
    "mtcnn, saved frames, 11 at a time": (MAX_SIDE_PX, lambda names: mtcnn_package(names, 11)),
}


def contend(name, names):
    """Run one contender; print its seconds per frame, its seconds to start, and its boxes as JSON."""
    started = time.perf_counter()
    found = CONTENDERS[name][1](names)
    next(found)
    ready = time.perf_counter()
    boxes = list(found)
    seconds = (time.perf_counter() - ready) / len(names)
    print(json.dumps({"seconds": seconds, "start_s": ready - started, "boxes": boxes}, default=float))
    return 0


def make_frames(clips_dir, work_dir, max_side):
    """Return the sorted frames of all clips with a longer side of at most `max_side`, taken by 00."""
    frames_dir = work_dir / f"frames_{max_side}"
    run_once(
        [
            sys.executable,
            REPOSITORY_DIR / "00_convert_video_to_image.py",
            "--videos-dir",
            clips_dir,
            "--frames-dir",
            frames_dir,
            "--data-dir",
            frames_dir,
            "--max-side",
            max_side,
        ]
    )
    return sorted(frames_dir.glob("*/*.png"))


def overlap(first, second):
    """Return the intersection over union of two boxes (x, y, w, h)."""
    sizes = [
        min(a + c, b + d) - max(a, b) for a, b, c, d in zip(first[:2], second[:2], first[2:], second[2:], strict=True)
    ]
    common = max(sizes[0], 0) * max(sizes[1], 0)
    return common / (first[2] * first[3] + second[2] * second[3] - common)


def compare(found, expected):
    """Return (expected faces of 60 px and more, how many of them were found, faces found that nobody expected).

    Both: for each frame the boxes (x, y, w, h) in 1080p pixels.
    """
    large = hits = false = 0
    for boxes, references in zip(found, expected, strict=True):
        wanted = [box for box in references if box[2] >= SMALLEST_PX]
        large += len(wanted)
        hits += sum(any(overlap(box, other) >= SAME_FACE_IOU for other in boxes) for box in wanted)
        false += sum(all(overlap(box, other) < SAME_FACE_IOU for other in references) for box in boxes)
    return large, hits, false


def build_parser():
    parser = make_bench_parser(__doc__, "for clips and frames, 500 MB")
    parser.add_argument("--facenet-python", metavar="PATH", help="a Python that has facenet-pytorch")
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    if args.contender:
        return contend(args.contender[0], args.contender[1:])
    work_dir = args.work_dir.resolve()
    clips = make_clips(work_dir / "clips", ("b_frames",))["b_frames"]
    clips_dir = copies_of(clips, work_dir / "videos_faces", len(clips))
    frames = {side: make_frames(clips_dir, work_dir, side) for side in (MAX_SIDE_PX, WIDTH_PX)}
    sides = {name: side for name, (side, _) in CONTENDERS.items()}
    command = [sys.executable, __file__, "--work-dir", work_dir, "--contender"]
    commands = {name: ([*command, name, *frames[side]], None) for name, side in sides.items()}
    if args.facenet_python:
        other = Path(__file__).with_name("facenet_contender.py")
        for side, what in ((MAX_SIDE_PX, "saved"), (WIDTH_PX, "1080p")):
            name = f"facenet-pytorch, {what} frames, 11 at a time"
            sides[name] = side
            commands[name] = ([args.facenet_python, other, *frames[side]], None)
    costs = in_turns(commands, args.repetitions)
    boxes = {
        name: [[[value * WIDTH_PX / sides[name] for value in box] for box in frame] for frame in found[0].said["boxes"]]
        for name, found in costs.items()
    }
    expected = boxes[PACKAGE]
    package_s = statistics.median(cost.said["seconds"] for cost in costs[PACKAGE])
    rows = []
    for name, found in costs.items():
        seconds = [cost.said["seconds"] for cost in found]
        large, hits, false = compare(boxes[name], expected)
        rows.append(
            (
                name,
                median_and_spread([1 / value for value in seconds], 1),
                f"{package_s / statistics.median(seconds):.1f}",
                f"{statistics.median(cost.said['start_s'] for cost in found):.1f}",
                f"{hits} of {large}",
                false,
                f"{max(cost.peak_mb for cost in found):.0f}",
            )
        )
    print(f"{len(frames[WIDTH_PX])} frames of {WIDTH_PX}x{HEIGHT_PX}, {machine()}; {args.repetitions} rounds")
    print(
        f"found: of the faces of {SMALLEST_PX} px and wider that {PACKAGE} finds; false: faces that it does not find\n"
    )
    header = ("how", "frames/s", "times as fast", "start s", "found", "false", "peak MB of a process")
    print(markdown_table(header, rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
