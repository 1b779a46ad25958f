"""03c_robustness.py: the test faces again after corruptions."""

import csv
import importlib
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from common.constants import REAL
from common.errors import InputError, OutputError
from common.files import digest, read_json, write_json
from common.paths import REPOSITORY_DIR, ROBUSTNESS_SCORES
from deepfake.augmentation import corruptions
from deepfake.dataset.table import read_dataset
from deepfake.evaluation import scoring
from deepfake.evaluation.scoring import score_faces
from deepfake.model import scorer
from deepfake.model.scorer import load_scorer
from deepfake.model.weights import save_model
from deepfake.preprocessing.crops import read_image, to_square
from deepfake.preprocessing.decoding import shown_frames
from deepfake.report import plots
from tests.datasets import lively_network, write_picture, write_split_dataset
from tests.videos import number_of, numbered_picture, read_png, record_of, set_matrix, write_avi, write_numbered

robust = importlib.import_module("03c_robustness")
frames_step = importlib.import_module("00_convert_video_to_image")
SCRIPT = REPOSITORY_DIR / "03c_robustness.py"
NAMES = {name: found.name for name, found in corruptions.CORRUPTIONS.items()}
BOX = [20, 8, 96, 72]  # of the crops cut out of numbered pictures, xywh in px
FILES = ["x-000-00.png", "x-001-00.png", "x-002-00.png"]


@pytest.fixture(scope="module")
def weights_path(tmp_path_factory):
    """EfficientNetB0 as 03 leaves it. Treat it as read-only."""
    path = tmp_path_factory.mktemp("weights") / "best_model.h5"
    save_model(lively_network(), path, {"backbone": "B0", "input_size": 32, "faces": "faces"})
    return path


