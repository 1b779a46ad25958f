"""Metrics against scikit-learn, intervals against SciPy."""

import time

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.stats import binomtest
from sklearn import metrics as reference
from sklearn.calibration import calibration_curve

from deepfake.evaluation.intervals import (
    HEADLINE,
    MIN_GROUPS,
    MIN_GROUPS_OF_CLASS,
    RESAMPLES,
    binomial_interval,
    bootstrap_intervals,
    describe,
    format_metric,
    resampled_weights,
)
from deepfake.evaluation.metrics import (
    MEANINGS,
    METRICS,
    accuracy,
    average_precision,
    balanced_accuracy,
    equal_error_rate,
    expected_calibration_error,
    false_positive_rate,
    log_loss,
    roc_auc,
)

NAMES = [
    "accuracy",
    "balanced_accuracy",
    "roc_auc",
    "average_precision",
    "log_loss",
    "equal_error_rate",
    "fpr_at_90_recall",
    "fpr_at_95_recall",
    "expected_calibration_error",
]


def some_videos(number, seed=0):
    """Return (labels, scores with ties and with 0, 0.5 and 1, weights)."""
    rng = np.random.default_rng(seed)
    labels = (rng.random(number) < 0.3).astype(int)
    scores = np.round(np.clip(0.5 * rng.random(number) + 0.3 * labels + 0.1, 0, 1), 1)
    scores[:3] = 0.0, 0.5, 1.0
    return labels, scores, rng.integers(0, 4, number).astype(float)


@pytest.mark.parametrize("seed", range(5))
def test_values_are_those_of_scikit_learn(seed):
    labels, scores, weights = some_videos(60, seed)
    verdicts = (scores >= 0.5).astype(int)
    for given in (None, weights):
        assert accuracy(labels, scores, given) == pytest.approx(
            reference.accuracy_score(labels, verdicts, sample_weight=given)
        )
        assert balanced_accuracy(labels, scores, given) == pytest.approx(
            reference.balanced_accuracy_score(labels, verdicts, sample_weight=given)
        )
        assert roc_auc(labels, scores, given) == pytest.approx(
            reference.roc_auc_score(labels, scores, sample_weight=given)
        )
        clipped = np.clip(scores, 1e-7, 1 - 1e-7)
        assert log_loss(labels, scores, given) == pytest.approx(
            reference.log_loss(labels, clipped, sample_weight=given)
        )


def fakes_curve(labels, scores, weights=None):
    """Return scikit-learn's (false-positive rates, recalls) with the fakes as the positive class."""
    return reference.roc_curve(labels == 0, -scores, sample_weight=weights, drop_intermediate=False)[:2]


def crossing(labels, scores, weights=None):
    """Return where the ROC curve, its points joined by lines, has as many false positives as misses: by root finding."""
    curve = fakes_curve(labels, scores, weights)
    along = np.arange(len(curve[0]))

    def excess(place):
        false_positives, recall = (np.interp(place, along, rates) for rates in curve)
        return 1 - recall - false_positives

    return np.interp(brentq(excess, 0, along[-1]), along, curve[0])


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("decimals", [1, 9], ids=["with ties", "without ties"])
def test_metrics_of_found_fakes_are_those_of_scikit_learn(seed, decimals):
    labels, _, weights = some_videos(60, seed)
    rng = np.random.default_rng(seed)
    scores = np.round(np.clip(0.6 * rng.random(60) + 0.25 * labels, 0, 1), decimals)
    for given in (None, weights):
        expected = reference.average_precision_score(labels == 0, -scores, sample_weight=given)
        assert average_precision(labels, scores, given) == pytest.approx(expected)
        assert equal_error_rate(labels, scores, given) == pytest.approx(crossing(labels, scores, given))
        false_positives, recalls = fakes_curve(labels, scores, given)
        for recall in (0.5, 0.9, 0.95, 1.0):
            expected = false_positives[recalls >= recall].min()
            assert false_positive_rate(labels, scores, given, recall=recall) == pytest.approx(expected)


