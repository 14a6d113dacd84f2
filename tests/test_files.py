"""Files that are written whole or not at all, and what is no regular file."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from fastmlp import MLP, CSVLog, History, Trainer, _files
from fastmlp._files import in_turn, write_atomically

POSIX = pytest.mark.skipif(os.name != "posix", reason="links, devices and pipes are POSIX's")
HISTORY = History([{"epoch": 1, "loss": 0.5}])
TABLE = "epoch,loss\n1,0.5\n"


@POSIX
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_a_link_stays_a_link_and_its_target_is_replaced(depth, tmp_path):
    target = tmp_path / "far" / "table.csv"
    target.parent.mkdir()
    target.write_text("old")
    link = target
    for i in range(depth):
        (tmp_path / f"link{i}").symlink_to(os.path.relpath(link, tmp_path))
        link = tmp_path / f"link{i}"
    HISTORY.to_csv(link)
    assert link.is_symlink()
    assert target.read_text() == TABLE
    assert not target.is_symlink()
    assert len(list(target.parent.iterdir())) == 1


@POSIX
def test_a_link_to_nothing_makes_its_target(tmp_path):
    (tmp_path / "link").symlink_to("table.csv")
    HISTORY.to_csv(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "table.csv").read_text() == TABLE


@POSIX
def test_links_in_a_circle_are_refused(tmp_path):
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(OSError, match="circle"):
        HISTORY.to_csv(tmp_path / "a")
    assert (tmp_path / "a").is_symlink()


@POSIX
def test_a_pipe_is_written_to_and_stays_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    seen: list[str] = []
    reader = threading.Thread(target=lambda: seen.append(pipe.read_text()))
    reader.start()
    HISTORY.to_csv(pipe)
    reader.join()
    assert seen == [TABLE]
    assert pipe.is_fifo()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("linked", [False, True])
def test_a_device_stays_a_device(linked, tmp_path):
    device = Path("/dev/full")
    path = tmp_path / "link" if linked else device
    if linked:
        path.symlink_to(device)
    with pytest.raises(OSError, match="No space left"):
        HISTORY.to_csv(path)
    assert device.is_char_device()
    HISTORY.to_csv("/dev/null")
    assert Path("/dev/null").is_char_device()


@pytest.mark.skipif(not Path("/dev/stdout").exists(), reason="there is no /dev/stdout")
@pytest.mark.parametrize("path", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"])
@pytest.mark.parametrize("to_file", [False, True])
def test_an_open_file_is_written_to_at_its_place(path, to_file, tmp_path):
    program = (
        "from fastmlp import History\n"
        "print('before', flush=True)\n"
        f"History([{{'epoch': 1, 'loss': 0.5}}]).to_csv({path!r})\n"
        "print('after')\n"
    )
    file = tmp_path / "out.txt"
    with file.open("wb") as out:
        done = subprocess.run(
            [sys.executable, "-c", program],
            stdout=out if to_file else subprocess.PIPE,
            check=True,
        )
    printed = file.read_bytes() if to_file else done.stdout
    assert printed.decode() == f"before\n{TABLE}after\n"


def test_a_folder_is_refused(tmp_path):
    with pytest.raises(IsADirectoryError, match="cannot write a file where a folder is"):
        HISTORY.to_csv(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_writers_at_once_leave_one_whole_file(tmp_path):
    """Of threads here; each writes a content of its own again and again."""
    file, n_bytes, stop = tmp_path / "a", 200_000, threading.Event()
    errors: list[BaseException] = []

    def write(letter: bytes) -> None:
        try:
            for _ in range(40):
                write_atomically(file, letter * n_bytes)
        except BaseException as error:
            errors.append(error)

    def read() -> None:
        while not stop.is_set():
            content = file.read_bytes()
            if content != content[:1] * n_bytes:
                errors.append(AssertionError(f"{len(content)} bytes"))

    write_atomically(file, b"0" * n_bytes)
    writers = [threading.Thread(target=write, args=(letter,)) for letter in (b"a", b"b", b"c")]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    stop.set()
    reader.join()
    assert errors == []
    assert list(tmp_path.iterdir()) == [file]


PROCESS = """
import sys
from fastmlp import _files
from fastmlp._files import in_turn, write_atomically
for _ in range(40):
    write_atomically(sys.argv[1], sys.argv[2].encode() * 200_000)
