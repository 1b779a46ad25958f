"""What metadata.json says of each video: its label, its original, its group; and the faces found in it."""

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath, PureWindowsPath

from common.constants import FAKE, REAL
from common.faces import Face, read_face
from common.groups import find_groups
from common.paths import (
    FACES_RECORD,
    FRAMES_RECORD,
    METADATA,
    list_frame_dirs,
    list_sources,
    normal_name,
    video_id_of,
    walk_inputs,
)
from common.progress import progress
from common.records import InputError, failures, read_json

LABELS = {"FAKE": FAKE, "REAL": REAL}
GIVEN_TWICE = object()  # stands for the value of a name that a JSON object holds twice: which one is meant is unknown


@dataclass
class Entry:
    """One video of a metadata.json. `original` and `filename` are paths below the videos directory, or None."""

    filename: str
    label: int
    original: str | None = None
    group: str | None = None
    altered_person: int | None = None
    metadata: Path | None = None  # the file that says so
    drawn: bool = False  # by a program, so no film of people


@dataclass
class Video:
    """One video and what is known of it. `reason` says why there are no faces."""

    video_id: str
    filename: str
    folder: Path
    faces: list[Face] = field(default_factory=list)
    reason: str | None = None
    entry: Entry | None = None
    named: bool = False  # some metadata.json has an item for its id, used or refused
    group: str | None = None
    frame_px: int | None = None  # longer side of the source
    frames: int | None = None  # that were looked at

    @property
    def label(self):
        return self.entry.label if self.entry else None


def leaves_directory(name):
    """Tell whether a name in metadata.json is absolute or climbs out of its folder: such a name is refused."""
    path = PureWindowsPath(name)  # knows both separators
    return path.anchor != "" or ".." in path.parts


def parse_entry(metadata, folder, name, fields):
    """Return the Entry of one item of the file `metadata`, whose folder is `folder` below the videos directory.

    Raises ValueError in words.
    """
    if leaves_directory(name):
        raise ValueError("is absolute or leaves the videos directory; refused")
    if fields is GIVEN_TWICE:
        raise ValueError("is there twice")
    if not isinstance(fields, dict) or "label" not in fields:
        raise ValueError('has no "label"')
    if GIVEN_TWICE in fields.values():
        raise ValueError(f'has "{next(key for key in fields if fields[key] is GIVEN_TWICE)}" twice')
    label = LABELS.get(str(fields["label"]).upper())
    if label is None:
        raise ValueError(f"has the label {fields['label']!r}; it must be REAL or FAKE")
    original, group, person = (fields.get(key) for key in ("original", "group", "altered_person"))
    if original is not None and (not isinstance(original, str) or leaves_directory(original)):
        raise ValueError(f"has the original {original!r}, which is not a name inside the videos directory; refused")
    if person is not None and (isinstance(person, bool) or not isinstance(person, int) or person < 0):
        raise ValueError(f"has the altered_person {person!r}; it must be a number counted from the left, from 0")
    drawn = fields.get("drawn", False)
    if not isinstance(drawn, bool):
        raise ValueError(f"says drawn: {drawn!r}; it must be true or false")
    return Entry(
        filename=PurePosixPath(folder, name).as_posix(), label=label,
        original=PurePosixPath(folder, original).as_posix() if original else None,
        group=None if group is None else str(group), altered_person=person, drawn=drawn, metadata=metadata,
    )  # fmt: skip


def mark_repeated(pairs):
    """Return the pairs of a JSON object as a dict, GIVEN_TWICE for a name that is there more than once."""
    times = Counter(name for name, _ in pairs)
    return {name: value if times[name] == 1 else GIVEN_TWICE for name, value in pairs}


