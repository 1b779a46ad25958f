"""What is read from metadata.json, and which videos belong together."""

import json
import unicodedata
from pathlib import Path

import pytest

from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.dataset.metadata import Entry, leaves_directory, mark_repeated, parse_entry, read_metadata
from deepfake.dataset.splits import find_groups
from deepfake.dataset.videos import load_videos
from deepfake.parallel.failures import note_failure
from tests.trees import write_metadata, write_video


def write_raw(folder, text):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metadata.json").write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "leaves"),
    [
        ("x.mp4", False),
        ("part/x.mp4", False),
        ("a..b.mp4", False),
        ("..x.mp4", False),
        ("../x.mp4", True),
        ("part/../../x.mp4", True),
        ("/etc/x.mp4", True),
        ("C:\\x.mp4", True),
        ("C:x.mp4", True),
        ("\\\\host\\share\\x.mp4", True),
        ("\\x.mp4", True),
        ("..\\x.mp4", True),
    ],
)
def test_leaves_directory(name, leaves):
    assert leaves_directory(name) is leaves


def test_parse_entry_reads_every_key():
    fields = {"label": "fake", "original": "y.mp4", "group": 7, "altered_person": 1, "drawn": True, "split": "test"}
    entry = parse_entry(Path("m.json"), "part", "./x.mp4", fields)
    assert entry == Entry("part/x.mp4", FAKE, "part/y.mp4", "7", 1, Path("m.json"), True)
    assert parse_entry(None, "", "x.mp4", {"label": "REAL", "original": None}) == Entry("x.mp4", REAL)


def test_mark_repeated_keeps_the_other_items():
    items = json.loads('{"a": 1, "b": {"c": 1, "c": 2}, "a": 3}', object_pairs_hook=mark_repeated)
    assert items["b"] != {"c": 2} and set(items) == {"a", "b"} and items["a"] not in (1, 3)


BAD_ITEMS = {
    "lacks a label": ('"bad.mp4": {"original": null}', 'has no "label"'),
    "is no object": ('"bad.mp4": "FAKE"', 'has no "label"'),
    "unknown label": ('"bad.mp4": {"label": "MAYBE"}', "'MAYBE'"),
    "null label": ('"bad.mp4": {"label": null}', "must be REAL or FAKE"),
    "climbs out": ('"../../bad.mp4": {"label": "REAL"}', "leaves the videos directory"),
    "absolute": ('"/tmp/bad.mp4": {"label": "REAL"}', "absolute"),
    "absolute on Windows": ('"C:\\\\bad.mp4": {"label": "REAL"}', "absolute"),
    "original leaves": ('"bad.mp4": {"label": "FAKE", "original": "../good.mp4"}', "'../good.mp4'"),
    "original is a number": ('"bad.mp4": {"label": "FAKE", "original": 3}', "original 3"),
    "key twice": ('"bad.mp4": {"label": "FAKE"}, "bad.mp4": {"label": "REAL"}', "twice"),
    "label twice": ('"bad.mp4": {"label": "FAKE", "label": "REAL"}', '"label" twice'),
    "altered_person negative": ('"bad.mp4": {"label": "FAKE", "altered_person": -1}', "altered_person -1"),
    "altered_person text": ('"bad.mp4": {"label": "FAKE", "altered_person": "left"}', "altered_person 'left'"),
    "altered_person true": ('"bad.mp4": {"label": "FAKE", "altered_person": true}', "altered_person True"),
    "drawn text": ('"bad.mp4": {"label": "FAKE", "drawn": "yes"}', "drawn: 'yes'"),
}


@pytest.mark.parametrize("case", BAD_ITEMS)
def test_bad_item_is_named_and_the_others_are_used(tmp_path, case):
    item, reason = BAD_ITEMS[case]
    write_raw(tmp_path, f'{{"good.mp4": {{"label": "REAL"}}, {item}}}')
    entries, ((path, problem),), refused = read_metadata(tmp_path)
    assert list(entries) == ["good"] and len(refused) == 1 and "good" not in refused
    assert path == tmp_path / "metadata.json" and "bad.mp4" in problem and reason in problem


