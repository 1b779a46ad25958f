"""Outputs appear complete or not at all; failures are remembered, forgotten and listed."""

import errno
import json
import os
import pickle

import pytest

from common import errors, files
from common.errors import InputError, OutputError
from common.files import new_directory, write_atomic
from deepfake.parallel import failures


def test_write_atomic_replaces_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "x.txt"
    write_atomic(path, "één")
    assert path.read_bytes() == "één".encode()
    write_atomic(path, b"\0\1")
    assert path.read_bytes() == b"\0\1"
    assert list(path.parent.iterdir()) == [path]


def test_write_atomic_keeps_the_old_content_when_the_disk_is_full(tmp_path, monkeypatch):
    path = tmp_path / "x.txt"
    write_atomic(path, "old")
    write_bytes = type(path).write_bytes

    def half_then_full(self, data):
        write_bytes(self, data[:2])
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(type(path), "write_bytes", half_then_full)
    with pytest.raises(OutputError, match="No space left on device"):
        write_atomic(path, "new content")
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR])
def test_writing_knows_when_nothing_else_would_work(number):
    with pytest.raises(OutputError, match="cannot write /x/y: "), errors.writing():
        raise OSError(number, os.strerror(number), "/x/y")


def test_writing_a_name_that_is_too_long_is_that_inputs_problem(tmp_path):
    with pytest.raises(InputError, match="too long"):
        write_atomic(tmp_path / ("n" * 300), "")
    with pytest.raises(InputError, match="too long"), new_directory(tmp_path / ("n" * 300)):
        pass


