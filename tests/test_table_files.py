"""Tables from files of every kind: read right, or refused in one sentence with line and column."""

from __future__ import annotations

import csv
import gzip
import io
import sys
from datetime import UTC, datetime
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fastmlp.datasets.cells import MISSING
from fastmlp.datasets.files import read_text_table
from fastmlp.datasets.table import Table, TableOptions
from fastmlp.datasets.table import read_table as read_whole_table

pl = pytest.importorskip("polars")


def read_table(path: Path, target: str | None = None, **options):
    """Return features and target."""
    targets = [] if target is None else [target]
    table = read_whole_table(path, TableOptions(target=targets, **options))
    return table.X, table.y


@pytest.fixture
def csv_file(tmp_path: Path):
    def write(text: str) -> Path:
        path = tmp_path / "table.csv"
        path.write_text(text, encoding="utf-8")
        return path

    return write


@given(
    X=arrays(np.float64, array_shapes(min_dims=2, max_dims=2), elements=st.floats(-1e300, 1e300)),
    separator=st.sampled_from(",;\t"),
    has_header=st.booleans(),
    position=st.integers(0, 3),
)
def test_a_written_table_is_read_back_exactly(
    tmp_path_factory, X: np.ndarray, separator: str, has_header: bool, position: int
):
    position = min(position, X.shape[1])
    y = np.arange(len(X))
    cells = np.insert(X.astype(object), position, y, axis=1)
    lines = [separator.join(repr(cell) for cell in row) for row in cells.tolist()]
    if has_header:
        lines.insert(0, separator.join(f"column {i}" for i in range(cells.shape[1])))
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text("\n".join(lines))
    X_read, y_read = read_table(path, target=str(position))
    np.testing.assert_array_equal(X_read, X)
    np.testing.assert_array_equal(y_read, y)
    assert y_read.dtype == np.int64


@pytest.mark.parametrize("target", [None, "kind", "2", "-1"])
def test_the_target_is_by_default_the_last_column_or_a_name_or_an_index(csv_file, target):
    X, y = read_table(csv_file("width,length,kind\n0.5,3,a\n1.5,4,b\n"), target)
    assert X.tolist() == [[0.5, 3], [1.5, 4]]
    assert y.tolist() == ["a", "b"]


def test_a_target_of_real_numbers_stays_real(csv_file):
    _, y = read_table(csv_file("1,0.5\n2,1\n"))
    assert y.dtype == np.float64
    assert y.tolist() == [0.5, 1]


@pytest.mark.parametrize(
    ("text", "target", "message"),
    [
        ("", None, "holds no row of values"),
        ("x,y\n", None, "holds no row of values"),
        ("1\n2\n", None, "has one column"),
        ("1,2\n3\n", None, "line 2: 1 cells, where 2 are wanted"),
        ("a,b\n1,2\n3,4,5\n", None, "line 3: 3 cells, where 2 are wanted"),
        (
            "a,b\n1,2\n,4\n",
            None,
            r"table.csv, line 3 \(row 2 of the table\), column 'a': a value is missing",
        ),
        ("a,b\n1,2\n", "c", "no column 'c'; its columns are named a, b, or 0 to 1"),
        ("1,2\n", "2", "no column '2'; its columns are 0 to 1"),
    ],
)
def test_a_bad_csv_file_is_one_clear_sentence(csv_file, text, target, message):
    with pytest.raises(ValueError, match=message):
        read_table(csv_file(text), target)


def test_a_byte_order_mark_and_blank_lines_do_no_harm(csv_file):
    X, y = read_table(csv_file("\ufeffa,b\n\n1.5,2\n\n2.5,3\n"), "b")
    assert X.tolist() == [[1.5], [2.5]]
    assert y.tolist() == [2, 3]


def test_a_file_that_is_no_text_is_refused(tmp_path: Path):
    path = tmp_path / "table.csv"
    for content, encoding in ((b"\xff\xfe\x00", "UTF-16"), (b"a\x00b", "UTF-8")):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=f"is not a text file in {encoding}"):
            read_table(path)


