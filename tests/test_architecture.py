"""Imports run one way: each room may import its own modules and the rooms it names."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import fastmlp

PACKAGE = Path(fastmlp.__file__).parent

#: Room: the modules that live there ("x.*" with all below x), and the rooms it may import.
BASICS = {"basics"}
VOCABULARY = BASICS | {"vocabulary"}
NETWORK = VOCABULARY | {"network"}
BASE = NETWORK | {"backend interface"}
TRAINER = BASE | {"trainer"}
ROOMS: dict[str, tuple[set[str], set[str]]] = {
    "basics": (
        {
            "_bfloat16",
            "_checks",
            "_cores",
            "_files",
            "_frames",
            "_jobs",
            "_json",
            "_locks",
            "_mapped",
            "_messages",
            "_npz",
            "_pooled",
            "_schema",
            "_settings",
            "errors",
            "preprocessing",
        },
        set(),
    ),
    "vocabulary": (
        {
            "activations",
            "losses",
            "initializers",
            "optimizers",
            "lbfgs",
            "schedules",
            "regularization",
            "targets",
            "_weights",
        },
        BASICS,
    ),
    "network": ({"network", "model_file"}, VOCABULARY),
    "exchange": ({"exchange.*"}, NETWORK),
    "backend interface": ({"backends.base", "backends.bound"}, NETWORK),
    "numpy backend": ({"backends.numpy_backend"}, BASE),
    "numba backend": ({"backends.numba_backend.*"}, BASE),
    "jax backend": ({"backends.jax_backend.*"}, BASE),
    "data parallel": ({"backends.data_parallel.*"}, BASE),
    "door of backends": ({"backends"}, BASE | {"data parallel"}),
    "trainer": (
        {
            "trainer",
            "callbacks",
            "checkpoint",
            "history",
            "metrics",
            "_data",
            "_progress",
            "_resampling",
            "_watch",
            "ensemble",
        },
        BASE,
    ),
    "kernel builder": ({"build_kernels"}, BASE | {"numba backend"}),
    "predictor": ({"predictor"}, BASE),
    "datasets": ({"datasets.*"}, BASICS),
    "scikit-learn": ({"sklearn.*"}, TRAINER | {"exchange"}),
    "conformance kit": ({"testing"}, TRAINER),
    "benchmark": (
        {"benchmark.*"},
        TRAINER | {"predictor", "datasets", "exchange", "numba backend", "front door"},
    ),
    "service": ({"serving.*"}, BASE | {"predictor", "datasets"}),
    "command line": (
        {"cli.*", "__main__"},
        TRAINER
        | {
            "datasets",
            "exchange",
            "predictor",
            "service",
            "scikit-learn",
            "conformance kit",
            "benchmark",
            "front door",
        }
        | {"numba backend", "jax backend", "door of backends", "data parallel"},
    ),
    "front door": ({""}, TRAINER | {"predictor", "door of backends"}),
}
#: Methods that only hand on, such as `MLP.to_onnx`, may import these, inside the method.
DOORS = {"network": {"exchange"}}


def modules() -> list[str]:
    """Return every module's dotted name below the package; the package itself is ''."""
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


MODULES = modules()


def source(module: str) -> Path:
    path = PACKAGE.joinpath(*module.split(".")) if module else PACKAGE
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def imports(module: str) -> Iterator[str]:
    """Yield the modules of ours that one imports anywhere, also late, inside a function."""
    yield from imports_below(ast.parse(source(module).read_text(encoding="utf-8")), module)


def late_imports(module: str) -> Iterator[str]:
    """Yield the modules of ours that one imports inside functions."""
    for node in ast.walk(ast.parse(source(module).read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            yield from imports_below(node, module)


def imports_below(tree: ast.AST, module: str) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            wanted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} has a relative import; write the whole name"
            # A name may be a module of its own: from fastmlp import network.
            wanted = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in wanted:
            # The version is a fact that any room may know.
            if name.partition(".")[0] == "fastmlp" and name != "fastmlp.__version__":
                yield deepest_module(name.partition(".")[2])


def deepest_module(name: str) -> str:
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name


def room_of(module: str) -> str:
    for room, (members, _) in ROOMS.items():
        for member in members:
            below = member.removesuffix(".*")
            if module == below or (below != member and module.startswith(below + ".")):
                return room
    raise AssertionError(f"the module {module!r} lives in no room of the design; name its room")


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_one_way(module: str):
    room = room_of(module)
    allowed = ROOMS[room][1] | {room}
    through_doors = [one for one in late_imports(module) if room_of(one) in DOORS.get(module, ())]
    broken = Counter(one for one in imports(module) if room_of(one) not in allowed)
    broken -= Counter(through_doors)
    assert [
        f"{module or 'fastmlp'} ({room}) imports {name or 'fastmlp'} ({room_of(name)})"
        for name in broken
    ] == []


def test_doors_are_used():
    for module, rooms in DOORS.items():
        assert {room_of(name) for name in late_imports(module)} >= rooms


def test_the_rooms_themselves_have_no_circle():
    order: list[str] = []
    while len(order) < len(ROOMS):
        free = [
            room for room, (_, wants) in ROOMS.items() if room not in order and wants <= set(order)
        ]
        assert free, f"a circle among {set(ROOMS) - set(order)}"
        order += free


@pytest.mark.parametrize(
    ("module", "wanted"),
    [("losses", "activations"), ("network", "_checks"), ("backends.base", "network")],
)
def test_the_reader_sees_imports(module: str, wanted: str):
    assert wanted in imports(module)


@pytest.mark.parametrize("module", [name for name in MODULES if name.startswith("backends")])
def test_backends_never_import_the_trainer(module: str):
    assert "trainer" not in {room_of(name) for name in imports(module)}


KERNEL_ROOMS = sorted((PACKAGE / "backends" / "numba_backend").rglob("*.py"))


@pytest.mark.parametrize("path", KERNEL_ROOMS, ids=lambda path: path.stem)
def test_functions_of_the_numba_backend_are_short_and_kernels_take_little(path: Path):
    for function in ast.walk(ast.parse(path.read_text())):
        if not isinstance(function, ast.FunctionDef):
            continue
        assert function.end_lineno - function.lineno < 80, function.name
        decorators = {d.id for d in function.decorator_list if isinstance(d, ast.Name)}
        if decorators & {"kernel", "inlined"}:
            assert len(function.args.args) <= 8, function.name


#: Rooms of the Numba backend, from what the machine sees up to what a user calls.
NUMBA_ROOMS = (
    "sources",
    "processor",
    "prebuilt",
    "machine",
    "numba_target",
    "vectors",
    "plan",
    "team",
    "kernels",
    "products",
    "first_layer",
    "programs",
    "compiled",
    "peak",
    "ahead",
    "memory",
    "inputs",
    "session",
)


@pytest.mark.parametrize("path", KERNEL_ROOMS, ids=lambda path: path.stem)
def test_rooms_of_the_numba_backend_import_those_below(path: Path):
    home = PACKAGE / "backends" / "numba_backend"
    room = path.relative_to(home).parts[0].removesuffix(".py")
    if room == "__init__":
        return
    below = NUMBA_ROOMS[: NUMBA_ROOMS.index(room) + 1]
    prefix = "fastmlp.backends.numba_backend."
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(prefix):
            assert str(node.module).removeprefix(prefix).split(".")[0] in below, node.module
