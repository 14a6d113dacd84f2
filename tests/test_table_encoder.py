"""`TableEncoder`: one matrix of numbers from tables of any columns."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ours = pytest.importorskip("fastmlp.sklearn", reason="needs scikit-learn")

from scipy import sparse  # noqa: E402
from sklearn.base import clone  # noqa: E402

TableEncoder = ours.TableEncoder

N_ROWS = 60


def columns() -> dict[str, list[Any]]:
    """Return columns with every trouble that a frame may have, as lists of Python's objects."""
    random = np.random.default_rng(0)
    size = random.normal(size=N_ROWS).tolist()
    colour = random.choice(["red", "blue", "grün"], N_ROWS).tolist()
    start = dt.datetime(2019, 5, 4, 12)
    when = [start + dt.timedelta(hours=int(hours)) for hours in random.integers(0, 20_000, N_ROWS)]
    table: dict[str, list[Any]] = {
        "size": [None if i % 7 == 0 else one for i, one in enumerate(size)],
        "count": random.integers(-5, 90, N_ROWS).tolist(),
        "id": [2**60 + int(i) for i in random.integers(0, 2**40, N_ROWS)],
        "tiny": (1e-30 * random.normal(size=N_ROWS)).tolist(),
        "huge": (1e30 * random.normal(size=N_ROWS)).tolist(),
        "tail": np.exp(20 * random.normal(size=N_ROWS)).tolist(),
        "price": [Decimal(int(cents)) / 100 for cents in random.integers(0, 9999, N_ROWS)],
        "colour": [None if i % 11 == 0 else one for i, one in enumerate(colour)],
        "sex": random.choice(["f", "m"], N_ROWS).tolist(),
        "zip": random.choice(["01067", "10115"], N_ROWS).tolist(),
        "flag": [
            None if i % 13 == 5 else bool(one)
            for i, one in enumerate(random.integers(0, 2, N_ROWS))
        ],
        "rare": [i == 3 for i in range(N_ROWS)],
        "always": [True] * N_ROWS,
        "when": [None if i == 4 else one for i, one in enumerate(when)],
        "day": [one.date() for one in when],
        "took": [dt.timedelta(seconds=int(i)) for i in random.integers(0, 9000, N_ROWS)],
        "at": [one.time() for one in when],
        "constant": [3.5] * N_ROWS,
        "nothing": [None] * N_ROWS,
    }
    return table


def of_pandas(table: dict[str, list[Any]]) -> Any:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(table)
    frame["colour"] = frame["colour"].astype(pandas.CategoricalDtype(["x", "red", "grün", "blue"]))
    frame["count"] = frame["count"].astype("Int32")
    frame["flag"] = frame["flag"].astype("boolean")
    return frame


def of_polars(table: dict[str, list[Any]]) -> Any:
    polars = pytest.importorskip("polars")
    kinds = {"colour": polars.Categorical, "sex": polars.Enum(["m", "f"]), "count": polars.Int8}
    return polars.DataFrame(table, schema_overrides=kinds)


def of_objects(table: dict[str, list[Any]]) -> np.ndarray:
    return np.array(list(zip(*table.values(), strict=True)), dtype=object)


def of_lists(table: dict[str, list[Any]]) -> list[Any]:
    return of_objects(table).tolist()


FORMS = pytest.mark.parametrize("form", [of_pandas, of_polars, of_objects, of_lists])


def encoded(X: Any, **settings: Any) -> np.ndarray:
    return TableEncoder(dtype=np.float64, **settings).fit_transform(X)


def column(values: list[Any]) -> np.ndarray:
    return np.array([[one] for one in values], dtype=object)


def by_name(table: dict[str, list[Any]], **settings: Any) -> dict[str, np.ndarray]:
    """Return the encoded columns by their names."""
    encoder = TableEncoder(dtype=np.float64, **settings)
    matrix = encoder.fit_transform(of_objects(table))
    return dict(zip(encoder.get_feature_names_out(list(table)), matrix.T, strict=True))


def clipped(x: Any) -> np.ndarray:
    return np.asarray(x) / np.sqrt(1 + (np.asarray(x) / 3) ** 2)


def robust(x: Any) -> np.ndarray:
    """Return what RealMLP's article writes in its section on preprocessing, of present values."""
    x = np.asarray(x, dtype=np.float64)
    least, first, median, third, most = np.nanquantile(x, (0, 0.25, 0.5, 0.75, 1))
    factor = 1 / (third - first) if third > first else 2 / (most - least)
    return np.nan_to_num(clipped(factor * (x - median)))


