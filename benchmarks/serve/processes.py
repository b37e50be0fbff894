"""Processes of the service benchmark: the service, its clients, and the tagger alone."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serve.load_generator import Plan

ROOT = Path(__file__).resolve().parents[2]

HOST = "127.0.0.1"
READY_SECONDS, STOP_SECONDS, SAMPLE_SECONDS = 120.0, 60.0, 1.0


def environment(home: Path, settings: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment of a process with these settings, without the settings of the user."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AUDIOTAG_")}
    given = {f"AUDIOTAG_{name.upper()}": value for name, value in (settings or {}).items()}
    return {**kept, "PYTHONPATH": str(ROOT), "AUDIOTAG_HOME": str(home), **given}


class Service:
    """A running `audiotag serve`."""

    def __init__(self, home: Path, settings: Mapping[str, str], log: Path) -> None:
        self.log = log
        all_settings = {"host": HOST, "port": "0", **settings}
        with log.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "cli", "serve"],
                env=environment(home, all_settings),
                cwd=log.parent,
                stdout=stderr,
                stderr=stderr,
            )
        self.port = self._wait_until_ready()

    def _wait_until_ready(self) -> int:
        """Wait until all workers are ready, and return the port."""
        end_at = time.monotonic() + READY_SECONDS
        while time.monotonic() < end_at and self.process.poll() is None:
            found = re.search(r"listening on http://[^/]+:(\d+)/", self.log.read_text("utf-8"))
            if found:
                return int(found[1])
            time.sleep(0.1)
        self.process.kill()
        sys.exit(f"audiotag serve did not become ready:\n{self.log.read_text('utf-8')[-3000:]}")

    def resident_mib(self) -> float:
        """Return the resident memory of the process and its children."""
        pids = [self.process.pid, *_children(self.process.pid)]
        return sum(_resident_kib(pid) for pid in pids) / 1024

    def metrics(self) -> str:
        """Return the answer to `GET /metrics`."""
        with urllib.request.urlopen(f"http://{HOST}:{self.port}/metrics", timeout=10) as answer:
            return str(answer.read().decode())

    def stop(self) -> int:
        """Stop it with SIGTERM, and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


class MemorySamples:
    """Resident memory of a service, once a second: `with MemorySamples(service) as samples:`."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.mib: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample)

    def _sample(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.mib.append(self.service.resident_mib())

    def __enter__(self) -> MemorySamples:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


class DirectTagger:
    """A running `benchmarks.serve.direct_tagger`."""

    def __init__(self, home: Path, embedder: str, precision: str, clips: Sequence[Path]) -> None:
        command = [sys.executable, "-m", "benchmarks.serve.direct_tagger", embedder, precision]
        self.process = subprocess.Popen(
            [*command, *map(str, clips)],
            env=environment(home),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **request: float) -> Any:
        """Send a request and return its answer; see `benchmarks.serve.direct_tagger`."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            sys.exit("the process of the tagger has exited early")
        return json.loads(line)

    def stop(self) -> None:
        """Stop the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


def generate_load(plan: Plan) -> dict[str, Any]:
    """Run the clients of a plan in their own process; return a `load_generator.Result`."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.serve.load_generator"],
        input=json.dumps(vars(plan)),
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        check=False,
        text=True,
    )
    if done.returncode != 0:
        sys.exit(f"the load generator failed:\n{done.stderr}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def _children(pid: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in map(int, path.read_text().split()):
                found += [child, *_children(child)]
    return found


def _resident_kib(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
    return 0
