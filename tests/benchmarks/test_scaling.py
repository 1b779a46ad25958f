"""The plan in docs/cluster.md: its arithmetic by another way, and that the document holds what the program computes."""

import json

import pytest
import scaling

from common.paths import REPOSITORY_DIR
from deepfake.parallel.loop import share_of

DOCUMENT = REPOSITORY_DIR / "docs" / "cluster.md"
ROUND = {
    "frames_core_s_per_video": 0.5,
    "faces_core_s_per_frame": 0.1,
    "scores_core_s_per_face": 0.01,
    "verdicts_s": 10,
    "verdicts_core_s_per_face": 1e-5,
    "verdicts_core_s_per_video": 1e-4,
    "start_s": 5,
    "scores_start_s": 7,
    "frames_per_video": 10,
    "faces_per_video": 20,
    "video_spread": 0.5,
    "video_bytes": 1e6,
    "frame_bytes": 1e5,
    "face_bytes": 1e4,
    "record_bytes": 1e3,
    "prediction_bytes": 100,
    "cores_per_node": 10,
    "cores_per_task": 5,
    "storage_bytes_per_s": 1e9,
    "storage_files_per_s": 1e4,
}


def walls(videos, nodes, **changed):
    figures = ROUND | changed
    return {step.name: step.wall_s(figures) for step in scaling.steps_of(videos, nodes, figures)}


def test_times_by_hand():
    assert walls(100_000, 2) == pytest.approx(
        {
            "00": 5 + 100_000 * 0.5 / 20,
            "01a": 5 + 100_000 * 10 * 0.1 / 20,
            "03a": 7 + 100_000 * 20 * 0.01 / 10,
            "04": 10 + 100_000 * (20 * 1e-5 + 1e-4) / 10,
        }
    )
    many = walls(100_000, 1000)
    assert many["00"] == 100_000 * (1e6 + 10 * 1e5) / 1e9, "the bytes"
    assert many["01a"] == 100_000 * (2 + 10 + 20) / 1e4, "the files"
    assert walls(100, 1000)["00"] == 5 + 100 * 0.5 / 100, "no more nodes than there is work for"


def test_storage_by_hand():
    parts = scaling.storage_of(1000, ROUND)
    assert {name: size for name, (size, _) in parts.items()} == {
        "videos": 1e9,
        "frames": 1e9,
        "faces": 2e8,
        "records": 1e6,
        "predictions": 2e6,
    }
    assert sum(files for _, files in parts.values()) == 1000 * (1 + 10 + 20 + 2) + 1
    assert scaling.storage_of(1000, ROUND | {"kept_frames": 0})["frames"] == (0, 0)


@pytest.mark.parametrize(("videos", "nodes"), [(1000, 1), (115_000, 50), (10_000_000, 50)])
def test_the_simulation_takes_a_little_longer_than_the_arithmetic(videos, nodes):
    computing_s = 5 + videos * 0.5 / (nodes * 10)
    assert computing_s <= scaling.simulate_s(videos, nodes, 0.5, ROUND) < 1.25 * computing_s


def test_the_simulation_deals_out_as_the_scripts_do():
    sizes = [(7 * place) % 50 for place in range(200)]
    expected = [share_of(range(200), sizes, (number, 9)) for number in range(1, 10)]
    assert scaling.share_numbers(sizes, 9) == expected


def test_workers_take_the_next_item_when_they_are_free():
    assert scaling.last_worker_s([4, 1, 1, 3], 2) == 5
    assert scaling.last_worker_s([4, 1, 1, 3], 1) == 9


def test_units():
    assert [scaling.hours(seconds) for seconds in (0.4, 119, 120, 7200, 86400 * 3)] == [
        "0 s",
        "119 s",
        "2.0 min",
        "2.0 h",
        "3.0 d",
    ]
    assert [scaling.volume(size) for size in (5e5, 2e9, 3e12)] == ["0.5 MB", "2.0 GB", "3.0 TB"]


def test_the_document_holds_the_tables_of_its_figures(tmp_path):
    copy = tmp_path / "cluster.md"
    copy.write_text(DOCUMENT.read_text(encoding="utf-8"), encoding="utf-8")
    assert scaling.main(["--write", str(copy)]) == 0
    assert copy.read_text(encoding="utf-8") == DOCUMENT.read_text(encoding="utf-8")
    copy.write_text("no tables")
    assert scaling.main(["--write", str(copy)]) == 2


def test_every_figure_says_where_it_comes_from():
    figures = json.loads(scaling.FIGURES.read_text(encoding="utf-8"))
    assert set(figures) == set(ROUND) and all(value > 0 and len(source) > 5 for value, source in figures.values())
