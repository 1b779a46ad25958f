"""Numbers and names that several scripts must agree on."""

FRAMES_PER_VIDEO = 11
MAX_SIDE_PX = 960  # saved frames are shrunk to this longer side, never enlarged
MIN_CONFIDENCE = 0.95  # a face that MTCNN is less sure of is not used, also when it is the only one
MARGIN = 0.30  # of the box's width and height, added on every side of a face
SEED = 2020

CLASS_NAMES = ("fake", "real")  # the label is the index: 0 fake, 1 real
FAKE, REAL = 0, 1
THRESHOLD = 0.5  # a verdict is REAL when score = P(real) is at least this; there is no other threshold
CANNOT_JUDGE = "CANNOT JUDGE"
NO_USABLE_FACE = "no usable face"  # why, where nothing more is known
FACE_KINDS = ("faces", "marked_faces")
SELF_BLENDED_FACES = "self-blended faces"  # what a network's record says its fakes were, if there was no other
SPLITS = ("train", "val", "test")
LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")  # as seen in the picture
PERSON_MIN_FRAMES = 3  # someone seen in fewer frames is a passer-by or a false alarm

# What cannot be judged: where the base weights hardly tell a face from its blend. The figures are ROC AUC of 106 held-out
# portraits, two pairs each, both halves damaged alike (tools/measure_limits.py; +-0.05). Undamaged: 0.96.
# A face 48 px wide: 0.93, 40: 0.92, 32: 0.86, 24: 0.81, 16: 0.72.
MIN_FACE_PX = 40
# Mean luma of the face, 0 to 255. 17: 0.85 to 0.86, 13: 0.82 to 0.84, 8.8: 0.74 to 0.80, 5.9: 0.60 to 0.70.
# Undamaged portraits have 70 to 190.
DARKEST_FACE = 9.0
# Variance of the Laplacian (common/quality.py). 66 and more: 0.90 to 0.95, 19 to 57: 0.72 to 0.86, 7 to 10: 0.68 to 0.71, 4:
# 0.65. Blurred by 3 px of 128: 0.71, 4: 0.68, 6: 0.65. All 1,061 undamaged portraits have over 55: smooth skin is far from it.
SOFTEST_FACE = 7.0
SHARPNESS_SIDE_PX = 128
# As many as make somebody more than a passer-by. A video of fewer frames needs all of them, a photo its one.
MIN_USABLE_FRAMES = PERSON_MIN_FRAMES
TOO_SMALL, TOO_DARK, TOO_BLURRED, TOO_FEW_FRAMES = (
    f"faces too small (under {MIN_FACE_PX} px)", "faces too dark", "faces too blurred", "usable faces in too few frames"
)  # fmt: skip

VIDEO_SUFFIXES = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v")
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
UNSUPPORTED_SUFFIXES = (
    ".heic", ".heif", ".avif", ".gif", ".tif", ".tiff", ".bmp",
    ".wmv", ".flv", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".3gp", ".3g2", ".ogv",
    ".mxf", ".qt", ".asf", ".vob", ".f4v", ".rm", ".rmvb", ".divx", ".jfif", ".jxl", ".jp2",
)  # fmt: skip
COMPANION_SUFFIXES = (".json", ".csv", ".txt", ".md", ".html")  # of what people keep beside videos
MAX_PIXELS = 2**26  # 67 million: 8K video is 33 million, larger claims come from damaged or hostile headers
MAX_PHOTO_PIXELS = 2**28  # phones make photos of 200 million pixels
TEMPORARY_PREFIX = "."

BACKBONES = tuple(f"B{number}" for number in range(8))
DEFAULT_INPUT_SIZE = 224  # px, that of EfficientNetB0 and of the base weights
PIXEL_PREPARATION = (
    "RGB, resized to a square, 0 to 255; the network itself divides by 255, takes the ImageNet mean away and divides by its "
    "standard deviation"
)
