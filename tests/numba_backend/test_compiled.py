"""The cache of compiled programs: found again, never stale, and never in the way."""

from __future__ import annotations

import compileall
import importlib.util
import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from numba import config

import fastmlp
from fastmlp.backends.numba_backend.compiled import why_not_kept
from fastmlp.backends.numba_backend.machine import VECTORS
from fastmlp.backends.numba_backend.numba_target import cache as program_cache
from fastmlp.backends.numba_backend.numba_target.cache import (
    CACHE,
    _forget_old_programs,
    cache_folder,
)
from fastmlp.backends.numba_backend.numba_target.choice import COMPILERS, check_name
from fastmlp.backends.numba_backend.processor import TILE_ROWS
from fastmlp.backends.numba_backend.sources import modules_below

pytestmark = pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")

SAYS = "fastmlp: compiling kernels, once on this machine ...\n"
WAITS = "fastmlp: another process is compiling kernels; waiting for it ...\n"
#: Compiles the smallest program and runs it.
APPLY = """
import numpy as np
from fastmlp import MLP
from fastmlp.backends import get_backend
session = get_backend("numba").bind(MLP([2, 2], dtype="float64"))
session.update(np.ones(6), 0.5)
print((session.store().parameters[-2:]).tolist())
"""


def start(code: str, cache: Path | str, package: Path | None = None) -> subprocess.Popen:
    environment = {**os.environ, "FASTMLP_CACHE_DIR": str(cache), "PYTHONDONTWRITEBYTECODE": "1"}
    if package is not None:
        environment["PYTHONPATH"] = str(package)
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        cwd=package,  # what Python looks at first
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen) -> tuple[str, str]:
    output, errors = child.communicate(timeout=300)
    assert child.returncode == 0, errors
    return output.strip(), errors


def run(code: str, cache: Path | str, package: Path | None = None) -> tuple[str, str]:
    return finish(start(code, cache, package))


def programs(cache: Path) -> list[Path]:
    return sorted((cache / "kernels").iterdir())


