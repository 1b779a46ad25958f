"""05_report: what the page says of a run, that names never become code, and that large runs stay small."""

import base64
import hashlib
import importlib
import json
import os
import re

import cv2
import numpy as np
import pytest

from common.errors import InputError
from common.files import source_stamp, write_csv, write_json
from deepfake.dataset.table import evenly_spread
from deepfake.evaluation.aggregation import AGGREGATES
from deepfake.parallel.failures import note_failure
from deepfake.report import page as page_module
from deepfake.report import pictures as thumbnails
from deepfake.report import words as report_words
from deepfake.report.words import plain_words
from tests.datasets import face_bgr
from tests.reports import HOSTILE_NAME, Page, video, write_run
from tests.videos import REPOSITORY_DIR, run_script

report = importlib.import_module("05_report")
RECORD = {
    "backbone": "B0",
    "input_size": 128,
    "faces": "faces",
    "fakes": "fake videos",
    "weights_digest": "d1",
    "starting_weights": "base",
    "data_digest": "none",
    "calibration": {"fitted_on": "40 validation groups"},
    "metrics": {
        "test_faces": {
            "accuracy": {"value": 0.811, "interval": [0.7, 0.9], "method": "cluster bootstrap"},
            "roc_auc": {"value": 0.877, "interval": None, "method": "too few to bound"},
        }
    },
}
OLD_METRICS = {
    "aggregate": "mean",
    "videos": 4,
    "metrics": {
        "accuracy": {"value": 0.75, "interval": [0.194, 0.994], "method": "exact binomial"},
        "log_loss": {"value": 0.5, "interval": None, "method": "too few to bound"},
    },
}
VIDEOS = [
    video("clear_real.mp4", 1, [0.95, 0.9, 0.85]),
    video("clear_fake.mp4", 0, [0.1, 0.2, 0.3], warnings=["is damaged or cut off after 3.2 s"]),
    video("wrong.mp4", 0, [0.9, 0.8, 0.7]),
    video("two_people.mp4", 1, [[0.9, 0.9, 0.9], [0.3, 0.4, 0.35]]),
    video("photo.JPG", 1, [0.6]),
    video("nobody.mp4", 0, reason="no face of confidence >= 0.95 in 11 frames"),
]


UNLABELLED = [one | {"label": None} for one in VIDEOS]  # without charts to draw, which take a second


def run(*options):
    try:
        return report.main([*map(str, options)])
    except SystemExit as error:
        return error.code


def page_of(data_dir, *options, status=0):
    assert run("--data-dir", data_dir, *options) == status
    page = Page((data_dir / "report.html").read_text(encoding="utf-8"))
    assert page.wrong == [] and page.open == []
    return page


def pictures(page, kind="webp"):
    """Return the bytes of the pictures inside the page."""
    addresses = [img["src"] for img in page.all("img") if img["src"].startswith(f"data:image/{kind};base64,")]
    return [base64.b64decode(address.split(",")[1]) for address in addresses]


