"""What one request, and all together, may take."""

from __future__ import annotations

from dataclasses import dataclass, fields

from fastmlp import _checks

#: Bodies of the largest size that may be in memory at once.
_MOST_BODIES = 16


@dataclass(frozen=True)
class Limits:
    """What a service lets its clients take.

    Parameters
    ----------
    rows : int, default 10,000
        Of one request.
    body_bytes : int, default 16 MiB
        Of one request's body. JSON takes up to ten times as much when it is read.
    seconds : int, default 30
        For a client to send a request, and to take its answer; also for those that run when the
        service is told to stop.
    connections : int, default 512
        Open at once; more are answered with 503.

    Raises
    ------
    ValueError, TypeError
        If one is no integer of at least 1.

    Examples
    --------
    >>> Limits(rows=100).rows
    100
    """

    rows: int = 10_000
    body_bytes: int = 2**24
    seconds: int = 30
    connections: int = 512

    def __post_init__(self) -> None:
        for field in fields(self):
            _checks.integer(getattr(self, field.name), field.name, at_least=1)

    @property
    def all_bodies_bytes(self) -> int:
        """How many bytes all bodies that are being received and read may take together."""
        return _MOST_BODIES * self.body_bytes
