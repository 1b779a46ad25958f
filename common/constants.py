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
FACE_KINDS = ("faces", "marked_faces")
SELF_BLENDED_FACES = "self-blended faces"  # the fakes of a model card, if there were no others
SPLITS = ("train", "val", "test")
LANDMARK_NAMES = ("left_eye", "right_eye", "nose", "mouth_left", "mouth_right")  # as seen in the picture
PERSON_MIN_FRAMES = 3  # someone seen in fewer frames is a passer-by or a false alarm
TEMPORARY_PREFIX = "."  # of the names of what is not complete
