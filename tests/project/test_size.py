"""The size of the code: a reader sees a folder, a module or a function as a whole."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from tests.support.paths import ROOT

PACKAGES = ("vggish", "classifier", "service", "audiotag")
MAX_MODULES, MAX_MODULE_LINES, MAX_FUNCTION_LINES = 12, 450, 60


def modules() -> list[Path]:
    files = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return [ROOT / "cli.py", *files]


def test_no_folder_has_too_many_modules() -> None:
    folders = Counter(path.parent for path in modules() if path.name != "__init__.py")
    assert len(folders) > 20
    assert {folder: n for folder, n in folders.items() if n > MAX_MODULES} == {}


def test_no_module_is_too_long() -> None:
    lengths = {path: len(path.read_text("utf-8").splitlines()) for path in modules()}
    assert len(lengths) > 150
    assert {path: n for path, n in lengths.items() if n > MAX_MODULE_LINES} == {}


def test_no_function_is_too_long() -> None:
    lengths = {
        f"{path.relative_to(ROOT)}:{node.name}": (node.end_lineno or 0) - node.lineno + 1
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    assert len(lengths) > 1000
    assert {name: n for name, n in lengths.items() if n > MAX_FUNCTION_LINES} == {}
