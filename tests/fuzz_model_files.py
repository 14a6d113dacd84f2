"""Mutates model files and loads them: each is refused by one class of error, or is the same model.

Run as a script it says how many were tried, and how many of them were refused::

    (ulimit -v 2000000; python tests/fuzz_model_files.py --tries 100000 --seed 1)
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import struct
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fastmlp import MLP, ModelFileError
from fastmlp.activations import ELU, LeakyReLU
from fastmlp.model_file import ModelFile, _digest, load_model, save_model
from fastmlp.preprocessing import Feature, Preprocessing
from fastmlp.sklearn import MLPClassifier, MLPRegressor, TabularClassifier, TabularRegressor

#: What hostile writers put in the place of a value.
ODD_VALUES: list[Any] = [
    *(None, True, False, 0, 1, -1, 2, 3, 2**31, 2**48, 2**63, 2**64, 10**30, 10**400),
    *(0.5, -0.0, 1e-320, 1e308, "", "relu", "os.system", "__import__('os')", "\ud800", "\0"),
    *([], {}, [[]], {"kind": "CustomLoss"}, {"kind": "ReLU"}, {"kind": "infinity"}, [None] * 1000),
    *("builtins.eval", "a" * 10_000, {"__reduce__": "os.system"}, [1e999, -1e999]),
]


def models() -> dict[str, Callable[[Path], None]]:
    """Return what writes a valid file, by name."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 3))

    def network(path: Path) -> None:
        net = MLP([3, 4, 2, 3], [LeakyReLU(0.1), ELU(0.5)], seed=1, input_scale=0.5)
        net.feature_names, net.label_names = ("a", "b", "c"), ("x", "y", "z")
        net.save(path)

    def scaled(path: Path) -> None:
        net = MLP([3, 4, 2], dtype="float64", seed=4, scaling_layer=True)
        net.scale = [0.5, -1.0, 2.0]
        net.save(path)

    def table(path: Path) -> None:
        net = MLP([3, 2, 1], "tanh", "linear", dtype="float64", seed=2)
        features = (Feature("size"), Feature("colour", "category", ("blue", "red")))
        save_model(
            path,
            ModelFile(
                net,
                Preprocessing(
                    features, (0.5,) * 3, (1.0,) * 3, (2.0,) * 3, ("price",), "regression"
                ),
            ),
        )

    def classifier(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = MLPClassifier((4,), max_iter=2, random_state=0, backend="numpy")
            model.fit(X, np.array(["low", "mid", "high"])[rng.integers(0, 3, 30)]).save(path)

    def regressor(path: Path) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = MLPRegressor("huber", (2,), max_iter=2, random_state=0, backend="numpy")
            model.fit(X, X[:, 0]).save(path)

    def table_classifier(path: Path) -> None:
        model = TabularClassifier(
            n_members=2, n_epochs=1, hidden_layer_sizes=(2,), random_state=0, backend="numpy"
        )
        mixed = np.column_stack([X.astype(object), np.array(["red", "blue", None] * 10)])
        model.fit(mixed, np.array(["low", "mid", "high"])[rng.integers(0, 3, 30)]).save(path)

    def table_regressor(path: Path) -> None:
        model = TabularRegressor(
            n_members=2, n_epochs=1, hidden_layer_sizes=(2,), random_state=0, backend="numpy"
        )
        model.fit(X, X[:, :2]).save(path)

    return {
        "network": network,
        "scaled": scaled,
        "table": table,
        "classifier": classifier,
        "regressor": regressor,
        "table classifier": table_classifier,
        "table regressor": table_regressor,
    }


LOADERS: dict[str, Callable[[Path], Any]] = {
    "network": load_model,
    "scaled": load_model,
    "table": load_model,
    "classifier": MLPClassifier.load,
    "regressor": MLPRegressor.load,
    "table classifier": TabularClassifier.load,
    "table regressor": TabularRegressor.load,
}


def everything(path: Path, kind: str) -> str:
    """Return all that a file says, as text that compares."""
    loaded = load_model(path, ensemble=None)
    network = loaded.network
    facts = [
        repr(network),
        network.hidden_activations,
        network.input_scale,
        network.feature_names,
        network.label_names,
        network.training,
        network.parameters.tobytes().hex(),
        None if loaded.members is None else loaded.members.tobytes().hex(),
        loaded.preprocessing,
        loaded.estimator,
    ]
    if LOADERS[kind] is not load_model:
        estimator = LOADERS[kind](path)
        state = sorted(estimator.__getstate__().items())
        facts.append({k: v for k, v in state if k not in ("coefs_", "intercepts_")})
    return repr(facts)


# Mutations of bytes --------------------------------------------------------------------------


def flip_bits(whole: bytes, rng: random.Random) -> bytes:
    changed = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def set_bytes(whole: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(whole))
    length = rng.choice((1, 2, 4, 8, 64))
    filler = rng.choice(
        (b"\0", b"\xff", b"\x7f", b'"', b"{", b"[", b"9", bytes([rng.randrange(256)]))
    )
    return whole[:start] + filler * length + whole[start + length :]


def cut(whole: bytes, rng: random.Random) -> bytes:
    return whole[: rng.randrange(len(whole))]


def take_out(whole: bytes, rng: random.Random) -> bytes:
    start = rng.randrange(len(whole))
    return whole[:start] + whole[start + rng.choice((1, 4, 8, 100)) :]


def put_in(whole: bytes, rng: random.Random) -> bytes:
    start, source = rng.randrange(len(whole) + 1), rng.randrange(len(whole))
    return whole[:start] + whole[source : source + rng.choice((1, 4, 8, 100))] + whole[start:]


def exchange(whole: bytes, rng: random.Random) -> bytes:
    length = rng.choice((1, 4, 8, 24))
    first, second = sorted(rng.randrange(len(whole) - length) for _ in range(2))
    if second < first + length:
        return whole
    one, other = whole[first : first + length], whole[second : second + length]
    return whole[:first] + other + whole[first + length : second] + one + whole[second + length :]


def change_length(whole: bytes, rng: random.Random) -> bytes:
    (length,) = struct.unpack("<Q", whole[:8])
    wrong = rng.choice((0, 1, length - 1, length + 1, len(whole), 2**23, 2**32, 2**63, 2**64 - 1))
    return struct.pack("<Q", wrong) + whole[8:]


BYTES = (flip_bits, set_bytes, cut, take_out, put_in, exchange, change_length)


# Mutations of the description, with the checksum of the rest or made anew -----------------------


def parts(whole: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    (length,) = struct.unpack("<Q", whole[:8])
    header = json.loads(whole[8 : 8 + length])
    return header, json.loads(header["__metadata__"]["fastmlp"]), whole[8 + length :]


def joined(header: dict[str, Any], description: Any, data: bytes) -> bytes:
    if description is not None:
        header["__metadata__"]["fastmlp"] = json.dumps(description)
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every place of nested content, as its container and its key."""
    keys: Any = value if isinstance(value, dict) else range(len(value))
    found = [(value, key) for key in keys]
    for key in keys:
        if isinstance(value[key], dict | list):
            found += places(value[key])
    return found


def edit(content: Any, rng: random.Random) -> None:
    """Change one place."""
    container, key = rng.choice(places(content))
    kind = rng.randrange(6)
    if kind == 0:
        del container[key]
    elif kind == 1 and isinstance(container, dict):
        container[rng.choice(("kind", "version", "path", "\0", "a" * 50))] = copy.deepcopy(
            rng.choice(ODD_VALUES)
        )
    elif kind == 2 and isinstance(container, list):
        container.insert(key, copy.deepcopy(rng.choice(ODD_VALUES)))
    elif kind == 3:
        other, other_key = rng.choice(places(content))
        container[key] = json.loads(json.dumps(other[other_key]))
    elif kind == 4 and isinstance(container[key], int | float):
        container[key] = container[key] * rng.choice((2, -1, 10, 1000)) + rng.choice((0, 1))
    else:
        container[key] = copy.deepcopy(rng.choice(ODD_VALUES))


def edit_description(whole: bytes, rng: random.Random) -> bytes:
    header, description, data = parts(whole)
    edit(description, rng)
    return joined(header, description, data)


def edit_header(whole: bytes, rng: random.Random) -> bytes:
    header, _, data = parts(whole)
    edit(header, rng)
    return joined(header, None, data)


def forge(whole: bytes, rng: random.Random) -> bytes:
    """Edit the description, and write the checksum that fits it."""
    header, description, data = parts(whole)
    for _ in range(rng.choice((1, 1, 2, 5))):
        edit(description, rng)
    arrays = {}
    for name in sorted(name for name in header if name != "__metadata__"):
        start, end = header[name]["data_offsets"]
        kind = "<f4" if header[name]["dtype"] == "F32" else "<f8"
        arrays[name] = np.frombuffer(data[start:end], kind)
    order = sorted(arrays, key=place_in_digest)
    try:
        description["sha256"] = _digest(description, {name: arrays[name] for name in order})
    except (ValueError, TypeError, UnicodeError):
        return joined(header, description, data)
    return joined(header, description, data)


def place_in_digest(name: str) -> tuple[float, bool]:
    """Return what sorts arrays by layers, weights before biases, and the scaling layer last."""
    what, _, layer = name.partition(".")
    return (float(layer) if layer else np.inf), what != "weights"


DESCRIPTIONS = (edit_description, edit_header)


def fuzz(tries: int, seed: int, folder: Path) -> Counter[str]:
    """Try mutations; return how many were refused, loaded as the same, or forged and loaded.

    Raises
    ------
    AssertionError
        If a mutated file loads as another model, though its checksum was not made anew.
    """
    rng = random.Random(seed)
    valid, same = {}, {}
    path = folder / "mutated.safetensors"
    for kind, write in models().items():
        write(folder / f"{kind}.safetensors")
        valid[kind] = (folder / f"{kind}.safetensors").read_bytes()
        same[kind] = everything(folder / f"{kind}.safetensors", kind)
    longest, seen = 0, Counter[str]()
    for number in range(tries):
        kind = rng.choice(list(valid))
        mutate = rng.choice((*BYTES, *DESCRIPTIONS, forge))
        path.write_bytes(mutate(valid[kind], rng))
        try:
            LOADERS[kind](path)
        except ModelFileError as error:
            longest = max(longest, len(str(error)))
            seen["refused"] += 1
            continue
        if mutate is forge:
            seen["forged and loaded"] += 1
        else:
            assert everything(path, kind) == same[kind], (
                f"try {number}: {mutate.__name__} of {kind}"
            )
            seen["the same"] += 1
    return seen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tries", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    ran: list[str] = []
    watched = ("exec", "compile", "import", "os.system", "subprocess.Popen", "pickle.find_class")
    with tempfile.TemporaryDirectory() as folder:
        fuzz(100, options.seed, Path(folder))  # what is imported when it is first used, is
        sys.addaudithook(lambda event, _: ran.append(event) if event in watched else None)
        seen = fuzz(options.tries, options.seed, Path(folder))
    print(dict(seen), "events:", dict(Counter(ran)))
    assert not ran, "loading ran code"


if __name__ == "__main__":
    main()
