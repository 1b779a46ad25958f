"""Opening and decoding local video files with PyAV, to take frames (00) and to compress videos again (03c)."""

import gc
import os
from itertools import chain

import av
import numpy as np

from common.errors import InputError

MAX_PIXELS = 2**26  # 67 million: 8K video has 33 million, more comes from damaged or hostile headers
MAX_PHOTO_PIXELS = 2**28  # phones make photos of 200 million pixels
# Containers that hold their own pictures: no playlists, no image sequences, nothing that opens another file.
CONTAINERS = "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm"
OPEN_OPTIONS = {"format_whitelist": CONTAINERS, "protocol_whitelist": "file", "enable_drefs": "0"}
COLLECT_EVERY = 20  # packets; as many frames of 1080p are 60 MB


def check_size(width, height, max_pixels=MAX_PIXELS):
    """Raise InputError for a size that no real picture has."""
    if width < 1 or height < 1 or width * height > max_pixels:
        raise InputError(f"claims to be {width}x{height} pixels; not a usable picture", "bad_size")


def open_video(path):
    """Open a local video file with PyAV: one thread, listed containers only. Raises InputError."""
    try:
        container = av.open(os.path.abspath(path), options=OPEN_OPTIONS, metadata_errors="replace")
    except av.FFmpegError as error:
        raise InputError(f"is not a readable video ({error.strerror})", "not_a_video") from error
    if not container.streams.video:
        container.close()
        raise InputError("has no video stream", "no_pictures")
    stream = container.streams.best("video")  # not a cover picture
    stream.codec_context.thread_type = "NONE"
    stream.codec_context.thread_count = 1
    check_size(stream.codec_context.width, stream.codec_context.height)
    return container, stream


def demux(container, stream):
    """Yield the stream's packets up to the end, or up to where the file is damaged."""
    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except av.FFmpegError:
        return


def decode(context, packet):
    """Return the frames that a packet (None: the end) completes; a damaged packet gives none."""
    try:
        return context.decode(packet)
    except (av.FFmpegError, EOFError):
        return []


def plan_decoding(packets, wanted_pts):
    """Return the ranges (first, last) of packets, in decoding order, that the wanted frames depend on.

    `packets`: (pts, is_keyframe) in decoding order. A range starts at a keyframe. A frame shown before its keyframe also depends
    on the group of pictures before ("leading", ITU-T H.264 (08/2021), 8.2.5.2).
    """
    ranges, wanted_pts = [], set(wanted_pts)
    keyframes = []
    for index, (pts, is_keyframe) in enumerate(packets):
        if is_keyframe:
            keyframes.append(index)
        if pts not in wanted_pts:
            continue
        start = keyframes[-1] if keyframes else 0
        if keyframes and pts < packets[start][0]:
            start = keyframes[-2] if len(keyframes) > 1 else 0
        if ranges and start <= ranges[-1][1]:
            ranges[-1] = (ranges[-1][0], index)
        else:
            ranges.append((start, index))
    return ranges


def read_planned(path, packets, wanted_pts):
    """Return {pts: frame} for the wanted presentation times, decoding only what they depend on.

    Unwanted frames that no other frame refers to are skipped; the pixels are those of a full decode. Skipping all B-frames would
    be faster, but others may refer to them, whose pixels would then be wrong.
    """
    found, wanted_pts = {}, set(wanted_pts)
    container, stream = open_video(path)
    with container:
        context = stream.codec_context
        ranges = iter(plan_decoding(packets, wanted_pts))
        start, end = next(ranges)
        for index, packet in enumerate(demux(container, stream)):
            if index < start:
                continue
            context.skip_frame = "DEFAULT" if packet.pts in wanted_pts else "NONREF"
            frames = decode(context, packet)
            if index == end:
                frames += decode(context, None)
                context.flush_buffers()
                start, end = next(ranges, (None, None))
            found.update((frame.pts, frame) for frame in frames if frame.pts in wanted_pts)
            if start is None:
                break
    return found


def to_picture(frame, width, height):
    """Return a decoded frame as uint8 BGR (h, w, 3), resized to (width, height), then turned or mirrored as it is shown."""
    picture = frame.reformat(width=width, height=height, format="bgr24", interpolation="AREA").to_ndarray()
    matrix = frame.side_data.get("DISPLAYMATRIX")
    if matrix is None:
        return picture
    # (x, y) is shown at (a x + c y, b x + d y): ISO/IEC 14496-12, 8.3.2
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5]
    if abs(b) > abs(a):
        picture, a, d = picture.swapaxes(0, 1), c, b
    return np.ascontiguousarray(picture[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def shown_frames(path):
    """Yield (time_s, uint8 BGR picture (h, w, 3)) of every frame of a video file, as players show it. Raises InputError."""
    container, stream = open_video(path)
    with container:
        width, height = round(stream.width * float(stream.sample_aspect_ratio or 1)), stream.height
        fps, has_times = float(stream.average_rate or 25), container.format.name != "avi"
        first, index = None, 0
        for number, packet in enumerate(chain(demux(container, stream), (None,))):
            for frame in decode(stream.codec_context, packet):
                if frame.pts is None or not has_times:
                    time_s = index / fps
                else:
                    first = frame.pts if first is None else first
                    time_s = float((frame.pts - first) * stream.time_base)
                yield time_s, to_picture(frame, width, height)
                index += 1
            frame = None  # else the last one would outlive this
            if number % COLLECT_EVERY == COLLECT_EVERY - 1:
                gc.collect(1)  # a frame whose side data was read holds itself; generation 2 may hold all of TensorFlow
