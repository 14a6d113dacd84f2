"""The command line: `fastmlp train`, `predict`, `evaluate`, `serve`, `show`, `export` and others.

Results go to stdout; progress, what was guessed, and errors to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import fastmlp
from fastmlp.cli.bench import add_bench
from fastmlp.cli.evaluate import add_evaluate
from fastmlp.cli.export import add_export
from fastmlp.cli.info import add_info
from fastmlp.cli.predict import add_predict
from fastmlp.cli.serve import add_serve
from fastmlp.cli.show import add_show
from fastmlp.cli.train import add_train
from fastmlp.cli.warmup import add_warmup
from fastmlp.errors import DivergenceError, TrainingInterrupted

# What a shell reports for a process that Ctrl-C ended, and for one whose reader went away.
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        The words after `fastmlp`, by default those that the process was started with.

    Returns
    -------
    int
        The exit code: 0; 1 if the training diverged; 2 if an option, the data or an installation
        is wrong; 130 if Ctrl-C broke the command off; 141 if nobody reads the output any more.

    Raises
    ------
    SystemExit
        After `--help` and `--version` (code 0), and if an option is unknown (code 2).

    Examples
    --------
    >>> main(["train", "--epochs", "1", "--layers", "16", "--backend", "numpy"])
    data: digits, 1442 training and 355 test samples, 64 features, 10 classes (0, 1, ...)
    MLP([64, 16, 10], ...)
    test loss: ...
    test accuracy: ...
    elapsed time: ... s
    0
    """
    parser = argparse.ArgumentParser(
        prog="fastmlp", description="Train multilayer perceptrons on the CPU, fast."
    )
    parser.add_argument("--version", action="version", version=f"fastmlp {fastmlp.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_train(commands)
    add_predict(commands)
    add_evaluate(commands)
    add_serve(commands)
    add_show(commands)
    add_export(commands)
    add_info(commands)
    add_warmup(commands)
    add_bench(commands)
    options = parser.parse_args(arguments)
    try:
        options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        _silence()
        return BROKEN_PIPE
    except (DivergenceError, ImportError, OSError, ValueError) as error:
        print(f"fastmlp: error: {error}", file=sys.stderr)
        return 1 if isinstance(error, DivergenceError) else 2
    except (KeyboardInterrupt, TrainingInterrupted) as error:
        print(f"fastmlp: {str(error) or 'interrupted'}", file=sys.stderr)
        return INTERRUPTED
    return 0


def _silence() -> None:
    """Let Python's last flush of stdout and stderr go nowhere."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nowhere, stream.fileno())
