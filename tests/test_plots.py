"""What the plots show, read from the figure, and that they are PNG files."""

import re

import cv2
import numpy as np
import pytest

from common import plots
from common.records import InputError, OutputError


@pytest.fixture
def drawn(monkeypatch):
    """The figures that were saved; they are still written."""
    figures, save = [], plots.save_figure

    def keep(figure, path):
        figures.append(figure)
        save(figure, path)

    monkeypatch.setattr(plots, "save_figure", keep)
    return figures


def test_confusion_counts_and_shares_real_first(tmp_path, drawn):
    labels, predicted = [1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 1]
    plots.draw_confusion(tmp_path / "c.png", labels, predicted, "Videos, aggregate: mean", "videos")
    axes = drawn[0].axes[0]
    assert [text.get_text() for text in axes.texts] == ["3\n75%", "1\n25%", "1\n50%", "1\n50%"]
    assert [tick.get_text() for tick in axes.get_yticklabels()] == ["REAL", "FAKE"]  # truth, from top to bottom
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["REAL", "FAKE"]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("verdict", "label (truth)")
    assert axes.get_title() == "Videos, aggregate: mean\n6 videos: count and share of the row"
    height, width, _ = cv2.imread(str(tmp_path / "c.png")).shape
    assert (width, height) == (780, 660)  # 5.2 x 4.4 inches at 150 dpi


def test_confusion_of_one_class_says_that_the_other_is_absent(tmp_path, drawn):
    plots.draw_confusion(tmp_path / "c.png", [0, 0], [0, 1], "Faces", "faces")
    assert [text.get_text() for text in drawn[0].axes[0].texts] == ["0\n(none)", "0\n(none)", "1\n50%", "1\n50%"]


def test_history_shows_both_curves_and_the_kept_epoch(tmp_path, drawn):
    history = [{"epoch": e, "loss": 1 / e, "val_loss": 2 / e} for e in (1, 2, 3)]
    plots.draw_history(tmp_path / "Loss.png", history, 2, "loss", "binary cross-entropy")
    training, validation, best = drawn[0].axes[0].lines
    assert list(training.get_xdata()) == [1, 2, 3] and list(training.get_ydata()) == [1, 1 / 2, 1 / 3]
    assert list(validation.get_ydata()) == [2, 1, 2 / 3]
    assert set(best.get_xdata()) == {2} and "2" in best.get_label()
    assert drawn[0].axes[0].get_ylabel() == "loss (binary cross-entropy)"
    assert cv2.imread(str(tmp_path / "Loss.png")) is not None


def test_figures_need_no_display_and_no_global_state(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    figure, axes = plots.new_figure(3, 2)
    assert tuple(figure.get_size_inches()) == (3, 2) and figure.axes == [axes]


def test_figure_that_cannot_be_written_raises_in_words(tmp_path):
    figure, _ = plots.new_figure(1, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises((OutputError, InputError), match="cannot write"):
        plots.save_figure(figure, tmp_path / "file" / "x.png")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


LABELS, P_FAKE = [0, 0, 0, 1, 1, 1], [0.95, 0.7, 0.2, 0.6, 0.1, 0.05]


def axes_of(draw):
    figure, axes = plots.new_figure(4, 4)
    draw(axes, LABELS, P_FAKE)
    return axes


def test_roc_and_the_threshold_in_use():
    curve, guessing, point = axes_of(plots.roc_on).lines
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
    curve, guessing = axes_of(plots.precision_recall_on).lines
    recall, precision = curve.get_data()
    assert {(1.0, 0.75), (2 / 3, 1.0), (0.0, 1.0)} <= set(zip(recall, precision, strict=True)) and guessing.get_ydata()[
        0
    ] == 0.5


def test_calibration_is_the_share_of_fakes_per_bin():
    axes = axes_of(plots.calibration_on)
    points = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "o"]
    assert points == [(0.05, 0), (0.1, 0), (0.2, 1), (0.6, 0), (0.7, 1), (0.95, 1)]


def test_histogram_counts_each_class():
    axes = axes_of(plots.histogram_on)
    fakes = sum(patch.get_height() for patch in axes.patches if hasattr(patch, "get_height"))
    assert fakes == 3 and [text.get_text() for text in axes.get_legend().get_texts()] == [
        "fakes",
        "reals",
        "threshold 0.5",
    ]


def test_svg_has_the_colours_of_its_theme_and_no_code():
    pictures = plots.svg_of(lambda axes: plots.roc_on(axes, LABELS, P_FAKE))
    for theme, other in (("light", "dark"), ("dark", "light")):
        text = pictures[theme].decode()
        assert all(re.search(colour, text, re.IGNORECASE) for colour in plots.THEMES[theme])
        assert not any(re.search(colour, text, re.IGNORECASE) for colour in plots.THEMES[other])
        assert "<script" not in text and "ROC curve" in text


@pytest.mark.parametrize(("labels", "number"), [(LABELS, 5), ([1, 1, 1, 1, 1, 1], 2)])
def test_score_charts_can_all_be_drawn(labels, number):
    charts = plots.score_charts(labels, [1 - p for p in P_FAKE])
    assert len(charts) == number
    for _, _, draw in charts:
        draw(plots.new_figure(4, 4)[1])
