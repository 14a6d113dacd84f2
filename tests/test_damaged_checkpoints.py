"""Checkpoints that are damaged, hostile or wrong: one class of error, or the right state."""

from __future__ import annotations

import copy
import io
import json
import math
import random
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fastmlp import (
    LBFGS,
    MLP,
    SGD,
    Adam,
    Callback,
    Checkpoint,
    CheckpointError,
    EarlyStopping,
    Regularization,
    Trainer,
)
from fastmlp._npz import NpzError, NpzFile
from fastmlp._schema import (
    Anything,
    Fields,
    Floats,
    Integer,
    Items,
    Kind,
    Maybe,
    Number,
)
from fastmlp.callbacks import state_schema
from fastmlp.checkpoint import _LATER_SETTINGS, read_checkpoint, write_checkpoint
from fastmlp.schedules import ReduceOnPlateau

RNG = np.random.default_rng(0)
X = RNG.normal(size=(50, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
#: Written by the first version: settings as text, arrays without checksums.
OLD_FILE = Path(__file__).with_name("data") / "checkpoint-1.npz"

RECIPES: dict[str, dict[str, Any]] = {
    "average and plateau": {
        "optimizer": Adam(0.02),
        "schedule": ReduceOnPlateau(factor=0.9, patience=3),
        "regularization": Regularization(dropout=0.2, ema=0.99),
        "class_weight": {0: 1.0, 1: 2.0},
    },
    "momentum": {"optimizer": SGD(0.1, momentum=0.9)},
    "full batch": {"optimizer": LBFGS(iterations=2)},
    "squares": {"optimizer": "rmsprop", "schedule": "cosine"},
}

#: The name of the state of the callback in the files below.
STOPPING = "EarlyStopping(metric='loss', patience=6, min_delta=0.0, mode='auto', restore_best=True)"


def make_trainer(recipe: str = "average and plateau", **options) -> Trainer:
    settings = {"batch_size": 16, "backend": "numpy", **RECIPES[recipe], **options}
    return Trainer(MLP([4, 6, 2], seed=3), **settings)


def write_valid(file: Path, recipe: str = "average and plateau") -> Trainer:
    trainer = make_trainer(recipe)
    callbacks = [EarlyStopping("loss", patience=6), Checkpoint(file)]
    trainer.fit(X, Y, 3, callbacks=callbacks, verbose=False)
    return trainer


def everything(trainer: Trainer) -> str:
    """Return all that a checkpoint could change, as text that compares."""
    progress = trainer._progress
    arrays = [trainer.network.parameters, progress.state.parameters, progress.state.moments]
    arrays.append(np.empty(0) if progress.state.average is None else progress.state.average)
    callbacks = {
        key: {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in state.items()}
        for key, state in progress.callback_states.items()
    }
    rest = (
        progress.state.step,
        progress.generator,
        progress.records,
        progress.planned_epochs,
        progress.plateau,
    )
    return repr(([a.tobytes() for a in arrays], rest, callbacks))


def outcome(trainer: Trainer, file: Path) -> str:
    """Load a file; return what came of it: "refused", with nothing changed, or the state."""
    before = everything(trainer)
    try:
        trainer.load_checkpoint(file)
    except CheckpointError:
        assert everything(trainer) == before
        return "refused"
    return everything(trainer)


# Mutations -----------------------------------------------------------------------------------


def flip_bits(whole: bytes, rng: random.Random) -> bytes:
    changed = bytearray(whole)
    for _ in range(rng.choice((1, 1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def flip_in_structure(whole: bytes, rng: random.Random) -> bytes:
    """Change bytes of the archive's records, which no checksum guards."""
    starts = [i for sign in (b"PK\3\4", b"PK\1\2", b"PK\5\6") for i in occurrences(whole, sign)]
    changed = bytearray(whole)
    at = rng.choice(starts) + rng.randrange(46)
    changed[at % len(changed)] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
    return bytes(changed)


def occurrences(whole: bytes, sign: bytes) -> Iterator[int]:
    at = whole.find(sign)
    while at >= 0:
        yield at
        at = whole.find(sign, at + 1)


def truncate(whole: bytes, rng: random.Random) -> bytes:
    cut = rng.randrange(len(whole))
    return rng.choice((whole[:cut], whole[cut:], whole[:cut] + bytes(len(whole) - cut)))


def splice(whole: bytes, rng: random.Random) -> bytes:
    a, b, c = (rng.randrange(len(whole)) for _ in range(3))
    piece = whole[min(a, b) : max(a, b)]
    return rng.choice((whole[:c] + piece + whole[c:], whole[:c] + piece + whole[c + len(piece) :]))


def change_headers(whole: bytes, rng: random.Random) -> bytes:
    """Change an array's header, and the archive's checksum with it."""
    members = unpacked(whole)
    name = rng.choice(list(members))
    data = bytearray(members[name])
    data[rng.randrange(min(len(data), 128))] = rng.randrange(256)
    return packed({**members, name: bytes(data)})


def change_members(whole: bytes, rng: random.Random) -> bytes:
    members = unpacked(whole)
    a, b = rng.sample([name for name in members if name != "values.npy"], 2)
    kind = rng.randrange(5)
    if kind == 0:
        members[a], members[b] = members[b], members[a]
    elif kind == 1:
        members[a] = members[b]
    elif kind == 2:
        del members[a]
    elif kind == 3:
        members["more.npy"] = members[a]
    else:
        members[rng.choice(("../a.npy", "a.txt", "é.npy", "values"))] = members.pop(a)
    return packed(members, method=rng.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)))


def unpacked(whole: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return target.getvalue()


MUTATIONS: list[Callable[[bytes, random.Random], bytes]] = [
    flip_bits,
    flip_bits,
    flip_in_structure,
    truncate,
    splice,
    change_headers,
    change_members,
]


def check_mutations(folder: Path, n_mutations: int) -> dict[str, int]:
    valid, file = folder / "valid.npz", folder / "run.npz"
    write_valid(valid)
    loaded = make_trainer()
    loaded.load_checkpoint(valid)
    whole, right = valid.read_bytes(), everything(loaded)
    trainer, rng = make_trainer(), random.Random(0)
    counts = {"refused": 0, right: 0}
    for i in range(n_mutations):
        file.write_bytes(MUTATIONS[i % len(MUTATIONS)](whole, rng))
        came = outcome(trainer, file)
        assert came in counts, f"mutation {i} was taken for another state"
        counts[came] += 1
    return {"refused": counts["refused"], "right": counts[right]}


def test_a_mutated_checkpoint_is_refused_or_right(tmp_path):
    counts = check_mutations(tmp_path, 350)
    assert counts["refused"] > 200
    assert counts["right"] > 0


@pytest.mark.slow
def test_10000_mutated_checkpoints_are_refused_or_right(tmp_path):
    print(check_mutations(tmp_path, 10_000))


def test_every_bit_of_a_small_file_may_flip(tmp_path):
    """Of an array that NumPy's own reader and ours both read."""
    file = tmp_path / "a.npz"
    np.savez(file, x=np.arange(3.0))
    whole, n_refused = file.read_bytes(), 0
    for at in range(0, len(whole) * 8, 3):
        changed = bytearray(whole)
        changed[at // 8] ^= 1 << at % 8
        file.write_bytes(changed)
        try:
            with NpzFile(file) as arrays:
                for name in arrays:
                    np.testing.assert_array_equal(arrays[name], [0, 1, 2])
        except NpzError:
            n_refused += 1
    assert n_refused > 100


# Wrong content -------------------------------------------------------------------------------

PLAIN = [None, True, -1, 10**40, 0.5, math.nan, math.inf, -math.inf, "x", "", [], {}, [1], {"a": 1}]


def wrong_values(kind: Kind) -> Iterator[Any]:
    """Yield what stands near a description's border, on the wrong side, and other types."""
    if isinstance(kind, Integer):
        yield from (kind.least - 1, float(kind.least), str(kind.least))
        if kind.most is not None:
            yield kind.most + 1
        if kind.odd:
            yield kind.least + 1
    elif isinstance(kind, Number):
        yield from (np.nextafter(kind.least, -math.inf), np.nextafter(kind.most, math.inf))
    elif isinstance(kind, Floats):
        right = np.ones(kind.shape, kind.dtype)
        other = np.float64 if kind.dtype == np.float32 else np.float32
        yield from (right.astype(other), right.astype(np.int64), right.astype(complex))
        yield from (right[..., :-1], right[None], right.reshape(-1, 1), np.array(1, kind.dtype))
        yield right.astype(">f4").astype("U4")
        for value in (math.nan, math.inf):
            spoilt = right.copy()
            spoilt.reshape(-1)[-1:] = value
            yield spoilt
        for row in kind.not_negative:
            spoilt = right.copy()
            spoilt[row, 0] = -1e-30
            yield spoilt
    elif isinstance(kind, Maybe):
        yield from wrong_values(kind.kind)
    elif isinstance(kind, Items):
        yield from ({}, [None], [[]], "abc")
    elif isinstance(kind, Fields):
        yield from ([], {"no": 1}, "abc", [1, 2])
    yield from PLAIN
    yield np.zeros(3)


def places(kind: Kind, value: Any, path: tuple = ()) -> Iterator[tuple[tuple, Kind]]:
    """Yield every described place in some content, by the way that leads there."""
    yield path, kind
    inner = kind.kind if isinstance(kind, Maybe) else kind
    if isinstance(inner, Items):
        for i, item in enumerate(value):
            yield from places(inner.kind, item, (*path, i))
    if isinstance(inner, Fields):
        for name, item in value.items():
            of_name = inner.fields.get(name, inner.others)
            if of_name is not None and not isinstance(of_name, Anything):
                yield from places(of_name, item, (*path, name))


def wrong_contents(trainer: Trainer, content: dict[str, Any]) -> Iterator[tuple[str, dict]]:
    """Yield contents that differ from a right one in one place, each with what was done."""
    schema = trainer._owner().schema
    described = list(places(schema, content))
    for key, state in content["callbacks"].items():
        inside = state_schema(key, schema.fields["parameters"], len(content["records"]))
        described += places(inside, state, ("callbacks", key))
    for path, kind in described:
        for value in wrong_values(kind):
            if path and not is_allowed(kind, value):
                yield f"{path} = {value!r}", changed(content, path, value)
        if isinstance(kind, Fields) and path:
            for name in kind.fields:
                if path != ("settings",) or name not in _LATER_SETTINGS:
                    yield f"no {name} in {path}", changed(content, (*path, name), REMOVED)
            if kind.others is None:
                yield f"more in {path}", changed(content, (*path, "more"), 1)
    for name in schema.fields:
        yield f"no {name}", changed(content, (name,), REMOVED)
    yield from contents_that_do_not_hang_together(content)


def contents_that_do_not_hang_together(content: dict[str, Any]) -> Iterator[tuple[str, dict]]:
    records = content["records"]
    orders = [records[::-1], records[1:], [*records, records[-1]], [records[0]] * 3, []]
    for order in orders:
        yield "records in another order", {**content, "records": order}
    if content["settings"]["optimizer"]["kind"] != "LBFGS":
        for step in range(len(records)):
            yield "fewer steps than epochs", {**content, "step": step}
    yield "less planned than done", {**content, "planned_epochs": len(records) - 1}
    if content["plateau"]["best"] is not None:
        for best in (0.0, 1e30, content["plateau"]["best"] * 2):
            yield "a best that never was", changed(content, ("plateau", "best"), best)
        yield "waited too long", changed(content, ("plateau", "waited"), len(records) + 1)
    for name in content["settings"]:
        if name not in _LATER_SETTINGS:
            yield f"no setting {name}", changed(content, ("settings", name), REMOVED)
        for value in (None, [], {}, {"kind": None}, {"kind": "SGD", "x": 1}, "x", -7, math.nan):
            if content["settings"][name] != value:
                yield f"setting {name}", changed(content, ("settings", name), value)


REMOVED = object()


def changed(content: dict[str, Any], path: tuple, value: Any) -> dict[str, Any]:
    twin = copy.deepcopy(content)
    inside = twin
    for key in path[:-1]:
        inside = inside[key]
    if value is REMOVED:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return twin


def is_allowed(kind: Kind, value: Any) -> bool:
    try:
        kind.check(value)
    except ValueError:
        return False
    return True


def check_wrong_contents(folder: Path, recipe: str, chosen: Callable[[int], bool]) -> int:
    valid, file = folder / "valid.npz", folder / "run.npz"
    trainer = write_valid(valid, recipe)
    content = read_checkpoint(valid)
    fresh = make_trainer(recipe)
    n_checked = 0
    for i, (what, wrong) in enumerate(wrong_contents(trainer, content)):
        if chosen(i):
            write_checkpoint(file, wrong)
            assert outcome(fresh, file) == "refused", what
            n_checked += 1
    return n_checked


@pytest.mark.parametrize("recipe", RECIPES)
def test_wrong_content_is_refused_before_anything_changes(recipe, tmp_path):
    assert check_wrong_contents(tmp_path, recipe, lambda i: i % 10 == 0) > 40


@pytest.mark.slow
def test_2000_wrong_contents_are_refused_before_anything_changes(tmp_path):
    total = sum(check_wrong_contents(tmp_path, recipe, lambda i: True) for recipe in RECIPES)
    print(total)
    assert total > 2000


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("parameters",), None, r"content\.parameters is None, but must be an array of float32"),
        (("average",), None, r"content\.average is None, but must be an array of float32"),
        (("step",), -1, r"content\.step is -1, but must be an integer from 0"),
        (("moments",), np.zeros((2, 3), "f4"), r"of float32 and shape \(2, 3\), but must be"),
        (("records", 1, "epoch"), 7, r"records\[1\]\.epoch is 7, but must be an integer from 2"),
        (("plateau_factor",), 2.0, r"plateau_factor is 2.0, but must be a finite number from 0"),
        (("generator", "state"), {}, r"content\.generator\.state has no 'state', which must be"),
        (("callbacks", STOPPING, "waited"), -1, r"EarlyStopping\(.*\)\.waited is -1"),
        (("more",), 1, r"content has 'more', but may hold only 'settings', 'parameters'"),
    ],
)
def test_the_message_says_where_what_was_seen_and_what_is_allowed(path, value, message, tmp_path):
    write_valid(tmp_path / "run.npz")
    content = changed(read_checkpoint(tmp_path / "run.npz"), path, value)
    write_checkpoint(tmp_path / "run.npz", content)
    with pytest.raises(
        CheckpointError, match=rf"run\.npz holds no state of this trainer: .*{message}"
    ):
        make_trainer().load_checkpoint(tmp_path / "run.npz")


def test_an_average_is_wanted_exactly_where_one_is_kept(tmp_path):
    write_valid(tmp_path / "run.npz", "momentum")
    content = read_checkpoint(tmp_path / "run.npz")
    write_checkpoint(tmp_path / "run.npz", {**content, "average": content["parameters"]})
    with pytest.raises(CheckpointError, match=r"average is an array .*, but must be None"):
        make_trainer("momentum").load_checkpoint(tmp_path / "run.npz")


STATES_OF_NUMPY = {
    "int64": (np.int64(3), 3),
    "uint8": (np.uint8(3), 3),
    "float32": (np.float32(0.5), 0.5),
    "float64": (np.float64(0.1), 0.1),
    "float16": (np.float16(0.5), 0.5),
    "longdouble": (np.longdouble(0.5), 0.5),
    "bool": (np.bool_(True), True),
    "str": (np.str_("a"), "a"),
    "tuple": ((1, np.int64(2)), [1, 2]),
    "mapping": ({"a": [np.float32(0.5), None]}, {"a": [0.5, None]}),
    "nan": (np.float32("inf"), math.inf),
}


class Remembering(Callback):
    """Keeps whatever it is given."""

    def __init__(self, value=None):
        self.value = value

    def state(self):
        return {"value": self.value}

    def load_state(self, trainer, state):
        self.value = state["value"]


def resumed(value, file: Path) -> Any:
    first, second = make_trainer("momentum"), make_trainer("momentum")
    first.fit(X, Y, 1, callbacks=[Remembering(value), Checkpoint(file)], verbose=False)
    second.load_checkpoint(file)
    callback = Remembering()
    second.fit(X, Y, 1, callbacks=[callback], verbose=False)
    return callback.value


@pytest.mark.parametrize("name", STATES_OF_NUMPY)
def test_states_of_numpy_scalars_come_back_as_python_values(name, tmp_path):
    given, expected = STATES_OF_NUMPY[name]
    value = resumed(given, tmp_path / "run.npz")
    assert value == expected
    assert type(value) is type(expected)


def test_a_callback_of_a_built_in_name_keeps_a_state_of_its_own(tmp_path):
    own = type("EarlyStopping", (Remembering,), {"__module__": "mine"})
    first, second = make_trainer("momentum"), make_trainer("momentum")
    callbacks = [own("own"), EarlyStopping("loss"), Checkpoint(tmp_path / "run.npz")]
    first.fit(X, Y, 1, callbacks=callbacks, verbose=False)
    second.load_checkpoint(tmp_path / "run.npz")
    callbacks = [own(), EarlyStopping("loss")]
    second.fit(X, Y, 0, callbacks=callbacks, verbose=False)
    assert callbacks[0].value == "own"
    assert callbacks[1].best == first.history["loss"][0]


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10)[::-2],
        np.arange(3, dtype=">f4"),
        np.array(["a", "bc"]),
        np.array(2.5),
        np.empty((0, 3), np.float32),
        np.ones(2, complex),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_states_of_arrays_come_back_as_they_were(array, tmp_path):
    value = resumed(array, tmp_path / "run.npz")
    np.testing.assert_array_equal(value, array)
    assert value.dtype.isnative
    assert value.dtype == array.dtype.newbyteorder("=")


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({1, 2}, r"got \{1, 2\} as content\.callbacks\.Remembering\(\)\.value"),
        (Path("a"), r"got .*Path\('a'\) as content"),
        ({1: "a"}, r"holds only strings as keys, got \{1: 'a'\} in content"),
        (np.array([None]), r"got array\(\[None\], dtype=object\) as content"),
        ([1, 2j], r"got 2j as content\.callbacks\.Remembering\(\)\.value\[1\]"),
    ],
)
def test_a_state_that_no_file_can_hold_is_named(value, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        resumed(value, tmp_path / "run.npz")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ({"optimizer": SGD(np.float64(0.5))}, {"optimizer": SGD(0.5)}),
        ({"optimizer": SGD(np.float32(0.5))}, {"optimizer": SGD(0.5)}),
        ({"optimizer": SGD(1)}, {"optimizer": SGD(1.0)}),
        ({"class_weight": {0: 1.0, 1: 2.0}}, {"class_weight": {1: 2, 0: 1}}),
        ({"class_weight": {np.int64(1): 2.0}}, {"class_weight": {1: np.float32(2)}}),
        ({"batch_size": np.int64(16)}, {"batch_size": 16}),
        ({"seed": np.uint8(7)}, {"seed": 7}),
        ({"schedule": ReduceOnPlateau(np.float64(0.5), np.int32(3))},) * 2,
        ({"regularization": Regularization(ema=np.float64(0.5))},) * 2,
        ({"regularization": Regularization(dropout=(0.0, np.float64(0.5)))},) * 2,
    ],
)
def test_settings_are_compared_by_value(written, read, tmp_path):
    first, second = (make_trainer("momentum", **options) for options in (written, read))
    first.fit(X, Y, 2, verbose=False)
    first.save_checkpoint(tmp_path / "run.npz")
    second.load_checkpoint(tmp_path / "run.npz")
    assert second.history == first.history


