from __future__ import annotations

import csv
import gzip
import math
import os
import re
import signal
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

import fastmlp.cli.problem
from fastmlp import MLP, Regularization, Trainer
from fastmlp.cli import main
from fastmlp.losses import LOSSES
from fastmlp.optimizers import OPTIMIZERS
from fastmlp.schedules import SCHEDULES

QUICK = ["train", "--backend", "numpy", "--epochs", "2"]
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def number_after(label: str, text: str) -> float:
    found = re.search(rf"{label}: ([-+.\de]+)", text)
    assert found, f"no {label!r} in {text!r}"
    return float(found[1])


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    """Return a CSV file of two kinds of flowers that one feature tells apart."""
    rng = np.random.default_rng(0)
    lines = ["length,width,kind"]
    for kind, length in (("setosa", -2), ("virginica", 2)):
        lines += [f"{length + x},{y},{kind}" for x, y in rng.normal(0, 0.3, (60, 2))]
    path = tmp_path / "flowers.csv"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """Return a CSV file whose target, the first column, is 3 a - 2 b + 1; b is large."""
    a, b = np.random.default_rng(0).normal(0, 1, (2, 200))
    path = tmp_path / "line.csv"
    np.savetxt(path, np.column_stack([3 * a - 2 * b + 1, a, 100 * b]), delimiter=",")
    return path


def test_train_learns_the_digits_by_default(capsys):
    assert main(["train"]) == 0
    printed = capsys.readouterr().out
    assert "digits, 1442 training and 355 test samples, 64 features, 10 classes" in printed
    assert "64, 128, 10" in printed
    assert number_after("test accuracy", printed) > 0.95
    assert number_after("elapsed time", printed) > 0


def test_train_works_as_a_module_from_an_empty_folder(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "fastmlp", *QUICK],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    )
    assert number_after("test accuracy", done.stdout) > 0.3
    assert not list(tmp_path.iterdir())


def test_one_seed_gives_one_result_and_another_seed_another(capsys):
    def loss(seed: int) -> float:
        assert main([*QUICK, "--seed", str(seed)]) == 0
        return number_after("test loss", capsys.readouterr().out)

    assert loss(1) == loss(1) != loss(2)


def test_every_option_reaches_the_training(capsys):
    words = (
        "train --data digits --layers 20 10 --hidden-activation tanh relu "
        "--output-activation softmax --loss mse --optimizer sgd --learning-rate 0.5 "
        "--batch-size 100 --epochs 3 --backend numpy --threads 1 --seed 3 --dtype float64"
    )
    assert main(words.split()) == 0
    printed = capsys.readouterr().out
    assert "64, 20, 10, 10" in printed
    for word in ("tanh", "relu", "float64"):
        assert word in printed


def test_a_csv_file_of_named_classes_is_learned(flowers: Path, capsys):
    assert main([*QUICK, "--data", str(flowers), "--learning-rate", "0.1"]) == 0
    printed = capsys.readouterr().out
    assert "96 training and 24 test samples, 2 features, 2 classes (setosa, virginica)" in printed
    assert number_after("test accuracy", printed) == 1


