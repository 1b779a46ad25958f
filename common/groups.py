"""What belongs together and is never divided: videos with their originals and siblings, and what metadata.json calls a group."""

import unicodedata

from common.paths import video_id_of

VIDEO, KEY = 0, 1  # what an item is; videos sort before keys


def connected(sets):
    """Return {item: first item, sorted, of its group} for sets of items: two sets that share an item are one group."""
    parent = {}

    def root_of(item):
        parent.setdefault(item, item)
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for items in sets:
        roots = sorted({root_of(item) for item in items})
        parent.update(dict.fromkeys(roots, roots[0]) if roots else {})
    return {item: root_of(item) for item in parent}


def find_groups(entries, video_ids, by_original_only=False):
    """Return {video_id: group}: connected through `original` (present or not) and the metadata key `group`.

    `entries`: {video_id: Entry or None} of `common.labels`. A group is named after the alphabetically first video in it.
    `by_original_only`: the key `group` ties nothing.
    """
    sets = []
    for video_id in {*video_ids, *entries}:
        entry, items = entries.get(video_id), [(VIDEO, video_id)]
        if entry and entry.original:
            items.append((VIDEO, video_id_of(entry.original)))
        if entry and entry.group is not None and not by_original_only:
            items.append((KEY, unicodedata.normalize("NFC", entry.group)))
        sets.append(items)
    first = connected(sets)  # a video, as every group has one and VIDEO comes before KEY
    return {video_id: first[VIDEO, video_id][1] for video_id in video_ids}
