"""`fastmlp export`: a model file for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from fastmlp._messages import announce, quiet
from fastmlp.cli.files import check_folder
from fastmlp.cli.rows import read_model
from fastmlp.exchange.onnx_writer import write_onnx
from fastmlp.model_file import ModelFile

_SHOWN = 10


def add_export(commands: Any) -> None:
    """Add the command `export`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_export(parser.add_subparsers())
    >>> parser.parse_args(["export", "model.safetensors", "model.onnx"]).out
    PosixPath('model.onnx')
    """
    parser = commands.add_parser(
        "export",
        help="write a model file as an ONNX file",
        description="Write a model file as an ONNX file, which onnxruntime and others compute. "
        "What was done to a table's numbers is in it; categories come to it as columns of 0 and "
        "1, which are listed. Needs fastmlp[onnx].",
    )
    parser.add_argument("model", metavar="MODEL", help="a model file (.safetensors)")
    parser.add_argument("out", type=Path, metavar="OUT", help="an .onnx file, which is replaced")
    parser.add_argument("--quiet", action="store_true", help="do not list the columns")
    parser.set_defaults(run=export)


def export(options: argparse.Namespace) -> None:
    """Write an ONNX file as the options of `fastmlp export` say.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_export` defines.

    Raises
    ------
    ImportError, OSError, ValueError
        If there is no such file, or it is no model file, or cannot be written as the other.

    Examples
    --------
    >>> import tempfile
    >>> from fastmlp import MLP
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     model, out = Path(folder, "model.safetensors"), Path(folder, "model.onnx")
    ...     MLP([4, 8, 3]).save(model)
    ...     export(argparse.Namespace(model=str(model), out=out, quiet=True))
    ...     MLP.from_onnx(out).layer_sizes
    (4, 8, 3)
    """
    if options.out.suffix.lower() != ".onnx":
        raise ValueError(f"OUT must end in .onnx, got {options.out.name}")
    check_folder("OUT", options.out)
    model = read_model(options.model)
    write_onnx(options.out, model.network, model.estimator is not None, model.preprocessing)
    with quiet(options.quiet):
        announce(f"{options.out} takes X, rows of {_columns(model)}")


def _columns(model: ModelFile) -> str:
    names = model.columns.encoded_names
    listed = ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
    is_named = model.preprocessing is not None or model.network.feature_names is not None
    return f"{len(names)} columns{f': {listed}' if is_named else ''}"
