"""Which group of videos goes to training, validation or test: by the alphabet, or by a published list of test videos."""

import os
import unicodedata
from bisect import bisect_right
from collections import Counter, defaultdict
from itertools import accumulate
from pathlib import Path
from statistics import median

from common.constants import CLASS_NAMES, FAKE, REAL, SPLITS
from common.errors import InputError
from deepfake.preprocessing import inputs

VIDEO, KEY = 0, 1  # what an item is: videos sort before values of the key `group`
CUTS_PERCENT = (80, 90)  # of the faces of the rarer class: training ends at the first, validation at the second
CUTS_BEFORE_TEST = (89,)  # of what a test list leaves: 80 of 90
UNUSUALLY_LARGE = 2  # times the median group: in a small dataset, an ordinary group can be above a part's share


def split_groups(sizes, cuts_percent=CUTS_PERCENT):
    """Return {group: split} for `sizes`, {group: faces of the rarer class}.

    The groups, in alphabetical order, are cut where 80 % and 90 % of the faces are nearest; validation and test get at least one
    group each. A group is never divided. One with more than 10 % of the faces, and more than twice those of the median group,
    goes to training. With one cut, there is no test part.
    """
    total = sum(sizes.values())
    usual = median([size for size in sizes.values() if size] or [0])
    share = max(total * (100 - cuts_percent[-1]) / 100, UNUSUALLY_LARGE * usual)
    large = {group for group, size in sizes.items() if size > share}
    divided = [group for group in sorted(sizes) if sizes[group] and group not in large]
    if len(divided) < len(cuts_percent) + 1 - bool(large):
        return dict.fromkeys(sizes, "train")
    reached = list(accumulate((sizes[group] for group in divided), initial=total - sum(sizes[g] for g in divided)))
    firsts = []  # of the groups of validation and test
    for left, percent in zip(range(len(cuts_percent), 0, -1), cuts_percent, strict=True):
        places = range(firsts[-1] + 1 if firsts else 0 if large else 1, len(divided) - left + 1)
        firsts.append(min(places, key=lambda place, percent=percent: abs(100 * reached[place] - percent * total)))
    names = [divided[place] for place in firsts]
    return {group: "train" if group in large else SPLITS[bisect_right(names, group)] for group in sizes}


def assign_splits(videos, real_only, cuts_percent=CUTS_PERCENT):
    """Return {group: split} for videos with a label.

    Bystanders do not count. Groups without a face of the rarer class follow the alphabet. That can leave a set without a class,
    such as with folders real/ and fake/. Then the groups of fakes only, of reals only and of both are cut separately.
    """
    faces = Counter()
    for video in videos:
        faces[video.group, video.label] += len(without_bystanders(video))
    groups = {video.group for video in videos}
    totals = [sum(faces[group, label] for group in groups) for label in (FAKE, REAL)]
    rarer = FAKE if totals[FAKE] <= totals[REAL] and not real_only else REAL
    splits = split_groups({group: faces[group, rarer] for group in groups}, cuts_percent)
    parts = set(SPLITS[: len(cuts_percent) + 1])
    if real_only or all({splits[group] for group in groups if faces[group, label]} == parts for label in (FAKE, REAL)):
        return splits
    alike = defaultdict(dict)
    for group in groups:
        counts = [faces[group, label] for label in (FAKE, REAL)]
        alike[tuple(map(bool, counts))][group] = counts[rarer] or sum(counts)
    for sizes in alike.values():
        splits |= split_groups(sizes, cuts_percent)
    return splits


def without_bystanders(video):
    """Return the faces of a Video; of a fake whose altered person metadata.json names, only that person's."""
    altered = video.entry.altered_person if video.label == FAKE else None
    return [face for face in video.faces if altered in (None, face.person)]


def leave_out_bystanders(videos, split_of):
    """Take the bystanders out of the videos of training and validation. In test they stay, as in any video to judge."""
    for video in videos:
        if split_of[video.group] != "test":
            found, video.faces = video.faces, without_bystanders(video)
            video.reason = "the altered person was not found" if found and not video.faces else video.reason


