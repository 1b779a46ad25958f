"""Where data lives, which files are inputs, and what each video is called."""

import hashlib
import heapq
import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from common.constants import COMPANION_SUFFIXES, PHOTO_SUFFIXES, TEMPORARY_PREFIX, UNSUPPORTED_SUFFIXES, VIDEO_SUFFIXES

REPOSITORY_DIR = Path(__file__).resolve().parent.parent
DATA_DIR_VARIABLE = "DEEPFAKE_DATA_DIR"
FRAMES_RECORD = "frames.json"
FACES_RECORD = "faces.json"
MARKS_RECORD = "marked_faces.json"
SPLIT_TABLE = "split.csv"
SPLIT_RECORD = "split.json"
METADATA = "metadata.json"
BEST_MODEL = "best_model.h5"
TEST_PREDICTIONS = "cnn_preds_values.json"
VAL_PREDICTIONS = "val_preds_values.json"
FAILED_TABLE = "failed.csv"
VERDICTS_TABLE = "video_preds.csv"
PEOPLE_TABLE = "people_preds.csv"
VERDICTS_TEXT = "mapreduce_res.txt"
KAGGLE_TABLE = "submission.csv"
METRICS_RECORD = "metrics.json"
FACES_CONFUSION = "Confusion.png"
VIDEOS_CONFUSION = "ConfusionVideo.png"
EXPLAINED_DIR = "explained"  # beside faces/, in the folder of a video
EXPLAINED_RECORD = "explained.json"
ROBUSTNESS_TABLE = "robustness.csv"
ROBUSTNESS_PLOT = "Robustness.png"
ROBUSTNESS_SCORES = "robustness_scores.json"
REPORT = "report.html"

DEFAULT_NAMES = {  # option of a script -> name below the data root
    "videos_dir": "train_sample_videos",
    "prepared_dir": "prepared_dataset",
    "split_dir": "split_dataset",
    "checkpoint_dir": "tmp_checkpoint",
    "predictions": TEST_PREDICTIONS,
    "output_dir": ".",
}
OUTPUT_NAMES = (
    "prepared_dataset", "split_dataset", "tmp_checkpoint", "detect",
    "Loss.png", "Accuracy.png", FACES_CONFUSION, VIDEOS_CONFUSION, ROBUSTNESS_PLOT,
)  # fmt: skip


@dataclass(frozen=True)
class Source:
    """One input file. `filename` is its path below the videos directory, with `/`, as in metadata.json."""

    path: Path
    filename: str
    video_id: str

    @property
    def is_photo(self):
        return self.path.suffix.lower() in PHOTO_SUFFIXES


def data_root(args):
    """Return `--data-dir`, else the environment variable DEEPFAKE_DATA_DIR, else the repository root."""
    return Path(args.data_dir or os.environ.get(DATA_DIR_VARIABLE) or REPOSITORY_DIR)


def locate(args, option):
    """Return the path given for `option` (an attribute of `args`), else its default below the data root."""
    given = getattr(args, option)
    return Path(given) if given else data_root(args) / DEFAULT_NAMES[option]


def frames_dir_of(args):
    """Return `--frames-dir`, else the place beside the videos."""
    if args.frames_dir:
        return Path(args.frames_dir)
    videos_dir = locate(args, "videos_dir")
    return videos_dir.parent if videos_dir.is_file() else videos_dir


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


def digest(data):
    """Return the BLAKE2b digest of bytes or of a file's content, 32 hexadecimal digits."""
    if isinstance(data, Path):
        data = data.read_bytes()
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def digest_of_list(items):
    """Return the digest of a JSON list from the JSON of its items, of which there may be too many for memory."""
    whole = hashlib.blake2b(b"[", digest_size=16)
    for number, item in enumerate(items):
        whole.update(f"{', ' if number else ''}{item}".encode())
    whole.update(b"]")
    return whole.hexdigest()


def walk_inputs(directory, excluded, seen, problems=None):
    """Yield the files below `directory` in sorted order, without outputs and temporary names.

    A folder that cannot be read is added to `problems` as (path, reason).
    """
    real_path = os.path.realpath(directory)
    if real_path in seen:
        return
    seen.add(real_path)
    try:
        entries = sorted(os.scandir(directory), key=lambda entry: entry.name)
    except OSError as error:
        entries = []
        if problems is not None:
            problems.append((Path(directory), f"the folder cannot be read: {error.strerror}"))
    if any(entry.name in (FRAMES_RECORD, SPLIT_RECORD) and entry.is_file() for entry in entries):
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

    Returns (sources sorted by video_id, problems, others): problems is a list of (path, reason) for files of recognised but
    unsupported formats and for inputs that would share a video_id; others are paths of no kind that is recognised, but for
    those of COMPANION_SUFFIXES. Folders made by these scripts are left out.
    """
    videos_dir, problems, others = Path(videos_dir), [], []
    if videos_dir.is_file():
        root, paths = videos_dir.parent, [videos_dir]
    else:
        excluded = {os.path.realpath(Path(data_dir) / name) for name in OUTPUT_NAMES} if data_dir else set()
        root, paths = videos_dir, walk_inputs(videos_dir, excluded, set(), problems)
    by_id = defaultdict(list)
    for path in paths:
        suffix = path.suffix.lower()
        if suffix in UNSUPPORTED_SUFFIXES:
            problems.append((path, f"{suffix} files are not supported; convert it to MP4, JPEG or PNG"))
        elif suffix in VIDEO_SUFFIXES + PHOTO_SUFFIXES:
            filename = path.relative_to(root).as_posix()
            by_id[video_id_of(filename)].append(Source(path, filename, video_id_of(filename)))
        elif videos_dir.is_file():
            problems.append((path, "is not a video or a photo by its name"))
        elif suffix not in COMPANION_SUFFIXES:
            others.append(path)
    sources = []
    for video_id, same in sorted(by_id.items()):
        if len(same) == 1:
            sources.append(same[0])
            continue
        names = " and ".join(f'"{source.filename}"' for source in same)
        problems += [(source.path, f"{names} would share the id {video_id}; rename one") for source in same]
    return sources, problems, others


def list_frame_dirs(frames_dir):
    """Return the per-video folders that step 00 completed below `frames_dir`, sorted."""
    from common.records import is_our_folder  # which imports this module

    with os.scandir(frames_dir) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(TEMPORARY_PREFIX))
    return [Path(frames_dir) / name for name in names if is_our_folder(Path(frames_dir) / name, FRAMES_RECORD)]


def share_of(items, sizes, shard):
    """Return the items of shard (number, count), 1-based: the largest first, each to the least loaded shard.

    Depends on nothing but the sorted list and its sizes, which must not change while shards run: then every item is in exactly
    one shard (Graham's LPT rule).
    """
    number, count = shard
    loads = [(0, index) for index in range(count)]
    chosen = []
    for position in sorted(range(len(items)), key=lambda position: (-sizes[position], position)):
        load, index = loads[0]
        heapq.heapreplace(loads, (load + max(1, sizes[position]), index))
        if index == number - 1:
            chosen.append(position)
    return [items[position] for position in sorted(chosen)]