def test_a_setting_that_did_not_exist_yet_had_its_default(tmp_path):
    write_valid(tmp_path / "run.npz", "momentum")
    content = read_checkpoint(tmp_path / "run.npz")
    write_checkpoint(
        tmp_path / "run.npz", changed(content, ("settings", "optimizer", "nesterov"), REMOVED)
    )
    make_trainer("momentum").load_checkpoint(tmp_path / "run.npz")
    other = make_trainer(optimizer=SGD(0.1, momentum=0.9, nesterov=True))
    with pytest.raises(CheckpointError, match=r"nesterov=False.*nesterov=True"):
        other.load_checkpoint(tmp_path / "run.npz")


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_written_can_be_read(recipe, tmp_path):
    trainer = write_valid(tmp_path / "run.npz", recipe)
    loaded = make_trainer(recipe)
    loaded.load_checkpoint(tmp_path / "run.npz")
    assert loaded.history == trainer.history
    np.testing.assert_array_equal(loaded.network.parameters, trainer.network.parameters)


def test_a_state_that_could_not_be_read_is_not_written(tmp_path):
    trainer = write_valid(tmp_path / "run.npz")
    before = (tmp_path / "run.npz").read_bytes()
    trainer.network.parameters[0] = math.nan
    with pytest.raises(CheckpointError, match=r"run\.npz is not written: .* with NaN"):
        trainer.save_checkpoint(tmp_path / "run.npz")
    assert (tmp_path / "run.npz").read_bytes() == before


