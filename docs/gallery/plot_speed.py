"""
Speed
=====

Seconds per epoch, as a committed result of ``fastmlp bench --json`` has them: how many times longer
than the Numba backend each takes, on the first of the machines that were measured. The networks are
those of the page on benchmarks; scikit-learn has no squared error for classes.
"""

from pathlib import Path

import matplotlib.pyplot as plt

import fastmlp
from fastmlp.benchmark import Report

results = Path(fastmlp.__file__).parents[1] / "bench" / "results"  # of a checkout
report = Report.load(min(results.glob("*.json")))
n_threads = max(row.n_threads for row in report.rows)

measured = {row.contestant for row in report.rows if row.seconds}
others = [
    name
    for name in ("numpy", "jax-scan", "pytorch", "tensorflow", "keras", "scikit-learn")
    if name in measured
]
n = len(report.tasks)
figure, axes = plt.subplots(1, n, figsize=(10, 3), sharey=True, layout="constrained")
for ax, workload in zip(axes, report.tasks, strict=True):
    rows = [row for row in report.of(workload) if row.n_threads == n_threads]
    seconds = {row.contestant: row.seconds for row in rows}
    times = [(seconds.get(name) or 0) / seconds["numba"] for name in others]
    labels = [f"{time:.1f}" if time else "cannot" for time in times]
    ax.bar_label(ax.barh(others, times, color="C0"), labels, padding=4)
    ax.axvline(1, color="black", linewidth=1)
    ax.set(title=workload, xlim=(0, max(times) * 1.5))
axes[0].invert_yaxis()
figure.supxlabel(
    f"times the Numba backend's seconds, {n_threads} threads, {report.environment['processor']}"
)
plt.show()
