"""make train hands paths and options to the scripts as they are, whatever characters they hold."""

import shlex
import shutil
import subprocess
import sys

import pytest

from common.paths import REPOSITORY_DIR

STAND_IN = f"""#!/bin/bash
if [ "$1" = -c ]; then exec {shlex.quote(sys.executable)} "$@"; fi
printf '%s\\n' "$@" END >> calls.txt
"""


@pytest.fixture
def make(tmp_path):
    """Run make where .venv/bin/python only notes what it is called with; returns {script: arguments} and the finished process."""
    shutil.copy(REPOSITORY_DIR / "Makefile", tmp_path)
    (tmp_path / "requirements.txt").touch()
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    (tmp_path / ".venv" / ".ready").touch()
    python = tmp_path / ".venv" / "bin" / "python"
    python.write_text(STAND_IN)
    python.chmod(0o755)

    def run(*arguments):
        done = subprocess.run(["make", *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60)
        calls = (tmp_path / "calls.txt").read_text().split("END\n")[:-1] if (tmp_path / "calls.txt").exists() else []
        return {script: given for script, *given in map(str.splitlines, calls)}, done

    return run


def test_videos_and_options_of_the_split_arrive_as_they_are(make, tmp_path):
    videos, test_list = '/a b/it\'s "$(touch hacked)" $HOME', "/x y/$(touch hacked) `touch hacked`.txt"
    calls, done = make("train", f"VIDEOS={videos}", f"SPLIT_OPTIONS=--test-list {shlex.quote(test_list)} --limit 3")
    assert done.returncode == 0, done.stderr
    assert calls["02_prepare_dataset.py"] == ["--videos-dir", videos, "--test-list", test_list, "--limit", "3"]
    assert calls["00_convert_video_to_image.py"] == ["--videos-dir", videos] and calls["03_train_cnn.py"] == []
    assert not (tmp_path / "hacked").exists()


def test_without_options_the_split_has_none(make):
    calls, done = make("train", "VIDEOS=/v")
    assert done.returncode == 0 and calls["02_prepare_dataset.py"] == ["--videos-dir", "/v"]


def test_an_open_quote_stops_before_the_first_step(make):
    calls, done = make("train", "VIDEOS=/v", "SPLIT_OPTIONS=--test-list 'x")
    assert done.returncode == 2 and "a quote is not closed" in done.stderr and calls == {}
    assert "Traceback" not in done.stderr
