"""Seconds of an epoch on a device: the JAX backend against PyTorch and plain JAX, in float32.

``python bench/devices.py [--device gpu] [--workloads first wide] [--rounds 5] [--json FILE]``

- "fastmlp" is a session of ``JaxBackend(device)``, as trainers use it, and "fastmlp-uncounted" one
  whose programs learn with each call how many steps they are to take (as on processors);
  "jax-scan" is an epoch as one `lax.scan` with a fixed number of steps, written by hand; "pytorch"
  is eager, "pytorch-compiled" has its loss through `torch.compile`, and "pytorch-graph" replays a
  CUDA graph of a whole step.
- All have the samples on the device before, draw none of the order, compute products in full
  float32 (no TF32), train whole batches alone, and are timed from the order on the host to the loss
  on the host. The first epoch, which compiles, is timed apart.
- Every contestant has a process of its own; they take turns, and medians of the rounds are shown.
  Who is not installed, fails or takes longer than ``--limit`` seconds has the reason in its row.
  The results are written after every workload.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fastmlp.benchmark import WORKLOADS, Workload
from fastmlp.optimizers import Adam

USUAL = ("first", "second", "tiny", "deep", "wide", "large")
PACKAGES = ("fastmlp", "numpy", "jax", "jaxlib", "torch")

#: Takes the order of samples and returns the mean loss of the epoch.
Epoch = Callable[[np.ndarray], float]


# ----------------------------------------------------------------------------------- contestants


def samples(workload: Workload) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rows, class numbers, and the targets that the loss takes."""
    X, y, _ = workload.samples()
    one_hot = np.eye(workload.layer_sizes[-1], dtype=X.dtype)
    return X, y, one_hot[y] if workload.loss == "mse" else y.astype(np.int64)


def fastmlp(workload: Workload, device: str, counted: bool = True) -> Epoch:
    from fastmlp.backends.jax_backend import JaxBackend
    from fastmlp.losses import LOSSES

    X, _, targets = samples(workload)
    session = JaxBackend(device).bind(
        workload.network(),
        LOSSES[workload.loss],
        workload.optimizer,
        batch_size=workload.batch_size,
    )
    if not counted:
        session._counted_steps = ()
    session.keep(X, targets)
    rates = np.full(workload.n_batches, workload.optimizer.learning_rate)
    return lambda order: float(session.train(X, targets, order, rates).mean())


def fastmlp_uncounted(workload: Workload, device: str) -> Epoch:
    return fastmlp(workload, device, counted=False)


def jax_scan(workload: Workload, device: str) -> Epoch:
    import jax

    from fastmlp.backends.jax_backend import find_devices
    from fastmlp.benchmark.contestants import contestant

    X, y, _ = samples(workload)
    jax.config.update("jax_default_device", find_devices(device)[0])
    jax.config.update("jax_default_matmul_precision", "highest")
    return contestant("jax-scan").prepare(workload, workload.network(), X, y, 0).epoch


class Torch:
    """A network of PyTorch on a device, its samples and its optimizer."""

    def __init__(self, workload: Workload, device: str) -> None:
        import torch

        self.torch, self.workload = torch, workload
        self.device = torch.device("cpu" if device.startswith("cpu") else to_cuda(device))
        torch.set_float32_matmul_precision("highest")
        X, _, targets = samples(workload)
        self.X = torch.from_numpy(X).to(self.device)
        self.targets = torch.from_numpy(targets).to(self.device)
        self.model = self._model().to(self.device)
        rate, on_gpu = workload.optimizer.learning_rate, self.device.type == "cuda"
        if isinstance(workload.optimizer, Adam):
            self.optimizer: Any = torch.optim.Adam(
                self.model.parameters(), lr=rate, fused=True, capturable=on_gpu
            )
        else:
            self.optimizer = torch.optim.SGD(self.model.parameters(), lr=rate, fused=True)
        self.loss = self._loss

    def _model(self) -> Any:
        torch, network = self.torch, self.workload.network()
        hidden = {"relu": torch.nn.ReLU, "sigmoid": torch.nn.Sigmoid}
        modules: list[Any] = []
        for w, b in zip(network.weights, network.biases, strict=True):
            layer = torch.nn.Linear(*w.shape)
            with torch.no_grad():
                layer.weight[:] = torch.from_numpy(w.T.copy())
                layer.bias[:] = torch.from_numpy(b.copy())
            modules += [layer, hidden[self.workload.hidden_activation]()]
        return torch.nn.Sequential(*modules[:-1])

    def _loss(self, X: Any, targets: Any) -> Any:
        functional = self.torch.nn.functional
        if self.workload.loss == "mse":
            return functional.mse_loss(self.model(X).softmax(dim=1), targets)
        return functional.cross_entropy(self.model(X), targets)

    def step(self, rows: Any) -> Any:
        loss = self.loss(self.X[rows], self.targets[rows])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def epoch(self, order: np.ndarray) -> float:
        on_device = self.torch.from_numpy(order).to(self.device)
        losses = [self.step(rows) for rows in on_device.split(self.workload.batch_size)]
        return float(self.torch.stack(losses).mean())


