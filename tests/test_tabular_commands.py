"""The command line with tables of mixed columns, and with models that were trained on them."""

from __future__ import annotations

import datetime as dt
import re
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from fastmlp.cli import main
from fastmlp.errors import TrainingInterrupted
from fastmlp.sklearn import TabularClassifier, TabularRegressor

pytest.importorskip("safetensors")

N = 60
QUICK = ["--members", "2", "--epochs", "4", "--backend", "numpy", "--seed", "1"]
SAME = ["--quiet", "--backend", "numpy"]
SUFFIXES = ["csv", "tsv", "parquet", "arrow"]


def flats() -> pl.DataFrame:
    """Return a table with columns of every kind, and gaps."""
    generator = np.random.default_rng(0)
    size = generator.integers(20, 90, N).astype(float)
    district = generator.choice(["north", "south", "west"], N).tolist()
    rent = size * 10 + np.array([50.0 if one == "south" else 0.0 for one in district])
    days = generator.integers(0, 900, N)
    return pl.DataFrame(
        {
            "size": [None if i % 7 == 0 else value for i, value in enumerate(size.tolist())],
            "district": [None if i % 11 == 0 else one for i, one in enumerate(district)],
            "balcony": (generator.random(N) < 0.5).tolist(),
            "built": (np.datetime64("2001-01-13") + days).astype("datetime64[D]").tolist(),
            "rooms": generator.integers(1, 4, N).tolist(),
            "rent": (rent + 0.25).tolist(),
            "dear": ["yes" if one > 550 else "no" for one in rent],
        }
    )


def write(frame: pl.DataFrame, path: Path) -> Path:
    if path.suffix == ".parquet":
        frame.write_parquet(path)
    elif path.suffix == ".arrow":
        frame.write_ipc(path)
    else:
        frame.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.fixture(params=SUFFIXES)
def file(request: Any, tmp_path: Path) -> Path:
    return write(flats(), tmp_path / f"flats.{request.param}")


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(flats(), tmp_path / "flats.csv")


def run(*words: Any, code: int = 0) -> None:
    assert main(list(map(str, words))) == code


def test_a_table_s_values_are_predicted(file: Path, tmp_path: Path, capsys):
    model = tmp_path / "model.safetensors"
    run("train", file, "--target", "rent", "--drop", "dear", *QUICK, "--save", model)
    printed = capsys.readouterr()
    assert "60 rows, 5 columns, target rent (values)" in printed.out
    assert re.search(r"^out-of-fold r2: -?[\d.e-]+ ± [\d.e-]+ \(2 folds\)$", printed.out, re.M)
    assert re.search(r"^out-of-fold rmse: [\d.]+ ± [\d.]+ \(2 folds\)$", printed.out, re.M)
    assert "elapsed time: " in printed.out
    assert "'rent' has fractions: values are predicted\n" in printed.err

    estimator = TabularRegressor.load(model)
    wanted = estimator.predict(flats().drop("rent", "dear"))
    run("predict", model, file, *SAME, "--keep", "rooms", "--out", tmp_path / "out.csv")
    found = pl.read_csv(tmp_path / "out.csv")
    assert found.columns == ["rooms", "prediction"]
    assert found["rooms"].to_list() == flats()["rooms"].to_list()
    assert found["prediction"].to_list() == wanted.tolist()
    run("evaluate", model, file, *SAME)
    printed = capsys.readouterr()
    r2 = estimator.score(flats().drop("rent", "dear"), flats()["rent"].to_numpy())
    assert f"60 rows\nr2: {r2:.4f}\n" in printed.out
    assert "root mean squared error: " in printed.out