def test_write_json_and_read_json(tmp_path):
    value = {"name": "é \udcff", "list": [1, 2.5, None]}
    files.write_json(tmp_path / "x.json", value)
    assert files.read_json(tmp_path / "x.json") == value
    assert "é" in (tmp_path / "x.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("damaged", [b'{"cut": ', b"\xff\xfe", b"", b"[1]", b"null", b"3", b"[" * 100_000, None])
def test_a_damaged_record_is_read_as_nothing_or_refused_in_words(tmp_path, damaged):
    if damaged is not None:
        (tmp_path / "x.json").write_bytes(damaged)
    assert files.read_json(tmp_path / "x.json") == {}
    assert files.read_json(tmp_path / "x.json", faces=[], size=0) == {"faces": [], "size": 0}
    with pytest.raises(InputError, match=r"^x.json is not readable; run 01a_crop_faces_mtcnn.py again$"):
        files.read_needed(tmp_path / "x.json", "01a_crop_faces_mtcnn.py")


def test_entries_of_another_type_are_as_in_the_defaults(tmp_path):
    files.write_json(tmp_path / "x.json", {"a": [1], "b": "text", "c": None, "d": 5, "e": True})
    record = files.read_json(tmp_path / "x.json", a=[], b={}, c="", e=0, f=1.5)
    assert record == {"a": [1], "b": {}, "c": "", "d": 5, "e": 0, "f": 1.5}
    assert files.read_needed(tmp_path / "x.json", "00")["d"] == 5


def test_write_csv(tmp_path):
    rows = [{"a": 'x,"y', "b": None, "other": 1}, {"a": "z", "b": 0.5}]
    files.write_csv(tmp_path / "x.csv", ("a", "b"), rows)
    assert (tmp_path / "x.csv").read_text() == 'a,b\n"x,""y",\nz,0.5\n'


def test_new_directory_appears_when_complete(tmp_path):
    target = tmp_path / "deep" / "x"
    with new_directory(target) as folder:
        (folder / "a").write_text("1")
        assert not target.exists() and folder.parent.name.startswith(".") and folder.parent.parent == target.parent
    assert [path.name for path in target.iterdir()] == ["a"]
    with new_directory(target) as folder:
        (folder / "b").write_text("2")
        assert (target / "a").read_text() == "1", "the old one stays until the new one is complete"
    assert [path.name for path in target.iterdir()] == ["b"]
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("problem", [ValueError("x"), KeyboardInterrupt(), InputError("x")])
def test_new_directory_keeps_the_old_one_after_an_error(tmp_path, problem):
    target = tmp_path / "x"
    target.mkdir()
    (target / "a").write_text("1")
    with pytest.raises(type(problem)), new_directory(target) as folder:
        (folder / "b").write_text("2")
        raise problem
    assert (target / "a").read_text() == "1" and list(tmp_path.iterdir()) == [target]


def test_new_directory_turns_a_full_disk_into_output_error(tmp_path):
    with pytest.raises(OutputError), new_directory(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_new_directory_removes_what_a_killed_run_left_and_nothing_of_its_neighbours(tmp_path):
    for name in (".x.partial", ".x.replaced", ".x.1.partial", ".y.partial", "x.1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "half").touch()
    with new_directory(tmp_path / "x") as folder:
        assert list(folder.iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir()) == [".x.1.partial", ".y.partial", "x", "x.1"]


def test_two_processes_at_the_same_folder_never_mix_their_files(tmp_path):
    """A node that was given up for lost goes on while another does its work: one of them fails, what is there is whole."""
    target = tmp_path / "x"
    with pytest.raises((InputError, OutputError)), new_directory(target) as lost:
        (lost / "a").write_text("lost")
        with new_directory(target) as folder:
            for name in "ab":
                (folder / name).write_text("whole")
        (lost / "b").write_text("lost")
    assert {path.name: path.read_text() for path in target.iterdir()} == {"a": "whole", "b": "whole"}
    assert list(tmp_path.iterdir()) == [target]


def test_temporary_names_differ_within_one_process(tmp_path):
    assert len({files.temporary_name(tmp_path / "x") for _ in range(9)}) == 9


def test_new_directory_puts_back_the_old_folder_of_a_run_killed_between_its_renames(tmp_path):
    for name in (".x.replaced", ".x.partial"):
        (tmp_path / name).mkdir()
    (tmp_path / ".x.replaced" / "old").touch()
    with pytest.raises(InputError), new_directory(tmp_path / "x"):
        assert (tmp_path / "x" / "old").exists()
        raise InputError("the next run fails, too")
    assert [path.name for path in tmp_path.rglob("*")] == ["x", "old"]


def test_temporary_names_are_hidden_and_of_this_process(tmp_path):
    name = files.temporary_name(tmp_path / "x.json")
    assert name.parent == tmp_path and name.name.startswith(".x.json.") and str(os.getpid()) in name.name


def test_source_stamp_follows_size_and_time(tmp_path):
    path = tmp_path / "x"
    path.write_bytes(b"123")
    os.utime(path, ns=(5, 7_000_000_001))
    assert files.source_stamp(path) == {"size_bytes": 3, "mtime_ns": 7_000_000_001}


def test_failures_are_noted_forgotten_and_listed(tmp_path):
    data_dir, videos = tmp_path / "data", [tmp_path / name for name in ("b.mp4", "a, b.mp4", "gone.mp4", "\udcff.mp4")]
    for path in videos:
        path.touch()
        failures.note_failure(data_dir, "00", path, f"bad {path.name}")
    failures.note_failure(data_dir, "01a", videos[0], "other stage")
    failures.note_failure(data_dir, "00", videos[0], "bad again")
    videos[2].unlink()
    (data_dir / ".failed" / "00" / "broken.json").write_text("{")
    failures.write_failed_table(data_dir)
    assert (data_dir / "failed.csv").read_text() == (
        'stage,video,reason\n00,"a, b.mp4","bad a, b.mp4"\n00,b.mp4,bad again\n'
        "00,\\udcff.mp4,bad \\udcff.mp4\n01a,b.mp4,other stage\n"
    )
    failures.forget_failure(data_dir, "00", videos[0])
    failures.forget_failure(data_dir, "00", tmp_path / "never failed.mp4")
    assert [(record["stage"], record["video"]) for record in failures.failures(data_dir)] == [
        ("00", "a, b.mp4"),
        ("00", "\udcff.mp4"),
        ("01a", "b.mp4"),
    ]
    assert json.loads(next((data_dir / ".failed" / "01a").iterdir()).read_text())["path"] == str(videos[0])


def test_failures_keep_the_code_of_their_error(tmp_path):
    for name in ("a.mp4", "b.mp4", "older.mp4"):
        (tmp_path / name).touch()
        failures.note_failure(
            tmp_path, "00", tmp_path / name, InputError(f"{name} is bad", "empty" if name < "b" else None)
        )
    (older,) = [path for path in tmp_path.glob(".failed/00/*") if "older" in path.read_text()]
    record = json.loads(older.read_text())
    del record["code"]  # as before there were any
    older.write_text(json.dumps(record))
    assert [record.get("code") for record in failures.failures(tmp_path)] == ["empty", None, None]
    assert failures.codes_of_reasons(tmp_path) == {"a.mp4 is bad": "empty"}
    failures.write_failed_table(tmp_path)
    assert (tmp_path / "failed.csv").read_text().splitlines()[1] == "00,a.mp4,a.mp4 is bad"


def test_errors_come_from_other_processes_with_their_code():
    error = pickle.loads(pickle.dumps(InputError("is empty", "empty")))
    assert (str(error), error.code) == ("is empty", "empty")


def test_failures_of_a_relative_path_are_found_again(tmp_path, monkeypatch):
    (tmp_path / "x.mp4").touch()
    monkeypatch.chdir(tmp_path)
    failures.note_failure(tmp_path, "00", "x.mp4", "bad")
    failures.forget_failure(tmp_path, "00", tmp_path / "x.mp4")
    assert failures.failures(tmp_path) == []


def test_records_below_a_regular_file(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError):
        failures.write_failed_table(tmp_path / "file")
    with pytest.raises(OutputError):
        failures.forget_failure(tmp_path / "file", "00", "x.mp4")


def test_new_directory_puts_the_old_folder_back_when_the_rename_fails(tmp_path, monkeypatch):
    target = tmp_path / "x"
    target.mkdir()
    (target / "old").touch()
    rename = os.rename

    def fail_for_new(source, destination):
        if ".partial" in str(source):
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", fail_for_new)
    with pytest.raises(errors.OutputError), files.new_directory(target) as folder:
        (folder / "new").touch()
    assert [path.name for path in target.iterdir()] == ["old"]


@pytest.mark.parametrize(
    ("content", "ours"),
    [
        (b'{"made_from": {"filename": "x.mp4"}}', True),
        (b'{"made_from": {"fil', True),
        (b"", True),
        (b"\xff", True),
        (b"[1]", False),
        (b"null", False),
        (b"{}", False),
        (b'{"made_from": "oak"}', False),
        (None, False),
    ],
)
def test_a_folder_is_ours_by_its_record(tmp_path, content, ours):
    if content is not None:
        (tmp_path / "frames.json").write_bytes(content)
    assert files.is_our_folder(tmp_path, "frames.json") is ours


def test_what_is_no_readable_folder_is_not_ours(tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "frames.json").mkdir()
    assert not files.is_our_folder(tmp_path / "file", "frames.json")
    assert not files.is_our_folder(tmp_path, "frames.json")


def test_failure_of_a_folder_ends_when_it_can_be_listed_again(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    for stage in ("00", "01a"):  # 01a's inputs are folders: theirs stay
        failures.note_failure(tmp_path, stage, tmp_path / "closed", "the folder cannot be read")
    scandir = os.scandir

    def refuse(path):
        if os.fspath(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied")
        return scandir(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        assert [record["stage"] for record in failures.failures(tmp_path)] == ["00", "01a"]
    assert [record["stage"] for record in failures.failures(tmp_path)] == ["01a"]


def test_failed_table_has_what_another_shard_noted_while_it_was_written(tmp_path, monkeypatch):
    for name in ("a.mp4", "b.mp4"):
        (tmp_path / name).touch()
    failures.note_failure(tmp_path, "00", tmp_path / "a.mp4", "bad")
    write_csv = files.write_csv

    def write_late(path, columns, rows):
        failures.note_failure(tmp_path, "00", tmp_path / "b.mp4", "bad")  # and its table, which this one overwrites
        write_csv(path, columns, rows)

    monkeypatch.setattr(files, "write_csv", write_late)
    failures.write_failed_table(tmp_path)
    assert (tmp_path / "failed.csv").read_text() == "stage,video,reason\n00,a.mp4,bad\n00,b.mp4,bad\n"
