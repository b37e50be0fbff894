"""The structure of the code: which layer may import which."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import pytest

from vggish import errors

ROOT = Path(__file__).resolve().parents[1]
LAYERS = ("vggish", "classifier", "service", "cli")
# Inside vggish: what each of these may import of its own package.
LEAVES = {
    "errors": set(),
    "params": set(),
    "mel_features": {"errors", "params"},
    "postprocess": {"errors", "params"},
}
HEAVY = {"tensorflow", "tf_keras", "onnx", "onnxruntime", "tf2onnx", "resampy", "pyarrow"}


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
            names.add(node.module or "")
    return names


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
def test_leaves_of_vggish_stay_leaves(leaf: str) -> None:
    ours = {
        name.removeprefix("vggish.")
        for name in imported(ROOT / "vggish" / f"{leaf}.py")
        if name.startswith("vggish")
    }
    assert ours <= LEAVES[leaf]


def test_every_error_descends_from_one_and_is_drawn_in_the_tree() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert len(classes) > 5
    assert all(issubclass(c, errors.AudiotagError) for c in classes)
    drawn = errors.__doc__ or ""
    assert [c.__name__ for c in classes if c.__name__ not in drawn] == []
