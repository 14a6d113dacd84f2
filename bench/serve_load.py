"""Ask a service as fast as several clients can; print requests per second, p99 and errors.

``python bench/serve_load.py [--clients 8] [--seconds 30] [--rows 1] [MODEL ...]``

Serves the models, by default the two original networks as they begin, in a process of its own on
a free port of loopback. Each client has one connection that it keeps open: it sends its next
request when it has read the answer to the last. The clients take turns in this one process, which
costs the service less of the machine than a process for each. They are divided among the models.
Every answer is checked for its status and its predictions, which must be what the network itself
predicts. Exit code 1 if one was not.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fastmlp.benchmark.workloads import WORKLOADS
from fastmlp.model_file import load_model

#: A client that is not answered for so long has met an error.
_PATIENCE = 20


class Work(NamedTuple):
    """What one client does."""

    port: int
    request: bytes
    predictions: list[Any]


class Result(NamedTuple):
    """What clients saw, and in seconds how long they took."""

    latencies: list[float]
    errors: list[str]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", type=Path, metavar="MODEL")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--rows", type=int, default=1, help="of each request (%(default)s)")
    parser.add_argument("--backend", default="auto")
    options = parser.parse_args(arguments)

    with tempfile.TemporaryDirectory() as folder:
        models = options.models or originals(Path(folder))
        command = [sys.executable, "-m", "fastmlp", "serve", *map(str, models)]
        command += ["--port", "0", "--backend", options.backend]
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as service:
            try:
                said = service.stderr.readline()
                address = re.search(r":(\d+)$", said.strip())
                if address is None:
                    raise SystemExit(said + service.stderr.read())
                works = [work(int(address[1]), model, options.rows) for model in models]
                works = [works[i % len(works)] for i in range(options.clients)]
                start = time.perf_counter()
                result = asyncio.run(load(works, options.seconds))
                seconds = time.perf_counter() - start
            finally:
                service.send_signal(signal.SIGTERM)
                service.communicate()
    print(f"{options.clients} clients, requests of {options.rows} rows, ", end="")
    return report(result, seconds, service.returncode)


def originals(folder: Path) -> list[Path]:
    """Write the two original networks, and return their files."""
    paths = []
    for name in ("first", "second"):
        paths.append(folder / f"{name}.safetensors")
        WORKLOADS[name].network().save(paths[-1])
    return paths


def work(port: int, path: Path, n_rows: int) -> Work:
    """Return what asks for rows of a model: a third of their values is not 0, as of digits."""
    model = load_model(path)
    rng = np.random.default_rng(0)
    shape = n_rows, model.network.n_inputs
    X = np.round(rng.random(shape) * (rng.random(shape) < 1 / 3), 3)
    body = json.dumps({"rows": X.tolist()}).encode()
    predictions, _ = model.answers(model.network.logits(X))
    head = (
        f"POST /models/{path.stem}/predict HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return Work(port, head.encode() + body, predictions.tolist())


async def load(works: Sequence[Work], seconds: float) -> Result:
    """Let clients ask for so long."""
    result = Result([], [])
    end = time.perf_counter() + seconds
    await asyncio.gather(*(client(one, end, result) for one in works))
    return result


async def client(work: Work, end: float, result: Result) -> None:
    """Ask until the end; after what went wrong, by another connection."""
    while time.perf_counter() < end:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", work.port)
            while (start := time.perf_counter()) < end:
                writer.write(work.request)
                async with asyncio.timeout(_PATIENCE):
                    check(*await answer(reader), work.predictions)
                result.latencies.append(time.perf_counter() - start)
            writer.close()
        except (OSError, EOFError, ValueError) as error:
            result.errors.append(f"{type(error).__name__}: {error}")


async def answer(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    """Return an answer's status and body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("ascii")
    length = re.search(r"^content-length: (\d+)", head, re.MULTILINE | re.IGNORECASE)
    if length is None:
        raise ValueError(f"an answer without a length: {head}")
    return int(head.split()[1]), await reader.readexactly(int(length[1]))


def check(status: int, body: bytes, predictions: list[Any]) -> None:
    """Raise ValueError unless an answer holds the predictions."""
    if status != 200:
        raise ValueError(f"status {status}: {body.decode()}")
    got, wanted = np.array(json.loads(body)["predictions"]), np.array(predictions)
    values = wanted.dtype.kind == "f"  # they may differ by rounding; labels may not
    if not (np.allclose(got, wanted, rtol=1e-4) if values else np.array_equal(got, wanted)):
        raise ValueError(f"other predictions: {got.tolist()}, not {predictions}")


def report(result: Result, seconds: float, code: int) -> int:
    """Print the figures, and each kind of error; return the exit code."""
    n_answers, errors = len(result.latencies), result.errors
    milliseconds = 1e3 * np.array(result.latencies or [np.nan])
    p50, p99, worst = np.percentile(milliseconds, [50, 99, 100])
    print(
        f"{seconds:.1f} s: {n_answers} answers, {n_answers / seconds:.0f} requests/s, "
        f"p50 {p50:.2f} ms, p99 {p99:.2f} ms, longest {worst:.1f} ms, {len(errors)} errors; "
        f"the service ended with {code}"
    )
    for error in sorted(set(errors))[:10]:
        print(f"error: {error}", file=sys.stderr)
    return int(bool(errors) or n_answers == 0 or code != 0)


if __name__ == "__main__":
    sys.exit(main())
