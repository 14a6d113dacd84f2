"""`fastmlp info`: versions and backends."""

from __future__ import annotations

import argparse
import platform
from typing import Any

import numpy as np

import fastmlp
from fastmlp.backends import available_backends


def add_info(commands: Any) -> None:
    """Add the command `info`.

    Parameters
    ----------
    commands : subparsers action of argparse
        What `ArgumentParser.add_subparsers` returns.

    Examples
    --------
    >>> parser = argparse.ArgumentParser()
    >>> add_info(parser.add_subparsers())
    >>> parser.parse_args(["info"]).run.__name__
    'info'
    """
    parser = commands.add_parser(
        "info",
        help="print versions and backends",
        description="Print the versions in use, the backends available, and why others are not.",
    )
    parser.add_argument(
        "--peak", action="store_true", help="also measure the most multiply-adds a core can do"
    )
    parser.set_defaults(run=info)


def info(options: argparse.Namespace) -> None:
    """Print the versions in use and the backends, with the reason where one is missing.

    Parameters
    ----------
    options : argparse.Namespace
        The options that `add_info` defines.

    Examples
    --------
    >>> info(argparse.Namespace(peak=False))
    fastmlp ...
    """
    rows = [
        ("fastmlp", fastmlp.__version__),
        ("Python", f"{platform.python_version()} ({platform.system()} {platform.machine()})"),
        ("NumPy", np.__version__),
    ]
    for name, reason in available_backends().items():
        status = "available" if reason is None else f"not available: {reason}"
        rows.append((f"backend {name}", status))
        if name == "numba" and reason is None:
            rows.extend(_numba_facts(options.peak))
        if name == "jax" and reason is None:
            rows.append(("devices", _jax_devices()))
    for name, value in rows:
        print(f"{name:<15} {value}")


def _numba_facts(peak: bool) -> list[tuple[str, str]]:
    """Return what the Numba backend finds on this machine, for `fastmlp info`."""
    from fastmlp._cores import usable_cores
    from fastmlp.backends.numba_backend.machine import VECTORS
    from fastmlp.backends.numba_backend.numba_target import compiler
    from fastmlp.backends.numba_backend.peak import measure_peak
    from fastmlp.backends.numba_backend.prebuilt import KERNELS

    facts = [
        ("kernels", str(KERNELS)),
        ("SIMD", str(VECTORS)),
        ("tile height", f"{VECTORS.tile_rows} rows"),
        ("bfloat16", "by instructions" if VECTORS.multiplies_pairs else "emulated"),
        ("threads", str(usable_cores())),
    ]
    if KERNELS.library is None:
        facts += [("compiler", compiler()), ("cache folder", cache_place())]
    if peak:
        facts += [
            (f"peak {dtype}", f"{measure_peak(dtype) / 1e9:.1f} GFLOP/s on one core")
            for dtype in ("float32", "float64")
        ]
    return facts


def _jax_devices() -> str:
    """Return the devices that the JAX backend may be given, with what each is."""
    from fastmlp.backends.jax_backend import device_names, find_devices

    return ", ".join(f"{name} ({find_devices(name)[0].device_kind})" for name in device_names())


def cache_place() -> str:
    """Return the cache folder, or why there is none.

    Examples
    --------
    >>> isinstance(cache_place(), str)
    True
    """
    from fastmlp.backends.numba_backend.numba_target.cache import cache_folder

    try:
        return str(cache_folder())
    except OSError as error:
        return f"none: {error}"
