"""deepfake/evaluation/calibration.py: from scores to probabilities, fitted on validation faces."""

import json
import math
import warnings

import numpy as np
import pytest

from common.constants import FAKE, REAL
from common.errors import InputError
from deepfake.evaluation.calibration import (
    GROUPS_TO_CALIBRATE,
    HOLDS_FOR,
    MEASURED_ON,
    UNCHANGED,
    balancing_weights,
    calibrate,
    check_calibration,
    fit,
    in_words,
    logit,
    make_calibration,
    read_parameters,
    video_means,
)
from deepfake.evaluation.metrics import expected_calibration_error, log_loss


def scores_of(a, b, reals=20_000, fakes=20_000, seed=0):
    """Return (labels, scores) for which sigmoid(a * logit + b) is P(real) where reals and fakes are as many.

    Logits of reals and of fakes are normal, with deviation 1, a apart, around -b / a: the log of the ratio is a * x + b.
    """
    rng = np.random.default_rng(seed)
    logits = np.concatenate([rng.normal(side * a / 2 - b / a, 1, n) for side, n in ((1, reals), (-1, fakes))])
    return np.repeat([REAL, FAKE], [reals, fakes]), 1 / (1 + np.exp(-logits))


def balanced_log_loss(labels, scores):
    return np.mean([log_loss(labels[labels == label], scores[labels == label]) for label in (FAKE, REAL)])


@pytest.mark.parametrize("a, b", [(0.5, 0.0), (2.0, 1.0), (0.7, -1.5), (1.0, 0.3)])
def test_fit_finds_what_the_scores_were_made_with(a, b):
    assert fit(*scores_of(a, b)) == pytest.approx({"a": a, "b": b}, abs=0.05)


@pytest.mark.parametrize("reals, fakes", [(40_000, 4_000), (4_000, 40_000)])
def test_fit_counts_both_classes_the_same(reals, fakes):
    """A share of reals as in the data would move b by ln 10 = 2.3."""
    assert fit(*scores_of(0.7, -0.5, reals, fakes)) == pytest.approx({"a": 0.7, "b": -0.5}, abs=0.06)


def test_nothing_near_the_fit_has_a_lower_log_loss():
    labels, scores = scores_of(0.6, 0.8, 3000, 1000)
    fitted = fit(labels, scores)
    lowest = balanced_log_loss(labels, calibrate(scores, fitted))
    for a, b in ((0.03, 0), (-0.03, 0), (0, 0.03), (0, -0.03)):
        moved = {"a": fitted["a"] + a, "b": fitted["b"] + b}
        assert balanced_log_loss(labels, calibrate(scores, moved)) > lowest


def test_fit_of_separable_scores_is_finite_and_not_certain():
    """Without Platt's answers a would grow for ever."""
    labels = np.repeat([REAL, FAKE], [50, 100])
    for real, fake in ((0.9, 0.1), (1.0, 0.0), (0.6, 0.55)):
        parameters = fit(labels, np.where(labels == REAL, real, fake))
        assert all(map(math.isfinite, parameters.values()))
        found = calibrate(np.array([real, fake]), parameters)
        assert found == pytest.approx([51 / 52, 1 / 102], abs=0.005)


def test_calibrate_is_the_formula():
    scores, parameters = np.array([0.01, 0.3, 0.5, 0.8, 0.999]), {"a": 1.7, "b": -0.4}
    expected = [1 / (1 + math.exp(-(1.7 * math.log(p / (1 - p)) - 0.4))) for p in scores]
    assert calibrate(scores, parameters) == pytest.approx(expected, rel=1e-9)
    assert calibrate(scores.tolist(), parameters).dtype == np.float64
    assert float(calibrate(0.3, parameters)) == pytest.approx(expected[1])


@pytest.mark.parametrize("parameters", [UNCHANGED, {"a": 0.3, "b": 2.0}, {"a": 60.0, "b": -5.0}])
def test_calibrate_is_finite_and_keeps_the_order(parameters):
    scores = np.linspace(0, 1, 1001)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = calibrate(scores, parameters)
    assert np.isfinite(found).all() and found.min() >= 0 and found.max() <= 1 and (np.diff(found) >= 0).all()
    assert found[-1] > found[0] and len(np.unique(found)) > 100


def test_unchanged_changes_no_score_and_no_verdict():
    scores = np.concatenate([np.linspace(0, 1, 1001), [np.nextafter(0.5, 0), np.nextafter(0.5, 1)]]).astype(np.float32)
    found = calibrate(scores, UNCHANGED)
    assert found == pytest.approx(scores, abs=2e-7) and np.array_equal(found >= 0.5, scores >= 0.5)


def test_logit_is_finite_at_both_ends():
    assert logit([0.5, 0.0, 1.0]) == pytest.approx([0, -math.log(1e7), math.log(1e7)], rel=1e-6)


