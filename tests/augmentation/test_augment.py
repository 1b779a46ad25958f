"""deepfake/augmentation/augment.py and deepfake/model/batches.py: the faces that the network is trained on."""

import importlib
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.augmentation import augment as augmenting
from deepfake.augmentation import corruptions
from deepfake.augmentation.augment import CHANCES, STEPS, augment
from deepfake.model.batches import Part, augmented_batches, epoch_order, load_part, plain_batches, without_fakes
from deepfake.preprocessing.crops import read_image, to_square
from tests.datasets import face_bgr, write_picture

FACE_RGB = cv2.resize(face_bgr(REAL, 3), (64, 48))[..., ::-1].copy()
SEEDS = range(25)


def changed(step, face_rgb=FACE_RGB):
    """Return what a step makes of the face, for 25 seeds."""
    return [STEPS[step](face_rgb.copy(), np.random.default_rng(seed)) for seed in SEEDS]


def test_every_step_has_a_chance():
    assert STEPS.keys() == CHANCES.keys()
    assert all(0 < chance < 1 for chance in CHANCES.values())


@pytest.mark.parametrize("step", STEPS)
def test_a_step_changes_the_picture_and_keeps_its_form(step):
    for face_rgb in changed(step):
        assert face_rgb.shape == FACE_RGB.shape and face_rgb.dtype == np.uint8
    assert sum(not np.array_equal(face_rgb, FACE_RGB) for face_rgb in changed(step)) >= len(SEEDS) - 1


@pytest.mark.parametrize("step", STEPS)
def test_a_step_leaves_the_cached_face_as_it_was(step):
    cached = FACE_RGB.copy()
    cached.setflags(write=False)
    for seed in SEEDS:
        STEPS[step](cached, np.random.default_rng(seed))
    assert np.array_equal(cached, FACE_RGB)


@pytest.mark.parametrize("step", sorted(STEPS.keys() - {"flip"}))
def test_a_step_is_random(step):
    assert len({face_rgb.tobytes() for face_rgb in changed(step)}) > 5


@pytest.mark.parametrize("step", sorted(STEPS.keys() - {"noise", "low_light"}))
@pytest.mark.parametrize("level", [0, 255])
def test_black_and_white_do_not_wrap_around(step, level):
    """A uint8 that overflows turns white into black."""
    flat = np.full((32, 32, 3), level, np.uint8)
    limit = {"colour": (1 - augmenting.CONTRAST[0]) * 127.5 + augmenting.BRIGHTNESS + 1}.get(step, 2)
    for face_rgb in changed(step, flat):
        assert abs(face_rgb.astype(int) - level).max() <= limit


def test_flip_mirrors_left_and_right():
    assert np.array_equal(STEPS["flip"](FACE_RGB, None), cv2.flip(FACE_RGB, 1))


def test_rotation_and_zoom_stay_in_their_range():
    """A bright dot right of the centre is found again within 10 degrees and 0.9 to 1.15 of its distance."""
    face_rgb = np.zeros((129, 129, 3), np.uint8)
    cv2.circle(face_rgb, (104, 64), 3, (255, 255, 255), -1)
    angles, distances = [], []
    for found in changed("rotate_zoom", face_rgb):
        rows, columns = np.nonzero(found[32:97, 65:, 0] > 128)
        x, y = columns.mean() + 65 - 64.5, rows.mean() + 32 - 64.5
        angles.append(np.degrees(np.arctan2(y, x)))
        distances.append(np.hypot(x, y) / 40)
    assert max(map(abs, angles)) <= 11.5 and min(angles) < -3 and max(angles) > 3
    assert 0.87 <= min(distances) < 1 < max(distances) <= 1.18


def test_brightness_and_contrast_stay_in_their_range():
    """A grey ramp has no saturation to change: what remains is contrast * (x - 127.5) + 127.5 + brightness."""
    ramp = np.repeat(np.arange(90, 166, dtype=np.uint8)[None, :, None], 3, axis=2)
    slopes, shifts = [], []
    for found in changed("colour", ramp):
        slope, start = np.polyfit(ramp[0, :, 0].astype(float), found[0, :, 0].astype(float), 1)
        slopes.append(slope)
        shifts.append(start + slope * 127.5 - 127.5)
    assert 0.73 <= min(slopes) < 0.95 and 1.1 < max(slopes) <= 1.32
    assert -32 <= min(shifts) < -5 and 5 < max(shifts) <= 32


