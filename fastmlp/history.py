"""What a training run recorded, epoch by epoch."""

from __future__ import annotations

import csv
import html
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from fastmlp._files import write_atomically, write_figure

Record = dict[str, float]

_SHOWN_ROWS = 20


class History:
    """One record for each epoch: its number, losses, scores, learning rate and seconds.

    Columns are ``epoch`` (from 1), ``loss``, ``accuracy`` or ``r2``, the same with ``val_`` in
    front where there was validation data, extra metrics, ``learning_rate`` (of the epoch's last
    step) and ``seconds``. Accuracy of several labels is the share of rows whose labels are all
    right; the metric "label_accuracy" is that of single labels.

    Parameters
    ----------
    records : iterable of dict, default ()

    Examples
    --------
    >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
    >>> history["loss"]
    [0.5, 0.25]
    >>> len(history)
    2
    >>> history
    epoch    loss
        1  0.5000
        2  0.2500
    """

    def __init__(self, records: Iterable[Mapping[str, float]] = ()) -> None:
        self.records: list[Record] = [dict(record) for record in records]

    @property
    def columns(self) -> list[str]:
        """Names of all columns, in the order in which they first appear."""
        return list(dict.fromkeys(name for record in self.records for name in record))

    def to_dict(self) -> dict[str, list[float]]:
        """Return every column as a list; NaN stands where an epoch has no value.

        Examples
        --------
        >>> History([{"epoch": 1, "loss": 0.5}]).to_dict()
        {'epoch': [1], 'loss': [0.5]}
        """
        nothing = float("nan")
        return {
            name: [record.get(name, nothing) for record in self.records] for name in self.columns
        }

    def to_csv(self, path: str | Path) -> None:
        """Write a table with one line for each epoch, whole or not at all.

        Parameters
        ----------
        path : str or Path
            Replaced if it exists.

        Examples
        --------
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     History([{"epoch": 1, "loss": 0.5}]).to_csv(Path(folder, "history.csv"))
        ...     print(Path(folder, "history.csv").read_text())
        epoch,loss
        1,0.5
        """
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records)
        write_atomically(path, text.getvalue().encode())

    def plot(self, path: str | Path | None = None, *, axes: Any = None) -> Any:
        """Draw losses and scores over the epochs (needs ``fastmlp[plot]``).

        As with pandas, a notebook shows the figure, and a script after ``plt.show()``.

        Parameters
        ----------
        path : str or Path, optional
            Where the picture is written, whole or not at all, in the format of its ending.
            Default: nowhere.
        axes : sequence of two matplotlib Axes, optional
            Where losses and scores are drawn. Default: a new figure, one of pyplot's unless it is
            only written to `path`.

        Returns
        -------
        ndarray of two matplotlib Axes
            Their ``figure`` is what was drawn.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If there is no epoch yet.

        Examples
        --------
        >>> import tempfile
        >>> history = History([{"epoch": 1, "loss": 0.5}, {"epoch": 2, "loss": 0.25}])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     axes = history.plot(Path(folder, "history.png"))
        >>> [ax.get_ylabel() for ax in axes]
        ['loss', 'score']
        """
        if not self.records:
            raise ValueError("there is nothing to plot: the history holds no epoch")
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError(
                "history.plot() needs matplotlib: pip install 'fastmlp[plot]'"
            ) from error
        if axes is None:
            make: Any = Figure
            if path is None:  # a figure that pyplot knows is shown, and kept until it is closed
                from matplotlib import pyplot as plt

                make = plt.figure
            axes = make(figsize=(9, 3.5), layout="constrained").subplots(1, 2)
        losses, scores = axes
        columns = self.to_dict()
        epochs = columns.pop("epoch")
        for name, values in columns.items():
            if name in ("seconds", "learning_rate"):
                continue
            ax = losses if name in ("loss", "val_loss") else scores
            ax.plot(epochs, values, marker="." if len(epochs) < 50 else "", label=name)
        for ax, what in ((losses, "loss"), (scores, "score")):
            ax.set_xlabel("epoch")
            ax.set_ylabel(what)
            if ax.lines:
                ax.legend()
        if path is not None:
            write_figure(path, losses.figure)
        return axes

    def __getitem__(self, name: str) -> list[float]:
        columns = self.to_dict()
        if name not in columns:
            raise KeyError(f"no column {name!r}; there are {', '.join(columns) or 'none yet'}")
        return columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __len__(self) -> int:
        return len(self.records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self.records)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, History) and self.records == other.records

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        if not self.records:
            return "History of no epoch"
        table = self._shown()
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        return "\n".join(
            "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
            for row in table
        )

    def _repr_html_(self) -> str:
        """Return the table that a notebook shows."""
        if not self.records:
            return "<p>History of no epoch</p>"
        head, *rows = [[html.escape(cell) for cell in row] for row in self._shown()]
        lines = [_html_row("th", head), *(_html_row("td", row) for row in rows)]
        return "\n".join(["<table>", *lines, "</table>"])

    def _shown(self) -> list[list[str]]:
        """Return the cells that people see: names of columns, and rows, of many the outer ones."""
        head = self.columns
        rows = [[_cell(name, record) for name in head] for record in self.records]
        if len(rows) > _SHOWN_ROWS:
            half = _SHOWN_ROWS // 2
            rows = [*rows[:half], ["..."] * len(head), *rows[-half:]]
        return [head, *rows]


def _html_row(tag: str, cells: Iterable[str]) -> str:
    return f"<tr>{''.join(f'<{tag}>{cell}</{tag}>' for cell in cells)}</tr>"


def _cell(name: str, record: Mapping[str, float]) -> str:
    return format_value(name, record[name]) if name in record else ""


def format_value(name: str, value: float) -> str:
    """Return a column's value as people like to read it.

    Examples
    --------
    >>> format_value("loss", 0.29712), format_value("epoch", 3)
    ('0.2971', '3')
    """
    if name == "epoch":
        return str(int(value))
    if name == "seconds":
        return f"{value:.2f}"
    if name == "learning_rate":
        return f"{value:.4g}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 1e5 or value == 0 else f"{value:.3e}"
