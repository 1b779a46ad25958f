"""deepfake/augmentation/self_blending.py and the pairs of deepfake/model/batches.py: real faces that become training fakes."""

import argparse
import functools
from concurrent.futures import ThreadPoolExecutor

import cv2
import matplotlib.cbook
import numpy as np
import pytest
import skimage.data
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold, cross_val_predict

from common.cli import share
from common.constants import FAKE, REAL
from deepfake.augmentation import augment, self_blending
from deepfake.augmentation.augment import STEPS
from deepfake.augmentation.self_blending import (
    MASK_WEIGHTS,
    MAX_SHIFT_X,
    MAX_SHIFT_Y,
    MOST_DRAWS,
    REGIONS,
    SCALE,
    SMALLEST_DIFFERENCE,
    blend_once,
    change_look,
    move,
    region_mask,
    reshape_face,
    self_blend,
)
from deepfake.model.batches import Part, augmented_batches, blended_pairs
from tools.drawing import ASTRONAUT_LANDMARKS, HOPPER_LANDMARKS

SEEDS = range(40)
FACE_LANDMARKS = np.array([(44.0, 50.0), (84.0, 50.0), (64.0, 70.0), (46.0, 90.0), (82.0, 90.0)])  # in 128 px


@functools.cache
def portraits():
    """Return (uint8 RGB, landmarks) of the two people of the sample."""
    hopper = cv2.imread(str(matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)))
    return (
        (cv2.cvtColor(hopper, cv2.COLOR_BGR2RGB), np.float64(HOPPER_LANDMARKS)),
        (skimage.data.astronaut(), np.float64(ASTRONAUT_LANDMARKS)),
    )


def view(number, size=96):
    """Return (face, landmarks) of one of the two people, each time in another pose, light and quality."""
    rng, (picture, landmarks) = np.random.default_rng(number), portraits()[number % 2]
    eyes, mouth = landmarks[:2].mean(axis=0), landmarks[3:].mean(axis=0)
    scale = size * rng.uniform(0.28, 0.42) / np.hypot(*(mouth - eyes))
    matrix = cv2.getRotationMatrix2D((eyes + mouth) / 2, rng.uniform(-15, 15), scale)
    matrix[:, 2] += size / 2 - (eyes + mouth) / 2 + rng.uniform(-6, 6, 2)
    if scale < 1:
        picture = cv2.GaussianBlur(picture, (0, 0), 0.4 / scale)
    face_rgb = cv2.warpAffine(picture, matrix, (size, size), borderMode=cv2.BORDER_REFLECT_101)
    for step in ("colour", "blur", "noise", "jpeg", "downscale"):
        if rng.random() < 0.5:
            face_rgb = STEPS[step](face_rgb, rng)
    return face_rgb, landmarks @ matrix[:, :2].T + matrix[:, 2]


def blends(number=0, landmarks=None):
    """Return (real, fake, mask) of one face for each of SEEDS."""
    face_rgb, found = view(number)
    landmarks = found if landmarks is None else landmarks
    return [self_blend(face_rgb, landmarks, np.random.default_rng(seed)) for seed in SEEDS]


def difference(real, fake):
    return np.abs(real.astype(float) - fake).mean()


@pytest.mark.parametrize("number", [0, 1])
def test_real_and_fake_are_equal_outside_the_mask_and_differ_inside(number):
    found = blends(number)
    assert np.mean([mask == 0 for _, _, mask in found]) > 0.2
    for real, fake, mask in found:
        assert real.shape == fake.shape == (96, 96, 3) and real.dtype == fake.dtype == np.uint8
        assert (mask > 0).mean() > 0.03
        assert np.array_equal(real[mask == 0], fake[mask == 0])
        assert difference(real[mask > 0.1], fake[mask > 0.1]) > SMALLEST_DIFFERENCE
        assert difference(real, fake) >= SMALLEST_DIFFERENCE


