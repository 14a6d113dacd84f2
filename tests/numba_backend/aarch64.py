"""Kernels compiled for aarch64, and run there where an emulator is.

Run as a program with a name of a dtype and an empty folder: trains a network natively, with tiles
as high as NEON's, compiles the same program for aarch64, runs it by qemu on the same arguments, and
compares what both wrote. Without a cross compiler and qemu the machine code is looked at only.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from llvmlite import binding

COMPILER, EMULATOR = "aarch64-linux-gnu-gcc", "qemu-aarch64"
TRIPLE = "aarch64-unknown-linux-gnu"

# Every array is a file; the program reads all, trains, and writes them again.
DRIVER = r"""
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

static void *read_all(const char *name, int64_t size) {
    void *data = NULL;
    if (posix_memalign(&data, 64, size + 64)) exit(2);
    FILE *file = fopen(name, "rb");
    if (!file || fread(data, 1, size, file) != (size_t)size) exit(3);
    fclose(file);
    return data;
}

static void write_all(const char *name, const void *data, int64_t size) {
    FILE *file = fopen(name, "wb");
    if (!file || fwrite(data, 1, size, file) != (size_t)size) exit(4);
    fclose(file);
}

extern int32_t PROGRAM(int8_t *, void **, PROTOTYPE);

int main(void) {
    int8_t complete = 0;
    void *error = NULL;
READS
    int32_t status = PROGRAM(&complete, &error, ARGUMENTS);
WRITES
    return status || !complete;
}
"""


def unoptimized(dtype: np.dtype) -> str:
    """Return the instructions of `train` before LLVM sees them, having compiled it natively."""
    from fastmlp.backends.numba_backend import compiled
    from fastmlp.backends.numba_backend.numba_target import lean

    texts = []
    optimize = lean._ProgramLibrary._optimize_final_module

    def keep(library) -> None:
        texts.append(str(library._final_module))
        optimize(library)

    lean._ProgramLibrary._optimize_final_module = keep
    compiled.compiled("train", dtype)
    (text,) = texts
    return text


def for_aarch64(text: str) -> binding.ModuleRef:
    """Return a module as Numba would have written it on aarch64, optimized."""
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    machine = binding.Target.from_triple(TRIPLE).create_target_machine(opt=3, reloc="pic")
    text = re.sub("^target triple = .*$", f'target triple = "{TRIPLE}"', text, flags=re.MULTILINE)
    layout = f'target datalayout = "{machine.target_data}"'
    text = re.sub("^target datalayout = .*$", layout, text, flags=re.MULTILINE)
    # What is x86's alone: the hint of a waiting loop, and Numba's count of references.
    text = re.sub(r"^ *call void @llvm.x86.sse2.pause\(\)$", "", text, flags=re.MULTILINE)
    text = re.sub(r"call i8 @llvm.x86.atomic.sub.cc.i64\(.*\)", "add i8 0, 0", text)
    text = re.sub(r"^declare .*@llvm\.x86\..*$", "", text, flags=re.MULTILINE)
    module = binding.parse_assembly(text)
    options = binding.create_pipeline_tuning_options(speed_level=1)
    options.loop_vectorization = options.slp_vectorization = False
    builder = binding.create_pass_builder(machine, options)
    builder.getModulePassManager().run(module, builder)
    module.machine = machine
    return module


def record_call(dtype: np.dtype) -> tuple[tuple, tuple]:
    """Train a small network natively; return the program's arguments before and after."""
    from fastmlp import MLP, Adam, Regularization
    from fastmlp.backends import get_backend
    from fastmlp.backends.numba_backend import session as sessions
    from fastmlp.backends.numba_backend.team.barrier import N_SYNC

    calls = []
    run_team = sessions.run_team

    def copied(arguments):
        return tuple(a.copy() for named in arguments for a in named)

    def keep(program, n_threads, at_most, arguments):
        before = copied(arguments)
        result = run_team(program, n_threads, at_most, arguments)
        calls.append((before, copied(arguments)))
        return result

    sessions.run_team = keep
    rng = np.random.default_rng(0)
    X = (rng.normal(size=(60, 50)) * (rng.random((60, 50)) < 0.3)).astype(dtype)
    network = MLP([50, 70, 19, 5], ["gelu", "relu"], dtype=dtype)
    session = get_backend("numba").bind(
        network, None, Adam(0.01), Regularization(clip_norm=1.0), batch_size=23, n_threads=1
    )
    session.train(X, np.arange(60) % 5, rng.permutation(60), np.full(3, 0.01))
    sync = np.zeros(N_SYNC, np.int64)
    ((before, after),) = calls
    return (0, 1, *before, sync), (0, 1, *after, sync)