def read_metadata(videos_dir, strict=False):
    """Read every metadata.json below `videos_dir`.

    Returns ({video_id: Entry}, problems, refused): problems are (path of the metadata.json, reason), refused is the set of the
    video_ids whose items cannot be used. A file that cannot be used as a whole is a problem; with `strict` it raises InputError.
    """
    videos_dir = Path(videos_dir)
    root = videos_dir.parent if videos_dir.is_file() else videos_dir
    paths = [root / METADATA] if videos_dir.is_file() else walk_inputs(videos_dir, set(), set())
    entries, problems, refused = {}, [], set()
    for path in paths:
        if path.name != METADATA or not path.is_file():
            continue
        try:
            items = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=mark_repeated)
            if not isinstance(items, dict):
                raise ValueError("is not an object of file names")
        except (OSError, ValueError, RecursionError) as error:
            if strict:
                raise InputError(f"{path} cannot be used: {error}") from error
            problems.append((path, f"cannot be used: {error}"))
            continue
        for name, fields in sorted(items.items()):
            try:
                entry = parse_entry(path, path.parent.relative_to(root), name, fields)
            except ValueError as error:
                problems.append((path, f'"{name}" {error}'))
                refused.add(video_id_of(os.path.relpath(os.path.join(path.parent, name), root)))  # also of "x/../y.mp4"
                continue
            other = entries.setdefault(video_id_of(entry.filename), entry)
            if other is not entry:
                problems.append((path, f'"{name}" would share its id with "{other.filename}"; left out'))
    return entries, problems, refused


def load_videos(videos_dir, frames_dir, data_dir, stage="reading", strict=False):
    """Gather every video that is an input or has a folder of frames, with its faces, label and group.

    Returns (videos sorted by video_id, metadata problems as (path, reason)). `stage` names the progress bar; with `strict`, a
    metadata.json that cannot be used as a whole raises InputError.
    """
    videos_dir, frames_dir = Path(videos_dir), Path(frames_dir)
    entries, problems, refused = read_metadata(videos_dir, strict) if videos_dir.exists() else ({}, [], set())
    failed = {record["path"]: record["reason"] for record in failures(data_dir)}
    videos = {}
    sources = list_sources(videos_dir, data_dir)[0] if videos_dir.exists() else []
    for source in sources:
        folder = frames_dir / source.video_id
        reason = failed.get(os.path.abspath(source.path), "was not processed; run 00_convert_video_to_image.py")
        videos[source.video_id] = Video(source.video_id, source.filename, folder, reason=reason)
    folders = [] if not frames_dir.is_dir() else list_frame_dirs(frames_dir)
    if videos_dir.is_file():
        folders = [folder for folder in folders if folder.name in videos]
    for folder in progress(folders, len(folders), stage, "videos"):
        frames_record = read_json(folder / FRAMES_RECORD)
        if not frames_record:  # damaged
            continue
        video = videos.setdefault(folder.name, Video(folder.name, frames_record["made_from"]["filename"], folder))
        video.frame_px = max(frames_record.get("width", 0), frames_record.get("height", 0)) or None
        video.frames = len(frames_record.get("frames", ())) or None
        faces_record = read_json(folder / "faces" / FACES_RECORD)
        if isinstance(faces_record, dict) and "faces" in faces_record:
            try:
                video.faces, video.reason = [read_face(face) for face in faces_record["faces"]], faces_record["reason"]
            except (TypeError, KeyError, ValueError):
                video.reason = f"its {FACES_RECORD} is damaged; run 01a_crop_faces_mtcnn.py --force"
        else:
            failure = failed.get(os.path.abspath(folder))
            video.reason = failure or "its faces were not looked for; run 01a_crop_faces_mtcnn.py"
    groups = find_groups(entries, videos)
    for video_id, video in videos.items():
        entry, video.group = entries.get(video_id), groups[video_id]
        video.named = entry is not None or video_id in refused
        if entry and normal_name(entry.filename) == normal_name(video.filename):  # x.mov is not x.mp4
            video.entry = entry
    if not videos_dir.is_file():
        found = {normal_name(video.filename) for video in videos.values()}
        missing = [entry for entry in entries.values() if normal_name(entry.filename) not in found]
        problems += [(entry.metadata, f'"{entry.filename}" is no video in {videos_dir}') for entry in missing]
    return [videos[video_id] for video_id in sorted(videos)], problems