RECORD = {"calibration": {"faces": {"a": 0.8, "b": -0.2, "log_loss": {}}, "videos": {"a": 1.4, "b": 0}}}


def test_read_parameters_are_those_of_the_kind():
    assert read_parameters(RECORD, "faces") == {"a": 0.8, "b": -0.2}
    assert read_parameters(RECORD, "videos") == {"a": 1.4, "b": 0.0}


@pytest.mark.parametrize("record", [{}, {"calibration": None}])
def test_a_record_without_calibration_leaves_scores_unchanged(record):
    assert read_parameters(record, "faces") == UNCHANGED


MALFORMED = [
    {},
    [],
    "text",
    7,
    {"faces": None},
    {"faces": {}},
    {"faces": {"a": 1}},
    {"faces": {"a": None, "b": 0}},
    {"faces": {"a": "x", "b": 0}},
    {"faces": [1, 0]},
    {"faces": {"a": [1], "b": 0}},
    {"faces": {"a": 10**400, "b": 0}},
]


@pytest.mark.parametrize("calibration", MALFORMED, ids=lambda value: str(value)[:30])
def test_a_malformed_calibration_is_an_error_in_words(calibration):
    with pytest.raises(InputError, match="the calibration of the weights is not understood"):
        read_parameters({"calibration": calibration}, "faces")


@pytest.mark.parametrize("a, b", [(0, 0), (-1, 0), (math.nan, 0), (math.inf, 0), (1, math.nan), (1, -math.inf)])
def test_a_calibration_that_turns_scores_round_or_breaks_them_is_an_error(a, b):
    with pytest.raises(InputError, match="not usable"):
        read_parameters({"calibration": {"faces": {"a": a, "b": b}}}, "faces")


def test_check_calibration_looks_at_faces_and_videos():
    for record in ({}, {"calibration": None}, RECORD):
        check_calibration(record)
    for kind in ("faces", "videos"):
        for broken in ({}, {"a": "x", "b": 0}, {"a": -1, "b": 0}):
            with pytest.raises(InputError, match="the calibration of the weights"):
                check_calibration({"calibration": {**RECORD["calibration"], kind: broken}})


def test_video_means_are_one_per_video():
    labels, means = video_means([1, 0, 1, 0, 0], np.array([0.9, 0.2, 0.5, 0.4, 0.9]), ["b", "c", "b", "c", "a"])
    assert dict(zip(means.round(9), labels, strict=True)) == {0.9: FAKE, 0.7: REAL, 0.3: FAKE}
    assert len(labels) == 3


def validation(groups, a=0.5, b=1.0, faces=6):
    """Return (labels, scores, video_ids, groups): two videos per group, one real, one fake, whose faces are alike."""
    labels, scores = scores_of(a, b, groups, groups, seed=5)
    noise = np.random.default_rng(6).normal(0, 0.3, 2 * groups * faces)
    scores = 1 / (1 + np.exp(-(logit(scores).repeat(faces) + noise)))
    names = np.tile([f"group {number:03}" for number in range(groups)], 2)
    video_ids = [f"{name} {label}" for name, label in zip(names, labels, strict=True)]
    return labels.repeat(faces).tolist(), scores, np.repeat(video_ids, faces).tolist(), names.repeat(faces).tolist()


def test_enough_groups_are_fitted_and_lower_the_log_loss():
    labels, scores, video_ids, groups = validation(200)
    found = make_calibration(labels, scores, video_ids, groups, RECORD)
    faces = {name: found["faces"][name] for name in ("a", "b")}
    assert faces == fit(labels, scores)
    assert found["fitted_on"] == "200 validation groups" and found["notes"] == []
    assert (found["holds_for"], found["measured_on"]) == (HOLDS_FOR, MEASURED_ON)
    means = video_means(labels, calibrate(scores, faces), video_ids)
    assert {name: found["videos"][name] for name in ("a", "b")} == fit(*means)
    for kind, (right, given) in {"faces": (np.array(labels), scores), "videos": means}.items():
        for name, metric in (("log_loss", log_loss), ("expected_calibration_error", expected_calibration_error)):
            after = calibrate(given, found[kind])
            assert found[kind][name] == pytest.approx({"before": metric(right, given), "after": metric(right, after)})
        assert found[kind]["log_loss"]["after"] < found[kind]["log_loss"]["before"]
    assert found["faces"]["log_loss"]["after"] < 0.9 * found["faces"]["log_loss"]["before"]
    assert (
        found["faces"]["expected_calibration_error"]["after"]
        < 0.1
        < found["faces"]["expected_calibration_error"]["before"]
    )
    assert read_parameters({"calibration": json.loads(json.dumps(found))}, "faces") == faces


