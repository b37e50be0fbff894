"""The structure of the code: which package, folder and file may import which."""

from __future__ import annotations

import ast
import functools
import graphlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from vggish import errors

# A package imports those to its left, and a room (a folder, or a file beside the folders)
# imports those in the rows above its own.
PACKAGES = ("vggish", "classifier", "service", "audiotag", "cli")
ROOMS = {
    "vggish": (
        {"errors", "params"},
        {"common"},
        {"audio", "frames", "mel_features", "postprocess"},
        {"network"},
        {"embedders", "extractor"},
        {"api", "batch"},
    ),
    "classifier": (
        {"heads", "labels", "metrics", "names"},
        {"frame_data", "tags"},
        {"audio_data", "bundles", "reports"},
        {"evaluate", "inspect", "output", "predict", "tagger", "training"},
        {"export", "live"},
        {"fit"},
    ),
    "service": (
        {"documents", "problems", "scratch", "settings", "static"},
        {"client", "logs", "metrics"},
        {"engine", "middleware"},
        {"api", "page"},
        {"app"},
        {"server"},
    ),
    "audiotag": ({"terminal"}, {"commands"}),
}
HEAVY = {
    *("tensorflow", "tf_keras", "onnx", "onnxruntime", "tf2onnx"),
    *("matplotlib", "pyarrow", "resampy"),
}


def source_files(root: Path = ROOT) -> dict[str, Path]:
    """Modules of the product by name: `{"vggish.audio": Path, ...}`."""
    files = {"cli": root / "cli.py"}
    for package in PACKAGES[:-1]:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            # The vendored libraries of the page come with a script, not with a package.
            if (path.parent / "__init__.py").exists():
                files[name] = path
    return files


def imported(tree: ast.AST) -> set[str]:
    """Every name imported anywhere below a node: in functions, in `try:`, for typing only."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the layer"
            # What is imported from a package may be a module of it.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and isinstance(node.args[0], ast.Constant)
        ):
            names.add(node.args[0].value)
    return names


def module_of(name: str, modules: dict[str, Path]) -> str | None:
    """The module that an imported name is, or is taken from; None if it is not ours."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def edges(modules: dict[str, Path]) -> dict[str, set[str]]:
    """For each module of ours, the others of ours that it imports."""
    graph = {}
    for module, path in modules.items():
        names = imported(ast.parse(path.read_text("utf-8")))
        graph[module] = {m for name in names if (m := module_of(name, modules))} - {module}
    return graph


@functools.cache
def imports() -> dict[str, set[str]]:
    return edges(source_files())


def package_of(module: str) -> str:
    return module.split(".")[0]


def row_of(module: str) -> int | None:
    """The row of a module's room in `ROOMS`; None for the face of a package."""
    package, _, rest = module.partition(".")
    if not rest:
        return None
    rows = [i for i, row in enumerate(ROOMS[package]) if rest.split(".")[0] in row]
    assert len(rows) == 1, f"{module} has no place in the order of {package}"
    return rows[0]


def out_of_order(graph: dict[str, set[str]]) -> list[str]:
    """Imports against the order of packages, or against the order of rooms in a package."""
    found = []
    for module, others in graph.items():
        for other in others:
            package, its_package = package_of(module), package_of(other)
            if package != its_package:
                wrong = PACKAGES.index(its_package) > PACKAGES.index(package)
            elif package == "cli" or module.split(".")[:2] == other.split(".")[:2]:
                continue
            else:
                row, its_row = row_of(module), row_of(other)
                wrong = row is not None and (its_row is None or its_row >= row)
            if wrong:
                found.append(f"{module} imports {other}")
    return sorted(found)


def test_imports_flow_one_way() -> None:
    assert len(imports()) > 150
    assert out_of_order(imports()) == []


def test_no_files_import_each_other_in_a_circle() -> None:
    graph = {
        # The face of a package names what is in it, under `TYPE_CHECKING`.
        module: set() if "." not in module else others
        for module, others in imports().items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize(
    "statement",
    [
        "import service.app",
        "def f():\n    from service.app import create_app",
        "try:\n    from service import app\nexcept ImportError: pass",
        "if TYPE_CHECKING:\n    import service.app as application",
        "application = importlib.import_module('service.app')",
    ],
)
def test_an_import_against_the_order_is_seen_wherever_it_stands(
    tmp_path: Path, statement: str
) -> None:
    module = tmp_path / "tagger.py"
    module.write_text(statement)
    modules = {"classifier.tagger": module, "service.app": ROOT / "service" / "app.py"}
    graph = {"classifier.tagger": edges(modules)["classifier.tagger"]}
    assert out_of_order(graph) == ["classifier.tagger imports service.app"]


def test_an_import_of_a_later_room_is_seen() -> None:
    assert out_of_order({"vggish.audio.stream": {"vggish.api"}}) != []
    assert out_of_order({"vggish.audio.stream": {"vggish.frames.clip"}}) != []
    assert out_of_order({"vggish.frames.clip": {"vggish.errors"}}) == []


@pytest.mark.parametrize("module", ["errors", "params", "mel_features", "postprocess"])
def test_stages_of_the_front_end_need_only_numpy(module: str) -> None:
    names = imported(ast.parse((ROOT / "vggish" / f"{module}.py").read_text("utf-8")))
    others = {package_of(name) for name in names} - set(PACKAGES)
    assert others <= sys.stdlib_module_names | {"numpy"}


def test_heavy_packages_are_imported_where_they_are_used() -> None:
    for module, path in source_files().items():
        tree = ast.parse(path.read_text("utf-8"))
        statements = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        top_level = imported(ast.Module(statements, []))
        assert not {package_of(name) for name in top_level} & HEAVY, module


@pytest.mark.parametrize("package", ["audiotag", "vggish", "classifier", "service", "cli"])
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
