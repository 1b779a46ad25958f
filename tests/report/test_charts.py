"""The charts of report.html, read from the figure."""

import re

import numpy as np
import pytest

from deepfake.report import charts
from deepfake.report.plots import new_figure

LABELS, P_FAKE = [0, 0, 0, 1, 1, 1], [0.95, 0.7, 0.2, 0.6, 0.1, 0.05]


def axes_of(draw):
    figure, axes = new_figure(4, 4)
    draw(axes, LABELS, P_FAKE)
    return axes


def test_roc_and_the_threshold_in_use():
    curve, guessing, point = axes_of(charts.roc_on).lines
    assert list(zip(*curve.get_data(), strict=True)) == [
        (0, 0),
        (0, 1 / 3),
        (0, 2 / 3),
        (1 / 3, 2 / 3),
        (1 / 3, 1),
        (1, 1),
    ]
    assert [value.item() for value in np.ravel(point.get_data())] == [1 / 3, 2 / 3]
    assert guessing.get_label() == "guessing"


def test_precision_and_recall():
    curve, guessing = axes_of(charts.precision_recall_on).lines
    recall, precision = curve.get_data()
    assert {(1.0, 0.75), (2 / 3, 1.0), (0.0, 1.0)} <= set(zip(recall, precision, strict=True)) and guessing.get_ydata()[
        0
    ] == 0.5


def test_calibration_is_the_share_of_fakes_per_bin():
    axes = axes_of(charts.calibration_on)
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert points == [(0.05, 0), (0.1, 0), (0.2, 1), (0.6, 0), (0.7, 1), (0.95, 1)]


def test_histogram_counts_each_class():
    axes = axes_of(charts.histogram_on)
    fakes = sum(patch.get_height() for patch in axes.patches if hasattr(patch, "get_height"))
    assert fakes == 3 and [text.get_text() for text in axes.get_legend().get_texts()] == [
        "fakes",
        "reals",
        "threshold 0.5",
    ]


def test_svg_has_the_colours_of_its_theme_and_no_code():
    pictures = charts.svg_of(lambda axes: charts.roc_on(axes, LABELS, P_FAKE))
    for theme, other in (("light", "dark"), ("dark", "light")):
        text = pictures[theme].decode()
        assert all(re.search(colour, text, re.IGNORECASE) for colour in charts.THEMES[theme])
        assert not any(re.search(colour, text, re.IGNORECASE) for colour in charts.THEMES[other])
        assert "<script" not in text and "ROC curve" in text


@pytest.mark.parametrize(("labels", "number"), [(LABELS, 5), ([1, 1, 1, 1, 1, 1], 2)])
def test_score_charts_can_all_be_drawn(labels, number):
    drawn = charts.score_charts(labels, [1 - p for p in P_FAKE])
    assert len(drawn) == number
    for _, _, draw in drawn:
        draw(new_figure(4, 4)[1])
