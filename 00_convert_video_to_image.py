"""Take 11 frames, evenly spaced in time, from every video; a photo is a video of one frame.

Reads   <videos>: .mp4 .mov .avi .mkv .webm .m4v .jpg .jpeg .png .webp, also in sub-folders; never changed
Writes  <frames>/<video_id>/<video_id>-000.png … -010.png and frames.json; failed.csv
Rerun   skips videos that are complete, unchanged, and made with the same settings
"""

import gc
import os
import shutil
import sys
from itertools import chain

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common import cli, files, messages, paths
from common.constants import FRAMES_PER_VIDEO, MAX_SIDE_PX
from common.errors import InputError
from common.messages import say
from deepfake.parallel import loop
from deepfake.preprocessing import crops, decoding, inputs

STAGE = "00"
TIMEOUT_S = 600  # per video


def choose_frames(times_s, count=FRAMES_PER_VIDEO):
    """Return the sorted indices of `count` frames, evenly spaced in time, the first and the last among them.

    `times_s`: presentation times of all frames, sorted. A video with no more than `count` frames gives them all.
    """
    times_s = np.asarray(times_s, dtype=float)
    if len(times_s) <= count:
        return list(range(len(times_s)))
    if count == 1:
        return [len(times_s) // 2]
    chosen = []
    for moment_s in np.linspace(times_s[0], times_s[-1], count):
        off_s = np.abs(times_s - moment_s)
        off_s[chosen] = np.inf  # several moments may fall into one long-frozen frame
        chosen.append(int(off_s.argmin()))
    return sorted(chosen)


def read_in_order(path, count, frame_count):
    """Return (frames, times_s, total) by decoding every frame: for files whose packets have no usable times.

    `frame_count` is a guess; if it is wrong, the file is read a second time.
    """
    for _ in range(2):
        kept, total, wanted = {}, 0, set(choose_frames(range(frame_count), count))
        container, stream = decoding.open_video(path)
        with container:
            fps = float(stream.average_rate or 25)
            for packet in chain(decoding.demux(container, stream), (None,)):
                for frame in decoding.decode(stream.codec_context, packet):
                    if total in wanted:
                        kept[total] = frame
                    total += 1
        if total == frame_count:
            break
        frame_count = total
    return [kept[index] for index in sorted(kept)], [index / fps for index in sorted(kept)], total


def read_video(path, count, max_side):
    """Return (pictures, times_s, shown, facts). Raises InputError.

    Pictures are uint8 BGR (h, w, 3), `shown` is the (width, height) that players show, facts are fields of frames.json.
    """
    gc.collect()  # a PyAV frame whose side data was read holds itself: at 1080p, 50 MB a video would pile up
    container, stream = decoding.open_video(path)
    with container:
        packets, cut_off = [], False
        shown_pts = []  # an edit list (a trimmed phone video) hides packets that others still depend on
        for packet in decoding.demux(container, stream):
            cut_off = cut_off or packet.is_corrupt
            packets.append((packet.pts, packet.is_keyframe))
            if not packet.is_discard:
                shown_pts.append(None if container.format.name == "avi" else packet.pts)  # AVI has no display order
        time_base = stream.time_base
        declared_s = float((stream.duration or 0) * time_base) or (container.duration or 0) / 1e6  # the latter is in us
        width, height, ratio = stream.width, stream.height, stream.sample_aspect_ratio or 1
        fps = float(stream.average_rate) if stream.average_rate else None
    if not shown_pts:
        raise InputError("has no readable frame", "no_frame")
    all_pts = sorted({pts for pts in shown_pts if pts is not None})
    frames, warnings, expected = [], [], len(shown_pts)
    if len(all_pts) == expected:
        wanted_pts = [all_pts[index] for index in choose_frames(all_pts, count)]
        found = decoding.read_planned(path, packets, wanted_pts)
        frames, total = [found[pts] for pts in wanted_pts if pts in found], len(all_pts)
        times_s = [float((frame.pts - all_pts[0]) * time_base) for frame in frames]
    if len(frames) < min(count, expected):
        frames, times_s, total = read_in_order(path, count, expected)
        if total < expected:
            warnings.append(f"can be read only in part: {total} of {expected} frames")
    if not frames:
        raise InputError("has no readable frame", "no_frame")
    length_s = max(total / fps if fps else 0.0, times_s[-1])
    if cut_off or declared_s > 1.05 * length_s + 0.5:
        warnings.append(f"is damaged or cut off after {length_s:.1f} s")
    shown = (round(width * float(ratio)), height)
    size = crops.saved_size(*shown, max_side)[:2]
    pictures = [decoding.to_picture(frame, *size) for frame in frames]
    if pictures[0].shape[:2] == size != size[::-1]:  # turned by 90 degrees
        shown = shown[::-1]
    facts = {"fps": fps, "length_s": round(length_s, 3), "frames_total": total, "warnings": warnings}
    return pictures, times_s, shown, facts


def read_photo(path, max_side):
    """Return the same as `read_video` for a photo, turned upright as its EXIF data say. Raises InputError."""
    Image.MAX_IMAGE_PIXELS = None  # check_size is stricter
    try:
        with Image.open(path, formats=("JPEG", "PNG", "WEBP")) as image:
            decoding.check_size(*image.size, decoding.MAX_PHOTO_PIXELS)
            shown_rgb = np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except UnidentifiedImageError as error:
        raise InputError("is not a readable photo", "not_a_photo") from error
    except (OSError, ValueError, SyntaxError) as error:
        raise InputError(f"cannot be read: {error}") from error
    shown = shown_rgb.shape[1::-1]
    width, height, _ = crops.saved_size(*shown, max_side)
    picture = cv2.resize(shown_rgb[..., ::-1], (width, height), interpolation=cv2.INTER_AREA)
    return [picture], [0.0], shown, {"fps": None, "length_s": 0.0, "frames_total": 1, "warnings": []}


def origin(job):
    """Return what identifies a Job's video or photo, without reading it."""
    return {"filename": job.payload.filename, **files.source_stamp(job.path)}


def convert(job):
    """Write the frames of one video and its frames.json; return that record. Raises InputError, OutputError."""
    cv2.setNumThreads(1)  # there is one process per core
    source, count, max_side = job.payload, job.settings["frames"], job.settings["max_side"]
    try:
        made_from = job.made_from()
        if not made_from["size_bytes"]:
            raise InputError("is empty", "empty")
        open(source.path, "rb").close()
    except OSError as error:
        code = "not_allowed" if isinstance(error, PermissionError) else None
        raise InputError(f"cannot be read: {error.strerror}", code) from error
    if source.is_photo:
        pictures, times_s, shown, facts = read_photo(source.path, max_side)
    else:
        pictures, times_s, shown, facts = read_video(source.path, count, max_side)
    names = [f"{source.video_id}-{index:03d}.png" for index in range(len(pictures))]
    record = {
        "video_id": source.video_id,
        "made_from": made_from,
        "width": int(shown[0]),
        "height": int(shown[1]),
        "scale": round(crops.saved_size(*shown, max_side)[2], 6),
        **facts,
        "frames": [{"file": name, "time_s": round(time_s, 3)} for name, time_s in zip(names, times_s, strict=True)],
        "counts": {"frames": len(names)},
    }
    return job.write({name: crops.as_png(picture) for name, picture in zip(names, pictures, strict=True)}, record)


def prune(frames_dir, videos_dir):
    """Remove the frames of videos that are no longer there."""
    root = videos_dir.parent if videos_dir.is_file() else videos_dir
    for folder in inputs.list_frame_dirs(frames_dir):
        filename = files.read_json(folder / paths.FRAMES_RECORD, made_from={})["made_from"].get("filename")
        if filename and not os.path.lexists(root / filename):
            shutil.rmtree(folder)


def build_parser():
    parser = cli.make_parser(__doc__)
    number = {"type": cli.positive, "metavar": "N"}
    count, side = (
        "frames per video (default: %(default)s)",
        "longer side of a saved frame, in px (default: %(default)s)",
    )
    parser.add_argument("--frames", **number, default=FRAMES_PER_VIDEO, help=count)
    parser.add_argument("--max-side", **number, default=MAX_SIDE_PX, help=side)
    parser.add_argument("--prune", action="store_true", help="remove the frames of videos that are no longer there")
    cli.add_work_options(parser, TIMEOUT_S)
    return parser


@cli.stops_in_words
def main(argv=None):
    args = build_parser().parse_args(argv)
    videos_dir, frames_dir, data_dir = cli.require_videos_dir(args), cli.frames_dir_of(args), cli.data_root(args)
    sources, problems, others = inputs.list_sources(videos_dir, data_dir)
    if others and args.shard[0] == 1:
        names = ", ".join(path.relative_to(videos_dir).as_posix() for path in others[: messages.LISTED_MESSAGES])
        more = f" and {len(others) - messages.LISTED_MESSAGES} more" if len(others) > messages.LISTED_MESSAGES else ""
        say(f"{STAGE}: ignored, no videos or photos by their names: {names}{more}")
    if not sources and not problems:
        cli.stop(f"{videos_dir} holds no videos or photos")
    if args.prune and frames_dir.is_dir():
        prune(frames_dir, videos_dir)
    sizes = [source.path.stat().st_size if source.path.exists() else 0 for source in sources]  # 0: a broken link
    chosen = loop.share_of(sources, sizes, args.shard)
    settings = {"frames": args.frames, "max_side": args.max_side}
    jobs = [
        loop.Job(source.path, frames_dir / source.video_id, paths.FRAMES_RECORD, origin, settings, source)
        for source in chosen[: args.limit]
    ]
    if args.shard[0] != 1:
        problems = []  # the first shard reports what no shard can read
    return loop.work_through(STAGE, convert, jobs, args, data_dir, problems)


if __name__ == "__main__":
    sys.exit(main())
