"""02: groups, split, balance, and the dataset on disk."""

import csv
import errno
import importlib
import json
import os
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from itertools import product
from pathlib import Path

import pytest

from common.constants import CLASS_NAMES, FAKE, REAL, SPLITS
from common.errors import InputError
from common.files import digest
from deepfake.dataset import metadata as metadata_module
from deepfake.dataset import splits as splits_module
from deepfake.dataset import table
from deepfake.dataset.splits import split_groups
from deepfake.dataset.videos import Video, load_videos
from deepfake.preprocessing.crops import Face
from deepfake.preprocessing.inputs import video_id_of
from tests.trees import write_metadata, write_pairs, write_png, write_video

prepare = importlib.import_module("02_prepare_dataset")


def run(data_dir, *options):
    """Run the script; return its exit status."""
    try:
        return prepare.main(["--data-dir", str(data_dir), *map(str, options)])
    except SystemExit as error:
        return error.code


def files_on_disk(folder):
    """Return {(split, class name): sorted file names} of a split_dataset."""
    return {(split, name): sorted(os.listdir(folder / split / name)) for split in SPLITS for name in CLASS_NAMES}


def splits_of_videos(folder):
    """Return {video_id: set of splits}, from the file names alone."""
    found = defaultdict(set)
    for (split, _), files in files_on_disk(folder).items():
        for file in files:
            found[file[: -len("-000-00.png")]].add(split)
    return found