@pytest.mark.parametrize("text", ["not JSON", "", '["x.mp4"]', "null", '{"x.mp4": ', "[" * 100_000])
def test_file_that_cannot_be_used_is_named_and_the_others_are_used(tmp_path, text):
    write_raw(tmp_path / "a", text)
    write_metadata(tmp_path / "b", {"x.mp4": ("REAL", None, {})})
    entries, ((path, reason),), _ = read_metadata(tmp_path)
    assert list(entries) == ["b__x"]
    assert path == tmp_path / "a" / "metadata.json" and reason.startswith("cannot be used: ")
    with pytest.raises(InputError, match="a/metadata.json cannot be used: "):
        read_metadata(tmp_path, strict=True)


def test_refused_items_are_known_by_the_id_of_the_video_they_mean(tmp_path):
    names = ("a.MP4", "./b.mp4", "x/../c.mp4", "../part/d.mp4", f"{tmp_path}/part/e.mp4", "Zoë.mp4")
    items = {unicodedata.normalize("NFD", name): {"label": "MAYBE"} for name in names}
    write_raw(tmp_path / "part", json.dumps(items | {"good.mp4": {"label": "REAL"}}))
    assert read_metadata(tmp_path)[2] == {f"part__{stem}" for stem in ("a", "b", "c", "d", "e", "Zoë")}


def test_metadata_that_is_not_utf_8_is_named(tmp_path):
    (tmp_path / "metadata.json").write_bytes(b'{"\xff.mp4": {"label": "REAL"}}')
    entries, problems, _ = read_metadata(tmp_path)
    assert not entries and problems[0][0] == tmp_path / "metadata.json"


def test_byte_order_mark_is_no_problem(tmp_path):
    (tmp_path / "metadata.json").write_bytes(b'\xef\xbb\xbf{"x.mp4": {"label": "REAL"}}')
    assert read_metadata(tmp_path) == ({"x": Entry("x.mp4", REAL, metadata=tmp_path / "metadata.json")}, [], set())


def test_names_that_share_an_id_do_not_overwrite_each_other(tmp_path):
    write_metadata(tmp_path, {"x.mov": ("FAKE", None, {}), "x.mp4": ("REAL", None, {})})
    entries, ((path, reason),), _ = read_metadata(tmp_path)
    assert entries["x"].filename == "x.mov" and path == tmp_path / "metadata.json"
    assert '"x.mp4"' in reason and '"x.mov"' in reason


def test_label_of_another_file_is_not_used(tmp_path):
    """x.mov and x.mp4 have one id; the label belongs to the file that metadata.json names."""
    write_video(tmp_path, "x.mov")
    write_metadata(tmp_path, {"x.mp4": ("REAL", None, {})})
    (video,), problems = load_videos(tmp_path, tmp_path, tmp_path)
    assert video.entry is None and video.label is None and video.named
    assert problems == [(tmp_path / "metadata.json", f'"x.mp4" is no video in {tmp_path}')]


@pytest.mark.parametrize("text", ["[1]", "1", '"x"', "{}", '{"made_from": 3}', "[" * 100_000])
def test_foreign_records_are_no_frames_and_no_traceback(tmp_path, text):
    write_video(tmp_path, "x.mp4")
    (tmp_path / "x" / "frames.json").write_text(text)
    (video,), _ = load_videos(tmp_path, tmp_path, tmp_path)
    assert video.faces == [] and "run 00_convert" in video.reason


@pytest.mark.parametrize("text", ["[1]", "{}", '{"faces": 3, "reason": null}', '{"faces": [{}], "reason": null}'])
def test_foreign_faces_record_is_no_faces_and_no_traceback(tmp_path, text):
    (write_video(tmp_path, "x.mp4") / "faces" / "faces.json").write_text(text)
    (video,), _ = load_videos(tmp_path, tmp_path, tmp_path)
    assert video.faces == [] and "run 01a_crop" in video.reason
    assert ("is damaged" in video.reason) == ("faces" in text)


def test_names_match_in_any_unicode_form_and_suffix_case(tmp_path):
    name = "Zoë.MP4"
    write_video(tmp_path, unicodedata.normalize("NFD", name))
    write_metadata(tmp_path, {unicodedata.normalize("NFC", "Zoë.mp4"): ("FAKE", None, {})})
    (video,), problems = load_videos(tmp_path, tmp_path, tmp_path)
    assert (video.label, problems) == (FAKE, [])