@pytest.mark.parametrize("saturation", augmenting.SATURATION)
def test_saturation_stays_in_its_range(monkeypatch, saturation):
    for constant, value in (("SATURATION", (saturation,) * 2), ("CONTRAST", (1, 1)), ("BRIGHTNESS", 0)):
        monkeypatch.setattr(augmenting, constant, value)
    face_rgb = np.full((8, 8, 3), (140, 120, 100), np.uint8)
    spread = np.ptp(STEPS["colour"](face_rgb, np.random.default_rng(0))[0, 0].astype(float))
    assert spread == pytest.approx(40 * saturation, abs=2)


def test_downscaling_loses_detail_more_the_smaller_it_gets(monkeypatch):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    contrasts = []
    for scale in (1.0, 0.7, augmenting.SMALLEST_SCALE):
        monkeypatch.setattr(augmenting, "SMALLEST_SCALE", scale)
        rng = np.random.default_rng(0)
        contrasts.append(min(np.std(STEPS["downscale"](stripes, rng)) for _ in range(9)))
    assert contrasts[0] > 120 and contrasts[0] > contrasts[1] > contrasts[2]


def test_blur_is_as_wide_as_documented(monkeypatch):
    dot = np.zeros((33, 33, 3), np.uint8)
    dot[16, 16] = 255
    for sigma in augmenting.BLUR_SIGMA_PX:
        monkeypatch.setattr(augmenting, "BLUR_SIGMA_PX", (sigma, sigma))
        found = STEPS["blur"](dot, np.random.default_rng(0))[..., 0].astype(float)
        positions = np.arange(33) - 16
        width = np.sqrt((found.sum(axis=0) * positions**2).sum() / found.sum())
        bell = np.exp(-(positions**2) / (2 * sigma**2))
        assert width == pytest.approx(np.sqrt((bell * positions**2).sum() / bell.sum()), abs=0.1)


def test_noise_is_as_strong_as_documented_and_adds_no_light():
    grey = np.full((64, 64, 3), 128, np.uint8)
    noises = [face_rgb.astype(float) - 128 for face_rgb in changed("noise", grey)]
    low, high = augmenting.NOISE_SIGMA
    assert all(low * 0.9 < noise.std() < high * 1.1 for noise in noises)
    assert max(noise.std() for noise in noises) > 2 * min(noise.std() for noise in noises)
    assert all(abs(noise.mean()) < 0.3 for noise in noises)


def test_noise_is_normally_distributed():
    shares = [np.mean(abs(corruptions.NORMAL_VALUES) <= sigmas) for sigmas in (0.5, 1, 2, 3)]
    assert shares == pytest.approx([0.383, 0.683, 0.954, 1], abs=0.01)
    found = corruptions.random_normal((200, 200), 5, np.random.default_rng(0))
    assert len(np.unique(found)) == 256 and found.std() == pytest.approx(5, rel=0.01)


def test_noise_does_not_wrap_around():
    for level in (0, 255):
        for face_rgb in changed("noise", np.full((32, 32, 3), level, np.uint8)):
            assert abs(face_rgb.astype(int) - level).max() < 6 * augmenting.NOISE_SIGMA[1]


def test_low_light_leaves_as_little_light_as_documented(monkeypatch):
    """Of grey 200 remains light ** (1 - rebrightened); what the noise cuts off at black is little here."""
    lights = (*augmenting.LIGHT, 0.4)
    for light, rebrightened in zip(lights, (*augmenting.REBRIGHTENED, 0.5), strict=True):
        monkeypatch.setattr(augmenting, "LIGHT", (light, light))
        monkeypatch.setattr(augmenting, "REBRIGHTENED", (rebrightened, rebrightened))
        expected = 200 * light ** (1 - rebrightened)
        for found in changed("low_light", np.full((64, 64, 3), 200, np.uint8)):
            assert found.mean() == pytest.approx(expected, abs=1)
            sigma = found.astype(float).std() * light**rebrightened
            assert 0.85 * augmenting.DARK_NOISE_SIGMA[0] < sigma < 1.1 * augmenting.DARK_NOISE_SIGMA[1]