def test_a_table_of_another_kind_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"must end in one of \.csv"):
        read_table(tmp_path / "table.xlsx")


def test_npz_arrays_are_read_as_stored(tmp_path: Path):
    X = np.ones((3, 2), np.float16)
    np.savez(tmp_path / "table.npz", X=X, price=np.eye(3))
    X_read, y_read = read_table(tmp_path / "table.npz", target="price")
    assert X_read.tolist() == X.tolist()
    assert y_read.shape == (3, 3)


@pytest.mark.parametrize(
    ("stored", "message"),
    [
        ({"X": np.ones((3, 2))}, r"has no array 'y'; it holds \['X'\]"),
        ({"y": np.ones(3)}, r"has no array 'X'; it holds \['y'\]"),
        ({"X": np.ones((3, 2)), "y": np.ones(2)}, r"got shapes \(3, 2\) and \(2,\)"),
        ({"X": np.ones(3), "y": np.ones(3)}, r"got shapes \(3,\) and \(3,\)"),
    ],
)
def test_a_bad_npz_file_is_one_clear_sentence(tmp_path: Path, stored, message):
    np.savez(tmp_path / "table.npz", **stored)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / "table.npz")


def test_a_damaged_npz_file_is_refused(tmp_path: Path):
    path = tmp_path / "table.npz"
    np.savez(path, X=np.ones((3, 2)), y=np.ones(3))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match="is not a complete NPZ file"):
        read_table(path)


# Text that is not plainly a number -----------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [("1_1", "11"), ("007", "7"), ("٣", "3"), ("1e5", "1_00000"), ("0x10", "16"), ("1,5", "15")],
)
def test_labels_of_different_text_are_different_classes(csv_file, one: str, other: str):
    _, y = read_table(csv_file(f'a,b\n1,"{one}"\n2,"{other}"\n3,"{one}"\n'))
    assert y.tolist() == [one, other, one]


@pytest.mark.parametrize(("one", "other"), [("+7", "7"), (" 7 ", "7"), ("7.0", "7"), ("1e1", "10")])
def test_one_number_written_in_two_ways_is_one_label(csv_file, one: str, other: str):
    _, y = read_table(csv_file(f"a,b\n1,{one}\n2,{other}\n"))
    assert y[0] == y[1]
    assert y.dtype.kind in "if"


def test_whole_labels_beyond_64_bits_stay_apart(csv_file):
    _, y = read_table(csv_file("a,b\n1,12345678901234567890\n2,12345678901234567891\n"))
    assert len(set(y.tolist())) == 2


@pytest.mark.parametrize("other", ["", "NA", "0.5", "5"])
@pytest.mark.parametrize("base", [2**53, 2**63])
def test_large_whole_labels_stay_apart_beside_gaps_and_fractions(csv_file, base: int, other: str):
    path = csv_file(f"a,b\n1,{base}\n2,{base + 1}\n3,{other}\n")
    _, y = read_table(path, missing="drop")
    assert len(set(y.tolist())) == 2 + (other in ("0.5", "5"))


def test_large_labels_of_parquet_stay_apart_beside_gaps(tmp_path: Path):
    frame = pl.DataFrame({"a": [1, 2, 3], "b": [2**53, 2**53 + 1, None]})
    frame.write_parquet(tmp_path / "table.parquet")
    _, y = read_table(tmp_path / "table.parquet", missing="drop")
    assert len(set(y.tolist())) == 2


@pytest.mark.parametrize("cell", ["1_1", "٣", "0x10", "1 000", "\u22125", "5%", "1e", "1d5", "1,5"])
def test_a_feature_that_is_not_plainly_a_number_is_refused(csv_file, cell: str):
    with pytest.raises(ValueError, match=r"line 3 .*column 'a'.* is no number"):
        read_table(csv_file(f'a,b\n1,x\n"{cell}",y\n2,x\n'))


