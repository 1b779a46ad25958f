"""Build the balanced dataset and split it, so that no video, and no fake and its original, is in two sets.

Reads   <frames>/<video_id>/faces/ (or marked_faces/) and every metadata.json below <videos>   (01a_crop_faces_mtcnn.py)
Writes  prepared_dataset/{real,fake}/, split_dataset/{train,val,test}/{real,fake}/, split_dataset/split.csv
Rerun   does nothing if the faces, labels and options are the same; else the old dataset stays until the new one is complete

Exit status 2 if a group is in two sets, or if a set lacks a class.

--test-list: the test part of a published data set. Of the others, what shares an original with a listed video is left out. A list
may divide a group that only the key `group` of metadata.json ties together, such as people who are in many videos; then the
script says how many, and results on the test part are of people who were seen in training.
"""

import json
import os
import shutil
import sys
import time
from collections import Counter, defaultdict

from common.cli import (
    add_frames_dir,
    add_path,
    make_parser,
    positive,
    require,
    require_videos_dir,
    say,
    stop,
    stops_in_words,
)  # fmt: skip
from common.constants import CLASS_NAMES, FACE_KINDS, FAKE, REAL, SPLITS
from common.dataset import COLUMNS, NOT_TRAINED_ON, Row, balance, csv_values
from common.labels import Entry, load_videos
from common.metrics import MIN_GROUPS
from common.paths import (
    FACES_RECORD,
    MARKS_RECORD,
    METADATA,
    SPLIT_RECORD,
    SPLIT_TABLE,
    data_root,
    digest,
    digest_of_list,
    frames_dir_of,
    locate,
)
from common.progress import list_messages, progress
from common.records import InputError, is_our_record, new_directory, read_json, write_csv, write_json
from common.splits import assign_splits, check_list, is_bystander, read_test_list, split_by_list

STAGE = "02"


def keep_marked(videos):
    """Give every video its marked faces: those drawn on the faces that are there now. Older marks count as missing."""
    for video in videos:
        if not video.faces:
            continue
        marks = read_json(video.folder / "marked_faces" / MARKS_RECORD)
        faces_digest = digest(video.folder / "faces" / FACES_RECORD)
        current = is_our_record(marks) and marks["made_from"].get("faces_digest") == faces_digest
        digests = marks["digests"] if current else {}
        video.faces = [face._replace(digest=digests[face.file]) for face in video.faces if face.file in digests]
        video.reason = None if video.faces else "its marked faces are missing; run 01b_mark_landmarks.py"


def face_rows(videos, splits):
    """Return the Rows of the faces to use, before balancing: bystanders count in test only."""
    return [
        Row(video, face, splits[video.group], video.frames)
        for video in videos
        for face in video.faces
        if splits[video.group] == "test" or not is_bystander(face, video.entry)
    ]


def link_or_copy(source, target):
    """Hard-link a file, or copy it where the file system does not allow links. The crops are never rewritten in place."""
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise InputError(f"{source} is missing. Run 01a_crop_faces_mtcnn.py (or 01b) with --force.") from error
    except OSError:
        shutil.copyfile(source, target)


def read_back(split_dir, group_of):
    """Recompute from the file names on disk: {split: Counter of labels} and the groups found in more than one split."""
    counts, seen = {}, defaultdict(set)
    for split in SPLITS:
        counts[split] = Counter()
        for label, name in enumerate(CLASS_NAMES):
            for file in os.listdir(split_dir / split / name):
                counts[split][label] += 1
                seen[group_of[file.rsplit("-", 2)[0]]].add(split)
    return counts, sorted(group for group, splits in seen.items() if len(splits) > 1)


