"""Where data lives, what is an input, what it is called, and how it is shared out. Also the options all scripts share."""

import argparse
import os
import unicodedata
from argparse import Namespace
from pathlib import Path

import pytest

from common import cli, files, messages, paths
from deepfake.parallel import loop, pool
from deepfake.preprocessing import inputs


def arguments(**given):
    return Namespace(**{"data_dir": None, "videos_dir": None, "frames_dir": None, "output_dir": None} | given)


def test_data_root_option_then_variable_then_repository(monkeypatch):
    monkeypatch.setenv("DEEPFAKE_DATA_DIR", "/from/variable")
    assert cli.data_root(arguments(data_dir="/from/option")) == Path("/from/option")
    assert cli.data_root(arguments()) == Path("/from/variable")
    monkeypatch.delenv("DEEPFAKE_DATA_DIR")
    assert cli.data_root(arguments()) == Path(__file__).resolve().parents[2]
    monkeypatch.setenv("DEEPFAKE_DATA_DIR", "")
    assert cli.data_root(arguments()) == paths.REPOSITORY_DIR


def test_locate_and_frames_dir(tmp_path):
    given = arguments(data_dir=str(tmp_path))
    assert cli.locate(given, "videos_dir") == tmp_path / "train_sample_videos"
    assert cli.locate(given, "output_dir") == tmp_path
    assert cli.locate(arguments(data_dir=str(tmp_path), videos_dir="/v"), "videos_dir") == Path("/v")
    assert cli.frames_dir_of(given) == tmp_path / "train_sample_videos"
    assert cli.frames_dir_of(arguments(frames_dir="/f")) == Path("/f")
    (tmp_path / "x.mp4").touch()
    assert cli.frames_dir_of(arguments(videos_dir=str(tmp_path / "x.mp4"))) == tmp_path


@pytest.mark.parametrize(
    ("filename", "video_id"),
    [
        ("x.mp4", "x"),
        ("part_0/sub/x.MOV", "part_0__sub__x"),
        ("IMG_1.JPG", "IMG_1-jpg"),
        ("IMG_1.MOV", "IMG_1"),
        ("a.b.mp4", "a.b"),
        ("dir.d/x.webp", "dir.d__x-webp"),
        (unicodedata.normalize("NFD", "é.mp4"), "é"),
    ],
)
def test_video_id(filename, video_id):
    assert inputs.video_id_of(filename) == video_id


def test_normal_name():
    assert inputs.normal_name(unicodedata.normalize("NFD", "Été.MP4")) == unicodedata.normalize("NFC", "Été.mp4")
    assert inputs.normal_name("no suffix") == "no suffix"