def test_what_it_changed_is_measured_with_as_many_fakes_as_reals():
    """As the probabilities are meant: of one fake for six reals nothing is known here."""
    labels, scores, video_ids, groups = validation(200)
    kept = [place for place, label in enumerate(labels) if label == REAL or place % 6 == 0]
    labels, video_ids, groups = ([values[place] for place in kept] for values in (labels, video_ids, groups))
    scores, right = scores[kept], np.array(labels)
    assert right.mean() > 0.8
    found = make_calibration(labels, scores, video_ids, groups, {})["faces"]
    for side, given in (("before", scores), ("after", calibrate(scores, found))):
        assert found["log_loss"][side] == pytest.approx(balanced_log_loss(right, given))
        error = expected_calibration_error(right, given, balancing_weights(right))
        assert found["expected_calibration_error"][side] == pytest.approx(error)
    assert found["log_loss"]["after"] < found["log_loss"]["before"]


def test_balancing_weights_give_both_classes_half():
    labels = np.array([REAL] * 6 + [FAKE] * 2)
    assert balancing_weights(labels) == pytest.approx([4 / 6] * 6 + [2] * 2)


def test_the_number_of_groups_decides_not_that_of_videos():
    labels, scores, video_ids, groups = validation(GROUPS_TO_CALIBRATE)
    assert (
        make_calibration(labels, scores, video_ids, groups, {})["fitted_on"]
        == f"{GROUPS_TO_CALIBRATE} validation groups"
    )
    fewer = ["group 000" if group == "group 001" else group for group in groups]
    found = make_calibration(labels, scores, video_ids, fewer, {})
    assert found["fitted_on"].startswith(
        f"not fitted: {GROUPS_TO_CALIBRATE - 1} validation groups, {GROUPS_TO_CALIBRATE} are needed"
    )


def test_too_few_groups_keep_the_calibration_of_the_starting_weights():
    labels, scores, video_ids, groups = validation(8)
    found = make_calibration(labels, scores, video_ids, groups, RECORD)
    for kind in ("faces", "videos"):
        assert {name: found[kind][name] for name in ("a", "b")} == read_parameters(RECORD, kind)
    after = log_loss(np.array(labels), calibrate(scores, RECORD["calibration"]["faces"]))
    assert found["faces"]["log_loss"]["after"] == pytest.approx(after)
    assert found["fitted_on"].endswith("that of the starting weights stays") and found["holds_for"] is None


@pytest.mark.parametrize("starting", [{}, {"calibration": None}])
def test_too_few_groups_without_starting_calibration_leave_scores_as_they_are(starting):
    labels, scores, video_ids, groups = validation(8)
    found = make_calibration(labels, scores, video_ids, groups, starting)
    for kind in ("faces", "videos"):
        assert {name: found[kind][name] for name in ("a", "b")} == UNCHANGED
        assert found[kind]["log_loss"]["after"] == pytest.approx(found[kind]["log_loss"]["before"])
    assert found["fitted_on"].endswith("scores are left as they are") and found["holds_for"] is None


def test_a_malformed_starting_calibration_matters_only_if_it_is_needed():
    malformed = {"calibration": {"faces": {"a": "x", "b": 0}}}
    assert (
        make_calibration(*validation(GROUPS_TO_CALIBRATE), malformed)["fitted_on"]
        == f"{GROUPS_TO_CALIBRATE} validation groups"
    )
    with pytest.raises(InputError, match="not understood"):
        make_calibration(*validation(8), malformed)


def test_scores_that_are_worse_than_chance_are_left_alone():
    """Turned round they would be right, but then the verdicts would be the opposite of the network's."""
    labels, scores, video_ids, groups = validation(40)
    found = make_calibration(labels, 1 - scores, video_ids, groups, {})
    assert {name: found["faces"][name] for name in ("a", "b")} == UNCHANGED
    assert {name: found["videos"][name] for name in ("a", "b")} == UNCHANGED
    assert found["notes"] == [f"{kind}: scores no better than chance, left as they are" for kind in ("faces", "videos")]


def test_equal_scores_are_left_alone():
    labels, scores, video_ids, groups = validation(40)
    found = make_calibration(labels, np.full(len(scores), 0.7), video_ids, groups, {})
    assert found["faces"]["a"] == 1 and found["faces"]["log_loss"]["after"] == found["faces"]["log_loss"]["before"]


def test_in_words_holds_the_numbers():
    measured = {
        "log_loss": {"before": 0.71234, "after": 0.6},
        "expected_calibration_error": {"before": 0.25, "after": 0.031},
    }
    calibration = {"fitted_on": "41 validation groups", "faces": {**UNCHANGED, **measured}, "notes": []}
    line = in_words(calibration)
    assert "\n" not in line and line.startswith("41 validation groups; ")
    positions = [line.index(number) for number in ("0.712", "0.600", "0.250", "0.031")]
    assert positions == sorted(positions)
    assert "; faces: left alone; " in in_words({**calibration, "notes": ["faces: left alone"]})