def read_rows(data_dir):
    with open(data_dir / "split_dataset" / "split.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def snapshot(*folders):
    """Return inode and modification time of every file and folder."""
    paths = [path for folder in folders for path in [folder, *sorted(folder.rglob("*"))]]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def check_dataset(data_dir, group_of):
    """Check on disk: no group in two sets, classes equal in each, prepared_dataset the union; return faces per set."""
    files = files_on_disk(data_dir / "split_dataset")
    groups = defaultdict(set)
    for video_id, splits in splits_of_videos(data_dir / "split_dataset").items():
        groups[group_of[video_id]] |= splits
    assert all(len(splits) == 1 for splits in groups.values()), groups
    for split in SPLITS:
        assert len(files[split, "real"]) == len(files[split, "fake"]) > 0
    for name in CLASS_NAMES:
        union = sorted(sum((files[split, name] for split in SPLITS), []))
        assert union == sorted(os.listdir(data_dir / "prepared_dataset" / name))
    rows = read_rows(data_dir)
    assert {row["file"] for row in rows} == {f"{s}/{c}/{file}" for (s, c), names in files.items() for file in names}
    return {split: len(files[split, "real"]) for split in SPLITS}


# --- pure functions


def counts_of(sizes):
    splits = split_groups(sizes)
    assert set(splits) == set(sizes)
    return [list(splits.values()).count(split) for split in SPLITS], splits


@pytest.mark.parametrize("groups", [10, 20, 100, 1000])
def test_equal_groups_are_cut_at_80_and_90_percent_in_alphabetical_order(groups):
    names = [f"g{index:04d}" for index in range(groups)]
    counts, splits = counts_of(dict.fromkeys(reversed(names), 11))
    assert counts == [groups * 8 // 10, groups // 10, groups // 10]
    assert [splits[name] for name in names] == sorted(splits.values(), key=SPLITS.index)


def test_ten_groups_of_10_or_11_faces_are_cut_8_1_1():
    for sizes in product((10, 11), repeat=10):
        counts, _ = counts_of({f"g{index}": size for index, size in enumerate(sizes)})
        assert counts == [8, 1, 1], sizes


@pytest.mark.parametrize("groups", range(3, 30))
def test_small_sets_have_every_part_and_are_as_near_as_groups_allow(groups):
    counts, _ = counts_of({f"g{index:02d}": 5 for index in range(groups)})
    assert min(counts) >= 1
    if groups >= 8:
        assert abs(counts[0] - 0.8 * groups) <= 0.5 and abs(counts[0] + counts[1] - 0.9 * groups) <= 0.5


@pytest.mark.parametrize("groups", [0, 1, 2])
def test_too_few_groups_all_go_to_training(groups):
    assert set(split_groups({f"g{index}": 5 for index in range(groups)}).values()) <= {"train"}


def test_unusually_large_group_goes_to_training_and_counts_there():
    sizes = {f"g{index:02d}": 10 for index in range(20)} | {
        "g99": 60
    }  # 260 faces; 60 are more than 10 % and twice the usual
    counts, splits = counts_of(sizes)
    assert splits["g99"] == "train"
    # 208 is 80 %: 60 + 15 groups is 210. 234 is 90 %: 60 + 17 groups is 230.
    assert [splits[f"g{index:02d}"] for index in range(20)] == ["train"] * 15 + ["val"] * 2 + ["test"] * 3


def test_large_group_and_two_others_still_make_three_sets():
    assert split_groups({"a": 2, "b": 2, "c": 90}) == {"c": "train", "a": "val", "b": "test"}


def test_groups_without_the_rarer_class_follow_the_alphabet():
    sizes = {f"g{index}": 10 for index in range(10)} | {"a": 0, "g75": 0, "g8x": 0, "h": 0}
    _, splits = counts_of(sizes)
    assert (splits["a"], splits["g75"], splits["g8x"], splits["h"]) == ("train", "train", "val", "test")


def video(video_id, label, faces):
    """Return a Video of 10 frames with a face for each (frame, person)."""
    entry = metadata_module.Entry(f"{video_id}.mp4", label)
    found = [Face("x.png", frame, 0.0, person, 1.0, 100.0, "[]", "") for frame, person in faces]
    return Video(video_id, entry.filename, Path(video_id), found, entry=entry, group=video_id, video_frames=10)


def balanced(*videos, split="train"):
    return table.balance(table.face_table(videos, dict.fromkeys([video.group for video in videos], split)))


def test_balance_drops_the_last_videos_and_keeps_at_most_one_partial():
    of_fake = [(frame, person) for frame in range(3) for person in (0, 1)]
    fakes = [video(f"fake_{name}", FAKE, reversed(of_fake)) for name in "dcba"]
    kept = balanced(*fakes, video("real_a", REAL, [(frame, 0) for frame in range(10)]))
    assert Counter(kept["video_id"]) == {"fake_a": 6, "fake_b": 4, "real_a": 10}
    partial = kept["video_id"] == "fake_b"
    assert kept[partial][["frame", "person", "video_frames"]].values.tolist() == [
        [0, 0, 2],
        [0, 1, 2],
        [1, 0, 2],
        [1, 1, 2],
    ]
    assert set(kept[~partial]["video_frames"]) == {10}


def test_balance_keeps_a_videos_faces_together_where_names_sort_otherwise():
    """ "a!" sorts after "a" as a name, but "a!-000" before "a-000": balancing goes by video."""
    three = [(frame, 0) for frame in range(3)]
    kept = balanced(video("a!", FAKE, three), video("a", FAKE, three), video("r", REAL, three))
    assert Counter(kept["video_id"]) == {"a": 3, "r": 3}


def test_balance_goes_by_split():
    faces = [video(name, FAKE if name in "acd" else REAL, [(0, 0), (1, 0)]) for name in "abcdef"]
    kept = table.balance(table.face_table(faces, dict(zip("abcdef", ("test", "test", *["train"] * 4), strict=True))))
    assert kept["split"].tolist() == ["train"] * 8 + ["test"] * 4 and kept["video_id"].is_monotonic_increasing is False
    assert kept.groupby(["split", "label"], observed=True).size().tolist() == [4, 4, 2, 2]


def test_bystanders_are_other_people_of_a_fake_whose_altered_person_is_known():
    fake, real = video("f", FAKE, [(0, 0), (0, 1)]), video("r", REAL, [(0, 0), (0, 1)])
    assert len(splits_module.without_bystanders(fake)) == 2
    fake.entry.altered_person = real.entry.altered_person = 1
    assert [face.person for face in splits_module.without_bystanders(fake)] == [1]
    assert len(splits_module.without_bystanders(real)) == 2
    splits_module.leave_out_bystanders([fake], {"f": "test"})
    assert len(fake.faces) == 2
    splits_module.leave_out_bystanders([fake], {"f": "val"})
    assert len(fake.faces) == 1 and fake.reason is None
    fake.entry.altered_person = 7
    splits_module.leave_out_bystanders([fake], {"f": "val"})
    assert fake.faces == [] and fake.reason == "the altered person was not found"


# --- the dataset on disk


def test_one_fake_per_real_splits_80_10_10_by_actor(tmp_path):
    write_pairs(tmp_path, actors=20)
    assert run(tmp_path) == 0
    group_of = {f"actor_{actor:03d}_{kind}": actor for actor in range(20) for kind in CLASS_NAMES}
    assert check_dataset(tmp_path, group_of) == {"train": 16 * 4, "val": 2 * 4, "test": 2 * 4}
    splits = splits_of_videos(tmp_path / "split_dataset")
    assert [*splits] and [splits[f"actor_{actor:03d}_real"] for actor in (0, 15, 16, 17, 18, 19)] == [
        {"train"},
        {"train"},
        {"val"},
        {"val"},
        {"test"},
        {"test"},
    ]


def test_split_csv_describes_every_face_on_disk(tmp_path):
    write_pairs(tmp_path)
    assert run(tmp_path) == 0
    rows = read_rows(tmp_path)
    assert tuple(rows[0]) == (
        "file",
        "video_id",
        "filename",
        "group",
        "person",
        "frame",
        "frame_s",
        "face_px",
        "landmarks",
        "confidence",
        "label",
        "split",
        "digest",
        "frame_px",
        "video_frames",
    )
    for row in rows:
        split, name, file = row["file"].split("/")
        assert (row["split"], row["label"]) == (split, str(CLASS_NAMES.index(name)))
        assert file == f"{row['video_id']}-{int(row['frame']):03d}-{int(row['person']):02d}.png"
        assert row["filename"] == f"{row['video_id']}.mp4" and row["group"] == row["video_id"][:9] + "_fake"
        assert row["digest"] == digest(tmp_path / "split_dataset" / row["file"])
        assert row["digest"] == digest(tmp_path / "prepared_dataset" / name / file)
        assert json.loads(row["landmarks"]) == [[2.2, 3.0], [5.0, 3.0], [4.0, 4.0], [3.0, 6.0], [5.0, 6.0]]
        assert float(row["frame_s"]) == 0.5 * int(row["frame"])
        assert (float(row["face_px"]), float(row["confidence"])) == (4.0, 0.99)
    assert len({row["digest"] for row in rows}) == len(rows)


def test_dfdc_parts_with_five_fakes_per_original_and_names_used_twice(tmp_path):
    """Every original has five fakes under unrelated names; part_1 has the file names of part_0, of other people."""
    videos_dir, group_of = tmp_path / "train_sample_videos", {}
    for part in range(2):
        entries = {}
        for actor in range(10):
            original = f"{digest(bytes([actor]))[:8]}.mp4"
            fakes = {f"{digest(bytes([actor, fake]))[:8]}.mp4": ("FAKE", original, {}) for fake in range(5)}
            entries |= {original: ("REAL", None, {}), **fakes}
            for name in (original, *fakes):
                write_video(videos_dir, f"part_{part}/{name}", frames=3)
                group_of[video_id_of(f"part_{part}/{name}")] = (part, actor)
        write_metadata(videos_dir / f"part_{part}", entries)
    assert run(tmp_path) == 0
    faces = check_dataset(tmp_path, group_of)
    assert faces == {"train": 16 * 3, "val": 2 * 3, "test": 2 * 3}
    rows = read_rows(tmp_path)
    fakes = Counter(row["video_id"] for row in rows if row["label"] == str(FAKE))
    assert sum(count < 3 for count in fakes.values()) <= len(SPLITS)
    assert len(fakes) <= sum(faces.values()) / 3 + len(SPLITS), "few fake videos, each with its frames"


def test_siblings_of_an_absent_original_are_one_group(tmp_path):
    videos_dir, entries, group_of = tmp_path / "train_sample_videos", {}, {}
    for actor in range(20):
        # the siblings are named so that the alphabet alone would part them
        for name in (f"{actor:02d}.mp4", f"{(actor * 7 + 3) % 20:02d}_again.mp4"):
            entries[name] = ("FAKE", f"absent_{actor}.mp4", {})
            group_of[video_id_of(name)] = actor
        name = f"{actor:02d}_real.mp4"
        entries[name] = ("REAL", None, {})
        group_of[video_id_of(name)] = name
    for name in entries:
        write_video(videos_dir, name, frames=3)
    write_metadata(videos_dir, entries)
    assert run(tmp_path) == 0
    check_dataset(tmp_path, group_of)
    rows = read_rows(tmp_path)
    siblings = defaultdict(set)
    for row in rows:
        siblings[group_of[row["video_id"]]].add(row["group"])
    assert all(len(groups) == 1 for groups in siblings.values())


def test_folders_named_after_the_classes(tmp_path):
    """fake/ and real/ with nothing that links them: the alphabet alone would put all fakes into training."""
    videos_dir = tmp_path / "train_sample_videos"
    for clip in range(20):
        write_video(videos_dir, f"fake/{clip:02d}.mp4", frames=2)
        write_video(videos_dir, f"real/{clip:02d}.mp4", frames=3)
    items = [f"{name}/{clip:02d}.mp4" for name in CLASS_NAMES for clip in range(20)]
    write_metadata(videos_dir, {item: (item[:4].upper(), None, {}) for item in items})
    assert run(tmp_path) == 0
    assert check_dataset(tmp_path, {video_id_of(item): item for item in items}) == {"train": 32, "val": 4, "test": 4}


def test_group_key_links_and_split_key_is_ignored(tmp_path):
    videos_dir, entries, group_of = tmp_path / "train_sample_videos", {}, {}
    for clip in range(30):
        label, actor = ("REAL", "FAKE")[clip % 2], f"actor {clip // 2 % 10}"
        entries[f"{clip * 7 % 30:02d}.mp4"] = (label, None, {"group": actor, "split": SPLITS[clip % 3]})
        group_of[f"{clip * 7 % 30:02d}"] = actor
    for name in entries:
        write_video(videos_dir, name, frames=2)
    write_metadata(videos_dir, entries)
    assert run(tmp_path) == 0
    faces = check_dataset(tmp_path, group_of)
    assert sum(faces.values()) == 30 and faces["val"] in (2, 4) and faces["test"] in (2, 4)


def test_names_match_in_any_unicode_form_and_suffix_case(tmp_path):
    videos_dir = write_pairs(tmp_path)
    name, original = "Zoë_fake.mp4", "Zoë_real.mp4"
    write_video(videos_dir, unicodedata.normalize("NFD", "Zoë_fake.MP4"))
    write_video(videos_dir, unicodedata.normalize("NFC", original))
    entries = json.loads((videos_dir / "metadata.json").read_text())
    items = {file: (entry["label"], entry["original"], {}) for file, entry in entries.items()}
    items |= {unicodedata.normalize("NFC", name): ("FAKE", unicodedata.normalize("NFD", original.upper()), {})}
    items |= {unicodedata.normalize("NFD", original): ("REAL", None, {})}
    items[unicodedata.normalize("NFC", name)] = ("FAKE", unicodedata.normalize("NFD", "Zoë_real.Mp4"), {})
    write_metadata(videos_dir, items)
    assert run(tmp_path) == 0
    groups = {row["video_id"]: row["group"] for row in read_rows(tmp_path)}
    assert groups["Zoë_fake"] == groups["Zoë_real"] == "Zoë_fake"


def test_other_people_of_a_fake_stay_out_of_training_and_validation(tmp_path):
    videos_dir, entries = tmp_path / "train_sample_videos", {}
    for actor in range(10):
        real, fake = f"{actor}_real.mp4", f"{actor}_fake.mp4"
        entries |= {real: ("REAL", None, {}), fake: ("FAKE", real, {"altered_person": 1})}
        for name in (real, fake):
            write_video(videos_dir, name, frames=2, people=2)
    write_metadata(videos_dir, entries)
    assert run(tmp_path) == 0
    people = defaultdict(Counter)
    for row in read_rows(tmp_path):
        people[row["split"], int(row["label"])][row["person"]] += 1
    assert people["train", FAKE] == {"1": 16} and people["val", FAKE] == {"1": 2}
    assert people["test", FAKE] == {"0": 2, "1": 2}
    assert set(people["train", REAL]) == {"0", "1"}


def test_real_only_needs_no_labels_and_balances_nothing(tmp_path):
    for clip in range(10):
        write_video(tmp_path / "train_sample_videos", f"{clip}.mp4", frames=clip + 3)
    assert run(tmp_path) == 2
    assert run(tmp_path, "--real-only") == 0
    files = files_on_disk(tmp_path / "split_dataset")
    assert sum(len(files[split, "real"]) for split in SPLITS) == sum(range(3, 13))
    assert all(files[split, "real"] and not files[split, "fake"] for split in SPLITS)
    assert {row["label"] for row in read_rows(tmp_path)} == {str(REAL)}


def test_real_only_leaves_fakes_out(tmp_path):
    write_pairs(tmp_path)
    assert run(tmp_path, "--real-only") == 0
    assert {row["video_id"][-4:] for row in read_rows(tmp_path)} == {"real"}
    assert len(read_rows(tmp_path)) == 40


def test_real_only_leaves_out_what_a_refused_item_names(tmp_path, capsys):
    """Only videos that nobody names count as real: a fake whose item has a flaw would else be learnt as real."""
    videos_dir = write_pairs(tmp_path)
    for name in ("named by nobody.mp4", "flawed.mp4", "detour.mp4", "twice.mp4", "other suffix.mp4", "sub/flawed.mp4"):
        write_video(videos_dir, name)
    entries = json.loads((videos_dir / "metadata.json").read_text())
    entries |= {
        "flawed.mp4": {"label": "fak"},
        "x/../detour.mp4": {"label": "FAKE"},
        "other suffix.mov": {"label": "FAKE"},
    }
    twice = '{"twice.mp4": {"label": "FAKE"}, "twice.mp4": {"label": "REAL"}, '
    (videos_dir / "metadata.json").write_text(twice + json.dumps(entries)[1:])
    (videos_dir / "sub" / "metadata.json").write_text('{"flawed.mp4": {"label": "FAKE", "altered_person": -1}}')
    assert run(tmp_path, "--real-only") == 1
    assert "5 videos without a label were left out" in capsys.readouterr().err
    used = {row["video_id"] for row in read_rows(tmp_path)}
    assert used == {f"actor_{actor:03d}_real" for actor in range(10)} | {"named by nobody"}


@pytest.mark.parametrize("text", ["not JSON", "[]"])
def test_real_only_stops_at_metadata_that_cannot_be_used(tmp_path, capsys, text):
    videos_dir = write_pairs(tmp_path)
    (videos_dir / "part").mkdir()
    broken = videos_dir / "part" / "metadata.json"
    broken.write_text(text)
    assert run(tmp_path, "--real-only") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {broken} cannot be used: ") and "--real-only" in error and "Traceback" not in error
    assert not (tmp_path / "split_dataset").exists()


def test_marked_faces_are_used_instead(tmp_path, capsys):
    videos_dir = write_pairs(tmp_path, marked=True)
    record = videos_dir / "actor_000_real" / "marked_faces" / "marked_faces.json"
    marks = json.loads(record.read_text())
    unmarked = marks["digests"].popitem()[0]
    record.write_text(json.dumps(marks))
    assert run(tmp_path) == 0
    plain = {row["file"]: row["digest"] for row in read_rows(tmp_path)}
    assert run(tmp_path, "--faces", "marked_faces") == 0
    marked = {row["file"]: row["digest"] for row in read_rows(tmp_path)}
    assert f"train/real/{unmarked}" in plain and f"train/real/{unmarked}" not in marked
    assert all(marked[file] != plain[file] for file in marked)
    file = next(file for file in marked if "actor_001" in file)
    name = file.rpartition("/")[2]
    source = videos_dir / name[: -len("-000-00.png")] / "marked_faces" / name
    assert (tmp_path / "split_dataset" / file).read_bytes() == source.read_bytes()
    assert json.loads((tmp_path / "split_dataset" / "split.json").read_text())["faces"] == "marked_faces"


def test_marked_faces_that_are_not_there(tmp_path, capsys):
    write_pairs(tmp_path)
    assert run(tmp_path, "--faces", "marked_faces") == 2
    assert "01b_mark_landmarks.py" in capsys.readouterr().err


def make_stale(folder):
    """Change faces.json after its faces were marked, as 01a does when it runs again."""
    record = folder / "faces" / "faces.json"
    record.write_text(record.read_text() + "\n")


def faceless_of(data_dir):
    """Return {video_id: row} of the videos without a usable face."""
    record = json.loads((data_dir / "split_dataset" / "split.json").read_text())
    return {row["video_id"]: row for row in record["faceless"]}


def test_missing_and_stale_marks_make_a_video_faceless(tmp_path, capsys):
    videos_dir = write_pairs(tmp_path, actors=20, marked=True)
    (videos_dir / "actor_000_real" / "marked_faces" / "marked_faces.json").unlink()
    make_stale(videos_dir / "actor_001_real")
    foreign = videos_dir / "actor_002_real" / "marked_faces" / "marked_faces.json"
    foreign.write_text("[1]")
    assert run(tmp_path, "--faces", "marked_faces") == 0
    assert "; 3 videos without a usable face, 0 failed" in capsys.readouterr().err
    faceless = faceless_of(tmp_path)
    assert set(faceless) == {"actor_000_real", "actor_001_real", "actor_002_real"}
    assert {row["reason"] for row in faceless.values()} == {"its marked faces are missing; run 01b_mark_landmarks.py"}
    assert not set(faceless) & {row["video_id"] for row in read_rows(tmp_path)}
    assert run(tmp_path) == 0 and faceless_of(tmp_path) == {}


def test_stale_marks_only(tmp_path, capsys):
    videos_dir = write_pairs(tmp_path, marked=True)
    for record in videos_dir.glob("*/marked_faces"):
        make_stale(record.parent)
    assert run(tmp_path, "--faces", "marked_faces") == 2
    assert "01b_mark_landmarks.py" in capsys.readouterr().err


def test_unmarked_faces_do_not_count_for_the_split(tmp_path):
    """Half of the actors lost their marks: the other ten are cut 8, 1, 1."""
    videos_dir = write_pairs(tmp_path, actors=20, marked=True)
    for actor in range(10):
        for kind in CLASS_NAMES:
            make_stale(videos_dir / f"actor_{actor:03d}_{kind}")
    assert run(tmp_path, "--faces", "marked_faces") == 0
    counts = Counter(row["split"] for row in read_rows(tmp_path))
    assert counts == {"train": 8 * 8, "val": 8, "test": 8}


def test_bystanders_do_not_count_for_the_split(tmp_path):
    """The fakes of the first ten actors show nine people of whom one was altered: still one usable face a frame."""
    videos_dir, entries = tmp_path / "train_sample_videos", {}
    for actor in range(20):
        real, fake = f"{actor:02d}_real.mp4", f"{actor:02d}_fake.mp4"
        entries |= {real: ("REAL", None, {}), fake: ("FAKE", real, {"altered_person": 0})}
        write_video(videos_dir, real, frames=4, people=9)
        write_video(videos_dir, fake, frames=4, people=9 if actor < 10 else 1)
    write_metadata(videos_dir, entries)
    assert run(tmp_path) == 0
    fakes = Counter(row["split"] for row in read_rows(tmp_path) if row["label"] == str(FAKE))
    assert fakes == {"train": 16 * 4, "val": 2 * 4, "test": 2 * 4}


def test_fake_whose_altered_person_was_not_found_is_faceless(tmp_path, capsys):
    videos_dir = write_pairs(tmp_path)
    entries = json.loads((videos_dir / "metadata.json").read_text())
    entries["actor_000_fake.mp4"]["altered_person"] = 7
    (videos_dir / "metadata.json").write_text(json.dumps(entries))
    assert run(tmp_path) == 0
    assert "; 1 videos without a usable face, 0 failed" in capsys.readouterr().err
    row = faceless_of(tmp_path)["actor_000_fake"]
    assert (row["split"], row["label"], row["reason"]) == ("train", FAKE, "the altered person was not found")


def test_the_record_says_whether_a_program_drew_the_clips(tmp_path):
    videos_dir = write_pairs(tmp_path)
    entries = json.loads((videos_dir / "metadata.json").read_text())
    for drawn in (False, True):
        entries["actor_000_fake.mp4"]["drawn"] = drawn
        (videos_dir / "metadata.json").write_text(json.dumps(entries))
        assert run(tmp_path) == 0
        assert json.loads((tmp_path / "split_dataset" / "split.json").read_text())["drawn"] is drawn


def test_progress_is_shown_for_reading_and_linking(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("common.messages.PLAIN_LINE_EVERY_S", 0)
    write_pairs(tmp_path)
    assert run(tmp_path) == 0
    error = capsys.readouterr().err
    assert "02: 20 of 20 videos, " in error and "02: 80 of 80 faces, " in error


def test_set_without_a_class_stops_with_counts_and_the_old_dataset_stays(tmp_path, capsys):
    videos_dir = write_pairs(tmp_path)
    assert run(tmp_path) == 0
    before = snapshot(tmp_path / "split_dataset", tmp_path / "prepared_dataset")
    entries = {f"actor_{actor:03d}_real.mp4": ("REAL", None, {}) for actor in range(10)}
    entries["actor_000_fake.mp4"] = ("FAKE", None, {})
    write_metadata(videos_dir, entries)
    capsys.readouterr()
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert "train: 4 fake" in error and "val: 0 fake" in error and "test: 0 fake" in error and "Traceback" not in error
    assert snapshot(tmp_path / "split_dataset", tmp_path / "prepared_dataset") == before


def test_faceless_videos_are_listed_with_their_split(tmp_path):
    videos_dir = write_pairs(tmp_path)
    entries = json.loads((videos_dir / "metadata.json").read_text())
    items = {file: (entry["label"], entry["original"], {}) for file, entry in entries.items()}
    items |= {"zzz.mp4": ("REAL", None, {}), "a.mp4": ("FAKE", "actor_009_real.mp4", {})}
    for name in ("zzz.mp4", "a.mp4"):
        write_video(videos_dir, name, frames=0)
    write_metadata(videos_dir, items)
    assert run(tmp_path) == 0
    faceless = json.loads((tmp_path / "split_dataset" / "split.json").read_text())["faceless"]
    assert {row["video_id"]: (row["filename"], row["label"], row["group"], row["split"]) for row in faceless} == {
        "zzz": ("zzz.mp4", REAL, "zzz", "test"),
        "a": ("a.mp4", FAKE, "a", splits_of_videos(tmp_path / "split_dataset")["actor_009_real"].pop()),
    }
    assert all(row["reason"].startswith("no face of confidence") for row in faceless)


def test_rerun_writes_nothing_and_force_gives_the_same_split(tmp_path, capsys):
    write_pairs(tmp_path)
    assert run(tmp_path) == 0
    folders = tmp_path / "split_dataset", tmp_path / "prepared_dataset"
    before, rows = snapshot(*folders), read_rows(tmp_path)
    assert run(tmp_path) == 0
    assert "unchanged" in capsys.readouterr().err
    assert snapshot(*folders) == before
    assert run(tmp_path, "--force") == 0
    assert snapshot(*folders) != before and read_rows(tmp_path) == rows


@pytest.mark.parametrize(
    "lost", ["split_dataset/train/real/actor_000_real-000-00.png", "prepared_dataset/fake", "split_dataset/split.csv"]
)
def test_rerun_restores_what_was_taken_away(tmp_path, lost):
    write_pairs(tmp_path)
    assert run(tmp_path) == 0
    (tmp_path / lost).rename(tmp_path / "taken")
    assert run(tmp_path) == 0
    assert (tmp_path / lost).exists()


def test_rerun_follows_changed_faces_and_labels(tmp_path):
    videos_dir = write_pairs(tmp_path)
    assert run(tmp_path) == 0
    folder = videos_dir / "actor_000_real" / "faces"
    record = json.loads((folder / "faces.json").read_text())
    (folder / record["faces"][0]["file"]).unlink()  # 01a replaces the folder: a new inode
    record["faces"][0]["digest"] = write_png(folder / record["faces"][0]["file"], prepare_picture())
    (folder / "faces.json").write_text(json.dumps(record))
    assert run(tmp_path) == 0
    placed = tmp_path / "split_dataset" / "train" / "real" / record["faces"][0]["file"]
    assert digest(placed) == record["faces"][0]["digest"]


def prepare_picture():
    import numpy as np

    return np.full((8, 8, 3), 200, np.uint8)


@pytest.mark.parametrize("failing", ["link_or_copy", "write_table", "replace", "rename"])
def test_old_dataset_stays_until_the_new_one_is_complete(tmp_path, monkeypatch, capsys, failing):
    """A disk that fills up half-way: exit 2 in words, the old folders as they were, nothing half-written left."""
    videos_dir = write_pairs(tmp_path)
    assert run(tmp_path) == 0
    before = snapshot(tmp_path / "split_dataset", tmp_path / "prepared_dataset")
    write_video(videos_dir, "actor_005_extra.mp4")
    entries = json.loads((videos_dir / "metadata.json").read_text())
    items = {file: (entry["label"], entry["original"], {}) for file, entry in entries.items()}
    write_metadata(videos_dir, items | {"actor_005_extra.mp4": ("REAL", "actor_005_real.mp4", {})})
    module = {"link_or_copy": prepare, "write_table": table}.get(failing, os)
    real, calls = getattr(module, failing), []

    def full(*arguments):
        calls.append(arguments)
        if failing != "link_or_copy" or len(calls) > 30:
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[-1]))
        real(*arguments)

    monkeypatch.setattr(module, failing, full)
    capsys.readouterr()
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert "No space left on device" in error and "Traceback" not in error
    assert snapshot(tmp_path / "split_dataset", tmp_path / "prepared_dataset") == before
    assert not list(tmp_path.glob(".*partial*"))
    monkeypatch.undo()
    assert run(tmp_path) == 0
    assert "actor_005_extra" in splits_of_videos(tmp_path / "split_dataset")


@pytest.mark.skipif(os.geteuid() == 0 and not Path("/proc/1").exists(), reason="needs a folder nobody can write to")
def test_output_that_cannot_be_written_is_a_line_and_exit_2(tmp_path, capsys):
    write_pairs(tmp_path)
    assert run(tmp_path, "--split-dir", "/proc/1/split") == 2
    error = capsys.readouterr().err
    assert "cannot write" in error and "Traceback" not in error
    assert not (tmp_path / "prepared_dataset").exists()


def test_crop_that_is_missing_is_named(tmp_path, capsys):
    videos_dir = write_pairs(tmp_path)
    crop = videos_dir / "actor_000_real" / "faces" / "actor_000_real-000-00.png"
    crop.unlink()
    assert run(tmp_path) == 2
    error = capsys.readouterr().err
    assert f"{crop} is missing" in error and "01a_crop_faces_mtcnn.py" in error
    assert not (tmp_path / "split_dataset").exists()


def test_hard_links_where_possible_and_copies_where_not(tmp_path, monkeypatch):
    videos_dir = write_pairs(tmp_path)
    assert run(tmp_path) == 0
    source = videos_dir / "actor_000_real" / "faces" / "actor_000_real-000-00.png"
    placed = tmp_path / "split_dataset" / "train" / "real" / source.name
    prepared = tmp_path / "prepared_dataset" / "real" / source.name
    assert source.stat().st_ino == placed.stat().st_ino == prepared.stat().st_ino

    def refuse(*_):
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    assert run(tmp_path, "--force") == 0
    assert len({path.stat().st_ino for path in (source, placed, prepared)}) == 3
    assert source.read_bytes() == placed.read_bytes() == prepared.read_bytes()


@pytest.mark.parametrize("option", ["--split-dir", "--prepared-dir"])
def test_folder_of_the_users_own_is_refused_and_untouched(tmp_path, capsys, option):
    write_pairs(tmp_path)
    own = tmp_path / "thesis"
    own.mkdir()
    (own / "chapter.txt").write_text("irreplaceable")
    before = snapshot(own)
    assert run(tmp_path, option, own, "--force") == 2
    assert f"{own} exists" in capsys.readouterr().err
    assert snapshot(own) == before and not (tmp_path / "split_dataset").exists()
    (tmp_path / "file").write_text("irreplaceable")
    assert run(tmp_path, option, tmp_path / "file") == 2
    assert (tmp_path / "file").read_text() == "irreplaceable"
    (tmp_path / "empty").mkdir()
    assert run(tmp_path, option, tmp_path / "empty") == 0


def test_leak_check_fires(tmp_path, capsys, monkeypatch):
    """A split that parts a group is found on disk, whatever the code before it believed."""
    write_pairs(tmp_path)

    def part_the_groups(sizes, cuts_percent):
        return {group: SPLITS[number % 3] for number, group in enumerate(sorted(sizes))}

    real_groups = importlib.import_module("deepfake.dataset.splits").find_groups
    divided_groups = prepare.divided_groups

    def divided_by_true_groups(split_dir, group_of):
        return divided_groups(split_dir, {video_id: video_id[:9] for video_id in group_of})

    monkeypatch.setattr(
        "deepfake.dataset.splits.find_groups", lambda entries, ids: {video_id: video_id for video_id in ids}
    )
    monkeypatch.setattr("deepfake.dataset.splits.split_groups", part_the_groups)
    monkeypatch.setattr(prepare, "divided_groups", divided_by_true_groups)
    assert run(tmp_path) == 2
    assert " groups are in two sets, the first is actor_000; nothing was written" in capsys.readouterr().err
    assert not (tmp_path / "split_dataset").exists() and not (tmp_path / "prepared_dataset").exists()
    monkeypatch.setattr("deepfake.dataset.splits.find_groups", real_groups)
    monkeypatch.setattr("deepfake.dataset.splits.split_groups", part_the_groups)
    assert run(tmp_path) == 0


def test_groups_in_two_sets_are_named_from_the_files(tmp_path):
    for split in SPLITS:
        for name in CLASS_NAMES:
            (tmp_path / split / name).mkdir(parents=True)
    for file in ("train/real/a-b-000-00.png", "train/real/a-b-001-00.png", "test/fake/c-000-00.png"):
        (tmp_path / file).write_bytes(b"")
    assert prepare.divided_groups(tmp_path, {"a-b": "one", "c": "one"}) == ["one"]
    assert prepare.divided_groups(tmp_path, {"a-b": "one", "c": "two"}) == []


def test_write_dataset_refuses_a_leak(tmp_path):
    videos_dir = write_pairs(tmp_path, actors=1, frames=1)
    videos = load_videos(videos_dir, videos_dir, tmp_path)[0]
    faces = table.face_table(videos, {videos[0].group: "train"})
    faces["split"] = [{FAKE: "val", REAL: "train"}[label] for label in faces["label"]]
    where = (tmp_path / "split", tmp_path / "prepared")
    with pytest.raises(InputError, match="1 groups are in two sets"):
        prepare.write_dataset(faces, videos, {"faces": "faces"}, *where)
    assert not where[0].exists() and not where[1].exists()
    for video in videos:
        video.group = video.video_id
    prepare.write_dataset(faces, videos, {"faces": "faces"}, *where)
    assert (where[0] / "val" / "fake" / "actor_000_fake-000-00.png").is_file()


# --- input that is wrong


def test_bad_items_of_metadata_cost_themselves_only(tmp_path, capsys):
    videos_dir = write_pairs(tmp_path)
    (videos_dir / "other").mkdir()
    (videos_dir / "other" / "metadata.json").write_text("not JSON")
    entries = json.loads((videos_dir / "metadata.json").read_text())
    entries |= {"gone.mp4": {"label": "REAL"}, "../../x.mp4": {"label": "FAKE"}, "bad.mp4": {"label": "?"}}
    (videos_dir / "metadata.json").write_text(json.dumps(entries))
    write_video(videos_dir, "bad.mp4")
    assert run(tmp_path) == 1
    error = capsys.readouterr().err
    metadata = videos_dir / "metadata.json"
    for start in (f'{metadata}: "gone.mp4"', f'{metadata}: "../../x.mp4"', f'{metadata}: "bad.mp4"'):
        assert f"02: failed: {start}" in error
    assert f"02: failed: {videos_dir / 'other' / 'metadata.json'}: cannot be used" in error
    assert "4 failed" in error and "1 videos without a label were left out" in error
    assert len(read_rows(tmp_path)) == 80


def test_no_metadata_at_all(tmp_path, capsys):
    videos_dir = write_pairs(tmp_path)
    (videos_dir / "metadata.json").unlink()
    assert run(tmp_path) == 2
    assert capsys.readouterr().err == (
        f"error: no video with a face has a label: {videos_dir}/metadata.json is missing or names none of them\n"
    )


def test_step_before_has_not_run(tmp_path, capsys):
    assert run(tmp_path) == 2
    assert str(tmp_path / "train_sample_videos") in capsys.readouterr().err
    (tmp_path / "train_sample_videos").mkdir()
    (tmp_path / "train_sample_videos" / "x.mp4").write_bytes(b"x")
    assert run(tmp_path) == 2
    assert "Run 01a_crop_faces_mtcnn.py" in capsys.readouterr().err
    assert run(tmp_path, "--frames-dir", tmp_path / "frames") == 2
    assert "Run 00_convert_video_to_image.py" in capsys.readouterr().err


def test_real_only_with_nothing_but_fakes(tmp_path, capsys):
    videos_dir = tmp_path / "train_sample_videos"
    write_video(videos_dir, "x.mp4")
    write_metadata(videos_dir, {"x.mp4": ("FAKE", None, {})})
    assert run(tmp_path, "--real-only") == 2
    assert "--real-only needs real ones" in capsys.readouterr().err


def test_limit_takes_the_first_videos(tmp_path):
    write_pairs(tmp_path, actors=12)
    assert run(tmp_path, "--limit", 20) == 0
    assert max(row["video_id"] for row in read_rows(tmp_path)) == "actor_009_real"


def test_as_a_subprocess_from_another_folder(tmp_path):
    write_pairs(tmp_path / "data root")
    script = Path(prepare.__file__).resolve()
    command = [sys.executable, str(script), "--data-dir", "data root"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
    assert "warning: val has 1 and test has 1 groups" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "02: 20 videos, 10 groups; faces: train 32 real + 32 fake, val 4 real + 4 fake, test 4 real + 4 fake; "
        "0 videos without a usable face, 0 failed"
    )
    assert sorted(path.name for path in (tmp_path / "data root").iterdir()) == [
        "prepared_dataset",
        "split_dataset",
        "train_sample_videos",
    ]