def test_the_mask_is_soft_and_its_highest_value_a_weight_of_the_paper():
    masks = [mask for number in range(4) for _, _, mask in blends(number)]
    for mask in masks:
        assert mask.shape == (96, 96) and mask.dtype == np.float32 and mask.min() >= 0
        assert np.abs(mask.max() - np.array(MASK_WEIGHTS)).min() < 1e-6
    assert np.mean([np.abs(np.diff(mask, axis=0)).max() / mask.max() for mask in masks]) < 0.6, "hard edges"
    highest = np.round([mask.max() for mask in masks], 2)
    assert set(highest) == set(MASK_WEIGHTS) and 0.35 < (highest == 1).mean() < 0.65


def test_one_seed_gives_one_picture_and_another_seed_another():
    first, again = ([(real.tobytes(), fake.tobytes()) for real, fake, _ in blends()] for _ in range(2))
    assert first == again and len({fake for _, fake in first}) == len({real for real, _ in first}) == len(SEEDS)


def test_the_cached_face_stays_as_it_was():
    face_rgb, landmarks = view(0)
    cached, where = face_rgb.copy(), landmarks.copy()
    cached.setflags(write=False)
    for seed in SEEDS:
        pictures = self_blend(cached, where, np.random.default_rng(seed))
        assert not any(np.shares_memory(picture, cached) for picture in pictures)
    assert np.array_equal(cached, face_rgb) and np.array_equal(where, landmarks)


@pytest.mark.parametrize("size", [32, 224])
def test_any_size(size):
    for number in range(10):
        real, fake, mask = self_blend(*view(number, size), np.random.default_rng(number))
        assert fake.shape == (size, size, 3) and np.array_equal(real[mask == 0], fake[mask == 0])
        assert difference(real, fake) >= SMALLEST_DIFFERENCE


AWKWARD = {
    "partly outside": FACE_LANDMARKS * 0.75 + (-40, 20),
    "in profile": np.array([(50, 36), (50, 36), (64, 50), (50, 66), (50, 66)]),
    "upside down": 96 - FACE_LANDMARKS * 0.75,
    "larger than the picture": (FACE_LANDMARKS - 64) * 3 + 48,
}
WRONG = {
    "all at one point": np.full((5, 2), 48),
    "eyes as high as the mouth": np.array([(30, 48), (66, 48), (48, 48), (32, 48), (64, 48)]),
}


@pytest.mark.parametrize("landmarks", [*AWKWARD.values(), *WRONG.values()], ids=[*AWKWARD, *WRONG])
def test_awkward_landmarks_still_make_a_fake(landmarks):
    """A fake without a trace would be a wrong label."""
    differences = []
    for real, fake, mask in blends(landmarks=landmarks):
        assert np.isfinite(mask).all() and 0 <= mask.min() <= mask.max() <= 1
        assert np.array_equal(real[mask == 0], fake[mask == 0])
        differences.append(difference(real, fake))
    least = SMALLEST_DIFFERENCE if any(landmarks is some for some in AWKWARD.values()) else 0.05
    assert min(differences) >= least


def test_landmarks_outside_the_picture_leave_it_as_it_is():
    for real, fake, mask in blends(landmarks=FACE_LANDMARKS + (200, 0)):
        assert np.array_equal(real, fake) and not mask.any()


def draws_of(monkeypatch, changes):
    """Make each draw change the picture by so many grey levels; return the draws, and those not drawn yet."""
    real = np.full((32, 32, 3), 99, np.uint8)
    draws = [(real, np.uint8(real + change), np.ones((32, 32), np.float32)) for change in changes]
    left = list(draws)
    monkeypatch.setattr(self_blending, "blend_once", lambda *_: left.pop(0))
    return draws, left


@pytest.mark.parametrize("changes, expected", [([1], 1), ([0, 0, 1, 2], 3), ([1, 0], 1)])
def test_a_draw_that_changes_next_to_nothing_is_drawn_again(monkeypatch, changes, expected):
    draws, left = draws_of(monkeypatch, changes)
    assert self_blend(draws[0][0], FACE_LANDMARKS / 4, np.random.default_rng(0)) is draws[expected - 1]
    assert len(left) == len(changes) - expected