def fail(data_dir, name, reason, stage="00", code=None):
    """Note a failure of an input (00) or of a folder of frames (01a) below `data_dir`."""
    (data_dir / name).parent.mkdir(parents=True, exist_ok=True)
    (data_dir / name).touch()
    note_failure(data_dir, stage, data_dir / name, InputError(reason, code))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A small labelled run and its page: (data root, page)."""
    data_dir = tmp_path_factory.mktemp("run")
    write_run(data_dir, VIDEOS, metrics=OLD_METRICS, record=RECORD, people_table=True)
    fail(data_dir, "train_sample_videos/text.mp4", "is not a readable video (Invalid data found)", code="not_a_video")
    return data_dir, page_of(data_dir)


def rows_of(page):
    return [body for body in page.all("tbody") if body.get("class") == "video"]


def test_every_video_is_there_most_suspicious_first(made):
    _, page = made
    assert [row["data-verdict"] for row in rows_of(page)] == ["FAKE", "REAL", "REAL", "REAL", "REAL", "CANNOT JUDGE"]
    places = [page.text.index(f"{name} ") for name in ("clear_fake.mp4", "photo.JPG", "two_people.mp4", "wrong.mp4")]
    assert places == sorted(places)
    assert [row.get("data-outcome") for row in rows_of(page)] == ["right", "right", "right", "wrong", "right", None]


def test_summary_counts_and_model_with_test_figures(made):
    _, page = made
    assert re.search(r"6 videos or photos 1 FAKE 4 REAL 1 CANNOT JUDGE 1 file failed", page.text)
    assert "Judged by a neural network (EfficientNetB0) that was trained on real and fake videos." in page.text
    assert "not trained on, 81.1 of 100 verdicts on single faces were right (95 % interval: 70 to 90)." in page.text
    assert "whose label is known, 75 of 100 verdicts were right (95 % interval: 19 to 99)." in page.text
    assert "0.877 (too few to bound)" in page.text and "0.811 (0.700 to 0.900)" in page.text, "in the table"


def test_p_fake_its_range_length_and_people(made):
    _, page = made
    assert "clear_fake.mp4 FAKE 0.800 0.70 to 0.90 5.0 s 1 FAKE ✓ right" in page.text
    assert "wrong.mp4 REAL 0.200 0.10 to 0.30 5.0 s 1 FAKE ✗ wrong" in page.text
    assert "photo.JPG REAL 0.400 0.40 to 0.40 photo 1" in page.text
    assert "this file is damaged or cut off after 3.2 s" in page.text


def test_faces_are_in_time_order_with_score_and_time(made):
    _, page = made
    assert "Person 0: P(fake) 0.800, in 3 frames, 0.70 to 0.90" in page.text
    assert "0.90 0:00.0 0.80 0:00.5 0.70 0:01.0" in page.text


def test_pictures_are_the_crops(made):
    _, page = made
    shown = [cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) for data in pictures(page)]
    assert len(shown) == 16 + 3  # of the videos, and of the mistake
    for picture, frame in zip(shown[:3], range(3), strict=True):  # the most suspicious video is the second one written
        errors = [
            np.abs(picture.astype(float) - face_bgr(label, number)).mean() for label in (0, 1) for number in range(6)
        ]
        assert np.argmin(errors) == 6 * (frame % 2) + 1 and min(errors) < 12


def test_a_figure_without_an_interval_says_why(tmp_path):
    entries = {"too few to bound": "too few people to say", "exactly 0 or 1: no interval": "all right or all wrong"}
    for method, words in entries.items():
        entry = {"value": 1.0, "interval": None, "method": method}
        write_run(tmp_path, UNLABELLED[:1], record=RECORD | {"metrics": {"test_faces": {"accuracy": entry}}})
        page = page_of(tmp_path)
        assert re.search(rf"100 of 100 verdicts on single faces were right \([^)]*{words}", page.text)
        assert f"1.000 ({method})" in page.text


def test_people_have_rows_of_their_own(made):
    _, page = made
    assert "Person 0: REAL P(fake) 0.100" in page.text and "Person 1: FAKE P(fake) 0.650" in page.text, (
        "as in the files"
    )


def test_plot_over_time_has_a_point_per_face_and_the_threshold(made):
    _, page = made
    assert len(page.all("svg", class_="time")) == 5  # not of the photo
    assert len(page.all("circle")) == 15 and len(page.all("circle", class_="above")) == 6
    lines = page.all("path", class_="middle")
    assert {"d": "M40 40.0h252", "class": "middle"} in lines


def test_what_was_not_judged_is_said_in_plain_words(made):
    _, page = made
    assert "No face was seen clearly enough" in page.text and "no face of confidence >= 0.95" in page.text
    assert "text.mp4 This is not a video, or it is damaged" in page.text


def test_mistakes_are_shown_with_their_faces_and_a_link(made):
    _, page = made
    assert "wrong.mp4 : label FAKE, verdict REAL, P(fake) 0.200" in page.text
    (link,) = [a["href"] for a in page.all("a") if a["href"].startswith("#video-")]
    assert link == "#video-4" and rows_of(page)[3]["id"] == "video-4"


def test_charts_are_pictures_for_light_and_dark(made):
    _, page = made
    charts = pictures(page, "svg+xml")
    assert len(charts) == 5 and all(chart.startswith(b"<?xml") for chart in charts)
    dark = [source for source in page.all("source") if "dark" in source["media"]]
    assert len(dark) == 5 and all("screen" in source["media"] for source in dark), "printed, they are light"


def test_nothing_comes_from_elsewhere(made):
    data_dir, page = made
    addresses = [
        v for _, attributes in page.tags for k, v in attributes.items() if k in ("src", "href", "srcset", "action")
    ]
    assert addresses and all(address.startswith(("data:image/", "#")) for address in addresses)
    assert (
        "http:" not in page.code["style"] + page.code["script"]
        and "https:" not in page.code["style"] + page.code["script"]
    )


def test_policy_lets_only_the_own_style_and_script_run(made):
    _, page = made
    (policy,) = [meta["content"] for meta in page.all("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    for kind in ("style", "script"):
        code = base64.b64encode(hashlib.sha256(page.code[kind].encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{code}';" in policy
    assert policy.startswith("default-src 'none'; img-src data:;") and "unsafe" not in policy
    assert not [name for _, attributes in page.tags for name in attributes if name == "style" or name.startswith("on")]


def test_inputs_have_labels_and_tables_have_headings(made):
    _, page = made
    labels = {label["for"] for label in page.all("label")}
    assert {element["id"] for tag in ("input", "select") for element in page.all(tag)} == labels
    assert all(th.get("scope") in ("col", "row") for th in page.all("th"))
    assert all("alt" in img for img in page.all("img"))


def test_second_run_is_the_same_page(made):
    data_dir, _ = made
    before = (data_dir / "report.html").read_bytes()
    assert run("--data-dir", data_dir, "--output", data_dir / "again.html") == 0
    assert (data_dir / "again.html").read_bytes() == before
    assert not list(data_dir.glob(".*.partial"))


HOSTILE = "\"><script>alert(2)</script><b onclick='alert(3)'>"


def test_hostile_names_and_metadata_are_text(tmp_path):
    hostile = [
        video(HOSTILE_NAME, 0, [0.2, 0.3]),
        video(HOSTILE + ".mp4", 1, [0.2, 0.3]),
        video("{{ 7 * 7 }}.mp4", 1, [0.9]),
        video("turned\u202egpj.mp4", 1, [0.7]),
        video("line\nfeed\x01\udcff.mp4", 0, reason=HOSTILE),
    ]
    hostile[0]["warnings"] = [HOSTILE]
    attack = {"value": 0.5, "interval": None, "method": HOSTILE}
    write_run(
        tmp_path,
        hostile,
        metrics={
            "aggregate": HOSTILE,
            "metrics": {"accuracy": attack},
            "subgroups": {HOSTILE: [{"name": HOSTILE, "videos": HOSTILE, "real": 1, "fake": 1, "accuracy": attack}]},
        },
        record=RECORD
        | {"fakes": HOSTILE, "weights_digest": HOSTILE, "provenance": {"data": HOSTILE}, "backbone": HOSTILE},
    )
    fail(tmp_path, f"train_sample_videos/broken {HOSTILE_NAME}", HOSTILE)
    columns = ("corruption", "severity")
    write_csv(tmp_path / "robustness.csv", columns, [dict.fromkeys(columns, HOSTILE)])
    write_json(tmp_path / "robustness_scores.json", {"made_from": {"weights_digest": HOSTILE}})
    page = page_of(tmp_path)
    assert len(page.all("script")) == 1 and page.all("b") == [{}] * 5, "those of the summary"
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert all(img["src"].startswith("data:image/") for img in page.all("img"))
    assert page.text.count(HOSTILE_NAME) == 2  # in the table of videos and in that of failures
    assert HOSTILE in page.text and "{{ 7 * 7 }}.mp4" in page.text and "turned?gpj.mp4" in page.text
    assert r"line?feed?\udcff.mp4" in page.text


def test_missing_inputs_name_the_path_and_the_script(tmp_path, capsys):
    assert run("--data-dir", tmp_path) == 2
    error = capsys.readouterr().err
    assert (
        str(tmp_path / "video_preds.csv") in error and "04_mapreduce_video_preds.py" in error and error.count("\n") == 1
    )
    write_run(tmp_path, UNLABELLED[:1])
    (tmp_path / "cnn_preds_values.json").unlink()
    assert run("--data-dir", tmp_path) == 2
    error = capsys.readouterr().err
    assert str(tmp_path / "cnn_preds_values.json") in error and "03a_load_model.py" in error
    assert not (tmp_path / "report.html").exists()


def test_table_without_rows_is_refused(tmp_path, capsys):
    write_run(tmp_path, [])
    assert run("--data-dir", tmp_path) == 2
    assert "holds no verdicts" in capsys.readouterr().err


def test_without_labels_there_is_nothing_to_be_right_about(tmp_path):
    write_run(tmp_path, [video("a.mp4", None, [0.2]), video("b.mp4", None, [0.9])], record=RECORD)
    page = page_of(tmp_path)
    assert "None of these videos has a label" in page.text and "0.811 (0.700 to 0.900)" in page.text
    assert [element["id"] for element in page.all("select")] == ["verdict"] and pictures(page, "svg+xml") == []
    assert "right" not in [row.get("data-outcome") for row in rows_of(page)] and "mistakes" not in page.text.lower()


def test_one_class_has_no_curves(tmp_path):
    write_run(tmp_path, [video("a.mp4", 1, [0.2]), video("b.mp4", 1, [0.9])])
    assert [img["alt"] for img in page_of(tmp_path).all("img") if "svg" in img["src"]] == [
        "Scores by class",
        "Confusion matrix",
    ]


def test_without_any_face_the_reasons_remain(tmp_path):
    reasons = [
        "no face of confidence >= 0.95 in 11 frames",
        "is empty",
        "faces too small (under 40 px)",
        "words unknown",
    ]
    write_run(
        tmp_path, [video(f"{n}.mp4", n % 2, reason=reason) for n, reason in enumerate(reasons)], metrics={"metrics": {}}
    )
    page = page_of(tmp_path)
    assert page.text.count("CANNOT JUDGE") >= 4 and page.all("details") == []
    assert all(f"({reason})" in page.text for reason in reasons)
    assert "The faces are so small" in page.text


def test_without_model_and_metrics(tmp_path):
    write_run(tmp_path, UNLABELLED)
    page = page_of(tmp_path)
    assert "best_model.json was not found" in page.text and "trained on unknown videos" in page.text
    assert "No test figures of it are at hand" in page.text


def test_probabilities_are_promised_only_where_a_calibration_was_fitted(tmp_path):
    fitted = {"fitted_on": "40 validation groups", "holds_for": "as many fakes as reals"}
    kept = {"fitted_on": "not fitted: 8 validation groups, 30 are needed", "holds_for": None}
    blends = {"calibration": fitted, "fakes": "self-blended faces"}
    for of_record, aggregate, promise in (
        ({"calibration": fitted}, "mean, calibrated", "P(fake) of a video was made to match shares of fakes"),
        ({"calibration": fitted}, "mean", "P(fake) of a single face was made to match shares of fakes"),
        ({"calibration": kept}, "mean, calibrated", "P(fake) was not made to match shares of fakes"),
        ({"calibration": None}, "mean", "P(fake) was not made to match shares of fakes"),
        (blends, "mean, calibrated", "not to shares of deepfakes"),
    ):
        write_run(tmp_path, UNLABELLED[:1], record=RECORD | of_record, metrics={"aggregate": aggregate})
        text = page_of(tmp_path).text
        assert promise in text
        assert ("was made to match shares of fakes" in text) == (of_record == {"calibration": fitted})


def test_a_failed_input_is_counted_once_and_those_of_other_folders_never(tmp_path):
    videos = [video("good.mp4", None, [0.2]), video("bad.mp4", None, reason="is empty")]
    write_run(tmp_path, videos)
    fail(tmp_path, "train_sample_videos/bad.mp4", "is empty")  # has a verdict: CANNOT JUDGE
    fail(tmp_path, "older_videos/bad.mp4", "is of another folder")
    fail(tmp_path, "older_videos/video_0000", "has no faces.json", stage="01a")
    fail(tmp_path, "train_sample_videos/part/bad.mp4", "is no video")
    page = page_of(tmp_path)
    assert "1 CANNOT JUDGE 1 file failed" in page.text and "part/bad.mp4" in page.text
    assert "another folder" not in page.text and "faces.json" not in page.text


def test_weights_that_only_know_blends_say_so(tmp_path):
    write_run(
        tmp_path, UNLABELLED, record=RECORD | {"fakes": "self-blended faces", "provenance": {"data": "849 portraits"}}
    )
    page = page_of(tmp_path)
    assert (
        "On real faces that it was not trained on, each against a blend of itself (no deepfakes), 81.1 of 100"
        in page.text
    )
    assert "On the faces of test videos" not in page.text
    assert "never seen a deepfake" in page.text and "849 portraits" in page.text and "Careful:" in page.text


def test_what_the_network_was_trained_on_is_named(tmp_path):
    """As the weights' record says: the training set itself need not be there."""
    trained_on = {
        "real_videos": 1200,
        "fake_videos": 2,
        "faces": 13000,
        "fake_folders": ["Deepfakes", "<b>"],
        "self_blend": 0.25,
    }
    write_run(tmp_path, UNLABELLED, record=RECORD | {"trained_on": trained_on})
    words = "real and fake videos: 13,000 faces of 1,200 real and 2 fake videos or photos; "
    words += "fakes from Deepfakes, <b>; 25% of the pairs"
    assert words in page_of(tmp_path).text
    alone = trained_on | {"fake_videos": 0, "fake_folders": [], "self_blend": 1.0}
    for record in (RECORD | {"trained_on": alone, "fakes": "self-blended faces"}, RECORD | {"trained_on": alone}):
        write_run(tmp_path, UNLABELLED, record=record)
        assert "blends of them, no deepfakes: 13,000 faces of 1,200 real videos or photos. " in page_of(tmp_path).text
    averaged = {"fakes": "self-blended faces", "drawn": True, "averaged": [{"share": 1.0}]}
    write_run(tmp_path, UNLABELLED, record=RECORD | averaged | {"provenance": {"data": "849 portraits"}})
    assert "synthetic clips of them, no deepfakes: 849 portraits" in page_of(tmp_path).text
    assert (
        "it learnt from real faces, blends and exchanges of them, and synthetic clips of them."
        in page_of(tmp_path).text
    )
    for broken in ([], {"faces": 3}, trained_on | {"faces": "many"}, trained_on | {"fake_folders": [3]}):
        write_run(tmp_path, UNLABELLED, record=RECORD | {"trained_on": broken})
        assert "trained on real and fake videos. " in page_of(tmp_path).text


