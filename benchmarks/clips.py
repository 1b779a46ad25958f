"""Make the videos that the benchmarks read: 10-s 1080p H.264 clips of the sample's people, with and without B-frames.

Reads   nothing
Writes  <out>/<kind>_<number>.mp4
Rerun   keeps clips that are there

    python benchmarks/clips.py --out /tmp/bench/clips --kinds b_frames no_b_frames
"""

import argparse
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from common import cli
from tools import drawing

WIDTH_PX, HEIGHT_PX, FRAMES_PER_S, LENGTH_S = 1920, 1080, 30, 10
SEED = 7
KINDS = {"b_frames": {}, "no_b_frames": {"bf": "0"}}  # options of x264; its default has B-frames that others refer to
# Where the people's pictures of 480x360 are put, as (scale, left, top): faces from 65 to 350 px wide.
SCENES = (
    ((3.0, 240, 0),),
    ((2.0, 900, 200), (1.0, 200, 500)),
    ((0.6, 300, 200), (1.0, 900, 100), (1.5, 1100, 500)),
    ((1.5, 500, 300),),
)
NOISE_SIGMA = 2.0  # grey levels, as a camera's


def scene_frames(number):
    """Yield uint8 BGR frames (1080, 1920, 3) of a scene: its people are actors that no sample of `make demo` has."""
    import cv2

    rng = np.random.default_rng([SEED, number])
    camera, people = drawing.make_camera(rng), []
    for place, (scale, left, top) in enumerate(SCENES[number % len(SCENES)]):
        actor = 8 * (number * 4 + place)  # one person each
        people.append(([real for real, *_ in drawing.actor_frames(SEED, actor)[1]], scale, left, top))
    noise = rng.normal(0, NOISE_SIGMA, (HEIGHT_PX + 64, WIDTH_PX + 64, 1)).astype(np.float32)
    for index in range(FRAMES_PER_S * LENGTH_S):
        turn = index % (2 * drawing.FRAMES)  # the sample's motion forwards, then backwards
        moment = min(turn, 2 * drawing.FRAMES - 1 - turn)
        scene = np.float32(cv2.resize(drawing.background_frame(camera, moment), (WIDTH_PX, HEIGHT_PX)))
        for frames, scale, left, top in people:
            frame = cv2.resize(frames[moment], None, fx=scale, fy=scale, interpolation=cv2.INTER_CUBIC)
            scene[top : top + frame.shape[0], left : left + frame.shape[1]] = frame[
                : HEIGHT_PX - top, : WIDTH_PX - left
            ]
        x, y = rng.integers(0, 64, 2)
        yield np.clip(scene + noise[y : y + HEIGHT_PX, x : x + WIDTH_PX] + 0.5, 0, 255).astype(np.uint8)


def encode(paths, frames):
    """Write the same frames to each of {kind: path} with PyAV's x264; each appears when it is complete."""
    import av

    hidden = {kind: path.with_name(f".{path.name}") for kind, path in paths.items()}
    outputs = {kind: av.open(str(path), "w", format="mp4") for kind, path in hidden.items()}
    streams = {}
    for kind, output in outputs.items():
        streams[kind] = output.add_stream("libx264", rate=FRAMES_PER_S, options={"crf": "23", **KINDS[kind]})
        streams[kind].width, streams[kind].height, streams[kind].pix_fmt = WIDTH_PX, HEIGHT_PX, "yuv420p"
    for frame_bgr in frames:
        frame = av.VideoFrame.from_ndarray(frame_bgr, format="bgr24").reformat(format="yuv420p")
        for kind, output in outputs.items():
            frame.pts = None
            output.mux(streams[kind].encode(frame))
    for kind, output in outputs.items():
        output.mux(streams[kind].encode(None))
        output.close()
        os.replace(hidden[kind], paths[kind])


def make_clips(out_dir, kinds=tuple(KINDS), number=None):
    """Make what is missing; return {kind: sorted paths}."""
    out_dir.mkdir(parents=True, exist_ok=True)
    paths = {kind: [out_dir / f"{kind}_{index:02d}.mp4" for index in range(number or len(SCENES))] for kind in kinds}
    for index in range(number or len(SCENES)):
        missing = {kind: paths[kind][index] for kind in kinds if not paths[kind][index].exists()}
        if missing:
            encode(missing, scene_frames(index))
    return paths


def build_parser():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument(
        "--number", type=cli.positive, default=len(SCENES), metavar="N", help="of clips (default: %(default)s)"
    )
    return parser


def main(argv=None):
    args = build_parser().parse_args(argv)
    for paths in make_clips(args.out, args.kinds, args.number).values():
        print("\n".join(map(str, paths)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