def test_of_too_small_changes_the_largest_is_taken(monkeypatch):
    monkeypatch.setattr(self_blending, "SMALLEST_DIFFERENCE", 9)
    draws, left = draws_of(monkeypatch, [1, 3, 0, 2, 1, *[8] * 99])
    assert self_blend(draws[0][0], FACE_LANDMARKS / 4, np.random.default_rng(0)) is draws[1]
    assert len(left) == 99 == len(draws) - MOST_DRAWS


def test_a_picture_that_nothing_changes_comes_back_all_the_same(monkeypatch):
    draws, _ = draws_of(monkeypatch, [0] * 99)
    assert self_blend(draws[0][0], FACE_LANDMARKS / 4, np.random.default_rng(0))[0] is draws[0][0]


def turned(points, degrees):
    """Return (points turned around the middle of 128 px, the matrix that turns a picture in the same way)."""
    matrix = cv2.getRotationMatrix2D((63.5, 63.5), -degrees, 1)
    return points @ matrix[:, :2].T + matrix[:, 2], matrix


def overlap(mask, other):
    return np.minimum(mask, other).sum() / np.maximum(mask, other).sum()


def centre_of(mask):
    return np.array([(mask * axis).sum() for axis in np.mgrid[: len(mask), : len(mask)][::-1]]) / mask.sum()


def inside(mask, points):
    return [bool(mask[round(y), round(x)]) for x, y in points]


def test_each_region_lies_where_its_landmarks_are():
    masks = {region: region_mask(FACE_LANDMARKS, 128, region) for region in REGIONS}
    assert inside(masks["mouth"], FACE_LANDMARKS) == [False, False, False, True, True]
    assert all(inside(masks["face"], FACE_LANDMARKS)) and all(inside(masks["inner"], FACE_LANDMARKS))
    assert masks["face"].sum() > 1.5 * masks["inner"].sum() > 4 * masks["mouth"].sum()
    assert np.abs(centre_of(masks["mouth"]) - (64, 92)).max() < 1
    assert np.abs(centre_of(masks["inner"]) - (64, 70)).max() < 1
    assert not inside(masks["face"], [(64, 5), (15, 70), (113, 70)]).count(True), "hair and ears"
    assert {value for mask in masks.values() for value in np.unique(mask)} == {0, 1}


@pytest.mark.parametrize("region", REGIONS)
@pytest.mark.parametrize("degrees", [-90, -35, 35, 180])
def test_a_region_turns_with_the_face(region, degrees):
    wide = FACE_LANDMARKS * (1.2, 0.7) + (-12.8, 19.2)  # an ellipse that is almost a circle would not show it
    landmarks, matrix = turned(wide, degrees)
    upright = region_mask(wide, 128, region)
    expected = cv2.warpAffine(upright, matrix, (128, 128))
    assert overlap(region_mask(landmarks, 128, region), expected) > 0.93


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_moves_and_grows_with_its_landmarks(region):
    small = FACE_LANDMARKS / 2 + 32
    mask = region_mask(small, 128, region)
    assert np.array_equal(region_mask(small + (17, -9), 128, region), np.roll(mask, (-9, 17), (0, 1)))
    assert region_mask(FACE_LANDMARKS, 128, region).sum() == pytest.approx(4 * mask.sum(), rel=0.1)


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_in_profile_is_more_than_a_line(region):
    """The eyes are at one place there; the face is still about as wide as from eyes to mouth."""
    rows, columns = np.nonzero(region_mask(AWKWARD["in profile"], 96, region))
    assert 0.35 * np.ptp(rows) < np.ptp(columns) < 1.5 * np.ptp(rows) and np.abs(columns.mean() - 50) < 1


def test_blended_masks_follow_the_landmarks():
    """Bent at random, but around the same place on the mean."""
    (face_rgb, _), shift = view(0, 128), np.array([25, -20])
    centres = []
    for landmarks in (FACE_LANDMARKS * 0.6 + 25, FACE_LANDMARKS * 0.6 + 25 + shift):
        masks = (self_blend(face_rgb, landmarks, np.random.default_rng(seed))[2] for seed in range(150))
        centres.append(np.mean([centre_of(mask) for mask in masks], axis=0))
    assert np.abs(centres[0] - (64, 69)).max() < 4 and np.abs(centres[1] - centres[0] - shift).max() < 4


