"""
Speed
=====

Seconds per epoch, as a committed result of ``fastmlp bench --json`` has them: how many times longer
than the Numba backend each takes. The networks are those of the page on benchmarks;
scikit-learn has no squared error for classes.
"""

from pathlib import Path

import matplotlib.pyplot as plt

import fastmlp
from fastmlp.benchmark import Report

results = Path(fastmlp.__file__).parents[1] / "bench" / "results"  # of a checkout
report = Report.load(results / "epyc-2-cores.json")

others = ["numpy", "jax-scan", "pytorch", "scikit-learn"]
n = len(report.tasks)
figure, axes = plt.subplots(1, n, figsize=(10, 3), sharey=True, layout="constrained")
for ax, workload in zip(axes, report.tasks, strict=True):
    seconds = {row.contestant: row.seconds for row in report.of(workload) if row.n_threads == 2}
    times = [(seconds.get(name) or 0) / seconds["numba"] for name in others]
    labels = [f"{time:.1f}" if time else "cannot" for time in times]
    ax.bar_label(ax.barh(others, times, color="C0"), labels, padding=4)
    ax.axvline(1, color="black", linewidth=1)
    ax.set(title=workload, xlim=(0, max(times) * 1.5))
axes[0].invert_yaxis()
figure.supxlabel(f"times the Numba backend's seconds, 2 threads, {report.environment['processor']}")
plt.show()
