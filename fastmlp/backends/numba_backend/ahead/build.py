"""A library for one level of processors: objects by LLVM, linked by the C compiler."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fastmlp import __version__
from fastmlp._files import write_atomically
from fastmlp.backends.numba_backend.ahead.header import header
from fastmlp.backends.numba_backend.prebuilt import SUFFIXES, library_name
from fastmlp.backends.numba_backend.processor import LEVELS, Level, fitting_levels, machine
from fastmlp.backends.numba_backend.sources import sources_fingerprint

HEADER = "fastmlp_kernels.h"


class BuildError(Exception):
    """Why a library cannot be built, in one sentence."""


def level_of(target: str) -> Level:
    """Return the level of a name of `LEVELS`, or of "native".

    Raises
    ------
    BuildError
        If this processor has none.

    Examples
    --------
    >>> level_of("x86-64-v3").vectors
    'avx2'
    """
    if target != "native":
        return LEVELS[target]
    levels = fitting_levels()
    if not levels:
        raise BuildError(
            "this processor has none of the instructions that libraries are built for; "
            "Numba compiles for it when kernels are first used"
        )
    return levels[0]


def build(level: Level, folder: Path) -> Path:
    """Build a level's library, and write the header, into a folder.

    Without a linker for another machine's level, its objects are written instead.

    Parameters
    ----------
    level : Level
    folder : Path
        Made if need be.

    Returns
    -------
    Path
        The library, or the folder of objects.

    Raises
    ------
    BuildError
        If there is no C compiler or no Numba, or either refuses.
    """
    if importlib.util.find_spec("numba") is None:
        raise BuildError(
            "Numba compiles kernels, and is not installed; `pip install numba` does it"
        )
    compiler = _c_compiler(level)
    if compiler is None and level.machine == machine():
        raise BuildError(
            "there is no C compiler to link kernels with (cc, gcc, clang, or what CC names); "
            "without a library Numba compiles them when they are first used"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_atomically(folder / HEADER, header().encode())
    with tempfile.TemporaryDirectory() as scratch:
        objects = _compile(level, Path(scratch))
        if compiler is None:
            written = folder / f"{level.name}-objects"
            written.mkdir(exist_ok=True)
            for path in objects:
                write_atomically(written / path.name, path.read_bytes())
            return written
        linked = Path(scratch, library_name(level.name))
        _run([*compiler, "-shared", "-o", str(linked), *map(str, objects), *_link_options()])
        content = linked.read_bytes()
    # The facts come last: a library without its own facts is not taken.
    library = folder / linked.name
    facts = {
        "level": level.name,
        "version": __version__,
        "sources": sources_fingerprint(),
        "sha256": hashlib.sha256(content).hexdigest(),
    }
    write_atomically(library, content)
    write_atomically(library.with_suffix(".json"), json.dumps(facts, indent=1).encode())
    return library


def _c_compiler(level: Level) -> list[str] | None:
    """Return the command of the C compiler for a level's machine, if there is one."""
    if level.machine != machine():
        cross = shutil.which(f"{level.machine}-linux-gnu-gcc")
        return [cross] if cross and sys.platform == "linux" else None
    named = os.environ.get("CC", "").split()
    if named:
        return named if shutil.which(named[0]) else None
    found = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    return [found] if found else None


def _link_options() -> list[str]:
    # What is missing is to be found now, and not by who loads the library.
    return ["-Wl,-z,defs"] if sys.platform == "linux" else []


def _compile(level: Level, folder: Path) -> list[Path]:
    """Compile all programs for a level, one process for each dtype; return the objects."""
    removed = ("NUMBA_DISABLE_JIT", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES", "NUMBA_ENABLE_AVX")
    environment = {name: value for name, value in os.environ.items() if name not in removed}
    sources = str(Path(__file__).parents[4])  # the folder of the package, installed or not
    environment |= {
        "FASTMLP_KERNELS": "jit",
        "FASTMLP_COMPILER": "lean",
        "FASTMLP_SIMD": level.vectors,
        "PYTHONPATH": os.pathsep.join(filter(None, (sources, os.environ.get("PYTHONPATH")))),
    }
    module = "fastmlp.backends.numba_backend.ahead.objects"
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(
                _child([sys.executable, "-m", module, level.name, dtype, str(folder)], environment)
            )
            for dtype in SUFFIXES
        ]
        for child in children:
            _, errors = child.communicate()
            if child.returncode:
                raise BuildError(f"kernels cannot be compiled: {_last_line(errors)}")
    return sorted(folder.glob("*.o"))


@contextlib.contextmanager
def _child(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a command beside this process, and end it where this process gives up."""
    pipe = subprocess.PIPE
    with subprocess.Popen(command, env=environment, stdout=pipe, stderr=pipe, text=True) as child:
        try:
            yield child
        finally:
            if child.poll() is None:
                child.kill()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise BuildError(f"{command[0]} cannot link the kernels: {_last_line(done.stderr)}")


def _last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1] if lines else "it says nothing"
