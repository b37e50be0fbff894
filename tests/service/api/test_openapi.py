"""The OpenAPI document and the service, compared by schemathesis."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.serving import Running, running


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with pytest.MonkeyPatch.context() as patch:
        # ffmpeg cannot decode random bytes either, and starting it takes long.
        patch.setenv("AUDIOTAG_FFMPEG", "no-ffmpeg")
        with running(embedder="mini") as found:
            yield found


def test_the_service_conforms_to_its_openapi_document(served: Running, tmp_path: Path) -> None:
    """All checks except that valid requests are accepted: random bytes are not audio."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{served.url}/openapi.json"),
            *("--phases", "examples,coverage,fuzzing", "--max-examples", "25", "--seed", "1"),
            *("--exclude-checks", "positive_data_acceptance", "--workers", "1", "--no-color"),
        ],
        cwd=tmp_path,
        env={**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "examples")},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert "Tested: " in done.stdout
    assert served.metric("audiotag_requests_total") > 150
    assert served.metric("audiotag_errors_total", kind="internal") == 0
    assert [path.name for path in served.service.storage.directory.iterdir()] == ["lock"]