def test_faces_that_cannot_be_judged_are_shown_without_a_score(tmp_path):
    dark = video("dark.mp4", 1, [0.9, None, 0.7], reason="usable faces in too few frames")
    write_run(tmp_path, [dark, video("half.mp4", 1, [[0.9, 0.8], [None, None]])], people_table=True)
    page = page_of(tmp_path)
    assert "0.10 0:00.0 too dark 0:00.5 0.30 0:01.0" in page.text
    assert "Person 1: CANNOT JUDGE in 2 frames" in page.text
    assert len(page.all("circle")) == 4


def test_new_metrics_subgroups_and_robustness(tmp_path, capsys):
    entry = {"value": 0.66, "interval": [0.5, 0.8], "method": "cluster bootstrap"}
    metrics = {
        "aggregate": "lowest-person",
        "metrics": {name: entry for name in ("accuracy", "fpr_at_95_recall", "average_precision")},
        "subgroups": {"face_size": [{"name": "under 80 px", "videos": 3, "real": 3, "fake": 0, "accuracy": entry}]},
    }
    write_run(tmp_path, UNLABELLED, metrics=metrics, record=RECORD)
    columns = (
        "corruption",
        "severity",
        "label",
        "faces",
        "videos",
        "roc_auc",
        "roc_auc_low",
        "roc_auc_high",
        "log_loss",
    )
    write_csv(
        tmp_path / "robustness.csv",
        columns,
        [
            dict(zip(columns, ("jpeg", "none", "undamaged", 44, 4, 0.91, None, None, 0.4), strict=True)),
            dict(zip(columns, ("jpeg", 30, "JPEG, quality 30", 44, 4, 0.71, 0.6, 0.8, 0.9), strict=True)),
            dict(zip(columns, ("blur", "none", "undamaged", 44, 4, 0.91, None, None, 0.4), strict=True)),
            dict(zip(columns, ("blur", 2, None, 44, 4, 0.5, None, None, 0.7), strict=True)),
        ],
    )
    write_json(tmp_path / "robustness_scores.json", {"made_from": {"weights_digest": "d1"}})
    cv2.imwrite(str(tmp_path / "Robustness.png"), np.full((20, 30, 3), 200, np.uint8))
    page = page_of(tmp_path)
    assert (
        "false alarms at 95 % recall share of reals called fake" in page.text and "0.660 (0.500 to 0.800)" in page.text
    )
    assert "face size: under 80 px 3 3 / 0 0.660 (0.500 to 0.800) –" in page.text
    assert "Face size: longer side of the faces, in pixels of the video." in page.text
    words = "undamaged 44 0.910 0.400 JPEG, quality 30 44 0.710 (0.600 to 0.800) 0.900 blur 2 44 0.500 0.700"
    assert words in page.text, "what is not damaged is shown once; older tables have no label"
    assert pictures(page, "png") == [(tmp_path / "Robustness.png").read_bytes()]
    assert "the person who looks least real" in page.text
    write_json(tmp_path / "robustness_scores.json", {"made_from": {"weights_digest": "of an older network"}})
    page = page_of(tmp_path)
    assert pictures(page, "png") == [] and "0.710 (0.600" not in page.text
    assert "robustness.csv is of other weights and left out" in capsys.readouterr().err
    write_json(tmp_path / "robustness_scores.json", {"made_from": {"weights_digest": "d1"}})
    write_csv(tmp_path / "robustness.csv", ("kind", "strength"), [{"kind": "jpeg", "strength": 30}])
    assert pictures(page_of(tmp_path), "png") == []
    assert "of an older version or damaged and left out; run 03c_robustness.py" in capsys.readouterr().err


