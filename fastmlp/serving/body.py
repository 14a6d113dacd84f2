"""Bodies of requests: as long as is allowed, in the time that is allowed."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import Request
from starlette.requests import ClientDisconnect

from fastmlp.serving.errors import RequestError
from fastmlp.serving.limits import Limits

#: What others write in their logs of a client that did not wait; it is sent to nobody.
_DISCONNECTED = 499


class Bodies:
    """Reads bodies, and knows how much of them is in memory.

    Parameters
    ----------
    limits : Limits

    Examples
    --------
    >>> Bodies(Limits()).held_bytes
    0
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.held_bytes = 0

    @contextlib.asynccontextmanager
    async def of(self, request: Request) -> AsyncIterator[bytes]:
        """Give the body of a request, held until the end of the block.

        Raises
        ------
        RequestError
            If it is not declared to be JSON, too large, or too slow; or too much is held already.
        """
        content_type = request.headers.get("content-type", "")
        if content_type.partition(";")[0].strip().lower() != "application/json":
            raise RequestError(
                415, f"send JSON, as Content-Type: application/json says; got {content_type!r}"
            )
        body = bytearray()
        try:
            await self._read(request, body)
            yield bytes(body)
        finally:
            self.held_bytes -= len(body)

    async def _read(self, request: Request, body: bytearray) -> None:
        limits = self._limits
        declared = request.headers.get("content-length", "")
        try:
            if declared.isdecimal() and int(declared) > limits.body_bytes:
                raise _too_large(limits)
            async with asyncio.timeout(limits.seconds):
                async for part in request.stream():
                    body += part
                    self.held_bytes += len(part)
                    if len(body) > limits.body_bytes:
                        raise _too_large(limits)
                    if self.held_bytes > limits.all_bodies_bytes:
                        raise RequestError(503, "too many large bodies are at work; try again")
        except TimeoutError as error:
            raise RequestError(408, f"the body did not come within {limits.seconds} s") from error
        except ClientDisconnect as error:
            raise RequestError(_DISCONNECTED, "the client went away") from error


def _too_large(limits: Limits) -> RequestError:
    return RequestError(413, f"the body has more than {limits.body_bytes} bytes")
