"""Try the Dockerfile without Docker: run its instructions in a fresh root directory.

    python3.12 -m deploy.try_image [--work DIR] [--build-arg NAME=VALUE ...]

Run it by hand, as root, on Debian with debootstrap. Debian's minimal system and the Python that
runs this script replace the base image; COPY, RUN, ENV, USER and the other instructions are run as
written, pip with the configuration of this machine. The result is started as a container with a
read-only root, no capabilities and no network, and tried: on the command line, as a service, with
its health check, until SIGTERM.
"""

# ruff: noqa: S607 - programs are found by PATH

from __future__ import annotations

import argparse
import fnmatch
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from deploy.dockerfile import Instruction, Stage, environment, read
from deploy.fresh_root import ENVIRONMENT, Container, enter_own_network, make_base, process_1, run

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ROOT / "weights" / "clips"
CLIP, LABEL = "speech_voicemail.wav", "Speech"
PORT = 8000
READY_SECONDS, STOP_SECONDS = 60, 40
# `docker build` passes these to RUN, and does not keep them.
_PASSED_ON = ("PIP_", "SSL_", "REQUESTS_", "HTTP_", "HTTPS_", "NO_PROXY", "http", "no_proxy")


class Image:
    """The result of the instructions of a Dockerfile so far."""

    def __init__(self, work: Path, stages: list[Stage]) -> None:
        self.work = work
        self.stages = stages
        self.roots: dict[str, Path] = {}
        self.environment: dict[str, str] = {}
        self.user, self.directory = "0:0", "/"
        self.root = work
        self.ignored = [
            line.strip()
            for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines()
            if line.strip() and not line.startswith("#")
        ]

    def build(self) -> None:
        """Run all instructions."""
        base = self.work / "base"
        if not base.exists():
            say("base: Debian and this Python")
            partial = self.work / "base.partial"
            shutil.rmtree(partial, ignore_errors=True)
            make_base(partial)
            partial.rename(base)
        for number, stage in enumerate(self.stages):
            self.root = self.work / f"stage-{number}"
            shutil.rmtree(self.root, ignore_errors=True)
            parent = self.roots.get(stage.base, base)
            subprocess.run(["cp", "--archive", "--reflink=auto", parent, self.root], check=True)
            self.environment = dict(ENVIRONMENT)
            self.user, self.directory = "0:0", "/"
            for instruction in stage.instructions:
                say(f"Dockerfile:{instruction.line} {instruction.name} {instruction.value[:80]}")
                self._run(instruction)
            self.roots[stage.name] = self.root

    def _run(self, instruction: Instruction) -> None:
        name, value = instruction.name, instruction.value
        if name == "ENV":
            self.environment |= environment(value, self.environment)
        elif name == "WORKDIR":
            self.directory = value
            self.inside(value).mkdir(parents=True, exist_ok=True)
        elif name == "USER":
            self.user = value
        elif name == "COPY":
            self._copy(instruction)
        elif name == "RUN":
            settings, paths = pip_settings()
            run(
                self.root,
                ["/bin/sh", "-c", value],
                environment={**settings, **self.environment},
                directory=self.directory,
                user=self.user,
                mounts=paths,
            )

    def _copy(self, instruction: Instruction) -> None:
        *sources, target = instruction.words
        stage = instruction.flags.get("from")
        place = self.inside(target)
        into = target.endswith("/") or len(sources) > 1
        for name in sources:
            source = (ROOT if stage is None else self.roots[stage]) / name.lstrip("/")
            # COPY copies the content of a directory; a file keeps its name only in a directory.
            goal = place / source.name if into and source.is_file() else place
            goal.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                ignore = None if stage else self._ignored
                shutil.copytree(source, goal, symlinks=True, ignore=ignore, dirs_exist_ok=True)
            else:
                shutil.copy2(source, goal)
        owner = instruction.flags.get("chown", "0:0")
        if stage is None:
            subprocess.run(["chown", "--recursive", owner, place], check=True)

    def _ignored(self, directory: str, names: list[str]) -> set[str]:
        """Names in a directory of the build context that .dockerignore excludes."""
        at = Path(directory).relative_to(ROOT)
        return {
            name
            for name in names
            for pattern in self.ignored
            if (at / name).match(pattern.removeprefix("**/"))
            if pattern.startswith("**/") or fnmatch.fnmatch(str(at / name), pattern)
        }

    def inside(self, path: str) -> Path:
        """The path on this machine of a path in the image."""
        return self.root / os.path.join("/", self.directory, path).lstrip("/")


def pip_settings() -> tuple[dict[str, str], list[Path]]:
    """The variables that configure pip on this machine, and the local paths in them."""
    found = {name: value for name, value in os.environ.items() if name.startswith(_PASSED_ON)}
    told = subprocess.check_output([sys.executable, "-m", "pip", "config", "list"], text=True)
    for line in told.splitlines():
        name, _, value = line.partition("=")
        section, _, option = name.partition(".")
        if section == "global":
            found.setdefault(f"PIP_{option.upper().replace('-', '_')}", value.strip("'\""))
    words = [word.removeprefix("file://") for value in found.values() for word in value.split()]
    # The files of a local package index are beside its directory "simple".
    named = [word.removesuffix("/simple") for word in words if word.startswith("/")]
    paths = [Path(name) for name in dict.fromkeys(named) if Path(name).exists()]
    return found, paths


