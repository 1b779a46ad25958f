"""Which files are inputs, and what each video is called."""

import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from common import files, paths
from common.constants import TEMPORARY_PREFIX
from common.errors import InputError

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
UNSUPPORTED_PHOTOS = (".heic", ".heif", ".avif", ".gif", ".tif", ".tiff", ".bmp", ".jfif", ".jxl", ".jp2")
UNSUPPORTED_MPEG = (".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".f4v", ".qt", ".vob", ".divx")
UNSUPPORTED_SUFFIXES = (*UNSUPPORTED_PHOTOS, *UNSUPPORTED_MPEG, ".wmv", ".asf", ".flv", ".ogv", ".mxf", ".rm", ".rmvb")
COMPANION_SUFFIXES = (".json", ".csv", ".txt", ".md", ".html")  # people keep such files beside videos


@dataclass(frozen=True)
class Source:
    """One input file. `filename` is its path below the videos directory, with `/`, as in metadata.json."""

    path: Path
    filename: str
    video_id: str

    @property
    def is_photo(self):
        return self.path.suffix.lower() in PHOTO_SUFFIXES


def normal_name(name):
    """Return the form in which names are compared: Unicode NFC, the suffix in lower case."""
    name = unicodedata.normalize("NFC", name)
    stem, dot, suffix = name.rpartition(".")
    return f"{stem}.{suffix.lower()}" if dot else name


def video_id_of(filename):
    """Return the id of a path below the videos directory: no suffix (`-jpg` for photos), `/` written `__`."""
    stem, dot, suffix = normal_name(filename).rpartition(".")
    if f".{suffix}" in PHOTO_SUFFIXES:
        stem = f"{stem}-{suffix}"
    return (stem if dot else suffix).replace("/", "__")


def walk_inputs(directory, excluded, seen, problems=None):
    """Yield the files below `directory` in sorted order, without outputs and temporary names.

    `excluded`: real paths to leave out; `seen` collects those of the folders, so that a link cannot lead in a circle. A folder
    that cannot be read is added to `problems` as (path, InputError).
    """
    real_path = os.path.realpath(directory)
    if real_path in seen:
        return
    seen.add(real_path)
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        if problems is not None:
            reason = f"the folder cannot be read: {error.strerror}"
            problems.append((Path(directory), InputError(reason, "not_allowed")))
        return
    if any(entry.name in (paths.FRAMES_RECORD, paths.SPLIT_RECORD) and entry.is_file() for entry in entries):
        return
    for entry in entries:
        if entry.name.startswith(TEMPORARY_PREFIX) or os.path.realpath(entry.path) in excluded:
            continue
        if entry.is_dir():
            yield from walk_inputs(entry.path, excluded, seen, problems)
        else:
            yield Path(entry.path)


def list_sources(videos_dir, data_dir=None):
    """Find the videos and photos below `videos_dir` (or the one file that it is).

    Returns (sources sorted by video_id, problems, others). Problems are (path, InputError) of unsupported formats, of inputs that
    would share a video_id and of folders that cannot be read; others are paths of unknown formats, without COMPANION_SUFFIXES.
    Folders made by these scripts are left out.
    """
    videos_dir, problems, others = Path(videos_dir), [], []
    if videos_dir.is_file():
        root, candidates = videos_dir.parent, [videos_dir]
    else:
        excluded = {os.path.realpath(Path(data_dir) / name) for name in paths.OUTPUT_NAMES} if data_dir else set()
        root, candidates = videos_dir, walk_inputs(videos_dir, excluded, set(), problems)
    by_id = defaultdict(list)
    for path in candidates:
        suffix = path.suffix.lower()
        if suffix in UNSUPPORTED_SUFFIXES:
            advice = "convert it to MP4, JPEG or PNG"
            problems.append((path, InputError(f"{suffix} files are not supported; {advice}", "unsupported")))
        elif suffix in VIDEO_SUFFIXES + PHOTO_SUFFIXES:
            filename = path.relative_to(root).as_posix()
            by_id[video_id_of(filename)].append(Source(path, filename, video_id_of(filename)))
        elif videos_dir.is_file():
            problems.append((path, InputError("is not a video or a photo by its name")))
        elif suffix not in COMPANION_SUFFIXES:
            others.append(path)
    sources = [same[0] for _, same in sorted(by_id.items()) if len(same) == 1]
    for video_id, same in sorted(by_id.items()):
        names = " and ".join(f'"{source.filename}"' for source in same)
        error = InputError(f"{names} would share the id {video_id}; rename one", "same_id")
        problems += [(source.path, error) for source in same if len(same) > 1]
    return sources, problems, others


def list_frame_dirs(frames_dir):
    """Return the folders of the videos that 00 completed below `frames_dir`, sorted."""
    folders = [Path(frames_dir) / name for name in sorted(os.listdir(frames_dir)) if name[0] != TEMPORARY_PREFIX]
    return [folder for folder in folders if files.is_our_folder(folder, paths.FRAMES_RECORD)]