def test_every_rule_of_04_is_said_in_words(tmp_path):
    for rule in (*AGGREGATES, "mean, calibrated"):
        assert rule in report_words.AGGREGATE_WORDS
    write_run(tmp_path, UNLABELLED[:1], record=RECORD, metrics={"aggregate": "mean, calibrated"})
    assert "turned into a probability" in page_of(tmp_path).text


def test_overlays_of_this_model_and_these_scores_are_beside_their_crops(tmp_path):
    write_run(tmp_path, [video("a.mp4", None, [0.2, 0.3, 0.4])], record=RECORD)
    folder = tmp_path / "train_sample_videos" / "video_0000" / "explained"
    folder.mkdir()
    for number in range(3):
        cv2.imwrite(str(folder / f"video_0000-{number:03d}-00.png"), np.full((40, 36, 3), 77, np.uint8))
    listed = [
        {"file": f"video_0000-{number:03d}-00.png", "score": score} for number, score in enumerate((0.2, 0.3, 0.9))
    ]
    explained = {"model_digest": "d1", "how_to_read": "Read it <so>.", "faces": listed}
    write_json(folder / "explained.json", explained)
    page = page_of(tmp_path)
    alts = [img["alt"] for img in page.all("img")]
    assert alts == [
        "face at 0:00.0",
        "where the network looked",
        "face at 0:00.5",
        "where the network looked",
        "face at 0:01.0",
    ]
    assert "Read it <so>." in page.text
    write_json(folder / "explained.json", explained | {"model_digest": "another"})
    page = page_of(tmp_path)
    assert len(page.all("img")) == 3 and "where the network looked" not in page.text