def test_a_table_s_classes_are_predicted(file: Path, tmp_path: Path, capsys):
    model = tmp_path / "model.safetensors"
    run("train", file, *QUICK, "--drop", "rent", "--save", model)  # the last column is the target
    printed = capsys.readouterr()
    assert "target dear (2 classes)" in printed.out
    assert re.search(r"^out-of-fold accuracy: [\d.]+ ± [\d.]+ \(2 folds\)$", printed.out, re.M)
    assert re.search(r"^out-of-fold log loss: [\d.]+ ± [\d.]+ \(2 folds\)$", printed.out, re.M)
    assert "'dear' is text of 2 values: classes are predicted\n" in printed.err

    estimator = TabularClassifier.load(model)
    features = flats().drop("rent", "dear")
    run("predict", model, file, *SAME, "--out", tmp_path / "out.csv")
    found = pl.read_csv(tmp_path / "out.csv")
    assert found.columns == ["prediction", "probability_no", "probability_yes"]
    assert found["prediction"].to_list() == estimator.predict(features).tolist()
    np.testing.assert_allclose(
        found.select("probability_no", "probability_yes").to_numpy(),
        estimator.predict_proba(features),
        rtol=1e-6,
    )
    run("evaluate", model, file, *SAME)
    score = estimator.score(features, flats()["dear"].to_numpy())
    assert f"accuracy: {score:.4f}" in capsys.readouterr().out
    run("show", model)
    shown = capsys.readouterr().out
    assert (
        "features: 5 (size, district (3 categories), balcony (2 categories), built (date)" in shown
    )
    assert "target: dear" in shown
    assert "networks: 2" in shown
    assert re.search(r"accuracy on rows held out: [\d.]+ \(from [\d.]+ to [\d.]+\)", shown)


def test_a_file_of_another_kind_is_predicted_alike(tmp_path: Path):
    model, found = tmp_path / "model.safetensors", []
    run("train", write(flats(), tmp_path / "a.csv"), *QUICK, "--quiet", "--save", model)
    for suffix in SUFFIXES:
        file = write(flats().reverse().drop("dear"), tmp_path / f"b.{suffix}")
        run("predict", model, file, *SAME, "--out", tmp_path / "out.csv")
        found.append((tmp_path / "out.csv").read_text())
    assert len(set(found)) == 1


def test_the_form_of_dates_is_remembered(tmp_path: Path):
    frame, model = flats(), tmp_path / "model.safetensors"
    frame = frame.with_columns(pl.col("built").dt.strftime("%d/%m/%Y"))
    days = write(frame.select("built", "rent"), tmp_path / "days.csv")
    run("train", days, *QUICK, "--quiet", "--save", model)
    # Of these, day and month are unclear by themselves.
    unclear = write(pl.DataFrame({"built": ["02/03/2002", "03/02/2002"]}), tmp_path / "new.csv")
    run("predict", model, unclear, *SAME, "--out", tmp_path / "out.csv")
    found = pl.read_csv(tmp_path / "out.csv")["prediction"]
    clear = pl.DataFrame({"built": [dt.date(2002, 3, 2), dt.date(2002, 2, 3)]})
    wanted = TabularRegressor.load(model).predict(clear.cast(pl.Datetime("us")))
    assert found.to_list() == wanted.tolist()


def test_columns_without_values_or_of_numbers_that_are_names(tmp_path: Path):
    model = tmp_path / "model.safetensors"
    frame = flats().with_columns(pl.lit(None, dtype=pl.String).alias("note"))
    table = write(frame.drop("dear").select(pl.exclude("rent"), "rent"), tmp_path / "a.csv")
    run("train", table, *QUICK, "--categorical", "rooms", "--quiet", "--save", model)
    names = TabularRegressor.load(model).encoder_.get_feature_names_out().tolist()
    assert {"rooms=1", "rooms=2", "rooms=3", "note"} <= set(names)
    found = []
    for note in (None, "new"):
        later = write(frame.with_columns(pl.lit(note).alias("note")), tmp_path / "b.csv")
        run("predict", model, later, *SAME, "--out", tmp_path / "out.csv")
        found.append((tmp_path / "out.csv").read_text())
    assert found[0] == found[1]


