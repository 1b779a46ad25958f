"""One score from many: the rules in NumPy against those in Spark, what cannot be judged, and the choice of a rule."""

import importlib
from collections import defaultdict

import numpy as np
import pytest
from sklearn import metrics as reference

from deepfake.evaluation.aggregation import (
    AGGREGATES,
    as_row,
    choose_aggregate,
    commonest,
    needed_frames,
    people_rows,
    video_score,
    why_not_judged,
)
from deepfake.evaluation.calibration import UNCHANGED
from deepfake.evaluation.predictions import cannot_judge_line, prediction_line, write_predictions
from deepfake.preprocessing.quality import TOO_BLURRED, TOO_DARK, TOO_FEW_FRAMES, TOO_SMALL

verdicts = importlib.import_module("04_mapreduce_video_preds")
GOOD = {"face_px": 100.0, "brightness": 120.0, "sharpness": 300.0}
DARK, SOFT, SMALL = {**GOOD, "brightness": 3.0}, {**GOOD, "sharpness": 2.0}, {**GOOD, "face_px": 30.0}


def face(video_id, score, frame=0, person=0, quality=GOOD, video_frames=11, label=None, group=None):
    row = {
        "video_id": video_id,
        "filename": f"{video_id}.mp4",
        "group": group or video_id,
        "label": label,
        "frame": frame,
    }
    row |= {"person": person, "file": "x.png", "frame_px": 640, "video_frames": video_frames, **quality}
    return prediction_line(row, score)


def random_lines(videos, seed):
    """Return lines of videos of 1 to 11 frames, with up to 3 people, a quarter of their faces not usable."""
    rng, lines = np.random.default_rng(seed), []
    for video in range(videos):
        frames = int(rng.choice([1, 2, 3, 5, 11]))
        for person in range(rng.integers(1, 4)):
            for frame in range(frames):
                if rng.random() < 0.7:
                    quality = (DARK, SOFT, SMALL)[rng.integers(3)] if rng.random() < 0.25 else GOOD
                    video_frames = None if video % 7 == 0 else frames  # an older file does not say
                    lines.append(
                        face(f"v{video}", float(rng.random()), frame, person, quality, video_frames, video % 2)
                    )
    rng.shuffle(lines)
    return lines


def by_video(lines):
    videos = defaultdict(list)
    for line in lines:
        videos[line["video_id"]].append(line)
    return videos


def judge(tmp_path, lines, aggregate="mean"):
    """Return {video_id: row} as 04 judges the lines, by a real Spark."""
    write_predictions(tmp_path / "faces.json", lines)
    faces, _ = verdicts.read_faces(verdicts.start_spark("local[2]"), (tmp_path / "faces.json").as_uri())
    return {row["video_id"]: as_row(row) for row in verdicts.judge_videos(faces, aggregate).collect()}


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_numpy_and_spark_agree(tmp_path, aggregate):
    lines = random_lines(150, seed=AGGREGATES.index(aggregate))
    rows = judge(tmp_path, lines, aggregate)
    expected = {video_id: video_score(found, aggregate) for video_id, found in by_video(lines).items()}
    assert rows.keys() == expected.keys()
    judged = {video_id for video_id, score in expected.items() if score is not None}
    assert {video_id for video_id, row in rows.items() if row["score"] is not None} == judged
    assert 100 < len(judged) < len(rows), "some cannot be judged"
    for video_id in judged:
        assert rows[video_id]["score"] == pytest.approx(expected[video_id], abs=1e-10)
        if aggregate == "lowest-person":
            people = [person["score"] for person in rows[video_id]["people_rows"] if person["score"] is not None]
            assert min(people) == pytest.approx(rows[video_id]["score"], abs=1e-10), (
                "people_preds.csv names that person"
            )


@pytest.mark.slow
def test_what_cannot_be_judged_and_why(tmp_path):
    lines = [
        *(face("good", 0.9, frame) for frame in range(11)),
        face("photo", 0.8, video_frames=1),
        face("dark_photo", 0.8, video_frames=1, quality=DARK),
        *(face("two_of_11", 0.9, frame) for frame in range(2)),
        *(face("two_of_two", 0.3, frame, video_frames=2) for frame in range(2)),
        *(face("blurred", 0.9, frame, quality=SOFT) for frame in range(8)),
        *(face("blurred", 0.9, 8 + f) for f in range(2)),
        *(face("mixed", 0.1, frame, quality=DARK) for frame in range(4)),
        *(face("mixed", 0.1, 4 + frame, quality=SMALL) for frame in range(5)),
        *(
            face("mostly_dark", 0.6 if frame < 8 else 0.9, frame, quality=DARK if frame < 8 else GOOD)
            for frame in range(11)
        ),
        *(face("two_people_a_frame", 0.9, 0, person) for person in range(3)),
        cannot_judge_line({"video_id": "nobody", "filename": "nobody.mp4", "group": "nobody", "label": 0}, "no face"),
        face("old", 0.7, video_frames=None),
    ]
    rows = judge(tmp_path, lines)
    reasons = {video_id: row["reason"] for video_id, row in rows.items() if row["verdict"] == "CANNOT JUDGE"}
    assert reasons == {
        "dark_photo": TOO_DARK,
        "two_of_11": TOO_FEW_FRAMES,
        "blurred": TOO_BLURRED,
        "mixed": TOO_SMALL,
        "two_people_a_frame": TOO_FEW_FRAMES,
        "nobody": "no face",
    }
    scores = {video_id: row["score"] for video_id, row in rows.items() if row["score"] is not None}
    assert scores == {"good": 0.9, "photo": 0.8, "two_of_two": 0.3, "mostly_dark": 0.9, "old": 0.7}, (
        "the dark are left out"
    )
    assert (rows["mostly_dark"]["faces"], rows["mostly_dark"]["brightness"]) == (3, 120), "only usable faces count"
    assert (rows["mixed"]["faces"], rows["mixed"]["people"], rows["blurred"]["faces"]) == (0, 0, 2)
    assert all(row["people_rows"][0]["verdict"] == row["verdict"] for row in rows.values() if row["people_rows"])


