"""Fresh root directories, and commands in them: what a container engine does, where there is none.

Linux namespaces, chroot and Debian's debootstrap; needs root, and Python 3.12 or newer.
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

# What the image python:3.12-slim-bookworm has from Debian beside the essential packages.
PACKAGES = (
    *("ca-certificates", "netbase", "tzdata", "libbz2-1.0", "libdb5.3", "libexpat1", "libffi8"),
    *("liblzma5", "libncursesw6", "libreadline8", "libsqlite3-0", "libssl3", "libuuid1", "zlib1g"),
)
SUITE = "bookworm"
DEVICES = ("null", "zero", "full", "random", "urandom")
# Of a machine, that pip needs to reach its packages.
NETWORK_FILES = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
# Of the image.
ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/local/sbin:/usr/sbin:/usr/bin:/sbin:/bin"}
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1


def make_base(root: Path) -> None:
    """Debian's minimal system, with the Python that runs this in /usr/local."""
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
    # The image has pip, and no setuptools.
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
    """Run a command in a root that may be written, with the network of this machine.

    Args:
        root: a system.
        command: program and arguments.
        environment: all that it has; the base image's if it is not given.
        directory: to run it in.
        user: "uid:gid".
        mounts: paths of this machine that it sees, read-only, at the same place.
    """
    with _seen_inside(root, [*map(Path, NETWORK_FILES), *mounts]) as binds:
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
def _seen_inside(root: Path, paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Places in a root where paths can be mounted; those that were made for it go again."""
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
    """From here on this process and its children have a loopback of their own, and nothing else."""
    os.unshare(os.CLONE_NEWNET | os.CLONE_NEWNS)
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with socket.socket() as any_socket:
        request = struct.pack("16sh14x", b"lo", _IFF_UP)
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, request)


class Container:
    """A root as a container with `--read-only --tmpfs /tmp --cap-drop ALL` has it.

    Args:
        root: of the image.
        place: an empty directory, where it is mounted; in a mount namespace of this process.
        environment: of the image.
        user: "uid:gid", of the image.
        directory: of the image.
        data: what is mounted at `directory`, read-only.
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
        """Start a command as the image's user and as process 1, without any capability.

        Args:
            command: program and arguments.
            output: where stdout and stderr go, as for `subprocess.Popen`.
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
        """Run a command to its end: status, stdout, stderr."""
        process = self.start(command, subprocess.PIPE)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err


def process_1(process: subprocess.Popen[bytes]) -> int:
    """The id, outside, of what is process 1 inside."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(children[0])
