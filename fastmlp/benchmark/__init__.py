"""Training time of backends and peers, measured on this machine: `fastmlp bench`."""

from fastmlp.benchmark.contestants import contestant_names
from fastmlp.benchmark.fits import Fits, measure_fits
from fastmlp.benchmark.measurement import measure
from fastmlp.benchmark.predictions import Predictions, measure_predictions
from fastmlp.benchmark.report import Report
from fastmlp.benchmark.sweep import Sweep, measure_sweep
from fastmlp.benchmark.workloads import WORKLOADS, Workload

__all__ = [
    "WORKLOADS",
    "Workload",
    "contestant_names",
    "Report",
    "measure",
    "Predictions",
    "measure_predictions",
    "Fits",
    "measure_fits",
    "Sweep",
    "measure_sweep",
]