def test_a_table_without_a_header(tmp_path: Path):
    model = tmp_path / "model.safetensors"
    rows = flats().drop("dear").fill_null(strategy="backward")
    rows.write_csv(tmp_path / "a.csv", include_header=False)
    run("train", tmp_path / "a.csv", *QUICK, "--no-header", "--quiet", "--save", model)
    run("predict", model, tmp_path / "a.csv", *SAME, "--no-header", "--out", tmp_path / "out.csv")
    run("evaluate", model, tmp_path / "a.csv", *SAME, "--no-header")
    assert len(pl.read_csv(tmp_path / "out.csv")) == N


def test_names_of_rows_are_said(tmp_path: Path, capsys):
    names = pl.Series("name", [f"flat {i}" for i in range(N)])
    run("train", write(flats().insert_column(0, names), tmp_path / "a.csv"), *QUICK)
    printed = capsys.readouterr().err
    assert "column 'name' holds 60 different texts in 60 rows; --drop leaves it out" in printed
    assert printed.count("different texts") == 1


def test_columns_of_one_name_are_refused(tmp_path: Path, capsys):
    (tmp_path / "a.csv").write_text("size,size,rent\n1,2,3.5\n2,3,4\n")
    run("train", tmp_path / "a.csv", *QUICK, code=2)
    assert "has several columns of one name: 'size'; leave some" in capsys.readouterr().err


def test_models_of_other_programs_predict_files(table: Path, tmp_path: Path):
    X = flats().select("size", "rooms").to_numpy()
    settings: dict[str, Any] = {"n_members": 2, "n_epochs": 2, "random_state": 0}
    model = TabularRegressor(**settings, backend="numpy").fit(X, flats()["rent"].to_numpy())
    model.save(tmp_path / "model.safetensors")
    out = tmp_path / "out.csv"
    words = ["--columns", "size", "rooms", *SAME, "--out", out]
    run("predict", tmp_path / "model.safetensors", table, *words)
    assert pl.read_csv(out)["prediction"].to_list() == model.predict(X).tolist()


@pytest.mark.parametrize(
    ("words", "notes"),
    [
        ([], "'rooms' has 3 whole values: classes are predicted; --task regression would predict"),
        (["--task", "regression"], ""),
    ],
)
def test_the_task_is_guessed_with_a_reason_or_chosen(words, notes, table: Path, capsys):
    run("train", table, "--target", "rooms", *QUICK, "--members", "1", *words)
    printed = capsys.readouterr()
    assert notes in printed.err
    assert "(1 fold)" in printed.out
    assert ("out-of-fold r2" in printed.out) == bool(words)


def test_options_of_a_network_train_one(table: Path, capsys):
    words = ["--drop", "size", "district", "--epochs", "1", "--backend", "numpy"]
    run("train", table, "--layers", "4", *words)
    printed = capsys.readouterr()
    assert "--layers describes a network, so one is trained; see --recipe" in printed.err
    assert "test accuracy: " in printed.out
    run("train", "--data", table, *words)
    assert "test accuracy: " in capsys.readouterr().out
    run("train", "--data", table, *words, "--recipe", "tabular", "--members", "2")
    assert "out-of-fold accuracy: " in capsys.readouterr().out
    run("train", "digits", "--epochs", "1", "--backend", "numpy")
    assert "data: digits" in capsys.readouterr().out


def test_rows_without_a_target_are_left_out(tmp_path: Path, capsys):
    frame = flats().drop("dear").with_columns(pl.col("rent").replace(flats()["rent"][3], None))
    run("train", write(frame, tmp_path / "a.csv"), *QUICK)
    printed = capsys.readouterr()
    assert "of 60 rows lack a target and are left out" in printed.err
    assert "out-of-fold r2" in printed.out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("{file} --layers 3 --members 2", "--layers is for --recipe network, and --members for"),
        ("{file} --recipe tabular --dropout 0.1", "--dropout is for --recipe network"),
        ("{file} --recipe network --scoring rmse", "--scoring is for --recipe tabular"),
        ("{file} --data {file}", "not both"),
        ("--recipe tabular", "wants a table: fastmlp train TABLE"),
        ("{file} --save model.npz", "must end in .safetensors"),
        ("{file} --save nowhere/model.safetensors", "does not exist"),
        ("{file} --task multilabel", "--task multilabel is for --recipe network"),
        ("{file} --target price", "no column 'price'; its columns are named"),
        ("{file} --task regression", "a regressor's y must hold numbers"),
        ("{file} --target size district", "must hold numbers"),
        ("{file} --scoring nonsense", "unknown scoring 'nonsense'"),
        ("{file} --members 0", "'n_members'"),
        ("{file}x", "must end in one of .csv"),
        ("a.npz --recipe tabular", "must end in one of .csv"),
    ],
)
def test_a_bad_value_is_one_sentence_and_exit_code_2(words, message, table: Path, capsys):
    run("train", *words.format(file=table).split(), code=2)
    printed = capsys.readouterr().err
    last = printed.splitlines()[-1]
    assert last.startswith("fastmlp: error: ")
    assert message in last