@pytest.mark.parametrize("cell", ["7", "+7", "7.", ".5", "-1e-3", "007", " 7 "])
def test_a_feature_that_is_plainly_a_number_is_read(csv_file, cell: str):
    X, _ = read_table(csv_file(f"a,b\n{cell},x\n2,y\n"))
    assert X[0, 0] == float(cell)


@pytest.mark.parametrize("cell", ["", "NA", "n/a", "NaN", "null", "None", "?", "  "])
@pytest.mark.parametrize("row", ["{},x", "1,{}"])
def test_missing_values_are_never_values(csv_file, cell: str, row: str):
    path = csv_file(f"a,b\n1,x\n2,y\n{row.format(cell)}\n")
    with pytest.raises(ValueError, match=r"line 4 \(row 3 of the table\), column '[ab]': a value"):
        read_table(path)
    X, _ = read_table(path, missing="drop")
    assert X.tolist() == [[1], [2]]


def test_missing_words_can_be_chosen(csv_file):
    _, y = read_table(csv_file("a,b\n1,None\n2,some\n"), na_values=["-9"])
    assert y.tolist() == ["None", "some"]


# Formats -------------------------------------------------------------------------------------


def test_truth_values_dates_and_text_become_numbers(csv_file):
    table = read_whole_table(
        csv_file("t,d,k,y\nTrue,1970-01-02,u,1\nfalse,1970-01-03T12:00,v,2\ntrue,1970-01-02,u,1\n")
    )
    assert table.names == ["t", "d", "k=u", "k=v"]
    assert table.X.tolist() == [[1, 1, 1, 0], [0, 2.5, 0, 1], [1, 1, 1, 0]]
    assert any("days since" in note for note in table.notes)


