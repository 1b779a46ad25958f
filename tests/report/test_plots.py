"""What the plots show, read from the figure, and that they are PNG files."""

import cv2
import pytest

from common.errors import InputError, OutputError
from deepfake.report import plots


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
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("verdict", "label")
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