def test_lost_pictures_leave_a_usable_page_and_status_1(tmp_path, capsys):
    write_run(tmp_path, UNLABELLED[:2])
    faces = sorted((tmp_path / "train_sample_videos").glob("*/faces/*.png"))
    faces[0].unlink()
    faces[1].write_text("no picture")
    page = page_of(tmp_path, status=1)
    error = capsys.readouterr().err
    assert "2 faces are not there or not readable" in error and "Traceback" not in error
    assert len(pictures(page)) == 4 and page.text.count("no picture") == 2
    assert "The pictures of 2 faces were not found" in page.text


def test_pictures_outside_the_folder_are_never_read(tmp_path):
    write_run(tmp_path, [video("a.mp4", None, [0.2])])
    cv2.imwrite(str(tmp_path / "secret.png"), np.zeros((9, 9, 3), np.uint8))
    path = tmp_path / "cnn_preds_values.json"
    face = json.loads(path.read_text())
    for change in ({"file": "../../../secret.png"}, {"file": str(tmp_path / "secret.png")}, {"file": ".."}):
        path.write_text(json.dumps(face | change))
        assert pictures(page_of(tmp_path)) == []
    rows = (tmp_path / "video_preds.csv").read_text().replace("video_0000", "../train_sample_videos/video_0000")
    (tmp_path / "video_preds.csv").write_text(rows)
    path.write_text(json.dumps(face | {"video_id": "../train_sample_videos/video_0000"}))
    assert pictures(page_of(tmp_path)) == []