def test_a_decimal_comma_is_read_where_semicolons_separate_or_on_request(csv_file):
    assert read_table(csv_file("a;b\n1,5;x\n2;y\n"))[0].tolist() == [[1.5], [2]]
    path = csv_file("a\tb\n1,5\tx\n2\ty\n")
    with pytest.raises(ValueError, match="'1,5' is no number"):
        read_table(path)
    assert read_table(path, decimal=",")[0].tolist() == [[1.5], [2]]


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-8", "utf-16"])
def test_text_of_several_encodings_is_read(encoding: str, tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("größe,art\n1,süß\n2,sauer\n", encoding=encoding)
    assert read_table(path, "art")[1].tolist() == ["süß", "sauer"]


def test_comment_lines_are_left_out_and_lines_are_counted_with_them(csv_file):
    path = csv_file("# made today\n# a,b\n1,x\n# half\n2,y\n,x\n")
    with pytest.raises(ValueError, match=r"line 6 \(row 3 of the table\), column 'a'"):
        read_table(path)
    assert read_table(path, "b", missing="drop")[1].tolist() == ["x", "y"]


@pytest.mark.parametrize("ending", ["csv", "tsv", "csv.gz", "npy", "parquet", "feather"])
def test_one_table_is_read_alike_from_every_format(ending: str, tmp_path: Path):
    rows = np.array([[0.5, 1, 0], [1.5, 2, 1], [2.5, 3, 0]])
    path = tmp_path / f"table.{ending}"
    if ending == "npy":
        np.save(path, rows)
    elif ending in ("parquet", "feather"):
        frame = pl.DataFrame(rows, schema=["a", "b", "c"])
        (frame.write_parquet if ending == "parquet" else frame.write_ipc)(path)
    else:
        mark = "\t" if ending == "tsv" else ","
        text = "\n".join([mark.join("abc"), *(mark.join(map(str, row)) for row in rows)]).encode()
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    X, y = read_table(path)
    assert X.tolist() == rows[:, :2].tolist()
    assert y.tolist() == [0, 1, 0]


def test_parquet_keeps_what_its_columns_are(tmp_path: Path):
    frame = pl.DataFrame({"n": [1, None, 3], "t": [True, False, True], "k": ["u", "v", "u"]})
    frame = frame.with_columns(d=pl.date(1970, 1, 3), y=pl.Series(["007", "7", "007"]))
    frame.write_parquet(tmp_path / "table.parquet")
    X, y = read_table(tmp_path / "table.parquet", missing="drop")
    assert X.tolist() == [[1, 1, 1, 2], [3, 1, 1, 2]]
    assert y.tolist() == ["007", "007"]
    with pytest.raises(ValueError, match=r"row 1 \(from 0\), column 'n': a value is missing"):
        read_table(tmp_path / "table.parquet")


def test_parquet_without_polars_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[tables\]'"):
        read_table(tmp_path / "table.parquet")


@pytest.mark.parametrize("ending", ["parquet", "npy", "npz", "csv.gz"])
def test_a_damaged_file_of_any_format_is_one_sentence(ending: str, tmp_path: Path):
    path = tmp_path / f"table.{ending}"
    path.write_bytes(b"PAR1 nothing")
    with pytest.raises(ValueError, match="is not a complete"):
        read_table(path)


def test_columns_are_chosen_dropped_and_named(csv_file, tmp_path: Path):
    path = csv_file("a,b,c,d\n1,2,3,x\n4,5,6,y\n")
    assert read_table(path, "d", columns=["c", "a"])[0].tolist() == [[3, 1], [6, 4]]
    assert read_table(path, "d", drop=["b"])[0].tolist() == [[1, 3], [4, 6]]
    np.savez(tmp_path / "t.npz", inputs=np.ones((2, 3)), labels=np.array([[0], [1]]))
    X, y = read_table(tmp_path / "t.npz", "labels", features="inputs", drop=["0"])
    assert X.shape == (2, 2)
    assert y.tolist() == [0, 1]


# Awkward files --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "\ufeffa,b\n1.5,2\n3,4\n",
        "a,b\r\n1.5,2\r\n3,4\r\n",
        "a,b\r1.5,2\r3,4",
        "a,b,\n1.5,2,\n3,4,\n",
        " a , b\n 1.5 ,\t2 \n3,4\n\n",
        '"a","b"\n"1.5","2"\n3,4',
        '"a", "b"\n"1.5", "2" \n3, 4',
        '"a";b\n"1,5";2\n3;4\n',
        "a\tb\n1.5\t2\n3\t4\n",
        "# made today\na,b\n1.5,2\n# half\n3,4\n",
        "# a,b\n1.5,2\n3,4\n",
        "sep=;\na;b\n1,5;2\n3;4\n",
        '"sep=|"\na|b\n1.5|2\n3|4\n',
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "latin-1"])
def test_one_table_written_in_many_ways_is_one_table(tmp_path: Path, text: str, encoding: str):
    path = tmp_path / "table.csv"
    path.write_bytes(text.removeprefix("\ufeff" * (encoding == "latin-1")).encode(encoding))
    table = read_whole_table(path)
    assert table.X.tolist() == [[1.5], [3]]
    assert table.y.tolist() == [2, 4]
    assert (table.names, table.target) == (["a"], "b")


