"""The public names, and the pages of the reference that list them.

A module is public if neither it nor a package that it lies in begins with an underscore; the rooms
below speak to each other and are left out, each for its reason. A page of the reference holds the
names of one module: those of its ``__all__``, or what it defines without an underscore. A name
that `fastmlp` offers itself is shown as ``fastmlp.NAME``.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from pathlib import Path
from types import ModuleType

from sphinx.pycode import ModuleAnalyzer

import fastmlp

#: What the pages say above the names, in the order of the reference.
PAGES = {
    "fastmlp.network": "Networks",
    "fastmlp.trainer": "Training",
    "fastmlp.ensemble": "Ensembles",
    "fastmlp.history": "History",
    "fastmlp.predictor": "Prediction",
    "fastmlp.sklearn": "scikit-learn estimators",
    "fastmlp.activations": "Activations",
    "fastmlp.losses": "Losses",
    "fastmlp.optimizers": "Optimizers",
    "fastmlp.lbfgs": "L-BFGS",
    "fastmlp.schedules": "Schedules",
    "fastmlp.regularization": "Regularization",
    "fastmlp.initializers": "Initializers",
    "fastmlp.callbacks": "Callbacks",
    "fastmlp.metrics": "Metrics",
    "fastmlp.datasets": "Data sets",
    "fastmlp.errors": "Errors",
    "fastmlp.backends": "Backends",
    "fastmlp.backends.numpy_backend": "The NumPy backend",
    "fastmlp.backends.numba_backend": "The Numba backend",
    "fastmlp.testing": "The conformance kit",
    "fastmlp.benchmark": "Measurements",
    "fastmlp.targets": "Targets",
    "fastmlp.preprocessing": "Preprocessing of tables",
    "fastmlp.model_file": "Files of models",
    "fastmlp.serving": "The service",
    "fastmlp.checkpoint": "Files of checkpoints",
}

#: Rooms whose names are not for users, whatever lies in them, and where users find what they do.
INNER_ROOMS = {
    "fastmlp.backends.base": "offered by fastmlp.backends",
    "fastmlp.backends.bound": "sessions as trainers and estimators keep them",
    "fastmlp.benchmark": "offered by the package itself",
    "fastmlp.backends.numba_backend": "kernels; CONTRIBUTING.md walks through them",
    "fastmlp.backends.data_parallel": "offered by fastmlp.backends",
    "fastmlp.backends.jax_backend": "made by fastmlp.backends.get_backend, where JAX is installed",
    "fastmlp.cli": "the command line, which has a page of its own",
    "fastmlp.build_kernels": "a command, on the page of the command line",
    "fastmlp.datasets": "offered by the package itself",
    "fastmlp.serving": "offered by the package itself",
    "fastmlp.exchange": "methods of MLP: to_onnx, from_torch and the like",
}


def public_modules() -> list[str]:
    """Return the modules whose names are for users."""
    found = [fastmlp.__name__]
    for module in pkgutil.walk_packages(fastmlp.__path__, "fastmlp."):
        parents = [module.name[:i] for i, c in enumerate(module.name) if c == "."]
        hidden = any(part.startswith("_") for part in module.name.split("."))
        inner = any(room in INNER_ROOMS for room in parents) and module.name not in PAGES
        if not hidden and not inner and (module.name not in INNER_ROOMS or module.name in PAGES):
            found.append(module.name)
    return found


def public_names(module: ModuleType) -> list[str]:
    """Return the classes and functions that a module offers, in its own order."""
    offered = getattr(module, "__all__", None)
    if offered is not None:
        return [name for name in offered if callable(getattr(module, name))]
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module.__name__
    ]


def public_data(module: ModuleType) -> dict[str, str]:
    """Return the constants of a module that have a comment ``#:``, and those comments."""
    return {
        name: " ".join(lines).strip()
        for (owner, name), lines in ModuleAnalyzer.for_module(module.__name__)
        .find_attr_docs()
        .items()
        if not owner and not name.startswith("_")
    }


def shown_name(module: ModuleType, name: str) -> str:
    """Return the path under which users import a name."""
    at_the_top = getattr(fastmlp, name, None) is getattr(module, name)
    return f"fastmlp.{name}" if at_the_top else f"{module.__name__}.{name}"


def _entry(module: ModuleType, name: str) -> str:
    value = getattr(module, name)
    if inspect.isclass(value):
        directive = "autoexception" if issubclass(value, BaseException) else "autoclass"
    else:
        directive = "autofunction"
    entry = f".. {directive}:: {shown_name(module, name)}\n"
    # What a base in a private module offers is the class's own.
    if inspect.isclass(value) and any("fastmlp" in m and "._" in m for m in _bases(value)):
        entry += "   :inherited-members: CallbackSupportMixin, BaseEstimator\n"
    return entry


def _bases(kind: type) -> list[str]:
    """Return the modules that the bases of a class are written in."""
    return [base.__module__ for base in kind.__mro__[1:]]


def page(name: str, title: str) -> str:
    """Return a module's page of the reference."""
    module = importlib.import_module(name)
    parts = [f"{title}\n{'=' * len(title)}\n", f".. module:: {name}\n"]
    parts += [inspect.cleandoc(module.__doc__ or "") + "\n"]
    parts += [_entry(module, each) for each in public_names(module)]
    for constant, comment in public_data(module).items():
        parts.append(f".. py:data:: {name}.{constant}\n\n   {comment}\n")
    return "\n".join(parts)


def index() -> str:
    """Return the first page of the reference: all modules, and the names of `fastmlp` itself."""
    title = "Reference"
    parts = [f"{title}\n{'=' * len(title)}\n"]
    parts += [".. module:: fastmlp\n", "From ``fastmlp`` itself:\n"]
    roles = {True: "exc", False: "class"}
    for name in fastmlp.__all__:
        value = getattr(fastmlp, name)
        role = roles[issubclass(value, BaseException)]
        first = inspect.cleandoc(value.__doc__).split("\n")[0]
        parts.append(f"- :py:{role}:`fastmlp.{name}`: {first}")
    parts += ["", "By module:\n", ".. toctree::\n   :maxdepth: 1\n"]
    parts += [f"   {title} <{name}>" for name, title in PAGES.items()]
    return "\n".join(parts) + "\n"


def write_reference(folder: Path) -> None:
    """Write the pages of the reference; a page that says the same already is left as it is."""
    folder.mkdir(exist_ok=True)
    texts = {"index": index()} | {name: page(name, title) for name, title in PAGES.items()}
    for old in folder.glob("*.rst"):
        if old.stem not in texts:
            old.unlink()
    for name, text in texts.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
