"""metadata.json for published layouts, end to end through 02."""

import csv
import importlib
import json
from collections import defaultdict

import pytest

from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.dataset.metadata import read_metadata
from deepfake.dataset.splits import CUTS_BEFORE_TEST, read_test_list, split_groups
from deepfake.dataset.videos import load_videos
from deepfake.preprocessing.inputs import video_id_of
from tests.trees import write_metadata, write_video

tool = importlib.import_module("tools.make_metadata")
prepare = importlib.import_module("02_prepare_dataset")


def status_of(main, *options):
    try:
        return main(list(map(str, options)))
    except SystemExit as error:
        return error.code


def make(folder, layout, *options):
    """Run the tool; return the metadata.json that it wrote."""
    assert status_of(tool.main, folder, "--layout", layout, *options) == 0
    return json.loads((folder / "metadata.json").read_text())


def write_videos(folder, names, frames=4):
    for name in names:
        write_video(folder, name, frames=frames)


def split(folder, data_dir, *options):
    """Run 02; return (exit status, {filename: split})."""
    status = status_of(prepare.main, "--data-dir", data_dir, "--videos-dir", folder, *options)
    path = data_dir / "split_dataset" / "split.csv"
    rows = list(csv.DictReader(path.open(encoding="utf-8"))) if path.exists() else []
    return status, {row["filename"]: row["split"] for row in rows}


def faceforensics_names(pairs=12, methods=("Deepfakes", "NeuralTextures"), compression="c23"):
    """Return file names as FaceForensics++ has them: videos 2i and 2i+1 are swapped both ways."""
    names = []
    for pair in range(pairs):
        a, b = f"{2 * pair:03d}", f"{2 * pair + 1:03d}"
        names += [f"original_sequences/youtube/{compression}/videos/{name}.mp4" for name in (a, b)]
        for method in methods:
            names += [f"manipulated_sequences/{method}/{compression}/videos/{x}_{y}.mp4" for x, y in ((a, b), (b, a))]
    return names


ACTORS = [
    "original_sequences/actors/c40/videos/01__exit_phone_room.mp4",
    "original_sequences/actors/c40/videos/02__walking__down.mp4",
    "manipulated_sequences/DeepFakeDetection/c40/videos/01_02__exit_phone_room__YVGY8LOK.mp4",
    "manipulated_sequences/DeepFakeDetection/c40/videos/03_02__talking__ABCD1234.mp4",
]
CELEB = [
    *(f"Celeb-real/id{person}_{clip:04d}.mp4" for person in range(6) for clip in range(3)),
    *(f"Celeb-synthesis/id{person}_id{(person + 1) % 6}_{clip:04d}.mp4" for person in range(6) for clip in range(3)),
    *(f"Celeb-synthesis/id{person}_id{(person + 2) % 6}_{clip:04d}.mp4" for person in range(6) for clip in range(3)),
    *(f"YouTube-real/{number:05d}.mp4" for number in range(6)),
]


# --- the layouts


def test_faceforensics(tmp_path, capsys):
    masks = "manipulated_sequences/Deepfakes/masks/videos/000_001.mp4"
    write_videos(tmp_path, [*faceforensics_names(pairs=2), *ACTORS, masks, "notes/extra.mp4"], frames=0)
    items = make(tmp_path, "faceforensics")
    assert (
        "6 real, 10 fake, 3 groups; 2 other files without a label, such as manipulated_seq" in capsys.readouterr().err
    )
    assert masks not in items and "notes/extra.mp4" not in items and len(items) == 16
    youtube = "original_sequences/youtube/c23/videos/"
    assert items[f"{youtube}000.mp4"] == {"label": "REAL", "original": None, "group": "youtube 000"}
    fake = items["manipulated_sequences/NeuralTextures/c23/videos/003_002.mp4"]
    assert fake == {"label": "FAKE", "original": f"{youtube}003.mp4", "group": "youtube 002"}
    assert {items[name]["group"] for name in ACTORS} == {"actors 01"}, "01, 02 and 03 are linked by their fakes"
    assert items[ACTORS[2]]["original"] == ACTORS[0] and items[ACTORS[2]]["label"] == "FAKE"
    assert items[ACTORS[3]]["original"] == "original_sequences/actors/c40/videos/03__talking.mp4"
    entries, problems, refused = read_metadata(tmp_path)
    assert len(entries) == 16 and not problems and not refused


