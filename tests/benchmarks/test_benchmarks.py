"""The parts of benchmarks/ that the published figures rest on: who ran, what it cost, which boxes are the same face."""

import json
import subprocess
import sys
from pathlib import Path

import faces
import frames
import measure
import pytest
import verdicts

BENCHMARKS_DIR = Path(measure.__file__).parent
SPENDING_300_MB = "import json; held = bytearray(300 << 20); print('chatter'); print(json.dumps({'frames': 11}))"


def python(code):
    return [sys.executable, "-c", code]


def test_a_run_says_its_time_its_memory_and_what_it_printed_last():
    idle = measure.run_once(python("import time; time.sleep(0.5)"))
    spending = measure.run_once(python(SPENDING_300_MB))
    assert 0.5 <= idle.wall_s < 10 and idle.said == {}
    assert spending.said == {"frames": 11}
    assert spending.peak_mb - idle.peak_mb == pytest.approx(300, abs=30)


def test_a_contender_starts_without_the_memory_of_the_benchmark():
    held = bytearray(400 << 20)
    assert measure.run_once(python("pass")).peak_mb < 100
    assert len(held) == 400 << 20


def test_a_contender_that_fails_stops_the_benchmark_with_its_output(capfd):
    with pytest.raises(SystemExit) as error:
        measure.run_once(python("import sys; print('no such clip', file=sys.stderr); sys.exit(3)"))
    assert error.value.code == 2
    assert "no such clip" in capfd.readouterr().err


def test_a_contender_killed_by_a_signal_is_a_failure():
    with pytest.raises(SystemExit):
        measure.run_once(python("import os, signal; os.kill(os.getpid(), signal.SIGKILL)"))


def test_contenders_run_in_turns_and_every_second_round_backwards(tmp_path):
    order, prepared = tmp_path / "order.txt", []
    write = "import os, sys; open(os.environ['ORDER'], 'a').write(sys.argv[1])"
    contenders = {name: ([*python(write), name], {"ORDER": str(order)}) for name in "abc"}
    costs = measure.in_turns(contenders, 3, before=prepared.append)
    assert order.read_text() == "".join(prepared) == "abccbaabc"
    assert {name: len(found) for name, found in costs.items()} == {"a": 3, "b": 3, "c": 3}


def test_median_and_spread():
    assert measure.median_and_spread(iter([3.0, 1.0, 2.25])) == "2.25 (1.00 to 3.00)"


def test_a_table_is_markdown():
    assert measure.markdown_table(("how", "s"), [("ours", 1)]) == "| how | s |\n|---|---|\n| ours | 1 |"


def test_overlap_is_intersection_over_union():
    assert faces.overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert faces.overlap((0, 0, 10, 10), (20, 0, 10, 10)) == 0
    assert faces.overlap((3, 4, 10, 10), (3, 4, 10, 10)) == 1


def test_faces_are_found_missed_and_invented():
    expected = [[(0, 0, 100, 100), (300, 0, 70, 70), (600, 0, 59, 59)], []]  # the last is too small to be asked for
    found = [[(5, 0, 100, 100), (600, 0, 59, 59), (900, 0, 80, 80)], [(0, 0, 90, 90)]]
    assert faces.compare(found, expected) == (2, 1, 2)


def test_the_wanted_frames_span_the_clip():
    assert frames.wanted_of(300) == [0, 30, 60, 90, 120, 150, 179, 209, 239, 269, 299]


def test_copies_are_links_in_turn_and_made_once(tmp_path):
    clips = [tmp_path / "a.mp4", tmp_path / "b.mp4"]
    for clip in clips:
        clip.write_bytes(clip.name.encode())
    for _ in range(2):
        folder = frames.copies_of(clips, tmp_path / "copies", 3)
    assert [path.read_text() for path in sorted(folder.iterdir())] == ["a.mp4", "b.mp4", "a.mp4"]


@pytest.mark.slow
def test_verdicts_of_all_contenders_are_compared(tmp_path):
    small = ["--videos", "120", "--faces", "4", "--times", "2", "--repetitions", "1"]
    command = [sys.executable, BENCHMARKS_DIR / "verdicts.py", "--work-dir", tmp_path, *small]
    printed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "all wrote the same rows" in printed.stderr
    assert "| 04 | 480 |" in printed.stdout and "| pandas | 960 |" in printed.stdout
    lines = (tmp_path / "faces_120x4.json").read_text().splitlines()
    assert len(lines) == 480 + 1 and json.loads(lines[-1])["score"] is None


def test_a_verdict_that_differs_is_seen(tmp_path):
    header = "video_id,filename,score\n"
    for name, text in {"a": "x,x.mp4,0.5\n", "b": "x,x.mp4,0.50000000001\n", "c": "x,x.mp4,0.51\n", "d": ""}.items():
        (tmp_path / name).write_text(header + text)
    assert verdicts.difference(tmp_path / "a", tmp_path / "b") is None
    assert verdicts.difference(tmp_path / "a", tmp_path / "c") == "score of x: '0.5' and '0.51'"
    assert verdicts.difference(tmp_path / "a", tmp_path / "d") == "1 rows and 0"


MAINS = [path for path in sorted(BENCHMARKS_DIR.glob("*.py")) if "def build_parser" in path.read_text()]


@pytest.mark.parametrize("path", MAINS, ids=lambda path: path.stem)
def test_help_needs_nothing_that_only_benchmarks_need(path):
    printed = subprocess.run([sys.executable, path, "--help"], capture_output=True, text=True)
    assert printed.returncode == 0 and "Rerun" in printed.stdout
