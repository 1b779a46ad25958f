"""The plots that the scripts write as PNG, and the look of all plots."""

import io

import numpy as np

from common import files
from common.constants import CLASS_NAMES, FAKE, REAL

BLUE, ORANGE = "#0072B2", "#D55E00"  # different for the colour-blind and in grey (Okabe & Ito, 2008)
DPI = 150
WHITE_TEXT_FROM = 0.7  # of the darkest blue: there white and black text can be read equally well


def new_figure(width_in, height_in):
    """Return (figure, axes); needs no display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots()


def save_figure(figure, path):
    """Write the figure as PNG in one step."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=DPI)
    files.write_atomic(path, data.getvalue())


def confusion_on(axes, labels, predicted, colour_bar=True):
    """Draw a confusion matrix of counts and row percentages."""
    import seaborn

    order = (REAL, FAKE)
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    counts = np.array([[np.sum((labels == row) & (predicted == column)) for column in order] for row in order])
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros(counts.shape), where=totals > 0)
    texts = [f"{n}\n{share:.0%}" for n, share in zip(counts.ravel(), shares.ravel(), strict=True)]
    texts = np.where(totals > 0, np.reshape(texts, (2, 2)), "0\n(none)")
    names = [CLASS_NAMES[label].upper() for label in order]
    look = {"cmap": "Blues", "vmin": 0, "vmax": 1, "square": True, "linewidths": 1, "annot_kws": {"size": 14}}
    look |= {"xticklabels": names, "yticklabels": names, "cbar_kws": {"label": "share of the row"}}
    seaborn.heatmap(shares, annot=texts, fmt="", ax=axes, cbar=colour_bar, **look)
    for text, share in zip(axes.texts, shares.ravel(), strict=True):
        text.set_color("white" if share > WHITE_TEXT_FROM else "#101010")
    axes.set(xlabel="verdict", ylabel="label")
    axes.tick_params(axis="y", rotation=0)


def draw_confusion(path, labels, predicted, title, unit):
    """Write a confusion matrix of counts and row percentages. `unit`: what is counted, "faces" or "videos"."""
    figure, axes = new_figure(5.2, 4.4)
    confusion_on(axes, labels, predicted)
    axes.set_title(f"{title}\n{len(labels)} {unit}: count and share of the row")
    save_figure(figure, path)


def draw_robustness(path, table, names):
    """Write ROC AUC above log loss per face, by corruption and severity, with their 95 % intervals.

    `table`: rows of robustness.csv, of each corruption from mild to severe. `names`: {corruption: text below its column}.
    """
    corruptions = list(dict.fromkeys(row["corruption"] for row in table))
    figure, axes = new_figure(max(10, 2.3 * len(corruptions) + 1.2), 6.7)  # the title needs 10 inches
    axes.remove()
    grid = figure.subplots(2, len(corruptions), sharey="row", squeeze=False)
    lines = (
        ("roc_auc", "ROC AUC per face\nhigher is better", 0.5, BLUE, "o"),
        ("log_loss", "log loss per face\nlower is better", np.log(2), ORANGE, "s"),
    )
    for column, corruption in enumerate(corruptions):
        rows = [row for row in table if row["corruption"] == corruption]
        places = np.arange(len(rows))
        for axes, (name, label, chance, colour, marker) in zip(grid[:, column], lines, strict=True):
            values, lows, highs = (
                np.array([row[key] if row.get(key) is not None else np.nan for row in rows], float)
                for key in (name, f"{name}_low", f"{name}_high")
            )
            axes.plot(places, values, marker + "-", color=colour)
            axes.vlines(places, lows, highs, color=colour, linewidth=1.5)
            axes.axhline(chance, color="0.4", linestyle=":")
            axes.set_xticks(places, [str(row["severity"]) for row in rows])
            axes.set_xlim(-0.5, len(rows) - 0.5)
            axes.grid(alpha=0.3)
            if column == 0:
                axes.set_ylabel(label)
        grid[1, column].set_xlabel(names[corruption])
    counts = max((row["faces"], row["videos"]) for row in table)
    bounded = any(row.get("roc_auc_low") is not None for row in table)
    intervals = "vertical lines: 95 % intervals" if bounded else "too few people for 95 % intervals"
    figure.suptitle(
        f"{counts[0]} test faces of {counts[1]} videos, corrupted more and more from left to right\n"
        "ROC AUC: how often a real face scores higher than a fake one\n"
        "log loss: how far scores are from the truth (real 1, fake 0), confident mistakes counting most\n"
        f"dotted: guessing; {intervals}"
    )
    save_figure(figure, path)


def draw_history(path, history, kept_epoch, name, unit):
    """Write the plot of training and validation `name` ("loss" or "accuracy") per epoch; the kept epoch is marked."""
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
