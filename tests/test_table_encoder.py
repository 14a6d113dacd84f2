"""`TableEncoder`: one matrix of numbers from tables of any columns."""

from __future__ import annotations

import datetime as dt
import json
import pickle
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
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
        "price": [Decimal(int(cents)).scaleb(-2) for cents in random.integers(0, 9999, N_ROWS)],
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


@pytest.mark.parametrize(
    ("days", "turns"),
    [(7, set()), (8, {"weekday"}), (365, {"weekday"}), (366, {"weekday", "year"})],
)
def test_more_than_a_week_or_a_year_turns(days: int, turns: set[str]) -> None:
    first = dt.date(2021, 1, 1)
    names = by_name({"t": [first, first + dt.timedelta(days)]})
    assert {name[2:-4] for name in names if name.endswith("_sin")} == turns


def test_what_was_constant_stays_0() -> None:
    encoder = TableEncoder().fit([[3.5, True, "a"], [3.5, True, "a"]])
    assert encoder.get_feature_names_out().tolist() == ["x0", "x1=True", "x2=a"]
    np.testing.assert_array_equal(encoder.transform([[7.0, False, "b"], [None, None, None]]), 0)


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
    lengths = TableEncoder([0]).fit(column([dt.timedelta(1), dt.timedelta(2)]))
    assert lengths.get_feature_names_out().tolist() == ["x0=172800"]
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


@pytest.mark.parametrize("first", [[True, False], ["1", "2"], [1, 2.5], [None, True]])
def test_what_a_list_holds_does_not_depend_on_its_other_columns(first: list[Any]) -> None:
    rows = [[first[0], 2.5], [first[1], 3]]
    np.testing.assert_array_equal(encoded(rows)[:, :-1], encoded(column(first)))


@st.composite
def typed_columns(draw: Any) -> list[Any]:
    kinds = st.sampled_from(
        [
            st.floats(allow_infinity=False, allow_nan=False),
            st.integers(-(2**63), 2**63 - 1),
            st.booleans(),
            st.text(),
            st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2250, 1, 1)),
            st.timedeltas(dt.timedelta(-90_000), dt.timedelta(90_000)),
        ]
    )
    values = draw(st.lists(draw(kinds), min_size=1, max_size=20))
    return [draw(st.sampled_from([one, one, None])) for one in values]


@given(typed_columns())
@settings(max_examples=40, deadline=None)
def test_any_column_is_the_same_in_any_form(values: list[Any]) -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    matrix = encoded(column(values))
    for frame in (
        pandas.DataFrame({"a": values}),
        pandas.DataFrame({"a": pandas.Series(values, dtype=object)}),
        polars.DataFrame({"a": values}),
    ):
        np.testing.assert_array_equal(encoded(frame), matrix)


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


def test_columns_of_arrow() -> None:
    pandas = pytest.importorskip("pandas")
    pa = pytest.importorskip("pyarrow", reason="pandas' columns of Arrow need it")
    when = columns()["when"]
    kinds = {
        "size": pa.float64(),
        "count": pa.int8(),
        "price": pa.decimal128(6, 2),
        "zip": pa.string(),
        "flag": pa.bool_(),
        "when": pa.timestamp("us"),
        "day": pa.date32(),
        "took": pa.duration("us"),
        "at": pa.time64("us"),
    }
    table = {name: columns()[name] for name in kinds}
    table["zoned"] = [None if one is None else one.replace(tzinfo=dt.UTC) for one in when]
    kinds["zoned"] = pa.timestamp("us", "UTC")
    frame = pandas.DataFrame(
        {name: pandas.array(table[name], pandas.ArrowDtype(kind)) for name, kind in kinds.items()}
    )
    np.testing.assert_array_equal(encoded(frame), encoded(of_objects(table)))


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
    np.testing.assert_allclose(
        encoded([[-most], [-most], [most], [most]]), clipped([[-0.5], [-0.5], [0.5], [0.5]])
    )


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


