"""Exit statuses, and what SIGTERM and Ctrl-C do."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130


class Terminated(KeyboardInterrupt):
    """The process was asked to end (`docker stop`, a closed terminal): as Ctrl-C, tidily."""

    status = EXIT_INTERRUPTED


def install_signal_handlers() -> None:
    def terminate(number: int, frame: object) -> None:
        terminated = Terminated()
        terminated.status = 128 + number
        raise terminated

    if threading.current_thread() is not threading.main_thread():
        return  # only there can signals be handled
    for number in (signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)):
        # What a parent asked to ignore (nohup) stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, terminate)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[threading.Event]:
    """An event that Ctrl-C and the signals of termination set; a second one ends at once."""
    stop = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def heed(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.status = 128 + number  # type: ignore[attr-defined]
        stop.set()

    numbers = {signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, heed)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
