"""`fastmlp warmup`: compile ahead."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np

from fastmlp.backends import get_backend
from fastmlp.cli.info import cache_place


def add_warmup(commands: Any) -> None:
    """Add the command `warmup`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_warmup(parser.add_subparsers())
    >>> parser.parse_args(["warmup"]).run.__name__
    'warmup'
    """
    parser = commands.add_parser(
        "warmup",
        help="compile the Numba backend's kernels ahead of their first use",
        description="Compile the kernels that training and prediction use, in both precisions, "
        "into the cache folder. What is there already is only loaded.",
    )
    parser.set_defaults(run=warmup)


def warmup(options: argparse.Namespace) -> None:
    """Compile the Numba backend's programs, or load them from the cache.

    Parameters
    ----------
    options : argparse.Namespace
        `fastmlp warmup` has no options.

    Raises
    ------
    ImportError
        If Numba is not installed, and no kernels came compiled.

    Examples
    --------
    >>> warmup(argparse.Namespace())
    float32 train    ... s
    ...
    """
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing import get_context

    get_backend("numba")
    from fastmlp.backends.numba_backend.prebuilt import KERNELS

    if KERNELS.library is not None:
        print(f"nothing to compile: kernels come in {KERNELS.library.path}")
        return
    started = time.perf_counter()
    dtypes = ("float32", "float64")
    # Numba compiles one function at a time in a process.
    with ProcessPoolExecutor(len(dtypes), mp_context=get_context("spawn")) as pool:
        done = list(pool.map(_compile_programs, dtypes))
        for dtype, (times, _) in zip(dtypes, done, strict=True):
            for program, seconds in times.items():
                print(f"{dtype} {program:<8} {seconds:6.2f} s", flush=True)
    reason = next((reason for _, reason in done if reason is not None), None)
    if reason is not None:
        print(f"compiled, but nothing was kept: {reason}")
        return
    print(f"ready in {time.perf_counter() - started:.2f} s; cache folder {cache_place()}")


def _compile_programs(dtype: str) -> tuple[dict[str, float], str | None]:
    """Compile or load the programs for a dtype; return their seconds, and why none were kept."""
    from fastmlp.backends.numba_backend.compiled import compiled, why_not_kept

    times = {}
    for program in ("train", "apply", "predict", "row"):
        before = time.perf_counter()
        compiled(program, np.dtype(dtype))
        times[program] = time.perf_counter() - before
    return times, why_not_kept()
