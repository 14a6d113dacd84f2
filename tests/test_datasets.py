from __future__ import annotations

import functools
import gzip
import hashlib
import sys
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from fastmlp.datasets import idx, load_digits, load_fashion_mnist, load_mnist
from fastmlp.datasets.idx import parse_idx, unpack
from fastmlp.datasets.mnist import MNIST, TEST_LABELS, TRAIN_IMAGES, Source, load
from fastmlp.datasets.table import TableOptions
from fastmlp.datasets.table import read_table as read_whole_table


def read_table(path: Path, target: str | None = None, **options):
    """Return features and target."""
    targets = [] if target is None else [target]
    table = read_whole_table(path, TableOptions(target=targets, **options))
    return table.X, table.y


VECTOR = bytes([0, 0, 8, 1]) + (3).to_bytes(4, "big") + bytes([7, 2, 1])


def md5(content: bytes) -> str:
    return hashlib.md5(content).hexdigest()


@pytest.fixture
def tiny(idx_folder: Path) -> Source:
    """Return the source of the tiny data set; nothing listens at its address."""
    packed = {file.name: file.read_bytes() for file in idx_folder.iterdir()}
    return Source(
        title="Tiny",
        folder=idx_folder.name,
        url="http://127.0.0.1:9/",
        packed_md5={name: md5(content) for name, content in packed.items()},
        content_md5={name: md5(gzip.decompress(content)) for name, content in packed.items()},
    )


@pytest.fixture
def local_data(idx_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FASTMLP_DATA", str(idx_folder.parent))
    return idx_folder


@pytest.fixture
def no_local_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the data come from the web, into a cache of the test's own."""
    pooch = pytest.importorskip("pooch")
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / "cache" / name)


@pytest.fixture
def web(idx_folder: Path, tiny: Source):
    """Serve the tiny data set's folder."""
    handler = functools.partial(QuietHandler, directory=str(idx_folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield replace(tiny, url=f"http://127.0.0.1:{server.server_address[1]}/")
        server.shutdown()
        thread.join()


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


def assert_is_tiny(data: tuple) -> None:
    (X_train, y_train), (X_test, y_test) = data
    assert X_train.shape == (5, 12)
    assert X_test.shape == (3, 12)
    assert X_train.dtype == X_test.dtype == np.float32
    assert y_train.dtype == y_test.dtype == np.int64
    np.testing.assert_array_equal(y_train, np.arange(5))
    np.testing.assert_array_equal(y_test, np.arange(3))
    pixels = np.random.default_rng(0).integers(0, 256, (5, 12), dtype=np.uint8)
    np.testing.assert_allclose(X_train, pixels / 255, rtol=1e-7)


def test_digits_have_the_documented_shapes_types_and_range():
    (X_train, y_train), (X_test, y_test) = load_digits()
    assert X_train.shape == (1442, 64)
    assert X_test.shape == (355, 64)
    for X, y in ((X_train, y_train), (X_test, y_test)):
        assert X.dtype == np.float32
        assert y.dtype == np.int64
        assert (X.min(), X.max()) == (0, 1)
        assert set(y) == set(range(10))
        assert X.flags.c_contiguous
        assert X.flags.writeable


def test_digits_are_those_of_scikit_learn():
    sklearn_datasets = pytest.importorskip("sklearn.datasets")
    X, y = sklearn_datasets.load_digits(return_X_y=True)
    (X_train, y_train), (X_test, y_test) = load_digits()
    expected = sorted(zip(y, map(tuple, X), strict=True))
    seen = zip([*y_train, *y_test], map(tuple, np.vstack([X_train, X_test]) * 16), strict=True)
    assert sorted(seen) == expected


def test_every_fifth_image_of_a_digit_is_test_data():
    (_, y_train), (_, y_test) = load_digits()
    n_train, n_test = np.bincount(y_train), np.bincount(y_test)
    np.testing.assert_array_equal(n_test, (n_train + n_test) // 5)


def test_a_caller_may_change_the_digits_it_got():
    (X, y), _ = load_digits()
    X += 1
    y += 1
    (again, labels), _ = load_digits()
    assert again.max() == 1
    assert labels.max() == 9


def test_local_files_are_read(tiny: Source, local_data: Path):
    assert_is_tiny(load(tiny))


def test_files_packed_anew_are_accepted_where_the_content_is_known(tiny: Source, local_data: Path):
    file = local_data / TRAIN_IMAGES
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), compresslevel=1))
    assert_is_tiny(load(tiny))