def refusals() -> list[tuple[str, Any, str]]:
    return [
        ("infinite", [[1.0], [np.inf]], r"column 'x0' holds an infinite value in row 1"),
        (
            "minus infinite",
            column([1, None, -np.inf]),
            r"column 'x0' holds an infinite value in row 2",
        ),
        ("too large", column([1, 10**400]), r"column 'x0' holds an integer beyond what float64"),
        (
            "infinite category",
            column(["a", np.inf]),
            "column 'x0' holds inf, and a category must be finite",
        ),
        (
            "huge category",
            column(["a", 10**400]),
            r"column 'x0' holds 1.*, and a category must be finite",
        ),
        ("dict", column(["a", {"b": 1}]), r"column 'x0' holds {'b': 1} in row 1, which is no"),
        ("bytes", column(["a", b"c"]), r"column 'x0' holds b'c' in row 1, which is no"),
        (
            "times beside text",
            column(["a", dt.date(2020, 1, 2)]),
            "mixes times, such as 2020-01-02",
        ),
        ("array of bytes", np.array([[b"a"]]), r"column 'x0' holds \|S1, and no numbers"),
        ("complex", np.array([[1j]]), "Complex data not supported"),
        ("no rows", np.zeros((0, 3)), r"0 sample\(s\)"),
        ("no columns", np.zeros((3, 0)), r"0 feature\(s\)"),
        (
            "no frame's rows",
            of_pandas({k: [] for k in "ab"} | {"count": [], "colour": [], "flag": []}),
            r"X has no rows: its shape is \(0, 5\)",
        ),
        ("one dimension", [1, 2], "Expected 2D array"),
        ("masked", np.ma.masked_equal([[1], [2]], 2), "X has masked values"),
    ]


@pytest.mark.parametrize(
    ("X", "sentence"), [one[1:] for one in refusals()], ids=[one[0] for one in refusals()]
)
def test_what_no_column_may_hold_is_refused_with_a_sentence(X: Any, sentence: str) -> None:
    encoder = TableEncoder().fit([[1.0, "a"], [2.0, "b"]])
    before = encoder.to_content()
    with pytest.raises(ValueError, match=sentence):
        encoder.fit(X)
    assert encoder.to_content() == before  # and the encoder is what it was
    assert encoder.transform([[1.0, "a"]]).shape == (1, 2)


def test_frames_with_names_twice_without_columns_or_of_other_libraries_are_refused() -> None:
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    frame = pandas.DataFrame([[1, 2, 3]], columns=["a", "b", "a"])
    with pytest.raises(ValueError, match="X has several columns of one name: 'a'"):
        TableEncoder().fit(frame)
    with pytest.raises(ValueError, match=r"X has no columns: its shape is \(2, 0\)"):
        TableEncoder().fit(frame.iloc[[0, 0], :0])
    with pytest.raises(TypeError, match=r"X is a polars LazyFrame, .*: collect\(\) it"):
        TableEncoder().fit(polars.LazyFrame({"a": [1]}))
    with pytest.raises(TypeError, match="X must be a frame of pandas or polars, or an array"):
        TableEncoder().fit(SimpleNamespace(columns=["a"], shape=(1, 1)))
    with pytest.raises(ValueError, match=r"X's column 'a' holds \[1\] in row 0"):
        TableEncoder().fit(polars.DataFrame({"a": [[1]]}))


@pytest.mark.parametrize("form", [of_pandas, of_polars])
def test_other_columns_than_at_fit_are_refused(form: Callable[[Any], Any]) -> None:
    table = columns()
    encoder = TableEncoder().fit(form(table))
    more = form({**table, "weight": table["tiny"]})
    with pytest.raises(ValueError, match=r"unseen at fit time:\n- weight"):
        encoder.transform(more)
    order = [*list(table)[1:], "size"]
    with pytest.raises(ValueError, match="must be in the same order"):
        encoder.transform(form(table)[order])
    with pytest.raises(ValueError, match=r"yet now missing:\n- size"):
        encoder.transform(form(table)[order[:-1]])
    with (
        pytest.warns(UserWarning, match="valid feature names"),
        pytest.raises(ValueError, match="X has 2 features, but TableEncoder is expecting 19"),
    ):
        encoder.transform([[1, 2]])