def test_the_shape_of_a_mask_is_random():
    """Twelve masks of one ellipse: none is another's twin, none is the ellipse."""
    ellipse = region_mask(FACE_LANDMARKS, 128, "inner")
    rngs = (np.random.default_rng(seed) for seed in range(12))
    masks = [ellipse, *(self_blending.soften(self_blending.deform(ellipse, rng), rng) for rng in rngs)]
    overlaps = [overlap(a > 0.5, b > 0.5) for i, a in enumerate(masks) for b in masks[:i]]
    assert 0.3 < min(overlaps) < max(overlaps) < 0.95


def test_moving_is_around_the_centre_and_in_pixels():
    face_rgb, _ = view(0)
    assert np.array_equal(move(face_rgb, 1, (3, -2))[:90, 3:], face_rgb[2:92, :-3])
    dots = np.zeros((97, 97, 3), np.uint8)
    for x, y in ((48, 48), (78, 48), (48, 18)):
        cv2.circle(dots, (x, y), 2, (255,) * 3, -1)
    found = move(dots, 1.1, (0, 0))[..., 0]
    assert found[48, 48] > 200 and found[48, 81] > 200 and found[15, 48] > 200 and found[48, 76] < 50


def test_source_and_target_move_as_far_as_documented(monkeypatch):
    moves = []
    monkeypatch.setattr(self_blending, "move", lambda face_rgb, *how: moves.append(how) or move(face_rgb, *how))
    face_rgb, landmarks = view(0)
    for seed in range(200):
        blend_once(face_rgb, landmarks, np.random.default_rng(seed))
    scales, shifts = np.array([scale for scale, _ in moves]), np.array([shift for _, shift in moves])
    assert (scales[1::2] == 1).all() and 0.45 < np.abs(shifts[1::2]).max() <= 0.5
    assert SCALE[0] <= scales[::2].min() < 0.96 and 1.04 < scales[::2].max() <= SCALE[1]
    reach = np.abs(shifts[::2]).max(axis=0) / (96 * MAX_SHIFT_X, 96 * MAX_SHIFT_Y)
    assert 0.95 < reach.min() <= reach.max() <= 1 and (shifts[::2].min(axis=0) < 0).all()


def test_the_look_of_either_side_is_changed_and_the_mask_mixes_them(monkeypatch):
    """With black as the changed look: a black target, or a fake that is target * (1 - mask)."""
    monkeypatch.setattr(self_blending, "change_look", lambda face_rgb, rng: np.zeros_like(face_rgb))
    face_rgb, landmarks = view(0)
    black_targets = 0
    for seed in range(200):
        real, fake, mask = blend_once(face_rgb, landmarks, np.random.default_rng(seed))
        black_targets += not real.any()
        if real.any():
            assert np.abs(real * (1 - mask[..., None]) - fake).max() <= 0.51
    assert 70 < black_targets < 130


def test_regions_are_drawn_with_their_shares(monkeypatch):
    drawn = []
    monkeypatch.setattr(self_blending, "region_mask", lambda *given: drawn.append(given[2]) or region_mask(*given))
    for seed in range(500):
        blend_once(np.zeros((32, 32, 3), np.uint8), FACE_LANDMARKS / 4, np.random.default_rng(seed))
    assert {region: drawn.count(region) / 500 for region in REGIONS} == pytest.approx(REGIONS, abs=0.07)


def test_target_and_source_are_equally_sharp_where_the_look_is_the_same(monkeypatch):
    """Both are interpolated once; of fine noise, that alone takes a fifth. A fake must not be known by it."""
    monkeypatch.setattr(self_blending, "change_look", lambda face_rgb, rng: face_rgb)
    monkeypatch.setattr(self_blending, "MASK_WEIGHTS", (1.0,))
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    spreads = []
    for seed in range(150):
        real, fake, mask = blend_once(noise, FACE_LANDMARKS, np.random.default_rng(seed))
        spreads.append([picture[mask > 0.999].std() for picture in (real, fake)])
    real, fake = np.mean(spreads, axis=0)
    assert fake == pytest.approx(real, rel=0.05) and real < 0.95 * noise.std()