def test_files_packed_anew_are_refused_where_only_the_packed_file_is_known(
    tiny: Source, local_data: Path
):
    file = local_data / TRAIN_IMAGES
    assert_is_tiny(load(replace(tiny, content_md5={})))
    file.write_bytes(gzip.compress(gzip.decompress(file.read_bytes()), compresslevel=1))
    with pytest.raises(ValueError, match=r"is not the original Tiny file: its MD5 is"):
        load(replace(tiny, content_md5={}))


def test_a_missing_local_file_is_named(tiny: Source, local_data: Path):
    (local_data / TEST_LABELS).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{TEST_LABELS} does not exist; Tiny consists of"):
        load(tiny)


def test_other_content_is_refused(tiny: Source, local_data: Path):
    file = local_data / TEST_LABELS
    content = bytearray(gzip.decompress(file.read_bytes()))
    content[-1] ^= 1
    file.write_bytes(gzip.compress(bytes(content)))
    with pytest.raises(ValueError, match=r"is not the original Tiny file: its MD5 is"):
        load(tiny)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda packed: packed[:-20], id="cut short"),
        pytest.param(lambda packed: packed[:5], id="header cut short"),
        pytest.param(lambda packed: b"no gzip at all", id="not gzip"),
        pytest.param(lambda packed: packed[:20] + b"\xff" + packed[21:], id="one byte changed"),
    ],
)
def test_damaged_packing_is_one_clear_sentence(tmp_path: Path, damage):
    path = tmp_path / "labels.gz"
    path.write_bytes(damage(gzip.compress(VECTOR * 10)))
    with pytest.raises(ValueError, match=r"labels\.gz is not a complete gzip file: "):
        unpack(path)


def test_a_small_file_that_unpacks_to_gigabytes_is_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(idx, "MOST_BYTES", 10**5)
    path = tmp_path / "labels.gz"
    path.write_bytes(gzip.compress(bytes(10**5)))
    assert len(unpack(path)) == 10**5
    path.write_bytes(gzip.compress(bytes(10**5 + 1)))
    with pytest.raises(ValueError, match=r"labels\.gz unpacks to more than 100000 bytes"):
        unpack(path)


@given(data=st.data(), packed=st.booleans())
def test_a_mutated_file_is_refused_in_one_way_or_read(tmp_path_factory, data, packed: bool):
    whole = gzip.compress(VECTOR * 10, mtime=0) if packed else VECTOR
    at, value = data.draw(st.integers(0, len(whole) - 1)), data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(whole)))
    changed = (whole[:at] + bytes([value]) + whole[at + 1 :])[: cut or None]
    path = tmp_path_factory.mktemp("idx") / "labels"
    path.write_bytes(changed)
    try:
        values = unpack(path) if packed else parse_idx(changed, str(path))
    except ValueError as error:
        assert str(error).startswith(str(path))  # noqa: PT017 (it may be right as well)
    else:
        assert len(values) > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes([0, 0, 8, 255]) + bytes(4 * 255), "is not an idx file of unsigned bytes"),
        (bytes([0, 0, 8, 2]) + bytes(4) + b"\xff" * 4, r"holds no value: its shape is \(0, 42949"),
        (bytes([0, 0, 8, 3]) + b"\xff" * 12, "announces 79228162458924105385300197375 values"),
        (b"", "is not an idx file"),
        (b"\0\0\x08", "is not an idx file"),
        (b"\0\0\x08\x00", "is not an idx file"),
        (b"\0\0\x08\x03\0\0\0\x01", "is not an idx file"),
        (b"\0\0\x0d" + VECTOR[3:], "is not an idx file of unsigned bytes"),
        (VECTOR[:-1], r"its header announces 3 values \(shape \(3,\)\), but 2 follow"),
        (VECTOR + b"\0", r"announces 3 values \(shape \(3,\)\), but 4 follow"),
    ],
)
def test_content_that_is_not_idx_is_refused(content: bytes, message: str):
    with pytest.raises(ValueError, match=message):
        parse_idx(content, "labels")


