"""detect.py: from any file or folder to verdicts, with the real pipeline and a network of random weights."""

import html
import importlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest
from pyspark import SparkContext
from rich.cells import cell_len

from deepfake.evaluation.verdicts import suspicion
from deepfake.model import weights as weights_module
from deepfake.model.efficientnet import build_model
from deepfake.model.scorer import _load_on_cpu, load_scorer
from deepfake.model.weights import save_model
from deepfake.parallel import failures
from deepfake.report import answer as answers
from deepfake.report import words
from tests.reports import video, write_run

detect = importlib.import_module("detect")
PHOTO = Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"
SCRIPT = Path(detect.__file__).resolve()
EVIL = "evil\x1b[2J\u202e.heic"


def run(*options):
    try:
        return detect.main([*map(str, options)])
    except SystemExit as error:
        return error.code


def snapshot(folder):
    """Return {relative path: (inode, mtime, bytes)} of the files below a folder."""
    return {
        path.relative_to(folder): (path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Weights of no skill: what matters here is that every face gets a score."""
    path = tmp_path_factory.mktemp("weights") / "random.h5"
    record = {"backbone": "B0", "input_size": 32, "faces": "faces", "aggregation": "lowest-person"}
    save_model(build_model("B0", 32), path, record)
    return path


@pytest.fixture(scope="module")
def judged(tmp_path_factory, sample_dir, weights):
    """A folder of everything, judged as a user does from another working directory: (folder, data root, process)."""
    root = tmp_path_factory.mktemp("detect")
    folder = root / 'my "clips" $(touch hacked)'
    (folder / "sub").mkdir(parents=True)
    shutil.copy(sample_dir / "actor_000_real.mp4", folder / "one.mp4")
    shutil.copy(sample_dir / "actor_001_fake.mp4", folder / "sub" / "it's two.MP4")
    shutil.copy(PHOTO, folder / "photo.JPG")
    cv2.imwrite(str(folder / "no face.png"), np.full((60, 80, 3), 90, np.uint8))
    (folder / "broken.mp4").write_bytes((folder / "one.mp4").read_bytes()[1000:5000])
    (folder / "text.mp4").write_text("dear diary")
    (folder / "empty.mov").write_bytes(b"")
    (folder / EVIL).write_bytes(b"heic")
    (folder / "notes.txt").write_text("not an input")
    before = snapshot(folder)
    command = [
        sys.executable,
        str(SCRIPT),
        folder.name,
        "--data-dir",
        "data",
        "--weights",
        str(weights),
        "--workers",
        "1",
    ]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert snapshot(folder) == before, "the user's files are never changed, nothing is written beside them"
    assert sorted(path.name for path in root.iterdir()) == ["data", folder.name]
    return folder, root / "data", done


@pytest.mark.slow
def test_everything_is_listed_once_most_suspicious_first(judged):
    folder, data_dir, done = judged
    assert done.returncode == 1, done.stderr
    header, *lines = done.stdout.split("\n\n")[0].splitlines()
    assert header.split() == ["video", "verdict", "P(fake)", "faces", "people", "reason"]
    names = (
        "one.mp4",
        "sub/it's two.MP4",
        "photo.JPG",
        "no face.png",
        "broken.mp4",
        "text.mp4",
        "empty.mov",
        "evil?[2J?.heic",
    )
    shown = {name: [line for line in lines if line.startswith(f"{name} ")] for name in names}
    assert len(lines) == len(names) and all(len(found) == 1 for found in shown.values()), done.stdout
    scores = [float(line[header.index("P(fake)") :].split()[0]) for line in lines[:3]]
    assert scores == sorted(scores, reverse=True)
    for name in names[:3]:
        line = shown[name][0]
        assert ("FAKE" in line) or ("REAL" in line)
    assert "CANNOT JUDGE" in shown["no face.png"][0] and "no face of confidence" in shown["no face.png"][0]
    for name in ("broken.mp4", "text.mp4"):
        assert "CANNOT JUDGE" in shown[name][0] and "is not a readable video" in shown[name][0]
    assert "is empty" in shown["empty.mov"][0]
    assert (
        "CANNOT JUDGE" in shown["evil?[2J?.heic"][0] and ".heic files are not supported" in shown["evil?[2J?.heic"][0]
    )
    (made,) = (data_dir / "detect").iterdir()
    place = Path("data") / "detect" / made.name
    assert done.stdout.endswith(
        f"Everything made on the way is in {place}\nOpen this page to see the faces: {place / 'report.html'}\n"
    )
    page = html.unescape((made / "report.html").read_text(encoding="utf-8"))
    assert all(name in page for name in names) and page.count("data:image/webp") == 23 + 7, "and 7 maps"


@pytest.mark.slow
def test_errors_are_words_and_output_is_ours(judged):
    *_, done = judged
    assert "Traceback" not in done.stderr
    starts = ("judging ", "00: ", "01a: ", "03a: ", "03b: ", "04: ", "05: ")
    assert [line for line in done.stderr.splitlines() if not line.startswith(starts)] == []


@pytest.mark.slow
def test_control_characters_of_names_do_not_reach_standard_output(judged):
    *_, done = judged
    assert all(c.isprintable() or c == "\n" for c in done.stdout)


@pytest.mark.slow
def test_control_characters_of_names_do_not_reach_standard_error(judged):
    *_, done = judged
    assert all(c.isprintable() or c == "\n" for c in done.stderr)


@pytest.mark.slow
def test_rerun_keeps_what_is_complete_and_a_removed_video_leaves(judged, weights, capfd, monkeypatch):
    folder, data_dir, _ = judged
    (made,) = (data_dir / "detect").iterdir()
    frames = snapshot(made / "frames")
    assert {path.parts[0] for path in frames} == {"one", "sub__it's two", "photo-jpg", "no face-png"}
    monkeypatch.chdir(folder / "sub")
    for name in ("one.mp4", "broken.mp4", EVIL):
        (folder / name).unlink()
    capfd.readouterr()
    options = ("--data-dir", data_dir, "--weights", weights, "--workers", 1, "--json", "--aggregate", "auto")
    assert run("..", *options) == 1
    out, err = capfd.readouterr()
    answer = json.loads(out)
    assert set(answer) == {"weights", "warning", "folder", "report", "videos", "people", "failed"}
    assert {row["filename"] for row in answer["videos"]} == {
        "sub/it's two.MP4",
        "photo.JPG",
        "no face.png",
        "text.mp4",
        "empty.mov",
    }
    assert answer["failed"] == [] and answer["weights"] == str(weights) and answer["folder"] == str(made)
    assert answer["report"] == str(made / "report.html")
    rows = {row["filename"]: row for row in answer["videos"]}
    assert list(rows)[:2] == sorted(list(rows)[:2], key=lambda name: -rows[name]["p_fake"])
    assert rows["photo.JPG"]["p_fake"] == 1 - rows["photo.JPG"]["score"]
    assert type(rows["photo.JPG"]["faces"]) is int and rows["photo.JPG"]["reason"] is None
    assert rows["no face.png"]["score"] is None and rows["no face.png"]["verdict"] == "CANNOT JUDGE"
    assert rows["text.mp4"]["reason"].startswith("is not a readable video")
    assert "aggregate lowest-person" in err
    judged_ids = [row["video_id"] for row in answer["videos"] if row["score"] is not None]
    assert [row["video_id"] for row in answer["people"]] == judged_ids, "one person each"

    def without_maps(files):
        kept = [path for path in files if path.parts[0] != "one" and "explained" not in path.parts]
        return {path: files[path] for path in kept}

    assert without_maps(snapshot(made / "frames")) == without_maps(frames), (
        "frames and faces were made once; those of a removed video are gone"
    )


@pytest.mark.slow
def test_single_photo_in_a_folder_of_strange_name(tmp_path, weights, capfd):
    folder = tmp_path / "a 'b' \"c\" [d] $(touch hacked) 100% ü"
    folder.mkdir()
    shutil.copy(PHOTO, folder / "-photo;.jpg")
    (folder / "other.mp4").write_text("not asked for")
    (folder / "metadata.json").write_text('{"other.mp4": {"label": "FAKE"}, "gone.mp4": {"label": "REAL"}}')
    status = run(folder / "-photo;.jpg", "--data-dir", tmp_path / "data", "--weights", weights, "--workers", 1)
    out, err = capfd.readouterr()
    assert status == 0, err
    header, line = out.split("\n\n")[0].splitlines()
    assert line.startswith("-photo;.jpg ") and "other" not in out + err
    assert sorted(path.name for path in folder.iterdir()) == ["-photo;.jpg", "metadata.json", "other.mp4"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["data", folder.name])


def test_nothing_readable_is_said_input_by_input(tmp_path, weights, capfd):
    """No frames at all: the steps after 00 have nothing to do, and the answer is still the list."""
    folder = tmp_path / "clips"
    folder.mkdir()
    (folder / "text.mp4").write_text("dear diary")
    (folder / "x.heic").write_bytes(b"heic")
    assert run(folder, "--data-dir", tmp_path / "data", "--weights", weights, "--workers", 1) == 1
    out, err = capfd.readouterr()
    assert [line.split()[:2] for line in out.split("\n\n")[0].splitlines()[1:]] == [
        ["text.mp4", "CANNOT"],
        ["x.heic", "CANNOT"],
    ]
    assert "Traceback" not in err and out.endswith("No page was made: nothing could be read\n")
    assert run(folder, "--data-dir", tmp_path / "data", "--weights", weights, "--workers", 1, "--json") == 1
    answer = json.loads(capfd.readouterr().out)
    assert [(row["filename"], row["verdict"], row["score"]) for row in answer["videos"]] == [
        ("text.mp4", "CANNOT JUDGE", None),
        ("x.heic", "CANNOT JUDGE", None),
    ]
    assert [row["filename"] for row in answer["failed"]] == ["text.mp4", "x.heic"]


def test_damage_is_named_beside_the_verdict(tmp_path, weights, capfd, sample_dir):
    clip = (sample_dir / "actor_000_real.mp4").read_bytes()
    zeroed = len(clip) * 2 // 3  # the index is at the end of the file, the pictures of the last seconds are gone
    index = clip.rindex(b"moov") - 4
    (tmp_path / "cut.mp4").write_bytes(clip[:zeroed] + bytes(index - zeroed) + clip[index:])
    options = ("--data-dir", tmp_path / "data", "--weights", weights, "--workers", 1)
    assert run(tmp_path / "cut.mp4", *options, "--json") == 0
    (row,) = json.loads(capfd.readouterr().out)["videos"]
    assert row["score"] is not None and row["warnings"][0].startswith("can be read only in part: ")
    assert run(tmp_path / "cut.mp4", *options) == 0
    assert "; ".join(row["warnings"]) in capfd.readouterr().out.split("\n\n")[0]


def test_folder_without_videos(tmp_path, weights, capfd):
    (tmp_path / "empty").mkdir()
    assert run(tmp_path / "empty", "--data-dir", tmp_path / "data", "--weights", weights) == 2
    assert "holds no videos or photos" in capfd.readouterr().err


def test_path_that_does_not_exist(tmp_path, capsys):
    assert run(tmp_path / "gone\x1b.mp4", "--data-dir", tmp_path) == 2
    assert capsys.readouterr().err == f"error: {tmp_path}/gone?.mp4 does not exist\n"


def test_no_weights_says_how_to_make_some(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(weights_module, "BASE_WEIGHTS", tmp_path / "none.h5")
    assert run(PHOTO, "--data-dir", tmp_path) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "tmp_checkpoint" / "best_model.h5") in error and "make train VIDEOS=" in error
    assert not (tmp_path / "detect").exists()


def test_weights_are_the_ones_asked_for_else_trained_else_shipped(tmp_path, monkeypatch):
    shipped, trained, own = tmp_path / "base.h5", tmp_path / "tmp_checkpoint" / "best_model.h5", tmp_path / "own.h5"
    trained.parent.mkdir()
    monkeypatch.setattr(weights_module, "BASE_WEIGHTS", shipped)
    args = detect.build_parser().parse_args(["x", "--data-dir", str(tmp_path)])
    for path in (shipped, trained):
        path.write_bytes(b"")
        assert detect.choose_weights(args) == path
    args.weights = str(own)
    with pytest.raises(SystemExit):
        detect.choose_weights(args)
    own.write_bytes(b"")
    assert detect.choose_weights(args) == own


def test_weights_that_are_text_are_refused_before_any_work(tmp_path, capsys):
    (tmp_path / "w.h5").write_text("not weights")
    assert run(PHOTO, "--data-dir", tmp_path / "data", "--weights", tmp_path / "w.h5") == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'w.h5'} is not a weights file (HDF5)" in error and "Traceback" not in error
    assert not (tmp_path / "data").exists()


def test_weights_for_marked_faces_are_refused_before_any_work(tmp_path, weights, capsys):
    shutil.copy(weights, tmp_path / "w.h5")
    record = json.loads(weights.with_suffix(".json").read_text())
    (tmp_path / "w.json").write_text(json.dumps(record | {"faces": "marked_faces"}))
    assert run(PHOTO, "--data-dir", tmp_path / "data", "--weights", tmp_path / "w.h5") == 2
    assert "marked_faces" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_weights_without_a_rule_are_refused_before_any_work(tmp_path, weights, capsys):
    shutil.copy(weights, tmp_path / "w.h5")
    record = json.loads(weights.with_suffix(".json").read_text())
    (tmp_path / "w.json").write_text(json.dumps(record | {"aggregation": None}))
    assert run(PHOTO, "--data-dir", tmp_path / "data", "--weights", tmp_path / "w.h5", "--aggregate", "auto") == 2
    error = capsys.readouterr().err
    assert f"{tmp_path / 'w.json'} does not say how to aggregate" in error and error.count("\n") == 1
    assert not (tmp_path / "data").exists()


def test_options_are_checked_before_any_work(tmp_path, capsys):
    assert run(PHOTO, "--data-dir", tmp_path, "--aggregate", "median") == 2
    assert "median" in capsys.readouterr().err
    assert run(PHOTO, "--data-dir", tmp_path, "--workers", "0") == 2
    assert not (tmp_path / "detect").exists()


def test_the_person_who_looks_least_real_is_named(tmp_path, weights, capsys, monkeypatch):
    videos = [video("two.mp4", None, [[0.9, 0.9, 0.9], [0.2, 0.3, 0.4]]), video("one.mp4", None, [0.8])]

    def run_steps(args, path, folder, weights):
        write_run(folder, videos, people_table=True)
        return 0, True

    monkeypatch.setattr(detect, "run_steps", run_steps)
    assert run(PHOTO, "--data-dir", tmp_path, "--weights", weights) == 0
    two, one = capsys.readouterr().out.splitlines()[1:3]
    assert two.startswith("two.mp4 ") and two.endswith("  least real: person 1 (0.3000)") and one.endswith(" 1")
    assert run(PHOTO, "--data-dir", tmp_path, "--weights", weights, "--json") == 0
    people = json.loads(capsys.readouterr().out)["people"]
    assert [(row["filename"], row["person"], row["verdict"]) for row in people] == [
        ("two.mp4", 0, "REAL"),
        ("two.mp4", 1, "FAKE"),
        ("one.mp4", 0, "REAL"),
    ]


@pytest.mark.parametrize("failure", [MemoryError("no memory"), SystemExit(2), 1])
def test_maps_that_fail_cost_no_verdict(monkeypatch, capsys, failure):
    def main(options):
        if isinstance(failure, BaseException):
            raise failure
        return failure

    monkeypatch.setattr(importlib.import_module("03b_explain"), "main", main)
    assert detect.explain([]) == 0
    assert ("no memory" in capsys.readouterr().err) == isinstance(failure, MemoryError)
    monkeypatch.setattr(importlib.import_module("03b_explain"), "main", lambda options: sys.exit(130))
    with pytest.raises(SystemExit):
        detect.explain([])


@pytest.mark.parametrize("status", [2, 130])
def test_a_step_that_could_not_run_to_its_end_ends_everything(tmp_path, monkeypatch, weights, status):
    def after_it(options):
        raise AssertionError("a step after it was run")

    monkeypatch.setattr(importlib.import_module("00_convert_video_to_image"), "main", lambda options: 0)
    monkeypatch.setattr(importlib.import_module("01a_crop_faces_mtcnn"), "main", lambda options: status)
    monkeypatch.setattr(importlib.import_module("03a_load_model"), "main", after_it)
    args = detect.build_parser().parse_args(["x", "--data-dir", str(tmp_path)])
    (detect.working_dir(args, PHOTO) / "frames" / "photo").mkdir(parents=True)
    assert run(PHOTO, "--data-dir", tmp_path, "--weights", weights) == status


def test_ctrl_c_is_a_line_and_status_130(tmp_path, weights, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(detect, "run_steps", interrupted)
    assert run(PHOTO, "--data-dir", tmp_path, "--weights", weights) == 130
    err = capsys.readouterr().err
    assert err.endswith("interrupted; run it again\n") and "Traceback" not in err


@pytest.fixture
def no_spark():
    """No Spark session before and after a test."""
    if SparkContext._active_spark_context:
        SparkContext._active_spark_context.stop()
    yield
    if SparkContext._active_spark_context:
        SparkContext._active_spark_context.stop()


def test_scorer_and_spark_are_ready_when_their_steps_come(weights, no_spark, without_gpu):
    _load_on_cpu.cache_clear()
    detect.prefetch(weights).shutdown()
    assert _load_on_cpu.cache_info().currsize == 1 and SparkContext._active_spark_context is not None
    load_scorer(weights)
    assert _load_on_cpu.cache_info().misses == 1, "it was loaded ahead of its step"


def test_a_network_is_built_once_however_many_ask_for_it(weights, without_gpu):
    _load_on_cpu.cache_clear()
    with ThreadPoolExecutor(3) as threads:
        first, *others = threads.map(lambda _: load_scorer(weights)[0], range(3))
    assert all(other is first for other in others)


def test_what_cannot_be_prefetched_is_left_to_its_step(tmp_path, no_spark):
    detect.prefetch(tmp_path / "missing.h5").shutdown()


def test_working_folders_are_never_shared(tmp_path, monkeypatch):
    args = detect.build_parser().parse_args(["x", "--data-dir", str(tmp_path / "data")])
    paths = [tmp_path / "clip", tmp_path / "clip.mp4", tmp_path / "sub" / "clip.mp4", tmp_path / ("x" * 250), tmp_path]
    folders = [detect.working_dir(args, path) for path in paths]
    assert len(set(folders)) == len(paths)
    assert all(folder.parent == tmp_path / "data" / "detect" and len(folder.name) <= 60 for folder in folders)
    assert folders[1].name.startswith("clip.mp4-")
    monkeypatch.chdir(tmp_path)
    assert detect.working_dir(args, Path("sub/../clip.mp4")) == folders[1]
    detect.working_dir(args, Path(os.fsdecode(b"not utf-8 \xff.mp4")))


def test_table_is_aligned_whatever_the_names():
    rows = [
        ("video", "verdict"),
        ("日本.mp4", "FAKE"),
        ("Zoe\u0308.mp4", "REAL"),
        ("a\x1b[31m\n\u202e.mp4", "x"),
        ("[red]a[/red]", "[b]"),
        ("\udcff", 3),
    ]
    assert answers.as_table(rows) == [
        "video" + 9 * " " + "verdict",
        "日本.mp4" + 6 * " " + "FAKE",  # two columns a character
        "Zoe\u0308.mp4" + 7 * " " + "REAL",  # the dots take none
        "a?[31m??.mp4  x",
        "[red]a[/red]  [b]",
        "?" + 13 * " " + "3",
    ]


def test_table_fits_a_narrow_terminal_and_nothing_is_cut_off():
    reason = "faces too small (under 40 px) in most of the frames that were looked at"
    names = "a_very_long_name_of_a_clip_from_a_phone_2026.mp4", "日本" * 30 + ".mp4"
    rows = [
        answers.COLUMNS,
        (names[0], "CANNOT JUDGE", "-", "0", "0", reason),
        (names[1], "FAKE", "0.912", "11", "1", ""),
    ]
    assert len(answers.as_table(rows)) == 3 and max(map(len, answers.as_table(rows))) > 150
    for columns in (80, 60, 20):
        lines = answers.as_table(rows, columns)
        assert max(map(cell_len, lines)) <= max(columns, answers.NARROWEST)
        assert lines[0].split() == list(answers.COLUMNS)
        shown = {name: "".join(line[: line.find(" ")] if " " in line else line for line in lines) for name in names}
        assert all(name in shown[name] for name in names)
        found = " ".join(line[lines[0].index("reason") :].strip() for line in lines[1 : 1 + len(lines)])
        assert " ".join(found.split()) == reason
    assert answers.as_table(rows[:1] + [("a.mp4", "REAL", "0.1", "1", "1", "")], 80) == answers.as_table(
        rows[:1] + [("a.mp4", "REAL", "0.1", "1", "1", "")]
    )


def test_suspicion_puts_the_unjudged_last():
    rows = [{"p_fake": p_fake, "filename": name} for p_fake, name in ((None, "a"), (0.0, "b"), (0.9, "d"), (0.9, "c"))]
    assert [row["filename"] for row in sorted(rows, key=suspicion)] == ["c", "d", "b", "a"]


def test_failure_is_told_from_a_judged_file_of_the_same_name(tmp_path):
    from common.files import write_json
    from deepfake.parallel.failures import note_failure

    for folder in ("a", "b", "data"):
        (tmp_path / "clips" / folder).mkdir(parents=True)
        (tmp_path / "clips" / folder / "x.mp4").write_bytes(b"x")
    for folder in ("a", "b"):
        note_failure(tmp_path / "data", "00", tmp_path / "clips" / folder / "x.mp4", f"reason {folder}")
    note_failure(tmp_path / "data", "01a", tmp_path / "clips" / "data" / "x.mp4", "is in the table already")
    (tmp_path / "elsewhere.mp4").write_bytes(b"x")
    note_failure(tmp_path / "data", "00", tmp_path / "elsewhere.mp4", "of another folder")
    frames_dir = tmp_path / "data" / "frames"
    for folder, made_from in (("a__x", {"filename": "a/x.mp4"}), ("c__z", {"filename": "c/z.mp4"}), ("d", None)):
        (frames_dir / folder).mkdir(parents=True)
        write_json(frames_dir / folder / "frames.json", {"video_id": folder, "made_from": made_from})
        note_failure(tmp_path / "data", "01a", frames_dir / folder, f"reason {folder}")
    verdicts = [{"filename": "a/x.mp4", "video_id": "a__x"}, {"filename": None, "video_id": "y"}]
    failed = failures.failed_inputs(tmp_path / "data", tmp_path / "clips", frames_dir, verdicts)
    assert sorted((row["stage"], row["filename"], row["reason"]) for row in failed) == [
        ("00", "b/x.mp4", "reason b"),
        ("01a", "c/z.mp4", "reason c__z"),
        ("01a", "d", "reason d"),
    ]


@pytest.mark.parametrize(
    ("interval", "warned"), [([0.48, 0.6], "better than chance"), (None, "too few people"), ([0.7, 0.9], None)]
)
def test_weights_no_better_than_chance_are_doubted(interval, warned):
    found = words.doubt({"metrics": {"val_faces": {"roc_auc": {"value": 0.55, "interval": interval}}}})
    assert found is None if warned is None else (warned in found and "ROC AUC 0.55" in found)
    assert words.doubt({}) is None


def test_a_perfect_score_of_many_people_is_no_doubt():
    auc = {"value": 1.0, "interval": None, "method": "exactly 0 or 1: no interval"}
    assert words.doubt({"metrics": {"val_faces": {"roc_auc": auc}}}) is None
    assert "better than chance" in words.doubt({"metrics": {"val_faces": {"roc_auc": auc | {"value": 0.0}}}})


def test_weights_that_never_saw_a_deepfake_say_so():
    metrics = {"val_faces": {"roc_auc": {"value": 0.97, "interval": [0.95, 0.98]}}}
    assert "never from deepfakes" in words.doubt({"metrics": metrics, "fakes": "self-blended faces"})
    only_drawn = {"metrics": metrics, "fakes": "self-blended faces", "drawn": True}
    found = words.doubt(only_drawn)
    assert "blends of them, never from deepfakes" in found and "learnt from synthetic clips" in found
    found = words.doubt(only_drawn | {"averaged": [{"share": 1.0}]})
    assert "synthetic clips of them, never from deepfakes" in found and "learnt from synthetic clips" not in found
    assert words.doubt({"metrics": metrics, "fakes": "fake videos", "drawn": False}) is None
    assert "learnt from synthetic clips" in words.doubt({"metrics": metrics, "fakes": "fake videos", "drawn": True})
    metrics["val_faces"]["roc_auc"]["interval"] = None
    both = words.doubt({"metrics": metrics, "fakes": "self-blended faces"})
    assert "never from deepfakes" in both and "too few people" in both
