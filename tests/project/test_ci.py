""".ci/run looks for Chromium, has it installed where it is missing, and goes on without it where that cannot be."""

import os
import shutil
import subprocess

import pytest

from common.paths import REPOSITORY_DIR

NEEDED = ("bash", "env", "dirname", "cp", "chmod")
MAKE = '#!/bin/bash\necho "make $*" >> "$CALLS"\n'
APT_GET = '#!/bin/bash\necho "apt-get $*" >> "$CALLS"\n'
INSTALLS = APT_GET + 'if [[ "$*" == *" chromium" ]]; then cp "$(dirname "$0")/make" "$(dirname "$0")/chromium"; fi\n'
ROOT = "#!/bin/bash\necho 0\n"


@pytest.fixture
def run_ci(tmp_path):
    """Run a copy of .ci/run where make, apt-get and id only note what they are called with; returns (calls, finished process)."""
    (tmp_path / ".ci").mkdir()
    shutil.copy(REPOSITORY_DIR / ".ci" / "run", tmp_path / ".ci")
    programs, calls = tmp_path / "bin", tmp_path / "calls.txt"
    programs.mkdir()
    for name in NEEDED:
        (programs / name).symlink_to(shutil.which(name))

    def run(**scripts):
        for name, text in {"make": MAKE, "id": ROOT, **scripts}.items():
            program = programs / name.replace("_", "-")
            program.write_text(text)
            program.chmod(0o755)
        environment = {**os.environ, "PATH": str(programs), "CALLS": str(calls)}
        done = subprocess.run(
            [tmp_path / ".ci" / "run"], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
        return calls.read_text().splitlines(), done

    return run


def test_chromium_is_installed_where_it_is_missing(run_ci):
    calls, done = run_ci(apt_get=INSTALLS)
    assert done.returncode == 0, done.stderr
    assert [call.split()[-1] for call in calls if call.startswith("apt-get")] == ["-qq", "chromium"]
    assert [call for call in calls if call.startswith("make")] == [
        "make test",
        "make test-browser",
        "make test-cluster",
    ]


def test_chromium_that_is_there_is_used(run_ci):
    calls, done = run_ci(apt_get=INSTALLS, google_chrome=MAKE)
    assert done.returncode == 0 and calls == ["make test", "make test-browser", "make test-cluster"]


def test_without_chromium_the_rest_is_tested_and_that_is_said(run_ci):
    calls, done = run_ci(apt_get=APT_GET)
    assert done.returncode == 0 and "no Chromium" in done.stderr
    assert [call for call in calls if call.startswith("make")] == ["make test", "make test-cluster"]