class Trial:
    """Checks of the image as a user runs it; each prints a line."""

    def __init__(self, image: Image, container: Container) -> None:
        stage = image.stages[-1]
        self.container = container
        self.entry_point = stage.last("ENTRYPOINT").words
        self.command = stage.last("CMD").words
        health = stage.last("HEALTHCHECK")
        self.health = Instruction("CMD", health.value.partition(" ")[2], {}, health.line).words
        self.failed: list[str] = []

    def check(self, what: str, fact: object) -> None:
        """Print the result of a check, and note a failure."""
        say(f"{'ok  ' if fact else 'NO  '} {what}")
        if not fact:
            self.failed.append(what)

    def by_hand(self) -> None:
        """Run commands, and check what the image must not contain."""
        run = self.container.run
        status, out, _ = run([*self.entry_point, "classify", CLIP])
        self.check(f"audiotag classify {CLIP}: {LABEL}", status == 0 and LABEL.encode() in out)
        status, out, _ = run(["id", "-u"])
        self.check(f"the user is not root: {out.decode().strip()}", status == 0 and int(out) > 0)
        status, _, err = run(["touch", "/new"])
        self.check("the root is read-only", status != 0 and b"Read-only" in err)
        for package in ("tensorflow", "pip", "setuptools", "pytest"):
            absent = run(["python", "-c", f"import {package}"])[0] != 0
            self.check(f"{package} is not installed", absent)
        self.check("the health check fails before the service runs", run(self.health)[0] == 1)

    def as_service(self) -> None:
        """Run the default command from its start to SIGTERM."""
        started = time.monotonic()
        service = self.container.start([*self.entry_point, *self.command])
        while request("GET", "/readyz")[0] != http.client.OK:
            if service.poll() is not None or time.monotonic() - started > READY_SECONDS:
                self.check("the service becomes ready", False)
                service.kill()
                return
            time.sleep(0.2)
        say(f"ready after {time.monotonic() - started:.1f} s")
        self.check("the health check passes", self.container.run(self.health)[0] == 0)
        status, page = request("GET", "/")
        self.check("GET / is a page", status == http.client.OK and b"<html" in page.lower())
        for path in (CLIPS / CLIP, self.aac()):
            status, body = request(
                "POST", "/classify", path.read_bytes(), "application/octet-stream"
            )
            tags = json.loads(body).get("tags", []) if status == http.client.OK else []
            labels = ", ".join(tag["label"] for tag in tags[:3])
            self.check(f"POST /classify of {path.name}: {status}, {labels}", LABEL in labels)
        os.kill(process_1(service), signal.SIGTERM)
        try:
            status = service.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            service.kill()
            status = -1
        self.check(f"SIGTERM stops it with exit status 0: {status}", status == 0)
        left = list((self.container.place / "tmp").iterdir())
        self.check(f"no temporary files remain: {left}", not left)
        self.check("the health check fails", self.container.run(self.health)[0] == 1)

    def aac(self) -> Path:
        """Encode the clip with the image's ffmpeg as AAC, which libsndfile cannot read."""
        program = "import imageio_ffmpeg as f; print(f.get_ffmpeg_exe())"
        ffmpeg = self.container.run(["python", "-c", program])[1].decode().strip()
        options = ["-loglevel", "error", "-i", CLIP, "-f", "adts", "pipe:1"]
        path = Path(tempfile.mkdtemp()) / "clip.aac"
        path.write_bytes(self.container.run([ffmpeg, *options])[1])
        return path


def request(method: str, path: str, body: bytes = b"", kind: str = "") -> tuple[int, bytes]:
    """Send a request; the status and body of the response, status 0 if there is none."""
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=60)
    try:
        connection.request(method, path, body or None, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def say(what: str) -> None:
    """Print a line of the report."""
    print(what, flush=True)


def mebibytes(path: Path) -> int:
    """Size of a directory in MiB."""
    told = subprocess.check_output(["du", "--summarize", "--block-size=1M", path], text=True)
    return int(told.split()[0])


def main() -> int:
    """Build and try the image; the exit status is 1 if a check failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--work",
        type=Path,
        help="directory that keeps the base for the next run (default: a temporary one)",
    )
    parser.add_argument("--build-arg", nargs="+", default=[], metavar="NAME=VALUE")
    options = parser.parse_args()
    arguments = dict(text.split("=", 1) for text in options.build_arg)
    stages = read(ROOT / "Dockerfile", arguments)
    with tempfile.TemporaryDirectory(prefix="audiotag-image-") as scratch:
        work = options.work or Path(scratch)
        work.mkdir(exist_ok=True)
        image = Image(work.resolve(), stages)
        image.build()
        size, of_base = mebibytes(image.root), mebibytes(image.work / "base")
        say(f"the image has {size} MiB, {size - of_base} MiB more than the base")
        enter_own_network()
        place = Path(scratch) / "container"
        place.mkdir()
        container = Container(
            image.root,
            place,
            environment=image.environment,
            user=image.user,
            directory=image.directory,
            data=CLIPS,
        )
        trial = Trial(image, container)
        trial.by_hand()
        trial.as_service()
        subprocess.run(["umount", "--recursive", place], check=True)
    for what in trial.failed:
        print(f"failed: {what}", file=sys.stderr)
    return 1 if trial.failed else 0


if __name__ == "__main__":
    sys.exit(main())