# Old files -----------------------------------------------------------------------------------


def test_a_file_of_the_first_version_is_read():
    trainer = make_trainer()
    trainer.load_checkpoint(OLD_FILE)
    assert trainer.history["epoch"] == [1, 2, 3]
    assert trainer._progress.state.step == 12
    assert trainer.history["loss"][2] == 0.6298763886165117
    with np.load(OLD_FILE) as arrays:
        np.testing.assert_array_equal(trainer.network.parameters, arrays["array_2"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"optimizer": Adam(0.03)}, r"optimizer Adam\(learning_rate=0.02.*has Adam\(learning_rate"),
        ({"class_weight": {1: 3.0}}, r"with class_weight \[\[0, 1.0\], \[1, 2.0\]\], but"),
        ({"loss": "mse"}, "with loss CrossEntropy"),
    ],
)
def test_a_file_of_the_first_version_is_of_its_settings(options, message):
    with pytest.raises(CheckpointError, match=message):
        make_trainer(**options).load_checkpoint(OLD_FILE)


def test_files_of_the_first_version_may_be_wrong_too(tmp_path):
    members = unpacked(OLD_FILE.read_bytes())
    text = members["values.npy"]
    values = json.loads(text[text.index(b"\n") + 1 :])
    assert values["format"] == "fastmlp checkpoint 1"
    for wrong in ("f(", "()" * 5000, "[" * 5000, "1" * 5000, None, 3, [], "SGD(*a)", "SGD(**a)"):
        values["content"]["map"]["configuration"]["map"]["optimizer"] = wrong
        array = np.frombuffer(json.dumps(values).encode(), np.uint8)
        header = io.BytesIO()
        np.save(header, array)
        file = tmp_path / "run.npz"
        file.write_bytes(packed({**members, "values.npy": header.getvalue()}))
        assert outcome(make_trainer(), file) == "refused"