def write_dataset(rows, face_kind, record, split_dir, prepared_dir, group_of):
    """Write both folders under temporary names, check them as read back from disk, then put them in place."""
    with new_directory(split_dir) as new_split, new_directory(prepared_dir) as new_prepared:
        for name in CLASS_NAMES:
            (new_prepared / name).mkdir()
            for split in SPLITS:
                (new_split / split / name).mkdir(parents=True)
        for row in progress(rows, len(rows), STAGE, "faces"):
            name, source = CLASS_NAMES[row.video.label], row.video.folder / face_kind / row.face.file
            link_or_copy(source, new_prepared / name / source.name)
            link_or_copy(source, new_split / row.split / name / source.name)
        counts, leaks = read_back(new_split, group_of)
        if leaks:
            raise InputError(f"{len(leaks)} groups are in two sets, the first is {leaks[0]}; nothing was written")
        table = (
            {**csv_values(row), "file": f"{row.split}/{CLASS_NAMES[row.video.label]}/{row.face.file}"} for row in rows
        )
        write_csv(new_split / SPLIT_TABLE, COLUMNS, table)
        write_json(new_split / SPLIT_RECORD, record)
        write_json(new_prepared / SPLIT_RECORD, record)
    return counts


def is_complete(rows, record, split_dir, prepared_dir):
    """Tell whether both folders were made from these rows and no file has been taken away since."""
    if any(read_json(folder / SPLIT_RECORD) != record for folder in (split_dir, prepared_dir)):
        return False

    files = defaultdict(list)
    for row in rows:
        files[row.split, CLASS_NAMES[row.video.label]].append(row.face.file)

    def holds(folder, names):
        return folder.is_dir() and set(os.listdir(folder)).issuperset(names)

    return (split_dir / SPLIT_TABLE).is_file() and all(
        holds(split_dir / split / name, found) and holds(prepared_dir / name, found)
        for (split, name), found in files.items()
    )


def refuse_own_folder(folder):
    """Stop if `folder` holds something that this script did not make: it would be replaced."""
    if folder.exists() and not (folder / SPLIT_RECORD).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        stop(f"{folder} exists and was not made by this script; move it away or name another folder")


def groups_of(rows, split):
    """Return how many groups a set has."""
    return len({row.video.group for row in rows if row.split == split})


def check_parts(rows, real_only):
    """Stop with the counts if a set lacks a class that it needs."""
    counts = Counter((row.split, row.video.label) for row in rows)
    needed = (REAL,) if real_only else (FAKE, REAL)
    if all(counts[split, label] for split in SPLITS for label in needed):
        return
    table = "; ".join(
        f"{split}: " + ", ".join(f"{counts[split, label]} {CLASS_NAMES[label]}" for label in needed) for split in SPLITS
    )
    groups = len({row.video.group for row in rows})
    stop(
        f"a set lacks a class ({table} faces, of {groups} groups: a fake, its original and its siblings are one). "
        "More videos, from more people, with labels, are needed; nothing was written"
    )


def unlabelled_as_real(videos):
    """Keep the videos labelled real and those that no metadata.json names, which are taken for real (for --real-only)."""
    for video in videos:
        if not video.named:
            video.entry = Entry(video.filename, REAL)
    return [video for video in videos if video.label == REAL]


def build_parser():
    parser = make_parser(__doc__)
    add_path(parser, "videos_dir")
    add_frames_dir(parser)
    add_path(parser, "prepared_dir")
    add_path(parser, "split_dir")
    parser.add_argument("--faces", choices=FACE_KINDS, default="faces", help="which crops (default: %(default)s)")
    parser.add_argument(
        "--test-list",
        metavar="FILE",
        help="a published list of the test videos: a path per line, with 1 (real) or 0 before it or not",
    )
    parser.add_argument("--real-only", action="store_true", help="real faces only, no balance; no labels are needed")
    parser.add_argument("--limit", type=positive, metavar="N", help="try the first N videos only")
    parser.add_argument("--force", action="store_true", help="build it again even if nothing has changed")
    return parser


