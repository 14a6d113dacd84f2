"""`fastmlp serve` in a process of its own."""

from __future__ import annotations

import contextlib
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


@dataclass
class Process:
    """A service that runs."""

    process: subprocess.Popen[str]
    port: int

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=20)

    def end(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit code and what it said besides its address."""
        self.process.send_signal(number)
        _, said = self.process.communicate(timeout=30)
        return self.process.returncode, said


@contextlib.contextmanager
def service(*words: Any) -> Iterator[Process]:
    """Serve models on a free port until the end of the block."""
    command = [sys.executable, "-m", "fastmlp", "serve", *map(str, words), "--port", "0"]
    process = subprocess.Popen(
        [*command, "--backend", "numpy"],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "error"},
    )
    try:
        said = process.stderr.readline()
        address = re.search(r"http://127\.0\.0\.1:(\d+)", said)
        assert address, said + process.communicate(timeout=30)[1]
        yield Process(process, int(address[1]))
    finally:
        process.kill()
        process.communicate()