def test_a_changed_look_is_another_picture_of_the_same_kind():
    face_rgb, _ = view(0)
    found = [change_look(face_rgb, np.random.default_rng(seed)) for seed in range(100)]
    assert len({picture.tobytes() for picture in found}) > 90
    assert all(picture.shape == face_rgb.shape and picture.dtype == np.uint8 for picture in found)
    differences = [difference(picture, face_rgb) for picture in found]
    assert 0.5 < min(differences) < 5 < 15 < max(differences) < 45


@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_do_not_wrap_around(level):
    flat = np.full((32, 32, 3), level, np.uint8)
    for seed in range(100):
        found = change_look(flat, np.random.default_rng(seed))
        assert abs(found.astype(int) - level).max() <= 255 * self_blending.VALUE_CHANGE + 2
        real, fake, _ = blend_once(flat, FACE_LANDMARKS / 4, np.random.default_rng(seed))
        assert abs(np.stack([real, fake]).astype(int) - level).max() <= 255 * self_blending.VALUE_CHANGE + 2


def compressed(face_rgb, quality):
    return cv2.imdecode(cv2.imencode(".jpg", face_rgb, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)


def statistics(face_rgb):
    """Return what a whole picture says without a look at where: sizes when compressed, sharpness, means, deviations."""
    encodings = [(".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]) for quality in (30, 60, 90)] + [(".png", [])]
    sizes = [len(cv2.imencode(suffix, face_rgb, options)[1]) for suffix, options in encodings]
    sharpness = cv2.Laplacian(cv2.cvtColor(face_rgb, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var()
    return [*np.log([*sizes, sharpness + 1]), *face_rgb.mean(axis=(0, 1)), *face_rgb.std(axis=(0, 1))]


def told_apart(reals, fakes):
    """Return the area under the curve of a classifier of `statistics`, tested on pairs that it was not trained on."""
    labels, pairs = np.repeat([REAL, FAKE], len(reals)), np.tile(np.arange(len(reals)), 2)
    classifier, folds = LinearDiscriminantAnalysis(), GroupKFold(5)
    scores = cross_val_predict(classifier, [*reals, *fakes], labels, groups=pairs, cv=folds, method="decision_function")
    return roc_auc_score(labels, scores)


def test_nothing_but_the_blend_tells_real_and_fake_apart():
    """Else a network would learn that instead. Fakes that were compressed once more, or have faint noise, are found out."""
    rng = np.random.default_rng(0)
    reals, fakes, _ = zip(*(self_blend(*view(number), rng) for number in range(300)), strict=True)
    noisy = [np.clip(fake + rng.normal(0, 2, fake.shape), 0, 255).astype(np.uint8) for fake in fakes]
    seen = [statistics(face_rgb) for face_rgb in reals]
    assert told_apart(seen, [statistics(compressed(fake, 50)) for fake in fakes]) > 0.75
    assert told_apart(seen, [statistics(fake) for fake in noisy]) > 0.75
    assert told_apart(seen, [statistics(fake) for fake in fakes]) < 0.65


LABELS = np.array([REAL] * 9 + [FAKE] * 14)
VIEWS = [view(number, 32) for number in range(len(LABELS))]
FACES_RGB, LANDMARKS = (np.stack(arrays) for arrays in zip(*VIEWS, strict=True))
FACES_RGB[LABELS == FAKE] = 0  # a black picture gives a fake of the dataset away
PART = Part(FACES_RGB, LABELS, LANDMARKS)
REALS = Part(FACES_RGB[:9], LABELS[:9], LANDMARKS[:9])


@pytest.fixture
def plain(monkeypatch):
    """Switch augmentation and reshaping off."""
    monkeypatch.setattr(augment, "augment", lambda face_rgb, rng: face_rgb)
    monkeypatch.setattr(self_blending, "reshape_face", lambda face_rgb, landmarks, rng: (face_rgb, landmarks))


@pytest.fixture
def noted(monkeypatch):
    """Note what is blended: a list of (face, landmarks, real, fake)."""
    calls = []

    def noting(face_rgb, landmarks, rng):
        real, fake, mask = self_blend(face_rgb, landmarks, rng)
        calls.append((face_rgb, landmarks, real, fake))
        return real, fake, mask

    monkeypatch.setattr(self_blending, "self_blend", noting)
    return calls


def all_of(dataset):
    return [dataset[step] for step in range(len(dataset))]


@pytest.mark.parametrize("part", [PART, REALS], ids=["with fakes", "real only"])
def test_each_real_has_its_blend_in_the_batch_after_it(plain, noted, part):
    """Never in its own: BatchNorm would let the network compare them."""
    dataset = all_of(augmented_batches(part, 6, 7, 1, 1.0))
    blend_of = {real.tobytes(): fake for *_, real, fake in noted}
    for step, (faces, labels) in enumerate(dataset):
        assert labels[:, 0].tolist() == [REAL] * 3 + [FAKE] * 3
        following = dataset[(step + 1) % len(dataset)][0]
        for place in range(3):
            blend = blend_of[faces[place].tobytes()]
            assert np.array_equal(following[3 + place], blend) and not np.array_equal(faces[place], blend)
            assert not any(np.array_equal(face, blend) for face in faces)


def test_only_real_faces_are_blended_each_with_its_own_landmarks(plain, noted):
    dataset = all_of(augmented_batches(PART, 4, 7, 1, 1.0))
    known = {face.tobytes(): where.tolist() for face, where in zip(REALS.faces_rgb, REALS.landmarks, strict=True)}
    assert all(known.get(face.tobytes()) == where.tolist() for face, where, *_ in noted)
    assert len(noted) == 4 * len(dataset)  # a pair is made twice, for its real and for its blend
    assert len({face.tobytes() for face, *_ in noted}) == 9
    assert min(np.ptp(face) for faces, _ in dataset for face in faces) > 0.5, "a fake of the dataset"


def test_a_face_is_reshaped_before_it_is_blended(noted):
    """Both halves of a pair come from the reshaped face, another one in each epoch."""
    for epoch in (1, 2):
        all_of(augmented_batches(REALS, 6, 7, epoch, 1.0))
    known = {face.tobytes() for face in REALS.faces_rgb}
    assert len({face.tobytes() for face, *_ in noted} - known) == 18 and len(noted) == 36


def test_an_epoch_without_fakes_blends_every_real_once(plain, noted):
    all_of(augmented_batches(REALS, 6, 7, 1, 1.0))
    assert len(noted) == 18 and len({face_rgb.tobytes() for face_rgb, *_ in noted}) == 9


def test_both_halves_of_a_pair_get_the_same_augmentation(monkeypatch):
    """So that it tells nothing: a blend that changes nothing gives two identical pictures, in every epoch other ones."""
    monkeypatch.setattr(self_blending, "self_blend", lambda face_rgb, landmarks, rng: (face_rgb, face_rgb.copy(), None))
    seen = set()
    for epoch in range(8):
        dataset = all_of(augmented_batches(PART, 4, 7, epoch, 1.0))
        for step, (faces, _) in enumerate(dataset):
            assert np.array_equal(faces[:2], dataset[(step + 1) % len(dataset)][0][2:])
            seen |= {face.tobytes() for face in faces[:2]}
    assert len(seen) > 0.8 * 8 * 14
    different = augmented_batches(Part(np.repeat(FACES_RGB[:1], 23, 0), LABELS, LANDMARKS), 4, 7, 1, 0.0)
    assert not any(np.array_equal(faces[:2], faces[2:]) for faces, _ in all_of(different))


@pytest.mark.parametrize("asked, low, high", [(0.0, 0, 0), (0.5, 0.43, 0.57), (0.2, 0.14, 0.26), (1.0, 1, 1)])
def test_the_share_of_pairs_is_the_one_asked_for(plain, noted, asked, low, high):
    pairs = 0
    for epoch in range(30):
        for faces, labels in all_of(augmented_batches(PART, 4, 7, epoch, asked)):
            assert labels[:, 0].tolist() == [REAL, REAL, FAKE, FAKE] and len(faces) == 4
            pairs += 2
    assert low <= len(noted) / 2 / pairs <= high


def test_a_share_is_a_number_from_0_to_1():
    assert [share(text) for text in ("0", "0.25", "1", "1e-3")] == [0, 0.25, 1, 0.001]
    for text in ("-0.1", "1.01", "nan", "inf"):
        with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not a number from 0 to 1"):
            share(text)
    with pytest.raises(ValueError):
        share("half")


def test_without_a_share_nothing_is_blended(noted):
    all_of(augmented_batches(PART, 4, 7, 1))
    assert noted == []


def test_pairs_do_not_depend_on_the_order_they_are_made_in():
    def pictures(order):
        dataset = augmented_batches(PART, 4, 7, 1, 0.5)
        with ThreadPoolExecutor(6) as threads:
            found = dict(zip(order, threads.map(lambda step: dataset[step][0].tobytes(), order), strict=True))
        return [found[step] for step in range(len(dataset))]

    expected = [faces.tobytes() for faces, _ in all_of(augmented_batches(PART, 4, 7, 1, 0.5))]
    assert expected == pictures(range(7)) == pictures(range(6, -1, -1))
    assert expected != [faces.tobytes() for faces, _ in all_of(augmented_batches(PART, 4, 8, 1, 0.5))]


def test_blended_pairs_are_each_real_and_its_blend_fixed_by_the_seed(noted):
    pairs = blended_pairs(PART, 5)
    assert [face_rgb.tobytes() for face_rgb, *_ in noted] == [face_rgb.tobytes() for face_rgb in REALS.faces_rgb]
    assert all(np.array_equal(called[1], where) for called, where in zip(noted, REALS.landmarks, strict=True))
    assert np.array_equal(pairs.faces_rgb, [real for *_, real, _ in noted] + [fake for *_, fake in noted])
    assert pairs.labels.tolist() == [REAL] * 9 + [FAKE] * 9
    assert np.array_equal(pairs.landmarks, np.concatenate([REALS.landmarks, REALS.landmarks]))
    assert np.array_equal(pairs.faces_rgb, blended_pairs(PART, 5).faces_rgb)
    for seed in (6, (5, 1)):
        others = blended_pairs(PART, seed).faces_rgb
        assert not any(np.array_equal(*faces) for faces in zip(pairs.faces_rgb, others, strict=True))


def test_the_same_face_is_blended_anew_at_each_place():
    twins = Part(REALS.faces_rgb[[0, 0]], REALS.labels[:2], REALS.landmarks[[0, 0]])
    faces_rgb = blended_pairs(twins, 5).faces_rgb
    assert len({face_rgb.tobytes() for face_rgb in faces_rgb}) == 4


def test_a_reshaped_face_keeps_its_landmarks_on_its_features():
    """Bright dots at the landmarks are found again where the landmarks say, in another place each time."""
    face_rgb = np.full((128, 128, 3), 60, np.uint8)
    for x, y in FACE_LANDMARKS:
        cv2.circle(face_rgb, (round(x), round(y)), 3, (255, 255, 255), -1)
    moved = []
    for seed in SEEDS:
        bent, landmarks = reshape_face(face_rgb, FACE_LANDMARKS, np.random.default_rng(seed))
        assert bent.shape == face_rgb.shape and bent.dtype == np.uint8
        for x, y in landmarks:
            window = bent[round(y) - 7 : round(y) + 8, round(x) - 7 : round(x) + 8, 0] > 150
            rows, columns = np.nonzero(window)
            assert np.hypot(columns.mean() - 7, rows.mean() - 7) < 1.5
        moved.append(np.abs(landmarks - FACE_LANDMARKS).max())
    assert np.median(moved) > 1.5 and max(moved) < 16


def test_reshaping_is_fixed_by_its_seed_and_leaves_the_face_alone():
    face_rgb, landmarks = view(0)
    face_rgb.setflags(write=False)
    before = landmarks.copy()
    first, again, other = (reshape_face(face_rgb, landmarks, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1], again[1])
    assert not np.array_equal(first[0], other[0]) and np.array_equal(landmarks, before)