def to_cuda(device: str) -> str:
    """Return what PyTorch calls a GPU of JAX's name."""
    kind, _, number = device.partition(":")
    if kind != "gpu":
        raise ValueError(f"PyTorch is asked for processors and GPUs alone, not {device!r}")
    return f"cuda:{number or 0}"


def pytorch(workload: Workload, device: str) -> Epoch:
    return Torch(workload, device).epoch


def pytorch_compiled(workload: Workload, device: str) -> Epoch:
    run = Torch(workload, device)
    run.loss = run.torch.compile(run.loss, dynamic=False)
    return run.epoch


def pytorch_graph(workload: Workload, device: str) -> Epoch:
    """Return an epoch that replays one graph a step; where it stands is counted on the device."""
    run = Torch(workload, device)
    torch, size = run.torch, workload.batch_size
    if run.device.type != "cuda":
        raise ValueError("CUDA graphs need a CUDA device")
    torch.cuda.set_device(run.device)
    order = torch.zeros(workload.n_samples, dtype=torch.int64, device=run.device)
    place = torch.arange(size, device=run.device)
    total = torch.zeros((), device=run.device)

    def step() -> None:
        loss = run.step(order[place])
        total.add_(loss)
        place.add_(size)

    # A few steps on a stream of their own come before the capture; they are undone behind it.
    before = [p.detach().clone() for p in run.model.parameters()]
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            place.remainder_(size)
            step()
    torch.cuda.current_stream().wait_stream(side)
    place.remainder_(size)
    graph = torch.cuda.CUDAGraph()
    run.optimizer.zero_grad(set_to_none=True)
    with torch.cuda.graph(graph):
        step()
    with torch.no_grad():
        for p, old in zip(run.model.parameters(), before, strict=True):
            p.copy_(old)
        for state in run.optimizer.state.values():
            for value in state.values():
                value.zero_()

    def epoch(given: np.ndarray) -> float:
        order.copy_(torch.from_numpy(given))
        place.remainder_(size)
        total.zero_()
        for _ in range(workload.n_batches):
            graph.replay()
        return float(total) / workload.n_batches

    return epoch


CONTESTANTS: dict[str, tuple[str, Callable[[Workload, str], Epoch]]] = {
    "fastmlp": ("jax", fastmlp),
    "fastmlp-uncounted": ("jax", fastmlp_uncounted),
    "jax-scan": ("jax", jax_scan),
    "pytorch": ("torch", pytorch),
    "pytorch-compiled": ("torch", pytorch_compiled),
    "pytorch-graph": ("torch", pytorch_graph),
}


# ----------------------------------------------------------------------------------- processes


def chosen_workload(name: str) -> Workload:
    """Return a workload of whole batches."""
    workload = WORKLOADS[name]
    whole = workload.n_samples // workload.batch_size * workload.batch_size
    return replace(workload, n_samples=whole)


