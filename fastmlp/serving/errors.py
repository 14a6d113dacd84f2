"""What a client is told that cannot have what it asked for."""

from __future__ import annotations


class RequestError(Exception):
    """A request that is refused.

    Parameters
    ----------
    status : int
        Of HTTP: 4xx, or 503.
    reason : str
        A sentence that says where the fault lies.

    Examples
    --------
    >>> RequestError(422, "rows is empty").status
    422
    """

    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status, self.reason = status, reason
