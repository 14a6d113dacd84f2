"""The web service as an ASGI application."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
from fastapi import FastAPI, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fastmlp import __version__
from fastmlp.backends.base import Backend
from fastmlp.model_file import ModelFile
from fastmlp.serving.body import Bodies
from fastmlp.serving.errors import RequestError
from fastmlp.serving.limits import Limits
from fastmlp.serving.metrics import Metrics
from fastmlp.serving.openapi import RESPONSES, request_body
from fastmlp.serving.service import Service

_PAGE = Path(__file__).with_name("page.html")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", re.ASCII)
#: One reads what is long, one predicts; more would take turns for Python's lock.
_N_THREADS = 2
#: What the page may do: run what it holds itself, and ask this service.
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; "
    "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
_USUAL = Limits()


def create_app(
    models: Mapping[str, ModelFile],
    limits: Limits = _USUAL,
    *,
    backend: str | Backend = "auto",
    n_threads: int | None = None,
) -> FastAPI:
    """Return a web service of models, for uvicorn or another ASGI server.

    ``POST /predict`` asks the first model, ``POST /models/NAME/predict`` any; ``GET /model``,
    ``/models`` and ``/models/NAME`` describe them; ``/health``, ``/metrics``, ``/openapi.json``,
    ``/docs`` and the page at ``/`` are there too. `serve` also runs it, and ends connections that
    are idle or too slow.

    Parameters
    ----------
    models : mapping of str to ModelFile
        By the names that they are served by: letters, digits, ".", "_" and "-".
    limits : Limits, optional
    backend : str or Backend, default "auto"
    n_threads : int or None, default None
        As for `Predictor`.

    Raises
    ------
    ImportError
        If the backend, or polars for a model that takes dates, is not installed.
    ValueError
        If there is no model, or a name holds other signs.

    Examples
    --------
    >>> from fastmlp import MLP
    >>> app = create_app({"digits": ModelFile(MLP([64, 10]))}, backend="numpy")
    >>> "/models/digits/predict" in app.openapi()["paths"]
    True
    """
    if not models:
        raise ValueError("models is empty: a service needs at least one")
    for name in models:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"a model's name must be letters, digits, '.', '_' and '-', and begin with a "
                f"letter or digit, got {name!r}"
            )
    pool = ThreadPoolExecutor(_N_THREADS, thread_name_prefix="fastmlp-serve")
    services = {
        name: Service(name, model, limits, pool, backend, n_threads)
        for name, model in models.items()
    }
    metrics, bodies = Metrics(), Bodies(limits)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        for service in services.values():
            await asyncio.to_thread(service.warm_up)
        yield

    app = FastAPI(title="fastmlp", version=__version__, lifespan=lifespan)
    app.add_middleware(_Counted, metrics=metrics)
    app.add_exception_handler(RequestError, _refused)
    _add_general(app, services, metrics)
    for name, service in services.items():
        _add_service(app, f"/models/{name}", service, metrics, bodies)
    _add_service(app, "", next(iter(services.values())), metrics, bodies)
    _add_unknown(app, services)
    return app


def _add_general(app: FastAPI, services: Mapping[str, Service], metrics: Metrics) -> None:
    page = _PAGE.read_text(encoding="utf-8")

    @app.get("/", include_in_schema=False)
    async def try_it() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY})

    @app.get("/health", summary="Whether the service is up")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/metrics", summary="Counts for Prometheus", response_class=PlainTextResponse)
    async def counts() -> PlainTextResponse:
        return PlainTextResponse(metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/models", summary="The names of the models")
    async def names() -> dict[str, list[str]]:
        return {"models": list(services)}


def _add_service(
    app: FastAPI, prefix: str, service: Service, metrics: Metrics, bodies: Bodies
) -> None:
    network = service.model.network
    largest = float(np.finfo(network.dtype).max) / max(1.0, network.input_scale)

    @app.get(prefix or "/model", summary=f"What {service.name} takes and gives")
    async def describe() -> dict[str, Any]:
        return service.description

    @app.post(
        f"{prefix}/predict",
        summary=f"Rows predicted by {service.name}",
        responses=RESPONSES,
        response_class=Response,
        openapi_extra={"requestBody": request_body(service.columns, service.most_rows, largest)},
    )
    async def predict(request: Request) -> Response:
        async with bodies.of(request) as body:
            answer, n_rows = await service.answer(body)
        metrics.predicted(service.name, n_rows)
        text = json.dumps(answer, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return Response(text.encode(), media_type="application/json")


def _add_unknown(app: FastAPI, services: Mapping[str, Service]) -> None:
    async def unknown(name: str) -> Response:
        listed = ", ".join(map(repr, services))
        raise RequestError(404, f"there is no model {name[:100]!r}; there are {listed}")

    for path, method in (("/models/{name}", "GET"), ("/models/{name}/predict", "POST")):
        app.add_api_route(path, unknown, methods=[method], include_in_schema=False)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestError)
    headers = {"Retry-After": "1"} if error.status == 503 else None
    return JSONResponse({"detail": error.reason}, error.status, headers)


class _Counted:
    """Counts requests, and how long they take."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self._app, self._metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status = 500

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        started = time.perf_counter()
        self._metrics.in_progress += 1
        try:
            await self._app(scope, receive, watched)
        finally:
            self._metrics.in_progress -= 1
            path = getattr(scope.get("route"), "path", "other")
            self._metrics.answered(path, status, time.perf_counter() - started)
