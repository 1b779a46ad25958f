"""Self-blended faces: a real face blended with a slightly changed copy of itself, which leaves the traces of a face swap.

From these, a scorer learns on real faces alone (Shiohara & Yamasaki, "Detecting Deepfakes with Self-Blended Images", CVPR 2022).
Different from the paper: regions are ellipses, as five landmarks allow, not hulls of 81 points; colour, sharpness or both change
once; the target moves by less than a pixel, so that it is interpolated like the source; the mask does not move with the source.

Pictures are uint8 RGB (size, size, 3). Landmarks (5, 2) are (x, y) in pixels of the picture, in the order of LANDMARK_NAMES.
The same `rng` gives the same picture.
"""

import cv2
import numpy as np

from deepfake.augmentation import corruptions

REGIONS = {"face": 0.45, "inner": 0.4, "mouth": 0.15}  # what is replaced, and how often
MASK_WEIGHTS = (0.25, 0.5, 0.75, 1.0, 1.0, 1.0)  # 3.2 of the paper
MAX_SHIFT_X, MAX_SHIFT_Y = 0.03, 0.015  # of the width and of the height, either way; 3.1 of the paper
SCALE = (0.95, 1.05)
RGB_SHIFT = 30  # grey levels
HUE_SHIFT_DEG, SATURATION_CHANGE, VALUE_CHANGE = 12, 0.4, 0.2
BRIGHTNESS, CONTRAST = 0.1, 0.2  # of the range and of the spread
SHARPENING, SHARPENING_SIGMA_PX = (0.2, 0.8), (0.8, 2.0)
DOWNSCALE = (1.5, 4.0)
LEAST_ALONG = 0.1  # of the picture's size, from eyes to mouth: about 0.28 in a crop, less is a mistake of the detector
MASK_NODES = 5  # per side, of the field that deforms the mask
MASK_DEFORMATION = 0.035  # of the picture's size, standard deviation at a node
FACE_NODES, FACE_DEFORMATION = 4, 0.02  # the same, of the field that reshapes a face
FIRST_BLUR, SECOND_BLUR = (0.005, 0.03), (0.005, 0.1)  # of the picture's size
SMALLEST_DIFFERENCE = 0.4  # grey levels, mean over the picture: less cannot be seen, as of half of the mouths
MOST_DRAWS = 5  # until the difference can be seen


def to_levels(pixels):
    """Return float pixels rounded to uint8 grey levels."""
    return np.clip(pixels + 0.5, 0, 255).astype(np.uint8)


def change_colour(face_rgb, rng):
    """Shift red, green and blue; or hue, saturation and value; or brightness and contrast."""
    pixels = face_rgb.astype(np.float32)
    choice = rng.integers(3)
    if choice == 0:
        pixels += rng.uniform(-RGB_SHIFT, RGB_SHIFT, 3).astype(np.float32)
    elif choice == 1:
        hsv = cv2.cvtColor(pixels / 255, cv2.COLOR_RGB2HSV)
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(-HUE_SHIFT_DEG, HUE_SHIFT_DEG)) % 360
        hsv[..., 1] = np.clip(hsv[..., 1] * (1 + rng.uniform(-SATURATION_CHANGE, SATURATION_CHANGE)), 0, 1)
        hsv[..., 2] = np.clip(hsv[..., 2] * (1 + rng.uniform(-VALUE_CHANGE, VALUE_CHANGE)), 0, 1)
        pixels = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255
    else:
        mean = pixels.mean()
        pixels = (pixels - mean) * (1 + rng.uniform(-CONTRAST, CONTRAST)) + mean
        pixels += 255 * rng.uniform(-BRIGHTNESS, BRIGHTNESS)
    return to_levels(pixels)


def change_sharpness(face_rgb, rng):
    """Sharpen the picture, or shrink it and enlarge it again."""
    if rng.random() < 0.5:
        blurred = corruptions.defocus(face_rgb, rng.uniform(*SHARPENING_SIGMA_PX))
        amount = rng.uniform(*SHARPENING)
        return cv2.addWeighted(face_rgb, 1 + amount, blurred, -amount, 0)
    return corruptions.shrink(face_rgb, 1 / rng.uniform(*DOWNSCALE), cubic=bool(rng.integers(2)))


def change_look(face_rgb, rng):
    """Change colour, sharpness, or both."""
    choice = rng.integers(3)
    if choice != 1:
        face_rgb = change_colour(face_rgb, rng)
    if choice != 0:
        face_rgb = change_sharpness(face_rgb, rng)
    return face_rgb