def serve(name: str, device: str, pipe: Any) -> None:
    """Prepare workloads and train epochs as the pipe asks for; the whole life of a process."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    package, prepare = CONTESTANTS[name]
    epoch: Epoch | None = None
    while True:
        asked = pipe.recv()
        try:
            if isinstance(asked, str):
                epoch = None  # lets go of its memory first
                __import__(package)
                epoch = prepare(chosen_workload(asked), device)
                pipe.send(0.0)
            else:
                assert epoch is not None
                start = time.perf_counter()
                loss = epoch(asked)
                pipe.send((time.perf_counter() - start, loss))
        except Exception as error:
            pipe.send(f"{type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")


class Worker:
    """A contestant's process."""

    def __init__(self, name: str, device: str, limit: float) -> None:
        context = multiprocessing.get_context("spawn")
        self.limit = limit
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=serve, args=(name, device, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def ask(self, what: Any) -> Any:
        """Return the answer; raise RuntimeError with the reason where there is none."""
        try:
            self.pipe.send(what)
            answered = self.pipe.poll(self.limit)
            answer = self.pipe.recv() if answered else f"took longer than {self.limit:g} s"
        except (EOFError, OSError):
            answer = "its process ended"
        if isinstance(answer, str):
            self.process.kill()
            raise RuntimeError(answer)
        return answer


def measure(name: str, names: list[str], workers: dict[str, Worker], options: Any) -> list[Any]:
    """Return the rows of a workload: every contestant's seconds and losses, or why it has none."""
    workload, rng = chosen_workload(name), np.random.default_rng(0)
    rows = [
        {"workload": name, "contestant": one, "seconds": [], "losses": [], "failure": None}
        for one in names
    ]
    for number in range(-2, options.rounds):  # preparing, the first epoch, then the rounds
        order = rng.permutation(workload.n_samples)
        for row in rows:
            one = row["contestant"]
            if row["failure"]:
                continue
            try:
                if number == -2:
                    print(f"{name}: preparing {one}", flush=True)
                    if one not in workers:
                        workers[one] = Worker(one, options.device, options.limit)
                    workers[one].ask(name)
                    continue
                seconds, loss = workers[one].ask(order)
                row["losses"].append(loss)
                if number == -1:
                    row["first_epoch_seconds"] = seconds
                else:
                    row["seconds"].append(seconds)
            except RuntimeError as error:
                row["failure"] = str(error)
                del workers[one]  # the next workload starts another
    return rows


def table(rows: list[Any]) -> str:
    """Return the rows of a workload as text."""
    workload = chosen_workload(rows[0]["workload"])
    ours = next((row["seconds"] for row in rows if row["contestant"] == "fastmlp"), [])
    lines = [
        f"\n{rows[0]['workload']}: {workload.summary}",
        f"{'':18} {'ms/epoch':>10} {'us/step':>10} {'times ours':>10} {'first/s':>8} {'loss':>10}",
    ]
    for row in rows:
        if not row["seconds"]:
            lines.append(f"{row['contestant']:18} {row['failure']}")
            continue
        seconds = median(row["seconds"])
        times = f"{seconds / median(ours):10.2f}" if ours else f"{'':10}"
        per_step = 1e6 * seconds / workload.n_batches
        lines.append(
            f"{row['contestant']:18} {1e3 * seconds:10.2f} {per_step:10.1f} {times} "
            f"{row['first_epoch_seconds']:8.1f} {row['losses'][-1]:10.6f}"
        )
    return "\n".join(lines)


def surroundings(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "device": device,
        "machine": platform.machine(),
        "python": platform.python_version(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        "when": time.strftime("%Y-%m-%d"),
    }
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    return found


def preferred_device(pipe: Any) -> None:
    """Send the name of the device that JAX prefers, and what it is."""
    from fastmlp.backends.jax_backend import device_names, find_devices

    pipe.send((device_names()[0], find_devices(None)[0].device_kind))


def in_a_process(work: Callable[[Any], None]) -> Any:
    """Return what a function sends from a process of its own, which takes its device with it."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,), daemon=True)
    process.start()
    theirs.close()
    try:
        return ours.recv()
    finally:
        process.join()


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", help="such as cpu or gpu:1; by default JAX's first")
    parser.add_argument("--workloads", nargs="+", default=USUAL, choices=[*WORKLOADS])
    parser.add_argument("--contestants", nargs="+", default=[*CONTESTANTS], choices=[*CONTESTANTS])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--limit", type=float, default=120, help="seconds for any one answer")
    parser.add_argument(
        "--seconds", type=float, default=420, help="no workload begins when these are over"
    )
    parser.add_argument("--json", type=Path, help="where the results are written")
    options = parser.parse_args(arguments)
    found, kind = in_a_process(preferred_device)
    options.device = options.device or found
    report = {**surroundings(options.device), "kind": kind, "rows": []}
    print(", ".join(f"{name} {value}" for name, value in report.items() if name != "rows"))
    stop = time.monotonic() + options.seconds
    workers: dict[str, Worker] = {}
    for name in options.workloads:
        if time.monotonic() > stop:
            print(f"{name} is left out: the time is over")
            continue
        rows = measure(name, options.contestants, workers, options)
        print(table(rows), flush=True)
        report["rows"] += rows
        if options.json is not None:
            options.json.write_text(json.dumps(report, indent=1))
    for worker in workers.values():
        worker.process.kill()


if __name__ == "__main__":
    main()
