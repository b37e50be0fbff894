"""Fetch the libraries of the service's page: `python recipes/page_libraries.py`, or `make vendor`.

`service/static/vendor/vendor.json` lists exact npm packages, the integrity hash of each, and the
files that the page uses. The packages are fetched with the npm client, compared with their hashes,
and the files copied unchanged. `--check` only compares the files in the repository with their
checksums.
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

VENDOR = Path(__file__).resolve().parents[1] / "service" / "static" / "vendor"
LIST = VENDOR / "vendor.json"


def packages() -> list[dict[str, Any]]:
    """Read the packages: name, version, licence, integrity, files {path: {name, sha256}}."""
    listed: list[dict[str, Any]] = json.loads(LIST.read_text(encoding="utf-8"))["packages"]
    return listed


def differences(directory: Path = VENDOR) -> Iterator[str]:
    """Describe each file in `directory` that is missing or differs from the list."""
    for package in packages():
        for file in package["files"].values():
            path = directory / file["name"]
            if not path.is_file():
                yield f"{file['name']} is missing"
            elif hashlib.sha256(path.read_bytes()).hexdigest() != file["sha256"]:
                yield f"{file['name']} differs from {package['name']} {package['version']}"


def fetch(package: dict[str, Any], directory: Path) -> None:
    """Fetch a package and copy its files into `directory`.

    Raises:
        SystemExit: npm fails, or the package has another hash.
    """
    name = f"{package['name']}@{package['version']}"
    with tempfile.TemporaryDirectory() as temporary:
        command = ["npm", "pack", name, "--loglevel=error", "--pack-destination", temporary]
        if subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode:
            sys.exit(f"npm cannot fetch {name}; see its message above")
        (archive,) = Path(temporary).glob("*.tgz")
        integrity = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if f"sha512-{integrity}" != package["integrity"]:
            sys.exit(
                f"{name} has the hash sha512-{integrity}, but {LIST.name} lists "
                f"{package['integrity']}. Nothing was copied"
            )
        with tarfile.open(archive) as members:
            for inside, file in package["files"].items():
                source = members.extractfile(f"package/{inside}")
                if source is None:
                    sys.exit(f"{name} has no file {inside}")
                (directory / file["name"]).write_bytes(source.read())


def main() -> int:
    """Fetch all packages, or check the files; return 1 if a file is not as listed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--check", action="store_true", help="only compare the files with their checksums"
    )
    if not parser.parse_args().check:
        for package in packages():
            fetch(package, VENDOR)
            print(f"{package['name']} {package['version']}")
    problems = list(differences())
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
