"""The report in a real, headless Chromium without a network: search, filters, hostile names, layout, dark mode, print.

CHROMIUM names the browser; with REPORT_SCREENSHOTS=DIR every page is also left there as PNG, to be looked at.
"""

import importlib
import os
import re
from pathlib import Path

import cv2
import matplotlib
import numpy as np
import pytest

from common.files import write_csv, write_json
from deepfake.parallel.failures import note_failure
from tests.reports import HOSTILE_NAME, LONG_NAME, video, write_run

pytestmark = pytest.mark.browser
WIDTHS = (360, 768, 1280)
HOSTILE_REASON = "<svg onload=alert(2)></svg><script>alert(3)</script>"
ENTRY = {"value": 0.75, "interval": [0.5, 0.9], "method": "cluster bootstrap"}


@pytest.fixture(scope="session")
def report_path(tmp_path_factory):
    """The page of a run with everything in it: people, mistakes, failures, subgroups, hostile and long names."""
    data_dir = tmp_path_factory.mktemp("report")
    rng = np.random.default_rng(3)
    photo = cv2.imread(str(Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"))[20:320, 120:370]
    videos = [video(HOSTILE_NAME, 0, [0.1, 0.2, 0.3]), video(LONG_NAME, 1, [[0.9] * 11, [0.7] * 11, [0.4] * 9])]
    for number in range(30):
        middle = rng.uniform(0.1, 0.9)
        scores = np.clip(rng.normal(middle, 0.1, 11), 0.001, 0.999).tolist()
        videos.append(video(f"party {number:02d}.mp4", number % 2, scores))
    videos.append(video("Zoë 日本.mov", 0, reason="no face of confidence >= 0.95 in 11 frames"))
    videos.append(video("bad.mp4", None, reason=HOSTILE_REASON))
    groups = [{"name": "under 640 px", "videos": 12, "real": 6, "fake": 6, "accuracy": ENTRY, "roc_auc": ENTRY}] * 3
    metrics = {
        "aggregate": "mean",
        "metrics": {"accuracy": ENTRY, "roc_auc": ENTRY},
        "subgroups": {"resolution": groups},
    }
    record = {
        "backbone": "B0",
        "input_size": 128,
        "fakes": "fake videos",
        "weights_digest": "0123456789abcdef" * 4,
        "metrics": {"test_faces": {"accuracy": ENTRY, "roc_auc": ENTRY}},
        "calibration": {"fitted_on": "x" * 100},
    }
    write_run(data_dir, videos, crop=photo, metrics=metrics, record=record)
    for name, reason in ((f"broken {HOSTILE_NAME}", "is empty"), (f"broken {LONG_NAME}", "x" * 200)):
        path = data_dir / "train_sample_videos" / name
        path.touch()
        note_failure(data_dir, "00", path, reason)
    columns = ("corruption", "severity", "faces", "videos", "roc_auc", "roc_auc_low", "roc_auc_high", "log_loss")
    row = dict(zip(columns, ("downscale", 4, 1200, 120, 0.71, 0.61, 0.81, 0.6), strict=True))
    write_csv(data_dir / "robustness.csv", columns, [row] * 3)
    made_from = {"made_from": {"weights_digest": record["weights_digest"]}}
    write_json(data_dir / "robustness_scores.json", made_from)
    cv2.imwrite(str(data_dir / "Robustness.png"), np.full((900, 1500, 3), 220, np.uint8))
    assert importlib.import_module("05_report").main(["--data-dir", str(data_dir)]) == 0
    return data_dir / "report.html"


@pytest.fixture(scope="session")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        # its sandbox needs a user other than root; these pages are our own
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM") or "/usr/bin/chromium", args=options
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium, report_path):
    """A function that opens the page and returns it; `page.wrong` gathers dialogs, errors and requests beyond the file."""
    contexts = []

    def open_page(path=report_path, width=1280, **options):
        context = chromium.new_context(viewport={"width": width, "height": 800}, **options)
        contexts.append(context)
        page = context.new_page()
        page.wrong = []
        page.on("dialog", lambda dialog: (page.wrong.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("pageerror", lambda error: page.wrong.append(f"error {error}"))
        page.on("console", lambda message: page.wrong.append(f"console {message.text}"))
        page.on(
            "request",
            lambda request: request.url.startswith(("file:", "data:")) or page.wrong.append(f"request {request.url}"),
        )
        page.goto(path.as_uri())
        return page

    yield open_page
    for context in contexts:
        context.close()


def keep_screenshot(page, name):
    if folder := os.environ.get("REPORT_SCREENSHOTS"):
        size = page.viewport_size
        page.set_viewport_size(
            {**size, "height": page.evaluate("document.body.scrollHeight")}
        )  # else the rest is not drawn
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)
        page.set_viewport_size(size)


def shown_names(page):
    return [row.inner_text() for row in page.locator("tbody.video:visible .name").all()]


def test_page_is_quiet_and_asks_for_nothing(visit):
    page = visit()
    page.locator("#open").click()
    page.wait_for_timeout(300)
    assert page.wrong == []
    broken = "Array.from(document.images).filter(i => i.complete && !i.naturalWidth).length"
    assert page.evaluate(broken) == 0 and page.locator("img").count() > 100


def test_hostile_name_is_shown_and_not_executed(visit):
    page = visit()
    assert page.locator(".name", has_text=HOSTILE_NAME).first.is_visible()
    assert page.locator("img[src='x']").count() == 0 and page.locator("svg[onload]").count() == 0
    assert HOSTILE_REASON in page.locator("body").inner_text()
    page.fill("#search", "onerror")
    assert shown_names(page) == [HOSTILE_NAME]
    assert page.wrong == []


def test_even_unescaped_code_would_not_run(visit, report_path, tmp_path):
    """The policy is a second lock: here the escaping is undone."""
    text = report_path.read_text(encoding="utf-8")
    attack = "<img src=x onerror=alert(1)><script>alert(2)</script><style>body{display:none}</style>"
    broken = text.replace("<main>", f"<main>{attack}", 1)
    (tmp_path / "attacked.html").write_text(broken, encoding="utf-8")
    page = visit(tmp_path / "attacked.html")
    page.wait_for_timeout(300)
    assert not [event for event in page.wrong if event.startswith("dialog")]
    assert len([event for event in page.wrong if "Content Security Policy" in event]) >= 3, page.wrong
    assert page.locator("h1").is_visible()


def test_search_finds_parts_of_names_and_reasons_in_any_case(visit):
    page = visit()
    assert len(shown_names(page)) == 34 and page.locator("#shown").inner_text() == "34 of 34 videos shown"
    page.locator("#search").press_sequentially("PARTY 07")
    assert shown_names(page) == ["party 07.mp4"] and page.locator("#shown").inner_text() == "1 of 34 videos shown"
    for typed in ("日本", "confidence", "zoë"):
        page.fill("#search", typed)
        assert shown_names(page) == ["Zoë 日本.mov"]
    page.fill("#search", "no such video")
    assert shown_names(page) == []
    page.fill("#search", "")
    assert len(shown_names(page)) == 34


def test_filters_by_verdict_and_outcome_combine(visit):
    page = visit()
    counts = {}
    for verdict in ("FAKE", "REAL", "CANNOT JUDGE"):
        page.select_option("#verdict", verdict)
        badges = [badge.inner_text() for badge in page.locator("tbody.video:visible > tr:first-child .verdict").all()]
        counts[verdict] = len(badges)
        assert badges and set(badges) == {verdict}
        assert f"{verdict} ({len(badges)})" in page.locator("#verdict").inner_text()
    assert sum(counts.values()) == 34 and counts["CANNOT JUDGE"] == 2
    page.select_option("#verdict", "FAKE")
    for outcome, label in (("right", "FAKE"), ("wrong", "REAL")):
        page.select_option("#outcome", outcome)
        cells = [cell.inner_text() for cell in page.locator("tbody.video:visible > tr:first-child td:last-child").all()]
        assert cells and all(cell.split()[0] == label and cell.split()[-1] == outcome for cell in cells)


def test_link_from_a_mistake_leads_to_its_open_row_past_the_filters(visit):
    page = visit()
    page.fill("#search", "no such video")
    link = page.locator("#mistakes h3 a").first
    name = link.inner_text()
    link.click()
    row = page.locator("tbody.video:target")
    assert row.locator(".name").inner_text() == name and row.locator("details").get_attribute("open") is not None
    assert row.locator("svg.time").first.is_visible() and row.locator("li img").first.is_visible()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_layout_fits_the_width(visit, width, scheme):
    page = visit(width=width, color_scheme=scheme)
    keep_screenshot(page, f"{width}_{scheme}_closed")
    page.locator("details").evaluate_all("all => all.slice(0, 12).forEach(details => { details.open = true; })")
    keep_screenshot(page, f"{width}_{scheme}_open")
    assert page.evaluate("document.documentElement.scrollWidth") == width
    outside = """width => Array.from(document.querySelectorAll("main *")).filter(e => !e.closest(".wide") && !e.closest("svg")
        && e.getBoundingClientRect().right > width + 1).map(e => e.outerHTML.slice(0, 200))"""
    assert page.evaluate(outside, width) == []
    headings = page.locator("thead th:visible").evaluate_all("all => all.map(th => [th.textContent, th.offsetHeight])")
    assert len(headings) > 10 and all(height < 110 for _, height in headings), (
        "no heading is broken up letter by letter"
    )
    assert page.locator("#search").bounding_box()["height"] >= 36, "large enough for a thumb"


def luminance(rgb):
    """Relative luminance of WCAG 2."""
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in (value / 255 for value in rgb)]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(visit, scheme):
    page = visit(color_scheme=scheme)
    page.locator("#open").click()
    pairs = page.evaluate("""() => {
        const behind = e => { for (; e; e = e.parentElement) {
            const c = getComputedStyle(e).backgroundColor; if (!c.startsWith("rgba(0, 0, 0, 0")) return c; }
            return "rgb(255,255,255)"; };
        const found = {};
        for (const e of document.querySelectorAll("body *")) {
            if (e.closest("svg") || !Array.from(e.childNodes).some(n => n.nodeType === 3 && n.textContent.trim())) continue;
            found[getComputedStyle(e).color + "|" + behind(e)] = e.outerHTML.slice(0, 100);
        }
        return found; }""")
    assert len(pairs) >= 6
    for pair, example in pairs.items():
        ink, page_colour = (luminance([float(x) for x in re.findall(r"[\d.]+", part)[:3]]) for part in pair.split("|"))
        light, dark = max(ink, page_colour), min(ink, page_colour)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (pair, example)


def test_without_javascript_everything_is_shown(visit):
    page = visit(java_script_enabled=False)
    assert page.locator("tbody.video:visible").count() == 34 and not page.locator("#controls").is_visible()
    page.locator("summary").first.click()
    assert page.locator("li img").first.is_visible()


def test_print_hides_the_controls_and_is_light(visit):
    page = visit(color_scheme="dark")
    page.emulate_media(media="print", color_scheme="dark")
    assert not page.locator("#controls").is_visible() and not page.locator("nav").is_visible()
    assert page.locator("tbody.video:visible").count() == 34
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    pdf = page.pdf(format="A4")
    assert len(re.findall(rb"/Type\s*/Page\b", pdf)) > 3
    if folder := os.environ.get("REPORT_SCREENSHOTS"):
        (Path(folder) / "print.pdf").write_bytes(pdf)


def test_printing_few_videos_opens_their_faces_and_closes_them_again(visit):
    page = visit()
    page.fill("#search", "party 0")
    found = len(shown_names(page))
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert 10 <= found <= 13 and page.locator("tbody.video details[open]").count() == found
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("tbody.video details[open]").count() == 0


def test_keyboard_reaches_search_filters_and_faces(visit):
    page = visit()
    page.focus("#search")
    reached = []
    for _ in range(5):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id || document.activeElement.tagName"))
    assert reached[:4] == ["verdict", "outcome", "open", "SUMMARY"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Enter")
    assert page.locator("tbody.video details[open]").count() == 1
