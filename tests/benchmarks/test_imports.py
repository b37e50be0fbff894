"""Tests that code outside the packages imports names that exist, also inside functions."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

from tests.support.paths import ROOT

OURS = {"audiotag", "benchmarks", "classifier", "cli", "recipes", "service", "tests", "vggish"}
FILES = sorted(
    path
    for folder in ("benchmarks", "examples", "recipes")
    for path in (ROOT / folder).rglob("*.py")
)


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imported_names_exist(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if not isinstance(node, ast.ImportFrom) or node.module is None:
            continue
        if node.module.split(".")[0] not in OURS or node.module == "benchmarks.torch_heads":
            continue
        module = importlib.import_module(node.module)
        for alias in node.names:
            if not hasattr(module, alias.name):
                assert importlib.util.find_spec(f"{node.module}.{alias.name}"), alias.name