def test_metrics_of_found_fakes_by_hand():
    """Most suspicious first: fake, real, fake, real. Recall 1/2 at no false positive, 1 at half of the reals."""
    labels, scores = np.array([0, 1, 0, 1]), np.array([0.1, 0.2, 0.3, 0.4])
    assert average_precision(labels, scores) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert equal_error_rate(labels, scores) == 0.5
    assert [false_positive_rate(labels, scores, recall=recall) for recall in (0.5, 0.51, 0.95)] == [0, 0.5, 0.5]
    assert average_precision(labels, 1 - scores) == pytest.approx((1 / 2 + 2 / 4) / 2), "fakes are the positive class"
    perfect = np.array([0.1, 0.9, 0.2, 0.8])
    assert (average_precision(labels, perfect), equal_error_rate(labels, perfect)) == (1, 0)
    assert METRICS["fpr_at_95_recall"](labels, perfect) == 0
    assert METRICS["fpr_at_90_recall"](labels, 1 - perfect) == 1 == equal_error_rate(labels, 1 - perfect)


def test_nine_of_ten_fakes_are_90_percent():
    labels = np.repeat([0, 1], 10)
    scores = np.concatenate([np.linspace(0, 0.4, 9), [0.8], np.linspace(0.5, 0.7, 5), np.linspace(0.9, 1, 5)])
    assert METRICS["fpr_at_90_recall"](labels, scores) == 0 and METRICS["fpr_at_95_recall"](labels, scores) == 0.5


@pytest.mark.parametrize("seed", range(3))
def test_expected_calibration_error_is_that_of_scikit_learns_curve(seed):
    rng = np.random.default_rng(seed)
    scores = rng.random(500)
    labels = (rng.random(500) < scores**2).astype(int)
    real, mean = calibration_curve(labels, scores, n_bins=10)
    counts = np.histogram(scores, bins=10, range=(0, 1))[0]
    assert expected_calibration_error(labels, scores) == pytest.approx(np.sum(counts * np.abs(real - mean)) / 500)