def test_a_marked_file_is_read_where_its_encoding_is_named_too(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("\ufeffa,b\n1,2\n3,4\n", encoding="utf-8")
    assert read_whole_table(path, TableOptions(encoding="utf-8")).names == ["a"]


@pytest.mark.parametrize("text", ["1,5;2,5;3\n2,5;3,5;4\n", "1,5;2,5;3,5\n2;3;4\n"])
def test_decimal_commas_do_not_hide_semicolons(csv_file, text: str):
    assert read_table(csv_file(text))[0][0].tolist() == [1.5, 2.5]


def test_a_delimiter_can_be_named(csv_file):
    assert read_table(csv_file("a|b,c\n1|2\n3|4\n"), delimiter="|")[0].tolist() == [[1], [3]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2,\n3,4,\n", "line 2: 3 cells, where 2 are wanted"),
        ("a,b,c\n1,2,3\n4,5\n", "line 3: 2 cells, where 3 are wanted"),
        ('a,b\n1,"x\ny"\n2\n', "line 4: 1 cells, where 2 are wanted"),
        ('a,b\n1,"x, y"\n2,x,y\n', "line 3: 3 cells, where 2 are wanted"),
        ('a,b\n1,"x\n2,y\n3,z\n', "line 2: a quote that begins there does not end"),
        ('a,b\n1,"x"y\n2,z\n', "line 2: a quote within a cell"),
        ('"a",b\n1,5"6"\n2,z\n', "line 2: a quote within a cell"),
        ("a\n1\n2\n", "has one column; .* or as --delimiter says"),
        ("1 2\n3 4\n", "has one column; .* or as --delimiter says"),
        ("a,a,b\n1,2,3\n", "2 columns 'a'; use an index"),
        ("a,b\n", "holds no row of values"),
        ("\n \n\n", "holds no row of values"),
        ("a,b,c\n1,,2\n3,NA,4\n", "column 'b': there is no value in any row"),
        ("a,b\n1,\n2,NA\n", "column 'b': there is no value in any row"),
        ("a,b\n1,2\n1e400,3\n", "line 3 .* column 'a': a number is infinite, or too large"),
        ("a,b\n1,2\n-Infinity,3\n", "line 3 .* column 'a': a number is infinite"),
        ("a,b\ninf,2\ninf,3\n", "line 2 .* column 'a': a number is infinite"),
        ("a,b\n1,2\nNaN,3\n", "line 3 .* column 'a': a value is missing"),
        ('a,b\n"1,234",2\n"5,678",3\n', "line 2 .* '1,234' is no number .* --decimal ,"),
        ('a,b\n999,2\n"1,234",3\n', "line 3 .* '1,234' is no number .* --decimal ,"),
        ("a;b\n1.234,5;2\n999;3\n", r"line 2 .* '1\.234,5' is no number .* thousands"),
        ("a;b\n1.5;2\n2,5;3\n", r"line 2 .* '1\.5' is no number"),
        ("a,b\n5%,2\n6%,3\n", "line 2 .* '5%' is no number .* percent"),
        ("a,b\n1'000,2\n1'001,3\n", 'line 2 .* "1\'000" is no number .* thousands'),
        ("a,b\n€5,2\n€6,3\n", "line 2 .* '€5' is no number .* currency"),
    ],
)
def test_what_is_wrong_with_a_file_is_one_sentence_with_line_and_column(csv_file, text, message):
    target = "a" if text.startswith("a,a") else None
    for missing in ("error", "mean") if "missing" not in message else ("error",):
        with pytest.raises(ValueError, match=rf"table\.csv[ ,:].*{message}") as raised:
            read_table(csv_file(text), target, missing=missing)
        assert "\n" not in str(raised.value)