@FORMS
def test_every_trouble_in_one_table(form: Callable[[Any], Any]) -> None:
    table = columns()
    X = form(table)
    encoder = TableEncoder().fit(X)
    matrix = encoder.transform(X)
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert np.isfinite(matrix).all()
    assert np.abs(matrix).max() <= 3
    names = encoder.get_feature_names_out(None if hasattr(X, "columns") else list(table)).tolist()
    assert names == [
        *("size", "size=missing", "count", "id", "tiny", "huge", "tail", "price"),
        *("colour=blue", "colour=grün", "colour=red", "sex=m", "zip=10115"),
        *("flag=True", "rare=True", "always=True"),
        *("when=time", "when=year_sin", "when=year_cos", "when=weekday_sin", "when=weekday_cos"),
        *("when=hour_sin", "when=hour_cos", "when=missing"),
        *("day=time", "day=year_sin", "day=year_cos", "day=weekday_sin", "day=weekday_cos"),
        *("took", "at", "constant", "nothing"),
    ]
    np.testing.assert_array_equal(matrix, TableEncoder().fit_transform(of_objects(table)))
    spread = dict(zip(names, np.ptp(matrix, axis=0), strict=True))
    assert {name for name, one in spread.items() if one == 0} == {
        "always=True",
        "constant",
        "nothing",
    }


@FORMS
def test_what_was_fitted_on_one_form_encodes_any_other(form: Callable[[Any], Any]) -> None:
    pytest.importorskip("pandas")
    table = columns()
    encoder = TableEncoder().fit(of_pandas(table))
    matrix = encoder.transform(of_pandas(table))
    X = form(table)
    if hasattr(X, "columns"):
        np.testing.assert_array_equal(encoder.transform(X), matrix)
    else:
        with pytest.warns(UserWarning, match="valid feature names"):
            np.testing.assert_array_equal(encoder.transform(X), matrix)


@FORMS
def test_rows_are_encoded_alone_and_in_any_order(form: Callable[[Any], Any]) -> None:
    table = columns()
    encoder = TableEncoder().fit(form(table))
    matrix = encoder.transform(form(table))
    order = np.random.default_rng(1).permutation(N_ROWS)
    mixed = {name: [values[i] for i in order] for name, values in table.items()}
    np.testing.assert_array_equal(encoder.transform(form(mixed)), matrix[order])
    np.testing.assert_array_equal(TableEncoder().fit_transform(form(mixed)), matrix[order])
    for i in range(0, N_ROWS, 5):
        row = {name: [values[i]] for name, values in table.items()}
        np.testing.assert_array_equal(encoder.transform(form(row)), matrix[[i]])


def test_columns_have_the_scale_of_the_article() -> None:
    table = columns()
    found = by_name(table)
    plain = {name: np.array(table[name], dtype=np.float64) for name in ("size", "tail", "price")}
    plain["size=missing"] = np.isnan(plain["size"])
    plain["colour=red"] = [one == "red" for one in table["colour"]]
    plain["sex=m"] = [1 if one == "m" else -1 for one in table["sex"]]
    plain["flag=True"] = [0 if one is None else 1 if one else -1 for one in table["flag"]]
    plain["rare=True"] = [1 if one else -1 for one in table["rare"]]
    plain["took"] = [one.total_seconds() for one in table["took"]]
    plain["at"] = [one.hour * 3600 for one in table["at"]]
    for name, values in plain.items():
        np.testing.assert_allclose(
            found[name], robust(values), rtol=1e-12, atol=1e-12, err_msg=name
        )


def test_what_stands_for_missing_and_unknown_values() -> None:
    X = of_objects({"number": [1.0, 2.0, 4.0, None], "kind": ["a", "b", "c", "a"]})
    encoder = TableEncoder(dtype=np.float64).fit(X)
    assert encoder.get_feature_names_out().tolist() == [
        *("x0", "x0=missing", "x1=a", "x1=b", "x1=c"),
    ]
    gaps = np.array([[None, None], [np.nan, "unknown"], [2.0, "b"]], dtype=object)
    there = encoder.transform(gaps)
    np.testing.assert_array_equal(there[0], there[1])
    np.testing.assert_array_equal(there[:, 0], 0)  # the median
    assert there[0, 1] > there[2, 1]
    assert there[2, 3] > there[0, 3]
    whole = TableEncoder().fit([[1.0], [2.0], [4.0]])  # nothing was missing then
    np.testing.assert_array_equal(whole.transform([[np.nan], [None]]), 0)


@pytest.mark.parametrize("nothing", [None, np.nan, "NaT", "NA", np.datetime64("NaT")])
def test_every_kind_of_nothing_is_missing(nothing: Any) -> None:
    if isinstance(nothing, str):
        nothing = getattr(pytest.importorskip("pandas"), nothing)
    for present in ("text", 1, 2.5, True, dt.date(2020, 1, 1), dt.timedelta(1)):
        X = column([present, nothing, present])
        np.testing.assert_array_equal(encoded(X), encoded(column([present, None, present])))


