"""Reading metadata.json: what it says of each video, such as its label, its original and its group."""

import json
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

from common import paths
from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.preprocessing import inputs

LABELS = {"FAKE": FAKE, "REAL": REAL}
GIVEN_TWICE = object()  # the value of a name that a JSON object holds twice: nobody knows which one is meant


@dataclass
class Entry:
    """One video of a metadata.json. `original` and `filename` are paths below the videos directory, or None."""

    filename: str
    label: int
    original: str | None = None
    group: str | None = None
    altered_person: int | None = None
    metadata: Path | None = None  # the file that says so
    synthetic: bool = False  # made by a program, no film of people; metadata.json calls it drawn


def leaves_directory(name):
    """Tell whether a name in metadata.json is absolute or leads out of its folder: then it is refused."""
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
    if not isinstance(synthetic := fields.get("drawn", False), bool):
        raise ValueError(f"says drawn: {synthetic!r}; it must be true or false")
    filename = PurePosixPath(folder, name).as_posix()
    original = PurePosixPath(folder, original).as_posix() if original else None
    return Entry(filename, label, original, None if group is None else str(group), person, metadata, synthetic)


def mark_repeated(pairs):
    """Return the (name, value) pairs of a JSON object as a dict; a name given more than once has the value GIVEN_TWICE."""
    times = Counter(name for name, _ in pairs)
    return {name: value if times[name] == 1 else GIVEN_TWICE for name, value in pairs}


def read_metadata(videos_dir, strict=False):
    """Read every metadata.json below `videos_dir`.

    Returns ({video_id: Entry}, problems, refused). Problems are (path of the metadata.json, reason); refused is the set of
    video_ids whose items cannot be used. A file that cannot be used as a whole is a problem; if `strict`, it raises InputError.
    """
    videos_dir = Path(videos_dir)
    root = videos_dir.parent if videos_dir.is_file() else videos_dir
    files = [root / paths.METADATA] if videos_dir.is_file() else inputs.walk_inputs(videos_dir, set(), set())
    entries, problems, refused = {}, [], set()
    for path in (path for path in files if path.name == paths.METADATA and path.is_file()):
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
                refused.add(inputs.video_id_of(os.path.relpath(path.parent / name, root)))  # also of "x/../y.mp4"
                continue
            other = entries.setdefault(inputs.video_id_of(entry.filename), entry)
            if other is not entry:
                problems.append((path, f'"{name}" would share its id with "{other.filename}"; left out'))
    return entries, problems, refused