def test_numbers_beside_text_are_refused_with_their_place(tmp_path: Path, capsys):
    (tmp_path / "a.csv").write_text("size,rent\n1,2\n2,3.5\nbig,4\n" * 2)
    run("train", tmp_path / "a.csv", *QUICK, code=2)
    assert "line 4 (row 3 of the table), column 'size': 'big' is no number" in (
        capsys.readouterr().err
    )


@pytest.fixture
def model(table: Path, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    run("train", table, *QUICK, "--quiet", "--save", path)
    return path


def test_what_a_table_s_model_cannot_do_is_one_sentence(model: Path, tmp_path: Path, capsys):
    capsys.readouterr()
    for words in (["export", model, tmp_path / "a.onnx"], ["serve", model]):
        run(*words, code=2)
        printed = capsys.readouterr().err
        assert "holds a model of 2 networks, which this command does not take" in printed
        assert printed.count("\n") == 1
    assert not (tmp_path / "a.onnx").exists()


def test_rows_that_are_wrong_are_refused_with_their_place(model: Path, tmp_path: Path, capsys):
    frame = flats().with_columns(pl.col("size").cast(pl.String).fill_null("big"))
    run("predict", model, write(frame, tmp_path / "b.csv"), "--quiet", code=2)
    assert "b.csv, line 2: column 'size' holds 'big', and no number" in capsys.readouterr().err
    run("predict", model, write(flats().drop("size"), tmp_path / "b.csv"), "--quiet", code=2)
    assert "lacks 1 of the 6 columns that the model takes: 'size'" in capsys.readouterr().err
    odd = flats().with_columns(pl.lit(True).alias("district"))
    run("predict", model, write(odd, tmp_path / "b.parquet"), "--quiet", code=2)
    assert "column 'district' holds True in row 0, but held text" in capsys.readouterr().err


def test_a_damaged_file_is_one_sentence(model: Path, table: Path, capsys):
    capsys.readouterr()
    model.write_bytes(model.read_bytes()[:-3])
    for command in (["predict", model, table], ["evaluate", model, table], ["show", model]):
        run(*command, code=2)
        assert "is damaged or no model file" in capsys.readouterr().err


def test_ctrl_c_writes_what_is_trained(table: Path, tmp_path: Path, monkeypatch, capsys):
    import warnings

    from fastmlp.sklearn._tabular import Ensemble

    fit = Ensemble.fit

    def interrupted(*words: Any, **named: Any) -> Any:
        made = fit(*words, **named)
        warnings.warn("training was interrupted", TrainingInterrupted, stacklevel=2)
        return made

    monkeypatch.setattr(Ensemble, "fit", interrupted)
    path = tmp_path / "model.safetensors"
    run("train", table, *QUICK, "--quiet", "--save", path, code=130)
    assert "interrupted; " in capsys.readouterr().err
    assert TabularClassifier.load(path).n_members == 2


def test_without_polars_the_extra_is_named(table: Path, monkeypatch, capsys):
    monkeypatch.setattr("fastmlp.cli.train_tabular.has_polars", lambda: False)
    run("train", table, *QUICK, code=2)
    assert "pip install 'fastmlp[tables]'" in capsys.readouterr().err
