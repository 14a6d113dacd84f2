"""What all measurements have in common: they are kept as files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fastmlp._files import write_atomically


class Saved:
    """A measurement, a dataclass, that is written as JSON.

    Examples
    --------
    >>> import tempfile
    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class Rounds(Saved):
    ...     n: int
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Rounds(3).save(Path(folder, "rounds.json"))
    ...     read_saved(Path(folder, "rounds.json"))
    {'n': 3}
    """

    def save(self, path: str | Path) -> None:
        """Write everything as JSON, whole or not at all."""
        fields: Any = asdict(self)  # type: ignore[call-overload]
        write_atomically(path, (json.dumps(fields, indent=1) + "\n").encode())


def read_saved(path: str | Path) -> dict[str, Any]:
    """Return what `Saved.save` wrote, before it is made a measurement again.

    Examples
    --------
    See `Saved`.
    """
    kept: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    return kept