def copied_package(folder: Path) -> Path:
    source = Path(fastmlp.__file__).parent
    shutil.copytree(source, folder / "fastmlp", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


@pytest.mark.parametrize(
    ("variable", "expected"), [("FASTMLP_CACHE_DIR", "kernels"), ("XDG_CACHE_HOME", None)]
)
def test_variables_place_the_cache(monkeypatch, tmp_path: Path, variable: str, expected):
    if variable == "XDG_CACHE_HOME" and sys.platform in ("win32", "darwin"):
        pytest.skip("these systems have other places")
    monkeypatch.delenv("FASTMLP_CACHE_DIR", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    assert cache_folder() == tmp_path / (expected or "fastmlp/kernels")


def test_importing_compiles_nothing(tmp_path: Path):
    code = """
import sys
import fastmlp, fastmlp.backends.numba_backend
from fastmlp.backends import get_backend
get_backend("numba").bind(fastmlp.MLP([2, 2]))
from numba.core.dispatcher import Dispatcher
import gc
print(sum(len(d.overloads) for d in gc.get_objects() if isinstance(d, Dispatcher)
          and d.py_func.__module__.startswith("fastmlp")))
"""
    assert run(code, tmp_path) == ("0", "")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_program_is_compiled_once_and_said_so_once(tmp_path: Path):
    expected = "[-0.5, -0.5]"
    assert run(APPLY, tmp_path) == (expected, SAYS)
    (program,) = programs(tmp_path)
    written = program.stat().st_ino
    assert run(APPLY, tmp_path) == (expected, "")
    assert program.stat().st_ino == written
    both = APPLY.replace("print", "session.logits(np.ones(2))\nprint")
    assert run(both, tmp_path) == (expected, SAYS)
    assert len(programs(tmp_path)) == 2


@pytest.mark.slow
def test_a_program_is_loaded_without_what_compiles_programs(tmp_path: Path):
    lists_compilers = "import sys\nprint('numba.cpython.rangeobj' in sys.modules)"
    assert run(APPLY + lists_compilers, tmp_path) == ("[-0.5, -0.5]\nTrue", SAYS)
    assert run(APPLY + lists_compilers, tmp_path) == ("[-0.5, -0.5]\nFalse", "")


#: Leans on what Numba imports for everybody, and on what it registers when it is first used.
COMPILES_OTHERS = """
import numba, numpy as np
from numba.core import utils
from numba.core.registry import cpu_target
from numba.core.types.functions import BaseFunction

def insides():
    context = cpu_target.target_context
    methods = context.get_abi_sizeof, context.load_additional_registries
    return BaseFunction.get_call_type, utils.pysignature, *methods

before = insides()

@numba.njit
def other(a):
    return sorted({str(i): int(x) for i, x in enumerate(np.cumsum(a))}.items())
"""


@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_numba_compiles_everything_else_as_before(tmp_path: Path, first: bool):
    row = "session.row_function('linear')\n"
    calls = "print(other(np.ones(2)))\nassert before == insides()\n"
    parts = [calls, APPLY + row] if first else [APPLY + row, calls]
    output, _ = run(COMPILES_OTHERS + "".join(parts), tmp_path)
    assert sorted(output.splitlines()) == ["[('0', 1), ('1', 2)]", "[-0.5, -0.5]"]


@pytest.mark.slow
def test_a_damaged_file_is_compiled_again(tmp_path: Path):
    expected, _ = run(APPLY, tmp_path)
    (program,) = programs(tmp_path)
    whole = program.read_bytes()
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    for damage in (b"", b"nonsense", whole[:middle], flipped):
        program.write_bytes(damage)
        assert run(APPLY, tmp_path) == (expected, SAYS)
        assert len(program.read_bytes()) > len(whole) // 2
    assert run(APPLY, tmp_path) == (expected, "")


@pytest.mark.slow
def test_of_processes_that_start_together_one_compiles(tmp_path: Path):
    children = [start(APPLY, tmp_path) for _ in range(4)]
    found = [finish(child) for child in children]
    assert {output for output, _ in found} == {"[-0.5, -0.5]"}
    said = [errors for _, errors in found]
    assert said.count(SAYS) == 1
    assert set(said) <= {SAYS, WAITS, ""}
    assert [path.suffix for path in programs(tmp_path)] == [".bin"]
    assert run(APPLY, tmp_path) == ("[-0.5, -0.5]", "")


@pytest.mark.slow
def test_another_process_compiles_where_the_first_is_killed(tmp_path: Path):
    first = start(APPLY, tmp_path)
    while not any((tmp_path / "kernels").glob("*.lock")):
        assert first.poll() is None
        time.sleep(0.01)
    second = start(APPLY, tmp_path)
    assert second.stderr.readline() == WAITS
    first.kill()
    first.communicate()
    assert finish(second) == ("[-0.5, -0.5]", SAYS)
    assert [path.suffix for path in programs(tmp_path)] == [".bin"]


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("no folder can be made below a file")
    for _ in range(2):
        assert run(APPLY, blocked) == ("[-0.5, -0.5]", SAYS)


@pytest.mark.slow
def test_an_edited_source_is_compiled_again(tmp_path: Path):
    package, cache = copied_package(tmp_path / "package"), tmp_path / "cache"
    assert run(APPLY, cache, package) == ("[-0.5, -0.5]", SAYS)
    assert run(APPLY, cache, package) == ("[-0.5, -0.5]", "")
    source = package / "fastmlp" / "backends" / "numba_backend" / "kernels" / "optimizers.py"
    text = source.read_text()
    edited = text.replace("weight - step * gradient)", "weight - (step + step) * gradient)", 1)
    assert edited != text
    source.write_text(edited)
    assert run(APPLY, cache, package) == ("[-1.0, -1.0]", SAYS)
    source.write_text(text)
    assert run(APPLY, cache, package) == ("[-0.5, -0.5]", "")


@pytest.mark.slow
def test_a_read_only_package_is_cached_all_the_same(tmp_path: Path):
    package, cache = copied_package(tmp_path / "package"), tmp_path / "cache"
    folders = [path for path in (package, *package.rglob("*")) if path.is_dir()]
    for folder in folders:
        folder.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert run(APPLY, cache, package) == ("[-0.5, -0.5]", SAYS)
        assert run(APPLY, cache, package) == ("[-0.5, -0.5]", "")
    finally:
        for folder in folders:
            folder.chmod(stat.S_IRWXU)
    assert not [path for path in package.rglob("*") if "__pycache__" in path.parts]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["zip", "pyc"])
def test_a_package_without_source_files_is_compiled_too(tmp_path: Path, form: str):
    package, cache = copied_package(tmp_path / "package"), tmp_path / "cache"
    if form == "zip":
        archive = shutil.make_archive(str(tmp_path / "packed"), "zip", package)
        shutil.rmtree(package / "fastmlp")
        code = f"import sys; sys.path.insert(0, {archive!r})" + APPLY
    else:
        compileall.compile_dir(package, legacy=True, quiet=1)
        for source in package.rglob("*.py"):
            source.unlink()
        code = APPLY
    assert run(code, cache, package) == ("[-0.5, -0.5]", SAYS)
    assert run(code, cache, package) == ("[-0.5, -0.5]", "")


def test_every_file_of_the_package_counts():
    package = Path(fastmlp.__file__).parent / "backends" / "numba_backend"
    files = {path.relative_to(package).with_suffix("").parts for path in package.rglob("*.py")}
    found = modules_below(importlib.util.find_spec("fastmlp.backends.numba_backend"))
    names = {tuple(name.split(".")[3:]) for name, _ in found}
    assert {parts for parts in files if parts[-1] != "__init__"} <= names
    assert {parts[:-1] for parts in files if parts[-1] == "__init__"} <= {(), *names}


FINGERPRINT = """
from fastmlp.backends.numba_backend.numba_target.cache import _fingerprint
print(_fingerprint())
"""


def test_an_edited_source_in_a_folder_below_changes_the_key(tmp_path: Path):
    package = copied_package(tmp_path)
    before = run(FINGERPRINT, tmp_path, package)
    assert run(FINGERPRINT, tmp_path, package) == before
    source = package / "fastmlp" / "backends" / "numba_backend" / "numba_target" / "lean.py"
    source.write_text(source.read_text() + "# edited")
    assert run(FINGERPRINT, tmp_path, package) != before


@pytest.mark.slow
def test_a_source_in_a_folder_below_counts(tmp_path: Path):
    package, cache = copied_package(tmp_path / "package"), tmp_path / "cache"
    below = package / "fastmlp" / "backends" / "numba_backend" / "below"
    below.mkdir()
    (below / "__init__.py").write_text("")
    assert run(APPLY, cache, package) == ("[-0.5, -0.5]", SAYS)
    (below / "__init__.py").write_text("# edited\n")
    assert run(APPLY, cache, package) == ("[-0.5, -0.5]", SAYS)


@pytest.mark.slow
@pytest.mark.skipif(VECTORS.native == "sse2", reason="there is nothing below it")
def test_programs_of_other_heights_and_instructions_are_other_files(tmp_path: Path, monkeypatch):
    for n_files, name in enumerate(TILE_ROWS, start=1):
        monkeypatch.setenv("FASTMLP_SIMD", name)
        assert run(APPLY, tmp_path) == ("[-0.5, -0.5]", SAYS)
        assert len(programs(tmp_path)) == n_files


def test_readers_of_memory_maps_and_read_only_arrays_share_one_program():
    from fastmlp import MLP
    from fastmlp.backends import get_backend

    session = get_backend("numba").bind(MLP([3, 2]))
    X = np.ones((4, 3), np.float32)
    expected = session.logits(X)
    X.setflags(write=False)
    np.testing.assert_array_equal(session.logits(X), expected)


def test_programs_unused_for_a_quarter_of_a_year_are_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    folder = cache_folder()
    folder.mkdir(parents=True)
    old, recent = folder / "train-old.bin", folder / "train-recent.bin"
    for path, days in ((old, 91), (recent, 89)):
        path.write_bytes(b"")
        stamp = time.time() - days * 24 * 3600
        os.utime(path, (stamp, stamp))
    _forget_old_programs()
    assert [path.name for path in folder.iterdir()] == ["train-recent.bin"]


WITHOUT_NUMBAS_INSIDES = """
import numba.core.codegen
del numba.core.codegen.JITCodeLibrary
import numpy as np
from fastmlp.backends.numba_backend.compiled import compiled
from fastmlp.backends.numba_backend.numba_target import compiler
from fastmlp.backends.numba_backend.programs.row import row_plan, row_room
from fastmlp.backends.numba_backend.memory import Layout
assert compiler() == "numba"
layout = Layout([(3, 2)], [], [0.0], np.dtype("float64"))
memory, out = np.zeros(layout.block_size), np.full(2, np.nan)
layout.pack(np.array([1.0, 2, 3, 4, 5, 6, 7, 8]), memory)
plan = row_plan(layout.layers, "linear", 1.0, layout.lanes)
room = row_room(plan, memory.dtype)
assert compiled("row", np.dtype("float64"))(plan, memory, np.array([1.0, 10, 100]), out, *room)
print(out)
"""


@pytest.mark.slow
def test_kernels_compile_without_numbas_insides(tmp_path):
    output, _ = run(WITHOUT_NUMBAS_INSIDES, tmp_path)
    assert output == "[538. 650.]"


def test_without_a_home_folder_nothing_is_kept(monkeypatch):
    from fastmlp.cli import info

    monkeypatch.delenv("FASTMLP_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(OSError, match="no home folder"):
        cache_folder()
    assert "no home folder" in info.cache_place()


class CompiledProgram:
    """As much of Numba's result as the cache looks at."""

    def _reduce(self) -> tuple[str]:
        return ("machine code",)


def test_a_program_that_cannot_be_kept_leaves_a_reason(monkeypatch, tmp_path: Path):
    monkeypatch.setattr(CACHE, "failure", None)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "writable"))
    CACHE.save("row", "signature", CompiledProgram())
    assert why_not_kept() is None
    assert len(programs(tmp_path / "writable")) == 1
    (tmp_path / "file").touch()
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path / "file"))
    CACHE.save("row", "signature", CompiledProgram())
    assert why_not_kept() is not None


