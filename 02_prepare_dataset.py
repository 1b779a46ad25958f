"""Build the balanced dataset and split it, so that no video, and no fake and its original, is in two sets.

Reads   <frames>/<video_id>/faces/ (or marked_faces/) and every metadata.json below <videos>   (01a_crop_faces_mtcnn.py)
Writes  prepared_dataset/{real,fake}/, split_dataset/{train,val,test}/{real,fake}/, split_dataset/split.csv
Rerun   does nothing if the faces, labels and options are the same; else the old dataset stays until the new one is complete

Exit status 2 if a group is in two sets, or if a set lacks a class.

--test-list names the test videos of a published data set. Other videos of the same originals are left out. The list may divide a
group that only the key `group` of metadata.json makes, such as all videos of one person. The script then says how many groups it
divides: people of the test part are seen in training.
"""

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
    """Give every video its marked faces. Marks of older faces count as missing."""
    for video in videos:
        if not video.faces:
            continue
        marks = files.read_json(video.folder / "marked_faces" / paths.MARKS_RECORD, made_from={})
        faces_digest = files.digest(video.folder / "faces" / paths.FACES_RECORD)
        current = marks["made_from"].get("faces_digest") == faces_digest
        digests = marks["digests"] if current else {}
        video.faces = [face._replace(digest=digests[face.file]) for face in video.faces if face.file in digests]
        video.reason = None if video.faces else "its marked faces are missing; run 01b_mark_landmarks.py"


def link_or_copy(source, target):
    """Hard-link a file, or copy it where the file system has no links. That is safe: crops are never rewritten in place."""
    try:
        os.link(source, target)
    except FileNotFoundError as error:
        raise InputError(f"{source} is missing. Run 01a_crop_faces_mtcnn.py (or 01b) with --force.") from error
    except OSError:
        shutil.copyfile(source, target)


def divided_groups(split_dir, group_of):
    """Return the groups that are in more than one split, by the file names on disk."""
    seen = defaultdict(set)
    for split in SPLITS:
        for name in CLASS_NAMES:
            for file in os.listdir(split_dir / split / name):
                seen[group_of[file.rsplit("-", 2)[0]]].add(split)
    return sorted(group for group, found in seen.items() if len(found) > 1)


def write_dataset(faces, videos, record, split_dir, prepared_dir):
    """Write both folders under temporary names, check what is on disk, then put them in place. Raises InputError, OutputError."""
    folders = {video.video_id: video.folder for video in videos}
    with files.new_directory(split_dir) as new_split, files.new_directory(prepared_dir) as new_prepared:
        for name in CLASS_NAMES:
            (new_prepared / name).mkdir()
            for split in SPLITS:
                (new_split / split / name).mkdir(parents=True)
        for face in progress(faces.itertuples(), len(faces), STAGE, "faces"):
            name, source = CLASS_NAMES[face.label], folders[face.video_id] / record["faces"] / face.file
            link_or_copy(source, new_prepared / name / face.file)
            link_or_copy(source, new_split / face.split / name / face.file)
        if leaks := divided_groups(new_split, {video.video_id: video.group for video in videos}):
            raise InputError(f"{len(leaks)} groups are in two sets, the first is {leaks[0]}; nothing was written")
        table.write_table(faces, new_split / paths.SPLIT_TABLE)
        files.write_json(new_split / paths.SPLIT_RECORD, record)
        files.write_json(new_prepared / paths.SPLIT_RECORD, record)


def is_complete(faces, record, split_dir, prepared_dir):
    """Tell whether both folders were made from these faces and no file is missing."""
    if any(files.read_json(folder / paths.SPLIT_RECORD) != record for folder in (split_dir, prepared_dir)):
        return False
    for (split, label), names in faces.groupby(["split", "label"], observed=True)["file"]:
        for folder in (split_dir / split / CLASS_NAMES[label], prepared_dir / CLASS_NAMES[label]):
            if not folder.is_dir() or not set(os.listdir(folder)).issuperset(names):
                return False
    return (split_dir / paths.SPLIT_TABLE).is_file()


def refuse_own_folder(folder):
    """Stop if `folder`, which is to be replaced, holds something that this script did not make."""
    is_empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
    if not is_empty and not (folder / paths.SPLIT_RECORD).is_file():
        cli.stop(f"{folder} exists and was not made by this script; move it away or name another folder")


def check_parts(faces, real_only):
    """Stop with the counts if a set lacks a class that it needs."""
    counts, needed = Counter(zip(faces["split"], faces["label"], strict=True)), (REAL,) if real_only else (FAKE, REAL)
    if all(counts[split, label] for split in SPLITS for label in needed):
        return
    of_class = {split: [f"{counts[split, label]} {CLASS_NAMES[label]}" for label in needed] for split in SPLITS}
    lines = "; ".join(f"{split}: {', '.join(found)}" for split, found in of_class.items())
    cli.stop(
        f"a set lacks a class ({lines} faces, of {faces['group'].nunique()} groups: a fake, its original and its siblings are "
        "one). More videos, from more people, with labels, are needed; nothing was written"
    )