def test_unmarked_utf_16_names_the_way_out(tmp_path: Path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n3,4\n", encoding="utf-16-le")
    with pytest.raises(ValueError, match="--encoding utf-16-le"):
        read_table(path)
    assert read_table(path, encoding="utf-16-le")[1].tolist() == [2, 4]


def test_inches_are_no_quotes(csv_file):
    assert read_table(csv_file('size,n\n5",1\n6",2\n5",1\n'), "size")[1][0] == '5"'


def test_separators_of_lines_within_a_cell_end_no_line(csv_file):
    _, y = read_table(csv_file("a,b\n1,x\u2028y\n2,z\x85\x0cw\n"))
    assert y.tolist() == ["x\u2028y", "z\x85\x0cw"]


def test_a_header_is_not_guessed_where_the_first_row_holds_values(csv_file):
    for first in ("1", "2024-12-31", "31.12.2024", "true", "-inf", "1,5"):
        table = read_text_table(csv_file(f'"{first}",x\n2,y\n'))
        assert (table.names, len(table.lines)) == ([], 2)
        assert "see --header" in table.notes[-1]
    assert read_text_table(csv_file("1,x\n2,y\n"), header=True).names == ["1", "x"]


words = st.text(st.sampled_from('ab ,;\t\n"#1.é\u2028'), max_size=6)


@given(
    rows=st.integers(2, 4).flatmap(
        lambda n: st.lists(st.lists(words, min_size=n, max_size=n), min_size=1, max_size=6)
    ),
    delimiter=st.sampled_from(",;\t"),
)
def test_any_cells_that_csv_writes_are_read_with_their_lines(tmp_path_factory, rows, delimiter):
    rows = [["n", *row] for row in rows]
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows(rows)
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text(out.getvalue(), encoding="utf-8", newline="")
    table = read_text_table(path, header=False, delimiter=delimiter)
    read = [[cell or "" for cell in column.to_list()] for column in table.columns]
    assert read == [list(column) for column in zip(*rows, strict=True)]
    heights = [1 + sum(cell.count("\n") for cell in row) for row in rows]
    assert table.lines == (1 + np.cumsum([0, *heights[:-1]])).tolist()


# Without polars ---------------------------------------------------------------------------------


def outcome(path: Path, options: TableOptions, polars: bool) -> tuple[str, Table | str]:
    with patch.dict(sys.modules, {} if polars else {"polars": None}):
        try:
            return "table", read_whole_table(path, options)
        except ImportError as error:
            return "needs", str(error)
        except ValueError as error:
            return "refused", str(error)


POOLS = [
    ["1", "2.5", "-3e2", "+4", " 8 ", "007", "1e400", "NA", ""],
    ["1", "7", "+7", "2.5", "9007199254740993", "12345678901234567890", "007", "1_1"],
    ["setosa", "Iris-setosa", "A3", "true", "False", "none", "inf", "x y", "é", "1"],
    ["2024-12-31", "1,5", "5%", "b", "1"],
]


def column_of(pool: list[str], size: int) -> st.SearchStrategy[list[str]]:
    """Return columns of some cells of a pool, which are mostly its plain first ones."""
    return st.integers(2, len(pool)).flatmap(
        lambda n: st.lists(st.sampled_from(pool[:n]), min_size=size, max_size=size)
    )


@given(
    columns=st.integers(1, 6).flatmap(
        lambda size: st.lists(
            st.sampled_from(POOLS).flatmap(lambda pool: column_of(pool, size)),
            min_size=1,
            max_size=3,
        )
    ),
    header=st.booleans(),
    words=st.sampled_from([MISSING, ["b", "2.5"]]),
    mark=st.sampled_from(";\t"),
)
@example(columns=[["1", "2.5"], ["a", "b"]], header=True, words=MISSING, mark=",")
def test_a_file_reads_the_same_with_and_without_polars(
    tmp_path_factory, columns, header, words, mark
):
    lines = [list(row) for row in zip(*columns, strict=True)]
    lines = [["first", "second", "third"][: len(columns)], *lines] if header else lines
    path = tmp_path_factory.mktemp("table") / "table.csv"
    path.write_text("\n".join(map(mark.join, lines)), encoding="utf-8")
    options = TableOptions(na_values=words)
    kind, without = outcome(path, options, polars=False)
    wanted_kind, wanted = outcome(path, options, polars=True)
    if kind == "needs":
        assert "pip install 'fastmlp[tables]'" in without
        return
    assert kind == wanted_kind
    if kind == "refused":
        assert without == wanted
    else:
        np.testing.assert_array_equal(without.X, wanted.X)
        np.testing.assert_array_equal(without.y, wanted.y)
        assert without.y.dtype == wanted.y.dtype
        assert (without.names, without.notes) == (wanted.names, wanted.notes)


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n3,4\n",
        "a,b\n1.5,2\n-3e2,4\n",
        "length,kind\n1,Iris-setosa\n2,Iris-virginica\n",
        "colour,n\nred,1.5\nblue,2\nred,3\n",
        "\ufeffa,b\r\n1,2\r\n\r\n3,4\r\n",
        "# made today\na;b\n1.5;x\n2;y\n",
    ],
)
def test_a_plain_file_needs_no_polars(csv_file, text: str):
    assert outcome(csv_file(text), TableOptions(), polars=False)[0] == "table"


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ('a,b\n1,"x"\n2,y\n', {}, "quotes enclose cells"),
        ("a;b\n1,5;2\n3;4\n", {}, "line 2 .*column 'a': '1,5' is more than a plain number"),
        ("a,b\n2024-12-31,1\n", {}, "line 2 .*column 'a': '2024-12-31' is more than a plain"),
        ("a,b\n1,2\n3,4\n", {"decimal": ","}, "--decimal"),
        ("a,b\n1,2\n3,4\n", {"date_format": ["%Y"]}, "--date-format"),
        ("a,b\n1,2\nNA,4\n", {}, "line 3 .*column 'a': 'NA' is more than a plain number"),
        ("a,b\n1,2\ntrue,4\n", {}, "line 3 .*column 'a': 'true' is more than a plain"),
        ("a,b\n1,x\n2,007\n", {}, "line 3 .*column 'b': '007' is more than a plain"),
    ],
)
def test_what_needs_polars_says_why_and_names_the_extra(csv_file, text, options, reason):
    path = csv_file(text)
    with (
        patch.dict(sys.modules, {"polars": None}),
        pytest.raises(ImportError, match=rf"{reason}.* pip install 'fastmlp\[tables\]'"),
    ):
        read_whole_table(path, TableOptions(**options))