def read_test_list(path, videos_dir):
    """Return {video_id: label or None} of a list with a video per line: its path, before it perhaps 1 (real) or 0 (fake).

    Paths start at the list's folder if that is in `videos_dir`, else at `videos_dir`. Raises InputError.
    """
    path, root = Path(path).resolve(), Path(videos_dir).resolve()
    below = os.path.relpath(path.parent, root) if path.parent.is_relative_to(root) else "."
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {error}") from error
    listed = {}
    for line in filter(None, map(str.strip, lines)):
        label, _, name = line.partition(" ")
        label, name = (int(label), name.strip()) if label in ("0", "1") and name else (None, line)
        listed[inputs.video_id_of(os.path.normpath(os.path.join(below, name)).replace(os.sep, "/"))] = label
    if not listed:
        raise InputError(f"{path} names no video")
    return listed


def check_list(listed, videos):
    """Return the listed ids that are no videos here. Raises InputError if the list and metadata.json disagree about a label."""
    labels = {video.video_id: video.label for video in videos}
    for video_id, label in sorted(listed.items()):
        if label is not None and labels.get(video_id, label) not in (label, None):
            says, other = CLASS_NAMES[label].upper(), CLASS_NAMES[1 - label].upper()
            raise InputError(f"the test list says {label} ({says}) of {video_id}, metadata.json says {other}")
    return sorted(set(listed) - set(labels))


def split_by_list(videos, listed, real_only):
    """Return (videos to use, {group: split}, notes in words) of labelled Videos; the listed ones are the test part.

    Of a fake, its original and its siblings, those that are not listed are left out if another one is. The list may divide a
    group that only the metadata key `group` makes, such as one person's videos. Then each original with its fakes becomes a
    group.
    """
    families, notes = find_groups({v.video_id: v.entry for v in videos}, [v.video_id for v in videos], True), []
    taken = {families[video_id] for video_id in listed if video_id in families}
    used = [video for video in videos if video.video_id in listed or families[video.video_id] not in taken]
    in_test, others = ([v for v in used if (v.video_id in listed) == is_listed] for is_listed in (True, False))
    divided = {video.group for video in in_test} & {video.group for video in others}
    for video in used:
        if video.group in divided:
            video.group = families[video.video_id]
    splits = assign_splits(others, real_only, CUTS_BEFORE_TEST) | {video.group: "test" for video in in_test}
    if left_out := len(videos) - len(used):
        reason = "share an original with a listed one and are left out of training and validation"
        notes.append(f"{left_out} videos {reason}")
    if divided:
        notes.append(
            f"the test list divides {len(divided)} groups, the first is {min(divided)}: people of the test part are in training "
            "too, and results on it say less about people never seen"
        )
    return used, splits, notes


def connected(sets):
    """Return {item: lowest item of its group} for sets of items: sets that share an item are one group."""
    import networkx

    graph = networkx.Graph((items[0], item) for items in map(list, sets) for item in items)
    return {item: first for group in networkx.connected_components(graph) for first in [min(group)] for item in group}


def find_groups(entries, video_ids, by_original_only=False):
    """Return {video_id: group}: videos of one `original` (present or not) or with one value of the metadata key `group`.

    `entries`: {video_id: metadata.Entry or None}. A group has the name of its first video by the alphabet. `by_original_only`:
    the key `group` does not count.
    """
    sets = [[(VIDEO, video_id)] for video_id in video_ids]
    for video_id, entry in entries.items():
        if entry and entry.original:
            sets.append([(VIDEO, video_id), (VIDEO, inputs.video_id_of(entry.original))])
        if entry and entry.group is not None and not by_original_only:
            sets.append([(VIDEO, video_id), (KEY, unicodedata.normalize("NFC", entry.group))])
    first = connected(sets)  # always a video: each group has one, and VIDEO sorts before KEY
    return {video_id: first[VIDEO, video_id][1] for video_id in video_ids}