"""


def test_processes_at_once_leave_one_whole_file(tmp_path):
    file = tmp_path / "a"
    write_atomically(file, b"0" * 200_000)
    command = [sys.executable, "-c", PROCESS, str(file)]
    children = [subprocess.Popen([*command, letter]) for letter in "abc"]
    while any(child.poll() is None for child in children):
        content = file.read_bytes()
        assert content == content[:1] * 200_000
        time.sleep(0.001)
    assert [child.wait() for child in children] == [0, 0, 0]
    assert list(tmp_path.iterdir()) == [file]


KILLED = """
import os, signal, sys
from fastmlp import _files
from fastmlp._files import in_turn, write_atomically
os.replace = lambda *paths: os.kill(os.getpid(), signal.SIGKILL)
write_atomically(sys.argv[1], b"new")
"""


@POSIX
def test_what_killed_writers_leave_goes_with_the_next_write(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"old")
    (tmp_path / ".a.mine.part").write_bytes(b"not ours")
    for _ in range(3):
        subprocess.run([sys.executable, "-c", KILLED, str(file)], check=False)
        assert file.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 3  # never more than the last one's
    write_atomically(file, b"new")
    assert file.read_bytes() == b"new"
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.mine.part", "a"]


@POSIX
def test_what_a_writer_is_writing_stays(tmp_path, monkeypatch):
    """A second writer comes while the first one is about to rename."""
    file, replace = tmp_path / "a", os.replace

    def replace_later(part, path):
        monkeypatch.setattr(os, "replace", replace)
        write_atomically(file, b"second")
        assert Path(part).read_bytes() == b"first"
        replace(part, path)

    monkeypatch.setattr(os, "replace", replace_later)
    write_atomically(file, b"first")
    assert file.read_bytes() == b"first"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("ending", [".png", ".svg", ".pdf", ""])
def test_a_picture_is_written_whole_and_in_its_format(ending, tmp_path, monkeypatch):
    figure_module = pytest.importorskip("matplotlib.figure")
    signs = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", "": b"\x89PNG"}
    file = tmp_path / f"picture{ending}"
    HISTORY.plot(file)
    written = file if ending else file.with_name("picture.png")
    whole = written.read_bytes()
    assert whole.startswith(signs[ending])

    def fail(self, target, **options):
        Path(target).write_bytes(b"half") if isinstance(target, str | Path) else target.write(b"h")
        raise OSError("no space left")

    monkeypatch.setattr(figure_module.Figure, "savefig", fail)
    with pytest.raises(OSError, match="no space left"):
        HISTORY.plot(written)
    assert written.read_bytes() == whole
    assert list(tmp_path.iterdir()) == [written]


def test_a_log_goes_through_a_link(tmp_path):
    (tmp_path / "log.csv").symlink_to("real.csv")
    trainer = Trainer(MLP([1, 2]), backend="numpy")
    trainer.fit([[0.0]], [0], epochs=2, callbacks=[CSVLog(tmp_path / "log.csv")], verbose=False)
    assert (tmp_path / "log.csv").is_symlink()
    assert len((tmp_path / "real.csv").read_text().splitlines()) == 3


def test_turns_are_taken_one_after_the_other(tmp_path: Path):
    inside, most, waited = [], [], []

    def work(number: int) -> None:
        for _ in range(5):
            with in_turn(tmp_path / "turn", lambda: waited.append(number)):
                inside.append(number)
                most.append(len(inside))
                time.sleep(0.002)
                inside.remove(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 20
    assert waited
    assert not list(tmp_path.iterdir())


def test_a_turn_ends_with_an_error(tmp_path: Path):
    with pytest.raises(KeyError), in_turn(tmp_path / "turn", pytest.fail):
        raise KeyError
    with in_turn(tmp_path / "turn", pytest.fail):
        pass


def test_nobody_waits_for_a_turn_that_cannot_be_had(tmp_path: Path, monkeypatch):
    with in_turn(tmp_path / "nowhere" / "turn", pytest.fail):
        pass
    waited = []
    monkeypatch.setattr(_files, "_PATIENCE", 0.1)
    with (
        in_turn(tmp_path / "turn", pytest.fail),
        in_turn(tmp_path / "turn", lambda: waited.append(1)),  # as another process would
    ):
        assert waited == [1]
