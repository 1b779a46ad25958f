"""Corruptions: what cameras and the internet do to a face. Functions take and return uint8 RGB (h, w, 3).

Only `recompress` takes the BGR frames of a whole video. CORRUPTIONS are those that 03c measures, with their severities.
"""

import math
import threading
from collections.abc import Callable
from fractions import Fraction
from statistics import NormalDist
from typing import NamedTuple

import cv2
import numpy as np

NONE, H264 = "none", "h264"
DARK_NOISE_SIGMA = 3.0  # grey levels of the sensor's noise, whatever light is left
# 256 equally likely values of the normal distribution: a random byte looks up its noise, ten times as fast as NumPy draws it.
NORMAL_VALUES = np.array([NormalDist().inv_cdf((byte + 0.5) / 256) for byte in range(256)], np.float32)
NORMAL_VALUES /= NORMAL_VALUES.std()
IP_OFFSET = 6 * math.log2(1.4)  # quantiser steps between keyframes and other frames: x264's default ratio is 1.4
opened = threading.local()  # codecs, kept per thread: opening an x264 encoder takes longer than encoding a face


def random_normal(shape, sigma, rng):
    """Return normally distributed float32 numbers of standard deviation `sigma`, none beyond 3 `sigma`."""
    count = math.prod(shape)
    words = rng.integers(
        1 << 32, size=-(-count // 4), dtype=np.uint32
    )  # twice as fast as rng.bytes, for the same bytes
    return cv2.LUT(words.view(np.uint8)[:count].reshape(shape), np.float32(sigma) * NORMAL_VALUES)


def add_noise(face_rgb, sigma, rng):
    """Add Gaussian sensor noise of `sigma` grey levels."""
    return cv2.add(face_rgb, random_normal(face_rgb.shape, sigma, rng), dtype=cv2.CV_8U)


def darken(face_rgb, light, sigma, gain, rng):
    """Leave a share `light` of the light, add noise of `sigma` grey levels, then multiply everything by `gain`."""
    noise = random_normal(face_rgb.shape, gain * sigma, rng)
    return cv2.addWeighted(face_rgb, gain * light, noise, 1, 0, dtype=cv2.CV_8U)


def smear(face_rgb, length_px, angle):
    """Blur along a line of `length_px` at `angle` (radians), as motion does while the shutter is open."""
    height, width = face_rgb.shape[:2]
    half = max(1.0, length_px / 2)
    margin, steps = int(np.ceil(half)), np.linspace(-half, half, 8 * int(np.ceil(half)) + 1)
    line = np.unique(np.rint(np.outer(steps, (np.sin(angle), np.cos(angle)))).astype(int), axis=0) + margin
    wider = cv2.copyMakeBorder(face_rgb, margin, margin, margin, margin, cv2.BORDER_REFLECT_101)
    total = np.zeros(face_rgb.shape, np.float32)
    for row, column in line:  # several times as fast as one filter
        cv2.accumulate(wider[row : row + height, column : column + width], total)
    return cv2.convertScaleAbs(total, alpha=1 / len(line))


def defocus(face_rgb, sigma_px):
    """Blur as an unfocused lens does."""
    return cv2.GaussianBlur(face_rgb, (0, 0), sigma_px)


def shrink(face_rgb, scale, cubic=False):
    """Shrink by `scale` and enlarge again, as when a small video is shown large."""
    height, width = face_rgb.shape[:2]
    small_size = max(8, round(width * scale)), max(8, round(height * scale))
    small = cv2.resize(face_rgb, small_size, interpolation=cv2.INTER_AREA)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC if cubic else cv2.INTER_LINEAR)