# Hostile files -------------------------------------------------------------------------------


def npy(header: str, data: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    length = struct.pack("<H" if version[0] == 1 else "<L", len(header))
    return b"\x93NUMPY" + version + length + header.encode("latin-1") + data


def text_member(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': ({len(data)},), }}\n", data)


def header_of(shape: str, dtype: str = "<f4") -> str:
    return f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}\n"


def patched(whole: bytes, sign: bytes, offset: int, value: bytes) -> bytes:
    """Return an archive with the same field of every record changed."""
    changed = bytearray(whole)
    for at in occurrences(whole, sign):
        changed[at + offset : at + offset + len(value)] = value
    return bytes(changed)


def with_both(whole: bytes, central: int, value: bytes, local: int) -> bytes:
    return patched(patched(whole, b"PK\1\2", central, value), b"PK\3\4", local, value)


def bomb(n_bytes: int) -> bytes:
    """Return a member of zeros that is tiny when packed."""
    header = header_of(f"({n_bytes},)", "|u1")
    return npy(header, bytes(n_bytes))


SMALL = packed({"values.npy": text_member("{}")})
SPACES = "{}" + " " * 100
HOSTILE: dict[str, Callable[[], bytes]] = {
    "zeros that unpack": lambda: packed({"values.npy": bomb(2**27)}, zipfile.ZIP_DEFLATED),
    "huge shape": lambda: packed({"values.npy": npy(header_of("(1000000000000,)"))}),
    "huge shape and product": lambda: packed({"values.npy": npy(header_of(f"({2**62}, {2**62})"))}),
    "negative shape": lambda: packed({"values.npy": npy(header_of("(-1,)"))}),
    "huge element": lambda: packed({"values.npy": npy(header_of("(1,)", "<U999999999"))}),
    "element of no size": lambda: packed({"values.npy": npy(header_of(f"({2**40},)", "<U0"))}),
    "long header": lambda: packed({"values.npy": npy(" " * 10**6, version=b"\x02\x00")}),
    "deep header": lambda: packed({"values.npy": npy("(" * 9000)}),
    "header of tokens": lambda: packed({"values.npy": npy("{'descr': '<f4', 'shape': ('''")}),
    "header with a zero": lambda: packed({"values.npy": npy("\0" * 64)}),
    "header not in UTF-8": lambda: packed({"values.npy": npy("\xff" * 64, version=b"\x03\x00")}),
    "unknown version": lambda: packed({"values.npy": npy(header_of("(0,)"), version=b"\x09\x00")}),
    "objects": lambda: packed({"values.npy": npy(header_of("(1,)", "|O"), bytes(8))}),
    "records": lambda: packed({"values.npy": npy(header_of("(1,)", "<f4,<f4"), bytes(8))}),
    "deep text": lambda: packed({"values.npy": text_member("[" * 10**6)}),
    "deep content": lambda: packed(
        {
            "values.npy": text_member(
                '{"format": "fastmlp checkpoint 2", "content": {"map": {"a": '
                + "[" * 900
                + "]" * 900
                + "}}}"
            )
        }
    ),
    "a long number": lambda: packed({"values.npy": text_member("1" * 10**5)}),
    "text not in UTF-8": lambda: packed({"values.npy": text_member(b"\xff\xfe{\0}\0")}),
    "twice the same name": lambda: packed(
        {"values.npy": text_member('{"format": 1, "format": "fastmlp checkpoint 2"}')}
    ),
    "text of another type": lambda: packed({"values.npy": text_member("[]")}),
    "encrypted": lambda: with_both(SMALL, 8, b"\x01\x00", 6),
    "strongly encrypted": lambda: with_both(SMALL, 8, b"\x40\x00", 6),
    "patched data": lambda: with_both(SMALL, 8, b"\x20\x00", 6),
    "an unknown method": lambda: with_both(SMALL, 10, b"\x63\x00", 8),
    "bzip2": lambda: packed({"values.npy": text_member(SPACES)}, zipfile.ZIP_BZIP2),
    "lzma": lambda: packed({"values.npy": text_member(SPACES)}, zipfile.ZIP_LZMA),
    "a version to come": lambda: patched(SMALL, b"PK\1\2", 6, b"\xff\x00"),
    "sizes of 4 GB": lambda: patched(SMALL, b"PK\1\2", 20, b"\xf0\xff\xff\xff" * 2),
    "deflated sizes of 4 GB": lambda: patched(
        packed({"values.npy": text_member(SPACES)}, zipfile.ZIP_DEFLATED),
        b"PK\1\2",
        24,
        b"\xf0\xff\xff\xff",
    ),
    "a directory of 4 GB": lambda: patched(SMALL, b"PK\5\6", 12, b"\xf0\xff\xff\xff"),
    "many members": lambda: packed({f"{i}.npy": b"" for i in range(20_000)}),
    "one member many times": lambda: same_member_often(20_000),
    "two members of one name": lambda: two_of_one_name(),
    "zeros only": lambda: bytes(2**20),
    "no byte": lambda: b"",
}


def same_member_often(n_times: int) -> bytes:
    """Return an archive whose directory names one array again and again (a bomb by overlap)."""
    local = struct.pack("<4s5H3L2H", b"PK\3\4", 20, 0, 0, 0, 0, 0, 2**16, 2**16, 5, 0) + b"a.npy"
    entry = struct.pack(
        "<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 2**16, 2**16, 5, 0, 0, 0, 0, 0, 0
    )
    body = local + bytes(2**16)
    directory = b"".join(entry + b"%05d"[:1] + b"%04d" % (i % 10**4) for i in range(n_times))
    end = struct.pack(
        "<4s4H2LH", b"PK\5\6", 0, 0, n_times % 2**16, n_times % 2**16, len(directory), len(body), 0
    )
    return body + directory + end


def two_of_one_name() -> bytes:
    member = text_member("{}")
    return packed({"values.npy": member, "valuez.npy": member}).replace(b"valuez", b"values")


LIMITED = """
import resource, sys
from fastmlp import MLP, CheckpointError, Trainer
trainer = Trainer(MLP([4, 6, 2], seed=3), backend="numpy")
limit = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize() + 2**26
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[1:]:
    try:
        trainer.load_checkpoint(path)
    except CheckpointError as error:
        assert "MemoryError" not in repr(error.__cause__.__cause__), path
        print("refused", path)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is limited by Linux's means")
def test_hostile_files_are_refused_in_64_mb_of_memory(tmp_path):
    files = []
    for name, make in HOSTILE.items():
        files.append(tmp_path / f"{name}.npz")
        files[-1].write_bytes(make())
    command = [sys.executable, "-c", LIMITED, *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [f"refused {file}" for file in files]


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_tables_raise_one_error(name, tmp_path):
    """The reader of tables also takes compressed arrays."""
    (tmp_path / "a.npz").write_bytes(HOSTILE[name]())
    try:
        with NpzFile(tmp_path / "a.npz") as arrays:
            for array in arrays.values():
                assert array.dtype == np.uint8
    except NpzError:
        pass


def test_arrays_of_all_plain_types_and_orders_are_read_as_numpy_reads_them(tmp_path):
    given = {
        "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "big endian": np.arange(3, dtype=">i4"),
        "text": np.array(["a", "bc"]),
        "bytes": np.array([b"a", b"bc"]),
        "dates": np.array(["2020-01-01"], dtype="M8[D]"),
        "empty": np.empty((0, 4), np.float16),
        "scalar": np.array(True),
        "complex": np.ones((2, 1, 3), complex),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **given)
        with NpzFile(tmp_path / "a.npz") as arrays:
            assert list(arrays) == list(given)
            for name, array in given.items():
                np.testing.assert_array_equal(arrays[name], array)
                assert arrays[name].dtype == array.dtype
                assert arrays[name].shape == array.shape


def test_checksums_tie_arrays_to_their_places(tmp_path):
    write_checkpoint(tmp_path / "a.npz", {"a": np.zeros(3), "b": np.ones(3)})
    members = unpacked((tmp_path / "a.npz").read_bytes())
    a, b = "array_0.npy", "array_1.npy"
    swapped = {**members, a: members[b], b: members[a]}
    (tmp_path / "a.npz").write_bytes(packed(swapped))
    with pytest.raises(CheckpointError, match="'array_0' is not the one that was written"):
        read_checkpoint(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (np.timedelta64(3, "s"), TypeError, "got np.timedelta64"),
        (np.datetime64("2024-01-01"), TypeError, "got np.datetime64"),
        (np.bytes_(b"a"), TypeError, "got np.bytes_"),
        (np.complex64(1), TypeError, "got np.complex64"),
        (np.ma.masked_array([1, 2], [False, True]), ValueError, "v has masked values"),
        ([{"a": np.array([None])}], TypeError, "got array"),
    ],
    ids=["duration", "date", "bytes", "complex", "masked", "objects"],
)
def test_a_value_that_would_come_back_as_another_is_refused(tmp_path, value, error, message):
    with pytest.raises(error, match=message):
        write_checkpoint(tmp_path / "a.npz", {"v": value})
    assert list(tmp_path.iterdir()) == []
