"""Which vector instructions and tile heights kernels get, and what overrides them."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from numba import config

from fastmlp.backends.numba_backend.machine import VECTORS, told_features
from fastmlp.backends.numba_backend.processor import TILE_ROWS, choose_vectors

X86, ARM = "x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"
ZEN_2, ZEN_4 = frozenset({"sse2", "avx2", "fma"}), frozenset({"sse2", "avx2", "fma", "avx512f"})


@pytest.mark.parametrize(
    ("triple", "features", "expected"),
    [
        (X86, frozenset(), "sse2"),
        (X86, frozenset({"sse2", "avx"}), "sse2"),
        (X86, ZEN_2, "avx2"),
        (X86, ZEN_4, "avx512"),
        (ARM, frozenset(), "neon"),
    ],
)
def test_a_processor_gets_what_it_has(triple, features, expected):
    vectors = choose_vectors(None, triple, features)
    assert (vectors.name, vectors.native, vectors.instructions) == (expected, expected, None)


@pytest.mark.parametrize("wanted", TILE_ROWS)
@pytest.mark.parametrize(("triple", "features"), [(X86, ZEN_2), (X86, ZEN_4), (ARM, frozenset())])
def test_any_height_can_be_had_on_any_processor(triple, features, wanted):
    assert choose_vectors(wanted, triple, features).tile_rows == TILE_ROWS[wanted]


def test_only_fewer_instructions_are_another_machines():
    assert choose_vectors("avx512", X86, ZEN_2).instructions is None
    assert "+avx2" in str(choose_vectors("avx2", X86, ZEN_4).instructions)
    assert "avx" not in str(choose_vectors("sse2", X86, ZEN_4).instructions)
    assert choose_vectors("sse2", ARM, frozenset()).instructions is None


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match=r"FASTMLP_SIMD must be one of 'sse2', .*, got 'mmx'"):
        choose_vectors("mmx", X86, ZEN_2)


def test_what_numba_was_told_counts(monkeypatch):
    monkeypatch.setattr(config, "CPU_FEATURES", "+sse2,+avx2,-avx512f")
    assert told_features() == {"sse2", "avx2"}
    monkeypatch.setattr(config, "CPU_FEATURES", None)
    monkeypatch.setattr(config, "ENABLE_AVX", 0)
    assert not [name for name in told_features() if name.startswith("avx")]


def test_the_words_for_it_name_the_variable():
    assert str(choose_vectors(None, X86, ZEN_2)) == "avx2"
    assert str(choose_vectors("sse2", X86, ZEN_2)) == "sse2 (FASTMLP_SIMD; this processor has avx2)"


#: Prints the widest registers of a program's machine code, and whether it multiplies and adds at
#: once.
REGISTERS = """
import re
import numba
from fastmlp.backends.numba_backend.numba_target import jit
from fastmlp.backends.numba_backend.vectors.simd import (fma, load, pointer, store)
from fastmlp.backends.numba_backend.vectors.types import (kernel)

@kernel
def square(p):
    store(p, 0, fma(load(p, 0), load(p, 0), load(p, 16)))

def program(a):
    square(pointer(a, 0))

dispatcher = jit(program)
dispatcher.compile((numba.float32[::1],))
(code,) = dispatcher.inspect_asm().values()
widest = max(re.findall(r"%([xyz])mm", code))
print(widest, bool(re.search("vfn?m(add|sub)", code)))
"""


def registers(**variables: str) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "FASTMLP_SIMD"} | variables
    child = subprocess.run(
        [sys.executable, "-c", REGISTERS], env=environment, capture_output=True, text=True
    )
    assert child.returncode == 0, child.stderr
    return child.stdout.strip()


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.skipif(VECTORS.native not in ("avx2", "avx512"), reason="has no more than SSE2")
@pytest.mark.parametrize(
    ("name", "expected"), [("avx2", "y True"), ("sse2", "x False"), ("neon", "x False")]
)
def test_programs_use_the_wanted_instructions_only(name, expected):
    assert registers(FASTMLP_SIMD=name) == expected


@pytest.mark.skipif(config.DISABLE_JIT, reason="nothing is compiled")
@pytest.mark.skipif(VECTORS.native not in ("avx2", "avx512"), reason="has no more than SSE2")
def test_tiles_are_as_high_as_numba_was_told():
    code = "from fastmlp.backends.numba_backend.machine import VECTORS; print(VECTORS.tile_rows)"
    environment = {
        **{k: v for k, v in os.environ.items() if k != "FASTMLP_SIMD"},
        "NUMBA_CPU_NAME": "generic",
    }
    child = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert re.match("2\n", child.stdout), child.stderr
