"""Small real inputs that several tests share: the sample's people, written once per test session."""

import importlib
import os

import pytest

from deepfake.model.efficientnet import quiet_libraries

quiet_libraries()
os.environ.pop("DEEPFAKE_DATA_DIR", None)  # a user's own data must never be touched by a test


@pytest.fixture
def without_gpu(monkeypatch):
    """Score faces as on a machine without a GPU."""
    monkeypatch.setattr(importlib.import_module("deepfake.model.scorer"), "has_gpu", lambda: False)


@pytest.fixture(scope="session")
def sample_dir(tmp_path_factory):
    """Folder of 4 actors (8 clips), one clip without a face, and metadata.json. Treat it as read-only: copy what you change."""
    folder = tmp_path_factory.mktemp("sample") / "videos"
    sample = importlib.import_module("tools.make_sample_videos")
    assert sample.main(["--out", str(folder), "--actors", "4", "--seed", "11"]) == 0
    return folder