def test_broken_lines_are_passed_over(tmp_path):
    write_run(tmp_path, [video("a.mp4", None, [0.2])])
    face = json.loads((tmp_path / "cnn_preds_values.json").read_text())
    broken = [face | {"score": 7}, face | {"score": float("nan")}, face | {"frame_s": None}, {"file": "x"}, [], 3]
    with open(tmp_path / "cnn_preds_values.json", "a") as file:
        file.write("{\n\n" + "".join(json.dumps(line) + "\n" for line in broken))
    assert len(pictures(page_of(tmp_path))) == 1


@pytest.mark.parametrize(
    "change",
    [
        {"file": 7},
        {"file": "x\0.png"},
        {"frame": float("inf")},
        {"video_id": ["x"]},
        {"weights": [1]},
        {"score": None},
        {"score": None, "reason": 3},
        {"person": None},
        {"frame_s": None},
        {"frame": None},
        {"warnings": 3},
    ],
)
def test_a_line_of_another_kind_is_no_traceback(tmp_path, change):
    write_run(tmp_path, [video("a.mp4", 1, [0.2])], record=RECORD)
    path = tmp_path / "cnn_preds_values.json"
    face = json.loads(path.read_text())
    path.write_text(json.dumps(face) + "\n" + json.dumps(face | change) + "\n")
    assert "P(fake) 0.800" in page_of(tmp_path).text


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (",", ";", "it has no column video_id"),
        ("0.2", "high", "could not convert"),
        ("a.mp4,1", "a.mp4,2", "2 is no label"),
        ("video_0000,", ",", "a row has no video_id"),
        ("a.mp4", "\udcff", "decode"),
    ],
)
def test_a_table_that_a_spreadsheet_changed_is_one_line_and_status_2(tmp_path, capsys, old, new, words):
    for name in ("video_preds.csv", "people_preds.csv"):
        write_run(tmp_path, [video("a.mp4", 1, [0.2])], people_table=True)
        text = (tmp_path / name).read_text()
        changed = text.replace(old, new)
        assert changed != text or (old, name) == ("a.mp4,1", "people_preds.csv"), "which has no labels"
        (tmp_path / name).write_bytes(changed.encode(errors="surrogateescape"))
        if changed != text:
            assert run("--data-dir", tmp_path) == 2
            error = capsys.readouterr().err
            assert str(tmp_path / name) in error and words in error and error.count("\n") == 1


def test_a_table_with_a_byte_order_mark_is_read(tmp_path):
    write_run(tmp_path, UNLABELLED[:1])
    path = tmp_path / "video_preds.csv"
    path.write_bytes("\ufeff".encode() + path.read_bytes())
    assert len(rows_of(page_of(tmp_path))) == 1


@pytest.mark.parametrize(
    "record",
    [
        [],
        3,
        {"metrics": [], "subgroups": 3, "made_from": "x"},
        {"metrics": {"roc_auc": 0.5}, "width": "640", "warnings": "x"},
        {
            "faces": [1],
            "model_digest": "d1",
            "metrics": {"val_faces": 3, "test_faces": {"roc_auc": {}}},
            "calibration": [1],
        },
        {"made_from": [], "length_s": float("nan"), "height": 10**400, "width": 5, "warnings": [[]], "provenance": "x"},
    ],
)
def test_records_of_another_kind_are_no_traceback(tmp_path, record):
    write_run(tmp_path, UNLABELLED[:1], record=RECORD)
    folder = tmp_path / "train_sample_videos" / "video_0000"
    places = [tmp_path / "metrics.json", folder / "frames.json", folder / "explained" / "explained.json"]
    for path in [*places, tmp_path / "robustness_scores.json", tmp_path / "tmp_checkpoint" / "best_model.json"]:
        write_json(path, record)
    assert len(rows_of(page_of(tmp_path))) == 1


def test_changed_predictions_are_told(tmp_path, capsys):
    write_run(tmp_path, UNLABELLED[:1])
    predictions = tmp_path / "cnn_preds_values.json"
    write_json(tmp_path / "metrics.json", {"made_from": source_stamp(predictions)})
    assert "Careful" not in page_of(tmp_path).text
    os.utime(predictions, ns=(1, 1))
    assert "have changed since these verdicts were made" in page_of(tmp_path).text
    assert "has changed since the verdicts were made; run 04_mapreduce" in capsys.readouterr().err


