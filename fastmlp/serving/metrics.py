"""What a service counts, as text for Prometheus."""

from __future__ import annotations

import bisect
import time
from collections import Counter, defaultdict
from collections.abc import Iterable

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """Counts of requests, their seconds, and rows. For one thread.

    Examples
    --------
    >>> metrics = Metrics()
    >>> metrics.answered("/predict", 200, 0.002)
    >>> 'fastmlp_requests_total{path="/predict",status="200"} 1' in metrics.text()
    True
    """

    def __init__(self) -> None:
        self.in_progress = 0
        self._started = time.time()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._rows: Counter[str] = Counter()
        self._slower: defaultdict[str, list[int]] = defaultdict(lambda: [0] * (len(_BUCKETS) + 1))
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def answered(self, path: str, status: int, seconds: float) -> None:
        """Count a request.

        Parameters
        ----------
        path : str
            As the service defines it: there must be few.
        status : int
        seconds : float
            From its headers to the end of its answer.
        """
        self._requests[path, status] += 1
        self._slower[path][bisect.bisect_left(_BUCKETS, seconds)] += 1
        self._seconds[path] += seconds

    def predicted(self, model: str, n_rows: int) -> None:
        """Count rows that a model predicted."""
        self._rows[model] += n_rows

    def text(self) -> str:
        """Return all of it in Prometheus's format, version 0.0.4."""
        name = "fastmlp_request_seconds"
        durations = []
        for path, counts in self._slower.items():
            total = 0
            for bound, count in zip((*map(str, _BUCKETS), "+Inf"), counts, strict=True):
                total += count
                durations.append(f'{name}_bucket{{path="{path}",le="{bound}"}} {total}')
            durations.append(f'{name}_sum{{path="{path}"}} {self._seconds[path]:.6f}')
            durations.append(f'{name}_count{{path="{path}"}} {total}')
        requests = [
            f'fastmlp_requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in self._requests.items()
        ]
        rows = [f'fastmlp_rows_total{{model="{m}"}} {n}' for m, n in self._rows.items()]
        parts = [
            *_family("fastmlp_requests_total", "counter", "Requests answered.", requests),
            *_family(name, "histogram", "Seconds from headers to the answer's end.", durations),
            *_family("fastmlp_rows_total", "counter", "Rows predicted.", rows),
            *_family(
                "fastmlp_requests_in_progress",
                "gauge",
                "Requests being answered.",
                [f"fastmlp_requests_in_progress {self.in_progress}"],
            ),
            *_family(
                "fastmlp_start_time_seconds",
                "gauge",
                "When the service began, in seconds since 1970.",
                [f"fastmlp_start_time_seconds {self._started:.3f}"],
            ),
        ]
        return "\n".join(parts) + "\n"


def _family(name: str, kind: str, meaning: str, samples: Iterable[str]) -> list[str]:
    return [f"# HELP {name} {meaning}", f"# TYPE {name} {kind}", *samples]
