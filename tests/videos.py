"""Small videos with known content, and ways to look at what became of them."""

import io
import json
import os
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

REPOSITORY_DIR = Path(__file__).resolve().parent.parent
CODE_BITS = 8
CODE_ROWS = 24  # px at the bottom that hold the frame's number, black and white
B_PYRAMID = {"x264-params": "keyint=24:bframes=3:b-adapt=0:b-pyramid=normal:scenecut=0"}
OPEN_GOP = {"x264-params": "open-gop=1:keyint=12:min-keyint=6:bframes=3:b-adapt=0:b-pyramid=normal:scenecut=0"}


def numbered_picture(index, width=160, height=120):
    """Return uint8 RGB (h, w, 3): a texture that moves, and the number `index` as eight black or white blocks."""
    rng = np.random.default_rng(5)
    texture = cv2.resize(rng.integers(0, 256, (height // 8, width // 8, 3), np.uint8), (width, height))
    picture = np.roll(texture, (3 * index, 5 * index), (0, 1))
    block = width // CODE_BITS
    for bit in range(CODE_BITS):
        picture[-CODE_ROWS:, bit * block : (bit + 1) * block] = 255 * (index >> bit & 1)
    return picture


def number_of(picture):
    """Return the number that a `numbered_picture` shows, also after compression and shrinking."""
    height, width = picture.shape[:2]
    row = round(height * (1 - CODE_ROWS / 120 / 2)) if height < 120 else height - CODE_ROWS // 2
    block = width / CODE_BITS
    return sum(int(picture[row, int((bit + 0.5) * block)].mean() > 127) << bit for bit in range(CODE_BITS))


def write_video(
    path,
    pictures_rgb,
    codec="libx264",
    fps=25,
    pts=None,
    options=None,
    container=None,
    sar=None,
    container_options=None,
):
    """Encode uint8 RGB pictures with PyAV. `pts`: presentation times in 1/1000 s instead of a constant rate.

    `path` may be a file object; one without `seek` gives what a live stream leaves behind.
    """
    target = path if hasattr(path, "write") else str(path)
    time_base = Fraction(1, 1000 if pts else fps)
    with av.open(target, "w", format=container, options=container_options or {}) as output:
        stream = output.add_stream(codec, rate=fps)
        stream.height, stream.width = pictures_rgb[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        stream.codec_context.time_base = time_base
        stream.thread_count = 1
        stream.options = {"preset": "veryfast", "x265-params": "log-level=none:pools=1"} | (options or {})
        if sar:
            stream.codec_context.sample_aspect_ratio = sar
        for index, picture_rgb in enumerate(pictures_rgb):
            frame = av.VideoFrame.from_ndarray(picture_rgb, format="rgb24")
            frame.pts = pts[index] if pts else index
            frame.time_base = time_base
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path


def write_numbered(path, count=50, size=(160, 120), **options):
    """Write a video of `count` numbered pictures."""
    return write_video(path, [numbered_picture(index, *size) for index in range(count)], **options)


def write_avi(path, count=30, fourcc="mp4v", size=(160, 120)):
    """Write numbered pictures with OpenCV, as users do."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*fourcc), 25, size)
    assert writer.isOpened()
    for index in range(count):
        writer.write(numbered_picture(index, *size)[..., ::-1].copy())
    writer.release()
    return path


class Pipe(io.RawIOBase):
    """A file that cannot seek: the muxer can not go back to write the length."""

    def __init__(self):
        self.parts = []

    def writable(self):
        return True

    def seekable(self):
        return False

    def write(self, data):
        self.parts.append(bytes(data))
        return len(data)


def write_streamed(path, count=30, **options):
    """Write numbered pictures as a pipe receives them: no duration and no frame count in the header."""
    pipe = Pipe()
    write_numbered(pipe, count, **options)
    path.write_bytes(b"".join(pipe.parts))
    return path


def patch(path, box, offset, values, form):
    """Overwrite `values` at `offset` bytes after the four letters of every MP4 box of that name."""
    data, place = bytearray(path.read_bytes()), 0
    packed = struct.pack(form, *values)
    while (place := data.find(box, place)) >= 0:
        start = place + len(box) + offset
        data[start : start + len(packed)] = packed
        place = start + len(packed)
    path.write_bytes(data)
    return path


def set_matrix(path, a, b, c, d, x, y):
    """Set the display matrix of an MP4's track: (u, v) is shown at (a u + c v + x, b u + d v + y)."""
    fixed = [round(value * 65536) for value in (a, b)] + [0] + [round(value * 65536) for value in (c, d)] + [0]
    return patch(path, b"tkhd", 40, [*fixed, round(x * 65536), round(y * 65536), 1 << 30], ">9i")


def decode_all(path):
    """Return every frame of a video: the ordinary, complete way."""
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def read_png(path):
    """Return the uint8 BGR pixels of a picture."""
    picture = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None, path
    return picture


def record_of(folder, name="frames.json"):
    return json.loads((folder / name).read_text(encoding="utf-8"))


def tree(folder):
    """Return {relative path: bytes} of everything below a folder, hidden names included."""
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def mtimes(folder):
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def run_script(name, *arguments, cwd=None, environment=None):
    """Run a numbered script as a user does; return the completed process with its text output."""
    return subprocess.run(
        [sys.executable, str(REPOSITORY_DIR / name), *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
