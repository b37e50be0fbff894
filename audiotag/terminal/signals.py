"""Exit statuses, and what SIGTERM and Ctrl-C do."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator

EXIT_OK, EXIT_SOME_FAILED, EXIT_USAGE, EXIT_INTERRUPTED = 0, 1, 2, 130
_TERMINATION = {signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGTERM)}


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP (`docker stop`, a closed terminal), raised like Ctrl-C."""

    status = EXIT_INTERRUPTED


class StopRequest(threading.Event):
    """An event that the first signal sets, with the exit status of that signal."""

    status = EXIT_INTERRUPTED


def install_signal_handlers() -> None:
    """Raise `Terminated` on the signals that end a process."""

    def terminate(number: int, frame: object) -> None:
        terminated = Terminated()
        terminated.status = 128 + number
        raise terminated

    if threading.current_thread() is not threading.main_thread():
        return  # only the main thread can handle signals
    for number in _TERMINATION:
        # A signal that the parent ignores (nohup) stays ignored.
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, terminate)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Yield an event that Ctrl-C, SIGTERM and SIGHUP set; a second signal interrupts at once."""
    stop = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def request_stop(number: int, frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.status = 128 + number
        stop.set()

    numbers = {signal.SIGINT, *_TERMINATION}
    before = {n: signal.getsignal(n) for n in numbers if signal.getsignal(n) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, request_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
