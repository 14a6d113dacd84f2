"""What was measured where: processor, caches, cores, load, versions and BLAS."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp._cores import allowed_cores

_PACKAGES = (
    "fastmlp",
    "numpy",
    "numba",
    "scikit-learn",
    "torch",
    "jax",
    "tensorflow",
    "tensorflow-cpu",
    "keras",
    "onnxruntime",
)
_CPU = Path("/sys/devices/system/cpu/cpu0")
#: What describes the machine; the rest of an environment are versions.
_MACHINE = (
    "date",
    "processor",
    "SIMD width",
    "caches",
    "cores",
    "governor",
    "load",
    "system",
)


def environment() -> dict[str, str]:
    """Return the machine, the date and the versions that a measurement holds for.

    The load is that of the last 1, 5 and 15 minutes, before anything is measured. What the system
    does not tell (caches, governor, load) is left out.

    Examples
    --------
    >>> sorted(environment())[:3]
    ['BLAS', 'Python', 'SIMD width']
    """
    facts = {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "SIMD width": f"{_simd_bits()} bits",
        "caches": _caches(),
        "cores": str(allowed_cores()),
        "governor": _text(_CPU / "cpufreq" / "scaling_governor"),
        "load": _load(),
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
        "BLAS": _blas(),
        **_versions(),
    }
    return {name: value for name, value in facts.items() if value}


def machine_name() -> str:
    """Return a name for files of this machine's results, from its processor and its cores.

    Examples
    --------
    >>> machine_name() == machine_name().lower()
    True
    """
    return _file_name(_processor(), allowed_cores())


def _file_name(processor: str, cores: int) -> str:
    """Return what tells processors apart, in letters, digits and hyphens.

    Examples
    --------
    >>> _file_name("Intel(R) Xeon(R) Platinum 8375C CPU @ 2.90GHz (icelake-server, avx512)", 8)
    'intel-xeon-platinum-8375c-icelake-server-8-cores'
    """
    bare = re.sub(r"\((R|TM)\)|CPU|@ [\d.]+GHz|, \w+\)$", " ", processor)
    words = re.findall(r"[a-z0-9]+", bare.lower())
    return "-".join([*words, str(cores), "core" if cores == 1 else "cores"])


def machine_line(environment: Mapping[str, str]) -> str:
    """Return the machine, the date and the versions in one line.

    Examples
    --------
    >>> machine_line({"processor": "a CPU", "cores": "1", "load": "0.10 0.20 0.30",
    ...               "date": "2026-01-01", "numpy": "2.4"})
    'a CPU, 1 core, load 0.10 before, 2026-01-01, numpy 2.4'
    """
    e = environment
    facts = [e["processor"], f"{e['cores']} core{'s' if e['cores'] != '1' else ''}"]
    if "SIMD width" in e:
        facts.append(f"{e['SIMD width'].removesuffix(' bits')}-bit vectors")
    facts += [e["caches"]] if "caches" in e else []
    facts += [f"governor {e['governor']}"] if "governor" in e else []
    facts += [f"load {e['load'].split()[0]} before"] if "load" in e else []
    versions = [f"{name} {value}" for name, value in e.items() if name not in _MACHINE]
    return ", ".join([*facts, e["date"], *versions])


def heading(environment: Mapping[str, str], peaks: Mapping[str, float]) -> str:
    """Return an environment line by line, and the measured peaks below it.

    Examples
    --------
    >>> print(heading({"cores": "2"}, {"float32/2": 2e11}))
    cores         2
    <BLANKLINE>
    FMA peak, measured (GFLOP/s, dtype/threads): float32/2 200
    """
    width = max([13, *map(len, environment)])
    lines = [f"{name:<{width}} {value}" for name, value in environment.items()]
    if peaks:
        found = [f"{key} {value / 1e9:.0f}" for key, value in sorted(peaks.items())]
        lines += ["", f"FMA peak, measured (GFLOP/s, dtype/threads): {', '.join(found)}"]
    return "\n".join(lines)


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return f"{line.partition(':')[2].strip()}{_vectors()}"
    return (platform.processor() or platform.machine()) + _vectors()


def _vectors() -> str:
    try:
        from fastmlp.backends.numba_backend.machine import VECTORS
    except ImportError:
        return ""
    try:
        from llvmlite import binding
    except ImportError:  # kernels came compiled
        return f" ({VECTORS})"
    return f" ({binding.get_host_cpu_name()}, {VECTORS})"


def _simd_bits() -> int:
    """Return how wide the widest vectors are that NumPy finds here."""
    extensions: Any = np.show_config("dicts").get("SIMD Extensions", {})
    found = {*extensions.get("baseline", ()), *extensions.get("found", ())}
    if any(name.startswith(("AVX512", "X86_V4")) for name in found):
        return 512
    return 256 if found & {"AVX2", "X86_V3"} else 128


def _caches(cpu: Path = _CPU) -> str:
    """Return the sizes of the first core's caches for data, as Linux tells them."""
    found = {}
    for folder in sorted((cpu / "cache").glob("index*")):
        level, kind = _text(folder / "level"), _text(folder / "type")
        if kind != "Instruction":
            found[f"L{level}{'d' if kind == 'Data' else ''}"] = _size(_text(folder / "size"))
    return ", ".join(f"{name} {size}" for name, size in found.items())


def _size(text: str) -> str:
    """Return a size as people write it.

    Examples
    --------
    >>> _size("32K"), _size("1024K"), _size("1536K")
    ('32 KiB', '1 MiB', '1.5 MiB')
    """
    kib = int(text.removesuffix("K"))
    return f"{kib / 1024:g} MiB" if kib >= 1024 else f"{kib} KiB"


def _load() -> str:
    if not hasattr(os, "getloadavg"):
        return ""
    return " ".join(f"{load:.2f}" for load in os.getloadavg())


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _blas() -> str:
    blas = np.show_config("dicts")["Build Dependencies"]["blas"]
    return f"{blas.get('name', 'unknown')} {blas.get('version', '')}".strip()


def _versions() -> dict[str, str]:
    versions = {}
    for package in _PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[package] = importlib.metadata.version(package)
    return versions
