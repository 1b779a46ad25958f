"""The charts of report.html, as SVG. Fakes are the positive class; a fake called FAKE is found."""

import base64
import functools
import io
import re

import numpy as np

from common.constants import FAKE, REAL, THRESHOLD
from deepfake.evaluation import intervals, metrics
from deepfake.report import plots

HISTOGRAM_BINS = 20
THEMES = {  # ink, grid, fake, real: contrast of at least 3:1 to the page, which is white or almost black
    "light": ("#1f2328", "#d0d7de", plots.ORANGE, plots.BLUE),
    "dark": ("#e6e9ec", "#444c56", "#E69F00", "#56B4E9"),
}


def svg_of(draw):
    """Return {theme: bytes of an SVG without a background}. `draw(axes)` draws it, fakes in C0 and reals in C1."""
    import matplotlib

    ink, grid, fake, real = THEMES["light"]
    style = {name: ink for name in ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")}
    style |= {"axes.facecolor": "none", "figure.facecolor": "none", "legend.facecolor": "none", "grid.color": grid}
    style |= {"axes.prop_cycle": matplotlib.cycler(color=[fake, real]), "svg.fonttype": "none"}
    data = io.BytesIO()
    with matplotlib.rc_context(style | {"svg.hashsalt": "the same ids in every run"}):
        figure, axes = plots.new_figure(4.6, 3.8)
        draw(axes)
        figure.savefig(data, format="svg", metadata={"Date": None, "Creator": None})
    svg = data.getvalue().decode()
    pictures = {}
    for theme, colours in THEMES.items():  # drawing each would take twice as long
        other = dict(zip((colour.lower() for colour in THEMES["light"]), colours, strict=True))
        pictures[theme] = re.sub("|".join(other), lambda found, other=other: other[found[0]], svg).encode()
    return pictures


def roc_on(axes, labels, p_fake):
    """Draw the share of fakes found against the share of reals called fake, and mark the threshold in use."""
    from sklearn.metrics import roc_curve

    is_fake, p_fake = np.asarray(labels) == FAKE, np.asarray(p_fake)
    called_fake = p_fake > 1 - THRESHOLD
    in_use = called_fake[~is_fake].mean(), called_fake[is_fake].mean()
    false, found, _ = roc_curve(is_fake, p_fake)
    axes.plot(false, found, color="C0", linewidth=2)
    axes.plot([0, 1], [0, 1], ":", color="C1", label="guessing")
    axes.plot(*in_use, "o", color="C0", markersize=8, label="threshold 0.5")
    axes.set(xlabel="share of reals called FAKE", ylabel="share of fakes found", title="ROC curve", aspect="equal")
    axes.grid()
    axes.legend(loc="lower right")


def precision_recall_on(axes, labels, p_fake):
    """Draw the share of FAKE verdicts that are right against the share of fakes found."""
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
    bins = np.minimum((p_fake * metrics.CALIBRATION_BINS).astype(int), metrics.CALIBRATION_BINS - 1)
    for number in np.unique(bins):
        inside = bins == number
        fakes, total = int(is_fake[inside].sum()), int(inside.sum())
        share, (low, high) = fakes / total, intervals.binomial_interval(fakes, total)
        axes.errorbar(p_fake[inside].mean(), share, [[share - low], [high - share]], fmt="o", color="C0", capsize=3)
    axes.plot([0, 1], [0, 1], ":", color="C1")
    axes.set(xlabel="P(fake) given", ylabel="share that is fake", title="Calibration (dotted: perfect)", aspect="equal")
    axes.grid()


def histogram_on(axes, labels, p_fake):
    """Draw how many reals and how many fakes got which P(fake)."""
    labels, p_fake = np.asarray(labels), np.asarray(p_fake)
    edges = np.linspace(0, 1, HISTOGRAM_BINS + 1)
    axes.hist(p_fake[labels == FAKE], edges, color="C0", alpha=0.75, label="fakes")
    axes.hist(p_fake[labels == REAL], edges, histtype="step", hatch="////", edgecolor="C1", linewidth=2, label="reals")
    axes.axvline(1 - THRESHOLD, linestyle="--", color=axes.xaxis.label.get_color(), label="threshold 0.5")
    axes.set(xlabel="P(fake)", ylabel="videos", title="Scores by class")
    axes.yaxis.get_major_locator().set_params(integer=True)
    axes.legend()


CHARTS = (  # title, what it shows, function that draws it on axes
    ("Scores by class", "How many real and fake videos got which P(fake).", histogram_on),
    ("ROC curve", "How many fakes are found, and how many reals are called FAKE for it.", roc_on),
    ("Precision and recall", "How many FAKE verdicts are right, by how many fakes are found.", precision_recall_on),
    ("Calibration", "Of videos given this P(fake), the share that is fake (bars: 95 % intervals).", calibration_on),
)


def score_charts(labels, scores):
    """Return [(title, what it shows, function that draws it on axes)] for labelled videos; curves need both classes."""
    p_fake, predicted = 1 - np.asarray(scores), (np.asarray(scores) >= THRESHOLD).astype(int)
    charts = CHARTS if len(set(labels)) == 2 else CHARTS[:1]
    drawn = [(title, text, functools.partial(draw, labels=labels, p_fake=p_fake)) for title, text, draw in charts]
    confusion = functools.partial(plots.confusion_on, labels=labels, predicted=predicted, colour_bar=False)
    return [*drawn, ("Confusion matrix", "Verdicts against the labels: count and share of the row.", confusion)]


def data_uri(data, kind):
    """Return the bytes of a picture as a data: address."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def draw_charts(labelled):
    """Return the charts of labelled, judged videos: {"title", "text", and the data: addresses "light" and "dark"}."""
    charts = score_charts([row["label"] for row in labelled], [row["score"] for row in labelled])
    return [
        {"title": title, "text": text, **{theme: data_uri(svg, "svg+xml") for theme, svg in svg_of(draw).items()}}
        for title, text, draw in charts
    ]
