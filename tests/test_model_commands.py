"""Model files at the command line: train, show, predict and evaluate."""

from __future__ import annotations

import csv
import gzip
import io
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastmlp import MLP, Trainer
from fastmlp.cli import main
from fastmlp.datasets import pieces
from fastmlp.datasets.pieces import feature_values, open_pieces
from fastmlp.datasets.table import TableOptions, read_table
from fastmlp.model_file import ModelFile, load_model
from fastmlp.preprocessing import Feature, Preprocessing, RowError
from fastmlp.sklearn import MLPClassifier, MLPRegressor

TRAIN = ["train", "--backend", "numpy", "--epochs", "3", "--quiet", "--layers", "8"]
QUICK = ["--backend", "numpy"]
RNG = np.random.default_rng(0)
N_ROWS = 60


def write_house(path: Path, delimiter: str = ",") -> Path:
    """Write a table with numbers, gaps, names, truth values, dates and a target of text."""
    rng = np.random.default_rng(1)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(["id", "size", "colour", "built", "garden", "kind"])
        for i in range(N_ROWS):
            size = rng.normal(100, 20)
            writer.writerow(
                [
                    f"house {i}",
                    "" if i % 7 == 3 else f"{size:.3f}",
                    ["blue", "réd", "green, dark", "NA"][i % 4],
                    f"20{10 + i % 10}-01-02",
                    ["true", "False"][i % 3 == 0],
                    "big" if size > 100 else "small",
                ]
            )
    return path


@pytest.fixture
def house(tmp_path: Path) -> Path:
    return write_house(tmp_path / "house.csv")


@pytest.fixture
def model(house: Path, tmp_path: Path) -> Path:
    """Return a model of the house that needs all kinds of preprocessing."""
    path = tmp_path / "model.safetensors"
    options = ["--drop", "id", "--standardize", "--missing", "mean", "--save", str(path)]
    assert main([*TRAIN, "--data", str(house), *options]) == 0
    return path


def read(text: str) -> tuple[list[str], list[list[str]]]:
    names, *rows = list(csv.reader(io.StringIO(text)))
    return names, rows


def predicted(capsys: Any, *words: Any) -> tuple[list[str], list[list[str]]]:
    capsys.readouterr()
    assert main(["predict", *map(str, words), *QUICK]) == 0, capsys.readouterr().err
    return read(capsys.readouterr().out)