def move(face_rgb, scale, shift_px):
    """Scale the picture around its centre and shift it by (x, y); the border is mirrored."""
    size = face_rgb.shape[0]
    matrix = np.array([[scale, 0, shift_px[0]], [0, scale, shift_px[1]]], np.float32)
    matrix[:, 2] += (1 - scale) * (size - 1) / 2
    return cv2.warpAffine(face_rgb, matrix, (size, size), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def lay_over(face, face_landmarks, landmarks, size_wh):
    """Return another picture `size_wh` of the face, moved by an affine map so that its landmarks come to lie on `landmarks`."""
    fit = np.linalg.lstsq(np.c_[face_landmarks, np.ones(5)], landmarks, rcond=None)[0].T
    return cv2.warpAffine(face, fit, size_wh, flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)


def region_mask(landmarks, size, region):
    """Return a float32 mask (size, size): 1 in an ellipse over the whole "face", the "inner" face or the "mouth", else 0."""
    left_eye, right_eye, _, mouth_left, mouth_right = np.asarray(landmarks, np.float64)
    eyes, mouth = (left_eye + right_eye) / 2, (mouth_left + mouth_right) / 2
    down = mouth - eyes
    along = max(float(np.hypot(*down)), LEAST_ALONG * size)  # from the eyes to the mouth
    across = max(float(np.hypot(*(right_eye - left_eye))), 0.6 * along)  # in profile the eyes are close together
    centre, axes = {
        "face": (eyes + 0.45 * down, (1.05 * across, 1.45 * along)),
        "inner": (eyes + 0.5 * down, (0.8 * across, 0.95 * along)),
        "mouth": (mouth + 0.05 * down, (0.6 * across, 0.45 * along)),
    }[region]
    angle_deg = float(np.degrees(np.arctan2(down[1], down[0]))) - 90
    mask = np.zeros((size, size), np.float32)
    cv2.ellipse(mask, [round(x) for x in centre], [max(2, round(x)) for x in axes], angle_deg, 0, 360, 1.0, cv2.FILLED)
    return mask


def smooth_field(size, nodes, deviation, rng):
    """Return float32 (size, size, 2): where each pixel (x, y) is taken from, moved by a smooth random field."""
    moves = rng.normal(0, deviation * size, (nodes, nodes, 2)).astype(np.float32)
    places = np.stack(np.meshgrid(np.arange(size, dtype=np.float32), np.arange(size, dtype=np.float32)), axis=2)
    return places + cv2.resize(moves, (size, size), interpolation=cv2.INTER_CUBIC)


def deform(mask, rng):
    """Bend the mask with a smooth random field."""
    return cv2.remap(mask, smooth_field(mask.shape[0], MASK_NODES, MASK_DEFORMATION, rng), None, cv2.INTER_LINEAR)


def reshape_face(face_rgb, landmarks, rng):
    """Return (face, landmarks) bent by a smooth random field into a person who does not exist.

    A scorer learns a few hundred faces by heart and then finds blends by comparing. Faces that change each time cannot be learnt.
    """
    size = face_rgb.shape[0]
    sources = smooth_field(size, FACE_NODES, FACE_DEFORMATION, rng)
    bent = cv2.remap(face_rgb, sources, None, cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
    moved = np.array(landmarks, np.float64)
    for _ in range(3):  # the field says where a pixel comes from; where a landmark goes is approached in steps
        at = np.clip(np.rint(moved), 0, size - 1).astype(int)
        moved += np.asarray(landmarks) - sources[at[:, 1], at[:, 0]] - (moved - at)
    return bent, moved


def soften(mask, rng):
    """Shrink the mask a little and blur its edge, narrowly or widely; its highest value stays 1."""
    size = mask.shape[0]
    inside = cv2.GaussianBlur(mask, (0, 0), rng.uniform(*FIRST_BLUR) * size) > 0.95
    mask = cv2.GaussianBlur(inside.astype(np.float32), (0, 0), rng.uniform(*SECOND_BLUR) * size)
    return mask / max(float(mask.max()), 1e-6)


def blend_once(face_rgb, landmarks, rng):
    """Return (target, blend, mask) of one random choice of everything."""
    source = move(face_rgb, rng.uniform(*SCALE), len(face_rgb) * rng.uniform(-1, 1, 2) * (MAX_SHIFT_X, MAX_SHIFT_Y))
    target = move(face_rgb, 1, rng.uniform(-0.5, 0.5, 2))  # else fakes alone would be softened by interpolation
    if rng.random() < 0.5:
        source = change_look(source, rng)
    else:
        target = change_look(target, rng)
    region = rng.choice(list(REGIONS), p=list(REGIONS.values()))
    mask = soften(deform(region_mask(landmarks, face_rgb.shape[0], region), rng), rng)
    mask *= np.float32(rng.choice(MASK_WEIGHTS))
    mixed = target + mask[..., None] * (source.astype(np.float32) - target)
    return target, to_levels(mixed), mask


def self_blend(face_rgb, landmarks, rng):
    """Return (real, fake, mask): the face as it entered the blend, the blend, and the float32 mask (size, size) in 0..1.

    `face_rgb`: uint8 RGB (size, size, 3); `landmarks`: (5, 2). Where the mask is 0, real and fake are identical; with landmarks
    outside the picture, everywhere.
    """
    best, largest = None, -1.0
    for _ in range(MOST_DRAWS):
        found = blend_once(face_rgb, landmarks, rng)
        difference = float(np.abs(found[1].astype(np.int16) - found[0]).mean())
        if difference > largest:
            best, largest = found, difference
        if difference >= SMALLEST_DIFFERENCE:
            break
    return best
