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

from common import cli, files, messages, paths
from common.constants import CLASS_NAMES, FACE_KINDS, FAKE, REAL, SPLITS
from common.errors import InputError
from common.messages import progress, say
from deepfake.dataset import metadata, splits, table
from deepfake.dataset.videos import load_videos
from deepfake.evaluation import intervals

STAGE = "02"


def keep_marked(videos):
    """Give every video its marked faces: those drawn on the faces that are there now. Older marks count as missing."""
    for video in videos:
        if not video.faces:
            continue
        marks = files.read_json(video.folder / "marked_faces" / paths.MARKS_RECORD, made_from={})
        faces_digest = files.digest(video.folder / "faces" / paths.FACES_RECORD)
        current = marks["made_from"].get("faces_digest") == faces_digest
        digests = marks["digests"] if current else {}
        video.faces = [face._replace(digest=digests[face.file]) for face in video.faces if face.file in digests]
        video.reason = None if video.faces else "its marked faces are missing; run 01b_mark_landmarks.py"


def face_rows(videos, split_of):
    """Return the Rows of the faces to use, before balancing: bystanders count in test only."""
    return [
        table.Row(video, face, split_of[video.group], video.frames)
        for video in videos
        for face in video.faces
        if split_of[video.group] == "test" or not splits.is_bystander(face, video.entry)
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
    return counts, sorted(group for group, split_of in seen.items() if len(split_of) > 1)


def write_dataset(rows, face_kind, record, split_dir, prepared_dir, group_of):
    """Write both folders under temporary names, check them as read back from disk, then put them in place."""
    with files.new_directory(split_dir) as new_split, files.new_directory(prepared_dir) as new_prepared:
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
        lines = (
            {**table.csv_values(row), "file": f"{row.split}/{CLASS_NAMES[row.video.label]}/{row.face.file}"}
            for row in rows
        )
        files.write_csv(new_split / paths.SPLIT_TABLE, table.COLUMNS, lines)
        files.write_json(new_split / paths.SPLIT_RECORD, record)
        files.write_json(new_prepared / paths.SPLIT_RECORD, record)
    return counts


def is_complete(rows, record, split_dir, prepared_dir):
    """Tell whether both folders were made from these rows and no file has been taken away since."""
    if any(files.read_json(folder / paths.SPLIT_RECORD) != record for folder in (split_dir, prepared_dir)):
        return False

    names = defaultdict(list)
    for row in rows:
        names[row.split, CLASS_NAMES[row.video.label]].append(row.face.file)

    def holds(folder, names):
        return folder.is_dir() and set(os.listdir(folder)).issuperset(names)

    return (split_dir / paths.SPLIT_TABLE).is_file() and all(
        holds(split_dir / split / name, found) and holds(prepared_dir / name, found)
        for (split, name), found in names.items()
    )


def refuse_own_folder(folder):
    """Stop if `folder` holds something that this script did not make: it would be replaced."""
    if (
        folder.exists()
        and not (folder / paths.SPLIT_RECORD).is_file()
        and (not folder.is_dir() or any(folder.iterdir()))
    ):
        cli.stop(f"{folder} exists and was not made by this script; move it away or name another folder")


def groups_of(rows, split):
    """Return how many groups a set has."""
    return len({row.video.group for row in rows if row.split == split})


def check_parts(rows, real_only):
    """Stop with the counts if a set lacks a class that it needs."""
    counts = Counter((row.split, row.video.label) for row in rows)
    needed = (REAL,) if real_only else (FAKE, REAL)
    if all(counts[split, label] for split in SPLITS for label in needed):
        return
    lines = "; ".join(
        f"{split}: " + ", ".join(f"{counts[split, label]} {CLASS_NAMES[label]}" for label in needed) for split in SPLITS
    )
    groups = len({row.video.group for row in rows})
    cli.stop(
        f"a set lacks a class ({lines} faces, of {groups} groups: a fake, its original and its siblings are one). "
        "More videos, from more people, with labels, are needed; nothing was written"
    )


def unlabelled_as_real(videos):
    """Keep the videos labelled real and those that no metadata.json names, which are taken for real (for --real-only)."""
    for video in videos:
        if not video.named:
            video.entry = metadata.Entry(video.filename, REAL)
    return [video for video in videos if video.label == REAL]


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "videos_dir")
    cli.add_frames_dir(parser)
    cli.add_path(parser, "prepared_dir")
    cli.add_path(parser, "split_dir")
    parser.add_argument("--faces", choices=FACE_KINDS, default="faces", help="which crops (default: %(default)s)")
    parser.add_argument(
        "--test-list",
        metavar="FILE",
        help="a published list of the test videos: a path per line, with 1 (real) or 0 before it or not",
    )
    parser.add_argument("--real-only", action="store_true", help="real faces only, no balance; no labels are needed")
    parser.add_argument("--limit", type=cli.positive, metavar="N", help="try the first N videos only")
    parser.add_argument("--force", action="store_true", help="build it again even if nothing has changed")
    return parser


