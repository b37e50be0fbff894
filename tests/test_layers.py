"""The structure of the code: which layer may import which."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from vggish import errors

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("vggish", "classifier", "service", "cli")
# What each of these may import of our own modules.
LEAVES = {
    "vggish.errors": set(),
    "vggish.params": set(),
    "vggish.mel_features": {"vggish.errors", "vggish.params"},
    "vggish.postprocess": {"vggish.errors", "vggish.params"},
    "classifier.labels": {"vggish.errors"},
    "classifier.metrics": {"vggish.errors"},
}
# What one does with a head; none of these needs another.
USES = ("train", "evaluate", "export", "predict")
HEAVY = {
    *("tensorflow", "tf_keras", "onnx", "onnxruntime", "tf2onnx"),
    *("matplotlib", "pyarrow", "resampy"),
}


def source_files() -> list[tuple[str, Path]]:
    files = [("cli", ROOT / "cli.py")]
    for layer in LAYERS[:-1]:
        files += [(layer, path) for path in sorted((ROOT / layer).rglob("*.py"))]
    return files


def imported(path: Path, *, top_level_only: bool = False) -> set[str]:
    tree = ast.parse(path.read_text("utf-8"))
    nodes = tree.body if top_level_only else ast.walk(tree)
    names: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the layer"
            # What is imported from a package may be a module of it.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def modules(names: set[str]) -> set[str]:
    """Our own modules among imported names, without what is taken from them."""
    return {".".join(name.split(".")[:2]) for name in names if name.split(".")[0] in LAYERS}


@pytest.mark.parametrize(
    ("layer", "path"), source_files(), ids=lambda value: getattr(value, "name", value)
)
def test_imports_flow_one_way(layer: str, path: Path) -> None:
    above = set(LAYERS[LAYERS.index(layer) + 1 :])
    assert not {name.split(".")[0] for name in imported(path)} & above


@pytest.mark.parametrize(
    ("layer", "path"), source_files(), ids=lambda value: getattr(value, "name", value)
)
def test_heavy_packages_are_imported_where_they_are_used(layer: str, path: Path) -> None:
    assert not {name.split(".")[0] for name in imported(path, top_level_only=True)} & HEAVY


@pytest.mark.parametrize("leaf", LEAVES)
def test_leaves_stay_leaves(leaf: str) -> None:
    names = imported(ROOT / f"{leaf.replace('.', '/')}.py")
    assert modules(names) <= LEAVES[leaf]
    others = {name.split(".")[0] for name in names} - set(LAYERS)
    assert others <= sys.stdlib_module_names | {"numpy"}


@pytest.mark.parametrize("use", USES)
def test_uses_of_a_head_do_not_import_one_another(use: str) -> None:
    others = {f"classifier.{other}" for other in USES if other != use}
    assert not modules(imported(ROOT / "classifier" / f"{use}.py")) & others


@pytest.mark.parametrize("package", ["classifier", "cli"])
def test_importing_loads_neither_numpy_nor_what_is_heavy(package: str) -> None:
    program = f"import sys, {package}; print(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert package in loaded
    assert not loaded & {*HEAVY, "numpy"}


def test_every_error_descends_from_one_and_is_drawn_in_the_tree() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert len(classes) > 5
    assert all(issubclass(c, errors.AudiotagError) for c in classes)
    drawn = errors.__doc__ or ""
    assert [c.__name__ for c in classes if c.__name__ not in drawn] == []