def test_groups_connect_originals_present_or_not_and_the_key_group():
    entries = {
        "a": Entry("a.mp4", REAL),
        "b": Entry("b.mp4", FAKE, original="a.mp4"),
        "c": Entry("c.mp4", FAKE, original="gone.MP4"),
        "d": Entry("d.mp4", FAKE, original="gone.mp4"),
        "e": Entry("e.mp4", REAL, group="Zoë"),
        "f": Entry("f.mp4", FAKE, original="b.mp4", group=unicodedata.normalize("NFD", "Zoë")),
        "g": Entry("g.mp4", REAL, group="Dr.A"),  # no suffix: capitals count
        "h": Entry("h.mp4", REAL, group="Dr.a"),
        "a2": Entry("a2.mp4", REAL, group="a"),  # the name of a video is no name of a group
    }
    groups = find_groups(entries, [*entries, "unlabelled"])
    assert {groups[name] for name in "abef"} == {"a"}
    assert {groups[name] for name in "cd"} == {"c"}
    assert groups["g"] != groups["h"]
    assert groups["a2"] == "a2" and groups["unlabelled"] == "unlabelled"


def test_absent_video_still_connects_two_others():
    entries = {
        "b": Entry("b.mp4", FAKE, original="a.mp4"),
        "gone": Entry("gone.mp4", FAKE, original="a.mp4", group="x"),
        "c": Entry("c.mp4", REAL, group="x"),
    }
    groups = find_groups(entries, ["b", "c"])
    assert groups["b"] == groups["c"]


def test_original_is_looked_for_in_the_same_metadata_folder(tmp_path):
    for part in ("part_1", "part_2"):
        write_video(tmp_path, f"{part}/a.mp4")
        write_video(tmp_path, f"{part}/b.mp4")
        write_metadata(tmp_path / part, {"a.mp4": ("REAL", None, {}), "b.mp4": ("FAKE", "a.mp4", {})})
    videos, problems = load_videos(tmp_path, tmp_path, tmp_path)
    assert {video.video_id: video.group for video in videos} == {
        "part_1__a": "part_1__a",
        "part_1__b": "part_1__a",
        "part_2__a": "part_2__a",
        "part_2__b": "part_2__a",
    }
    assert not problems


def test_videos_without_faces_say_why(tmp_path, monkeypatch):
    videos_dir, frames_dir = tmp_path / "clips", tmp_path / "frames"
    write_video(videos_dir, "faceless.mp4", frames=0, frames_dir=frames_dir)
    folder = write_video(videos_dir, "unsearched.mp4", frames_dir=frames_dir)
    (folder / "faces" / "faces.json").unlink()
    folder = write_video(videos_dir, "unsearchable.mp4", frames_dir=frames_dir)
    (folder / "faces" / "faces.json").unlink()
    note_failure(tmp_path, "01a", folder, "all its frames are gone")
    for name in ("broken.mp4", "new.mp4"):
        (videos_dir / name).write_bytes(b"x")
    note_failure(tmp_path, "00", videos_dir / "broken.mp4", "is not a readable video")
    monkeypatch.chdir(videos_dir)
    for path in (videos_dir, Path("../clips")):
        reasons = {video.video_id: video.reason for video in load_videos(path, frames_dir, tmp_path)[0]}
        assert reasons.pop("faceless").startswith("no face of confidence")
        assert reasons.pop("unsearched").endswith("run 01a_crop_faces_mtcnn.py")
        assert reasons == {
            "unsearchable": "all its frames are gone",
            "broken": "is not a readable video",
            "new": "was not processed; run 00_convert_video_to_image.py",
        }


def test_frames_without_their_videos_are_enough(tmp_path):
    write_video(tmp_path / "clips", "b/x.mp4", frames=2, people=2, frames_dir=tmp_path / "frames")
    (video,), problems = load_videos(tmp_path / "not there", tmp_path / "frames", tmp_path)
    assert (video.video_id, video.filename, video.label, len(video.faces), problems) == ("b__x", "b/x.mp4", None, 4, [])


def test_single_file_is_labelled_and_the_others_of_its_metadata_are_no_problem(tmp_path):
    write_video(tmp_path, "x.mp4")
    write_metadata(tmp_path, {"x.mp4": ("FAKE", "gone.mp4", {}), "gone.mp4": ("REAL", None, {})})
    (video,), problems = load_videos(tmp_path / "x.mp4", tmp_path, tmp_path)
    assert (video.label, problems) == (FAKE, [])