@pytest.fixture(scope="module")
def loaded(weights_path):
    return load_scorer(weights_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Large pictures take long to draw."""
    monkeypatch.setattr(plots, "DPI", 20)


def run(data_dir, weights_path, *arguments):
    return robust.main(["--data-dir", str(data_dir), "--weights", str(weights_path), *map(str, arguments)])


def stopped(capsys, *arguments):
    """Run main; assert status 2 and one line, and return it."""
    with pytest.raises(SystemExit) as caught:
        robust.main([str(argument) for argument in arguments])
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code == 2 and len(lines) == 1
    return lines[0]


def table_of(data_dir):
    with open(data_dir / "robustness.csv", encoding="utf-8", newline="") as file:
        return {(row["corruption"], row["severity"]): row for row in csv.DictReader(file)}


def cut_faces(folder, files, box=BOX):
    """Write faces.json for frames that 00 has taken: one face in a frame, the same box for all; return the crops."""
    faces, crops = [], {}
    for file in files:
        frame = record_of(folder)["frames"][number := int(file[-10:-7])]
        x, y, w, h = box
        crops[file] = read_png(folder / frame["file"])[y : y + h, x : x + w]
        faces.append({"file": file, "frame": number, "frame_s": frame["time_s"], "person": 0, "crop_xywh": list(box)})
        write_picture(folder / "faces" / file, crops[file])
    write_json(folder / "faces" / "faces.json", {"made_from": {}, "faces": faces, "reason": None})
    return crops


def frames_of(path, *options):
    assert frames_step.main(["--data-dir", str(path.parent), "--videos-dir", str(path), *map(str, options)]) == 0
    return path.parent / "x"


VIDEOS = {
    "constant": lambda path: write_numbered(path / "x.mp4", 40),
    "variable rate": lambda path: write_numbered(path / "x.mp4", 40, pts=[i * 40 + i * i for i in range(40)]),
    "avi, odd height": lambda path: write_avi(path / "x.avi", 40, size=(160, 121)),
    "shrunk and turned": lambda path: set_matrix(write_numbered(path / "x.mp4", 40, (320, 240)), 0, 1, -1, 0, 240, 0),
}


@pytest.mark.parametrize("kind", VIDEOS)
def test_faces_after_almost_no_compression_are_the_saved_ones(tmp_path, kind):
    """So the frames are of the same moments, upright, in the same size, and the boxes are at the same place."""
    path = VIDEOS[kind](tmp_path)
    folder = frames_of(path, "--max-side", 161)
    crops = cut_faces(folder, [f"x-{number:03d}-00.png" for number in (0, 4, 7, 10)])
    found = robust.crops_after(robust.Recompression(path, folder, frozenset(crops), 4, 64))
    assert found.keys() == crops.keys()
    saved = {file: to_square(crop, 64)[..., ::-1].astype(int) for file, crop in crops.items()}
    for file, crop in found.items():
        off = {other: np.abs(crop - saved[other]).mean() for other in saved}
        assert off[file] < 5 and off[file] < 0.3 * min(off[other] for other in off if other != file), off


def test_stronger_compression_leaves_less_of_the_faces(tmp_path):
    path = write_numbered(tmp_path / "x.mp4", 30)
    folder = frames_of(path)
    crops = cut_faces(folder, FILES)
    off = []
    for crf in corruptions.CORRUPTIONS["h264"].severities:
        found = robust.crops_after(robust.Recompression(path, folder, frozenset(crops), crf, 64))
        off.append(np.mean([np.abs(found[f] - to_square(crops[f], 64)[..., ::-1].astype(int)).mean() for f in FILES]))
    assert off[0] < off[1] < off[2]


def test_recompressed_frames_come_in_order_and_are_complete():
    pictures = [numbered_picture(index, 161, 121)[..., ::-1] for index in range(60)]
    found = list(corruptions.recompress(pictures, 23))
    assert [number for number, _ in found] == list(range(60))
    for number, frame in found:
        picture = frame.to_ndarray(format="bgr24")
        assert picture.shape == (120, 160, 3) and number_of(picture) == number
    assert list(corruptions.recompress([], 23)) == []


def test_compression_gives_the_same_pictures_every_time(tmp_path):
    """With x264's macroblock tree it does not, as soon as the encoder's memory was used for something else before."""
    path = write_numbered(tmp_path / "x.mp4", 60, (480, 360))
    digests = set()
    for _ in range(4):
        frames = corruptions.recompress((picture for _, picture in shown_frames(path)), 32)
        digests.add(digest(b"".join(frame.to_ndarray(format="bgr24").tobytes() for _, frame in frames)))
    assert len(digests) == 1


def test_shown_frames_have_their_times_and_are_upright(tmp_path):
    pts = [0, 40, 100, 101, 300]
    path = write_numbered(tmp_path / "x.mp4", 5, pts=pts)
    times_s, pictures = zip(*shown_frames(path), strict=True)
    assert times_s == pytest.approx([value / 1000 for value in pts])
    assert [number_of(picture) for picture in pictures] == list(range(5))
    set_matrix(path, -1, 0, 0, -1, 160, 120)  # upside down
    assert [number_of(picture[::-1, ::-1]) for _, picture in shown_frames(path)] == list(range(5))


def test_a_video_that_changed_is_refused_in_words(tmp_path):
    path = write_numbered(tmp_path / "x.mp4", 40)
    folder = frames_of(path)
    crops = cut_faces(folder, ["x-000-00.png", "x-010-00.png"])
    write_numbered(path, 10)  # shorter now
    job = robust.Recompression(path, folder, frozenset(crops), 23, 32)
    with pytest.raises(InputError, match="only 1 of its 2 faces"):
        robust.crops_after(job)
    path.write_bytes(b"no video")
    with pytest.raises(InputError, match="not a readable video"):
        robust.crops_after(job)
    (folder / "frames.json").unlink()
    with pytest.raises(InputError, match="run 00 and 01a"):
        robust.crops_after(job)


def test_corruption_is_repeatable_and_grows(tmp_path):
    rng = np.random.default_rng(0)
    face = cv2.GaussianBlur(rng.integers(0, 256, (90, 70, 3), np.uint8), (0, 0), 1)
    for name in ("a.png", "b.png"):
        write_picture(tmp_path / name, face)
    for corruption, (_, _, severities, step) in corruptions.CORRUPTIONS.items():
        if step is None:
            continue
        off = []
        for severity in severities:
            read = robust.corrupting_reader(step, severity, 5)
            one = read(tmp_path / "a.png")
            assert one.shape == face.shape and one.dtype == np.uint8 and (one == read(tmp_path / "a.png")).all()
            off.append(np.abs(one.astype(int) - face).mean())
        assert off == sorted(off) and off[0] > 0.1, corruption
    noisy = robust.corrupting_reader(corruptions.add_noise, 10, 5)
    assert (noisy(tmp_path / "a.png") != noisy(tmp_path / "b.png")).any()  # not the same noise on every face
    assert robust.corrupting_reader(corruptions.add_noise, 10, 5)(tmp_path / "none.png") is None


def test_corruption_keeps_the_colour_order(tmp_path):
    write_picture(tmp_path / "a.png", np.full((40, 40, 3), (200, 100, 50), np.uint8))
    seen = []

    def step(face_rgb, severity, rng):
        seen.append(face_rgb[0, 0].tolist())
        return face_rgb

    read = robust.corrupting_reader(step, 1, 0)
    assert read(tmp_path / "a.png")[0, 0].tolist() == [200, 100, 50] and seen == [[50, 100, 200]]


def test_measures_are_those_of_scikit_learn_per_face_and_per_video():
    rng = np.random.default_rng(2)
    rows = [
        {"file": f"{video}-{frame}", "video_id": f"v{video:02}", "group": f"g{video // 2:02}", "label": video % 2}
        for video in range(60)
        for frame in range(3)
    ]
    scores = {row["file"]: float(np.clip(0.2 * row["label"] + rng.uniform(0, 0.8), 0, 1)) for row in rows}
    del scores["0-0"]
    found = robust.measure(rows, scores, 1)
    kept = [row for row in rows if row["file"] in scores]
    labels, values = [row["label"] for row in kept], [scores[row["file"]] for row in kept]
    assert (found["faces"], found["videos"], found["groups"]) == (179, 60, 30)
    assert found["roc_auc"] == pytest.approx(roc_auc_score(labels, values))
    assert found["log_loss"] == pytest.approx(log_loss(labels, values))
    means = [np.mean([scores[r["file"]] for r in kept if r["video_id"] == f"v{v:02}"]) for v in range(60)]
    assert found["video_roc_auc"] == pytest.approx(roc_auc_score([v % 2 for v in range(60)], means))
    assert found["roc_auc_low"] < found["roc_auc"] < found["roc_auc_high"]
    assert found["video_log_loss_low"] < found["video_log_loss"] < found["video_log_loss_high"]
    few = robust.measure(rows[:12], scores, 1)
    assert few["roc_auc"] is not None and few["roc_auc_low"] is None  # 2 groups carry no interval
    assert robust.measure(rows, {}, 1) == {"faces": 0, "videos": 0, "groups": 0}


def test_faces_are_scored_after_each_corruption(tmp_path, weights_path, loaded, capsys):
    rows = [row for row in write_split_dataset(tmp_path) if row["split"] == "test"]
    assert run(tmp_path, weights_path, "--corruptions", "jpeg", "noise") == 0
    table = table_of(tmp_path)
    assert list(table) == [("jpeg", x) for x in ("none", "90", "70", "50", "30")] + [
        ("noise", x) for x in ("none", "5", "10", "20")
    ]
    paths, labels = [tmp_path / "split_dataset" / row["file"] for row in rows], [row["label"] for row in rows]
    jpeg = robust.corrupting_reader(corruptions.CORRUPTIONS["jpeg"].corrupt, 30, 2020)
    for severity, read in (("none", read_image), ("30", jpeg)):
        scores = score_faces(loaded[0], paths, 32, "test", read=read)
        assert float(table["jpeg", severity]["roc_auc"]) == pytest.approx(roc_auc_score(labels, scores))
        assert float(table["jpeg", severity]["log_loss"]) == pytest.approx(log_loss(labels, scores), rel=1e-4)
    assert table["jpeg", "30"]["label"] == "JPEG quality 30" and table["noise", "none"]["label"] == "undamaged"
    assert table["jpeg", "30"]["faces"] == "8" and table["jpeg", "30"]["roc_auc_low"] == ""
    assert {row["log_loss"] for row in table.values()} != {table["jpeg", "none"]["log_loss"]}
    assert (tmp_path / "Robustness.png").read_bytes().startswith(b"\x89PNG")
    assert "03c: 8 test faces of 4 videos, 9 rows" in capsys.readouterr().err


def test_rows_of_a_corruption_are_of_the_faces_that_every_severity_has():
    """A face that one severity has lost would else be in the others' figures, and in those of the faces as they are."""
    rows = [
        {"file": f"{video}", "video_id": f"v{video}", "group": f"g{video}", "label": video % 2} for video in range(6)
    ]
    every = {str(video): 0.9 if video % 2 else 0.1 for video in range(6)}
    odd = {"0": 1.0, "1": 0.0}  # the two that are lost at one severity are wrong at the others

    def without(*files):
        return {file: score for file, score in (every | odd).items() if file not in files}

    results = [
        ("none", "none", every | odd, []),
        ("h264", 23, without("0"), [("v", "lost")]),
        ("h264", 40, without("1"), []),
    ]
    table, failed = robust.make_table([*results, ("jpeg", 90, every, [])], rows, 1)
    found = [(row["corruption"], row["severity"], row["faces"], row["accuracy"]) for row in table]
    assert found == [
        ("h264", "none", 4, 1),
        ("h264", 23, 4, 1),
        ("h264", 40, 4, 1),
        ("jpeg", "none", 6, 4 / 6),
        ("jpeg", 90, 6, 1),
    ]
    assert failed == [("v", "lost")]
    table, _ = robust.make_table([*results, ("h264", 51, {}, [])], rows, 1)  # a severity without any leaves the others
    assert [row["faces"] for row in table] == [4, 4, 4, 0]


def test_labels_say_what_was_done():
    labels = [
        corruptions.label_of(corruption, severity)
        for corruption, found in corruptions.CORRUPTIONS.items()
        for severity in found.severities
    ]
    assert {"JPEG quality 50", "darkened to 10 %", "blurred by 0.5 % of the width"} < set(labels)
    assert len(set(labels)) == len(labels) and corruptions.label_of("dark", "none") == "undamaged"


def test_an_interrupted_run_is_one_line(tmp_path, weights_path, capsys, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    write_split_dataset(tmp_path)
    monkeypatch.setattr(robust, "make_table", interrupt)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, weights_path)
    assert caught.value.code == 130 and capsys.readouterr().err == "interrupted; run it again\n"


def test_a_run_that_was_stopped_goes_on_and_a_complete_one_only_draws(tmp_path, weights_path, monkeypatch):
    write_split_dataset(tmp_path)
    calls, real = [], scoring.score_faces

    def full_disk_at_third(*arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise OutputError("cannot write: no space left")
        return real(*arguments, **options)

    monkeypatch.setattr(scoring, "score_faces", full_disk_at_third)
    with pytest.raises(SystemExit) as caught:
        run(tmp_path, weights_path, "--corruptions", "jpeg")
    assert caught.value.code == 2 and not (tmp_path / "robustness.csv").exists()
    assert len(json.loads((tmp_path / "robustness_scores.json").read_text())["scores"]) == 2
    calls[:] = [1] * 10
    assert run(tmp_path, weights_path, "--corruptions", "jpeg") == 0
    assert len(calls) == 13  # of 5
    written = (tmp_path / "robustness.csv").read_bytes()
    (tmp_path / "robustness.csv").unlink()
    assert run(tmp_path, weights_path, "--corruptions", "jpeg") == 0
    assert len(calls) == 13 and (tmp_path / "robustness.csv").read_bytes() == written
    assert run(tmp_path, weights_path, "--corruptions", "jpeg", "--seed", 1) == 0
    assert len(calls) == 18
    assert run(tmp_path, weights_path, "--corruptions", "jpeg", "--seed", 1, "--force") == 0
    assert len(calls) == 23


@pytest.fixture
def with_videos(tmp_path):
    """A split dataset whose test faces were cut out of videos that are there."""
    rows = [row for row in write_split_dataset(tmp_path) if row["split"] == "test"]
    videos_dir = tmp_path / "train_sample_videos"
    videos_dir.mkdir()
    for number, video_id in enumerate(sorted({row["video_id"] for row in rows})):
        write_numbered(videos_dir / f"{video_id}.mp4", 12 + number)
    assert frames_step.main(["--data-dir", str(tmp_path)]) == 0
    for row in rows:
        folder = videos_dir / row["video_id"]
        files = [other["file"].rsplit("/", 1)[1] for other in rows if other["video_id"] == row["video_id"]]
        crops = cut_faces(folder, files)
        for other in rows:
            if other["video_id"] == row["video_id"]:
                write_picture(tmp_path / "split_dataset" / other["file"], crops[other["file"].rsplit("/", 1)[1]])
    return tmp_path


def test_videos_are_compressed_again_and_one_that_is_lost_costs_itself(with_videos, weights_path, capsys, monkeypatch):
    monkeypatch.setitem(
        corruptions.CORRUPTIONS, "h264", corruptions.CORRUPTIONS["h264"]._replace(severities=(23, 40))
    )  # each starts processes
    path = with_videos / "train_sample_videos" / "test_fake_1.mp4"
    path.rename(with_videos / "away.mp4")
    assert run(with_videos, weights_path, "--corruptions", "h264") == 1
    printed = capsys.readouterr().err
    assert printed.count("03c: failed:") == 1 and "test_fake_1.mp4" in printed
    table = table_of(with_videos)
    assert {key: (row["faces"], row["videos"]) for key, row in table.items()} == {
        ("h264", severity): ("6", "3") for severity in ("none", "23", "40")
    }  # "none" is of the same faces
    (with_videos / "away.mp4").rename(path)
    assert run(with_videos, weights_path, "--corruptions", "h264") == 0
    table = table_of(with_videos)
    assert {row["faces"] for row in table.values()} == {"8"}
    losses = [float(row["log_loss"]) for row in table.values()]
    assert len(set(losses)) == 3 and abs(losses[1] - losses[0]) < 1


def test_photos_are_no_videos():
    rows = [
        {"video_id": "a-jpg", "filename": "a.JPG", "file": "a"},
        {"video_id": "b", "filename": "x/b.MOV", "file": "b"},
    ]
    jobs = robust.videos_of(rows, REPOSITORY_DIR, REPOSITORY_DIR / "frames", 23, 32)
    assert [(job.path, job.folder, job.files) for job in jobs] == [
        (REPOSITORY_DIR / "x" / "b.MOV", REPOSITORY_DIR / "frames" / "b", frozenset("b"))
    ]


def full_table(low=0.7):
    """Rows of all kinds, with values that the plot has to show."""
    table = []
    for corruption, found in corruptions.CORRUPTIONS.items():
        for place, severity in enumerate(("none", *found.severities)):
            row = {"corruption": corruption, "severity": severity, "faces": 1234, "videos": 123, "groups": 45}
            values = {"roc_auc": 0.9 - 0.05 * place, "log_loss": 0.4 + 0.1 * place}
            bounds = {f"{name}_{end}": low for name in values for end in ("low", "high")}
            table.append({**row, **values, **bounds})
    return table


@pytest.mark.parametrize("kinds", [1, 2, 6])
def test_plot_shows_every_value_and_no_text_is_cut(tmp_path, monkeypatch, kinds):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    table = [row for row in full_table() if row["corruption"] in list(corruptions.CORRUPTIONS)[:kinds]]
    plots.draw_robustness(tmp_path / "x.png", table, NAMES)
    figure = figures[0]
    figure.canvas.draw()
    assert len(figure.axes) == 2 * kinds
    assert list(figure.axes[0].lines[0].get_ydata()) == pytest.approx([0.9, 0.85, 0.8, 0.75, 0.7])
    assert [text.get_text() for text in figure.axes[0].get_xticklabels()] == ["none", "90", "70", "50", "30"]
    assert [figure.axes[row * kinds].get_ylabel() for row in (0, 1)] == [
        "ROC AUC per face\nhigher is better",
        "log loss per face\nlower is better",
    ]
    assert all(axes.get_xlabel() for axes in figure.axes[kinds:])
    assert "real 1, fake 0" in figure.get_suptitle() and "1234 test faces of 123 videos" in figure.get_suptitle()
    texts = [figure._suptitle] + [
        text
        for axes in figure.axes
        for text in (axes.xaxis.label, axes.yaxis.label, *axes.get_xticklabels(), *axes.get_yticklabels())
    ]
    boxes = [text.get_window_extent() for text in texts if text.get_text() and text.get_visible()]
    width, height = figure.bbox.size
    assert len(boxes) > 10 and all(b.x0 >= 0 and b.y0 >= 0 and b.x1 <= width and b.y1 <= height for b in boxes)
    labels = [axes.xaxis.label.get_window_extent() for axes in figure.axes[kinds:]]
    assert all(left.x1 <= right.x0 for left, right in zip(labels, labels[1:], strict=False))


def test_plot_without_intervals_says_so(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(plots, "save_figure", lambda figure, path: figures.append(figure))
    plots.draw_robustness(tmp_path / "x.png", [{**row, "groups": 8} for row in full_table(low=None)], NAMES)
    assert "too few people" in figures[0].get_suptitle()


def test_marked_faces_have_no_h264_rows(tmp_path, weights_path, loaded, monkeypatch, capsys):
    write_split_dataset(tmp_path, face_kind="marked_faces")
    monkeypatch.setattr(scorer, "load_scorer", lambda path: (loaded[0], {**loaded[1], "faces": "marked_faces"}))
    assert run(tmp_path, weights_path, "--corruptions", "downscale", "h264") == 0
    assert {kind for kind, _ in table_of(tmp_path)} == {"downscale"}
    assert "no H.264 rows" in capsys.readouterr().err
    assert "nothing is left" in stopped(
        capsys, "--data-dir", tmp_path, "--weights", weights_path, "--corruptions", "h264"
    )


def test_inputs_that_cannot_work_are_named(tmp_path, weights_path, capsys):
    assert "03_train_cnn.py" in stopped(capsys, "--data-dir", tmp_path)
    assert "02_prepare_dataset.py" in stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path)
    write_split_dataset(tmp_path, classes=(REAL,))
    assert "both classes" in stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path)
    write_split_dataset(tmp_path, face_kind="marked_faces")
    message = stopped(capsys, "--data-dir", tmp_path, "--weights", weights_path, "--corruptions", "jpeg")
    assert "was trained on faces" in message


def test_limit_takes_videos_evenly_spread(tmp_path, weights_path, capsys):
    write_split_dataset(tmp_path)
    _, parts = read_dataset(tmp_path / "split_dataset")
    videos = sorted({row["video_id"] for row in parts["test"]})
    assert run(tmp_path, weights_path, "--corruptions", "downscale", "--limit", 3) == 0
    assert table_of(tmp_path)["downscale", "2"]["videos"] == "3"
    complete = read_json(tmp_path / ROBUSTNESS_SCORES)["scores"]
    taken = {row["video_id"] for row in parts["test"] if row["file"] in next(iter(complete.values()))}
    assert {videos[0], videos[-1]} < taken and len(taken) == 3
    assert capsys.readouterr().err.count("undamaged: ") == 1


def test_help_is_instant_from_anywhere(tmp_path):
    done = subprocess.run([sys.executable, SCRIPT, "--help"], cwd=tmp_path, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0 and "H.264" in done.stdout and "--corruptions" in done.stdout
