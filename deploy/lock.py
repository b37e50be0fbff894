"""Write the locks of the image: every package that it is made of, with version and hashes.

    make lock

`requirements.lock` has what audiotag needs with the extra `serve`, and `requirements.in`;
`build.lock` has what its wheel is built with. They hold for Python 3.12 on all processors, and
name no host: pip takes the packages from wherever it is told to, and the hashes decide.
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
    """Lock both, with the newest versions that there are."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    wanted = (HERE / "requirements.in").read_text("utf-8").splitlines()
    wanted += project["project"]["dependencies"]
    wanted += project["project"]["optional-dependencies"]["serve"]
    lock(wanted, HERE / "requirements.lock")
    lock(project["build-system"]["requires"], HERE / "build.lock")


def lock(requirements: list[str], path: Path) -> None:
    """Write the versions and hashes of all that the requirements need."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "-", "--quiet", "--upgrade"]
    command += ["--universal", "--python-version", PYTHON, "--generate-hashes"]
    command += ["--no-emit-index-url", "--no-emit-find-links", "--no-annotate"]
    command += ["--custom-compile-command", "make lock", "--output-file", str(path)]
    text = "\n".join(requirements)
    # Without the settings of this directory and of whoever runs it.
    done = subprocess.run([*command, "--no-config"], input=text, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{path.name} could not be made")
    print(f"{path.relative_to(ROOT)}: {path.read_text('utf-8').count('==')} packages")


if __name__ == "__main__":
    main()
