"""Tests of the structure of the code: which package, folder and file may import which."""

from __future__ import annotations

import ast
import functools
import graphlib
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.paths import ROOT
from vggish import errors

# A package may import the packages to its left. Within a package, a room (a folder, or a module
# beside the folders) may import the rooms in the rows above its own.
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
        {"inspect", "output", "predict", "tagger", "training"},
        {"evaluate", "export", "live"},
        {"fit"},
        {"training_setup"},
        {"api"},
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
    *("fsspec", "matplotlib", "pyarrow", "resampy"),
}


def source_files(root: Path = ROOT) -> dict[str, Path]:
    """Return the modules of the packages by name: `{"vggish.audio": Path, ...}`."""
    files = {"cli": root / "cli.py"}
    for package in PACKAGES[:-1]:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            name = ".".join(parts).removesuffix(".__init__")
            # A directory without `__init__.py` is not a package, even if it contains a script.
            if (path.parent / "__init__.py").exists():
                files[name] = path
    return files


def imported(tree: ast.AST) -> set[str]:
    """Return all names imported below a node, also in functions, in `try:`, and for typing only."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "a relative import hides its layer"
            # A name imported from a package may be a module.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif (
            isinstance(node, ast.Call)
            and ast.unparse(node.func).endswith("import_module")
            and isinstance(node.args[0], ast.Constant)
        ):
            names.add(node.args[0].value)
    return names


def module_of(name: str, modules: dict[str, Path]) -> str | None:
    """Return the module that an imported name is or belongs to; None if it is not ours."""
    while name and name not in modules:
        name = name.rpartition(".")[0]
    return name or None


def edges(modules: dict[str, Path]) -> dict[str, set[str]]:
    """Return the modules of ours that each module imports."""
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
    """Return the row of a module's room in `ROOMS`; None for a package's `__init__`."""
    package, _, rest = module.partition(".")
    if not rest:
        return None
    rows = [i for i, row in enumerate(ROOMS[package]) if rest.split(".")[0] in row]
    assert len(rows) == 1, f"{module} must be in one row of ROOMS[{package!r}]"
    return rows[0]


def out_of_order(graph: dict[str, set[str]]) -> list[str]:
    """Return the imports that violate the order of packages, or of rooms within a package."""
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


def test_imports_are_acyclic() -> None:
    graph = {
        # A package's `__init__` imports its modules for type checkers only.
        module: set() if "." not in module else others
        for module, others in imports().items()
    }
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail(f"circular imports: {' <- '.join(error.args[1])}")


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
def test_import_of_a_higher_layer_is_detected_anywhere_in_a_module(
    tmp_path: Path, statement: str
) -> None:
    module = tmp_path / "tagger.py"
    module.write_text(statement)
    modules = {"classifier.tagger": module, "service.app": ROOT / "service" / "app.py"}
    graph = {"classifier.tagger": edges(modules)["classifier.tagger"]}
    assert out_of_order(graph) == ["classifier.tagger imports service.app"]


def test_import_of_a_higher_room_is_detected() -> None:
    assert out_of_order({"vggish.audio.stream": {"vggish.api"}}) != []
    assert out_of_order({"vggish.audio.stream": {"vggish.frames.clip"}}) != []
    assert out_of_order({"vggish.frames.clip": {"vggish.errors"}}) == []


@pytest.mark.parametrize("module", ["errors", "params", "mel_features", "postprocess"])
def test_front_end_depends_only_on_numpy(module: str) -> None:
    names = imported(ast.parse((ROOT / "vggish" / f"{module}.py").read_text("utf-8")))
    others = {package_of(name) for name in names} - set(PACKAGES)
    assert others <= sys.stdlib_module_names | {"numpy"}


def test_heavy_packages_are_imported_inside_functions() -> None:
    for module, path in source_files().items():
        tree = ast.parse(path.read_text("utf-8"))
        statements = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
        top_level = imported(ast.Module(statements, []))
        assert not {package_of(name) for name in top_level} & HEAVY, module


@pytest.mark.parametrize("package", ["audiotag", "vggish", "classifier", "service", "cli"])
def test_importing_a_package_loads_neither_numpy_nor_heavy_packages(package: str) -> None:
    program = f"import sys, {package}; print(*(name for name in sys.modules if '.' not in name))"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT
    )
    loaded = set(done.stdout.split())
    assert package in loaded
    assert not loaded & {*HEAVY, "numpy"}


def test_every_error_has_one_root_and_is_in_the_documented_tree() -> None:
    classes = [
        c for _, c in inspect.getmembers(errors, inspect.isclass) if c.__module__ == errors.__name__
    ]
    assert len(classes) > 5
    assert all(issubclass(c, errors.AudiotagError) for c in classes)
    tree = errors.__doc__ or ""
    assert [c.__name__ for c in classes if c.__name__ not in tree] == []


def traces() -> dict[str, list[tuple[str, str]]]:
    """Return the `file:function` steps of each request drawn in CONTRIBUTING."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    sections = re.split(r"^##+ ", text, flags=re.MULTILINE)
    step = re.compile(r"^\d+\. `([\w/]+\.py):([\w.]+)`", re.MULTILINE)
    found = {section.splitlines()[0]: step.findall(section) for section in sections if section}
    return {request: steps for request, steps in found.items() if steps}


@functools.cache
def defined_in(file: str) -> set[str]:
    """Return the functions and classes of a file, with methods as `Class.method`."""
    names: set[str] = set()
    for node in ast.parse((ROOT / file).read_text("utf-8")).body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
            members = node.body if isinstance(node, ast.ClassDef) else []
            names |= {
                f"{node.name}.{member.name}"
                for member in members
                if isinstance(member, (ast.FunctionDef, ast.AsyncFunctionDef))
            }
    return names


def test_contributing_traces_three_requests() -> None:
    assert list(traces()) == ["audiotag classify FILE", "audiotag train --frames", "POST /classify"]
    assert all(len(steps) > 10 for steps in traces().values())


@pytest.mark.parametrize("request_name", traces())
def test_traced_functions_exist(request_name: str) -> None:
    for file, name in traces()[request_name]:
        assert (ROOT / file).is_file(), file
        assert name in defined_in(file), f"{file}:{name}"


@pytest.mark.parametrize("request_name", traces())
def test_traced_layers_only_go_down(request_name: str) -> None:
    modules = [file.removesuffix(".py").replace("/", ".") for file, _ in traces()[request_name]]
    levels = [
        (PACKAGES.index(package_of(module)), 0 if module == "cli" else row_of(module))
        for module in modules
    ]
    assert levels == sorted(levels, reverse=True)
    loaded_by_name = (ROOT / "cli.py").read_text("utf-8")
    for i, module in enumerate(modules[1:], start=1):
        above = modules[:i]
        is_imported = module in above or any(module in imports()[other] for other in above)
        assert is_imported or f'"{module}"' in loaded_by_name, f"nothing above imports {module}"