def test_scores_of_another_network_are_told(tmp_path, capsys):
    write_run(tmp_path, UNLABELLED[:1], record=RECORD | {"weights_digest": "0123456789abcdef"})
    path = tmp_path / "cnn_preds_values.json"
    line = path.read_text().splitlines()[0].removesuffix("}")
    path.write_text(f'{line}, "weights": "01234567"}}\n{line}}}\n')
    assert "another network" not in page_of(tmp_path).text and "warning" not in capsys.readouterr().err
    path.write_text(f'{line}, "weights": "01234567"}}\n{line}, "weights": "89abcdef"}}\n')
    assert "Careful: 1 of the faces have their score from another network" in page_of(tmp_path).text
    assert "1 faces were scored by other weights than" in capsys.readouterr().err


@pytest.mark.slow
def test_a_thousand_videos_are_a_page_under_60_mb(tmp_path):
    """With tiny crops; what large ones may take is known, and added."""
    rng = np.random.default_rng(1)
    videos = [video(f"clip {n}.mp4", n % 2, rng.uniform(0, 1, 11).round(6).tolist()) for n in range(1000)]
    write_run(tmp_path, videos, crops_per_video=1, metrics=OLD_METRICS, record=RECORD)
    page = page_of(tmp_path)
    assert len(rows_of(page)) == 1000
    taken = sum(len(img["src"]) for img in page.all("img", decoding="async"))
    assert len(page.all("img", decoding="async")) == 11_000 + 10 * page_module.FACES_PER_MISTAKE
    assert (tmp_path / "report.html").stat().st_size - taken + 1.01 * thumbnails.MOST_PICTURES_LENGTH < 60e6


def test_pictures_are_left_out_beyond_the_limits(tmp_path, monkeypatch):
    videos = [video(f"{n}.mp4", None, [0.1 + n / 10] * 11) for n in range(4)]
    write_run(tmp_path, videos)
    monkeypatch.setattr(thumbnails, "MOST_PICTURES", 12)
    page = page_of(tmp_path)
    assert len(pictures(page)) == 12 and page.text.count("8 more of this person's faces are left out") == 4
    assert len(page.all("circle")) == 44
    assert "0.90 0:00.0 0.90 0:02.4 0.90 0:04.8" in page.text, "the first, the middle, the last"
    monkeypatch.setattr(thumbnails, "MOST_PICTURES_LENGTH", 5 * len(page.all("img")[0]["src"]))
    page = page_of(tmp_path)
    shown = len(pictures(page))
    assert 1 <= shown <= 6 and f"{12 - shown} faces are shown without their picture" in page.text


def test_limit_shows_the_most_suspicious_and_the_worst_mistakes(tmp_path):
    videos = [video(f"{n}.mp4", 0, [n / 10]) for n in range(10)]
    write_run(tmp_path, videos)
    page = page_of(tmp_path, "--limit", 2)
    assert len(rows_of(page)) == 2 and "the 2 most suspicious of 10" in page.text
    assert "9.mp4 : label FAKE, verdict REAL, P(fake) 0.100" in page.text
    assert not [a for a in page.all("a") if a["href"].startswith("#video-")]


def test_mistakes_keep_their_pictures_where_not_all_fit(tmp_path, monkeypatch):
    write_run(tmp_path, [video(f"{n}.mp4", 0, [0.1] * 11) for n in range(4)] + [video("wrong.mp4", 0, [0.9] * 3)])
    monkeypatch.setattr(thumbnails, "MOST_PICTURES_LENGTH", 5000)
    page = (page_of(tmp_path), (tmp_path / "report.html").read_text())[1]
    mistakes = page.partition('<section id="mistakes">')[2].partition("</section>")[0]
    assert mistakes.count("data:image/webp") == 3 and 'class="gone"' in page


def test_all_labelled_videos_count_as_used_in_training_not_those_shown_alone(tmp_path):
    write_run(tmp_path, [video(f"{n}.mp4", 0, [n / 10]) for n in range(4)])
    path = tmp_path / "cnn_preds_values.json"
    path.write_text(path.read_text().replace('"split": "test"', '"split": "train"'))
    assert "4 of them were used in training" in page_of(tmp_path, "--limit", 1).text


def test_frames_elsewhere_and_output_elsewhere(tmp_path):
    write_run(tmp_path / "run", UNLABELLED[:1])
    (tmp_path / "run" / "train_sample_videos").rename(tmp_path / "frames")
    out = tmp_path / "out" / "page.html"
    assert run("--data-dir", tmp_path / "run", "--frames-dir", tmp_path / "frames", "--output", out) == 0
    assert len(pictures(Page(out.read_text()))) == 3 and not (tmp_path / "run" / "report.html").exists()


