"""Files that are written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

if sys.platform != "win32":
    import fcntl

#: Folders whose entries are open files of this process.
_DESCRIPTORS = ("/dev/fd", "/proc/self/fd")
#: Links that are followed before a path counts as a circle, as on Linux.
_MOST_LINKS = 40
#: Seconds that a process waits for the turn of another, which may be stopped.
_PATIENCE = 600.0
#: Seconds between two looks whether it has ended.
_MOMENT = 0.05


def write_atomically(path: str | os.PathLike[str], content: bytes | memoryview) -> None:
    """Replace the file at `path` by `content`, so that no moment shows half of it.

    A temporary file in the same folder is written, flushed to the disk and renamed; the folder's
    entry is flushed too, where the system can. The old file stays as it was if anything fails, and
    of several writers the last one wins. Links are followed. What is no regular file, such as a
    device or a pipe, is written to and stays what it is.

    Raises
    ------
    FileNotFoundError
        If there is no such folder.
    IsADirectoryError
        If there is a folder at `path`.
    OSError
        If the system refuses.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_atomically(Path(folder, "a"), b"whole")
    ...     Path(folder, "a").read_bytes()
    b'whole'
    """
    with writing(path) as file:
        file.write(content)


@contextlib.contextmanager
def writing(path: str | os.PathLike[str]) -> Iterator[Any]:
    """Open a binary file that takes the place of the one at `path` when all of it is written.

    As `write_atomically` does, piece by piece: if anything fails meanwhile, the old file stays as
    it was.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with writing(Path(folder, "a")) as file:
    ...         _ = file.write(b"wh"), file.write(b"ole")
    ...     Path(folder, "a").read_bytes()
    b'whole'
    """
    path = _followed(Path(path).absolute())
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, "cannot write a file where a folder is", str(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path.name}: there is no folder {path.parent}")
    if _is_descriptor(path) or (path.exists() and not path.is_file()):
        descriptor = os.dup(int(path.name)) if _is_descriptor(path) else os.open(path, os.O_WRONLY)
        with os.fdopen(descriptor, "wb") as straight:
            yield straight
        return
    with _replacing(path) as file:
        yield file


@contextlib.contextmanager
def in_turn(path: Path, waits: Callable[[], object]) -> Iterator[None]:
    """Keep other processes waiting that name the same path, which is a file meanwhile.

    The turn of a process that dies ends with it. Nobody waits for longer than ten minutes, nor
    where the system has no locks or the folder cannot be written to.

    Parameters
    ----------
    path : Path
    waits : callable
        Called once, if another process must be waited for.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with in_turn(Path(folder, "turn"), waits=print):
    ...         print([file.name for file in Path(folder).iterdir()])
    ...     print(list(Path(folder).iterdir()))
    ['turn']
    []
    """
    file = _locked_file(path, waits)
    if file is None:
        yield
        return
    with file:
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                path.unlink()


def _locked_file(path: Path, waits: Callable[[], object]) -> Any:
    """Return the open file at `path`, locked; None where that cannot be, or takes too long."""
    end, told = time.monotonic() + _PATIENCE, False
    while time.monotonic() < end:
        try:
            return _locked(path)
        except BlockingIOError:
            pass
        except OSError:
            return None
        if not told:
            waits()
            told = True
        time.sleep(_MOMENT)
    return None


def _locked(path: Path) -> Any:
    """Return the open file at `path`, made if there is none, and locked.

    Raises
    ------
    BlockingIOError
        If another process holds it, or has just removed it.
    OSError
        If the folder or the system does not allow it.
    """
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(path.open("ab"))
        _lock(file, wait=False)
        if not _is_at(path, file):
            raise BlockingIOError
        stack.pop_all()
        return file


def _is_at(path: Path, file: Any) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def write_figure(path: str | Path, figure: Any) -> None:
    """Write a figure of matplotlib, whole or not at all, in the format of the path's ending.

    Without an ending it is a PNG, and gets that ending, as with matplotlib itself.

    Examples
    --------
    >>> import tempfile
    >>> from matplotlib.figure import Figure
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_figure(Path(folder, "empty.svg"), Figure())
    ...     print(Path(folder, "empty.svg").read_text()[:5])
    <?xml
    """
    path = Path(path)
    if not path.suffix and (path.is_file() or not path.exists()):
        path = path.with_name(f"{path.name}.png")
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix(".") or "png")
    write_atomically(path, picture.getbuffer())


def _followed(path: Path) -> Path:
    """Return where links lead to, but of an open file its name as such."""
    for _ in range(_MOST_LINKS):
        if _is_descriptor(path) or not path.is_symlink():
            return path
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, "its links lead in a circle", str(path))


def _is_descriptor(path: Path) -> bool:
    return os.path.normpath(path.parent) in _DESCRIPTORS and path.name.isdecimal()


@contextlib.contextmanager
def _replacing(path: Path) -> Iterator[Any]:
    with _part_of(path) as (file, part):
        yield file
        file.flush()
        os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, part)
        if sys.platform == "win32":
            file.close()  # it renames no open file
        os.replace(part, path)
    with contextlib.suppress(OSError):  # Windows cannot open a folder
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _part_of(path: Path) -> Iterator[tuple[Any, Path]]:
    """Open a temporary file beside `path`, that goes unless it is renamed."""
    _remove_leftovers(path)
    while True:
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        with part.open("xb") as file:
            try:
                _lock(file, wait=True)
                # Another writer may have taken it for a leftover before it was locked.
                if part.exists():
                    yield file, part
                    return
            except BaseException:
                file.close()
                with contextlib.suppress(OSError):
                    part.unlink()
                raise


def _remove_leftovers(path: Path) -> None:
    """Remove what writers that were killed have left: nobody holds a lock on it."""
    leftover = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.part")
    names: list[str] = []
    with contextlib.suppress(OSError):  # a folder may be written to and not read
        names = [name for name in os.listdir(path.parent) if leftover.fullmatch(name)]
    for part in map(path.with_name, names):
        with contextlib.suppress(OSError), part.open("rb") as file:
            _lock(file, wait=False)
            part.unlink()


def _lock(file: Any, *, wait: bool) -> None:
    """Lock a file against other writers, until it is closed.

    Raises
    ------
    OSError
        If not `wait`, and another holds it or the system has no locks.
    """
    if sys.platform == "win32":
        if not wait:
            raise OSError(errno.ENOLCK, "there are no locks")
    else:
        with contextlib.suppress(OSError) if wait else contextlib.nullcontext():
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
