"""Scores and fit times of our scikit-learn estimators against scikit-learn's own.

``python bench/sklearn_comparison.py [--seeds 10] [--backend auto] [--mnist FOLDER] [--grid]``

Both sides get the same data, parameters (the defaults, max_iter 200) and seeds, interleaved in one
process; times are the least over the seeds, after a first fit that is not counted.
"""

from __future__ import annotations

import argparse
import os
import time
import warnings
from pathlib import Path

import numpy as np
import sklearn.neural_network as theirs
from joblib.externals.loky import get_reusable_executor
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.preprocessing import StandardScaler

import fastmlp.sklearn as ours
from fastmlp.datasets import load_mnist

DATA = {
    "iris": load_iris,
    "wine": load_wine,
    "breast cancer": load_breast_cancer,
    "digits": load_digits,
    "diabetes": load_diabetes,
}


def split(name: str, seed: int) -> list[np.ndarray]:
    X, y = DATA[name](return_X_y=True)
    if name == "diabetes":
        y = (y - y.mean()) / y.std()
    parts = train_test_split(X, y, random_state=seed, test_size=0.25)
    scaler = StandardScaler().fit(parts[0])
    return [scaler.transform(parts[0]), scaler.transform(parts[1]), *parts[2:]]


def timed_fit(model, X, y) -> float:
    start = time.perf_counter()
    model.fit(X, y)
    return time.perf_counter() - start


def compare(name: str, seeds: int, backend: str) -> str:
    kind = "MLPRegressor" if name == "diabetes" else "MLPClassifier"
    scores: dict[str, list[float]] = {"theirs": [], "ours": []}
    seconds: dict[str, list[float]] = {"theirs": [], "ours": []}
    for seed in range(-1, seeds):  # the first is the warm-up
        X, X_test, y, y_test = split(name, max(seed, 0))
        models = {
            "theirs": getattr(theirs, kind)(random_state=max(seed, 0)),
            "ours": getattr(ours, kind)(random_state=max(seed, 0), backend=backend),
        }
        for side, model in models.items():
            took = timed_fit(model, X, y)
            if seed >= 0:
                seconds[side].append(took)
                scores[side].append(model.score(X_test, y_test))
    cells = [name]
    for side in ("theirs", "ours"):
        cells.append(f"{np.mean(scores[side]):.4f} ± {np.std(scores[side]):.4f}")
    cells += [f"{1000 * min(seconds[side]):.1f}" for side in ("theirs", "ours")]
    ratio = np.array(seconds["theirs"]) / np.array(seconds["ours"])
    cells += [f"{min(seconds['theirs']) / min(seconds['ours']):.1f}", f"{np.median(ratio):.1f}"]
    return " | ".join(cells)


def compare_mnist(folder: str, backend: str, epochs: int = 3) -> None:
    os.environ["FASTMLP_DATA"] = folder
    (X, y), _ = load_mnist()
    for dtype in (np.float32, np.float64):
        data = X.astype(dtype)
        seconds = {}
        for side, kind, extra in (
            ("theirs", theirs.MLPClassifier, {}),
            ("ours", ours.MLPClassifier, {"backend": backend}),
        ):
            kind(max_iter=1, random_state=0, **extra).fit(data[:1000], y[:1000])
            took = []
            for n in (1, 1 + epochs):
                took.append(timed_fit(kind(max_iter=n, random_state=0, **extra), data, y))
            # The difference leaves out what a fit costs besides its epochs.
            seconds[side] = (took[1] - took[0]) / epochs
        print(
            f"MNIST, default parameters, {np.dtype(dtype)}: seconds per epoch "
            f"{seconds['theirs']:.3f} | {seconds['ours']:.3f} | "
            f"ratio {seconds['theirs'] / seconds['ours']:.1f}"
        )


def compare_grid(backend: str) -> None:
    X, _, y, _ = split("breast cancer", 0)
    grid = {"alpha": [1e-4, 1e-3, 1e-2, 1e-1]}
    for side, model in (
        ("theirs", theirs.MLPClassifier(random_state=0)),
        ("ours", ours.MLPClassifier(random_state=0, backend=backend)),
    ):
        get_reusable_executor().shutdown()  # both sides start their workers
        search = GridSearchCV(model, grid, cv=3, n_jobs=2, refit=False)
        print(f"grid of 12 fits over 2 workers, {side}: {timed_fit(search, X, y):.2f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--mnist", help="a folder that holds mnist/*.gz")
    parser.add_argument("--grid", action="store_true", help="compare a grid search too")
    arguments = parser.parse_args()
    os.environ.setdefault("PYTHONWARNINGS", "ignore")  # for the workers of the grid
    warnings.simplefilter("ignore", ConvergenceWarning)
    print("data | its score | our score | its ms | our ms | ratio of minima | median ratio")
    for name in DATA:
        print(compare(name, arguments.seeds, arguments.backend), flush=True)
    if arguments.mnist:
        compare_mnist(str(Path(arguments.mnist)), arguments.backend)
    if arguments.grid:
        compare_grid(arguments.backend)


if __name__ == "__main__":
    main()
