"""Write the lock files of the image: all packages with their versions and hashes.

    make lock

`requirements.lock` has the dependencies of audiotag with the extra `serve`, and `requirements.in`;
`build.lock` has those that build its wheel. They apply to Python 3.12 on all platforms and name no
host: pip uses the index that it is configured with, and verifies the hashes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import tomllib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PYTHON = "3.12"


def main() -> None:
    """Write both locks with the newest versions."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = (HERE / "requirements.in").read_text("utf-8").splitlines()
    wanted += project["project"]["dependencies"]
    wanted += project["project"]["optional-dependencies"]["serve"]
    lock(wanted, HERE / "requirements.lock")
    lock(project["build-system"]["requires"], HERE / "build.lock")


def lock(requirements: list[str], path: Path) -> None:
    """Write the versions and hashes of the requirements and their dependencies."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--upgrade"]
    command += ["--universal", "--python-version", PYTHON, "--generate-hashes"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-annotate"]
    command += ["--custom-compile-command", "make lock", "--output-file", str(path)]
    text = "\n".join(requirements)
    # Ignore the configuration files of the project and the user.
    done = subprocess.run([*command, "--no-config"], input=text, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"cannot write {path.name}")
    print(f"{path.relative_to(ROOT)}: {path.read_text('utf-8').count('==')} packages")


if __name__ == "__main__":
    main()
