"""`python -m fastmlp.build_kernels`: libraries of kernels that come compiled.

With one, the Numba backend neither compiles nor loads Numba. See `fastmlp info` for which kernels
run.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

TARGETS = ("native", "x86-64-v3", "x86-64-v4", "aarch64")


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command's options.

    Examples
    --------
    >>> parser().parse_args(["--target", "x86-64-v3"]).target
    ['x86-64-v3']
    """
    made = argparse.ArgumentParser(
        prog="python -m fastmlp.build_kernels",
        description="Compile the Numba backend's kernels into libraries that need no Numba, and "
        "write the header that C programs include. Needs Numba and a C compiler.",
    )
    made.add_argument(
        "--target",
        action="append",
        choices=TARGETS,
        help="what to build for: AVX2 (x86-64-v3), AVX-512 (x86-64-v4), 64-bit ARM (aarch64), or "
        "the highest of these that this processor has (native, the default); may be repeated",
    )
    made.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="where to write; by default where the installed package looks for libraries",
    )
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Build what the options ask for; return the exit status.

    Parameters
    ----------
    arguments : sequence of str or None
        The command line's by default.

    Examples
    --------
    >>> main(["--target", "native", "--out", "/dev/null/nowhere"])
    1
    """
    options = parser().parse_args(arguments)
    try:
        from fastmlp.backends.numba_backend.ahead.build import BuildError, build, level_of
        from fastmlp.backends.numba_backend.prebuilt import libraries_folder
    except ImportError as error:
        print(f"cannot build kernels: {error}", file=sys.stderr)
        return 1
    folder = options.out or libraries_folder()
    try:
        for target in options.target or ["native"]:
            print(f"built {build(level_of(target), folder)}", flush=True)
    except (BuildError, OSError) as error:
        print(f"cannot build kernels: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
