"""Training time of backends and peers, measured on this machine: `fastmlp bench`."""

from fastmlp.benchmark.contestants import contestant_names
from fastmlp.benchmark.measurement import measure
from fastmlp.benchmark.predictions import measure_predictions
from fastmlp.benchmark.report import Report
from fastmlp.benchmark.workloads import WORKLOADS, Workload

__all__ = ["WORKLOADS", "Report", "Workload", "contestant_names", "measure", "measure_predictions"]
