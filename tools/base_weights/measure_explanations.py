"""Measure whether the maps of 03b find what was altered: blends in one half of faces that the weights never saw.

Reads   split_dataset/ (the real faces of a part) and weights with their .json   (02_prepare_dataset.py, 03_train_cnn.py)
Writes  nothing; prints a table
Rerun   measures again, the same for the same seed

Each face is blended with itself in its left or its right half, at random; the middle is the line from between the eyes to between
the corners of the mouth. A map is right if its mean is higher in the altered half: by chance, half of the maps are. Intervals are
over the faces, each of which is blended --draws times. Choose a way on --split val, report it on --split test.
"""

import sys
from pathlib import Path

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from common import cli
from common.constants import REAL, THRESHOLD
from deepfake.augmentation import self_blending
from deepfake.evaluation import intervals
from deepfake.evaluation.calibration import calibrate, read_parameters
from deepfake.model import grad_cam
from tools.base_weights import evaluate

WAYS = {  # (layer, whether the gradient is averaged)
    "last layer": (grad_cam.LAST_LAYER, False),  # HiResCAM and Grad-CAM are the same there
    "finer layer, HiResCAM": (grad_cam.FINER_LAYER, False),
    "finer layer, Grad-CAM": (grad_cam.FINER_LAYER, True),
}
SEAM = 0.02  # of the picture's size: how softly the blend ends at the middle of the face
BATCH = 32


def right_of_middle_px(landmarks, size):
    """Return float (size, size): how many px each pixel is right of the middle of the face, negative on the left."""
    left_eye, right_eye, _, mouth_left, mouth_right = np.asarray(landmarks, float)
    eyes, down = (left_eye + right_eye) / 2, (mouth_left + mouth_right - left_eye - right_eye) / 2
    rows, columns = np.mgrid[:size, :size]
    return ((columns - eyes[0]) * down[1] - (rows - eyes[1]) * down[0]) / max(np.hypot(*down), 1e-6)


def plant(face_rgb, landmarks, rng):
    """Return (face with a blend in one half, pixels of that half as bool (size, size)); tried again until it can be seen."""
    size = len(face_rgb)
    inside_px = right_of_middle_px(landmarks, size) * rng.choice((-1, 1))
    share = 1 / (1 + np.exp(np.clip(-inside_px / (SEAM * size), -50, 50)))[..., None]
    for _ in range(20):
        real, fake, _ = self_blending.self_blend(face_rgb, landmarks, rng)
        planted = (real + share * (fake.astype(float) - real) + 0.5).astype(np.uint8)
        if np.abs(planted.astype(int) - real).mean() >= self_blending.SMALLEST_DIFFERENCE:
            break
    return planted, inside_px > 0


def finds_half(heat, inside):
    """Tell whether the mean of a map (rows, columns) is higher inside the altered half (size, size) than outside."""
    heat = cv2.resize(heat.astype(np.float32), inside.shape[::-1], interpolation=cv2.INTER_LINEAR)
    return bool(heat[inside].mean() > heat[~inside].mean())


def measure(explainer, faces_rgb, insides):
    """Return (whether each map finds its half (n,), the model's own scores (n,))."""
    found, scores = [], []
    for start in range(0, len(faces_rgb), BATCH):
        heats, some = explainer(faces_rgb[start : start + BATCH])
        found += [finds_half(heat, inside) for heat, inside in zip(heats, insides[start : start + BATCH], strict=True)]
        scores.append(some)
    return np.array(found), np.concatenate(scores)


def rate(found, faces, seed):
    """Return as text the share of maps that find their half and its 95 % interval over faces."""
    entry = intervals.describe(np.full(len(found), REAL), found, faces, seed, names=("accuracy",)).get("accuracy")
    if not entry:
        return "none"
    low_high = "{:.3f} to {:.3f}".format(*entry["interval"]) if entry["interval"] else entry["method"]
    return f"{entry['value']:.3f} ({low_high})"


@cli.stops_in_words
def main(argv=None):
    parser = cli.make_parser(__doc__)
    evaluate.add_options(parser)
    args = parser.parse_args(argv)
    _, model, record, rows, part = evaluate.real_faces(args)
    calibration, faces = read_parameters(record, "faces"), np.tile(np.arange(len(rows)), args.draws)
    planted = [
        plant(part.faces_rgb[face], part.landmarks[face], np.random.default_rng((args.seed, number)))
        for number, face in enumerate(faces)
    ]
    faces_rgb, insides = np.stack([picture for picture, _ in planted]), [inside for _, inside in planted]
    blends = f"{len(rows)} faces, {args.draws} blends each, in one half"
    print(f"{blends}; share of maps that are stronger in that half, 95 % interval")
    print(f"{'way':26}{'all':26}{'those called FAKE':26}")
    for name, (layer, average) in WAYS.items():
        found, scores = measure(grad_cam.build_explainer(model, layer, average), faces_rgb, insides)
        fake = calibrate(scores, calibration) < THRESHOLD
        of_all, of_fakes = (rate(found[kept], faces[kept], args.seed) for kept in (np.full(len(found), True), fake))
        print(f"{name:26}{of_all:26}{of_fakes:26}{fake.sum()}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
