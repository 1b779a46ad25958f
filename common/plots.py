"""The look of the plots, and those that several scripts draw. Positive is fake: "found" is a fake called FAKE."""

import functools
import io
import re

import numpy as np

from common.constants import CLASS_NAMES, FAKE, REAL, THRESHOLD
from common.metrics import CALIBRATION_BINS, binomial_interval
from common.records import write_atomic

BLUE, ORANGE = "#0072B2", "#D55E00"  # told apart by the colour-blind and in grey (Okabe & Ito, 2008)
DPI = 150
HISTOGRAM_BINS = 20
WHITE_TEXT_FROM = 0.7  # of the darkest blue: there white and black stand out equally
THEMES = {  # ink, grid, fake, real: at least 3:1 against the page behind them, which is white or almost black
    "light": ("#1f2328", "#d0d7de", ORANGE, BLUE),
    "dark": ("#e6e9ec", "#444c56", "#E69F00", "#56B4E9"),
}


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


def confusion_on(axes, labels, predicted, colour_bar=True):
    """Draw a confusion matrix of counts and row percentages."""
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
    seaborn.heatmap(
        shares, annot=texts, fmt="", cmap="Blues", vmin=0, vmax=1, square=True, linewidths=1, ax=axes, cbar=colour_bar,
        xticklabels=names, yticklabels=names, annot_kws={"size": 14},
        cbar_kws={"label": "share of the row"} if colour_bar else None,
    )  # fmt: skip
    for text, share in zip(axes.texts, shares.ravel(), strict=True):
        text.set_color("white" if share > WHITE_TEXT_FROM else "#101010")
    axes.set(xlabel="verdict", ylabel="label (truth)")
    axes.tick_params(axis="y", rotation=0)


def draw_confusion(path, labels, predicted, title, unit):
    """Write a confusion matrix of counts and row percentages. `unit`: what is counted, "faces" or "videos"."""
    figure, axes = new_figure(5.2, 4.4)
    confusion_on(axes, labels, predicted)
    axes.set_title(f"{title}\n{len(labels)} {unit}: count and share of the row")
    save_figure(figure, path)


def draw_robustness(path, table, names):
    """Write ROC AUC and log loss per face, one above the other, by kind and strength, with their 95 % intervals.

    `table`: rows of robustness.csv, of each kind from weak to strong; `names`: what to write below each kind.
    """
    kinds = list(dict.fromkeys(row["kind"] for row in table))
    figure, axes = new_figure(max(10, 2.3 * len(kinds) + 1.2), 6.7)  # the title needs 10 inches
    axes.remove()
    grid = figure.subplots(2, len(kinds), sharey="row", squeeze=False)
    lines = (
        ("roc_auc", "ROC AUC per face\nhigher is better", 0.5, BLUE, "o"),
        ("log_loss", "log loss per face\nlower is better", np.log(2), ORANGE, "s"),
    )
    for column, kind in enumerate(kinds):
        rows = [row for row in table if row["kind"] == kind]
        places = np.arange(len(rows))
        for axes, (name, label, chance, colour, marker) in zip(grid[:, column], lines, strict=True):
            values, lows, highs = (
                np.array([row[key] if row.get(key) is not None else np.nan for row in rows], float)
                for key in (name, f"{name}_low", f"{name}_high")
            )
            axes.plot(places, values, marker + "-", color=colour)
            axes.vlines(places, lows, highs, color=colour, linewidth=1.5)
            axes.axhline(chance, color="0.4", linestyle=":")
            axes.set_xticks(places, [str(row["strength"]) for row in rows])
            axes.set_xlim(-0.5, len(rows) - 0.5)
            axes.grid(alpha=0.3)
            if column == 0:
                axes.set_ylabel(label)
        grid[1, column].set_xlabel(names[kind])
    counts = max((row["faces"], row["videos"]) for row in table)
    bounded = any(row.get("roc_auc_low") is not None for row in table)
    intervals = "vertical lines: 95 % intervals" if bounded else "too few people for 95 % intervals"
    figure.suptitle(
        f"{counts[0]} test faces of {counts[1]} videos after damage, stronger from left to right\n"
        "ROC AUC: how often a real face scores higher than a fake one\n"
        "log loss: how far scores are from the truth (real 1, fake 0), confident mistakes counting most\n"
        f"dotted: guessing; {intervals}"
    )
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