@pytest.mark.parametrize(
    ("fitted", "given", "sentence"),
    [
        ([1.0, 2.0], [3.0, "many"], "'many' in row 1, but held numbers"),
        ([1.0, 2.0], [None, dt.date(2020, 1, 2)], "'2020-01-02T00.*' in row 1, but held numbers"),
        (["01", "02"], [None, 1], "1 in row 1, but held text"),
        ([True, False], [True, 1, 0], "1 in row 1, but held truth values"),
        ([True, "a"], [True, "a", 2.0], "2 in row 2, but held text and truth values"),
        ([dt.date(2020, 1, 1)], ["2020-01-01"], "'2020-01-01' in row 0, but held times"),
        ([dt.timedelta(1)], [86_400], "86400 in row 0, but held lengths of time"),
        ([1, 2], [dt.timedelta(seconds=5)], "'5000000 microseconds' in row 0, but held numbers"),
        ([1, 2], [np.inf], "an infinite value in row 0"),
    ],
)
def test_values_of_another_kind_than_at_fit_are_refused(
    fitted: list[Any], given: list[Any], sentence: str
) -> None:
    encoder = TableEncoder().fit(column(fitted))
    with pytest.raises(ValueError, match=f"X's column 'x0' holds {sentence}"):
        encoder.transform(column(given))


def test_what_is_nothing_fits_any_column_and_a_column_of_nothing_takes_anything() -> None:
    for values in ([1, 2], ["a", "b"], [True, False], [dt.date(2020, 1, 1)], [dt.timedelta(3)]):
        encoder = TableEncoder().fit(column(values))
        for nothing in (None, np.nan, np.datetime64("NaT"), np.timedelta64("NaT")):
            assert encoder.transform(column([nothing])).shape == (1, 1)
        empty = TableEncoder().fit(column([None, None]))
        np.testing.assert_array_equal(empty.transform(column(values)), 0)


@pytest.mark.parametrize(
    ("settings", "error", "sentence"),
    [
        ({"max_categories": 0}, ValueError, "max_categories must be at least 1"),
        ({"max_categories": "all"}, TypeError, "max_categories must be an integer"),
        ({"dtype": "int32"}, ValueError, "dtype must be float32 or float64, got 'int32'"),
        ({"dtype": "text"}, ValueError, "dtype must be float32 or float64, got 'text'"),
        ({"categorical_features": [2]}, ValueError, "has 2, but X has no such columns"),
        ({"categorical_features": [-1]}, ValueError, "has -1, but X has no such columns"),
        ({"categorical_features": ["a"]}, ValueError, "has 'a', but X has no such columns"),
        ({"categorical_features": [True]}, ValueError, "a mask of 1 columns, but X has 2"),
        ({"categorical_features": [0.5]}, TypeError, "must be a list of names or numbers"),
        ({"categorical_features": "a"}, TypeError, "must be a list of names or numbers"),
        ({"categorical_features": 1}, TypeError, "must be a list of names or numbers"),
    ],
)
def test_parameters_out_of_range(settings: Any, error: type[Exception], sentence: str) -> None:
    with pytest.raises(error, match=sentence):
        TableEncoder(**settings).fit([[1, 2], [3, 4]])


def test_output_can_be_a_frame() -> None:
    pytest.importorskip("polars")
    frame = of_pandas(columns())
    matrix = TableEncoder().fit_transform(frame)
    for kind in ("pandas", "polars"):
        encoder = TableEncoder().set_output(transform=kind)
        there = encoder.fit_transform(frame)
        assert list(there.columns) == encoder.get_feature_names_out().tolist()
        np.testing.assert_array_equal(there.to_numpy(), matrix)


def test_in_a_pipeline_before_a_network() -> None:
    from sklearn.pipeline import make_pipeline

    frame = of_pandas(columns())
    labels = frame["sex"]
    network = ours.MLPClassifier((8,), solver="lbfgs", random_state=0, backend="numpy")
    model = make_pipeline(TableEncoder(), network).fit(frame, labels)
    assert model.score(frame, labels) == 1


