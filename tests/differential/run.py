"""Search for settings on which a backend disagrees with the reference.

    python tests/differential/run.py --settings 20000 --start 0
    python tests/differential/run.py --seed 123

The first tries many settings, and prints each that disagrees with how to replay it; the second
replays one, and looks for the plainest setting that still disagrees. ``FASTMLP_SIMD`` chooses the
instructions and the height of tiles; ``--lowered`` lowers the sizes at which kernels change their
ways, so that small networks take every path.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).parents[1]))


def main() -> int:
    parser = argparse.ArgumentParser(description="Compare a backend with the reference.")
    parser.add_argument("--settings", type=int, default=1000, help="how many (%(default)s)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (%(default)s)")
    parser.add_argument("--seed", type=int, help="replay this setting and simplify it")
    parser.add_argument("--backend", default="numba", help="its name (%(default)s)")
    parser.add_argument("--lowered", action="store_true", help="lower the kernels' thresholds")
    options = parser.parse_args()
    if not options.lowered:
        return _search(options)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["FASTMLP_CACHE_DIR"] = folder  # what is compiled here must serve nobody else
        from differential.lowered import lower_thresholds

        lower_thresholds()
        return _search(options)


def _search(options: argparse.Namespace) -> int:
    from differential.compare import disagreements
    from differential.generator import Setting, draw
    from fastmlp.backends import get_backend

    backend = get_backend(options.backend)

    def check(setting: Setting) -> list[str]:
        try:
            return disagreements(setting, backend)
        except Exception as error:
            return [f"raises {type(error).__name__}: {error}"]

    if options.seed is not None:
        return _replay(draw(options.seed), check)
    _announce()
    wrong, started = 0, time.perf_counter()
    for number in range(options.settings):
        seed = options.start + number
        reasons = check(draw(seed))
        if reasons:
            wrong += 1
            print(f"seed {seed}: {'; '.join(reasons)}\n    {draw(seed)}", flush=True)
        if (number + 1) % 500 == 0:
            pace = (time.perf_counter() - started) / (number + 1)
            print(f"{number + 1} settings, {wrong} disagree, {pace:.3f} s each", file=sys.stderr)
    print(f"{options.settings} settings from seed {options.start}: {wrong} disagree")
    return 1 if wrong else 0


def _announce() -> None:
    try:
        from fastmlp.backends.numba_backend.machine import VECTORS
    except ImportError:
        return
    print(f"instructions: {VECTORS}, tiles of {VECTORS.tile_rows} rows", flush=True)


def _replay(setting, check) -> int:
    from differential.generator import simpler

    reasons = check(setting)
    if not reasons:
        print("agrees")
        return 0
    print(f"{setting}\n    {'; '.join(reasons)}", flush=True)
    found = True
    while found:
        found = False
        for plainer in simpler(setting):
            try:
                reasons = check(plainer)
            except ValueError:  # no such setting
                continue
            if reasons and not any("raises" in reason for reason in reasons):
                setting, found = plainer, True
                print(f"{setting}\n    {'; '.join(reasons)}", flush=True)
                break
    return 1


if __name__ == "__main__":
    sys.exit(main())
