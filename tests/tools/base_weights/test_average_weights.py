"""Averaging weights: the mean of the arrays, its calibration and tests, and what is refused."""

import numpy as np
import pytest

from common.constants import REAL
from deepfake.model.efficientnet import build_model
from deepfake.model.weights import load_model, save_model
from tests.datasets import lively_network, write_split_dataset
from tools.base_weights import average_weights

SIZE = 32
RECORD = {"backbone": "B0", "input_size": SIZE, "faces": "faces", "fakes": "self-blended faces", "data_digest": "d"}
OF_DRAWN_CLIPS = {name: RECORD[name] for name in ("backbone", "input_size", "faces")} | {"drawn": True}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """A split of real faces, and two networks a.h5 and b.h5, of which b has learnt from drawn clips."""
    folder = tmp_path_factory.mktemp("average")
    write_split_dataset(folder, classes=(REAL,))
    network = lively_network()
    save_model(network, folder / "a.h5", RECORD)
    other = build_model("B0", SIZE)
    other.set_weights([0.5 * array for array in network.get_weights()])
    save_model(other, folder / "b.h5", OF_DRAWN_CLIPS | {"settings": {"epochs": 6}})
    return folder


def options_of(data_dir, *names):
    return ["--data-dir", str(data_dir), *(str(data_dir / name) for name in names)]


def test_each_array_is_the_weighted_mean(data_dir, tmp_path):
    out = tmp_path / "new" / "mean.h5"
    assert average_weights.main([*options_of(data_dir, "a.h5", "b.h5"), "--shares", "3", "1", "--out", str(out)]) == 0
    a, b, mean = (
        [w.copy() for w in load_model(path)[0].get_weights()] for path in (data_dir / "a.h5", data_dir / "b.h5", out)
    )
    for first, second, found in zip(a, b, mean, strict=True):
        np.testing.assert_allclose(found, 0.75 * first + 0.25 * second, rtol=1e-5, atol=1e-7)
    assert any(not np.array_equal(first, found) for first, found in zip(a, mean, strict=True))


def test_the_record_says_what_was_averaged_and_how_good_it_is(data_dir, tmp_path, capsys):
    out = tmp_path / "mean.h5"
    assert average_weights.main([*options_of(data_dir, "a.h5", "b.h5"), "--out", str(out)]) == 0
    _, record = load_model(out)
    assert {name: record[name] for name in average_weights.SAME} == {
        name: RECORD[name] for name in average_weights.SAME
    }
    assert record["weights_digest"]
    assert [part["share"] for part in record["averaged"]] == [0.5, 0.5]
    assert [part["data_digest"] for part in record["averaged"]] == ["d", None]
    assert record["averaged"][1]["settings"] == {"epochs": 6} and record["drawn"] is True
    assert record["starting_weights"] == "averaged"
    assert (
        record["fakes"] == "self-blended faces"
        and "not fitted: 2 validation groups" in record["calibration"]["fitted_on"]
    )
    assert 0 <= record["metrics"]["test_faces"]["roc_auc"]["value"] <= 1
    assert f"{out}: mean of 2 weights" in capsys.readouterr().err


def test_what_does_not_fit_is_refused(data_dir, tmp_path, capsys):
    save_model(lively_network(), tmp_path / "marked.h5", RECORD | {"faces": "marked_faces"})
    save_model(lively_network(), tmp_path / "filmed.h5", RECORD | {"fakes": None})
    for names, more, words in (
        (["a.h5", tmp_path / "marked.h5"], [], "marked.h5: faces is marked_faces"),
        ([tmp_path / "marked.h5"], [], "marked.h5 was trained on marked_faces, but these are faces"),
        (["a.h5", tmp_path / "filmed.h5"], [], "filmed.h5: has learnt from fakes"),
        (["a.h5", "missing.h5"], [], "missing.h5 does not exist"),
        (["a.h5", "b.h5"], ["--shares", "1"], "2 files of weights, but 1 shares"),
        (["a.h5"], ["--out", str(tmp_path / "x.keras")], "name an .h5 file"),
    ):
        with pytest.raises(SystemExit) as stopped:
            average_weights.main([*options_of(data_dir, *names), "--out", str(tmp_path / "x.h5"), *more])
        assert stopped.value.code == 2 and words in capsys.readouterr().err
    assert not (tmp_path / "x.h5").exists()
