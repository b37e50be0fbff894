"""The command line on a pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import sys
import termios
from pathlib import Path

import cli


def on_a_terminal(*arguments: str, columns: int) -> str:
    """Return the output of `audiotag` on a terminal, without control sequences."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(TERM="xterm-256color", COLUMNS=str(columns))
        command = [sys.executable, "-W", "error", "-m", "cli", *arguments]
        os.environ["PYTHONPATH"] = str(Path(cli.__file__).parent)
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    seen = b""
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # the other end was closed
            break
        seen += data
    os.close(terminal)
    os.waitpid(process, 0)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
