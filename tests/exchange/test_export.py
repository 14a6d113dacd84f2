"""`fastmlp export`: model files as ONNX files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fastmlp import MLP
from fastmlp.cli import main
from fastmlp.model_file import load_model

pytest.importorskip("onnx", reason="onnx is not installed")
pytest.importorskip("safetensors", reason="safetensors is not installed")

from tests.exchange.graphs import network, rows, run

RNG = np.random.default_rng(0)


def train(folder: Path, *options: str) -> Path:
    """Train on a table with numbers far from 0, some of them missing, and with categories."""
    lines = ["width,year,colour,kind"]
    for i in range(60):
        is_missing = i % 7 == 0 and "--missing" in options
        width = "" if is_missing else f"{RNG.normal():.3f}"
        lines.append(
            f"{width},{RNG.integers(1990, 2020)},{'red' if i % 3 else 'blue'},{'ab'[i % 2]}"
        )
    (folder / "table.csv").write_text("\n".join(lines))
    model = folder / "model.safetensors"
    words = ["train", "--data", str(folder / "table.csv"), "--save", str(model), "--quiet"]
    words += ["--target", "kind", "--epochs", "3", "--layers", "4", "--backend", "numpy"]
    assert main([*words, *options]) == 0
    return model


@pytest.mark.parametrize("runtime", ["onnxruntime", "reference"])
@pytest.mark.parametrize(
    "options", [["--missing", "mean"], ["--missing", "mean", "--standardize"], ["--standardize"]]
)
def test_a_tables_numbers_are_prepared_in_the_file(options, runtime, tmp_path, capsys):
    path = train(tmp_path, *options)
    out = tmp_path / "model.onnx"
    capsys.readouterr()
    assert main(["export", str(path), str(out)]) == 0
    assert "columns: width, year, colour=blue, colour=red" in capsys.readouterr().err
    model = load_model(path)
    raw = [
        np.array([0.5, np.nan, -1.0]),
        np.array([2000.0, 1991.0, 2019.0]),
        np.array(["red", "blue", ""]),
    ]
    assert (model.preprocessing.fill is None) == ("--missing" not in options)
    assert (model.preprocessing.mean is None) == ("--standardize" not in options)
    if model.preprocessing.fill is None:
        raw[0][1], raw[2][2] = 0.25, "blue"
    prepared = model.preprocessing.transform(raw)
    expected, probabilities = model.answers(model.network.logits(prepared))
    encoded = np.column_stack([raw[0], raw[1], raw[2] == "blue", raw[2] == "red"])
    outputs = run(out, encoded.astype(float), runtime)
    assert outputs["label"].tolist() == expected.reshape(-1).tolist()
    seen = outputs["probabilities"][:, -probabilities.shape[1] :]
    np.testing.assert_allclose(seen, probabilities, rtol=2e-6)


def test_networks_and_estimators_are_exported(tmp_path, capsys):
    made = network("silu")
    made.label_names = ("a", "b", "c")
    made.save(tmp_path / "model.safetensors")
    out = tmp_path / "model.onnx"
    assert main(["export", str(tmp_path / "model.safetensors"), str(out)]) == 0
    assert capsys.readouterr().err == f"fastmlp: {out} takes X, rows of 5 columns\n"
    assert MLP.from_onnx(out).parameters.tobytes() == made.parameters.tobytes()

    sklearn = pytest.importorskip("fastmlp.sklearn", reason="scikit-learn is not installed")
    X = rows(2, "float64", 40)
    model = sklearn.MLPClassifier((3,), solver="lbfgs", random_state=0).fit(X, X[:, 0] > 0)
    model.save(tmp_path / "model.safetensors")
    assert main(["export", str(tmp_path / "model.safetensors"), str(out), "--quiet"]) == 0
    assert capsys.readouterr().err == ""
    outputs = run(out, X, "reference")
    np.testing.assert_allclose(outputs["probabilities"], model.predict_proba(X), rtol=1e-12)
    assert outputs["label"].astype(bool).tolist() == model.predict(X).tolist()


def test_what_cannot_be_exported_is_said(tmp_path, capsys):
    network().save(tmp_path / "model.safetensors")
    model = str(tmp_path / "model.safetensors")
    for words, reason in (
        ([model, str(tmp_path / "model.pt")], "OUT must end in .onnx, got model.pt"),
        ([model, str(tmp_path / "nowhere" / "model.onnx")], "nowhere does not exist"),
        ([str(tmp_path / "no.safetensors"), str(tmp_path / "model.onnx")], "No such file"),
    ):
        assert main(["export", *words]) == 2
        assert reason in capsys.readouterr().err
    assert not (tmp_path / "model.onnx").exists()