@cli.stops_in_words
def main(argv=None):
    args, started = build_parser().parse_args(argv), time.monotonic()
    videos_dir, frames_dir = cli.require_videos_dir(args), cli.frames_dir_of(args)
    split_dir, prepared_dir = cli.locate(args, "split_dir"), cli.locate(args, "prepared_dir")
    cli.require(frames_dir, "it would hold a folder of faces per video", "00_convert_video_to_image.py")
    refuse_own_folder(split_dir)
    refuse_own_folder(prepared_dir)
    try:
        videos, problems = load_videos(videos_dir, frames_dir, cli.data_root(args), STAGE, strict=args.real_only)
    except InputError as error:
        cli.stop(f"{error}. Mend or remove it: with --real-only, the fakes that it names would count as real")
    listed = {}
    if args.test_list:
        listed = splits.read_test_list(args.test_list, videos_dir)
        problems += [(args.test_list, f"{video_id} is no video here") for video_id in splits.check_list(listed, videos)]
    messages.list_messages(STAGE, "failed", problems)
    videos = videos[: args.limit]
    if not any(video.faces for video in videos):
        cli.stop(f"no faces below {frames_dir}. Run 01a_crop_faces_mtcnn.py first.")
    left_out = sum(video.entry is None and (video.named or not args.real_only) for video in videos)
    videos = unlabelled_as_real(videos) if args.real_only else [video for video in videos if video.entry]
    if not any(video.faces for video in videos):
        if args.real_only:
            cli.stop("every video with a face is labelled fake or refused; --real-only needs real ones")
        cli.stop(f"no video with a face has a label: {videos_dir}/{paths.METADATA} is missing or names none of them")
    if args.faces == "marked_faces":
        keep_marked(videos)
        if not any(video.faces for video in videos):
            cli.stop(f"no marked faces of the present faces below {frames_dir}. Run 01b_mark_landmarks.py first.")

    if listed:
        videos, split_of, notes = splits.split_by_list(videos, listed, args.real_only)
    else:
        split_of, notes = splits.assign_splits(videos, args.real_only), []
    rows = face_rows(videos, split_of)
    check_parts(rows, args.real_only)
    kept = (
        rows
        if args.real_only
        else [row for split in SPLITS for row in table.balance([r for r in rows if r.split == split])]
    )
    used = {row.video.video_id for row in rows}
    faceless = [
        {
            "video_id": video.video_id,
            "filename": video.filename,
            "group": video.group,
            "label": video.label,
            "split": split_of[video.group],
            "reason": "the altered person was not found" if video.faces else video.reason,
        }
        for video in videos
        if video.video_id not in used
    ]
    trained_on = [column for column in table.COLUMNS if column not in table.NOT_TRAINED_ON]
    texts = (json.dumps([values[column] for column in trained_on]) for values in map(table.csv_values, kept))
    record = {
        "columns": list(table.COLUMNS),
        "faces": args.faces,
        "real_only": args.real_only,
        "drawn": any(row.video.entry.drawn for row in kept),
        "notes": notes,
        "digest": files.digest_of_list(texts),
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
    few = [f"{split} has {number}" for split in SPLITS[1:] if (number := groups_of(kept, split)) < intervals.MIN_GROUPS]
    if few:
        say(
            f"{STAGE}: warning: {' and '.join(few)} groups; with fewer than {intervals.MIN_GROUPS} results on them say little"
        )
    say(
        f"{STAGE}: {len(videos)} videos, {groups} groups; faces: {', '.join(parts)}{state}; "
        f"{len(faceless)} videos without a usable face, {len(problems)} failed, {time.monotonic() - started:.0f} s"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