def test_person_rows():
    def person(number, frames, score, reasons=()):
        return {"person": number, "frames": frames, "score": score, "reasons": list(reasons)}

    people = [person(2, 1, 0.1), person(0, 9, 0.8), person(1, 3, 0.2, ["faces too dark"]), person(None, 0, None)]
    rows = people_rows(people, True, UNCHANGED)
    assert [(row["person"], row["verdict"], row["score"], row["frames"], row["reason"]) for row in rows] == [
        (0, "REAL", 0.8, 9, None),
        (1, "FAKE", 0.2, 3, None),
        (2, "CANNOT JUDGE", None, 1, TOO_FEW_FRAMES),
    ]
    people = [person(0, 2, 0.8), person(1, 1, 0.3), person(2, 0, None, ["b", "a", "b"])]
    rows = people_rows(people, True, UNCHANGED)
    expected = [("REAL", None), ("FAKE", None), ("CANNOT JUDGE", "b")]  # nobody is there often: everybody counts
    assert [(row["verdict"], row["reason"]) for row in rows] == expected
    assert {row["verdict"] for row in people_rows(people, False, UNCHANGED)} == {"CANNOT JUDGE"}


def test_reasons():
    assert commonest([]) is None and commonest(["b", "c", "a", "b", "a"]) == "a"
    assert [needed_frames(frames) for frames in (None, 1, 2, 3, 11)] == [1, 1, 2, 3, 3]
    assert why_not_judged([], 2, 11) == TOO_FEW_FRAMES == why_not_judged([TOO_DARK] * 3, 2, 11)
    assert why_not_judged([TOO_DARK] * 6, 2, 11) == TOO_DARK == why_not_judged([TOO_DARK], 0, 11)
    assert why_not_judged([], 0, None) == "no usable face"


def two_person_videos(groups, altered, others=(0.7, 1.0), seed=0):
    """Return lines of a real and a fake video per group, two people each; in the fake only one of them looks `altered`.

    `others`: the range of the others' scores.
    """
    rng, lines = np.random.default_rng(seed), []
    for group in range(groups):
        for label in (0, 1):
            for person in (0, 1):
                centre = altered if (label, person) == (0, 1) else rng.uniform(*others)
                scores = np.clip(rng.normal(centre, 0.05, 11), 0.01, 0.99).tolist()
                lines += [
                    face(f"{label}_{group}", score, frame, person, label=label, group=f"g{group}")
                    for frame, score in enumerate(scores)
                ]
    return lines


def test_the_choice_takes_a_rule_that_is_clearly_better():
    lines = two_person_videos(40, altered=0.6)
    name, choice = choose_aggregate(lines, seed=0)
    assert name == "lowest-person" and choice["note"] is None and choice["gain"]["lowest-person"][0] > 0
    videos = by_video(lines).values()
    for rule in AGGREGATES:
        labels, scores = ([found[0]["label"] for found in videos], [video_score(found, rule) for found in videos])
        assert choice["roc_auc"][rule] == pytest.approx(reference.roc_auc_score(labels, scores))
        assert choice["log_loss"][rule] == pytest.approx(reference.log_loss(labels, scores))
    assert choice["roc_auc"]["lowest-person"] > choice["roc_auc"]["mean"] + 0.02


def test_the_choice_is_the_mean_without_a_gain_beyond_noise_or_with_few_groups():
    lines = [line for line in random_lines(120, seed=5) if line["person"] == 0]
    name, choice = choose_aggregate(lines, seed=0)
    assert name == "mean" and choice["gain"]["lowest-person"] == [0, 0]
    name, choice = choose_aggregate(two_person_videos(19, altered=0.6), seed=0)
    assert name == "mean" and choice["note"].startswith("19 validation groups; at least 20, and 10 with each class")
    assert choose_aggregate([cannot_judge_line({"video_id": "a", "group": "a", "label": 1}, "no face")], 0)[0] == "mean"


def test_the_choice_is_no_rule_that_only_lowers_all_scores():
    """Reals and fakes look alike, 0.9: the lowest person's scores are lower, which is no reason to take them."""
    name, choice = choose_aggregate(two_person_videos(40, altered=0.9, others=(0.9, 0.9)), seed=0)
    assert choice["log_loss"]["lowest-person"] < choice["log_loss"]["mean"] and name == "mean"