def unlabelled_as_real(videos):
    """Return the videos labelled real and, taken for real, those that no metadata.json names: for --real-only."""
    for video in videos:
        if not video.named:
            video.entry = metadata.Entry(video.filename, REAL)
    return [video for video in videos if video.label == REAL]


def videos_to_use(args, videos_dir, frames_dir):
    """Return (labelled videos, number of those without a label, ids on the test list, problems), or stop in words."""
    try:
        videos, problems = load_videos(videos_dir, frames_dir, cli.data_root(args), STAGE, strict=args.real_only)
    except InputError as error:
        cli.stop(f"{error}. Mend or remove it: with --real-only, the fakes that it names would count as real")
    listed = splits.read_test_list(args.test_list, videos_dir) if args.test_list else {}
    problems += [(args.test_list, f"{video_id} is no video here") for video_id in splits.check_list(listed, videos)]
    messages.list_messages(STAGE, "failed", problems)
    found = videos[: args.limit]
    if not any(video.faces for video in found):
        cli.stop(f"no faces below {frames_dir}. Run 01a_crop_faces_mtcnn.py first.")
    unlabelled = sum(video.entry is None and (video.named or not args.real_only) for video in found)
    videos = unlabelled_as_real(found) if args.real_only else [video for video in found if video.entry]
    if not any(video.faces for video in videos):
        if args.real_only:
            cli.stop("every video with a face is labelled fake or refused; --real-only needs real ones")
        cli.stop(f"no video with a face has a label: {videos_dir}/{paths.METADATA} is missing or names none of them")
    if args.faces == "marked_faces":
        keep_marked(videos)
        if not any(video.faces for video in videos):
            cli.stop(f"no marked faces of the present faces below {frames_dir}. Run 01b_mark_landmarks.py first.")
    return videos, unlabelled, listed, problems


def describe_dataset(faces, videos, split_of, notes, args):
    """Return split.json: what the dataset was made of. `videos`: bystanders already left out."""
    names, used = ("video_id", "filename", "group", "label"), set(faces["video_id"])
    return {
        "columns": list(table.COLUMNS),
        "faces": args.faces,
        "real_only": args.real_only,
        "drawn": any(video.entry.synthetic for video in videos if video.video_id in used),
        "notes": notes,
        "digest": table.digest_of(faces),
        "faceless": [
            {name: getattr(video, name) for name in names} | {"split": split_of[video.group], "reason": video.reason}
            for video in videos
            if not video.faces
        ],
    }


def say_groups(faces, notes):
    """Print the notes, and which part has too few groups for its results to say much."""
    for note in notes:
        say(f"{STAGE}: warning: {note}")
    groups = faces.groupby("split", observed=True)["group"].nunique()
    few = [f"{split} has {groups[split]}" for split in SPLITS[1:] if groups[split] < intervals.MIN_GROUPS]
    if few:
        needed = f"with fewer than {intervals.MIN_GROUPS} results on them say little"
        say(f"{STAGE}: warning: {' and '.join(few)} groups; {needed}")


def build_parser():
    parser = cli.make_parser(__doc__)
    cli.add_path(parser, "videos_dir")
    cli.add_frames_dir(parser)
    cli.add_path(parser, "prepared_dir")
    cli.add_path(parser, "split_dir")
    parser.add_argument("--faces", choices=FACE_KINDS, default="faces", help="which crops (default: %(default)s)")
    what = "a published list of the test videos: a path per line, with 1 (real) or 0 before it or not"
    parser.add_argument("--test-list", metavar="FILE", help=what)
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
    videos, unlabelled, listed, problems = videos_to_use(args, videos_dir, frames_dir)

    if listed:
        videos, split_of, notes = splits.split_by_list(videos, listed, args.real_only)
    else:
        split_of, notes = splits.assign_splits(videos, args.real_only), []
    splits.leave_out_bystanders(videos, split_of)
    faces = table.face_table(videos, split_of)
    check_parts(faces, args.real_only)
    if not args.real_only:
        faces = table.balance(faces)

    record = describe_dataset(faces, videos, split_of, notes, args)
    is_new = args.force or not is_complete(faces, record, split_dir, prepared_dir)
    if is_new:
        write_dataset(faces, videos, record, split_dir, prepared_dir)
    if unlabelled:
        say(f"{STAGE}: {unlabelled} videos without a label were left out")
    say_groups(faces, notes)
    counts = Counter(zip(faces["split"], faces["label"], strict=True))
    parts = ", ".join(f"{split} {counts[split, REAL]} real + {counts[split, FAKE]} fake" for split in SPLITS)
    say(
        f"{STAGE}: {len(videos)} videos, {faces['group'].nunique()} groups; faces: {parts}{'' if is_new else ', unchanged'}; "
        f"{len(record['faceless'])} videos without a usable face, {len(problems)} failed, {time.monotonic() - started:.0f} s"
    )
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
