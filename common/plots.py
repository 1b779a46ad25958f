"""The look of the plots, and the confusion matrix that three scripts draw."""

import io

import numpy as np

from common.constants import CLASS_NAMES, FAKE, REAL
from common.records import write_atomic

BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart by the colour-blind and in grey (Okabe & Ito, 2008)
DPI = 150


def new_figure(width_in, height_in):
    """Return (figure, axes) without a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def save_figure(figure, path):
    """Write the figure as PNG in one step."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI)
    write_atomic(path, data.getvalue())


def draw_confusion(path, labels, predicted, title, unit):
    """Write a confusion matrix of counts and row percentages. `unit`: what is counted, "faces" or "videos"."""
    import seaborn

    order = (REAL, FAKE)
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    counts = np.array([[np.sum((labels == row) & (predicted == column)) for column in order] for row in order])
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    texts = [
        [f"{count}\n{share:.0%}" if total else "0\n(none)" for count, share in zip(row, row_shares, strict=True)]
        for row, row_shares, total in zip(counts, shares, totals[:, 0], strict=True)
    ]
    names = [CLASS_NAMES[label].upper() for label in order]
    figure, axes = new_figure(5.2, 4.4)
    seaborn.heatmap(
        shares, annot=texts, fmt="", cmap="Blues", vmin=0, vmax=1, square=True, linewidths=1, ax=axes,
        xticklabels=names, yticklabels=names, annot_kws={"size": 14}, cbar_kws={"label": "share of the row"},
    )  # fmt: skip
    axes.set(
        xlabel="verdict", ylabel="label (truth)", title=f"{title}\n{counts.sum()} {unit}: count and share of the row"
    )
    axes.tick_params(axis="y", rotation=0)
    save_figure(figure, path)


def draw_history(path, history, kept_epoch, name, unit):
    """Write the plot of a training and its validation `name` ("loss", "accuracy") per epoch, and mark the epoch that is kept."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = new_figure(6.4, 4.2)
    epochs = [epoch["epoch"] for epoch in history]
    axes.plot(epochs, [epoch[name] for epoch in history], "o--", color=ORANGE, label="training (augmented faces)")
    axes.plot(epochs, [epoch[f"val_{name}"] for epoch in history], "s-", color=BLUE, label="validation")
    axes.axvline(kept_epoch, color="0.4", linestyle=":", label=f"weights kept: epoch {kept_epoch}")
    axes.set(xlabel="epoch", ylabel=f"{name} ({unit})", title=f"{name.capitalize()} per epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    axes.legend()
    save_figure(figure, path)
