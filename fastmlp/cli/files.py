"""Checks of the files that commands write, before the work rather than after it."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def check_folder(option: str, path: Path | None) -> None:
    """Raise FileNotFoundError if the folder of a file to be written does not exist.

    Examples
    --------
    >>> check_folder("--json", None)
    """
    if path is not None and not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"{option}: the folder {path.absolute().parent} does not exist")


def is_model_file(path: Path) -> bool:
    """Return whether a file's name says that it is to be a model file.

    Examples
    --------
    >>> is_model_file(Path("model.safetensors")), is_model_file(Path("run.npz"))
    (True, False)
    """
    return path.suffix.lower() == ".safetensors"


def check_model_file(path: Path | None) -> None:
    """Refuse a file for `--save` that could not be written, before the training.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    ImportError
        If it is to be a model file, and safetensors is not installed.

    Examples
    --------
    >>> check_model_file(None)
    """
    check_folder("--save", path)
    if path is not None and is_model_file(path) and importlib.util.find_spec("safetensors") is None:
        raise ImportError(f"--save {path} needs safetensors: pip install 'fastmlp[safetensors]'")