def test_old_programs_that_stay_do_not_count_as_a_failure(monkeypatch, tmp_path: Path):
    def another_was_faster() -> None:
        raise FileNotFoundError("gone")

    monkeypatch.setattr(CACHE, "failure", None)
    monkeypatch.setattr(program_cache, "_forget_old_programs", another_was_faster)
    monkeypatch.setenv("FASTMLP_CACHE_DIR", str(tmp_path))
    CACHE.save("row", "signature", CompiledProgram())
    assert why_not_kept() is None
    assert len(programs(tmp_path)) == 1


def test_an_unknown_compiler_is_refused():
    message = "FASTMLP_COMPILER must be one of 'lean', 'numba', got 'gcc'"
    with pytest.raises(ValueError, match=message):
        check_name("gcc")


#: Trains with most of what kernels do, and prints the parameters' bits.
TRAINS = """
import hashlib
import numpy as np
from fastmlp import MLP, AdamW, Regularization, Trainer
from fastmlp.backends.numba_backend.numba_target import compiler
from fastmlp.losses import CrossEntropy

rng = np.random.default_rng(0)
X, y = rng.standard_normal((200, 20), dtype=np.float32), rng.integers(0, 3, 200)
X[X < -0.5] = 0
network = MLP([20, 24, 17, 3], hidden_activation=["gelu", "tanh"], seed=0)
Trainer(
    network,
    loss=CrossEntropy(label_smoothing=0.1),
    optimizer=AdamW(learning_rate=0.01),
    batch_size=32,
    regularization=Regularization(dropout=(0.1, 0.3, 0.3), clip_norm=1.0, ema=0.9),
    backend="numba",
).fit(X, y, epochs=2, verbose=False)
parameters = [*network.weights, *network.biases]
print(compiler(), hashlib.sha256(b"".join(p.tobytes() for p in parameters)).hexdigest())
"""


@pytest.mark.slow
def test_numbas_ordinary_way_trains_to_the_same_bits(monkeypatch):
    # Into the user's cache, from where programs are only loaded the next time.
    digests = []
    for compiler in COMPILERS:
        monkeypatch.setenv("FASTMLP_COMPILER", compiler)
        named, digest = run(TRAINS, os.environ.get("FASTMLP_CACHE_DIR", ""))[0].split()
        assert named == compiler
        digests.append(digest)
    assert digests[0] == digests[1]


@pytest.mark.slow
def test_programs_of_another_compiler_are_other_files(tmp_path: Path, monkeypatch):
    for n_files, compiler in enumerate(COMPILERS, start=1):
        monkeypatch.setenv("FASTMLP_COMPILER", compiler)
        assert run(APPLY, tmp_path) == ("[-0.5, -0.5]", SAYS)
        assert len(programs(tmp_path)) == n_files