def test_low_light_darkens_every_face_and_each_differently():
    shares = [found.mean() / FACE_RGB.mean() for found in changed("low_light")]
    assert min(shares) < 0.4 and 0.75 < max(shares) < 1


def test_low_light_does_not_wrap_around(monkeypatch):
    """Brightened in full, white with noise lies above 255 half of the time, black below 0."""
    monkeypatch.setattr(augmenting, "REBRIGHTENED", (1.0, 1.0))
    for level in (0, 255):
        for light in augmenting.LIGHT:
            monkeypatch.setattr(augmenting, "LIGHT", (light, light))
            sigma = augmenting.DARK_NOISE_SIGMA[1] / light
            for found in changed("low_light", np.full((32, 32, 3), level, np.uint8)):
                assert abs(found.astype(int) - level).max() < 6 * sigma


def dot_smears(side_px=65):
    """Return what motion blur makes of a white dot in the middle, each as ((n, 2) places from the middle, n brightnesses)."""
    dot = np.zeros((side_px, side_px, 3), np.uint8)
    dot[side_px // 2, side_px // 2] = 255
    for found in changed("motion_blur", dot):
        places = np.argwhere(found[..., 0])
        yield places - side_px // 2, found[tuple(places.T)][:, 0].astype(float)


def test_motion_smears_a_dot_along_a_straight_line_and_keeps_it_in_place(monkeypatch):
    monkeypatch.setattr(augmenting, "MOTION_SHARE", (0.2, 0.4))
    angles = []
    for places, brightness in dot_smears():
        along, across = np.linalg.svd(places.astype(float), full_matrices=False)[2]
        assert abs(places @ across).max() < 1 and 0.2 * 65 - 2 < np.ptp(places @ along) < 0.4 * 65 + 2
        assert np.diff(np.sort(places @ along)).max() < 2, "the line has gaps"
        assert abs(brightness @ places / brightness.sum()).max() < 0.05
        angles.append(np.degrees(np.arctan2(along[0], along[1])) % 180)
    assert np.histogram(angles, 4, (0, 180))[0].min() >= 2, "all directions"


def test_motion_is_as_long_as_documented():
    """From three pixels, the shortest smear there is, to 8 % of the width and the dot itself."""
    low, high = (share * 257 for share in augmenting.MOTION_SHARE)
    lengths = [np.hypot(*np.ptp(places, axis=0)) for places, _ in dot_smears(257)]
    assert low - 2 < min(lengths) < (low + high) / 2 < max(lengths) < high + 2
    assert min(len(places) for places, _ in dot_smears(16)) >= 3


def test_motion_keeps_the_light():
    for found in changed("motion_blur"):
        assert found.mean() == pytest.approx(FACE_RGB.mean(), abs=0.3)


def video_error(monkeypatch, crf, face_rgb):
    monkeypatch.setattr(augmenting, "CRF", (crf, crf))
    return abs(STEPS["video"](face_rgb, np.random.default_rng(0)).astype(float) - face_rgb).mean()


def test_video_is_worse_at_a_higher_crf(monkeypatch):
    errors = [video_error(monkeypatch, crf, FACE_RGB) for crf in (5, *augmenting.CRF)]
    assert 0 < errors[0] < errors[1] < 0.6 * errors[2] < 10


def test_video_remembers_nothing_of_the_faces_before():
    """The encoders are kept, one for each thread."""
    faces_rgb = [FACE_RGB, np.full_like(FACE_RGB, 90), FACE_RGB[::-1].copy()]
    with ThreadPoolExecutor(1) as thread:
        first, *others, again, mirrored = thread.map(
            lambda i: corruptions.compress_h264(faces_rgb[i], 30), (0, 1, 2, 0, 2)
        )
    assert np.array_equal(first, again) and np.array_equal(others[1], mirrored)
    assert np.array_equal(first, corruptions.compress_h264(FACE_RGB, 30)), "another thread"


def test_video_is_what_a_fresh_encoder_of_x264_makes():
    face_rgb = cv2.resize(FACE_RGB, (128, 128), interpolation=cv2.INTER_CUBIC)
    for crf in augmenting.CRF:
        options = {"crf": str(crf), "preset": "veryfast", "tune": "zerolatency"}
        encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 128, 128, "yuv420p", Fraction(1, 25)
        encoder.options, encoder.thread_count = options, 1
        packets = [*encoder.encode(av.VideoFrame.from_ndarray(face_rgb, format="rgb24")), *encoder.encode(None)]
        (decoded,) = [*(frame for packet in packets for frame in decoder.decode(packet)), *decoder.decode(None)]
        expected = decoded.to_ndarray(format="rgb24").astype(int)
        assert abs(corruptions.compress_h264(face_rgb, crf) - expected).mean() < 1.5


def test_video_without_cabac_is_the_same_picture():
    face_rgb = cv2.resize(FACE_RGB, (128, 128), interpolation=cv2.INTER_CUBIC)
    for crf in augmenting.CRF:
        encoder, decoder = av.CodecContext.create("libx264", "w"), av.CodecContext.create("h264", "r")
        encoder.width, encoder.height, encoder.pix_fmt, encoder.time_base = 128, 128, "yuv420p", Fraction(1, 25)
        options = {"crf": f"{crf - corruptions.IP_OFFSET:.2f}", "preset": "veryfast", "tune": "zerolatency"}
        encoder.options, encoder.thread_count = {**options, "x264-params": "keyint=1:ref=1:qcomp=1"}, 1
        (packet,) = encoder.encode(av.VideoFrame.from_ndarray(face_rgb, format="rgb24"))
        (decoded,) = decoder.decode(packet)
        expected = cv2.cvtColor(decoded.to_ndarray(), cv2.COLOR_YUV2RGB_I420)
        np.testing.assert_array_equal(corruptions.compress_h264(face_rgb, crf), expected)


def test_video_stores_colour_coarser_than_light(monkeypatch):
    """As H.264 does (4:2:0): stripes of one pixel survive in grey, and turn into one colour in red and blue."""
    grey, coloured = np.zeros((2, 32, 32, 3), np.uint8)
    grey[:, ::2] = 255
    coloured[:, ::2, 0] = coloured[:, 1::2, 2] = 255
    assert video_error(monkeypatch, 5, grey) < 5 < 40 < video_error(monkeypatch, 5, coloured)
    found = STEPS["video"](coloured, np.random.default_rng(0))
    np.testing.assert_allclose(found.mean(axis=(0, 1)), coloured.mean(axis=(0, 1)), atol=15)  # both of them, mixed


def test_video_keeps_colours_apart(monkeypatch):
    for colour in ((200, 40, 90), (30, 160, 60), (20, 30, 220)):
        assert video_error(monkeypatch, 10, np.full((32, 32, 3), colour, np.uint8)) < 3


@pytest.mark.parametrize("height, width", [(33, 47), (32, 33), (33, 32), (128, 128)])
def test_video_takes_any_size_and_leaves_an_odd_last_line_as_it_is(height, width):
    face_rgb = cv2.resize(FACE_RGB, (width, height))
    found = STEPS["video"](face_rgb, np.random.default_rng(0))
    assert found.shape == face_rgb.shape
    even = found[: height // 2 * 2, : width // 2 * 2], face_rgb[: height // 2 * 2, : width // 2 * 2]
    assert 1 < abs(even[0].astype(float) - even[1]).mean() < 15
    if height % 2:
        assert np.array_equal(found[-1], face_rgb[-1])
    if width % 2:
        assert np.array_equal(found[:, -1], face_rgb[:, -1])


def test_jpeg_is_worse_at_a_lower_quality(monkeypatch):
    errors = []
    for quality in (95, 30):
        monkeypatch.setattr(augmenting, "JPEG_QUALITY", (quality, quality))
        found = STEPS["jpeg"](FACE_RGB, np.random.default_rng(0))
        errors.append(abs(found.astype(float) - FACE_RGB).mean())
    assert 0 < errors[0] < 5  # grey levels; most of them the coloured grain, which JPEG halves
    assert errors[1] > errors[0] * 1.3


def test_augment_same_seed_same_picture_and_other_seed_another():
    pictures = [[augment(FACE_RGB, np.random.default_rng(seed)).tobytes() for seed in SEEDS] for _ in range(2)]
    assert pictures[0] == pictures[1]
    assert len(set(pictures[0])) > 15


def test_augment_never_gives_the_cached_face_itself(monkeypatch):
    """What is done to the result must not reach the cache, also when no step happened."""
    for chance in (0.0, 1.0):
        monkeypatch.setattr(augmenting, "CHANCES", dict.fromkeys(STEPS, chance))
        cached = FACE_RGB.copy()
        found = augment(cached, np.random.default_rng(0))
        assert not np.shares_memory(found, cached)
        found[:] = 0
        assert np.array_equal(cached, FACE_RGB)


def test_augment_takes_each_step_with_its_chance(monkeypatch):
    counts = dict.fromkeys(STEPS, 0)

    def counting(name):
        def step(face_rgb, rng):
            counts[name] += 1
            return face_rgb

        return step

    monkeypatch.setattr(augmenting, "STEPS", {name: counting(name) for name in STEPS})
    rng = np.random.default_rng(0)
    for _ in range(2000):
        augment(FACE_RGB, rng)
    for name, count in counts.items():
        assert count / 2000 == pytest.approx(CHANCES[name], abs=0.05), name


LABELS = np.array([REAL] * 5 + [FAKE] * 12)
FACES_RGB = np.stack([cv2.resize(face_bgr(label, i), (32, 32)) for i, label in enumerate(LABELS)])
LANDMARKS = np.tile([(10.0, 12.0), (22.0, 12.0), (16.0, 17.0), (11.0, 23.0), (21.0, 23.0)], (len(LABELS), 1, 1))
PART = Part(FACES_RGB, LABELS, LANDMARKS)


def test_every_batch_is_half_real_and_half_fake():
    for batch_size in (2, 4, 6):
        order = epoch_order(LABELS, batch_size, np.random.default_rng(0))
        assert order.shape == (12 // (batch_size // 2), batch_size)
        assert (np.sum(LABELS[order] == REAL, axis=1) == batch_size // 2).all()


def test_an_epoch_sees_every_face_of_the_larger_class_and_repeats_the_rarer_evenly():
    order = epoch_order(LABELS, 4, np.random.default_rng(0))
    counts = np.bincount(order.ravel(), minlength=len(LABELS))
    assert (counts[LABELS == FAKE] == 1).all()
    assert set(counts[LABELS == REAL]) == {2, 3}


def test_fewer_faces_than_a_batch_still_make_one():
    assert epoch_order(np.array([REAL, FAKE]), 8, np.random.default_rng(0)).shape == (1, 8)


def test_without_fakes_other_reals_fill_the_second_half():
    order = epoch_order(np.full(7, REAL), 4, np.random.default_rng(0))
    assert order.shape == (3, 4)
    assert len(set(order[:, :2].ravel())) == len(set(order[:, 2:].ravel())) == 6


def test_without_fakes_means_none_at_all():
    assert without_fakes([{"label": REAL}] * 3)
    assert not without_fakes([{"label": REAL}, {"label": FAKE}, {"label": REAL}])


def rows_of(tmp_path):
    """Write three faces of different shapes; return their rows as `read_split` gives them."""
    rows = []
    for number, (width, height) in enumerate([(64, 32), (40, 50), (32, 128)]):
        path = tmp_path / f"{number}.png"
        write_picture(path, cv2.resize(face_bgr(REAL, number), (width, height)))
        landmarks = [[width / 4, height / 4], [width / 2, height / 4], [width, 0], [0, height], [3, 5]]
        rows.append({"path": path, "label": number % 2, "landmarks": json.dumps(landmarks)})
    return rows


def test_a_part_has_faces_labels_and_landmarks_in_its_own_pixels(tmp_path):
    rows = rows_of(tmp_path)
    part = load_part(rows, 32, None)
    for face_rgb, row in zip(part.faces_rgb, rows, strict=True):
        assert np.array_equal(face_rgb, to_square(read_image(row["path"]), 32))
    assert part.labels.tolist() == [0, 1, 0] and part.landmarks.shape == (3, 5, 2)
    for landmarks, (width, height) in zip(part.landmarks, [(64, 32), (40, 50), (32, 128)], strict=True):
        last = [3 * 32 / width, 5 * 32 / height]
        np.testing.assert_allclose(landmarks, [[8, 8], [16, 8], [32, 0], [0, 32], last])


def test_an_unreadable_face_of_a_part_is_an_error_that_names_it(tmp_path):
    rows = rows_of(tmp_path)
    for row in rows[1:]:
        row["path"].write_bytes(b"broken")
    with pytest.raises(InputError, match=r"1\.png is not readable \(2 faces in all\)"):
        load_part(rows, 32, None)


def all_of(batches, indices=None):
    return [batches[index] for index in (range(len(batches)) if indices is None else indices)]


def test_batches_are_what_the_network_expects():
    for faces, labels in all_of(augmented_batches(PART, 4, 7, 1)):
        assert faces.shape == (4, 32, 32, 3) and faces.dtype == np.uint8
        assert labels.shape == (4, 1) and labels.dtype == np.float32
        assert sorted(labels[:, 0]) == [0, 0, 1, 1]


def test_labels_stay_with_their_faces(monkeypatch):
    monkeypatch.setattr(augmenting, "CHANCES", dict.fromkeys(STEPS, 0.0))
    known = {face.tobytes(): label for face, label in zip(FACES_RGB, LABELS, strict=True)}
    for faces, labels in all_of(augmented_batches(PART, 4, 7, 1)):
        assert [known[face.tobytes()] for face in faces] == labels[:, 0].tolist()


def test_batches_are_alike_for_one_seed_and_epoch_and_differ_else():
    def pictures(seed, epoch):
        return b"".join(faces.tobytes() for faces, _ in all_of(augmented_batches(PART, 4, seed, epoch)))

    assert pictures(7, 1) == pictures(7, 1)
    assert len({pictures(7, 1), pictures(7, 2), pictures(8, 1)}) == 3


def test_batches_do_not_depend_on_the_order_they_are_made_in():
    expected = [faces.tobytes() for faces, _ in all_of(augmented_batches(PART, 4, 7, 1))]
    batches = augmented_batches(PART, 4, 7, 1)
    backwards = [batches[step][0].tobytes() for step in reversed(range(len(batches)))]
    with ThreadPoolExecutor(6) as threads:
        together = [faces.tobytes() for faces, _ in threads.map(batches.__getitem__, range(len(batches)))]
    assert expected == backwards[::-1] == together


def test_a_dataset_can_be_read_again_and_knows_its_length():
    batches = augmented_batches(PART, 4, 7, 1)
    dataset = batches.as_dataset()
    first, second = ([faces.tobytes() for faces, _ in dataset.as_numpy_iterator()] for _ in range(2))
    assert first == second == [faces.tobytes() for faces, _ in all_of(batches)]
    assert len(dataset) == len(batches)


def test_the_cache_stays_uint8_and_unchanged():
    cached = FACES_RGB.copy()
    cached.setflags(write=False)
    all_of(augmented_batches(Part(cached, LABELS, LANDMARKS), 4, 7, 1))
    assert cached.dtype == np.uint8 and np.array_equal(cached, FACES_RGB)


def test_alternating_batches_hold_the_same_faces_and_both_classes_in_every_piece():
    for (faces, labels), (others, other_labels) in zip(
        all_of(augmented_batches(PART, 8, 7, 1)), all_of(augmented_batches(PART, 8, 7, 1, alternate=True)), strict=True
    ):
        np.testing.assert_array_equal(others, faces[[0, 4, 1, 5, 2, 6, 3, 7]])
        assert labels[:, 0].tolist() == [REAL] * 4 + [FAKE] * 4 and other_labels[:, 0].tolist() == [REAL, FAKE] * 4


def test_plain_batches_are_all_faces_in_order_unchanged():
    batches = plain_batches(FACES_RGB, LABELS, 8)
    assert [len(labels) for _, labels in all_of(batches)] == [6, 5, 6]
    faces, labels = (np.concatenate(parts) for parts in zip(*all_of(batches), strict=True))
    np.testing.assert_array_equal(faces, FACES_RGB)
    assert labels[:, 0].tolist() == LABELS.tolist()


def test_importing_does_not_load_the_large_libraries():
    rooms = "augmentation.augment augmentation.self_blending preprocessing.crops preprocessing.mtcnn model.batches "
    rooms += "model.efficientnet model.training model.scorer evaluation.calibration dataset.table parallel.spark"
    code = f"import sys, {', '.join(f'deepfake.{room}' for room in rooms.split())}; "
    code += (
        "sys.exit(not {'tensorflow', 'keras', 'onnx', 'onnxruntime', 'h5py', 'av', 'sklearn'}.isdisjoint(sys.modules))"
    )
    root = importlib.import_module("common.paths").REPOSITORY_DIR
    assert subprocess.run([sys.executable, "-c", code], cwd=root).returncode == 0
