"""What training by several processes costs and brings: steps, gradients, exchanges.

``python bench/data_parallel.py`` starts 1 and 2 processes of itself by mpirun. For every network
it prints, as Markdown, the bytes of a gradient; the seconds of a step of the plain backend on one
thread; those of one and two processes with one thread each, and their ratio; the seconds that the
exchange takes alone; and what a model of networks of 10 and 100 Gbit/s makes of them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from fastmlp import MLP, SGD
from fastmlp.backends import Session, get_backend
from fastmlp.backends.data_parallel import DataParallel

#: Name, layer sizes, batch size.
CASES = (
    ("MNIST", (784, 128, 64, 10), 64),
    ("MNIST, large batches", (784, 128, 64, 10), 1024),
    ("half a million", (784, 512, 256, 10), 512),
    ("a million", (784, 700, 600, 10), 1024),
    ("two million", (784, 1024, 1024, 10), 1024),
    ("ten million", (1024, 2048, 2048, 1024), 1024),
)
#: Seconds that a message is under way in a network, and bytes per second.
NETWORKS = {"10 GbE": (30e-6, 1.1e9), "100 GbE": (10e-6, 11e9)}


def steps(session: Session, batch_size: int, n_batches: int) -> Callable[[], None]:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(batch_size * n_batches, session.n_inputs)).astype(session.dtype)
    y = rng.integers(0, session.n_outputs, len(X))
    order, rates = rng.permutation(len(X)), np.full(n_batches, 1e-3)
    return lambda: session.train(X, y, order, rates)


def measured(session: Session, batch_size: int, rounds: int) -> float:
    """Return the median seconds of a step."""
    work = batch_size * session.n_parameters * 6
    n_batches = int(max(2, min(200, 2e10 // work)))
    run = steps(session, batch_size, n_batches)
    run()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        found.append((time.perf_counter() - start) / n_batches)
    return statistics.median(found)


def exchange_alone(session: Session, batch_size: int, rounds: int) -> float:
    """Return the median seconds of summing all processes' vectors, without computing any."""
    from fastmlp.backends.data_parallel.tree import edges_of

    edges = edges_of(batch_size, session._n_chunks)
    found = []
    for _ in range(20 * rounds):
        start = time.perf_counter()
        with np.errstate(all="ignore"):  # the sum is summed again and again
            session._sum.write(edges, lambda chunk: None)
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def worker(options: argparse.Namespace) -> None:
    """Measure in every process; the first one writes."""
    shared = DataParallel(options.backend, options.chunks)
    results = []
    for name, sizes, batch_size in CASES:
        if options.only and options.only not in name:
            continue
        network = MLP(sizes, seed=0)

        def bound(backend, network=network, batch_size=batch_size) -> Session:
            return backend.bind(
                network, optimizer=SGD(), batch_size=batch_size, n_threads=options.threads
            )

        found = {"name": name, "sizes": sizes, "batch": batch_size, "n": network.n_parameters}
        session = bound(shared)
        found["step"] = measured(session, batch_size, options.rounds)
        found["sum"] = exchange_alone(session, batch_size, options.rounds)
        if shared.n_processes == 1:
            plain = bound(get_backend(options.backend))
            # Turn about, so that neither has the machine's better minutes.
            both = [
                (measured(plain, batch_size, 1), measured(session, batch_size, 1))
                for _ in range(options.rounds)
            ]
            found["plain"], found["step"] = (
                statistics.median(one) for one in zip(*both, strict=True)
            )
        results.append(found)
    if shared.leads:
        Path(options.out).write_text(json.dumps(results))


def modelled(plain: float, n_bytes: int, n: int, network: str) -> float:
    """Return the speed-up of `n` machines.

    Each sends and receives 2 (n - 1) / n of a gradient, in 2 (n - 1) messages.
    """
    latency, rate = NETWORKS[network]
    exchange = 2 * (n - 1) * latency + 2 * n_bytes * (n - 1) / n / rate
    return plain / (plain / n + exchange)


def launch(n: int, options: argparse.Namespace, folder: Path) -> list[dict]:
    beside = Path(sys.executable).with_name("mpirun")
    out = folder / f"data_parallel-{n}.json"
    command = [str(beside) if beside.exists() else shutil.which("mpirun"), "-n", str(n)]
    command += [sys.executable, __file__, "--worker", "--out", str(out)]
    command += ["--rounds", str(options.rounds), "--threads", str(options.threads)]
    command += ["--backend", options.backend, "--chunks", str(options.chunks)]
    command += ["--only", options.only]
    root = {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    subprocess.run(command, check=True, env=os.environ | root)
    return json.loads(out.read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--threads", type=int, default=1, help="of each process")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--backend", default="numba")
    parser.add_argument("--chunks", type=int, default=4)
    parser.add_argument("--only", default="", help="a part of the names of networks")
    parser.add_argument("--out", default=".", help="folder of the figures as JSON")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        worker(options)
        return
    one = launch(1, options, Path(options.out))
    several = launch(options.processes, options, Path(options.out))
    n = options.processes
    print(
        f"| network | batch | gradient, MB | plain, ms | 1 process, ms | {n} processes, ms | "
        f"1 / plain | plain / {n} | sum and exchange, ms | "
        + " | ".join(f"{n} on {name}, modelled" for name in NETWORKS)
        + " |"
    )
    print("|---" * (9 + len(NETWORKS)) + "|")
    for first, more in zip(one, several, strict=True):
        plain, n_bytes = first["plain"], 4 * first["n"]
        model = [f"{modelled(plain, n_bytes, n, name):.2f}" for name in NETWORKS]
        cells = [
            f"{first['name']} {list(first['sizes'])}",
            str(first["batch"]),
            f"{n_bytes / 1e6:.1f}",
            *(f"{1e3 * seconds:.2f}" for seconds in (plain, first["step"], more["step"])),
            f"{first['step'] / plain:.3f}",
            f"{plain / more['step']:.2f}",
            f"{1e3 * more['sum']:.2f}",
            *model,
        ]
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
