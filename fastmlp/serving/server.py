"""The web service as a process: a socket, signals, and an end to connections that are too slow."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fastmlp.backends.base import Backend
from fastmlp.model_file import ModelFile
from fastmlp.serving.app import create_app
from fastmlp.serving.limits import Limits

_MOST_HEADER_BYTES = 2**16
#: Seconds that a connection may be without a request.
_IDLE = 20
_USUAL = Limits()


def serve(
    models: Mapping[str, ModelFile],
    host: str = "127.0.0.1",
    port: int = 8000,
    limits: Limits = _USUAL,
    *,
    backend: str | Backend = "auto",
    n_threads: int | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve models until SIGTERM or Ctrl-C; requests that run are then finished.

    Parameters
    ----------
    models : mapping of str to ModelFile
        By the names that they are served by; ``/predict`` asks the first.
    host : str, default "127.0.0.1"
        The address to listen on. This one is of this machine alone; "0.0.0.0" lets others in.
        There is no encryption and no password: put a web server in front for that.
    port : int, default 8000
        0 for any that is free.
    limits : Limits, optional
    backend : str or Backend, default "auto"
    n_threads : int or None, default None
        As for `Predictor`.
    ready : callable, optional
        Called with the address, such as ``"http://127.0.0.1:8000"``, once requests are taken.

    Raises
    ------
    KeyboardInterrupt
        After the end that Ctrl-C asked for.
    ImportError, OSError, ValueError
        As for `create_app`; or if the address cannot be listened on.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> serve({"digits": ModelFile(MLP([64, 10]))}, port=70000)
    Traceback (most recent call last):
        ...
    ValueError: port must be from 0 to 65535, got 70000
    """
    if not 0 <= port <= 65535:
        raise ValueError(f"port must be from 0 to 65535, got {port}")
    with _listening(host, port) as listener:
        app = create_app(models, limits, backend=backend, n_threads=n_threads)
        config = uvicorn.Config(
            app,
            http=cast("type[asyncio.Protocol]", functools.partial(_Watched, limits.seconds)),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            limit_concurrency=limits.connections,
            timeout_keep_alive=_IDLE,
            timeout_graceful_shutdown=limits.seconds,
        )
        with _no_death_by_sigterm():
            _Server(config, ready).run(sockets=[listener])


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio then sends what is small at once, not after the client's next
    # sign of life, which takes 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise OSError(f"cannot listen on {host}, port {port}: {error}") from error
    return listener


@contextlib.contextmanager
def _no_death_by_sigterm() -> Iterator[None]:
    """Let SIGTERM, which uvicorn raises again after a graceful end, do no more."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Server(uvicorn.Server):
    """Says when it is ready."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[str], None] | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self._ready is not None and self.started and sockets:
            host, port = sockets[0].getsockname()[:2]
            self._ready(f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}")


class _Watched(HttpToolsProtocol):
    """A connection that is ended if a request's headers, or the taking of an answer, last long.

    The time for a body is the application's matter, which can say that it is over. What still
    comes of a body that was refused is let go by, so that its client reads why.
    """

    def __init__(self, seconds: float, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._seconds = seconds
        self._in_body = False
        self._header_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._request = _Deadline(self.loop, self._seconds, transport.abort)
        self._answer = _Deadline(self.loop, self._seconds, transport.abort)
        self._request.start()

    def connection_lost(self, exc: Exception | None) -> None:
        self._request.stop()
        super().connection_lost(exc)  # this resumes writing
        self._answer.stop()

    def on_headers_complete(self) -> None:
        self._in_body = True
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._in_body = False
        self._request.stop()  # the time for the next one begins
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.cycle is not None and not self.cycle.response_complete:
            self._header_bytes = 0
            self._request.stop()
            return
        self._header_bytes += 0 if self._in_body else len(data)
        if self._header_bytes > _MOST_HEADER_BYTES:
            self.transport.abort()
        elif not self.transport.is_closing():
            self._request.start()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._answer.start()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._answer.stop()


class _Deadline:
    """A call that comes unless it is stopped in time."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], None]
    ) -> None:
        self._loop, self._seconds, self._call = loop, seconds, call
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Let the time begin, if it has not begun."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._seconds, self._call)

    def stop(self) -> None:
        """End it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
