"""Root directories and commands in them, in place of a container engine.

Uses Linux namespaces, chroot and Debian's debootstrap. Needs root, and Python 3.12 or newer.
"""

# ruff: noqa: S108, S607 - programs are found by PATH, and /tmp is the image's

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

# Debian packages of the image python:3.12-slim-bookworm, beyond the essential ones.
PACKAGES = (
    *("ca-certificates", "netbase", "tzdata", "libbz2-1.0", "libdb5.3", "libexpat1", "libffi8"),
    *("liblzma5", "libncursesw6", "libreadline8", "libsqlite3-0", "libssl3", "libuuid1", "zlib1g"),
)
SUITE = "bookworm"
DEVICES = ("null", "zero", "full", "random", "urandom")
# Files of this machine that pip needs for network access.
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
# Environment of the base image.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def make_base(root: Path) -> None:
    """Install Debian's minimal system, with the running Python in /usr/local."""
    sources = subprocess.check_output(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages"], text=True
    )
    command = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE]
    subprocess.run([*command, str(root), sources.splitlines()[0]], check=True, stdout=sys.stderr)
    prefix = Path(sys.base_prefix)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    local = root / "usr" / "local"
    for library in (prefix / "lib").glob("libpython*"):
        shutil.copy(library, local / "lib")
    ignored = shutil.ignore_patterns("__pycache__", "test", "tests", "site-packages")
    shutil.copytree(prefix / "lib" / version, local / "lib" / version, ignore=ignored)
    (local / "lib" / version / "site-packages").mkdir()
    shutil.copy(prefix / "bin" / version, local / "bin")
    for name in ("python", "python3"):
        (local / "bin" / name).symlink_to(version)
    run(root, ["ldconfig"])
    # The image has pip but not setuptools.
    run(root, [f"/usr/local/bin/{version}", "-m", "ensurepip"])
    run(root, [f"/usr/local/bin/{version}", "-m", "pip", "uninstall", "-qy", "setuptools"])


def run(
    root: Path,
    command: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    directory: str = "/",
    user: str = "0:0",
    mounts: Sequence[Path] = (),
) -> None:
    """Run a command in a writable root, with the network of this machine.

    Args:
        root: the root directory.
        command: program and arguments.
        environment: all variables (default: those of the base image).
        directory: working directory.
        user: "uid:gid".
        mounts: paths of this machine that are visible, read-only, at the same path.
    """
    with _mount_points(root, [*map(Path, NETWORK_FILES), *mounts]) as binds:
        lines = [
            "set -e",
            f"mount -t proc proc {root}/proc",
            f"mount --rbind /dev {root}/dev",
            *(f"mount --bind -o ro {path} {root}{path}" for path in binds),
            'exec "$@"',
        ]
        inside = [
            *("chroot", f"--userspec={user}", str(root), "env", "-i", f"--chdir={directory}"),
            *(f"{name}={value}" for name, value in (environment or ENVIRONMENT).items()),
            *command,
        ]
        subprocess.run(
            ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c",
             "\n".join(lines), "sh", *inside],
            check=True,
        )  # fmt: skip


@contextlib.contextmanager
def _mount_points(root: Path, paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Create mount points for paths in a root, and remove them afterwards."""
    made: list[Path] = []
    there = [path for path in paths if path.exists()]
    for path in there:
        place = root / path.relative_to("/")
        missing = [parent for parent in (place, *place.parents) if not parent.exists()]
        made += missing
        for parent in reversed(missing[1:]):
            parent.mkdir()
        if missing and path.is_dir():
            place.mkdir()
        elif missing:
            place.touch()
    yield there
    for place in made:
        if place.is_dir():
            place.rmdir()
        else:
            place.unlink()


def enter_own_network() -> None:
    """Give this process and its children a network with nothing but a loopback interface."""
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


class Container:
    """A root as in a container with `--read-only --tmpfs /tmp --cap-drop ALL`.

    Args:
        root: root directory of the image.
        place: an empty directory; the mount point in the mount namespace of this process.
        environment: variables of the image.
        user: "uid:gid" of the image.
        directory: working directory of the image.
        data: directory that is mounted at `directory`, read-only.
    """

    def __init__(
        self,
        root: Path,
        place: Path,
        *,
        environment: Mapping[str, str],
        user: str,
        directory: str,
        data: Path,
    ) -> None:
        self.place, self.environment = place, environment
        self.user, self.directory = user, directory
        for command in (
            f"mount --bind {root} {place}",
            f"mount -o remount,bind,ro {place}",
            f"mount -t tmpfs -o mode=1777,nosuid,nodev,noexec,size=256m tmpfs {place}/tmp",
            f"mount -t tmpfs -o mode=755 tmpfs {place}/dev",
            f"mount --bind -o ro {data} {place}{directory}",
        ):
            subprocess.run(command.split(), check=True)
        for device in DEVICES:
            (place / "dev" / device).touch()
            subprocess.run(
                ["mount", "--bind", f"/dev/{device}", place / "dev" / device], check=True
            )

    def start(self, command: Sequence[str], output: int | None = None) -> subprocess.Popen[bytes]:
        """Start a command as the image's user and as process 1, without capabilities.

        Args:
            command: program and arguments.
            output: destination of stdout and stderr, as for `subprocess.Popen`.
        """
        uid, gid = self.user.split(":")
        privileges = ["--reuid", uid, "--regid", gid, "--clear-groups", "--no-new-privs"]
        privileges += ["--bounding-set=-all", "--inh-caps=-all"]
        return subprocess.Popen(
            [
                *("unshare", "--pid", "--fork", "--kill-child", f"--mount-proc={self.place}/proc"),
                *("chroot", str(self.place), "setpriv", *privileges),
                *("env", "-i", f"--chdir={self.directory}"),
                *(f"{name}={value}" for name, value in self.environment.items()),
                *command,
            ],
            stdout=output,
            stderr=output,
        )

    def run(self, command: Sequence[str]) -> tuple[int, bytes, bytes]:
        """Run a command: its exit status, stdout and stderr."""
        process = self.start(command, subprocess.PIPE)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def process_1(process: subprocess.Popen[bytes]) -> int:
    """The id, on this machine, of process 1 in the container."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])
