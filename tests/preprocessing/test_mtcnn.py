"""MTCNN in ONNX Runtime gives the boxes that the mtcnn package gives."""

import importlib

import numpy as np
import pytest

from common.errors import InputError
from deepfake.preprocessing.mtcnn import MIN_SIDE_PX, as_squares, build_detector, find_faces, package_weights, suppress


def box(x, y, side, confidence):
    return [x, y, x + side, y + side, confidence]


def test_of_two_overlapping_boxes_the_more_confident_stays():
    rows = np.array([box(0, 0, 10, 0.7), box(1, 0, 10, 0.9), box(50, 50, 10, 0.8)], float)
    assert suppress(rows, 0.5)[:, 4].tolist() == [0.9, 0.8]
    assert suppress(rows, 0.9)[:, 4].tolist() == [0.9, 0.8, 0.7], "an overlap of 9/11 is no more than 0.9"
    assert suppress(np.empty((0, 5)), 0.5).shape == (0, 5)


def test_a_box_inside_another_goes_by_the_smaller_area_only():
    rows = np.array([box(0, 0, 40, 0.9), box(10, 10, 10, 0.8)], float)
    assert len(suppress(rows, 0.7)) == 2 and len(suppress(rows, 0.7, of_smaller=True)) == 1


def test_squares_keep_their_centre():
    square = as_squares(np.array([[10.0, 20, 30, 80, 0.9]]))[0]
    assert square.tolist() == [-10, 20, 50, 80, 0.9]


def test_weights_that_are_missing_are_named(monkeypatch, tmp_path):
    class Package:
        submodule_search_locations = [str(tmp_path)]

    monkeypatch.setattr("importlib.util.find_spec", lambda name: Package)
    with pytest.raises(InputError, match="weights pnet.lz4 of mtcnn are missing"):
        package_weights("pnet")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="weights pnet.lz4 of mtcnn are missing"):
        package_weights("pnet")


def test_a_picture_without_room_for_a_face_has_none():
    assert find_faces({}, np.zeros((MIN_SIDE_PX - 1, 400, 3), np.uint8)).shape == (0, 15)


@pytest.fixture(scope="module")
def pictures_rgb(sample_dir):
    """Frames of the sample, some with two people, one rotated so that nobody is found, in three sizes."""
    import cv2

    read_video = importlib.import_module("00_convert_video_to_image").read_video
    frames = []
    for name in sorted(path for path in sample_dir.iterdir() if path.suffix == ".mp4")[::2]:
        frames += [np.ascontiguousarray(frame[..., ::-1]) for frame in read_video(name, 1, 960)[0]]
    frames.append(np.rot90(frames[0]).copy())
    frames.append(cv2.resize(frames[1], None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA))
    frames.append(cv2.resize(frames[2], (1001, 563)))
    return frames


@pytest.mark.slow
def test_boxes_landmarks_and_confidences_are_those_of_the_package(pictures_rgb):
    from mtcnn import MTCNN

    package, detector = MTCNN(), build_detector(1)
    faces = 0
    for picture_rgb in pictures_rgb:
        expected = np.array(package.detect_faces([picture_rgb], box_format="xyxy", output_type="numpy"), float)
        expected = expected.reshape(-1, 16)[:, 1:]
        found = find_faces(detector, picture_rgb)
        assert found.shape == expected.shape
        order, same_order = np.argsort(found[:, 0]), np.argsort(expected[:, 0])
        assert np.allclose(found[order][:, 4], expected[same_order][:, 4], atol=1e-4)
        assert np.allclose(found[order], expected[same_order], atol=0.01)
        faces += len(found)
    assert faces > len(pictures_rgb) // 2
