"""Whether a face can be judged: its brightness, its sharpness, and why it is left out if they are too low."""

import cv2

from common.constants import MARGIN, MIN_CONFIDENCE

NO_FACE = f"no face of confidence >= {MIN_CONFIDENCE}"  # how the reason of a video without a face begins
NO_USABLE_FACE = "no usable face"  # where nothing more is known
NO_FRAMES, NO_FACES = "was not processed", "its faces were not looked for"
FACES_UNREADABLE = "its faces are not readable"
# A face cannot be judged where the base weights hardly tell it from its blend. The figures are ROC AUC of 106 held-out portraits,
# two pairs each, both halves corrupted alike (tools/base_weights/evaluate.py --limits; +-0.05). Clean portraits: 0.96. Face 48 px
# wide: 0.93, 40: 0.92, 32: 0.86, 24: 0.81, 16: 0.72.
MIN_FACE_PX = 40
# Mean luma of the face, 0 to 255. 17: 0.85 to 0.86, 13: 0.82 to 0.84, 8.8: 0.74 to 0.80, 5.9: 0.60 to 0.70.
# Clean portraits have 70 to 190.
DARKEST_FACE = 9.0
# Variance of the Laplacian (`measure` below). 66 and more: 0.90 to 0.95, 19 to 57: 0.72 to 0.86, 7 to 10: 0.68 to 0.71, 4:
# 0.65. Blurred by 3 px of 128: 0.71, 4: 0.68, 6: 0.65. All 1,061 clean portraits have over 55: smooth skin is far from it.
SOFTEST_FACE = 7.0
SHARPNESS_SIDE_PX = 128
TOO_SMALL = f"faces too small (under {MIN_FACE_PX} px)"
TOO_DARK, TOO_BLURRED = "faces too dark", "faces too blurred"
TOO_FEW_FRAMES = "usable faces in too few frames"
MARGIN_SHARE = MARGIN / (1 + 2 * MARGIN)  # of a crop's side: the part round the face that says nothing about it
MID_GREY = 128.0


def measure(crop_bgr):
    """Return (brightness, sharpness) of the face in a uint8 BGR crop (h, w, 3), without its margin.

    brightness: mean luma, 0 to 255. sharpness: variance of the Laplacian of the luma (Pech-Pacheco et al., ICPR 2000) of the crop
    at 128 px, scaled to a mean luma of 128: else a dim face would count as blurred.
    """
    luma = cv2.cvtColor(crop_bgr, cv2.COLOR_BGR2GRAY)
    interpolation = cv2.INTER_AREA if min(luma.shape) > SHARPNESS_SIDE_PX else cv2.INTER_LINEAR
    luma = cv2.resize(luma, (SHARPNESS_SIDE_PX, SHARPNESS_SIDE_PX), interpolation=interpolation)
    edge = round(MARGIN_SHARE * SHARPNESS_SIDE_PX)
    face = luma[edge:-edge, edge:-edge]
    brightness = float(face.mean())
    return brightness, float(cv2.Laplacian(face, cv2.CV_32F).var()) * (MID_GREY / max(brightness, 1)) ** 2


def why_unusable(face_px, brightness, sharpness):
    """Return why a face cannot be judged, or None. A size or measure that is not known (None) is no reason."""
    limits = (
        (face_px, MIN_FACE_PX, TOO_SMALL),
        (brightness, DARKEST_FACE, TOO_DARK),
        (sharpness, SOFTEST_FACE, TOO_BLURRED),
    )
    return next((reason for value, least, reason in limits if value is not None and value < least), None)