def compress_jpeg(face_rgb, quality):
    """Compress and decompress as JPEG."""
    # No flag to check: encoding to memory cannot fail, as JPEG takes any 8-bit picture up to 65,500 px.
    face_bgr = cv2.cvtColor(face_rgb, cv2.COLOR_RGB2BGR)
    data = cv2.imencode(".jpg", face_bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return cv2.imdecode(data, cv2.IMREAD_COLOR_RGB)


def new_codecs(width, height, **options):
    """Return (x264 encoder, H.264 decoder) for frames of this size, on one thread each."""
    import av

    encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuv420p"
    encoder.time_base, encoder.framerate, encoder.options = Fraction(1, 25), 25, options
    encoder.thread_count = decoder.thread_count = 1
    return encoder, decoder


def h264_codecs(width, height, crf):
    """Return this thread's (encoder, decoder) for single frames of this size, at x264's quality `crf`.

    x264 adapts its quality to earlier frames. With qcomp=1 it does not; a CRF lower by IP_OFFSET then gives what x264 makes of a
    first frame. CABAC, which only saves bytes, is off: that is a fifth faster.
    """
    codecs, key = vars(opened), (width, height, crf)
    if key not in codecs:
        options = {"preset": "veryfast", "tune": "zerolatency", "x264-params": "keyint=1:ref=1:qcomp=1:cabac=0"}
        codecs[key] = new_codecs(width, height, crf=f"{crf - IP_OFFSET:.2f}", **options)
    return codecs[key]


def compress_h264(face_rgb, crf):
    """Compress and decompress as one H.264 frame of x264's quality `crf`; an odd last row or column is not changed."""
    import av

    height, width = (side // 2 * 2 for side in face_rgb.shape[:2])  # H.264 halves the colour planes
    encoder, decoder = h264_codecs(width, height, crf)
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(face_rgb[:height, :width]), format="rgb24")
    (decoded,) = (picture for packet in encoder.encode(frame) for picture in decoder.decode(packet))
    compressed = face_rgb.copy()
    compressed[:height, :width] = cv2.cvtColor(decoded.to_ndarray(), cv2.COLOR_YUV2RGB_I420)
    return compressed


def recompress(pictures, crf, preset="veryfast"):
    """Compress uint8 BGR pictures of one size as a video of x264's quality `crf`; yield (number, decoded PyAV frame) in order.

    An odd last row or column is left out. x264's macroblock tree is off: with it, and B-frames and its assembler, pictures
    differed from run to run, enough to move a face's score by 0.3 (PyAV 18.1).
    """
    import av

    encoder = decoder = None
    for number, picture in enumerate(pictures):
        height, width = (side // 2 * 2 for side in picture.shape[:2])
        if encoder is None:
            options = {"crf": str(crf), "preset": preset, "x264-params": "mbtree=0"}
            encoder, decoder = new_codecs(width, height, **options)
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="bgr24")
        frame.pts, frame.time_base = number, encoder.time_base
        for packet in encoder.encode(frame):
            yield from ((decoded.pts, decoded) for decoded in decoder.decode(packet))
    for packet in (*encoder.encode(None), None) if encoder else ():
        yield from ((decoded.pts, decoded) for decoded in decoder.decode(packet))


class Corruption(NamedTuple):
    """What the internet or a camera does to a face, as 03c measures it."""

    name: str  # with what its severities mean, as the plot has it
    label: str  # of one severity
    severities: tuple  # from mild to severe
    corrupt: Callable | None  # of (uint8 RGB face, severity, random generator); None: of the whole video


CORRUPTIONS = {
    "jpeg": Corruption(
        "JPEG compression:\nquality, 100 is best",
        "JPEG quality {}",
        (90, 70, 50, 30),
        lambda face, quality, rng: compress_jpeg(face, quality),
    ),
    "downscale": Corruption(
        "shrunk, enlarged again:\nhow many times",
        "shrunk {} times, enlarged again",
        (2, 4),
        lambda face, factor, rng: shrink(face, 1 / factor),
    ),
    "blur": Corruption(
        "out of focus:\nblur in % of the width",
        "blurred by {}% of the width",
        (0.5, 1, 2),
        lambda face, percent, rng: defocus(face, percent / 100 * face.shape[1]),
    ),
    "noise": Corruption("noise:\ngrey levels, of 255", "noise of {} of 255 grey levels", (5, 10, 20), add_noise),
    "dark": Corruption(
        "darkened, with noise:\nshare of the light left",
        "darkened to {:.0%}",
        (0.5, 0.25, 0.1),
        lambda face, light, rng: darken(face, light, DARK_NOISE_SIGMA, 1, rng),
    ),
    H264: Corruption(
        "video compressed again:\nH.264, CRF 51 is worst",
        "video compressed again, H.264 CRF {} of 51",
        (23, 32, 40),
        None,
    ),
}


def label_of(corruption, severity):
    """Return in words what was done to a face."""
    return "undamaged" if severity == NONE else CORRUPTIONS[corruption].label.format(severity).replace("%", " %")