def test_faceforensics_through_02(tmp_path):
    videos_dir = tmp_path / "ff"
    write_videos(videos_dir, [*faceforensics_names(), *faceforensics_names(2, ("Face2Face",), "c40")])
    make(videos_dir, "faceforensics")
    status, splits = split(videos_dir, tmp_path)
    assert status == 0 and set(splits.values()) == {"train", "val", "test"}
    of_number = defaultdict(set)
    for filename, part in splits.items():
        for number in filename.rpartition("/")[2].removesuffix(".mp4").split("_"):
            of_number[number].add(part)
    assert len(of_number) == 24 and all(len(parts) == 1 for parts in of_number.values()), "no number is in two sets"
    videos, _ = load_videos(videos_dir, videos_dir, tmp_path)
    assert {v.label for v in videos if "manipulated" in v.filename} == {FAKE}
    assert {v.label for v in videos if "original" in v.filename} == {REAL}
    assert len({video.group for video in videos}) == 12, "000_003 and 003_000 pair up; groups stay small"


def test_celeb_df(tmp_path):
    write_videos(tmp_path, CELEB, frames=0)
    items = make(tmp_path, "celeb-df")
    assert len(items) == len(CELEB)
    assert items["Celeb-real/id3_0001.mp4"] == {"label": "REAL", "original": None, "group": "id0"}
    assert items["Celeb-synthesis/id3_id5_0001.mp4"] == {
        "label": "FAKE",
        "original": "Celeb-real/id3_0001.mp4",
        "group": "id0",
    }
    assert items["YouTube-real/00004.mp4"] == {"label": "REAL", "original": None}
    assert len({item.get("group") for item in items.values()}) == 2, "identities chain to one group"


def test_folders(tmp_path, capsys):
    write_videos(
        tmp_path, ["real/a.mp4", "real/sub/b.mov", "Fake/a.avi", "Fake/c.mp4", "other/d.mp4", "e.mp4"], frames=0
    )
    items = make(tmp_path, "folders")
    assert {name: item["label"] for name, item in items.items()} == {
        "real/a.mp4": "REAL",
        "real/sub/b.mov": "REAL",
        "Fake/a.avi": "FAKE",
        "Fake/c.mp4": "FAKE",
    }
    videos, problems = load_videos(tmp_path, tmp_path, tmp_path)
    groups = {video.filename: video.group for video in videos}
    assert not problems and groups["real/a.mp4"] == groups["Fake/a.avi"] and len(set(groups.values())) == 5
    assert "2 real, 2 fake, 3 groups; 2 other files without a label, such as e.mp4" in capsys.readouterr().err


def test_a_folder_of_another_layout_is_a_line_and_exit_2(tmp_path, capsys):
    write_videos(tmp_path, ["real/a.mp4"], frames=0)
    assert status_of(tool.main, tmp_path, "--layout", "celeb-df") == 2
    assert "expected are Celeb-real/, Celeb-synthesis/ and YouTube-real/" in capsys.readouterr().err
    assert status_of(tool.main, tmp_path / "nowhere", "--layout", "folders") == 2
    assert "is not a folder" in capsys.readouterr().err and not (tmp_path / "metadata.json").exists()


def test_a_users_metadata_is_never_lost(tmp_path, capsys):
    write_videos(tmp_path, ["real/a.mp4", "fake/b.mp4"], frames=0)
    mine = '{"real/a.mp4": {"label": "FAKE"}}'
    (tmp_path / "metadata.json").write_text(mine)
    assert status_of(tool.main, tmp_path, "--layout", "folders") == 2
    assert "--force replaces it" in capsys.readouterr().err and (tmp_path / "metadata.json").read_text() == mine
    assert len(make(tmp_path, "folders", "--force")) == 2
    write_videos(tmp_path, ["fake/c.mp4"], frames=0)
    items = make(tmp_path, "folders")
    assert len(items) == 3, "our own is written again"
    items["fake/c.mp4"]["altered_person"] = 1
    (tmp_path / "metadata.json").write_text(json.dumps(items))
    assert status_of(tool.main, tmp_path, "--layout", "folders") == 2, "changed since, it is the user's"


# --- a published list of test videos


def test_read_test_list(tmp_path):
    (tmp_path / "celeb").mkdir()
    path = tmp_path / "celeb" / "List.txt"
    path.write_text("1 YouTube-real/00170.mp4\n0 Celeb-synthesis/id1_id0_0002.mp4\r\n\nCeleb-real/a b.MP4\n")
    expected = {"YouTube-real__00170": 1, "Celeb-synthesis__id1_id0_0002": 0, "Celeb-real__a b": None}
    assert read_test_list(path, tmp_path / "celeb") == expected
    assert read_test_list(path, tmp_path) == {f"celeb__{name}": label for name, label in expected.items()}
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert read_test_list(path, elsewhere) == expected, "a list kept elsewhere is of paths below the videos"
    path.write_text("\n")
    with pytest.raises(InputError, match="names no video"):
        read_test_list(path, tmp_path)
    with pytest.raises(InputError, match="cannot be read"):
        read_test_list(tmp_path / "none.txt", tmp_path)


