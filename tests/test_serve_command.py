"""`fastmlp serve` as a process: signals, slow clients, clients that go away, and its own words."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from fastmlp import MLP
from fastmlp.cli import main

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastmlp.serving", exc_type=ImportError)
pytest.importorskip("safetensors")

from fastmlp.serving.server import _listening  # noqa: E402
from tests.serving_process import Process, service  # noqa: E402

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

SMALL = MLP([4, 8, 3], seed=1)
SMALL.feature_names = ("a", "b", "c", "d")
#: Some tenths of a second for a thousand rows.
SLOW = MLP([64, 3000, 3000, 2], seed=2)
ROW = b'{"rows": [[1, 2, 3, 4]]}'
HALF = b"POST /predict HTTP/1.1\r\nHost: te"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    SMALL.save(folder / "small.safetensors")
    SLOW.save(folder / "slow.safetensors")
    return folder


@pytest.fixture(scope="module")
def running(folder: Path) -> Iterator[Process]:
    options = ["--timeout", 1, "--max-connections", 50, "--max-bytes", 10**6]
    with service(
        folder / "small.safetensors", f"big={folder / 'slow.safetensors'}", *options
    ) as it:
        yield it


def request(body: bytes, path: str = "/predict", length: int | None = None) -> bytes:
    n_bytes = len(body) if length is None else length
    return (
        f"POST {path} HTTP/1.1\r\nHost: test\r\nContent-Type: application/json\r\n"
        f"Content-Length: {n_bytes}\r\n\r\n"
    ).encode() + body


def status_of(connection: socket.socket) -> int:
    """Return the status of an answer; 0 if the connection was ended without one."""
    response = HTTPResponse(connection)
    try:
        response.begin()
        response.read()
    except (ConnectionError, HTTPException):
        return 0
    return response.status


def is_well(running: Process) -> bool:
    with running.connect() as connection:
        connection.sendall(request(ROW))
        return status_of(connection) == 200


def slow_rows(n: int) -> bytes:
    return json.dumps({"rows": np.ones((n, 64)).tolist()}).encode()


# What it says and does -----------------------------------------------------------------------


def test_it_answers_by_name_and_describes_itself(running: Process):
    with httpx.Client(base_url=running.address) as client:
        made = client.post("/predict", json={"rows": [{"d": 4, "c": 3, "b": 2, "a": 1}]}).json()
        assert np.allclose(made["probabilities"], SMALL.predict_proba([[1, 2, 3, 4]]))
        assert client.get("/models").json() == {"models": ["small", "big"]}
        assert client.get("/openapi.json").json()["info"]["title"] == "fastmlp"
        assert client.get("/docs").status_code == 200


def test_it_listens_on_this_machine_alone(running: Process):
    """Other addresses of it, where there are some, are refused."""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", running.port), timeout=5)


def test_answers_are_sent_at_once():
    """asyncio switches Nagle's algorithm off where a socket names its protocol."""
    with _listening("127.0.0.1", 0) as listener:
        assert listener.proto == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["a.safetensors"], "No such file"),
        (["small.safetensors", "small.safetensors"], "two models have the name 'small'"),
        (["a b=small.safetensors"], "a model's name must be letters"),
        (["small.safetensors", "--max-rows", "0"], "rows"),
        (["small.safetensors", "--port", "70000"], "port must be from 0 to 65535, got 70000"),
        (["small.safetensors", "--host", "192.0.2.1"], "cannot listen on 192.0.2.1, port 0"),
        (["small.safetensors", "--backend", "none"], "none"),
    ],
)
def test_wrong_options_are_told_in_a_line(
    folder: Path, words: list[str], reason: str, capsys, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(folder)
    assert main(["serve", "--port", "0", *words]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1


def test_a_port_that_is_taken_is_told(folder: Path, running: Process, capsys):
    model = str(folder / "small.safetensors")
    assert main(["serve", model, "--port", str(running.port)]) == 2
    assert f"cannot listen on 127.0.0.1, port {running.port}" in capsys.readouterr().err


@pytest.mark.parametrize("package", ["fastapi", "httptools", "uvicorn"])
def test_without_its_packages_it_says_what_to_install(folder: Path, package: str):
    program = (
        f"import sys; sys.modules[{package!r}] = None; from fastmlp.cli import main; "
        f"sys.exit(main(['serve', {str(folder / 'small.safetensors')!r}]))"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.returncode == 2
    assert f"serving needs {package}: pip install 'fastmlp[serve]'" in run.stderr


# Signals -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_when_what_runs_is_finished(folder: Path, number: int):
    with service(folder / "slow.safetensors") as running:
        begun = threading.Event()

        def ask() -> int:
            with running.connect() as connection:
                connection.sendall(request(slow_rows(2000)))
                begun.set()
                return status_of(connection)

        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            assert begun.wait(10)
            # Two answers come while it works: the signal reaches it at work.
            with httpx.Client(base_url=running.address) as client:
                while "in_progress 2" not in client.get("/metrics").text:
                    pass
            assert running.end(number) == (0, "fastmlp: ended\n")
            assert asked.result() == 200


def test_a_client_that_waits_does_not_hold_up_the_end(folder: Path):
    with service(folder / "small.safetensors", "--timeout", 1) as running, running.connect() as one:
        one.sendall(request(ROW, length=1000))
        with running.connect() as other:
            assert is_well(running)
            code, _ = running.end(signal.SIGTERM)
            assert code == 0
            assert status_of(other) == 0


# Slow, broken and vanishing clients ----------------------------------------------------------


@pytest.mark.parametrize(
    ("answered", "start"),
    [(False, b""), (False, HALF), (True, HALF)],
    ids=["nothing", "half", "half of the second"],
)
def test_a_connection_without_a_request_is_ended(running: Process, answered: bool, start: bytes):
    """One that was answered may wait for its next request for longer."""
    with running.connect() as connection:
        if answered:
            connection.sendall(request(ROW))
            assert status_of(connection) == 200
        connection.sendall(start)
        assert status_of(connection) == 0
    assert is_well(running)


def test_drops_of_headers_win_no_time(running: Process):
    with running.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        connection.settimeout(0.2)
        ended = False
        for _ in range(50):
            try:
                connection.sendall(b"X: y\r\n")
                ended = connection.recv(100) == b""
            except TimeoutError:
                continue
            except OSError:
                ended = True
            if ended:
                break
    assert ended


def test_headers_without_end_are_cut_off(running: Process):
    with running.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            connection.sendall(b"X: y\r\n" * 2_000_000)
    assert is_well(running)


def test_a_body_that_does_not_come_is_told(running: Process):
    with running.connect() as connection:
        connection.sendall(request(ROW[:5], length=100))
        assert is_well(running)
        assert status_of(connection) == 408


def test_an_answer_that_nobody_takes_is_given_up(running: Process):
    """A client that sends requests, and reads no answer."""
    many = request(b'{"rows": [' + b",".join([b"[1, 2, 3, 4]"] * 10_000) + b"]}")
    with running.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2**12)
        with pytest.raises(OSError, match=r"reset|[Bb]roken"):
            connection.sendall(many * 300)
    assert is_well(running)


def test_clients_that_go_away_harm_no_other(running: Process):
    for i in range(30):
        with running.connect() as connection:
            body = slow_rows(20) if i % 3 else ROW
            path = "/models/big/predict" if i % 3 else "/predict"
            whole = request(body, path)
            connection.sendall(whole if i % 2 else whole[: len(whole) // 2])
    assert is_well(running)
    with httpx.Client(base_url=running.address) as client:
        counts = client.get("/metrics").text
    assert 'status="500"' not in counts


@pytest.mark.parametrize("says", [True, False])
def test_a_huge_body_is_refused_and_its_client_reads_why(running: Process, says: bool):
    part = b" " * 10**5

    def parts() -> Iterator[bytes]:
        for _ in range(30):
            yield part

    more = {"Content-Length": str(30 * 10**5)} if says else {}
    headers = {"Content-Type": "application/json", **more}
    # On a connection of its own: whether that can be used again depends on what was still sent.
    response = httpx.post(
        f"{running.address}/predict", content=parts(), headers=headers, timeout=20
    )
    assert response.status_code == 413
    assert is_well(running)


def test_what_is_no_http_is_refused(running: Process):
    for garbage in (b"\x00\xff\x16\x03\x01" * 50, b"BREW /pot HTCPCP/1.0\r\n\r\n", b"\r\n" * 1000):
        with running.connect() as connection:
            connection.sendall(garbage)
            assert status_of(connection) in (0, 400)
    assert is_well(running)


def test_more_connections_than_allowed_are_told(running: Process):
    connections = [running.connect() for _ in range(60)]
    try:
        connections[-1].sendall(request(ROW))
        assert status_of(connections[-1]) == 503
    finally:
        for connection in connections:
            connection.close()
    assert is_well(running)


def test_eight_clients_at_once_get_their_own_answers(running: Process):
    """Of a small model and a large one, whose rows are predicted together."""
    rng = np.random.default_rng(0)

    def ask(number: int) -> bool:
        name, network = (("small", SMALL), ("big", SLOW))[number % 2]
        rows = rng.normal(size=(3, network.n_inputs))
        made = client.post(f"/models/{name}/predict", json={"rows": rows.tolist()}).json()
        return np.allclose(made["probabilities"], network.predict_proba(rows), atol=1e-4)

    with (
        httpx.Client(base_url=running.address, timeout=30) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        assert all(pool.map(ask, range(40)))


# Its own description -------------------------------------------------------------------------


def test_its_own_description_finds_no_server_error(running: Process):
    """Requests that the OpenAPI description allows, and others, made up by schemathesis."""
    schemathesis = pytest.importorskip("schemathesis")
    from schemathesis.specs.openapi import checks

    schema = schemathesis.openapi.from_url(f"{running.address}/openapi.json")
    statuses: list[int] = []

    def check(case: Any) -> None:
        response = case.call()
        statuses.append(response.status_code)
        case.validate_response(
            response,
            checks=[schemathesis.checks.not_a_server_error, checks.response_schema_conformance],
        )

    for result in schema.get_all_operations():
        given(case=result.ok().as_strategy())(check)()
    assert statuses.count(200) > 20
    assert max(statuses) < 500