@FORMS
def test_copies_and_files_encode_the_same_bits(form: Callable[[Any], Any]) -> None:
    X = form(columns())
    encoder = TableEncoder([0, 2], max_categories=20).fit(X)
    matrix = encoder.transform(X)
    text = json.dumps(encoder.to_content(), allow_nan=False)
    loaded = TableEncoder.from_content(json.loads(text))
    for copy in (pickle.loads(pickle.dumps(encoder)), loaded, clone(loaded).fit(X)):
        np.testing.assert_array_equal(copy.transform(X), matrix)
        names = encoder.get_feature_names_out().tolist()
        assert copy.get_feature_names_out().tolist() == names
        assert copy.to_content() == encoder.to_content()
        assert copy.n_features_in_ == encoder.n_features_in_
    assert not hasattr(clone(encoder), "n_features_in_")


def hostile() -> list[tuple[str, Callable[[dict[str, Any]], Any], str]]:
    """Return names, changes of a content of numbers, text and times, and what is said of them."""

    def feature(i: int, **fields: Any) -> Callable[[dict[str, Any]], Any]:
        return lambda content: content["features"][i].update(fields)

    return [
        ("no features", lambda content: content.update(features=[]), "no features"),
        ("a missing field", lambda content: content.pop("names"), "has no 'names'"),
        ("another field", lambda content: content.update(code="x"), "may hold only"),
        ("names of others", lambda content: content.update(names=["a"]), "must be 3 names"),
        ("names twice", lambda content: content.update(names=["a", "a", "b"]), "each once"),
        ("a name that is none", lambda content: content.update(names=[1, 2, 3]), "names"),
        ("a parameter", lambda content: content["parameters"].update(y=1), "may hold only"),
        ("a dtype", lambda content: content["parameters"].update(dtype="O"), "dtype"),
        ("no feature", lambda content: content.update(features=[1]), r"features\[0\] is 1"),
        ("another kind", feature(0, kind="os.system"), r"features\[0\].kind"),
        ("the wrong kind", feature(0, kind="category"), "missing|categories"),
        ("NaN", feature(0, center=[np.nan, 0.0]), r"features\[0\].center\[0\]"),
        ("infinite", feature(0, width=[np.inf, 0.0]), r"features\[0\].width\[0\]"),
        ("negative", feature(0, width=[-1.0, 0.0]), r"features\[0\].width\[0\]"),
        ("huge", feature(0, center=[10**400, 0.0]), r"features\[0\].center\[0\]"),
        ("too many", feature(0, center=[1.0, 2.0, 3.0]), r"features\[0\].center .* a list of 2"),
        ("text for numbers", feature(0, center="abc"), r"features\[0\].center"),
        ("no truth", feature(0, missing=1), r"features\[0\].missing"),
        ("categories twice", feature(1, categories=["a", "a", "b"]), "one stands twice"),
        ("one twice", feature(1, categories=[1, 1.0, 2]), "one stands twice"),
        ("out of order", feature(1, categories=["c", "b", "a"]), "out of order"),
        ("no categories", feature(1, categories=[], center=[], width=[]), "none"),
        ("lists", feature(1, categories=[["a"], "b", "c"]), r"categories\[0\]"),
        ("too few", feature(1, categories=["a", "b"]), r"features\[1\].center .* a list of 1"),
        ("other turns", feature(2, turns=["month"]), r"features\[2\].turns"),
        ("turns twice", feature(2, turns=["year", "year"]), r"features\[2\].turns"),
    ]


@pytest.mark.parametrize(
    ("change", "sentence"), [one[1:] for one in hostile()], ids=[one[0] for one in hostile()]
)
def test_what_is_no_content_of_an_encoder_is_refused(change: Any, sentence: str) -> None:
    times = [dt.datetime(2020, 1, 1, 5), dt.datetime(2020, 3, 1), dt.datetime(2022, 1, 1), None]
    X = of_objects({"a": [1.0, None, 2.0, 3.0], "b": ["a", "b", "c", "c"], "c": times})
    content = TableEncoder().fit(X).to_content()
    TableEncoder.from_content(content)
    change(content)
    with pytest.raises(ValueError, match=sentence):
        TableEncoder.from_content(content)


@pytest.mark.parametrize("content", [None, [], "text", 3])
def test_what_is_no_mapping_is_no_content(content: Any) -> None:
    with pytest.raises(ValueError, match=r"encoder is .*, but must be a mapping"):
        TableEncoder.from_content(content)