def test_celeb_df_by_its_list(tmp_path, capsys):
    videos_dir = tmp_path / "celeb"
    write_videos(videos_dir, CELEB)
    make(videos_dir, "celeb-df")
    status, _ = split(videos_dir, tmp_path)
    assert status == 2 and "a set lacks a class" in capsys.readouterr().err, "one group of all people cannot be divided"
    listed = [
        "Celeb-real/id0_0000.mp4",
        "Celeb-synthesis/id0_id1_0000.mp4",
        "Celeb-synthesis/id4_id5_0002.mp4",
        "YouTube-real/00003.mp4",
        "Celeb-real/id2_0001.mp4",
        "Celeb-synthesis/id2_id4_0001.mp4",
    ]
    path = videos_dir / "List_of_testing_videos.txt"
    path.write_text("".join(f"{int('synthesis' not in name)} {name}\n" for name in listed))
    status, splits = split(videos_dir, tmp_path, "--test-list", path)
    err = capsys.readouterr().err
    assert status == 0 and {name for name, part in splits.items() if part == "test"} == set(listed)
    assert set(splits.values()) == {"train", "val", "test"}
    clips = defaultdict(set)
    for name, part in splits.items():
        if name.startswith("Celeb"):
            person, *_, clip = name.rpartition("/")[2].removesuffix(".mp4").split("_")
            clips[person, clip].add(part)
    assert all(len(parts) == 1 for parts in clips.values()), "a fake, its original and its siblings are in one set"
    left_out = {
        "Celeb-synthesis/id0_id2_0000.mp4",
        "Celeb-real/id4_0002.mp4",
        "Celeb-synthesis/id4_id0_0002.mp4",
        "Celeb-synthesis/id2_id3_0001.mp4",
    }
    assert not left_out & set(splits) and "4 videos share an original with a listed one and are left out" in err
    assert "the test list divides 1 groups" in err and "are in training too" in err
    record = json.loads((tmp_path / "split_dataset" / "split.json").read_text())
    assert len(record["notes"]) == 2
    before = (tmp_path / "split_dataset" / "split.csv").stat().st_mtime_ns
    assert split(videos_dir, tmp_path, "--test-list", path) == (0, splits)
    assert (tmp_path / "split_dataset" / "split.csv").stat().st_mtime_ns == before, "a rerun writes nothing"


def test_a_list_that_divides_no_group_needs_no_warning(tmp_path, capsys):
    names = {
        f"{kind}{n:02d}.mp4": (label, original and f"r{n:02d}.mp4", {})
        for n in range(20)
        for kind, label, original in (("r", "REAL", None), ("f", "FAKE", True))
    }
    write_videos(tmp_path / "train_sample_videos", names)
    write_metadata(tmp_path / "train_sample_videos", names)
    path = tmp_path / "list.txt"
    path.write_text("".join(f"{kind}{number:02d}.mp4\n" for number in (0, 7) for kind in "rf") + "gone.mp4\n")
    status, splits = split(tmp_path / "train_sample_videos", tmp_path, "--test-list", path)
    err = capsys.readouterr().err
    assert status == 1 and "gone is no video here" in err and "the test list" not in err and "left out" not in err
    assert {name for name, part in splits.items() if part == "test"} == {
        f"{kind}{n:02d}.mp4" for n in (0, 7) for kind in "rf"
    }
    counts = [list(splits.values()).count(part) for part in ("train", "val", "test")]
    assert counts == [32, 4, 4], "what is left is cut 80 to 10"


def test_a_list_with_the_labels_the_other_way_round_is_refused(tmp_path, capsys):
    names = {"r.mp4": ("REAL", None, {}), "f.mp4": ("FAKE", None, {})}
    write_videos(tmp_path / "train_sample_videos", names)
    write_metadata(tmp_path / "train_sample_videos", names)
    (tmp_path / "list.txt").write_text("0 r.mp4\n1 f.mp4\n")
    assert split(tmp_path / "train_sample_videos", tmp_path, "--test-list", tmp_path / "list.txt") == (2, {})
    assert "the test list says 1 (REAL) of f, metadata.json says FAKE" in capsys.readouterr().err


def test_one_cut_gives_training_and_validation():
    splits = split_groups({f"g{number:02d}": 10 for number in range(18)}, CUTS_BEFORE_TEST)
    assert [list(splits.values()).count(part) for part in ("train", "val", "test")] == [16, 2, 0]
    assert splits["g17"] == "val" and video_id_of("a/b.mp4") == "a__b"
