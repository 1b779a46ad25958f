"""Random views of a face for training, as videos may show it. All functions take and return uint8 RGB (h, w, 3)."""

import cv2
import numpy as np

from deepfake.augmentation import corruptions

MAX_ROTATION_DEG = 10
ZOOM = (0.9, 1.15)
BRIGHTNESS = 30  # grey levels, either way
CONTRAST = (0.75, 1.3)
SATURATION = (0.6, 1.4)
GREY_OF_RGB = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
JPEG_QUALITY = (30, 95)
SMALLEST_SCALE = 0.35  # a face is shrunk to, and enlarged again
BLUR_SIGMA_PX = (0.4, 1.6)
NOISE_SIGMA = (1.0, 8.0)  # grey levels
LIGHT = (0.15, 0.7)  # share of the light that is left
DARK_NOISE_SIGMA = (1.0, 6.0)  # grey levels, before the camera brightens the picture again
REBRIGHTENED = (0.0, 0.7)  # exponent: 0 leaves the picture dark, 1 would give all the light back
MOTION_SHARE = (0.02, 0.08)  # of the width: how far the face moves while the shutter is open
CRF = (22, 42)  # x264's quality; 23 is its default, phones and platforms are between 18 and 40
CHANCES = {"flip": 0.5, "rotate_zoom": 0.5, "colour": 0.5, "low_light": 0.15, "motion_blur": 0.1}
CHANCES |= {"downscale": 0.25, "blur": 0.1, "noise": 0.15, "video": 0.2, "jpeg": 0.25}


def rotate_zoom(face_rgb, rng):
    """Rotate and zoom a little around the centre; the border is mirrored."""
    height, width = face_rgb.shape[:2]
    angle, zoom = rng.uniform(-MAX_ROTATION_DEG, MAX_ROTATION_DEG), rng.uniform(*ZOOM)
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
    with_alpha = cv2.cvtColor(face_rgb, cv2.COLOR_RGB2RGBA)  # OpenCV rotates four channels twice as fast as three
    turned = cv2.warpAffine(with_alpha, matrix, (width, height), borderMode=cv2.BORDER_REFLECT_101)
    return cv2.cvtColor(turned, cv2.COLOR_RGBA2RGB)


def colour(face_rgb, rng):
    """Change brightness, contrast and saturation."""
    contrast, brightness = rng.uniform(*CONTRAST), rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    saturation = rng.uniform(*SATURATION)
    mixing = contrast * (saturation * np.eye(3) + (1 - saturation) * GREY_OF_RGB)
    shift = np.full((3, 1), 127.5 * (1 - contrast) + brightness)
    return cv2.transform(face_rgb, np.hstack([mixing, shift]))


def low_light(face_rgb, rng):
    """Take most of the light away, add the sensor's noise, and brighten the picture again, in part or not at all."""
    light, sigma = rng.uniform(*LIGHT), rng.uniform(*DARK_NOISE_SIGMA)
    return corruptions.darken(face_rgb, light, sigma, light ** -rng.uniform(*REBRIGHTENED), rng)


def motion_blur(face_rgb, rng):
    """Blur along a random line."""
    return corruptions.smear(face_rgb, rng.uniform(*MOTION_SHARE) * face_rgb.shape[1], rng.uniform(0, np.pi))


STEPS = {  # in their order; corruptions.py says what most of them do
    "flip": lambda face, rng: cv2.flip(face, 1),
    "rotate_zoom": rotate_zoom,
    "colour": colour,
    "low_light": low_light,
    "motion_blur": motion_blur,
    "downscale": lambda face, rng: corruptions.shrink(face, rng.uniform(SMALLEST_SCALE, 1.0), bool(rng.integers(2))),
    "blur": lambda face, rng: corruptions.defocus(face, rng.uniform(*BLUR_SIGMA_PX)),
    "noise": lambda face, rng: corruptions.add_noise(face, rng.uniform(*NOISE_SIGMA), rng),
    "video": lambda face, rng: corruptions.compress_h264(face, int(rng.integers(*CRF, endpoint=True))),
    "jpeg": lambda face, rng: corruptions.compress_jpeg(face, int(rng.integers(*JPEG_QUALITY, endpoint=True))),
}


def augment(face_rgb, rng):
    """Return a changed copy of a uint8 RGB face (h, w, 3): each of STEPS happens with its chance, in their order."""
    changed = face_rgb
    for name, step in STEPS.items():
        if rng.random() < CHANCES[name]:
            changed = step(changed, rng)
    return face_rgb.copy() if changed is face_rgb else changed
