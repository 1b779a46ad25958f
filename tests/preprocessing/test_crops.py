"""deepfake/preprocessing/crops.py: from a face file to the pixels that the network gets."""

import importlib
import os

import cv2
import numpy as np
import pytest

from common.errors import InputError, OutputError
from deepfake.preprocessing import crops
from deepfake.preprocessing.crops import fits_in_memory, load_faces, new_faces, read_image, to_square
from tests.datasets import face_bgr, write_picture

RED_BGR = (0, 0, 255)


def test_read_image_gives_the_picture_as_written(tmp_path):
    picture = face_bgr(1, 5)
    write_picture(tmp_path / "face.png", picture)
    assert np.array_equal(read_image(tmp_path / "face.png"), picture)


@pytest.mark.parametrize("name", ["Łódź ☃ 人.png", "two  spaces.png", "-dash.png", "percent%03d.png", "new\nline.png"])
def test_read_image_opens_any_name(tmp_path, name):
    write_picture(tmp_path / name, face_bgr(1, 5))
    assert read_image(tmp_path / name).shape == (40, 36, 3)


def test_read_image_gives_none_for_what_is_no_picture(tmp_path):
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("not a picture")
    write_picture(tmp_path / "whole.png", face_bgr(1, 5))
    (tmp_path / "header.png").write_bytes((tmp_path / "whole.png").read_bytes()[:20])
    for name in ("empty.png", "text.png", "header.png", "missing.png", ".", "nul\0.png"):
        assert read_image(tmp_path / name) is None, name


def test_read_image_gives_three_channels_for_grey_and_transparent(tmp_path):
    write_picture(tmp_path / "grey.png", np.full((9, 8), 77, np.uint8))
    write_picture(tmp_path / "alpha.png", np.full((9, 8, 4), 77, np.uint8))
    for name in ("grey.png", "alpha.png"):
        picture = read_image(tmp_path / name)
        assert picture.shape == (9, 8, 3) and picture.dtype == np.uint8


@pytest.mark.parametrize("height, width", [(50, 40), (20, 30), (90, 10), (1, 1)])
def test_to_square_keeps_red_red(height, width):
    square = to_square(np.full((height, width, 3), RED_BGR, np.uint8), 32)
    assert square.shape == (32, 32, 3) and square.dtype == np.uint8
    assert (square == (255, 0, 0)).all()


def test_to_square_averages_when_it_shrinks():
    """Without it, a fine pattern turns into a coarse one that is not in the face."""
    stripes = np.zeros((128, 128, 3), np.uint8)
    stripes[:, ::4] = 255  # bilinear interpolation looks between columns 1 and 2 and sees nothing
    assert abs(to_square(stripes, 32).astype(int) - 64).max() <= 1


def test_load_faces_in_order_with_the_unreadable_named(tmp_path):
    paths = []
    for number in range(20):
        paths.append(tmp_path / f"{number}.png")
        write_picture(paths[-1], np.full((40, 30, 3), (0, 0, 10 * number + 5), np.uint8))
    paths[7].write_bytes(b"broken")
    faces_rgb, unreadable = load_faces(paths, 32)
    assert unreadable == [paths[7]]
    assert faces_rgb.dtype == np.uint8 and faces_rgb.shape == (20, 32, 32, 3)
    assert not faces_rgb[7].any()
    for number in set(range(20)) - {7}:
        assert (faces_rgb[number] == (10 * number + 5, 0, 0)).all()


def test_load_faces_tells_how_large_each_face_is_in_its_file(tmp_path):
    sizes = [(30, 40), (64, 20), (9, 90)]
    paths = [tmp_path / f"{number}.png" for number in range(4)]
    for path, (width, height) in zip(paths, sizes, strict=False):
        write_picture(path, np.zeros((height, width, 3), np.uint8))
    sides_px = np.ones((4, 2))
    _, unreadable = load_faces(paths, 32, sides_px=sides_px)
    assert sides_px.tolist() == [[30, 40], [64, 20], [9, 90], [1, 1]] and unreadable == paths[3:]


def test_faces_too_large_for_memory_lie_in_a_file_without_a_name(tmp_path, monkeypatch):
    write_picture(tmp_path / "face.png", face_bgr(1, 5))
    (tmp_path / "scratch").mkdir()
    expected, _ = load_faces([tmp_path / "face.png"] * 3, 32, tmp_path / "scratch")
    assert not isinstance(expected, np.memmap)
    monkeypatch.setattr(crops, "fits_in_memory", lambda size_bytes: False)
    faces_rgb, _ = load_faces([tmp_path / "face.png"] * 3, 32, tmp_path / "scratch")
    assert isinstance(faces_rgb, np.memmap)
    assert np.array_equal(faces_rgb, expected)
    assert os.listdir(tmp_path / "scratch") == []  # also after a kill


def test_a_file_that_the_disk_cannot_hold_is_an_error_in_words(tmp_path, monkeypatch):
    monkeypatch.setattr(crops, "fits_in_memory", lambda size_bytes: False)
    with pytest.raises((InputError, OutputError), match="cannot write"):
        new_faces(2**24, 2048, tmp_path)  # 211 TB


def test_half_of_the_free_memory_is_the_limit():
    free_bytes = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert fits_in_memory(free_bytes // 4)
    assert not fits_in_memory(free_bytes)


def test_training_and_prediction_prepare_a_face_with_the_same_functions():
    batches, scoring = (importlib.import_module(f"deepfake.{name}") for name in ("model.batches", "evaluation.scoring"))
    assert batches.crops is scoring.crops and batches.crops.load_faces is load_faces


def test_augmented_channels_stay_in_rgb_order():
    """The JPEG step swaps the order for OpenCV and back: a red face stays red."""
    augment = importlib.import_module("deepfake.augmentation.augment")
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 200
    changed = augment.STEPS["jpeg"](red, np.random.default_rng(0))
    assert changed[..., 0].mean() > 150 and changed[..., 2].mean() < 30
    assert cv2.cvtColor(changed, cv2.COLOR_RGB2HSV)[..., 0].mean() < 10
