"""Tests that the documents are complete: generated pages are up to date, links lead somewhere."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from docs import make_python_api
from tests.support.paths import ROOT

DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/*.md", "recipes/**/*.md") for path in ROOT.glob(pattern)
)


def anchors(document: Path) -> set[str]:
    """Return the names under which a Markdown viewer links to the headings of a document."""
    text = re.sub(r"^```.*?^```", "", document.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_python_api_page_is_up_to_date() -> None:
    up_to_date = make_python_api.PAGE.read_text("utf-8") == make_python_api.page()
    assert up_to_date, "a docstring has changed; run: python -m docs.make_python_api"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_to_files_and_headings(document: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", document.read_text("utf-8"))
    for link in links:
        if "://" in link:
            continue
        file, _, anchor = link.partition("#")
        target = (document.parent / file).resolve() if file else document
        assert target.exists(), f"{link}: no such file"
        assert not anchor or anchor in anchors(target), f"{link}: no such heading"


def test_index_lists_every_document() -> None:
    links = set(re.findall(r"\]\(([^)#\s]+)\)", (ROOT / "docs" / "index.md").read_text("utf-8")))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= links


def test_changelog_names_existing_modules() -> None:
    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    rows = re.findall(r"^\| `[\w.]+` \| (.*) \| (.*) \|$", text, re.MULTILINE)
    renamed = re.findall(r"^\| `[\w.]+` \| `([\w.]+)` \|$", text, re.MULTILINE)
    assert len(renamed) > 10
    for name in renamed:
        module, _, attribute = name.rpartition(".")
        assert hasattr(importlib.import_module(module), attribute), name
    assert len(rows) > 80
    for new_module, moved_elsewhere in rows:
        names = re.findall(r"`((?:vggish|classifier|service|audiotag|cli)[\w.]*)`", new_module)
        names += re.findall(r"`([\w.]+)`:", moved_elsewhere)
        for name in names:
            path = ROOT / name.replace(".", "/")
            assert path.with_suffix(".py").is_file() or path.is_dir(), name