def test_times_turn() -> None:
    days = [dt.datetime(2021, 1, 1) + dt.timedelta(hours=6 * i) for i in range(4 * 800)]
    found = by_name({"when": days})
    hour = np.array([6.0 * (i % 4) for i in range(len(days))]) / 24
    weekday = np.array([one.weekday() for one in days]) / 7
    year = np.array(
        [
            (one - dt.datetime(one.year, 1, 1))
            / (dt.datetime(one.year + 1, 1, 1) - dt.datetime(one.year, 1, 1))
            for one in days
        ]
    )
    for name, turned in (("hour", hour), ("weekday", weekday), ("year", year)):
        for wave in ("sin", "cos"):
            wanted = robust(getattr(np, wave)(2 * np.pi * turned))
            np.testing.assert_allclose(found[f"when={name}_{wave}"], wanted, atol=1e-9)
    seconds = [one.replace(tzinfo=dt.UTC).timestamp() for one in days]
    np.testing.assert_allclose(found["when=time"], robust(seconds), atol=1e-9)


@pytest.mark.parametrize(
    ("step", "turns"),
    [
        (dt.timedelta(minutes=1), {"hour"}),
        (dt.timedelta(days=1), {"weekday"}),
        (dt.timedelta(days=30), {"weekday", "year"}),
        (dt.timedelta(hours=90), {"hour", "weekday"}),
    ],
)
def test_only_what_varies_turns(step: dt.timedelta, turns: set[str]) -> None:
    names = by_name({"t": [dt.datetime(2020, 3, 1) + i * step for i in range(20)]})
    assert {name[2:-4] for name in names if name.endswith("_sin")} == turns


def test_time_zones_tell_the_hour_and_utc_tells_the_time() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    utc = [dt.datetime(2023, 3, 25, 22, tzinfo=dt.UTC) + dt.timedelta(hours=i) for i in range(12)]
    series = pandas.Series(utc).dt.tz_convert("Europe/Berlin")
    frames = [
        pandas.DataFrame({"t": series}),
        polars.DataFrame({"t": polars.Series(utc).dt.convert_time_zone("Europe/Berlin")}),
        column(list(series)),
    ]
    first, second, third = map(encoded, frames)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(first, third)
    there = encoded(column(utc))
    np.testing.assert_array_equal(first[:, 0], there[:, 0])
    assert (first[:, 1] != there[:, 1]).any()


def test_max_categories_keeps_the_most_frequent() -> None:
    X = column(["d"] * 3 + ["a"] * 1 + ["c"] * 2 + ["b"] * 2 + [None] * 9)
    encoder = TableEncoder(max_categories=3, dtype=np.float64).fit(X)
    assert encoder.get_feature_names_out().tolist() == ["x0=b", "x0=c", "x0=d"]
    np.testing.assert_array_equal(*encoder.transform([["a"], [None]]))
    two = TableEncoder(max_categories=2, dtype=np.float64).fit(X)
    assert two.get_feature_names_out().tolist() == ["x0=d"]


@pytest.mark.parametrize(
    "chosen", [["b", "c"], [1, 2], (2, 1), np.array([False, True, True]), [False, True, True]]
)
def test_columns_can_be_made_categories(chosen: Any) -> None:
    pandas = pytest.importorskip("pandas")
    times = pandas.to_datetime(["2020-01-01", "2020-01-02", "2020-01-01"])
    frame = pandas.DataFrame({"a": [1, 2, 3], "b": [7, 2**62, 2**62 + 1], "c": times})
    encoder = TableEncoder(chosen).fit(frame)
    names = encoder.get_feature_names_out().tolist()
    assert names[:4] == ["a", "b=7", f"b={2**62}", f"b={2**62 + 1}"]
    assert len(names) == 5
    # A gap makes pandas' integers floats: they are the same categories.
    encoder = TableEncoder(["n"]).fit(pandas.DataFrame({"n": [1, 2, 3]}))
    with_gap = encoder.transform(pandas.DataFrame({"n": [1, None, 3]}))
    np.testing.assert_array_equal(
        with_gap[[0, 2]], encoder.transform(pandas.DataFrame({"n": [1, 3]}))
    )


