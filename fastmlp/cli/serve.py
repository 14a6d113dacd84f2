"""`fastmlp serve`: models behind HTTP."""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

from fastmlp.cli.options import whole_number
from fastmlp.cli.rows import read_model

#: An option of limits: its field, and what it means.
_LIMITS = {
    "--max-rows": ("rows", "of one request (10,000)"),
    "--max-bytes": ("body_bytes", "of one request's body (16 MiB)"),
    "--timeout": ("seconds", "seconds for a client to send a request and to take its answer (30)"),
    "--max-connections": ("connections", "at once (512)"),
}


def add_serve(commands: Any) -> None:
    """Add the command `serve`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_serve(parser.add_subparsers())
    >>> parser.parse_args(["serve", "digits.safetensors"]).host
    '127.0.0.1'
    """
    parser = commands.add_parser(
        "serve",
        help="answer requests over HTTP by model files",
        description='Answer requests over HTTP: POST /predict with JSON, {"rows": [[...], ...]} '
        "or rows by name; GET /model, /health, /metrics, /docs, and a page to try it at /. "
        "Several models are served under /models/NAME, the first of them under /predict too. "
        "SIGTERM or Ctrl-C ends it when what runs is finished. Needs 'fastmlp[serve]'.",
    )
    parser.set_defaults(run=serve)
    parser.add_argument(
        "models",
        nargs="+",
        metavar="MODEL",
        help="a model file (.safetensors), or NAME=FILE (by default its name is the file's)",
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="the address to listen on: by default this machine alone; 0.0.0.0 lets others in, "
        "without encryption or password (%(default)s)",
    )
    parser.add_argument(
        "--port", type=whole_number, default=8000, help="0 for any that is free (%(default)s)"
    )
    limits = parser.add_argument_group("limits")
    for option, (_, meaning) in _LIMITS.items():
        limits.add_argument(option, type=whole_number, metavar="N", help=meaning)
    computing = parser.add_argument_group("computing")
    computing.add_argument(
        "--backend",
        default="auto",
        metavar="NAME",
        help="auto, or a name that `fastmlp info` lists (%(default)s)",
    )
    computing.add_argument(
        "--threads", type=whole_number, metavar="N", help="by default the backend chooses"
    )


def serve(options: argparse.Namespace) -> None:
    """Serve models as the options of `fastmlp serve` say, until SIGTERM or Ctrl-C.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_serve` defines.

    Raises
    ------
    ImportError, OSError, ValueError
        If a model, an option or an installation is wrong, or the address is in use.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_serve(parser.add_subparsers())
    >>> serve(parser.parse_args(["serve", "a.safetensors", "b/a.safetensors"]))
    Traceback (most recent call last):
        ...
    ValueError: two models have the name 'a'; name them as NAME=FILE
    """
    from fastmlp.serving import Limits
    from fastmlp.serving import serve as serve_models

    given = {
        field: getattr(options, option.removeprefix("--").replace("-", "_"))
        for option, (field, _) in _LIMITS.items()
    }
    try:
        limits = Limits(**{field: value for field, value in given.items() if value is not None})
    except ValueError as error:
        raise ValueError(f"limits: {error}") from error
    models = {name: read_model(path) for name, path in _named(options.models).items()}
    with contextlib.suppress(KeyboardInterrupt):  # the ordinary end: nothing was interrupted
        serve_models(
            models,
            options.host,
            options.port,
            limits,
            backend=options.backend,
            n_threads=options.threads,
            ready=lambda address: _say(f"serving {', '.join(models)} on {address}"),
        )
    _say("ended")


def _named(words: list[str]) -> dict[str, str]:
    """Return the files by the names that they are to have."""
    named: dict[str, str] = {}
    for word in words:
        name, equals, path = word.partition("=")
        if not equals:
            name, path = Path(word).stem, word
        if name in named:
            raise ValueError(f"two models have the name {name!r}; name them as NAME=FILE")
        named[name] = path
    return named


def _say(text: str) -> None:
    print(f"fastmlp: {text}", file=sys.stderr, flush=True)
