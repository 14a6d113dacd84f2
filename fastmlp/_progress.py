"""What a fit shows while it runs, on stderr: a bar where someone looks, else plain lines."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from fastmlp import _checks
from fastmlp.history import format_value


class Display(Protocol):
    """Told of every chunk and every epoch."""

    #: What a log says in front of all that is shown, to tell fits apart.
    prefix: str

    def advance(self, n_batches: int) -> None:
        """Count batches."""

    def epoch(self, record: Mapping[str, float], last: int) -> None:
        """Show an epoch's record; `last` is the number of the last epoch planned."""

    def note(self, text: str) -> None:
        """Show a sentence."""

    def close(self) -> None:
        """Show no more."""


class Silent:
    """Shows nothing.

    Examples
    --------
    >>> Silent().epoch({"epoch": 1}, 1)
    """

    prefix = ""

    def advance(self, n_batches: int) -> None:
        """Count batches."""

    def epoch(self, record: Mapping[str, float], last: int) -> None:
        """Show nothing."""

    def note(self, text: str) -> None:
        """Show nothing."""

    def close(self) -> None:
        """Show no more."""


class Lines(Silent):
    """Prints a line an epoch, to stderr: stdout is for results.

    Examples
    --------
    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout):
    ...     Lines().epoch({"epoch": 1, "loss": 0.5, "seconds": 0.55}, 3)
    Epoch 1/3  loss 0.5000  0.55 s
    """

    def epoch(self, record: Mapping[str, float], last: int) -> None:
        """Print a line."""
        print(line(record, last), file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Print a sentence."""
        print(text, file=sys.stderr, flush=True)


class Bar:
    """A tqdm bar over all batches of a fit, above it a line an epoch."""

    prefix = ""

    def __init__(self, tqdm: Any, first: int, last: int, n_batches: int) -> None:
        self._bar = tqdm(total=(last - first + 1) * n_batches, unit="batch", leave=False)
        self._bar.set_description(f"Epoch {first}/{last}")

    def advance(self, n_batches: int) -> None:
        """Move the bar."""
        self._bar.update(n_batches)

    def epoch(self, record: Mapping[str, float], last: int) -> None:
        """Print a line above the bar."""
        self._bar.write(line(record, last), file=sys.stderr)
        self._bar.set_description(f"Epoch {min(int(record['epoch']) + 1, last)}/{last}")

    def note(self, text: str) -> None:
        """Print a sentence above the bar."""
        self._bar.write(text, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        self._bar.close()


def verbosity(verbose: bool | int | str | Silent) -> int:
    """Return 0 for silence, 1 for what suits where the output goes, 2 for a line an epoch.

    Raises
    ------
    ValueError, TypeError
        If it is no boolean, no integer of at least 0, and not "auto".

    Examples
    --------
    >>> verbosity("auto"), verbosity(False), verbosity(10)
    (1, 0, 2)
    """
    if isinstance(verbose, Silent) or verbose == "auto" or verbose is True:
        return 1
    if isinstance(verbose, np.bool_ | bool):
        return int(verbose)
    if isinstance(verbose, str):
        raise ValueError(f"verbose must be True, False, 0, 1, 2 or 'auto', got {verbose!r}")
    return min(_checks.integer(verbose, "verbose", at_least=0), 2)


def display(verbose: bool | int | str | Silent, first: int, last: int, n_batches: int) -> Display:
    """Return the display that suits where the output goes.

    Parameters
    ----------
    verbose : bool, int or "auto", or a display
        As `verbosity` reads it. A display of the library's own is taken as it is.
    first, last : int
        Numbers of the epochs to come.
    n_batches : int
        In one epoch.

    Examples
    --------
    >>> isinstance(display(False, 1, 3, 10), Silent)
    True
    """
    if isinstance(verbose, Silent):
        return verbose
    level = verbosity(verbose)
    if level == 0:
        return Silent()
    if level == 2:
        return Lines()
    tqdm = _bar_of_choice()
    return Lines() if tqdm is None else Bar(tqdm, first, last, n_batches)


class Members:
    """Shows the fits of many networks: a bar over all their epochs, else lines.

    Parameters
    ----------
    verbose : bool, int or "auto"
        As `verbosity` reads it; 2 is a line an epoch, 1 a line a member, under the bar or without.
    n_members : int
    n_epochs : int
        Of each.

    Examples
    --------
    >>> from contextlib import redirect_stderr
    >>> with redirect_stderr(sys.stdout):
    ...     shown = Members(2, 8, 64)
    ...     shown.epoch(2, {"epoch": 12, "loss": 0.5, "seconds": 0.55}, 64)
    Member 3/8  Epoch 12/64  loss 0.5000  0.55 s
    """

    def __init__(self, verbose: bool | int | str, n_members: int, n_epochs: int) -> None:
        self._level = verbosity(verbose)
        self._n_members, self._n_epochs = n_members, n_epochs
        #: Of each member, how many epochs the bar has counted, and its last line.
        self._counted, self._lines = [0] * n_members, [""] * n_members
        tqdm = _bar_of_choice() if self._level == 1 else None
        self._bar = (
            None if tqdm is None else tqdm(total=n_members * n_epochs, unit="epoch", leave=False)
        )

    def epoch(self, member: int, record: Mapping[str, float], last: int) -> None:
        """Show an epoch's record; `last` is the number of the last epoch planned."""
        text = self._lines[member] = line(record, last)
        if self._level == 2:
            self._print(member, text)
        self._count(member, min(self._counted[member] + 1, self._n_epochs))
        if self._bar is not None:
            self._bar.set_description(self.prefix(member) + _short(record, last))

    def note(self, member: int, text: str) -> None:
        """Show a sentence on how a member's fit ended."""
        self._show_last(member)
        if self._level:
            self._print(member, text)

    def end(self, member: int) -> None:
        """Show that a member's fit is over."""
        self._show_last(member)
        self._count(member, self._n_epochs)

    def close(self) -> None:
        """Show no more."""
        if self._bar is not None:
            self._bar.close()

    def _show_last(self, member: int) -> None:
        if self._level == 1 and self._lines[member]:
            self._print(member, self._lines[member])
            self._lines[member] = ""

    def _count(self, member: int, n_epochs: int) -> None:
        if self._bar is not None:
            self._bar.update(n_epochs - self._counted[member])
        self._counted[member] = n_epochs

    def prefix(self, member: int) -> str:
        """Return what stands in front of all that is shown of a member."""
        return f"Member {member + 1:{len(str(self._n_members))}}/{self._n_members}  "

    def _print(self, member: int, text: str) -> None:
        if self._bar is not None:
            self._bar.write(self.prefix(member) + text, file=sys.stderr)
        else:
            print(self.prefix(member) + text, file=sys.stderr, flush=True)


def _bar_of_choice() -> Any:
    """Return the class of bars for where stderr goes, or None where lines are better."""
    in_notebook = "ipykernel" in sys.modules
    if not (in_notebook or sys.stderr.isatty()):
        return None
    try:
        if in_notebook:
            import ipywidgets  # noqa: F401 (without it, tqdm would draw with characters, and warn)
            from tqdm.notebook import tqdm
        else:
            from tqdm import tqdm
    except ImportError:
        return None
    return tqdm


def _short(record: Mapping[str, float], last: int) -> str:
    """Return what a bar has room for: the epoch, and the loss that tells most."""
    name = "val_loss" if "val_loss" in record else "loss"
    return f"Epoch {int(record['epoch'])}/{last}  {name} {format_value(name, record[name])}"


def line(record: Mapping[str, float], last: int) -> str:
    """Return an epoch's record as a line.

    Examples
    --------
    >>> line({"epoch": 3, "loss": 0.2971, "learning_rate": 0.01, "seconds": 0.551}, 10)
    'Epoch 3/10  loss 0.2971  0.55 s'
    """
    shown = [f"Epoch {int(record['epoch']):{len(str(last))}}/{last}"]
    for name, value in record.items():
        if name not in ("epoch", "learning_rate", "seconds"):
            shown.append(f"{name} {format_value(name, value)}")
    return "  ".join([*shown, f"{record['seconds']:.2f} s"])


@contextlib.contextmanager
def progress_bar(total: int | None, *, shown: bool) -> Iterator[Callable[[int], None]]:
    """Show how far something is, where someone looks and tqdm is installed.

    Parameters
    ----------
    total : int or None
        None if nobody knows; then nothing is shown.
    shown : bool

    Yields
    ------
    callable
        Takes how much of `total` is done.

    Examples
    --------
    >>> with progress_bar(10, shown=False) as move_to:
    ...     move_to(5)
    """
    if shown and total and sys.stderr.isatty():
        try:
            from tqdm import tqdm
        except ImportError:
            pass
        else:
            with tqdm(total=total, unit_scale=True, leave=False) as bar:
                yield lambda done: bar.update(done - bar.n)
            return
    yield lambda done: None
