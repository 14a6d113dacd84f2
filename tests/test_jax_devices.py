"""Several devices of JAX: agreement with one, bits, names.

A process has as many devices as it says before JAX starts, so that most runs in a child.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

pytest.importorskip("jax", reason="JAX is not installed")

from fastmlp.backends.jax_backend import JaxBackend

FOUR = "--xla_force_host_platform_device_count=4"
START = """
import contextlib, io, json, pickle, warnings
import numpy as np
from fastmlp import MLP, Adam, Regularization, Trainer
from fastmlp.backends import get_backend
from fastmlp.backends.jax_backend import JaxBackend, device_names
from fastmlp.testing import check_backend
answer = []
"""


def with_four_devices(code: str) -> list:
    """Return what a child with four devices leaves in the list `answer`."""
    run = subprocess.run(
        [sys.executable, "-c", f"{START}{code}\nprint(json.dumps(answer))"],
        env=os.environ | {"XLA_FLAGS": FOUR, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "sample",
    [
        {"predict": 4, "gradient": 4, "update": 2, "epoch": 4, "bits": 2, "states": 1},
        pytest.param({"inputs": 1, "trainer": 1, "curves": 2}, marks=pytest.mark.slow),
        pytest.param({"gradient": 40, "epoch": 40, "bits": 8}, marks=pytest.mark.slow),
    ],
)
def test_two_and_three_devices_conform(sample: dict[str, int]):
    with_four_devices(f"""
warnings.filterwarnings("ignore", message=r"\\\\d+ of \\\\d+ cases skipped")
for devices in ("cpu:0,1", "cpu:3,1,2"):
    for check, sample in {sample}.items():
        check_backend(JaxBackend(devices), [check], sample=sample)
""")


def test_a_batch_is_divided_among_devices_with_the_results_of_one():
    found = with_four_devices("""
everything = Regularization(
    l1=0.01, l2=0.01, dropout=(0.1, 0.5, 0.2), input_noise=0.1,
    clip_norm=1.0, clip_value=0.5, max_norm=2.0, ema=0.9,
)
rng = np.random.default_rng(0)
X, y, weights = rng.normal(size=(60, 4)), rng.integers(0, 3, 60), rng.uniform(0, 2, 60)
order, rates = rng.permutation(60), np.linspace(0.01, 0.002, 9)  # batches of 7, the last of 4

def train(devices, dtype):
    network = MLP([4, 7, 5, 3], dtype=dtype, seed=2)
    session = get_backend(devices).bind(
        network, optimizer=Adam(), regularization=everything, batch_size=7
    )
    session.keep(X.astype(dtype), y)
    logits, penalties = np.empty((60, 3), dtype), np.empty(9)
    losses = session.train(X, y, order, rates, weights, logits, penalties)
    session = pickle.loads(pickle.dumps(session))
    gradient = np.empty(network.n_parameters, dtype)
    loss = session.loss_and_gradient(X, y, gradient, weights)
    return [losses, logits, penalties, session.store().parameters, gradient, loss]

for dtype in ("float32", "float64"):
    one, two, three, again = (train(f"jax:cpu:{d}", dtype) for d in ("3", "0,1", "*", "*"))
    answer.append([
        max(
            float(np.max(np.abs(np.asarray(a) - b)) / np.max(np.abs(b)))
            for some in (two, three)
            for a, b in zip(some, one)
        ),
        all(np.array_equal(a, b) for a, b in zip(three, again)),
        any(not np.array_equal(a, b) for a, b in zip(two, one)),
    ])
""")
    for (difference, equal_calls_are_equal, _), bound in zip(found, (1e-5, 1e-12), strict=True):
        assert difference < bound
        assert equal_calls_are_equal
    # The gradient is summed in parts: were all of it computed by each device, it would not round
    # differently.
    assert any(rounds_differently for *_, rounds_differently in found)


def test_devices_are_listed_named_and_refused():
    names, text, shown, *errors = with_four_devices("""
from fastmlp.cli import main
answer.append(device_names())
with contextlib.redirect_stdout(io.StringIO()) as out:
    main(["info"])
answer.append(out.getvalue())
answer.append(repr(get_backend("jax:cpu:3,1")))
for device in ("cpu:1,4", "cpu:0,2,0"):
    try:
        JaxBackend(device)
    except ValueError as error:
        answer.append(str(error))
""")
    assert names == ["cpu:0", "cpu:1", "cpu:2", "cpu:3"]
    assert "cpu:0 (cpu), cpu:1 (cpu), cpu:2 (cpu), cpu:3 (cpu)" in text
    assert shown == "JaxBackend(device='cpu:3,1')"
    assert errors == [
        "there is no device 'cpu:1,4'; JAX has 'cpu:0', 'cpu:1', 'cpu:2', 'cpu:3'",
        "device names one twice, got 'cpu:0,2,0'",
    ]


@pytest.mark.parametrize("device", ["tpu:*", "cpu:", "cpu:0,", "cpu:,0", "cpu:**", "cpu:0-1"])
def test_what_is_no_list_of_devices_is_refused(device: str):
    with pytest.raises(ValueError, match=r"there is no device .*; JAX has .*'cpu:0'"):
        JaxBackend(device)