def test_one_and_true_and_text_are_categories_of_their_own() -> None:
    X = column([1, True, "1", "True", 1.0, 2.5])
    encoder = TableEncoder().fit(X)
    names = encoder.get_feature_names_out().tolist()
    assert names == ["x0=1", "x0=2.5", "x0='1'", "x0='True'", "x0=True"]
    hot = encoder.transform(X) > 1
    assert hot.argmax(axis=1).tolist() == [0, 4, 2, 3, 0, 1]
    assert (hot.sum(axis=1) == 1).all()


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_array", "coo_array", "dok_matrix"])
def test_sparse_matrices_are_their_numbers(kind: str) -> None:
    X = np.random.default_rng(0).poisson(0.4, (30, 6)).astype(np.float64)
    X[3, 2] = np.nan
    np.testing.assert_array_equal(encoded(getattr(sparse, kind)(X)), encoded(X))


@pytest.mark.parametrize("dtype", ["f2", "f4", ">f8", "longdouble", "u1", "i8", "O"])
def test_arrays_of_any_numbers(dtype: str) -> None:
    X = np.random.default_rng(0).integers(0, 9, (30, 3))
    np.testing.assert_array_equal(encoded(X.astype(dtype)), encoded(X.astype(np.float64)))


def test_arrays_of_text_and_times() -> None:
    text = np.array([["a", "x"], ["b", "y"], ["c", "x"]])
    np.testing.assert_array_equal(encoded(text), encoded(text.astype(object)))
    times = np.array([["2020-01-01T07"], ["2021-05-01T08"], ["NaT"]], dtype="M8[h]")
    np.testing.assert_array_equal(encoded(times), encoded(times.astype(object)))
    lengths = np.array([[3], [70], ["NaT"]], dtype="m8[m]")
    np.testing.assert_array_equal(encoded(lengths), encoded(lengths.astype(object)))


def test_pandas_own_dtypes() -> None:
    pandas = pytest.importorskip("pandas")
    numbers = [0.5, 1.5, 7.0, 3.0]
    cut = pandas.cut(pandas.Series(numbers), [0, 1, 2, 8])
    frame = pandas.DataFrame(
        {
            "float": pandas.array([0.5, None, 7.0, 3.0], dtype="Float32"),
            "sparse": pandas.arrays.SparseArray(numbers),
            "string": pandas.array(["a", None, "b", "c"], dtype="string"),
            "period": pandas.period_range("2020-01", periods=4, freq="M"),
            "cut": cut,
            "interval": pandas.arrays.IntervalArray(cut.tolist()),
        }
    )
    encoder = TableEncoder().fit(frame)
    names = encoder.get_feature_names_out().tolist()
    assert names[:6] == ["float", "float=missing", "sparse", "string=a", "string=b", "string=c"]
    assert names[6:9] == ["period=time", "period=weekday_sin", "period=weekday_cos"]
    assert names[9:12] == ["cut=(0, 1]", "cut=(1, 2]", "cut=(2, 8]"]
    assert names[12:] == [name.replace("cut", "interval") for name in names[9:12]]
    assert np.isfinite(encoder.transform(frame)).all()


@pytest.mark.parametrize("scale", [1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_numbers_of_any_scale(scale: float) -> None:
    x = np.random.default_rng(0).normal(size=(50, 1))
    np.testing.assert_allclose(encoded(scale * x), encoded(x), rtol=1e-9)
    encoder = TableEncoder().fit(scale * x)
    beyond = encoder.transform([[np.finfo(np.float64).max], [-np.finfo(np.float64).max]])
    assert np.abs(beyond).min() > 1e-4
    assert np.sign(beyond[:, 0]).tolist() == [1, -1]
    assert np.abs(beyond).max() <= 3


def test_the_widest_range_of_all() -> None:
    most = np.finfo(np.float64).max
    matrix = encoded([[-most], [0.0], [1.0], [most]])
    assert np.isfinite(matrix).all()
    assert (np.diff(matrix[:, 0]) >= 0).all()


CELLS = st.one_of(
    st.none(),
    st.floats(allow_infinity=False),
    st.integers(),
    st.booleans(),
    st.text(max_size=3),
)
DATES = st.one_of(st.none(), st.datetimes(), st.dates())


@given(st.one_of(st.lists(CELLS, min_size=1), st.lists(DATES, min_size=1)), st.randoms())
@settings(max_examples=60, deadline=None)
def test_any_column_is_finite_and_its_rows_are_alone(values: list[Any], random: Any) -> None:
    try:
        encoder = TableEncoder().fit(column(values))
    except ValueError as error:
        assert "beyond what float64 can hold" in str(error)  # noqa: PT017
        return
    matrix = encoder.transform(column(values))
    assert np.isfinite(matrix).all()
    assert np.abs(matrix).max() <= 3
    rows = random.sample(range(len(values)), random.randint(1, len(values)))
    some = encoder.transform(column([values[i] for i in rows]))
    np.testing.assert_array_equal(some, matrix[rows])
    there = TableEncoder.from_content(json.loads(json.dumps(encoder.to_content())))
    np.testing.assert_array_equal(there.transform(column(values)), matrix)