def test_images_and_labels_of_different_numbers_are_refused(tiny: Source, local_data: Path):
    labels = gzip.decompress((local_data / TEST_LABELS).read_bytes())
    (local_data / "train-labels-idx1-ubyte.gz").write_bytes(gzip.compress(labels))
    source = replace(
        tiny, content_md5=tiny.content_md5 | {"train-labels-idx1-ubyte.gz": md5(labels)}
    )
    with pytest.raises(ValueError, match=r"do not belong together: .* \(5, 4, 3\) and \(3,\)"):
        load(source)


@pytest.mark.usefixtures("no_local_data")
def test_files_are_downloaded_once(web: Source, tmp_path: Path):
    assert_is_tiny(load(web))
    assert len(list((tmp_path / "cache").rglob("*.gz"))) == 4
    assert_is_tiny(load(replace(web, url="http://127.0.0.1:9/")))


@pytest.mark.usefixtures("no_local_data")
def test_a_download_of_something_else_is_refused_and_not_kept(web: Source, tmp_path: Path):
    source = replace(web, packed_md5=web.packed_md5 | {TRAIN_IMAGES: "0" * 32})
    with pytest.raises(ValueError, match=r"is not the original Tiny file .* FASTMLP_DATA"):
        load(source)
    assert not list((tmp_path / "cache").rglob("*.gz"))


@pytest.mark.usefixtures("no_local_data")
def test_offline_names_both_ways(tiny: Source):
    both_ways = r"Tiny could not be downloaded .* connect to the internet .* FASTMLP_DATA"
    with pytest.raises(OSError, match=both_ways):
        load(tiny)


def test_without_pooch_the_extra_is_named(tiny: Source, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("FASTMLP_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pip install 'fastmlp\[datasets\]'; .* FASTMLP_DATA"):
        load(tiny)


@pytest.mark.parametrize("loader", [load_mnist, load_fashion_mnist])
def test_without_pooch_a_foreign_data_folder_is_not_enough(
    loader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("FASTMLP_DATA", str(tmp_path))
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match="it is now"):
        loader()


@pytest.mark.slow
def test_mnist_is_read(mnist_folder: Path):
    (X_train, y_train), (X_test, y_test) = load_mnist()
    assert X_train.shape == (60000, 784)
    assert X_test.shape == (10000, 784)
    assert (X_train.min(), X_train.max()) == (0, 1)
    assert X_train.mean() == pytest.approx(0.1307, abs=1e-4)
    np.testing.assert_array_equal(y_train[:5], [5, 0, 4, 1, 9])
    np.testing.assert_array_equal(y_test[:5], [7, 2, 1, 0, 4])
    assert MNIST.folder == mnist_folder.name


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
        frame = pytest.importorskip("polars").DataFrame(rows, schema=["a", "b", "c"])
        (frame.write_parquet if ending == "parquet" else frame.write_ipc)(path)
    else:
        mark = "\t" if ending == "tsv" else ","
        text = "\n".join([mark.join("abc"), *(mark.join(map(str, row)) for row in rows)]).encode()
        path.write_bytes(gzip.compress(text) if ending.endswith("gz") else text)
    X, y = read_table(path)
    assert X.tolist() == rows[:, :2].tolist()
    assert y.tolist() == [0, 1, 0]


def test_parquet_keeps_what_its_columns_are(tmp_path: Path):
    pl = pytest.importorskip("polars")
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
    if ending == "parquet":
        pytest.importorskip("polars")
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
