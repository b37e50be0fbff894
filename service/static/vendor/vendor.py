"""Bring the page's libraries here: `python service/static/vendor/vendor.py`, or `make vendor`.

`vendor.json` names exact npm packages, the integrity hash of each, and which of their files the
page uses. They are fetched with the npm client, compared with the hash, and copied unchanged.
With `--check` nothing is fetched: the files that are here are compared with their checksums.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
LIST = HERE / "vendor.json"


def packages() -> list[dict[str, Any]]:
    """The packages: name, version, licence, integrity, files {in the package: {name, sha256}}."""
    found: list[dict[str, Any]] = json.loads(LIST.read_text(encoding="utf-8"))["packages"]
    return found


def differences(directory: Path = HERE) -> Iterator[str]:
    """A sentence for each file in `directory` that is absent, or not what the list says."""
    for package in packages():
        for file in package["files"].values():
            path = directory / file["name"]
            if not path.is_file():
                yield f"{file['name']} is not there"
            elif hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                yield f"{file['name']} is not that of {package['name']} {package['version']}"


def fetch(package: dict[str, Any], directory: Path) -> None:
    """Fetch a package and copy its files into `directory`.

    Raises:
        SystemExit: npm fails, or the package is not the one whose hash is known.
    """
    wanted = f"{package['name']}@{package['version']}"
    with tempfile.TemporaryDirectory() as temporary:
        command = ["npm", "pack", wanted, "--loglevel=error", "--pack-destination", temporary]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            sys.exit(f"npm could not fetch {wanted}; what it says is above")
        (archive,) = Path(temporary).glob("*.tgz")
        integrity = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{integrity}" != package["integrity"]:
            sys.exit(
                f"{wanted} is not what it was: its hash is sha512-{integrity}, and {LIST.name} has "
                f"{package['integrity']}. Nothing was copied"
            )
        with tarfile.open(archive) as members:
            for inside, file in package["files"].items():
                source = members.extractfile(f"package/{inside}")
                if source is None:
                    sys.exit(f"{wanted} has no file {inside}")
                (directory / file["name"]).write_bytes(source.read())


def main() -> int:
    """Fetch all packages, or check what is here; 1 if something is not as listed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fetch nothing, compare what is here")
    if not parser.parse_args().check:
        for package in packages():
            fetch(package, HERE)
            print(f"{package['name']} {package['version']}")
    problems = list(differences())
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