@stops_in_words
def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    videos_dir, frames_dir = require_videos_dir(args), frames_dir_of(args)
    split_dir, prepared_dir = locate(args, "split_dir"), locate(args, "prepared_dir")
    require(frames_dir, "it would hold a folder of faces per video", "00_convert_video_to_image.py")
    refuse_own_folder(split_dir)
    refuse_own_folder(prepared_dir)
    try:
        videos, problems = load_videos(videos_dir, frames_dir, data_root(args), STAGE, strict=args.real_only)
    except InputError as error:
        stop(f"{error}. Mend or remove it: with --real-only, the fakes that it names would count as real")
    listed = {}
    if args.test_list:
        listed = read_test_list(args.test_list, videos_dir)
        problems += [(args.test_list, f"{video_id} is no video here") for video_id in check_list(listed, videos)]
    list_messages(STAGE, "failed", problems)
    videos = videos[: args.limit]
    if not any(video.faces for video in videos):
        stop(f"no faces below {frames_dir}. Run 01a_crop_faces_mtcnn.py first.")
    left_out = sum(video.entry is None and (video.named or not args.real_only) for video in videos)
    videos = unlabelled_as_real(videos) if args.real_only else [video for video in videos if video.entry]
    if not any(video.faces for video in videos):
        if args.real_only:
            stop("every video with a face is labelled fake or refused; --real-only needs real ones")
        stop(f"no video with a face has a label: {videos_dir}/{METADATA} is missing or names none of them")
    if args.faces == "marked_faces":
        keep_marked(videos)
        if not any(video.faces for video in videos):
            stop(f"no marked faces of the present faces below {frames_dir}. Run 01b_mark_landmarks.py first.")

    if listed:
        videos, splits, notes = split_by_list(videos, listed, args.real_only)
    else:
        splits, notes = assign_splits(videos, args.real_only), []
    rows = face_rows(videos, splits)
    check_parts(rows, args.real_only)
    kept = (
        rows if args.real_only else [row for split in SPLITS for row in balance([r for r in rows if r.split == split])]
    )
    used = {row.video.video_id for row in rows}
    faceless = [
        {"video_id": video.video_id, "filename": video.filename, "group": video.group, "label": video.label,
         "split": splits[video.group], "reason": "the altered person was not found" if video.faces else video.reason}
        for video in videos if video.video_id not in used
    ]  # fmt: skip
    trained_on = [column for column in COLUMNS if column not in NOT_TRAINED_ON]
    texts = (json.dumps([values[column] for column in trained_on]) for values in map(csv_values, kept))
    record = {
        "columns": list(COLUMNS),
        "faces": args.faces,
        "real_only": args.real_only,
        "drawn": any(row.video.entry.drawn for row in kept),
        "notes": notes,
        "digest": digest_of_list(texts),
        "faceless": faceless,
    }
    if args.force or not is_complete(kept, record, split_dir, prepared_dir):
        write_dataset(
            kept, args.faces, record, split_dir, prepared_dir, {video.video_id: video.group for video in videos}
        )
        state = ""
    else:
        state = ", unchanged"
    counts = Counter((row.split, row.video.label) for row in kept)
    parts = [f"{split} {counts[split, REAL]} real + {counts[split, FAKE]} fake" for split in SPLITS]
    if left_out:
        say(f"{STAGE}: {left_out} videos without a label were left out")
    for note in notes:
        say(f"{STAGE}: warning: {note}")
    groups = len({row.video.group for row in kept})
    few = [f"{split} has {number}" for split in SPLITS[1:] if (number := groups_of(kept, split)) < MIN_GROUPS]
    if few:
        say(f"{STAGE}: warning: {' and '.join(few)} groups; with fewer than {MIN_GROUPS} results on them say little")
    say(
        f"{STAGE}: {len(videos)} videos, {groups} groups; faces: {', '.join(parts)}{state}; "
        f"{len(faceless)} videos without a usable face, {len(problems)} failed, {time.monotonic() - started:.0f} s"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
