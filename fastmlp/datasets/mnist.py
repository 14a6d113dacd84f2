"""MNIST and the data sets in its format: read from a local folder, or downloaded once."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fastmlp.datasets.idx import Labeled, Split, parse_idx, scaled_rows, unpack

WHITE = 255


@dataclass(frozen=True)
class Source:
    """Where a data set in MNIST's format comes from, and how its files are recognized.

    Parameters
    ----------
    title : str
        The name in messages.
    folder : str
        The name of its folder, in `FASTMLP_DATA` and in the cache.
    url : str
        The folder on the web; ends with a slash.
    packed_md5 : dict of str to str
        MD5 of each packed file as it is downloaded.
    content_md5 : dict of str to str
        MD5 of each file's unpacked content. Where it is known, local files may be packed anew;
        where it is empty, local files must be the packed originals.

    Examples
    --------
    >>> MNIST.folder
    'mnist'
    """

    title: str
    folder: str
    url: str
    packed_md5: dict[str, str]
    content_md5: dict[str, str]


TRAIN_IMAGES = "train-images-idx3-ubyte.gz"
TRAIN_LABELS = "train-labels-idx1-ubyte.gz"
TEST_IMAGES = "t10k-images-idx3-ubyte.gz"
TEST_LABELS = "t10k-labels-idx1-ubyte.gz"

MNIST = Source(
    title="MNIST",
    folder="mnist",
    url="https://ossci-datasets.s3.amazonaws.com/mnist/",
    packed_md5={
        TRAIN_IMAGES: "f68b3c2dcbeaaa9fbdd348bbdeb894bf",
        TRAIN_LABELS: "d53e105ee54ea40749a09fcbcd1e9432",
        TEST_IMAGES: "9fb629c4189551a2d022fa330f9573f3",
        TEST_LABELS: "ec29112dd5afa0611ce80d1b7f02629c",
    },
    content_md5={
        TRAIN_IMAGES: "6bbc9ace898e44ae57da46a324031adb",
        TRAIN_LABELS: "a25bea736e30d166cdddb491f175f624",
        TEST_IMAGES: "2646ac647ad5339dbf082846283269ea",
        TEST_LABELS: "27ae3e4e09519cfbb04c329615203637",
    },
)

FASHION_MNIST = Source(
    title="Fashion-MNIST",
    folder="fashion-mnist",
    url="http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    packed_md5={
        TRAIN_IMAGES: "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        TRAIN_LABELS: "25c81989df183df01b3e8a0aad5dffbe",
        TEST_IMAGES: "bef4ecab320f06d8554ea6380940ec79",
        TEST_LABELS: "bb300cfdad3c16e7a12a480ee83cd310",
    },
    content_md5={},
)


def load_mnist() -> Split:
    """Load MNIST: 70,000 handwritten digits of 28 by 28 pixels.

    The files are read from `$FASTMLP_DATA/mnist` where that folder exists. Otherwise they are
    downloaded on first use (11 MB, `pip install 'fastmlp[datasets]'`) into pooch's cache folder.
    Their content is verified every time.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        `X` is float32 in [0, 1], of shape (60000, 784) and (10000, 784); `y` is int64 from 0 to 9.

    Raises
    ------
    FileNotFoundError
        If `$FASTMLP_DATA/mnist` exists and lacks a file.
    ValueError
        If a file is damaged or is not the original.
    ImportError
        If the files must be downloaded and pooch is not installed.
    OSError
        If the download fails.

    References
    ----------
    Y. LeCun, L. Bottou, Y. Bengio and P. Haffner, "Gradient-based learning applied to document
    recognition", Proceedings of the IEEE, 86(11), 1998.

    Examples
    --------
    >>> from fastmlp.datasets import load_mnist
    >>> (X_train, y_train), (X_test, y_test) = load_mnist()  # doctest: +SKIP
    >>> X_train.shape, X_test.shape  # doctest: +SKIP
    ((60000, 784), (10000, 784))
    """
    return load(MNIST)


def load_fashion_mnist() -> Split:
    """Load Fashion-MNIST: 70,000 pictures of clothes of 28 by 28 pixels, in ten classes.

    The files are read from `$FASTMLP_DATA/fashion-mnist` where that folder exists. Otherwise they
    are downloaded on first use (30 MB, `pip install 'fastmlp[datasets]'`) into pooch's cache
    folder. They are verified every time.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        `X` is float32 in [0, 1], of shape (60000, 784) and (10000, 784); `y` is int64 from 0 to 9.

    Raises
    ------
    FileNotFoundError
        If `$FASTMLP_DATA/fashion-mnist` exists and lacks a file.
    ValueError
        If a file is damaged or is not the original.
    ImportError
        If the files must be downloaded and pooch is not installed.
    OSError
        If the download fails.

    References
    ----------
    H. Xiao, K. Rasul and R. Vollgraf, "Fashion-MNIST: a novel image dataset for benchmarking
    machine learning algorithms", arXiv:1708.07747, 2017.

    Examples
    --------
    >>> from fastmlp.datasets import load_fashion_mnist
    >>> (X_train, y_train), (X_test, y_test) = load_fashion_mnist()  # doctest: +SKIP
    >>> X_train.shape, X_test.shape  # doctest: +SKIP
    ((60000, 784), (10000, 784))
    """
    return load(FASHION_MNIST)


def load(source: Source) -> Split:
    """Load a data set in MNIST's format.

    Parameters
    ----------
    source : Source
        Where its files come from.

    Returns
    -------
    (X_train, y_train), (X_test, y_test)
        `X` is float32 in [0, 1], of shape (n_images, height * width); `y` is int64.

    Raises
    ------
    FileNotFoundError, ValueError, ImportError, OSError
        As in `load_mnist`.

    Examples
    --------
    >>> (X_train, y_train), (X_test, y_test) = load(MNIST)  # doctest: +SKIP
    """
    train = _images_and_labels(source, TRAIN_IMAGES, TRAIN_LABELS)
    test = _images_and_labels(source, TEST_IMAGES, TEST_LABELS)
    return train, test


def _images_and_labels(source: Source, images_name: str, labels_name: str) -> Labeled:
    images = _read_verified(source, images_name)
    labels = _read_verified(source, labels_name)
    if images.ndim != 3 or labels.shape != images.shape[:1]:
        raise ValueError(
            f"{images_name} and {labels_name} of {source.title} do not belong together: their "
            f"shapes are {images.shape} and {labels.shape}, instead of (n, height, width) and (n,)"
        )
    return scaled_rows(images, WHITE), labels.astype(np.int64)


def _read_verified(source: Source, name: str) -> NDArray[np.uint8]:
    path = _find(source, name)
    content = unpack(path)
    if source.content_md5:
        expected, seen = source.content_md5[name], _md5(content)
    else:
        expected, seen = source.packed_md5[name], _md5(path.read_bytes())
    if seen != expected:
        raise ValueError(
            f"{path} is not the original {source.title} file: its MD5 is {seen} instead of "
            f"{expected}; delete it or put the original in its place"
        )
    return parse_idx(content, str(path))


def _find(source: Source, name: str) -> Path:
    local = os.environ.get("FASTMLP_DATA")
    if not local or not Path(local, source.folder).is_dir():
        return _download(source, name)
    path = Path(local, source.folder, name)
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist; {source.title} consists of {', '.join(source.packed_md5)}"
        )
    return path


def _download(source: Source, name: str) -> Path:
    by_hand = (
        f"put {', '.join(source.packed_md5)} into a folder {source.folder!r} and let FASTMLP_DATA "
        f"name its parent (it is now {os.environ.get('FASTMLP_DATA')!r})"
    )
    try:
        import pooch
    except ImportError as error:
        raise ImportError(
            f"Downloading {source.title} needs pooch: pip install 'fastmlp[datasets]'; or {by_hand}"
        ) from error
    cache = pooch.create(
        path=pooch.os_cache("fastmlp") / source.folder,
        base_url=source.url,
        registry={file: f"md5:{md5}" for file, md5 in source.packed_md5.items()},
    )
    try:
        return Path(cache.fetch(name))
    except ValueError as error:
        raise ValueError(
            f"What {source.url}{name} sent is not the original {source.title} file "
            f"(its MD5 differs): try again later, or {by_hand}"
        ) from error
    except OSError as error:
        raise OSError(
            f"{source.title} could not be downloaded from {source.url} to {cache.path} "
            f"({type(error).__name__}): connect to the internet and try again, or {by_hand}"
        ) from error


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