# Dates ------------------------------------------------------------------------------------------


def days(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() / 86400


@pytest.mark.parametrize(
    ("dates", "meant"),
    [
        (["2024-12-31", "2024-01-02"], ["2024-12-31", "2024-01-02"]),
        (["2024-12-31 13:45:00", "2024-01-02T00:30"], ["2024-12-31T13:45", "2024-01-02T00:30"]),
        (["2024-12-31T13:45:00Z", "2024-12-31T13:45+02:00"], ["2024-12-31T13:45"] * 2),
        (["31.12.2024", "1.2.2024"], ["2024-12-31", "2024-02-01"]),
        (["31.12.2024 13:45", "01.02.2024 00:00:30"], ["2024-12-31T13:45", "2024-02-01T00:00:30"]),
        (["31/12/2024", "1/2/2024"], ["2024-12-31", "2024-02-01"]),
        (["1/2/2024", "12/31/2024"], ["2024-01-02", "2024-12-31"]),
        (["12-31-2024", "1-2-2024"], ["2024-12-31", "2024-01-02"]),
        (["12/31/2024 1:45 PM", "1/2/2024 12:05AM"], ["2024-12-31T13:45", "2024-01-02T00:05"]),
        (["2024/12/31", "2024/1/2"], ["2024-12-31", "2024-01-02"]),
        (["2024.1.2", "2024-1-2"], ["2024-01-02"] * 2),
    ],
)
def test_dates_that_can_mean_one_day_are_that_day(csv_file, dates, meant):
    table = read_whole_table(csv_file(f"when,y\n{dates[0]},u\n{dates[1]},v\n"))
    zone = 2 / 24 if "+02:00" in dates[1] else 0
    np.testing.assert_allclose(
        table.X[:, 0], [days(meant[0]), days(meant[1]) - zone], rtol=0, atol=1e-9
    )
    (note,) = table.notes
    assert "dates are read as days since 1970-01-01" in note
    assert dates[0].startswith("2024-12-31") or f"{dates[0]!r} as 2024-" in note


@pytest.mark.parametrize(
    ("dates", "row", "reason"),
    [
        (["1/2/2024", "3/4/2024"], 1, r"'1/2/2024' may .*--date-format %d/%m/%Y or %m/%d/%Y"),
        (["1-2-2024", "3-4-2024"], 1, r"'1-2-2024' may .*--date-format %d-%m-%Y or %m-%d-%Y"),
        (["31/12/2024", "12/31/2024"], 2, "'12/31/2024' has the month first, where '31/12/2024'"),
        (["31.12.24", "1.2.24"], 1, r"'31\.12\.24' looks like a date; .*--date-format"),
        (["31 Dec 2024", "1 Jan 2024"], 1, "'31 Dec 2024' looks like a date; .*--date-format"),
        (['"Dec 31, 2024"', '"May 1, 2024"'], 1, "'Dec 31, 2024' looks like a date; "),
        (["2024-01-05", "soon"], 2, "'soon' is no date, where other rows hold dates"),
        (["2024-01-05", "2024-02-30"], 2, "'2024-02-30' is no date of the calendar"),
        (["31.12.2024", "31.4.2024"], 2, r"'31\.4\.2024' is no date of the calendar"),
        (["2024-01-05T10:00", "2024-01-05T25:00"], 2, "'2024-01-05T25:00' is no date of the"),
    ],
)
def test_unclear_dates_name_a_sample_and_how_to_say_it(csv_file, dates, row, reason):
    path = csv_file(f"when,y\n{dates[0]},u\n{dates[1]},v\n{dates[0]},u\n")
    with pytest.raises(ValueError, match=f"line {row + 1} .*column 'when': {reason}"):
        read_table(path)
    assert read_table(path, categorical=["when"])[0].shape == (3, 2)


@pytest.mark.parametrize(
    ("dates", "word", "meant"),
    [
        (["1/2/2024", "3/4/2024"], "%d/%m/%Y", ["2024-02-01", "2024-04-03"]),
        (["1/2/2024", "3/4/2024"], "when=%m/%d/%Y", ["2024-01-02", "2024-03-04"]),
        (["31.12.24", "1.2.24"], "%d.%m.%y", ["2024-12-31", "2024-02-01"]),
        (["31 Dec 2024", "1 Jan 2024"], "%d %b %Y", ["2024-12-31", "2024-01-01"]),
        (["20241231", "20240102"], "when=%Y%m%d", ["2024-12-31", "2024-01-02"]),
        (["2024-12-31", "2024-01-02"], "%d.%m.%y", ["2024-12-31", "2024-01-02"]),
    ],
)
def test_a_format_says_what_dates_mean(csv_file, dates, word, meant):
    path = csv_file(f"when,n,y\n{dates[0]},1,u\n,2,u\n{dates[1]},3,v\n")
    X, _ = read_table(path, date_format=[word], missing="mean")
    np.testing.assert_array_equal(X[:, 0], [days(meant[0]), np.nan, days(meant[1])])
    assert X[:, 1].tolist() == [1, 2, 3]


@pytest.mark.parametrize("word", ["%Q", "%d.%m.%", "dd.mm.yyyy", "when=%d-%!"])
def test_a_format_that_python_does_not_know_is_refused(csv_file, word: str):
    with pytest.raises(ValueError, match=r"the date format '.*' (is not one of|names no part)"):
        read_table(csv_file("when,y\n1/2/2024,u\n3/4/2024,v\n"), date_format=[word])


def test_the_first_and_last_days_are_days(csv_file):
    path = csv_file("when,y\n0001-01-01T00:00+14:00,u\n9999-12-31T23:59-12:00,v\n")
    X, _ = read_table(path)
    assert X[:, 0].round().tolist() == [days("0001-01-01") - 1, days("9999-12-31") + 1]


def test_a_format_that_a_cell_does_not_fit_is_refused(csv_file):
    path = csv_file("when,y\n1/2/2024,u\n13/4/2024,v\n")
    for word in ("%m/%d/%Y", "when=%m/%d/%Y"):
        with pytest.raises(ValueError, match=r"line 3 .*'13/4/2024' does not fit the date format"):
            read_table(path, date_format=[word])
    with pytest.raises(ValueError, match=r"line 2 .*'1/2/2024' does not fit the date format '%Y'"):
        read_table(path, date_format=["when=%Y"])


# Names of categories ------------------------------------------------------------------------------


@pytest.mark.parametrize("which", ["zip", "0", "-2"])
def test_categories_of_different_text_stay_apart(csv_file, which: str):
    path = csv_file("zip,y\n00501,u\n501,v\n00501,u\n")
    table = read_whole_table(path, TableOptions(categorical=[which]))
    assert table.names == ["zip=00501", "zip=501"]
    assert table.X.tolist() == [[1, 0], [0, 1], [1, 0]]