@pytest.mark.parametrize("name", NAMES)
def test_many_resamples_at_once_are_each_by_itself(name):
    labels, scores, _ = some_videos(80)
    weights = next(resampled_weights(np.arange(80) // 2, labels, 0))[:30]
    together = METRICS[name](labels, scores, weights)
    assert together.shape == (30,) and len(set(together)) > 5
    alone = [METRICS[name](labels, scores, row) for row in weights]
    repeated = [METRICS[name](labels.repeat(row.astype(int)), scores.repeat(row.astype(int))) for row in weights]
    assert np.allclose(together, alone) and np.allclose(together, repeated)


def test_resamples_are_of_whole_groups_and_as_many_as_there_are():
    labels, groups = np.array([0, 0, 1, 1, 1, 0]), np.array(["a", "b", "a", "c", "c", "b"])
    weights = np.concatenate(list(resampled_weights(groups, labels, 0)))
    assert weights.shape == (RESAMPLES, 6)
    assert (weights[:, 0] == weights[:, 2]).all() and (weights[:, 3] == weights[:, 4]).all()
    assert (weights[:, [0, 1, 3]].sum(axis=1) == 3).all()
    assert all((weights[:, labels == label] > 0).any(axis=1).all() for label in (0, 1))
    assert weights[:, 0].mean() == pytest.approx(1, abs=0.2)


def test_intervals_of_every_metric_for_4000_videos_take_seconds():
    labels, scores, _ = some_videos(4000)
    scores = np.clip(scores + 0.05 * np.random.default_rng(0).random(4000), 0, 1)
    started = time.process_time()
    result = describe(labels, scores, np.arange(4000) // 2, seed=0)
    assert all(entry["method"] == "cluster bootstrap" for entry in result.values())
    assert time.process_time() - started < 8, "a loop over the resamples takes more"


def test_score_of_exactly_one_half_is_real():
    labels, scores = np.array([1, 0]), np.array([0.5, 0.5])
    assert accuracy(labels, scores) == 0.5 and balanced_accuracy(labels, scores) == 0.5
    assert accuracy(labels[:1], scores[:1]) == 1
    assert accuracy(labels[:1], np.array([np.nextafter(0.5, 0)])) == 0


def test_log_loss_of_a_certain_mistake_is_finite():
    assert log_loss(np.array([1]), np.array([0.0])) == pytest.approx(-np.log(1e-7))


def test_expected_calibration_error_is_the_one_computed_by_hand():
    """Bins 0.2: 1 of 2 real, mean 0.25; 0.7: 2 of 3, mean 0.75; 0.9, with 1.0 in it: 1 of 2, mean 0.96; 0.0: 0 of 1, mean 0."""
    labels = np.array([1, 0, 1, 1, 0, 1, 0, 0])
    scores = np.array([0.21, 0.29, 0.71, 0.75, 0.79, 0.92, 1.0, 0.0])
    by_hand = (2 * (1 / 2 - 0.25) + 3 * (0.75 - 2 / 3) + 2 * (0.96 - 1 / 2) + 1 * 0) / 8
    assert expected_calibration_error(labels, scores) == pytest.approx(by_hand)
    order = np.random.default_rng(0).permutation(8)
    assert expected_calibration_error(labels[order], scores[order]) == pytest.approx(by_hand)


def test_expected_calibration_error_of_the_right_the_overconfident_and_the_wrong():
    labels = np.arange(1000) % 10 < 7  # 70 % real
    for score, error in ((0.7, 0.0), (0.95, 0.25), (0.5, 0.2), (1.0, 0.3), (0.0, 0.7)):
        assert expected_calibration_error(labels.astype(int), np.full(1000, score)) == pytest.approx(error)
    assert expected_calibration_error(labels.astype(int), labels.astype(float)) == 0
    assert expected_calibration_error(labels.astype(int), 1.0 - labels) == 1


def test_errors_of_different_bins_do_not_cancel_out_those_within_one_do():
    labels = np.array([1, 0] * 50)
    assert expected_calibration_error(labels, np.repeat([0.2, 0.8], 50)) == pytest.approx(0.3)
    assert expected_calibration_error(labels, np.repeat([0.52, 0.58], 50)) == pytest.approx(0.05)


def test_calibration_error_with_weights_is_that_of_repeated_scores():
    labels, scores, weights = some_videos(60)
    repeated = (values.repeat(weights.astype(int)) for values in (labels, scores))
    assert expected_calibration_error(labels, scores, weights) == pytest.approx(expected_calibration_error(*repeated))
    assert expected_calibration_error(labels, scores, weights) != pytest.approx(
        expected_calibration_error(labels, scores)
    )


def test_scores_that_are_chances_have_next_to_no_calibration_error():
    rng = np.random.default_rng(0)
    scores = rng.random(50_000)
    labels = (rng.random(50_000) < scores).astype(int)
    assert expected_calibration_error(labels, scores) < 0.01 < 0.1 < expected_calibration_error(labels, scores**3)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (0, 5, 0, 1 - 0.025 ** (1 / 5)),
        (5, 5, 0.025 ** (1 / 5), 1),
        (1, 1, 0.025, 1),
        (3, 7, 0.0989882784, 0.8159484324),
        (17, 19, 0.6686233355, 0.9869878356),
    ],
)
def test_binomial_interval_is_the_exact_one(successes, trials, low, high):
    """At the limits its formula is closed: of 5 right of 5, the chance whose fifth power is 2.5 %."""
    assert binomial_interval(successes, trials) == pytest.approx([low, high], abs=1e-9)


def test_describe_many_groups():
    labels, scores, _ = some_videos(200)
    result = describe(labels.tolist(), scores.tolist(), [f"g{index}" for index in range(200)], seed=1)
    assert list(result) == NAMES
    for entry in result.values():
        low, high = entry["interval"]
        assert low < entry["value"] < high and entry["method"] == "cluster bootstrap"
    assert result["roc_auc"]["value"] == pytest.approx(reference.roc_auc_score(labels, scores))
    right = int(((scores >= 0.5) == labels).sum())
    exact = binomtest(right, 200).proportion_ci(0.95, method="exact")
    assert result["accuracy"]["interval"] == pytest.approx([exact.low, exact.high], abs=0.015)


def test_intervals_depend_on_the_seed_and_on_nothing_else():
    labels, scores, _ = some_videos(40)
    groups = np.arange(40)
    first = describe(labels, scores, groups, seed=1)
    assert first == describe(labels, scores, groups, seed=1)
    assert first["log_loss"]["interval"] != describe(labels, scores, groups, seed=2)["log_loss"]["interval"]


def test_resampling_is_over_groups_not_videos():
    """Ten videos of a person rise and fall together: there are 40 independent facts here, not 400."""
    rng = np.random.default_rng(3)
    labels = np.tile([0, 1], 200)
    right = np.repeat(rng.random(40) < 0.7, 10)
    scores = np.where(right == labels, 0.9, 0.1)
    by_person = describe(labels, scores, np.repeat(np.arange(40), 10), seed=0)["accuracy"]["interval"]
    by_video = describe(labels, scores, np.arange(400), seed=0)["accuracy"]["interval"]
    assert np.diff(by_person) > 2.5 * np.diff(by_video)
    people = np.repeat([f"person {index}" for index in range(40)], 10)
    means = [right[people == name].mean() for name in np.unique(people)]
    assert np.diff(by_person) == pytest.approx(2 * 1.96 * np.std(means) / np.sqrt(40), rel=0.1)


def test_resamples_of_one_class_are_drawn_again():
    """One real among 25: a third of all resamples lack it, and none of them may count."""
    labels, scores = np.array([1] + [0] * 24), np.linspace(0.9, 0.1, 25)
    low, high = bootstrap_intervals(labels, scores, np.arange(25), ["balanced_accuracy"], seed=0)["balanced_accuracy"]
    assert np.isfinite([low, high]).all() and low >= 0.5


@pytest.mark.parametrize("groups", [1, 2, MIN_GROUPS - 1])
def test_few_groups_have_an_exact_interval_for_accuracy_and_none_else(groups):
    labels, scores, _ = some_videos(60)
    result = describe(labels, scores, np.arange(60) % groups, seed=0, rows_are_videos=True)
    exact = binomtest(int(((scores >= 0.5) == labels).sum()), 60).proportion_ci(0.95, method="exact")
    assert result["accuracy"]["interval"] == pytest.approx([exact.low, exact.high])
    assert result["accuracy"]["method"] == "exact binomial"
    assert all(result[name]["interval"] is None for name in NAMES[1:])
    assert all(result[name]["method"] == "too few to bound" for name in NAMES[1:])
    assert describe(labels, scores, np.arange(60) % MIN_GROUPS, seed=0)["roc_auc"]["interval"] is not None


def test_faces_of_few_groups_have_no_interval_at_all():
    """200 faces of 4 videos are not 200 trials."""
    labels = np.repeat([0, 1, 0, 1], 50)
    for scores in (np.where(np.arange(200) < 150, labels, 1 - labels), labels):
        result = describe(labels, scores, np.repeat(np.arange(4), 50), seed=0)
        assert {(entry["interval"], entry["method"]) for entry in result.values()} == {(None, "too few to bound")}


@pytest.mark.parametrize(("right", "value"), [(True, 1.0), (False, 0.0)])
def test_perfect_score_is_not_given_an_interval_of_no_width(right, value):
    labels = np.arange(50) % 2
    scores = np.where((labels == 1) == right, np.linspace(0.6, 0.9, 50), np.linspace(0.1, 0.4, 50))
    result = describe(labels, scores, np.arange(50), seed=0, rows_are_videos=True)
    exact = binomtest(50 if right else 0, 50).proportion_ci(0.95, method="exact")
    assert result["accuracy"]["value"] == value
    assert result["accuracy"]["interval"] == pytest.approx([exact.low, exact.high])
    assert result["roc_auc"] == {"value": value, "interval": None, "method": "exactly 0 or 1: no interval"}, (
        "50 are not few"
    )
    bounded = {"accuracy", "log_loss", "expected_calibration_error"} | (set() if right else {"average_precision"})
    assert {name for name in NAMES if result[name]["interval"]} == bounded
    assert all(result[name]["method"] == "cluster bootstrap" for name in ("log_loss", NAMES[-1]))


@pytest.mark.parametrize(("of_rarer", "bounded"), [(MIN_GROUPS_OF_CLASS - 1, False), (MIN_GROUPS_OF_CLASS, True)])
@pytest.mark.parametrize("rarer", [0, 1])
def test_metrics_of_two_classes_need_groups_of_each(rarer, of_rarer, bounded):
    """Nine videos of a class are too few to compare it with the other."""
    rng = np.random.default_rng(0)
    labels = np.where(np.arange(40) < of_rarer, rarer, 1 - rarer)
    result = describe(labels, np.clip(0.3 * labels + rng.uniform(0, 0.7, 40), 0, 1), np.arange(40), seed=0)
    for name, entry in result.items():
        assert (entry["interval"] is not None) == (bounded or name in ("accuracy", "log_loss", NAMES[-1])), name


def test_a_rate_of_0_is_bounded_where_resamples_differ():
    """No real is called fake at 90 % recall, because of the order of two scores."""
    labels = np.repeat([0, 1], 20)
    scores = np.concatenate([np.linspace(0.1, 0.3, 18), [0.35, 0.9], [0.4], np.linspace(0.6, 0.95, 19)])
    entry = describe(labels, scores, np.arange(40), seed=0)["fpr_at_90_recall"]
    assert entry["value"] == 0 and entry["interval"][0] == 0 and entry["interval"][1] > 0.1


def test_scores_that_are_all_alike_have_no_interval():
    labels = np.repeat([0, 1], 20)
    entry = describe(labels, np.full(40, 0.5), np.arange(40), seed=0)["roc_auc"]
    assert entry == {"value": 0.5, "interval": None, "method": "the same in nearly every resample: no interval"}


def test_perfect_order_with_mistakes_bounds_accuracy_but_not_auc():
    labels = np.arange(50) % 2
    scores = np.where(labels == 1, 0.9, np.linspace(0.1, 0.7, 50))
    result = describe(labels, scores, np.arange(50), seed=0)
    assert result["accuracy"]["method"] == "cluster bootstrap" and result["roc_auc"]["interval"] is None


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("videos", [5, 40])
def test_one_class_has_no_metric_that_needs_two(label, videos):
    result = describe([label] * videos, np.linspace(0, 1, videos), list(range(videos)), seed=0)
    assert list(result) == ["accuracy", "log_loss", "expected_calibration_error"]


def test_only_what_is_asked_for_is_described():
    labels, scores, _ = some_videos(40)
    assert list(describe(labels, scores, np.arange(40), seed=0, names=("roc_auc", "accuracy"))) == [
        "roc_auc",
        "accuracy",
    ]
    assert list(METRICS) == NAMES and set(HEADLINE) | set(MEANINGS) == set(NAMES)


def test_nothing_to_describe():
    assert describe([], [], [], seed=0) == {}


def test_format_metric():
    line = format_metric("roc_auc", {"value": 0.81234, "interval": [0.7, 0.9], "method": "x"})
    assert line.split() == ["roc", "auc", "0.812", "(95", "%", "interval", "0.700", "to", "0.900)"]
    entry = {"value": 1.0, "interval": None, "method": "exactly 0 or 1: no interval"}
    assert format_metric("roc_auc", entry).endswith("1.000  (exactly 0 or 1: no interval)")
    assert format_metric("roc_auc", {"value": 1.0, "interval": None}).endswith("1.000  (too few to bound)")
