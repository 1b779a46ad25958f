"""Brightness, sharpness, and the limits beyond which a face is left out."""

import cv2
import numpy as np
import pytest
from skimage import data

from deepfake.augmentation.corruptions import darken, defocus, shrink
from deepfake.preprocessing.quality import (
    DARKEST_FACE,
    MIN_FACE_PX,
    SOFTEST_FACE,
    TOO_BLURRED,
    TOO_DARK,
    TOO_SMALL,
    measure,
    why_unusable,
)


@pytest.fixture(scope="module")
def portrait_rgb():
    """A real, sharp face with its 30 % margin, 176 px wide: the astronaut of scikit-image."""
    return data.astronaut()[20:196, 136:312]


def measured(face_rgb):
    return measure(np.ascontiguousarray(face_rgb[..., ::-1]))


def test_brightness_is_the_mean_luma_of_the_face_without_its_margin():
    crop = np.full((160, 160, 3), 255, np.uint8)
    crop[30:130, 30:130] = (10, 100, 200)  # BGR; the face proper, as the margin is 30 of 160
    assert measure(crop)[0] == pytest.approx(0.114 * 10 + 0.587 * 100 + 0.299 * 200, abs=1.5)


def test_measures_of_a_real_face(portrait_rgb):
    brightness, sharpness = measured(portrait_rgb)
    luma = cv2.resize(cv2.cvtColor(portrait_rgb, cv2.COLOR_RGB2GRAY), (128, 128), interpolation=cv2.INTER_AREA)
    face = luma[24:-24, 24:-24].astype(float)
    padded = np.pad(face, 1, mode="reflect")
    laplacian = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:] - 4 * face
    assert brightness == pytest.approx(face.mean()) and sharpness == pytest.approx(
        laplacian.var() * (128 / face.mean()) ** 2
    )
    assert why_unusable(100, brightness, sharpness) is None and sharpness > 10 * SOFTEST_FACE


def test_blur_is_seen_and_darkness_is_not_taken_for_it(portrait_rgb):
    rng = np.random.default_rng(0)
    blurred = [measured(defocus(portrait_rgb, sigma))[1] for sigma in (0.5, 2, 4, 12)]
    assert blurred == sorted(blurred, reverse=True) and blurred[-1] < SOFTEST_FACE < blurred[1]
    dim = measured(darken(portrait_rgb, 0.2, 0, 1, rng))
    assert dim[0] == pytest.approx(0.2 * measured(portrait_rgb)[0], rel=0.05) and dim[0] > DARKEST_FACE
    assert dim[1] == pytest.approx(measured(portrait_rgb)[1], rel=0.2)
    dark = measured(darken(portrait_rgb, 0.03, 3, 1, rng))
    assert why_unusable(100, *dark) == TOO_DARK
    assert why_unusable(100, *measured(defocus(portrait_rgb, 12))) == TOO_BLURRED
    small = measured(shrink(portrait_rgb, 48 * 1.6 / 176))
    assert why_unusable(48, *small) is None, "a small face is not a blurred one"


def test_size_of_the_crop_hardly_matters(portrait_rgb):
    full = measured(portrait_rgb)
    for side in (128, 400):
        other = measured(
            cv2.resize(portrait_rgb, (side, side), interpolation=cv2.INTER_AREA if side < 176 else cv2.INTER_CUBIC)
        )
        assert other[0] == pytest.approx(full[0], abs=1) and other[1] == pytest.approx(full[1], rel=0.5)


def test_black_and_tiny_crops_have_measures():
    assert measure(np.zeros((50, 40, 3), np.uint8)) == (0, 0)
    assert np.isfinite(measure(np.zeros((1, 1, 3), np.uint8))).all()


def test_limits():
    assert why_unusable(MIN_FACE_PX, DARKEST_FACE, SOFTEST_FACE) is None
    assert why_unusable(MIN_FACE_PX - 0.1, 0, 0) == TOO_SMALL
    assert why_unusable(MIN_FACE_PX, DARKEST_FACE - 0.1, 0) == TOO_DARK
    assert why_unusable(MIN_FACE_PX, DARKEST_FACE, SOFTEST_FACE - 0.1) == TOO_BLURRED
    assert why_unusable(None, None, None) is None, "an older file does not say"
