"""What a record says of a training; the rest of deepfake/model/record.py is tested with the weights, in test_weights.py."""

from argparse import Namespace

import pytest

from common.constants import FAKE, REAL
from common.files import digest, write_json
from deepfake.model.record import describe_model, finished_record, record_path, training_videos


def rows_of(label, *filenames):
    """Two faces of each file."""
    return [
        {"video_id": name.replace("/", "__"), "filename": name, "label": label} for name in filenames for _ in range(2)
    ]


REALS = rows_of(REAL, "youtube/a.mp4", "b.mp4", "b.mov")


@pytest.mark.parametrize(
    "fakes, folders",
    [
        (["x.mp4"], []),
        (["part_1/x.mp4", "part_0/x.mp4", "x.mp4"], ["part_0", "part_1"]),
        (["fakes/Deepfakes/c23/x.mp4", "fakes/FaceSwap/c23/x.mp4"], ["fakes/Deepfakes", "fakes/FaceSwap"]),
        (["synthesis/x.mp4", "synthesis/y.mp4"], ["synthesis"]),
        ([f"method_{number:02}/x.mp4" for number in range(20)], [f"method_{number:02}" for number in range(12)]),
    ],
)
def test_fakes_are_named_by_their_folders_down_to_where_they_part(fakes, folders):
    found = training_videos(REALS + rows_of(FAKE, *fakes), 0.5)
    assert found == {
        "real_videos": 3,
        "fake_videos": len(fakes),
        "faces": 6 + 2 * len(fakes),
        "fake_folders": folders,
        "self_blend": 0.5,
    }


def test_where_every_fake_is_a_blend_no_fake_video_is_learnt_from():
    found = training_videos(REALS + rows_of(FAKE, "part_0/x.mp4"), 1.0)
    assert (found["fake_videos"], found["fake_folders"], found["faces"], found["real_videos"]) == (0, [], 6, 3)


@pytest.mark.parametrize("known, drawn", [({"drawn": True}, True), ({"drawn": False}, False), ({}, False)])
def test_a_record_says_whether_a_program_drew_the_clips(known, drawn):
    args, dataset = Namespace(backbone="B0", input_size=224), {"faces": "faces", "digest": "0", **known}
    assert describe_model(args, dataset, {"history": []}, {"metrics": {}})["drawn"] is drawn


@pytest.mark.parametrize("name", ["settings", "asked"])
def test_a_training_is_finished_with_the_same_settings_also_by_an_older_record(tmp_path, name):
    weights_path = tmp_path / "best_model.h5"
    weights_path.write_bytes(b"weights")
    record = {name: {"epochs": 3}, "weights_digest": digest(weights_path)}
    write_json(record_path(weights_path), record)
    assert finished_record(weights_path, {"epochs": 3}) == record
    assert finished_record(weights_path, {"epochs": 4}) is None
    weights_path.write_bytes(b"others")
    assert finished_record(weights_path, {"epochs": 3}) is None