def svg_of(draw):
    """Return {theme: bytes of an SVG picture without a background}; `draw(axes)` fills it, in C0 for fake and C1 for real."""
    import matplotlib

    ink, grid, fake, real = THEMES["light"]
    style = {name: ink for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")}
    style |= {"axes.facecolor": "none", "figure.facecolor": "none", "legend.facecolor": "none", "grid.color": grid}
    style |= {"axes.prop_cycle": matplotlib.cycler(color=[fake, real]), "svg.fonttype": "none"}
    data = io.BytesIO()
    with matplotlib.rc_context(style | {"svg.hashsalt": "the same ids in every run"}):
        figure, axes = new_figure(4.6, 3.8)
        draw(axes)
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    svg = data.getvalue().decode()
    pictures = {}
    for theme, colours in THEMES.items():  # drawing it again would take twice as long
        other = dict(zip((colour.lower() for colour in THEMES["light"]), colours, strict=True))
        pictures[theme] = re.sub("|".join(other), lambda found, other=other: other[found[0]], svg).encode()
    return pictures


def roc_on(axes, labels, p_fake):
    """Draw the share of fakes found against the share of reals called fake, over all thresholds; mark the one in use."""
    from sklearn.metrics import roc_curve

    is_fake, p_fake = np.asarray(labels) == FAKE, np.asarray(p_fake)
    called_fake = p_fake > 1 - THRESHOLD
    false, found, _ = roc_curve(is_fake, p_fake)
    axes.plot(false, found, color="C0", linewidth=2)
    axes.plot([0, 1], [0, 1], ":", color="C1", label="guessing")
    axes.plot(
        called_fake[~is_fake].mean(), called_fake[is_fake].mean(), "o", color="C0", markersize=8, label="threshold 0.5"
    )
    axes.set(xlabel="share of reals called FAKE", ylabel="share of fakes found", title="ROC curve", aspect="equal")
    axes.grid()
    axes.legend(loc="lower right")


def precision_recall_on(axes, labels, p_fake):
    """Draw how many of the videos called FAKE are fakes against the share of fakes found."""
    from sklearn.metrics import precision_recall_curve

    is_fake = np.asarray(labels) == FAKE
    precision, recall, _ = precision_recall_curve(is_fake, p_fake)
    axes.plot(recall, precision, color="C0", linewidth=2, drawstyle="steps-post")
    axes.axhline(is_fake.mean(), linestyle=":", color="C1", label="guessing")
    axes.set(xlabel="share of fakes found (recall)", ylabel="FAKE verdicts that are right (precision)")
    axes.set(title="Precision and recall", xlim=(-0.02, 1.02), ylim=(0, 1.05))
    axes.grid()
    axes.legend(loc="best")


def calibration_on(axes, labels, p_fake):
    """Draw the share of fakes against the mean P(fake) in bins of equal width, with exact 95 % intervals."""
    is_fake, p_fake = np.asarray(labels) == FAKE, np.asarray(p_fake)
    bins = np.minimum((p_fake * CALIBRATION_BINS).astype(int), CALIBRATION_BINS - 1)
    for number in np.unique(bins):
        inside = bins == number
        fakes, total = int(is_fake[inside].sum()), int(inside.sum())
        low, high = binomial_interval(fakes, total)
        axes.errorbar(
            p_fake[inside].mean(), fakes / total, [[fakes / total - low], [high - fakes / total]], fmt="o", color="C0",
            capsize=3,
        )  # fmt: skip
    axes.plot([0, 1], [0, 1], ":", color="C1")
    axes.set(xlabel="P(fake) given", ylabel="share that is fake", title="Calibration (dotted: perfect)", aspect="equal")
    axes.grid()


def histogram_on(axes, labels, p_fake):
    """Draw how many reals and fakes got which P(fake)."""
    labels, p_fake = np.asarray(labels), np.asarray(p_fake)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    axes.hist(p_fake[labels == FAKE], edges, color="C0", alpha=0.75, label="fakes")
    axes.hist(p_fake[labels == REAL], edges, histtype="step", hatch="////", edgecolor="C1", linewidth=2, label="reals")
    axes.axvline(1 - THRESHOLD, linestyle="--", color=axes.xaxis.label.get_color(), label="threshold 0.5")
    axes.set(xlabel="P(fake)", ylabel="videos", title="Scores by class")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend()


def score_charts(labels, scores):
    """Return (title, what it shows, function that draws it on axes) for labelled videos; curves only with both classes."""
    p_fake, predicted = 1 - np.asarray(scores), (np.asarray(scores) >= THRESHOLD).astype(int)
    charts = [("Scores by class", "How many real and fake videos got which P(fake).", histogram_on)]
    if len(set(labels)) == 2:
        charts += [
            ("ROC curve", "How many fakes are found, and how many reals are called FAKE for it.", roc_on),
            ("Precision and recall", "How many FAKE verdicts are right, by how many fakes are found.", precision_recall_on),
            ("Calibration", "Of videos given this P(fake), the share that is fake (bars: 95 % intervals).", calibration_on),
        ]  # fmt: skip
    drawn = [(title, text, functools.partial(draw, labels=labels, p_fake=p_fake)) for title, text, draw in charts]
    confusion = functools.partial(confusion_on, labels=labels, predicted=predicted, colour_bar=False)
    return [*drawn, ("Confusion matrix", "Verdicts against the truth: count and share of the row.", confusion)]