def test_digest(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert files.digest(tmp_path / "x") == files.digest(b"abc") != files.digest(b"abd")
    assert len(files.digest(b"")) == 32


def test_list_sources(tmp_path):
    for name in (
        "b.mp4",
        "a.jpg",
        "part/c.WEBM",
        ".hidden.mp4",
        ".partial/x.mp4",
        "notes.txt",
        "metadata.json",
        "d.heic",
        "f.mxf",
        "part/take1",
        "out/x.png",
        "out/frames.json",
        "e.mp4",
        "e.mov",
        "prepared_dataset/real/x.png",
        "detect/y/x.mp4",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / name).touch()
    sources, problems, others = inputs.list_sources(tmp_path, tmp_path)
    assert [(source.video_id, source.filename, source.is_photo) for source in sources] == [
        ("a-jpg", "a.jpg", True),
        ("b", "b.mp4", False),
        ("part__c", "part/c.WEBM", False),
    ]
    reasons = {path.name: str(error) for path, error in problems}
    assert {path.name: error.code for path, error in problems} == {
        "d.heic": "unsupported",
        "f.mxf": "unsupported",
        "e.mp4": "same_id",
        "e.mov": "same_id",
    }
    assert set(reasons) == {"d.heic", "e.mp4", "e.mov", "f.mxf"} and "not supported" in reasons["d.heic"]
    assert '"e.mov" and "e.mp4" would share the id e' in reasons["e.mp4"] == reasons["e.mov"]
    assert others == [tmp_path / "part" / "take1"]
    ids = [source.video_id for source in inputs.list_sources(tmp_path)[0]]
    assert "prepared_dataset__real__x-png" in ids, "outputs are only known with the data root"


def test_list_sources_of_one_file(tmp_path):
    for name in ("x.mp4", "x.txt", "x.gif"):
        (tmp_path / name).touch()
    assert inputs.list_sources(tmp_path / "x.mp4")[0] == [inputs.Source(tmp_path / "x.mp4", "x.mp4", "x")]
    ((path, error),) = inputs.list_sources(tmp_path / "x.txt")[1]
    assert path == tmp_path / "x.txt" and str(error) == "is not a video or a photo by its name"
    assert "not supported" in str(inputs.list_sources(tmp_path / "x.gif")[1][0][1])


def test_walk_inputs_ends_on_loops_and_is_sorted(tmp_path):
    for name in ("b/2", "b/1", "a/3"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "b" / "up").symlink_to(tmp_path)
    found = [path.relative_to(tmp_path).as_posix() for path in inputs.walk_inputs(tmp_path, set(), set())]
    assert found == ["a/3", "b/1", "b/2"]


def test_list_frame_dirs(tmp_path):
    for name in ("b/frames.json", "a/frames.json", ".c/frames.json", "mine/x.txt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    for name, text in (("foreign", "[1]"), ("ours", '{"made_from": {}}')):
        (tmp_path / name).mkdir()
        (tmp_path / name / "frames.json").write_text(text)
    assert inputs.list_frame_dirs(tmp_path) == [tmp_path / "a", tmp_path / "b", tmp_path / "ours"]


@pytest.mark.parametrize("count", [1, 2, 3, 16, 40])
def test_shares_are_disjoint_complete_and_even(count):
    items = [f"v{index:03d}" for index in range(60)]
    sizes = [(index * 37) % 101 for index in range(60)]
    shares = [loop.share_of(items, sizes, (number, count)) for number in range(1, count + 1)]
    assert sorted(item for share in shares for item in share) == items
    assert all(share == sorted(share) for share in shares)
    loads = [sum(sizes[items.index(item)] for item in share) for share in shares]
    assert max(loads) - min(loads) <= max(sizes)


def test_more_shards_than_items_leaves_some_empty():
    assert [loop.share_of(["a"], [5], (number, 3)) for number in (1, 2, 3)] == [["a"], [], []]
    assert sorted(sum((loop.share_of(list("abcd"), [0] * 4, (n, 4)) for n in (1, 2, 3, 4)), [])) == list("abcd")


# options


@pytest.mark.parametrize(("text", "value"), [("1/1", (1, 1)), ("3/16", (3, 16)), ("16/16", (16, 16))])
def test_shard(text, value):
    assert cli.shard(text) == value


@pytest.mark.parametrize("text", ["0/3", "4/3", "-1/3", "x", "1", "1/2/3", "1/", "1.0/2"])
def test_shard_refuses(text):
    with pytest.raises(argparse.ArgumentTypeError, match="I/N"):
        cli.shard(text)


def test_positive_numbers():
    assert cli.positive("3") == 3 and cli.above_0("0.5") == 0.5
    for text in ("0", "-2"):
        with pytest.raises(argparse.ArgumentTypeError):
            cli.positive(text)
    for text in ("0", "-1", "nan", "inf"):
        with pytest.raises(argparse.ArgumentTypeError):
            cli.above_0(text)


def test_usable_cpus_obeys_affinity():
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert pool.usable_cpus() == [min(before)]
    finally:
        os.sched_setaffinity(0, before)
    assert pool.usable_cpus() == sorted(before)


def test_stop_and_require(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.stop("no")
    assert stopped.value.code == 2 and capsys.readouterr().err == "error: no\n"
    cli.require(tmp_path, "it holds x", "00_x.py")
    with pytest.raises(SystemExit):
        cli.require(tmp_path / "none", "it holds x", "00_x.py")
    assert capsys.readouterr().err == f"error: {tmp_path / 'none'} does not exist: it holds x. Run 00_x.py first.\n"


def test_parser_pieces(tmp_path):
    parser = cli.make_parser("Does a thing.\n\nReads   x")
    cli.add_seed(parser)
    cli.add_work_options(parser, 30)
    args = parser.parse_args([])
    assert (args.data_dir, args.videos_dir, args.frames_dir, args.limit, args.force) == (None, None, None, None, False)
    assert (args.shard, args.timeout, args.workers) == ((1, 1), 30, None)
    assert args.seed == 2020
    text = parser.format_help()
    assert (
        "Does a thing.\n\nReads   x" in text and "DATA_DIR/train_sample_videos" in text and "DEEPFAKE_DATA_DIR" in text
    )
    args = parser.parse_args(["--data-dir", str(tmp_path)])
    with pytest.raises(SystemExit):
        cli.require_videos_dir(args)
    (tmp_path / "train_sample_videos").mkdir()
    assert cli.require_videos_dir(args) == tmp_path / "train_sample_videos"


def test_printable_hides_what_would_move_the_cursor():
    assert messages.printable("a\x1b[2Jé\n\udcffb") == "a?[2Jé??b"


def test_an_original_named_without_a_suffix_keeps_its_name():
    assert inputs.video_id_of("part/abc") == "part__abc"