def write_driver(folder: Path, name: str, arguments: tuple) -> str:
    prototype, reads, values, writes = [], [], [], []
    for number, value in enumerate(arguments):
        if isinstance(value, float):
            prototype.append("double")
            values.append(repr(value))
        elif isinstance(value, int):
            prototype.append("int64_t")
            values.append(str(value))
        else:
            value.tofile(folder / f"{number}.bin")
            prototype.append("void *, void *, int64_t, int64_t, void *, int64_t, int64_t")
            reads.append(f'    void *a{number} = read_all("{number}.bin", {value.nbytes});')
            layout = f"{value.size}, {value.itemsize}, a{number}, {value.size}, {value.itemsize}"
            values.append(f"NULL, NULL, {layout}")
            writes.append(f'    write_all("{number}.out", a{number}, {value.nbytes});')
    return (
        DRIVER.replace("PROGRAM", name)
        .replace("PROTOTYPE", ", ".join(prototype))
        .replace("READS", "\n".join(reads))
        .replace("ARGUMENTS", ", ".join(values))
        .replace("WRITES", "\n".join(writes))
    )


def main(dtype: np.dtype, folder: Path) -> None:
    os.environ["FASTMLP_SIMD"] = "neon"
    os.environ["FASTMLP_CACHE_DIR"] = str(folder / "cache")
    text = unoptimized(dtype)
    module = for_aarch64(text)
    code = module.machine.emit_assembly(module)
    # A tile's sums stay in registers: broadcast by element, multiplied and added at once.
    element = "s" if dtype.itemsize == 4 else "d"
    print("multiply-adds", len(re.findall(rf"fmla\s+v\d+\.\d{element}, v\d+\.\d{element}", code)))
    print("calls for them", len(re.findall(r"bl\s+fmaf?\b", code)))
    if not (shutil.which(COMPILER) and shutil.which(EMULATOR)):
        print(f"cannot run it: there is no {COMPILER} or no {EMULATOR}")
        return
    before, after = record_call(dtype)
    # Numba's own name of the program; behind it comes the wrapper for Python.
    name = next(f.name for f in module.functions if re.match(r"_ZN.*programs5train5trainB", f.name))
    (folder / "program.o").write_bytes(module.machine.emit_object(module))
    (folder / "driver.c").write_text(write_driver(folder, "program", before))
    command = [COMPILER, "-O1", "-static", "driver.c", "program.o", "-o", "driver", "-lm"]
    # The wrapper for Python refers to what is not there, and is not called.
    command += ["-Wl,--unresolved-symbols=ignore-all", f"-Wl,--defsym=program={name}"]
    subprocess.run(command, cwd=folder, check=True)
    subprocess.run([EMULATOR, str(folder / "driver")], cwd=folder, check=True, timeout=300)
    tolerance = 1e4 * np.finfo(dtype).eps
    for number, expected in enumerate(after):
        if isinstance(expected, np.ndarray) and expected.dtype.kind == "f" and expected.size:
            actual = np.fromfile(folder / f"{number}.out", expected.dtype)
            np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=tolerance)
    print("trained")


if __name__ == "__main__":
    main(np.dtype(sys.argv[1]), Path(sys.argv[2]))
