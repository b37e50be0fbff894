"""Several processes that serve together, and the one that watches over them.

uvicorn has such a parent, too. Ours differs in most of what it does: a signal may come to all
processes of a group and means one thing, SIGHUP loads bundles anew and keeps the processes, what
keeps the first one from starting is told once, and the counts of the dead are put away.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import socket
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING

from service.logs import configure, log, print_to_stderr
from service.metrics import forget_worker, shared_between_workers
from service.server.process import (
    FAILED,
    STOPPED,
    STOPPING_SIGNALS,
    TIDY_SECONDS,
    Server,
    handling,
    run,
)
from service.settings.config import ServiceConfig

if TYPE_CHECKING:
    from service.server.process import MakeApp


# A process of its own, not a copy: threads and networks do not survive being copied.
_CONTEXT = multiprocessing.get_context("spawn")

_HANGUP = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()  # not on Windows

_READY, _AT_ONCE = "ready", "at once"

_POLL_SECONDS = 0.2

# A worker that ends sooner than this after its start will end again; wait longer each time.
_YOUNG_SECONDS = 10.0

_LONGEST_WAIT_SECONDS = 30.0


class Supervisor:
    """Starts workers, replaces those that end, and ends all.

    Args:
        config: see `ServiceConfig`.
        make_app: makes the application in each worker.
        sockets: that listen, for all workers.
        on_ready: called once all workers answer requests.
    """

    def __init__(
        self,
        config: ServiceConfig,
        make_app: MakeApp,
        sockets: Sequence[socket.socket],
        on_ready: Callable[[], None],
    ) -> None:
        self._config = config
        self._make_app = make_app
        self._sockets = list(sockets)
        self._on_ready = on_ready
        self._workers: list[_Worker] = []
        self._signals: deque[int] = deque()
        self._started = self._is_ready = False
        self._deadline: float | None = None
        self._status = STOPPED
        self._n_early_ends = 0
        self._next_start = 0.0

    def run(self) -> int:
        """Serve until a signal says that it is enough; the exit status."""
        with (
            shared_between_workers(self._config.temporary_directory) as directory,
            handling(self._note, *STOPPING_SIGNALS, *_HANGUP),
        ):
            try:
                self._start_one()
                while self._workers or self._deadline is None:
                    self._look(directory)
            finally:
                for worker in self._workers:
                    worker.kill()
        return self._status

    def _look(self, directory: Path) -> None:
        """One turn: heed signals, hear workers, put away the dead, start what is missing."""
        watched = [each for worker in self._workers for each in worker.watched]
        wait(watched, _POLL_SECONDS) if watched else time.sleep(_POLL_SECONDS)
        while self._signals:
            self._heed(self._signals.popleft())
        for worker in list(self._workers):
            worker.hear()
            if worker.exit_code is not None:
                self._workers.remove(worker)
                forget_worker(worker.pid, directory)
                self._bury(worker)
        if self._deadline is None:
            self._complete()
        elif time.monotonic() > self._deadline:
            log.error("workers have not ended in time, and are killed")
            self._end_all()

    def _complete(self) -> None:
        """The first worker is alone at first: what keeps it from starting keeps all."""
        n_wanted = self._config.workers if self._started else 1
        if len(self._workers) < n_wanted and time.monotonic() >= self._next_start:
            self._start_one()
        ready = [worker.is_ready for worker in self._workers]
        self._started = self._started or any(ready)
        if not self._is_ready and sum(ready) == self._config.workers:
            self._is_ready = True
            self._on_ready()

    def _start_one(self) -> None:
        self._workers.append(_Worker(self._config, self._make_app, self._sockets))

    def _bury(self, worker: _Worker) -> None:
        if self._deadline is not None:
            # One that was still starting is ended by the signal itself.
            if worker.exit_code not in (STOPPED, -signal.SIGTERM):
                self._status = FAILED
            return
        if not self._started and not worker.is_ready:
            if worker.exit_code != FAILED:  # else it has said why
                print_to_stderr(f"error: the first worker ended with status {worker.exit_code}")
            self._status = FAILED
            self._stop()
            return
        is_young = worker.age_seconds < _YOUNG_SECONDS
        self._n_early_ends = self._n_early_ends + 1 if is_young else 0
        seconds = min(_LONGEST_WAIT_SECONDS, 2.0 ** (self._n_early_ends - 2)) if is_young else 0.0
        self._next_start = time.monotonic() + seconds
        how = {"worker": worker.pid, "exit_code": worker.exit_code, "seconds": seconds}
        log.error("a worker has ended, and is replaced", extra=how)

    def _heed(self, number: int) -> None:
        if number in _HANGUP:
            for worker in self._workers:
                worker.signal_if_ready(number)
        elif self._deadline is None:
            self._stop()
        else:
            self._status = FAILED
            for worker in self._workers:
                worker.tell(_AT_ONCE)
            self._deadline = min(self._deadline, time.monotonic() + TIDY_SECONDS / 2)

    def _stop(self) -> None:
        """Take no more connections, and let requests end."""
        self._deadline = time.monotonic() + self._config.shutdown_seconds + 2 * TIDY_SECONDS
        for each in self._sockets:
            each.close()
        for worker in self._workers:
            worker.process.terminate()

    def _end_all(self) -> None:
        self._status = FAILED
        for worker in self._workers:
            worker.kill()

    def _note(self, number: int, _: object) -> None:
        """Keep a signal for the next turn."""
        self._signals.append(number)


class _Worker:
    """One process, as its parent sees it."""

    def __init__(
        self, config: ServiceConfig, make_app: MakeApp, sockets: list[socket.socket]
    ) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(
            target=_work, args=(config, make_app, sockets, theirs), name="audiotag-worker"
        )
        # As the worker does that is started meanwhile.
        with handling(signal.SIG_IGN, signal.SIGINT, *_HANGUP):
            self.process.start()
        theirs.close()
        self.pid = self.process.pid or 0
        self.is_ready = False
        self._began = time.monotonic()

    @property
    def watched(self) -> list[Connection | int]:
        """What there is to wait for."""
        return [self.process.sentinel] if self._pipe.closed else [self.process.sentinel, self._pipe]

    @property
    def exit_code(self) -> int | None:
        """None while it runs; less than 0 if a signal has ended it."""
        return self.process.exitcode

    @property
    def age_seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    def hear(self) -> None:
        """Take what it says: that it is ready, or nothing any more."""
        with contextlib.suppress(OSError):
            try:
                while not self._pipe.closed and self._pipe.poll():
                    self.is_ready = self._pipe.recv() == _READY
            except EOFError:
                self._pipe.close()

    def tell(self, what: str) -> None:
        """Tell it something."""
        with contextlib.suppress(OSError):
            self._pipe.send(what)

    def signal_if_ready(self, number: int) -> None:
        """Send it a signal, unless it is starting, and has loaded the newest."""
        if self.is_ready and self.exit_code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it whatever it does."""
        self.process.kill()
        self.process.join()


def _work(
    config: ServiceConfig, make_app: MakeApp, sockets: list[socket.socket], parent: Connection
) -> None:
    """What a worker does."""
    configure(config)

    def hand_over(server: Server) -> None:
        threading.Thread(target=_obey, args=(server, parent), daemon=True).start()

    sys.exit(run(config, make_app, sockets, lambda: parent.send(_READY), hand_over))


def _obey(server: Server, parent: Connection) -> None:
    with contextlib.suppress(OSError, EOFError):
        while True:
            if parent.recv() == _AT_ONCE:
                server.stop_at_once()
    server.stop()  # the parent is no more
