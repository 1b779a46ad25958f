"""What of a face can be judged: its light, its sharpness, and why it is left out if they are not enough."""

from common.constants import (
    DARKEST_FACE,
    MARGIN,
    MIN_FACE_PX,
    SHARPNESS_SIDE_PX,
    SOFTEST_FACE,
    TOO_BLURRED,
    TOO_DARK,
    TOO_SMALL,
)

MARGIN_SHARE = MARGIN / (1 + 2 * MARGIN)  # of a crop's side: the part round the face that says nothing about it
MID_GREY = 128.0


def measure(crop_bgr):
    """Return (brightness, sharpness) of the face in a uint8 BGR crop (h, w, 3), without its margin.

    brightness: mean luma, 0 to 255. sharpness: variance of the Laplacian of the luma (Pech-Pacheco et al., ICPR 2000) of the crop
    at 128 px, as if the face's mean luma were 128, so that a dim face is not taken for a blurred one.
    """
    import cv2

    luma = cv2.cvtColor(crop_bgr, cv2.COLOR_BGR2GRAY)
    interpolation = cv2.INTER_AREA if min(luma.shape) > SHARPNESS_SIDE_PX else cv2.INTER_LINEAR
    luma = cv2.resize(luma, (SHARPNESS_SIDE_PX, SHARPNESS_SIDE_PX), interpolation=interpolation)
    edge = round(MARGIN_SHARE * SHARPNESS_SIDE_PX)
    face = luma[edge:-edge, edge:-edge]
    brightness = float(face.mean())
    return brightness, float(cv2.Laplacian(face, cv2.CV_32F).var()) * (MID_GREY / max(brightness, 1)) ** 2


def why_unusable(face_px, brightness, sharpness):
    """Return why a face cannot be judged, or None; a size or measure that is not known (None) is no reason."""
    if face_px is not None and face_px < MIN_FACE_PX:
        return TOO_SMALL
    if brightness is not None and brightness < DARKEST_FACE:
        return TOO_DARK
    if sharpness is not None and sharpness < SOFTEST_FACE:
        return TOO_BLURRED
    return None
