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

from fastmlp.datasets import idx, load_digits, load_fashion_mnist, load_mnist
from fastmlp.datasets.idx import parse_idx, unpack
from fastmlp.datasets.mnist import MNIST, TEST_LABELS, TRAIN_IMAGES, Source, load

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