def cut_at(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let texts be read so many characters at once."""
    monkeypatch.setattr(pieces, "_FIRST_CHARACTERS", size)
    monkeypatch.setattr(pieces, "_CHARACTERS", size)


def refused(capsys: Any, *words: Any) -> str:
    capsys.readouterr()
    assert main([*map(str, words), *QUICK]) == 2
    printed = capsys.readouterr()
    assert printed.err.count("\n") == 1, printed.err
    return printed.err


# Train and show ------------------------------------------------------------------------------


def test_a_model_of_a_table_predicts_what_the_training_predicted(house: Path, model: Path, capsys):
    """By hand: gaps filled, names encoded and columns standardized with the training's numbers."""
    made = load_model(model)
    table = read_table(house, TableOptions(drop=["id"], missing="mean"))
    assert made.preprocessing is not None
    columns = made.preprocessing
    X = np.where(np.isnan(table.X), columns.fill, table.X)
    X = (X - np.array(columns.mean)) / np.array(columns.deviation)
    wanted = made.network.predict_proba(X.astype(np.float32))
    names, rows = predicted(capsys, model, house)
    assert names == ["prediction", "probability_big", "probability_small"]
    assert np.array([row[1:] for row in rows], dtype=np.float32).tolist() == wanted.tolist()
    assert [row[0] for row in rows] == [("big", "small")[i] for i in wanted.argmax(axis=1)]


def test_a_model_file_says_what_the_columns_are(model: Path):
    made = load_model(model)
    assert made.preprocessing is not None
    assert made.preprocessing.features == (
        Feature("size"),
        Feature("colour", "category", ("blue", "green, dark", "réd")),
        Feature("built", "date"),
        Feature("garden"),
    )
    assert made.preprocessing.target == ("kind",)
    assert made.network.label_names == ("big", "small")
    assert made.network.feature_names[1] == "colour=blue"


def test_show_tells_of_layers_columns_and_training(model: Path, capsys):
    capsys.readouterr()
    assert main(["show", str(model)]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"1  6 x 8 +relu +56\n", printed)
    assert "total 74 parameters of float32" in printed
    assert "features: 4 (size, colour (3 categories), built (date), garden)" in printed
    assert "labels: 2 (big, small)" in printed
    assert "trained: 3 epochs by fastmlp" in printed
    assert "optimizer: Adam(learning_rate=" in printed


def test_save_still_writes_checkpoints_by_other_names(house: Path, tmp_path: Path, capsys):
    path = tmp_path / "run.npz"
    assert main([*TRAIN, "--data", str(house), "--missing", "drop", "--save", str(path)]) != 0
    options = ["--drop", "id", "--missing", "drop", "--save", str(path)]
    assert main([*TRAIN, "--data", str(house), *options]) == 0
    assert path.read_bytes()[:2] == b"PK"
    assert "seems, a checkpoint of a trainer" in refused(capsys, "predict", path, house)


def test_a_model_file_is_checked_before_the_training(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main([*TRAIN, "--save", str(tmp_path / "a.safetensors")]) == 2
    assert "fastmlp[safetensors]" in capsys.readouterr().err
    assert main([*TRAIN, "--save", str(tmp_path / "none" / "a.safetensors")]) == 2
    assert "does not exist" in capsys.readouterr().err


def test_a_regression_answers_in_its_own_unit(tmp_path: Path, capsys):
    X = RNG.normal(size=(200, 2))
    data = np.column_stack([X, 1e5 + X @ [3e4, -2e4]])
    path, model = tmp_path / "a.csv", tmp_path / "a.safetensors"
    np.savetxt(path, data, delimiter=",", header="a,b,price", comments="")
    options = ["--epochs", "60", "--learning-rate", "0.01", "--dtype", "float64"]
    options += ["--save", str(model)]
    assert main([*TRAIN, "--data", str(path), *options]) == 0
    names, rows = predicted(capsys, model, path)
    assert names == ["prediction"]
    error = np.abs(np.array(rows, dtype=float)[:, 0] - data[:, 2])
    assert error.mean() < 5e3
    assert main(["evaluate", str(model), str(path), *QUICK]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("200 rows\n")
    assert float(re.search(r"mean absolute error: (\S+)", printed)[1]) == pytest.approx(
        error.mean(), rel=1e-3
    )


@pytest.mark.parametrize(
    "options",
    [["--output-activation", "sigmoid"], ["--output-activation", "linear", "--loss", "mse"]],
)
def test_classes_behind_any_output_are_predicted(options, house: Path, tmp_path: Path, capsys):
    model = tmp_path / "a.safetensors"
    common = ["--drop", "id", "--missing", "mean", "--save", str(model)]
    assert main([*TRAIN, "--data", str(house), *common, *options]) == 0
    names, rows = predicted(capsys, model, house)
    assert {row[0] for row in rows} <= {"big", "small"}
    assert len(names) == (3 if "sigmoid" in options else 1)


def test_several_labels_are_predicted_by_name(tmp_path: Path, capsys):
    lines = ["a,b,warm,wet"]
    lines += [f"{x},{y},{int(x > 0)},{int(y > 0)}" for x, y in RNG.normal(size=(80, 2)).tolist()]
    path, model = tmp_path / "a.csv", tmp_path / "a.safetensors"
    path.write_text("\n".join(lines))
    common = ["--target", "warm", "wet", "--save", str(model)]
    assert main([*TRAIN, "--data", str(path), *common]) == 0
    names, rows = predicted(capsys, model, path)
    assert names == ["prediction_warm", "prediction_wet", "probability_warm", "probability_wet"]
    assert {cell for row in rows for cell in row[:2]} <= {"0", "1"}
    assert main(["evaluate", str(model), str(path), *QUICK]) == 0


def test_digits_are_saved_and_predicted_by_position(tmp_path: Path, capsys):
    from fastmlp.datasets import load_digits

    _, (X, y) = load_digits()
    model, data = tmp_path / "digits.safetensors", tmp_path / "digits.npz"
    assert main(["train", *QUICK, "--quiet", "--save", str(model)]) == 0
    np.savez(data, X=X, y=y)
    trained = capsys.readouterr().out
    assert main(["evaluate", str(model), str(data), *QUICK]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"test accuracy: (\S+)", trained)[1] == re.search(r"acc\w+: (\S+)", printed)[1]
    assert re.search(r"test loss: (\S+)", trained)[1] == re.search(r"\): (\S+)", printed)[1]


# Predict -------------------------------------------------------------------------------------


def test_columns_are_matched_by_name(house: Path, model: Path, tmp_path: Path, capsys):
    with house.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    other = tmp_path / "other.csv"
    with other.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["extra", "garden", "built", "size", "colour"])
        writer.writeheader()
        for row in rows:
            kept = {name: row[name] for name in ("garden", "built", "size", "colour")}
            writer.writerow({"extra": "x", **kept})
    assert predicted(capsys, model, other) == predicted(capsys, model, house)


def test_missing_columns_are_listed(model: Path, tmp_path: Path, capsys):
    path = tmp_path / "a.csv"
    path.write_text("size,garden,x\n1,true,2\n")
    message = refused(capsys, "predict", model, path)
    assert "lacks 2 of the 4 columns that the model takes: 'colour', 'built'" in message
    assert "it has 'size', 'garden', 'x'" in message


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("1,blue,2020-01-01", "line 4: 3 cells, where 4 are wanted"),
        ("1,yellow,2020-01-01,true", "line 4: column 'colour' holds 'yellow', which is none of"),
        ("big,blue,2020-01-01,true", "line 4: column 'size' holds 'big', and no number"),
        ("1,blue,soon,true", "line 4: column 'built' holds 'soon', and no date"),
        ("1,blue,12,true", "column 'built' holds"),
        ("inf,blue,2020-01-01,true", "line 4: column 'size' holds an infinite number"),
        ('1,"blue,2020-01-01,true', "line 4: a quote that begins there does not end"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(
    row: str, message: str, model: Path, tmp_path: Path, capsys
):
    path, out = tmp_path / "a.csv", tmp_path / "out.csv"
    path.write_text(f"size,colour,built,garden\n1,blue,2020-01-01,true\n\n{row}\n")
    assert message in refused(capsys, "predict", model, path, "--out", out)
    assert not out.exists()


def test_unknown_names_may_be_ignored(model: Path, tmp_path: Path, capsys):
    text = "size,colour,built,garden\n1,{},2020-01-01,true\n"
    (tmp_path / "a.csv").write_text(text.format("yellow"))
    (tmp_path / "b.csv").write_text(text.format(""))
    ours = predicted(capsys, model, tmp_path / "a.csv", "--ignore-unknown")
    assert ours == predicted(capsys, model, tmp_path / "b.csv")


def test_gaps_are_refused_where_nothing_stands_for_them(tmp_path: Path, capsys):
    network = MLP([2, 1], output_activation="linear")
    network.feature_names = ("a", "b")
    network.save(tmp_path / "a.safetensors")
    (tmp_path / "a.csv").write_text("a,b\n1,2\n3,NA\n")
    message = refused(capsys, "predict", tmp_path / "a.safetensors", tmp_path / "a.csv")
    assert "line 3: column 'b' has no value" in message


def test_standard_input_and_output(house: Path, model: Path, capsys):
    names, rows = predicted(capsys, model, house, "--keep", "id")
    assert names[0] == "id"
    assert [row[0] for row in rows] == [f"house {i}" for i in range(N_ROWS)]
    command = [sys.executable, "-m", "fastmlp", "predict", str(model), "-", "--keep", "id", *QUICK]
    run = subprocess.run(command, input=house.read_bytes(), capture_output=True)
    assert run.returncode == 0, run.stderr
    assert read(run.stdout.decode()) == (names, rows)
    latin = house.read_text(encoding="utf-8").encode("latin-1")
    run = subprocess.run(command, input=latin, capture_output=True, text=False)
    assert b"standard input is not a text file in UTF-8" in run.stderr
    assert b"--encoding, such as cp1252" in run.stderr


@pytest.mark.parametrize("ending", [".csv", ".npz", ".parquet", ".arrow"])
def test_every_kind_of_file_is_written(ending: str, house: Path, model: Path, tmp_path, capsys):
    names, rows = predicted(capsys, model, house)
    out = tmp_path / f"out{ending}"
    assert main(["predict", str(model), str(house), "--out", str(out), *QUICK]) == 0
    if ending == ".csv":
        assert read(out.read_text()) == (names, rows)
        return
    if ending == ".npz":
        columns = dict(np.load(out))
    else:
        polars = pytest.importorskip("polars")
        frame = (polars.read_parquet if ending == ".parquet" else polars.read_ipc)(out)
        columns = {series.name: series.to_numpy() for series in frame.iter_columns()}
    assert list(columns) == names
    assert columns["prediction"].tolist() == [row[0] for row in rows]
    assert columns["probability_big"].dtype == np.float32
    assert columns["probability_big"].tolist() == [np.float32(row[1]) for row in rows]


def test_every_kind_of_file_is_read(house: Path, model: Path, tmp_path: Path, capsys):
    wanted = predicted(capsys, model, house)
    packed = tmp_path / "house.csv.gz"
    packed.write_bytes(gzip.compress(house.read_bytes()))
    assert predicted(capsys, model, packed) == wanted
    semicolons = write_house(tmp_path / "semicolons.csv", ";")
    assert predicted(capsys, model, semicolons) == wanted
    tabs = write_house(tmp_path / "tabs.tsv", "\t")
    assert predicted(capsys, model, tabs) == wanted
    wide = tmp_path / "wide.csv"
    wide.write_bytes(house.read_text(encoding="utf-8").encode("utf-16"))
    assert predicted(capsys, model, wide) == wanted
    latin = tmp_path / "latin.csv"
    latin.write_bytes(house.read_text(encoding="utf-8").encode("latin-1"))
    assert predicted(capsys, model, latin) == wanted
    assert predicted(capsys, model, latin, "--encoding", "latin-1") == wanted
    assert "not a text file in UTF-8" in refused(
        capsys, "predict", model, latin, "--encoding", "utf-8"
    )
    packed.write_bytes(gzip.compress(latin.read_bytes()))
    assert predicted(capsys, model, packed) == wanted


def test_parquet_is_read(house: Path, model: Path, tmp_path: Path, capsys):
    polars = pytest.importorskip("polars")
    path = tmp_path / "house.parquet"
    frame = polars.read_csv(house, null_values=["NA", ""], try_parse_dates=True)
    frame.with_columns(polars.col("garden").cast(polars.String).str.to_lowercase() == "true")
    frame.write_parquet(path)
    assert predicted(capsys, model, path) == predicted(capsys, model, house)
    path.write_bytes(path.read_bytes()[:-20])
    assert "not a complete .parquet file" in refused(capsys, "predict", model, path)


def test_arrays_are_read(tmp_path: Path, capsys):
    network = MLP([3, 2], seed=1)
    network.save(tmp_path / "a.safetensors")
    X = RNG.normal(size=(10, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", X)
    np.savez(tmp_path / "a.npz", data=X)
    wanted = network.predict_proba(X)
    for words in (["a.npy"], ["a.npz", "--features", "data"]):
        _, rows = predicted(capsys, tmp_path / "a.safetensors", tmp_path / words[0], *words[1:])
        assert np.array([row[1:] for row in rows], dtype=np.float32).tolist() == wanted.tolist()
    assert "has no array 'X'" in refused(
        capsys, "predict", tmp_path / "a.safetensors", tmp_path / "a.npz"
    )


def test_a_model_without_names_takes_columns_by_position(tmp_path: Path, capsys):
    network = MLP([2, 1], output_activation="linear", dtype="float64")
    network.parameters = [1.0, 10.0, 0.0]
    network.save(tmp_path / "a.safetensors")
    model, path = tmp_path / "a.safetensors", tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    assert predicted(capsys, model, path)[1] == [["21.0"]]
    path.write_text("a,b,c\n1,2,3\n")
    message = refused(capsys, "predict", model, path)
    assert "has 3 columns, but the model takes 2: '0', '1'; choose by --columns" in message
    assert predicted(capsys, model, path, "--columns", "c", "a")[1] == [["13.0"]]
    assert predicted(capsys, model, path, "--columns", "-1", "0")[1] == [["13.0"]]
    assert "no column 'd'" in refused(capsys, "predict", model, path, "--columns", "d", "a")
    assert "got 1" in refused(capsys, "predict", model, path, "--columns", "a")


def test_a_file_without_a_header_is_taken_as_the_training_took_it(tmp_path: Path, capsys):
    X = RNG.normal(size=(50, 2))
    data = np.column_stack([X[:, 0] * 2, X])
    path, model = tmp_path / "a.csv", tmp_path / "a.safetensors"
    np.savetxt(path, data, delimiter=",")
    assert main([*TRAIN, "--data", str(path), "--target", "0", "--save", str(model)]) == 0
    without = tmp_path / "b.csv"
    np.savetxt(without, X, delimiter=",")
    assert predicted(capsys, model, path) == predicted(capsys, model, without)


@pytest.mark.parametrize(
    ("dates", "options", "date_format"),
    [
        (["13/02/2020", "01/03/2020"], [], "%d/%m/%Y"),
        (["02/13/2020", "01/03/2020"], [], "%m/%d/%Y"),
        (["1 02 20", "3 04 20"], ["--date-format", "%d %m %y"], "%d %m %y"),
        (["2020-01-02", "2020-01-03"], [], None),
    ],
)
def test_dates_mean_what_they_meant_in_training(
    dates, options, date_format, tmp_path: Path, capsys
):
    """The second date alone does not tell the day from the month."""
    path, model = tmp_path / "a.csv", tmp_path / "a.safetensors"
    lines = [f"{dates[i % 2]},{i % 5},{'ab'[i % 2]}" for i in range(20)]
    path.write_text("\n".join(["when,x,kind", *lines]))
    words = [*TRAIN, "--data", str(path), "--save", str(model), *options]
    assert main([*words, "--standardize"]) == 0
    made = load_model(model)
    assert made.preprocessing is not None
    assert made.preprocessing.features[0] == Feature("when", "date", date_format=date_format)
    wanted = predicted(capsys, model, path)[1][1]
    path.write_text(f"when,x\n{dates[1]},1\n")
    assert predicted(capsys, model, path)[1] == [wanted]


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4\n",
        "sep=;\na;b\n1;2\n3;4\n",
        "a;b;\n1;2;\n3;4;\n",
        "# made by hand\n# a,b\n1,2\n3,4\n",
        "\ufeffa\tb\r\n1\t2\r\n3\t4\r\n",
        'a,b\n "1" ,2\n3,"4"\n',
        "a|b\n1|2\n3|4\n",
        "a;b\n1,0;2,0\n3,0;4,0\n",
    ],
)
def test_forms_of_text_that_training_reads_are_predicted(text: str, tmp_path: Path, capsys):
    network = MLP([2, 1], output_activation="linear", dtype="float64")
    network.parameters, network.feature_names = [1.0, 10.0, 0.0], ("b", "a")
    network.save(tmp_path / "a.safetensors")
    (tmp_path / "a.csv").write_text(text, encoding="utf-8")
    options = ["--delimiter", "|"] if "|" in text else []
    rows = predicted(capsys, tmp_path / "a.safetensors", tmp_path / "a.csv", *options)[1]
    assert rows == [["12.0"], ["34.0"]]


def test_plain_tables_need_no_polars(house: Path, model: Path, tmp_path: Path, capsys, monkeypatch):
    for module in ("pieces", "files"):
        monkeypatch.setattr(f"fastmlp.datasets.{module}.has_polars", lambda: False)
    network = MLP([2, 1], output_activation="linear", dtype="float64")
    network.parameters = [1.0, 10.0, 0.0]
    network.save(tmp_path / "a.safetensors")
    (tmp_path / "a.csv").write_text("a,b\n1,2e0\n 3,4\n")
    rows = predicted(capsys, tmp_path / "a.safetensors", tmp_path / "a.csv")[1]
    assert rows == [["21.0"], ["43.0"]]
    assert "fastmlp[tables]" in refused(capsys, "predict", model, house)
    for ending in (".parquet", ".arrow"):
        (tmp_path / f"a{ending}").write_bytes(b"PAR1")
        assert "fastmlp[tables]" in refused(capsys, "predict", model, tmp_path / f"a{ending}")


def test_pieces_make_no_difference(house: Path, model: Path, capsys, monkeypatch):
    wanted = predicted(capsys, model, house)
    for size in (100, 1):
        cut_at(size, monkeypatch)
        assert predicted(capsys, model, house) == wanted


def test_estimators_files_are_predicted_as_the_estimator_does(tmp_path: Path, capsys):
    X = RNG.normal(size=(40, 2))
    np.save(tmp_path / "a.npy", X)
    path = tmp_path / "a.safetensors"
    classifier = MLPClassifier((4,), solver="lbfgs", random_state=0, backend="numpy")
    classifier.fit(X, np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]).save(path)
    names, rows = predicted(capsys, path, tmp_path / "a.npy")
    assert names == ["prediction", "probability_no", "probability_yes"]
    assert [row[0] for row in rows] == classifier.predict(X).tolist()
    proba = np.array([row[1:] for row in rows], dtype=float)
    assert np.allclose(proba, classifier.predict_proba(X), rtol=1e-12, atol=0)
    regressor = MLPRegressor(solver="lbfgs", random_state=0, backend="numpy").fit(X, X[:, 0])
    regressor.save(path)
    assert np.allclose(
        np.array(predicted(capsys, path, tmp_path / "a.npy")[1], dtype=float)[:, 0],
        regressor.predict(X),
    )


def test_labels_that_need_quotes_get_them(tmp_path: Path, capsys):
    network = MLP([1, 2])
    network.label_names = ('a "quoted", one', "b")
    network.save(tmp_path / "a.safetensors")
    (tmp_path / "a.csv").write_text("x\n0\n")
    names, rows = predicted(capsys, tmp_path / "a.safetensors", tmp_path / "a.csv")
    assert rows[0][0] == 'a "quoted", one'
    assert names[1] == 'probability_a "quoted", one'


def test_probabilities_may_be_left_out(house: Path, model: Path, capsys):
    assert predicted(capsys, model, house, "--no-probabilities")[0] == ["prediction"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--out", "a.txt"], "--out must end in"),
        (["--out", "nowhere/a.csv"], "does not exist"),
        (["--keep", "none"], "no column 'none'"),
        (["--encoding", "klingon"], "no encoding 'klingon'"),
    ],
)
def test_wrong_options_are_one_sentence(words, message, house: Path, model: Path, capsys):
    assert message in refused(capsys, "predict", model, house, *words)


def test_what_is_no_model_or_no_table_is_said(house: Path, model: Path, tmp_path: Path, capsys):
    assert "is damaged or no model file" in refused(capsys, "predict", house, house)
    assert "No such file" in refused(capsys, "predict", tmp_path / "none.safetensors", house)
    assert "No such file" in refused(capsys, "predict", model, tmp_path / "none.csv")
    assert "a table must end in" in refused(capsys, "predict", model, tmp_path / "a.xls")
    (tmp_path / "empty.csv").write_text("")
    assert "holds no row" in refused(capsys, "predict", model, tmp_path / "empty.csv")
    (tmp_path / "zeros.csv").write_bytes(b"\0\0\0")
    assert "zero bytes" in refused(capsys, "predict", model, tmp_path / "zeros.csv")
    (tmp_path / "half.csv.gz").write_bytes(gzip.compress(house.read_bytes())[:-30])
    assert "complete gzip file" in refused(capsys, "predict", model, tmp_path / "half.csv.gz")


def test_a_table_of_a_header_alone_predicts_nothing(model: Path, tmp_path: Path, capsys):
    (tmp_path / "a.csv").write_text("size,colour,built,garden\n")
    assert predicted(capsys, model, tmp_path / "a.csv")[1] == []


def test_the_old_predictions_stay_if_anything_fails(house: Path, model: Path, tmp_path, capsys):
    out = tmp_path / "out.csv"
    out.write_text("old")
    with house.open("a") as file:
        file.write("house,1,yellow,2020-01-01,true,big\n")
    assert "'yellow'" in refused(capsys, "predict", model, house, "--out", out)
    assert out.read_text() == "old"
    assert sorted(os.listdir(tmp_path)) == ["house.csv", "model.safetensors", "out.csv"]


def test_rows_of_wide_networks_are_taken_few_at_once(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr("fastmlp.cli.rows.MOST_NUMBERS", 20)
    network = MLP([8, 2], seed=1)
    network.save(tmp_path / "a.safetensors")
    X = RNG.normal(size=(11, 8)).astype(np.float32)
    np.savetxt(tmp_path / "a.csv", X, "%.9g", ",")
    _, rows = predicted(capsys, tmp_path / "a.safetensors", tmp_path / "a.csv")
    wanted = network.predict_proba(X).tolist()
    assert np.array([row[1:] for row in rows], dtype=np.float32).tolist() == wanted
    with (tmp_path / "a.csv").open("a") as file:
        file.write("x,1,1,1,1,1,1,1\n")
    message = refused(capsys, "predict", tmp_path / "a.safetensors", tmp_path / "a.csv")
    assert "line 12: column '0' holds 'x'" in message


def test_a_bar_shows_how_far_the_file_is(house: Path, model: Path, capsys, monkeypatch):
    pytest.importorskip("tqdm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    capsys.readouterr()
    assert main(["predict", str(model), str(house), *QUICK]) == 0
    assert re.search(r" 0%\|.*/2\.70k", capsys.readouterr().err)
    assert main(["predict", str(model), str(house), *QUICK, "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's pipe")
def test_a_reader_that_goes_away_is_no_error(house: Path, model: Path):
    words = f"{sys.executable} -m fastmlp predict {model} {house} --backend numpy | head -1"
    run = subprocess.run(words, shell=True, capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("prediction,probability_big,probability_small\n", "")


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(tmp_path: Path):
    """Twenty times the rows take at most 40 MB more, at their peak."""
    if not Path("/proc/self/status").exists():
        pytest.skip("there is no /proc that says how much was in use")
    network = MLP([5, 8, 2], seed=1)
    network.save(tmp_path / "a.safetensors")
    row = ",".join(["0.123456"] * 5) + "\n"
    peaks = []
    script = (
        "import sys; from fastmlp.cli import main; assert main(sys.argv[1:]) == 0;"
        "print(open('/proc/self/status').read().partition('VmHWM:')[2].split()[0])"
    )
    for n_rows in (100_000, 2_000_000):
        (tmp_path / "a.csv").write_text(row * n_rows)
        words = ["predict", str(tmp_path / "a.safetensors"), str(tmp_path / "a.csv"), "--quiet"]
        command = [sys.executable, "-c", script, *words, "--out", str(tmp_path / "out.csv"), *QUICK]
        run = subprocess.run(command, capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        peaks.append(int(run.stdout) * 1024)
    assert (tmp_path / "out.csv").read_bytes().count(b"\n") == 2_000_001
    assert peaks[1] - peaks[0] < 40e6


# Evaluate ------------------------------------------------------------------------------------


def test_evaluate_says_what_the_trainer_says(tmp_path: Path, capsys):
    X = RNG.normal(size=(70, 2))
    y = (X[:, 0] > 0).astype(int)
    network = MLP([2, 4, 2], seed=1)
    trainer = Trainer(network, backend="numpy")
    trainer.fit(X, y, 2, verbose=False)
    network.label_names = ("low", "high")
    network.save(tmp_path / "a.safetensors")
    lines = [
        f"{a!r},{b!r},{('low', 'high')[label]}" for (a, b), label in zip(X.tolist(), y, strict=True)
    ]
    (tmp_path / "a.csv").write_text("\n".join(["a,b,kind", *lines]))
    loss, accuracy = trainer.evaluate(X, y)
    assert main(["evaluate", str(tmp_path / "a.safetensors"), str(tmp_path / "a.csv"), *QUICK]) == 0
    printed = capsys.readouterr().out
    assert printed == f"70 rows\nloss (cross_entropy): {loss:.4f}\naccuracy: {accuracy:.4f}\n"


def test_evaluate_finds_the_target_by_name(house: Path, model: Path, tmp_path: Path, capsys):
    with house.open(newline="", encoding="utf-8") as file:
        rows = [list(reversed(row)) for row in csv.reader(file)]
    other = tmp_path / "other.csv"
    with other.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    said = []
    for path in (house, other):
        capsys.readouterr()
        assert main(["evaluate", str(model), str(path), *QUICK]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


def test_labels_that_the_model_does_not_know_are_said(house: Path, model: Path, capsys):
    house.write_text(house.read_text(encoding="utf-8").replace("small", "tiny"), encoding="utf-8")
    for options in ([], ["--ignore-unknown"]):
        message = refused(capsys, "evaluate", model, house, *options)
        assert "column 'kind' holds 'tiny', which is none of" in message


def test_two_classes_of_one_sigmoid_are_judged(tmp_path: Path, capsys):
    X = RNG.normal(size=(40, 2))
    labels = np.array(["no", "yes"])[(X[:, 0] > 0).astype(int)]
    classifier = MLPClassifier((4,), solver="lbfgs", random_state=0, backend="numpy")
    classifier.fit(X, labels).save(tmp_path / "a.safetensors")
    np.savez(tmp_path / "a.npz", X=X, y=labels)
    assert main(["evaluate", str(tmp_path / "a.safetensors"), str(tmp_path / "a.npz"), *QUICK]) == 0
    accuracy = classifier.score(X, labels)
    assert f"accuracy: {accuracy:.4f}" in capsys.readouterr().out


# Pieces and columns --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "a,b\n1,2\n3,4\n",
        "a,b\r\n1,2\r\n3,4\r\n",
        "# said\na,b\n\n1,2\n# more\n3,4",
        'a,b\n"1",2\n3,"4"\n',
        'a,b\n"x\ny","""q"", z"\n3,4\n',
        "a,b\n1\x0b,2\u2028\n3,4\n",
    ],
)
@pytest.mark.parametrize("size", [1, 3, 7, 10**6])
def test_blocks_of_any_size_hold_the_same_rows(text, size, tmp_path: Path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_bytes(text.encode())
    wanted = [row for row in csv.reader(io.StringIO(text, newline="")) if row and row[0][:1] != "#"]
    cut_at(size, monkeypatch)
    with open_pieces(str(path), TableOptions()) as table:
        rows = [list(row) for piece in table.pieces for row in zip(*piece.columns, strict=True)]
    assert [table.names, *rows] == wanted


PLAIN = [
    *("1", "-2.5", "+3", ".5", "5.", "1e5", "1E-3", "0", "007", "123456789012345678", "1e400"),
    *(
        "",
        " ",
        " 1",
        "1 ",
        "nan",
        "NaN",
        "NA",
        "inf",
        "-Infinity",
        "1_0",
        "0x1",
        "1d5",
        "1e",
        "--1",
    ),
    *("true", "2020-01-01", "x", "1,5", "0.1", "2.2250738585072014e-308", "4.9e-324"),
]


def outcome(path: Path, options: TableOptions) -> Any:
    """Return the values of both columns, or what is wrong with them."""
    feature = Feature("a")
    with open_pieces(str(path), options) as table:
        table.wanted = {0: True, 1: False}
        made = []
        for piece in table.pieces:
            try:
                values = feature_values(feature, piece.columns[0], table.rules).astype(float)
            except RowError as error:
                return piece.place(error.row), str(error)
            made += zip(map(repr, values.tolist()), piece.columns[1], strict=True)
    return made


@given(st.lists(st.tuples(st.sampled_from(PLAIN), st.sampled_from(PLAIN)), max_size=8))
def test_the_quick_reader_reads_what_the_plain_one_does(rows):
    pytest.importorskip("polars")
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        path = Path(folder, "a.csv")
        # The first block tells of columns, and is never read quickly.
        lines = ["a;b", *(f"{a};{b}" for a, b in [("1", "2"), *rows])]
        path.write_text("\n".join(lines))
        cut_at(7, patch)
        patch.setattr(pieces, "_CHARACTERS", 10**6)
        options = TableOptions(decimal=".")
        quick = outcome(path, options)
        patch.setattr(pieces, "_plain_piece", lambda *arguments: None)
        assert quick == outcome(path, options)


@pytest.mark.parametrize("row", ["1,2", "1,2,3,4", "1", "", "1,2,3,4\n1,2"])
def test_rows_of_other_widths_are_found_by_both_readers(row: str, tmp_path: Path, monkeypatch):
    path = tmp_path / "a.csv"
    path.write_text("a,b,c\n1,2,3\n4,5,6\n" + row + "\n7,8,9\n")
    cut_at(12, monkeypatch)
    said = []
    for quick in (True, False):
        if not quick:
            monkeypatch.setattr(pieces, "_plain_piece", lambda *arguments: None)
        with open_pieces(str(path), TableOptions()) as table:
            table.wanted = {0: True, 2: True}
            try:
                said.append([list(map(float, piece.columns[0])) for piece in table.pieces])
            except ValueError as error:
                said.append(str(error))
    assert said[0] == said[1]
    assert ("cells, where 3 are wanted" in str(said[0])) == (row != "")


def test_lines_are_those_of_the_file(tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text('# x\na,b\n\n1,"2\n3"\n# y\n4,5\n')
    with open_pieces(str(path), TableOptions()) as table:
        (piece,) = table.pieces
    assert [piece.place(row) for row in range(piece.n_rows)] == ["line 4", "line 7"]


def test_a_quote_that_is_left_open_takes_no_memory(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(pieces, "_MOST_IN_A_ROW", 100)
    cut_at(10, monkeypatch)
    path = tmp_path / "a.csv"
    path.write_text('a,b\n1,"2\n' + "3,4\n" * 1000)
    with (
        pytest.raises(ValueError, match="line 2: a row that begins there does not end"),
        open_pieces(str(path), TableOptions()) as table,
    ):
        list(table.pieces)


@pytest.mark.parametrize(
    ("cells", "values"),
    [
        (["1", " 2.5 ", "-1e-3"], [1, 2.5, -0.001]),
        (["1", "NA", ""], [1, np.nan, np.nan]),
        (["", ""], [np.nan, np.nan]),
        (["true", "False"], [1, 0]),
    ],
)
def test_cells_of_numbers(cells, values):
    made = feature_values(Feature("a"), cells)
    assert np.array_equal(made.astype(float), values, equal_nan=True)


@pytest.mark.parametrize(
    "cells", [["1", "1_0"], ["1", "\u0663"], ["1", "x"], ["2020-01-01"], ["0x1"]]
)
def test_cells_that_are_no_numbers(cells):
    with pytest.raises(RowError, match="column 'a' holds") as error:
        feature_values(Feature("a"), cells)
    assert error.value.row == len(cells) - 1


def test_dates_and_names_of_numbers():
    assert feature_values(Feature("a", "date"), ["1970-01-03"]).tolist() == [2]
    rooms = Feature("rooms", "category", (1, 2))
    values = feature_values(rooms, ["2", "1.0", ""])
    assert rooms.encode(values).tolist() == [[0, 1], [1, 0], [0, 0]]
    names = Feature("rooms", "category", ("1", "x"))
    assert names.encode(feature_values(names, np.array([1]))).tolist() == [[1, 0]]


def test_a_category_without_a_value_is_refused_unless_there_are_means():
    made = Preprocessing((Feature("a", "category", ("x", "y")),))
    with pytest.raises(RowError, match="column 'a' has no value"):
        made.transform([np.array(["x", ""])])
    filled = Preprocessing(made.features, fill=(0.5, 0.5))
    assert filled.transform([np.array(["x", ""])]).tolist() == [[1, 0], [0, 0]]


def test_answers_of_a_single_sigmoid_are_two_probabilities():
    network = MLP([1, 1], output_activation="sigmoid")
    network.label_names = (False, True)
    predictions, probabilities = ModelFile(network).answers(np.array([[0.0], [-3.0]]))
    assert predictions.tolist() == [True, False]
    assert probabilities is not None
    assert probabilities.sum(axis=1).tolist() == [1, 1]