def test_ctrl_c_is_a_line_and_status_130(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    write_run(tmp_path, UNLABELLED[:1])
    monkeypatch.setattr(thumbnails, "load_pictures", interrupted)
    assert run("--data-dir", tmp_path) == 130 and not (tmp_path / "report.html").exists()
    err = capsys.readouterr().err
    assert "interrupted" in err and len(err.splitlines()) == 1


def test_output_that_cannot_be_written_is_one_line(tmp_path, capsys):
    write_run(tmp_path, UNLABELLED[:1])
    (tmp_path / "file").write_text("")
    assert run("--data-dir", tmp_path, "--output", tmp_path / "file" / "x.html") == 2
    assert "cannot write" in capsys.readouterr().err


def test_as_a_program_it_names_the_page_last_and_prints_nothing_else(tmp_path):
    write_run(tmp_path / "run", UNLABELLED)
    done = run_script("05_report.py", cwd=tmp_path, environment={"DEEPFAKE_DATA_DIR": "run"})
    assert (done.returncode, done.stdout) == (0, "")
    assert re.fullmatch(r"05: 6 of 6 videos, 16 faces, 0 failed, \d\.\d MB, \d+ s: run/report.html\n", done.stderr)
    done = run_script("05_report.py", "--help", cwd=tmp_path)
    assert done.returncode == 0 and "04_mapreduce_video_preds.py" in done.stdout


def test_evenly_spread_keeps_first_and_last():
    assert evenly_spread(range(11), 3) == [0, 5, 10] and evenly_spread(range(11), 1) == [0]
    assert evenly_spread(range(3), 5) == [0, 1, 2] and evenly_spread([], 2) == [] == evenly_spread(range(3), 0)


def test_explained_faces_are_shown_first_where_not_all_can_be():
    faces = [{"file": f"{number}.png"} for number in range(11)]
    explained = {"3.png": 0.1, "4.png": 0.2}
    names = [face["file"] for face in thumbnails.choose_faces(faces, 4, explained)]
    assert names == ["0.png", "3.png", "4.png", "10.png"]
    assert (
        thumbnails.choose_faces(faces, 1, explained) == [faces[3]]
        and thumbnails.choose_faces(faces, 11, explained) == faces
    )


def test_clock():
    assert [page_module.clock(s) for s in (0, 2.44, 59.96, 61.25, 3600)] == [
        "0:00.0",
        "0:02.4",
        "1:00.0",
        "1:01.2",
        "60:00.0",
    ]


def test_lines_are_interrupted_where_somebody_was_not_seen(tmp_path):
    scores = [1.0, 0.0, None, None, 0.5, None, None, None, None, 0.75, 0.25]
    write_run(tmp_path, [video("a.mp4", None, scores), video("photo.jpg", None, [0.2])])
    page = page_of(tmp_path)
    (line,) = page.all("path", class_="line")
    assert line["d"] == "M40.0 72.0L64.2 8.0M136.8 40.0M257.7 56.0L281.9 24.0"  # 5 s on 252 px, a frame every 0.48 s
    points = [(circle["class"], circle["cx"], circle["cy"]) for circle in page.all("circle")]
    below, above = "below", "above"
    assert points == [
        (below, "40.0", "72.0"),
        (above, "64.2", "8.0"),
        (below, "136.8", "40.0"),
        (below, "257.7", "56.0"),
        (above, "281.9", "24.0"),
    ]
    assert "0:00.0 0:05.0" in page.text


@pytest.mark.parametrize(
    ("reason", "code", "words"),
    [
        ("is not a readable video (Invalid data found when processing input)", "not_a_video", "not a video, or it is"),
        ("is empty", "empty", "holds nothing"),
        ("its results belong in /x/faces too dark, which is a file or folder of your own", "not_ours", "of yours"),
        ("took longer than 600 s (--timeout) and was stopped", "too_slow", "so long"),
        ("faces too dark", None, "too dark"),
        ("no face of confidence >= 0.95 in 11 frames", None, "No face was seen"),
        ("was not processed; run 00_convert_video_to_image.py", None, "A step before"),
        ("is empty", None, None),  # of a run before there were codes
        ("something new", "a_new_code", None),
        (None, None, None),
    ],
)
def test_reasons_in_plain_words(reason, code, words):
    found = plain_words(reason, code)
    assert found is None if words is None else words in found


def test_every_code_has_plain_words_and_every_word_a_code():
    """The codes are given where inputs are read, in calls of InputError: each as the last thing before the bracket."""
    folders = [REPOSITORY_DIR / "deepfake" / room for room in ("parallel", "preprocessing")]
    sources = [*REPOSITORY_DIR.glob("0*.py"), *(path for folder in folders for path in folder.glob("*.py"))]
    calls = re.findall(r'InputError\(.*, "([a-z_]+)"\)|code = "([a-z_]+)"', "\n".join(x.read_text() for x in sources))
    assert {one or other for one, other in calls} == set(report_words.WORDS_OF_CODES)


def test_why_a_video_cannot_be_judged_is_said_by_the_code_of_its_failure(tmp_path):
    """The tables hold words only."""
    write_run(tmp_path, [video("a.mp4", None, reason="is empty"), video("b.mp4", None, reason="is odd")])
    assert "holds nothing" not in page_of(tmp_path).text
    fail(tmp_path, "train_sample_videos/a.mp4", "is empty", code="empty")
    assert page_of(tmp_path).text.count("The file holds nothing") == 2, "beside the video and in the list"
