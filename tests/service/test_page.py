"""The files of the page: content, headers, attribution."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from service import page
from tests.support.browser import CLIPS
from tests.support.paths import ROOT
from tests.support.serving import Running, running

STATIC = Path(page.__file__).parent / "static"
OWN_FILES = sorted(path for path in STATIC.iterdir() if path.is_file())


@pytest.fixture(scope="module")
def served() -> Iterator[Running]:
    with running(embedder="mini", api_keys=("secret-of-the-test",)) as found:
        yield found


def test_page_allows_only_its_own_scripts_and_one_style_by_nonce(served: Running) -> None:
    answers = [served.client.get("/") for _ in range(2)]
    nonces = []
    for answer in answers:
        assert answer.headers["content-type"].startswith("text/html")
        assert answer.headers["cache-control"] == "no-store"
        policy = answer.headers["content-security-policy"]
        (nonce,) = re.findall(r"style-src 'self' 'nonce-([\w-]+)'", policy)
        assert f'content="{nonce}"' in answer.text
        assert {"default-src 'none'", "script-src 'self'", "connect-src 'self'"} <= set(
            policy.split("; ")
        )
        assert "unsafe" not in policy
        nonces.append(nonce)
    assert nonces[0] != nonces[1]


def test_every_file_of_the_page_is_served_with_its_type(served: Running) -> None:
    for path in OWN_FILES:
        answer = served.client.get(f"/static/{path.name}")
        if path.name == "index.html":
            assert answer.status_code == 404
            continue
        assert answer.status_code == 200, path
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == page._MEDIA_TYPES[path.suffix]
    own = {path.name for path in OWN_FILES if path.name != "index.html"}
    assert {name for name in page._static_files() if "/" not in name} == own
    assert served.client.get("/favicon.ico").headers["content-type"] == "image/svg+xml"


def test_a_current_copy_gives_304(served: Running) -> None:
    for path in ("/static/app.js", "/examples/applause.ogg"):
        first = served.client.get(path)
        assert first.headers["cache-control"] == "no-cache"
        for known in (first.headers["etag"], f'"old", W/{first.headers["etag"]}'):
            again = served.client.get(path, headers={"If-None-Match": known})
            assert (again.status_code, again.content) == (304, b"")
            assert again.headers["etag"] == first.headers["etag"]
        assert served.client.get(path, headers={"If-None-Match": '"old"'}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/static/",
        "/static/nothing.js",
        "/static/vendor/vendor.json",
        "/static/..%2fpage.py",
        "/static/%2e%2e/page.py",
        "/static//etc/passwd",
        "/examples/..%2f..%2fREADME.md",
        "/examples/%00",
    ],
)
def test_unlisted_file_names_are_not_found(served: Running, path: str) -> None:
    answer = served.client.get(path)
    assert answer.status_code in (404, 401)
    assert answer.headers["content-type"] == "application/problem+json"


def test_examples_are_listed_with_their_attribution(served: Running) -> None:
    examples = served.client.get("/examples").json()["examples"]
    recordings = {path.name for path in CLIPS.iterdir() if path.suffix in page._MEDIA_TYPES} - {
        "ATTRIBUTION.md"
    }
    assert {example["name"] for example in examples} == recordings
    attribution = served.client.get("/examples/ATTRIBUTION.md").text
    for example in examples:
        path = CLIPS / example["name"]
        answer = served.client.get(f"/{example['url']}")
        assert answer.content == path.read_bytes()
        assert answer.headers["content-type"] == page._MEDIA_TYPES[path.suffix]
        seconds = soundfile.info(path).duration
        assert example["duration_seconds"] == pytest.approx(seconds, abs=1e-3)
        assert re.fullmatch(r"CC0-1\.0|CC-BY(-SA)?-3\.0|BSD-2-Clause", example["licence"])
        assert example["attribution"].split(",")[0].split(" and ")[0] in attribution
        assert example["title"]
        assert example["description"] in attribution


def test_the_page_has_no_inline_code_and_no_other_hosts() -> None:
    index = (STATIC / "index.html").read_text()
    assert re.findall(r"<script(?![^>]*\bsrc=)", index) == []
    assert re.findall(r"<style|\sstyle=|\son\w+=", index) == []
    for path in OWN_FILES:
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert (
            re.findall(r"https?://|@import|innerHTML|outerHTML|insertAdjacent|eval\(", text) == []
        )


def test_vendored_files_match_the_list() -> None:
    vendor = runpy.run_path(str(ROOT / "recipes" / "page_libraries.py"))
    assert list(vendor["differences"]()) == []
    files = {file["name"] for one in vendor["packages"]() for file in one["files"].values()}
    assert {f"vendor/{name}" for name in files} == {
        name for name in page._static_files() if name.startswith("vendor/")
    }


def test_a_changed_vendored_file_is_detected(tmp_path: Path) -> None:
    vendor = runpy.run_path(str(ROOT / "recipes" / "page_libraries.py"))
    for path in (STATIC / "vendor").glob("*.*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "inter.woff2").unlink()
    (tmp_path / "regions.esm.js").write_text("export default 1;")
    assert list(vendor["differences"](tmp_path)) == [
        "regions.esm.js differs from wavesurfer.js 7.12.12",
        "inter.woff2 is missing",
    ]