def test_a_csv_file_of_real_targets_is_fitted(line: Path, capsys):
    words = [*QUICK, "--data", str(line), "--target", "0", "--layers", "--standardize"]
    assert main([*words, "--epochs", "30", "--learning-rate", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "160 training and 40 test samples, 2 features, 1 target" in printed
    assert number_after("test loss", printed) < 1e-3


def test_whole_numbers_are_classes_unless_the_task_says_otherwise(tmp_path: Path, capsys):
    path = tmp_path / "counts.csv"
    path.write_text("\n".join(f"{i / 10},{i % 4 + 5}" for i in range(40)))
    assert main([*QUICK, "--data", str(path)]) == 0
    assert "4 classes (5, 6, 7, 8)" in capsys.readouterr().out
    assert main([*QUICK, "--data", str(path), "--task", "regression"]) == 0
    assert "1 target" in capsys.readouterr().out


@pytest.mark.parametrize("output", ["sigmoid", "linear"])
def test_classes_are_learned_with_other_outputs_too(output: str, flowers: Path):
    assert main([*QUICK, "--data", str(flowers), "--output-activation", output]) == 0


def test_an_npz_file_with_several_real_targets_is_fitted(tmp_path: Path, capsys):
    X = np.random.default_rng(0).normal(size=(100, 3))
    np.savez(tmp_path / "table.npz", X=X, heights=X[:, :2] * 2)
    words = [*QUICK, "--data", str(tmp_path / "table.npz"), "--target", "heights", "--layers"]
    assert main([*words, "--epochs", "100", "--learning-rate", "0.05"]) == 0
    printed = capsys.readouterr().out
    assert "2 targets" in printed
    assert number_after("test loss", printed) < 1e-3


def test_the_history_is_written_as_csv(tmp_path: Path):
    path = tmp_path / "history.csv"
    assert main([*QUICK, "--history", str(path)]) == 0
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())
    assert float(rows[1]["loss"]) < float(rows[0]["loss"])
    assert [file.name for file in tmp_path.iterdir()] == ["history.csv"]


def test_the_history_is_plotted_as_png(tmp_path: Path):
    pytest.importorskip("matplotlib").use("agg")
    path = tmp_path / "history.png"
    assert main([*QUICK, "--history", str(path)]) == 0
    assert path.read_bytes().startswith(PNG_SIGNATURE)
    assert [file.name for file in tmp_path.iterdir()] == ["history.png"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--epochs -1", "epochs"),
        ("--batch-size 0", "batch_size"),
        ("--layers 0", "layer size"),
        ("--learning-rate -1", "learning_rate"),
        ("--threads 0", "n_threads"),
        ("--backend abacus", "'abacus'"),
        ("--output-activation linear --loss cross_entropy", "allowed pairs"),
        ("--hidden-activation relu tanh", "hidden_activation"),
        ("--data cifar", "unknown data 'cifar'; choose digits, mnist, fashion-mnist, or a .csv"),
        ("--data nowhere.csv", "nowhere.csv"),
        ("--data digits --target 3", "--target is for files"),
        ("--test-fraction 1 --data {flowers}", "--test-fraction must leave samples"),
        ("--task regression --data {flowers}", "regression needs a numeric target, got text"),
        ("--loss love", "--loss: unknown name 'love'; choose one of cross_entropy"),
        ("--optimizer adan", "--optimizer: unknown name 'adan'; did you mean 'adam'?"),
        ("--schedule step epoch=3", "--schedule step has no epoch; its parameters are epochs"),
        ("--schedule step epochs=1_0", "epochs must be an integer, got '1_0'"),
        ("--schedule step 3", "--schedule wants PARAMETER=VALUE behind step, got '3'"),
        ("--momentum 0.9", "--optimizer adam has no momentum; its parameters are learning_rate"),
        ("--optimizer sgd --nesterov", "nesterov needs a momentum greater than 0"),
        ("--optimizer lbfgs --learning-rate 1", "lbfgs has no learning rate"),
        ("--optimizer lbfgs --schedule cosine", "L-BFGS has no learning rate"),
        ("--clip-value 0", "clip_value must be greater than 0"),
        ("--l1 -1", "l1 must be at least 0"),
        ("--monitor accuracy", "--monitor is what --early-stopping watches"),
        ("--early-stopping --monitor r3", "unknown metric 'r3'"),
        ("--delimiter :: --data {flowers}", "--delimiter must be one mark"),
        ("--class-weight rosa=1_0 --data {flowers}", "got 'rosa=1_0'"),
        ("--class-weight setosa=1_0 --data {flowers}", "wants a number behind '='"),
        ("--categorical colour --data {flowers}", "no column 'colour'; its columns are named"),
        ("--date-format born=%Y --data {flowers}", "no column 'born'"),
        ("--history history.txt", "--history must end in .csv or .png"),
        ("--history nowhere/history.csv", "does not exist"),
    ],
)
def test_a_bad_value_is_one_sentence_and_exit_code_2(words, message, flowers: Path, capsys):
    assert main([*QUICK, *words.format(flowers=flowers).split()]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("fastmlp: error: ")
    assert message in printed
    assert printed.count("\n") == 1


@pytest.mark.parametrize(
    "words",
    ["", "fly", "train --layers many", "train -q"],
)
def test_an_unknown_word_ends_with_the_usage_and_exit_code_2(words: str, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 2
    assert "usage: fastmlp" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", ["--help", "train --help", "info --help", "warmup --help", "--version"]
)
def test_help_and_version_end_well(words: str, capsys):
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    assert ended.value.code == 0
    assert "fastmlp" in capsys.readouterr().out


def test_every_regularization_and_name_is_in_the_help_under_a_title(capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    printed = capsys.readouterr().out
    for field in fields(Regularization):
        assert f"--{field.name.replace('_', '-')} " in printed
    for name in (*LOSSES, *OPTIMIZERS, "lbfgs", *SCHEDULES):
        assert name in printed
    titles = re.findall(r"^([a-z ]+):$", printed, re.MULTILINE)
    assert titles == [
        "positional arguments",
        "options",
        "data",
        "reading a file",
        "recipe tabular",
        "network",
        "training",
        "regularization",
        "early stopping and scores",
        "running and output",
    ]


def test_a_plot_without_matplotlib_names_the_extra_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main([*QUICK, "--history", str(tmp_path / "history.png")]) == 2
    printed = capsys.readouterr()
    assert "pip install 'fastmlp[plot]'" in printed.err
    assert "epoch" not in printed.out


def test_info_prints_versions_and_backends(capsys):
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    for expected in (fastmlp.__version__, np.__version__, "backend numpy", "available"):
        assert expected in printed


def test_info_says_what_the_numba_backend_finds(capsys):
    pytest.importorskip("numba")
    assert main(["info", "--peak"]) == 0
    printed = capsys.readouterr().out
    for expected in (
        r"SIMD +(sse2|avx2|avx512|neon)",
        r"tile height +(2|6|12) rows",
        r"threads +\d+",
        r"cache folder +\S+",
        r"peak float32 +[\d.]+ GFLOP/s on one core",
        r"peak float64 +[\d.]+ GFLOP/s on one core",
    ):
        assert re.search(rf"^{expected}", printed, re.MULTILINE), expected


def test_warmup_readies_every_program(capsys):
    pytest.importorskip("numba")
    assert main(["warmup"]) == 0
    lines = capsys.readouterr().out.splitlines()
    programs = [
        f"{t} {p}" for t in ("float32", "float64") for p in ("train", "apply", "predict", "row")
    ]
    assert [" ".join(line.split()[:2]) for line in lines[:-1]] == programs
    assert "ready in" in lines[-1]


def test_info_says_why_a_backend_is_missing(monkeypatch: pytest.MonkeyPatch, capsys):
    monkeypatch.setattr(
        "fastmlp.cli.info.available_backends",
        lambda: {"numpy": None, "abacus": "no beads were found"},
    )
    assert main(["info"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^backend numpy +available$", printed, re.MULTILINE)
    assert re.search(r"^backend abacus +not available: no beads were found$", printed, re.MULTILINE)


def test_a_training_that_diverges_is_one_sentence_and_exit_code_1(line: Path, capsys):
    words = f"--data {line} --optimizer sgd --learning-rate 1e6 --quiet"
    assert main([*QUICK, *words.split()]) == 1
    printed = capsys.readouterr().err
    assert re.match(r"fastmlp: error: .*epoch 1", printed)
    assert printed.count("\n") == 1


def test_ctrl_c_before_the_training_leaves_no_traceback(monkeypatch: pytest.MonkeyPatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setitem(fastmlp.cli.problem.DATA_SETS, "digits", interrupt)
    assert main(QUICK) == 130


@pytest.mark.slow
@pytest.mark.usefixtures("mnist_folder")
def test_mnist_is_learned_from_the_command_line(capsys):
    words = "train --data mnist --layers 128 64 --batch-size 64 --epochs 3"
    assert main(words.split()) == 0
    assert number_after("test accuracy", capsys.readouterr().out) > 0.95


# What is guessed and said --------------------------------------------------------------------


def write_npz(folder: Path, y: np.ndarray) -> Path:
    X = np.random.default_rng(0).normal(size=(len(y), 2))
    np.savez(folder / "table.npz", X=X, y=y)
    return folder / "table.npz"


@pytest.mark.parametrize(
    ("y", "found", "reason"),
    [
        (np.arange(400) % 200, "1 target", "200 different numbers in 400 rows"),
        (np.arange(100) % 2 * 1.0, "2 classes (0, 1)", "2 whole values"),
        (np.arange(100)[:, None] % 3, "3 classes (0, 1, 2)", "3 whole values"),
        (np.arange(100) % 2 == 1, "2 classes (False, True)", "is true or false"),
        (np.arange(100) % 7 / 2, "1 target", "has fractions"),
        (np.eye(3)[np.arange(99) % 3], "3 classes (0, 1, 2)", "one 1 in each row"),
        (np.arange(200).reshape(100, 2) // 2 % 2, "2 labels", "2 columns of 0 and 1"),
        (np.arange(100) % 3 * 0.5, "1 target", "has fractions"),
    ],
)
def test_the_task_is_guessed_and_said(y, found, reason, tmp_path: Path, capsys):
    assert main([*QUICK, "--data", str(write_npz(tmp_path, y))]) == 0
    printed = capsys.readouterr()
    assert found in printed.out
    assert reason in printed.err
    assert "choose another by --task" in printed.err


def test_a_large_target_is_learned_and_reported_in_its_unit(tmp_path: Path, capsys):
    X = np.random.default_rng(0).normal(size=(300, 2))
    np.savez(tmp_path / "house.npz", X=X, y=1e5 + X @ [3e4, -2e4])
    words = [*QUICK, "--data", str(tmp_path / "house.npz"), "--epochs", "30"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert number_after("test r2", printed) > 0.9
    assert 100 < number_after("test mean absolute error", printed) < 1e4
    assert number_after("test loss", printed) > 1e4


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n" + "1,x\n" * 20, "every feature is the same"),
        ("a,b\n" + "".join(f"{i},x\n" for i in range(20)), "'x' in every row"),
        ("a,b\n" + "".join(f"{i},2.5\n" for i in range(20)), "2.5 in every row"),
        (
            "a,b\n" + "".join(f"{i},\n" for i in range(20)),
            "column 'b': there is no value in any row",
        ),
        ("a,b\n" + "".join(f"{i},name {i}\n" for i in range(30)), "too many for classes"),
    ],
)
def test_a_file_that_teaches_nothing_is_refused(text, message, tmp_path: Path, capsys):
    pytest.importorskip("polars")
    path = tmp_path / "table.csv"
    path.write_text(text)
    assert main([*QUICK, "--data", str(path)]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("cell", ["nan", "NA", "inf", "1e400", "1_1", "x"])
def test_a_bad_value_is_named_by_its_line_and_column(cell: str, tmp_path: Path, capsys):
    path = tmp_path / "table.csv"
    rows = [f"{i},{cell if i == 7 else i},{i % 2}" for i in range(1, 60)]
    path.write_text("\n".join(["first,second,kind", *rows]))
    assert main([*QUICK, "--data", str(path)]) == 2
    error = capsys.readouterr().err
    assert "table.csv, line 8 (row 7 of the table), column 'second'" in error


def test_missing_values_are_dropped_or_replaced_on_request(tmp_path: Path, capsys):
    pytest.importorskip("polars")
    path = tmp_path / "table.csv"
    path.write_text("\n".join(f"{'NA' if i == 7 else i},{i % 2}" for i in range(1, 60)))
    assert main([*QUICK, "--data", str(path), "--missing", "drop"]) == 0
    assert "46 training and 12 test" in capsys.readouterr().out
    assert main([*QUICK, "--data", str(path), "--missing", "mean"]) == 0
    printed = capsys.readouterr()
    assert "47 training and 12 test" in printed.out
    assert "1 missing values are replaced" in printed.err


@pytest.mark.parametrize("position", range(0, 900, 37))
def test_a_damaged_npz_file_is_one_sentence(position: int, tmp_path: Path, capsys):
    path = write_npz(tmp_path, np.arange(20) % 2)
    content = bytearray(path.read_bytes())
    content[position % len(content)] ^= 0x5A
    path.write_bytes(content)
    code = main([*QUICK, "--data", str(path), "--quiet"])
    assert code in (0, 2)  # some bytes, such as dates, mean nothing
    assert capsys.readouterr().err.count("\n") == (code == 2)


# Streams, signals, files ---------------------------------------------------------------------


@pytest.mark.parametrize("tqdm", [True, False])
@pytest.mark.parametrize("terminal", [True, False])
def test_results_go_to_stdout_and_progress_to_stderr(tqdm, terminal, capsys, monkeypatch):
    if not tqdm:
        monkeypatch.setitem(sys.modules, "tqdm", None)
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
    assert main(QUICK) == 0
    printed = capsys.readouterr()
    assert "Epoch 2/2  loss" in printed.err
    assert "Epoch" not in printed.out
    assert "test accuracy" in printed.out


def test_quiet_prints_results_alone(capsys):
    assert main([*QUICK, "--quiet"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert [line.partition(":")[0] for line in out.splitlines()] == [
        "test loss",
        "test accuracy",
        "elapsed time",
    ]


def command(*words: str) -> subprocess.Popen[str]:
    words = (sys.executable, "-m", "fastmlp", "train", "--backend", "numpy", *words)
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("save", [True, False])
def test_ctrl_c_is_one_sentence_and_what_was_trained_is_saved(save: bool, tmp_path: Path):
    path = tmp_path / "run.npz"
    saving = ["--save", str(path)] if save else []
    with command("--epochs", "1000000", "--layers", "16", *saving) as process:
        while not re.match(r"Epoch +2/", line := process.stderr.readline()):
            assert line or process.poll() is None
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert "test" not in out.partition("MLP")[2]
    last = [line for line in err.splitlines() if not line.startswith("Epoch")]
    assert len(last) == 1
    assert re.match(r"fastmlp: interrupted after epoch \d+ of 1000000; ", last[0])
    assert path.exists() == save == (str(path) in last[0])


def test_a_reader_that_goes_away_is_borne_in_silence():
    with command("--epochs", "3") as process:
        assert process.stdout.readline().startswith("data: ")
        process.stdout.close()
        err = process.stderr.read()
    assert process.returncode == 141
    assert [line for line in err.splitlines() if not line.startswith("Epoch")] == []


def test_a_saved_checkpoint_goes_on_in_python(tmp_path: Path, capsys):
    path = tmp_path / "run.npz"
    assert main([*QUICK, "--save", str(path), "--layers", "16", "--optimizer", "sgd"]) == 0
    accuracy = number_after("test accuracy", capsys.readouterr().out)
    (_, _), test = fastmlp.cli.problem.load_digits()
    trainer = Trainer(MLP([64, 16, 10]), optimizer="sgd", backend="numpy")
    trainer.load_checkpoint(path)
    assert trainer.evaluate(*test).accuracy == pytest.approx(accuracy, abs=1e-4)


# Files of every kind --------------------------------------------------------------------------


def flower_rows(header: bool = True) -> list[list[str]]:
    """Return rows of a table whose feature `länge` tells two kinds of flowers apart."""
    noise = np.random.default_rng(0).normal(0, 0.3, (60, 2)).round(3)
    lengths = np.where(np.arange(60) % 2, -2.5, 2.5) + noise[:, 0]
    rows = [
        [f"{length:.3f}", str(i), f"{width:.3f}", "süß" if length > 0 else "herb"]
        for i, (length, width) in enumerate(zip(lengths, noise[:, 1], strict=True))
    ]
    return [["länge", "nummer", "breite", "art"], *rows] if header else rows


def delimited(mark: str = ",", header: bool = True, decimal: str = ".") -> str:
    rows = flower_rows(header)
    return "".join(mark.join(row).replace(".", decimal) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", delimited().encode(), ""),
        ("t.csv", delimited(header=False).encode(), "--no-header"),
        ("t.csv", delimited().encode(), "--header"),
        ("t.csv", delimited().encode("latin-1"), ""),
        ("t.csv", delimited().encode("cp1252"), "--encoding cp1252"),
        ("t.csv", delimited().encode("utf-16"), ""),
        ("t.csv", delimited(";", decimal=",").encode(), ""),
        ("t.tsv", delimited("\t", decimal=",").encode(), "--decimal ,"),
        ("t.tsv", delimited("\t").encode(), ""),
        ("t.txt", delimited("|").encode(), "--delimiter |"),
        ("t.txt", delimited("\t").encode(), "--delimiter tab"),
        ("t.csv.gz", gzip.compress(delimited().encode()), ""),
        ("t.tsv.gz", gzip.compress(delimited("\t").encode("latin-1")), ""),
        ("t.csv", ("# 2024\n" + delimited() + "# end\n").encode(), ""),
        ("t.csv", ("% 2024\n" + delimited()).encode(), "--comment %"),
        ("t.csv", delimited().replace(",süß", ',"süß"').encode(), ""),
        ("t.csv", delimited().replace("\n", "\r\n").encode("utf-8-sig"), ""),
    ],
)
def test_a_text_file_of_any_kind_is_learned(name, content, words, tmp_path: Path, capsys):
    pytest.importorskip("polars")
    (tmp_path / name).write_bytes(content)
    chosen = ["--columns", "0", "2", "--learning-rate", "0.1"]
    assert main([*QUICK, "--data", str(tmp_path / name), *chosen, *words.split()]) == 0
    printed = capsys.readouterr().out
    assert "48 training and 12 test samples, 2 features, 2 classes (herb, süß)" in printed
    assert number_after("test accuracy", printed) == 1


def test_a_header_of_numbers_is_a_header_on_request(tmp_path: Path, capsys):
    path = tmp_path / "years.csv"
    path.write_text("2023,2024\n" + "".join(f"{i},{i % 2}\n" for i in range(40)))
    assert main([*QUICK, "--data", str(path), "--target", "2024", "--header"]) == 0
    assert "32 training and 8 test samples, 1 features, 2 classes" in capsys.readouterr().out
    assert main([*QUICK, "--data", str(path), "--target", "2024"]) == 2
    assert "no column '2024'; its columns are 0 to 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "features"),
    [
        ("", 3),
        ("--columns breite länge", 2),
        ("--columns -2", 1),
        ("--drop nummer", 2),
        ("--drop nummer breite", 1),
        ("--columns länge breite --drop 0", 1),
        ("--categorical breite --columns breite", 2),
        ("--drop art --target länge --task regression", 2),
    ],
)
def test_columns_are_chosen_by_name_and_index(words, features, tmp_path: Path, capsys):
    path = tmp_path / "table.csv"
    rows = [[a, b, str(i % 2), kind] for i, (a, b, _, kind) in enumerate(flower_rows(False))]
    lines = [",".join(row) for row in (flower_rows()[0], *rows)]
    path.write_text("\n".join(lines).replace("süß", "suess"), encoding="utf-8")
    assert main([*QUICK, "--data", str(path), *words.split()]) == 0
    assert f"samples, {features} features" in capsys.readouterr().out


def test_codes_are_categories_on_request(tmp_path: Path, capsys):
    pytest.importorskip("polars")
    path = tmp_path / "codes.csv"
    codes = ["00501", "501", "0501"]
    path.write_text("\n".join(["code,y", *(f"{codes[i % 3]},{i % 3}" for i in range(60))]))
    words = [*QUICK, "--data", str(path), "--learning-rate", "0.5"]
    assert main(words) == 2
    assert "every feature is the same in all rows" in capsys.readouterr().err
    assert main([*words, "--categorical", "code"]) == 0
    printed = capsys.readouterr()
    assert "3 features" in printed.out
    assert number_after("test accuracy", printed.out) == 1
    assert "column 'code' is text" in printed.err


def test_dates_are_learned_as_days(tmp_path: Path, capsys):
    pytest.importorskip("polars")
    path = tmp_path / "days.csv"
    path.write_text("".join(f"{i % 12 + 1}/{i % 10 + 1}/2024,{i % 12 > 5}\n" for i in range(60)))
    assert main([*QUICK, "--data", str(path), "--no-header"]) == 2
    error = capsys.readouterr().err
    assert "days.csv, line 1, column '0': '1/1/2024' may have the day or the month first" in error
    words = ["--no-header", "--date-format", "%m/%d/%Y", "--standardize", "--epochs", "30"]
    assert main([*QUICK, "--data", str(path), *words, "--learning-rate", "0.1"]) == 0
    printed = capsys.readouterr()
    assert number_after("test accuracy", printed.out) > 0.9
    assert "dates are read as days since 1970-01-01" in printed.err


def test_arrays_of_an_npz_file_are_named(tmp_path: Path, capsys):
    X = np.random.default_rng(0).normal(size=(100, 3))
    path = tmp_path / "arrays.npz"
    np.savez(path, inputs=X, labels=(X[:, 1] > 0)[:, None], X=X[:5])
    words = [*QUICK, "--data", str(path), "--features", "inputs", "--target", "labels"]
    assert main([*words, "--drop", "0"]) == 0
    assert "80 training and 20 test samples, 2 features, 2 classes" in capsys.readouterr().out
    assert main([*QUICK, "--data", str(path), "--features", "outputs", "--target", "labels"]) == 2
    assert "has no array 'outputs'; it holds ['inputs', 'labels', 'X']" in capsys.readouterr().err


@pytest.mark.parametrize("ending", ["parquet", "feather", "arrow"])
def test_a_columnar_file_is_learned(ending: str, tmp_path: Path, capsys):
    pl = pytest.importorskip("polars")
    names, *rows = flower_rows()
    frame = pl.DataFrame(rows, schema=names, orient="row").with_columns(
        pl.col("länge", "breite").cast(pl.Float32), pl.col("art").cast(pl.Categorical)
    )
    path = tmp_path / f"table.{ending}"
    (frame.write_parquet if ending == "parquet" else frame.write_ipc)(path)
    words = [*QUICK, "--data", str(path), "--drop", "nummer", "--learning-rate", "0.1"]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "2 features, 2 classes (herb, süß)" in printed
    assert number_after("test accuracy", printed) == 1


def test_what_needs_polars_is_one_sentence_that_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setitem(sys.modules, "polars", None)
    path = tmp_path / "table.csv"
    path.write_text('a,b\n1,"x"\n2,y\n')
    assert main([*QUICK, "--data", str(path)]) == 2
    error = capsys.readouterr().err
    assert "table.csv: quotes enclose cells: reading this needs polars: pip install" in error
    assert error.count("\n") == 1


# Options -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "--dropout 0.5",
        "--dropout 0.1 0.5",
        "--schedule cosine",
        "--weight-decay 0.1",
        "--clip-norm 0.01",
        "--class-weight virginica=9",
        "--early-stopping 1",
        "--early-stopping 1 --monitor accuracy",
        "--optimizer sgd --momentum 0.9",
        "--optimizer sgd --momentum 0.9 --nesterov",
        "--optimizer adam beta_1=0.5",
        "--optimizer lbfgs",
        "--schedule step epochs=1 factor=0.5",
        "--loss cross_entropy label_smoothing=0.2",
        "--l1 0.01",
        "--l2 0.1",
        "--clip-value 0.0001",
        "--max-norm 0.1",
        "--input-noise 0.5",
        "--ema 0.9",
        "--stratify",
        "--task multilabel --output-activation sigmoid --target is_long is_wide",
    ],
)
def test_every_training_option_changes_the_result(words: str, tmp_path: Path, capsys):
    rng = np.random.default_rng(0)
    rows = [
        f"{a},{b},{a > 0:d},{b > 0.3:d},{'setosa' if a + b > 0.5 else 'virginica'}"
        for a, b in rng.normal(size=(120, 2))
    ]
    path = tmp_path / "flowers.csv"
    path.write_text("\n".join(["length,width,is_long,is_wide,kind", *rows]))
    base = [*QUICK, "--data", str(path), "--columns", "length", "width", "--epochs", "4"]
    losses = []
    for more in ([], words.split()):
        assert main([*base, *more]) == 0
        losses.append(number_after("test loss", capsys.readouterr().out))
    assert losses[0] != losses[1]


def test_early_stopping_says_which_epoch_it_kept(flowers: Path, capsys):
    words = "--early-stopping 1 --epochs 500 --learning-rate 0.5 --stratify"
    assert main([*QUICK, "--data", str(flowers), *words.split()]) == 0
    found = re.search(r"stopped after epoch (\d+), .* epoch (\d+)", capsys.readouterr().err)
    assert int(found[1]) == int(found[2]) + 1


@pytest.mark.parametrize("name", ["label_accuracy", "val_label_accuracy"])
def test_early_stopping_watches_what_the_user_names(
    name: str, flowers: Path, tmp_path: Path, capsys
):
    path = tmp_path / "history.csv"
    words = f"--early-stopping 2 --monitor {name} --epochs 500 --learning-rate 0.5 --history"
    assert main([*QUICK, "--data", str(flowers), *words.split(), str(path)]) == 0
    printed = capsys.readouterr()
    with path.open(newline="") as file:
        watched = [float(row["val_label_accuracy"]) for row in csv.DictReader(file)]
    best = int(np.argmax(watched))
    assert len(watched) == best + 3
    assert f"the best was epoch {best + 1}" in printed.err
    assert "test label_accuracy" in printed.out


def test_more_scores_are_printed_on_request(flowers: Path, capsys):
    pytest.importorskip("sklearn")
    assert main([*QUICK, "--data", str(flowers), "--metrics", "f1_macro", "accuracy"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("test accuracy") == printed.count("test f1_macro") == 1


@pytest.mark.parametrize("wrong", ["1_0", "٣", "0x10", "1e400", "inf", "nan", "1,5", ""])
@pytest.mark.parametrize(
    "option",
    [
        "train --epochs",
        "train --learning-rate",
        "train --dropout",
        "train --layers 3",
        "bench --rounds",
        "bench --threads",
        "bench --seconds",
    ],
)
def test_numbers_are_plainly_numbers(option: str, wrong: str, capsys):
    with pytest.raises(SystemExit) as ended:
        main([*option.split(), wrong])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert re.search(rf"{re.escape(repr(wrong))} is not plainly a (whole )?number\n", error)


def test_a_stratified_split_holds_out_the_same_share_of_every_class():
    y = np.repeat([0, 1, 2], [100, 50, 10])
    train, test = fastmlp.cli.problem.split(len(y), 0.2, seed=0, strata=y)
    assert np.bincount(y[test]).tolist() == [20, 10, 2]
    assert sorted([*train, *test]) == list(range(160))


def test_class_weights_name_known_classes(flowers: Path, capsys):
    assert main([*QUICK, "--data", str(flowers), "--class-weight", "rosa=2"]) == 2
    assert "setosa, virginica, got 'rosa=2'" in capsys.readouterr().err
