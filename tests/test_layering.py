"""A package imports only from packages in layers below its own.

A package is here whatever lies directly under `crisscross`, a single module included. Imports count wherever they
stand: at the head of a file, inside a function, under `TYPE_CHECKING`, or as `importlib.import_module("crisscross.x")`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import SOURCE

PACKAGE = "crisscross"
SOURCE = SOURCE / PACKAGE

# From the top down. A new package gets its place here. `config` and `files` stand above the lowest layer because they
# raise what `errors` defines; operators and layers take plain arguments and need none of them.
LAYERS: dict[int, tuple[str, ...]] = {
    11: ("cli",),
    10: ("app",),
    9: ("api",),
    8: ("tasks",),
    7: ("instances", "measurement"),
    6: ("deploy", "engine", "explanation"),
    5: ("checkpoints", "report", "service", "speed", "video"),
    4: ("models", "zoo"),
    3: ("inference",),
    2: ("data", "losses", "metrics", "surgery"),
    1: ("layers", "config", "files", "progress"),
    0: ("ops", "errors", "hardware", "terminal"),
}
LAYER_OF = {package: layer for layer, packages in LAYERS.items() for package in packages}
# What imports from every layer, or from none.
EXEMPT = ("__init__", "__main__", "_version")


def imported_modules(tree: ast.AST, package: str = PACKAGE) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of every import of a package; `from a import b` gives `a.b`, a relative one its dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level:
            names = ["." * node.level + (node.module or "")]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            names = [str(node.args[0].value)] if called in ("import_module", "__import__") else []
        else:
            names = []
        for name in names:
            if name.startswith(".") or name.split(".")[0] == package:
                yield node.lineno, name


def objection(package: str, name: str) -> str | None:
    """Why code in `package` may not import `name`, None where it may."""
    if name.startswith("."):
        return f"imports '{name}' relatively; write the absolute name, {PACKAGE}.package.module"
    target = name.split(".")[1] if "." in name else ""
    if target in ("_version", "__version__"):
        return None
    if target not in LAYER_OF:
        return (
            f"imports '{name}', which names no package in the LAYERS table of tests/test_layering.py; "
            f"import from the package that defines it, or add the new package to the table"
        )
    if target != package and LAYER_OF[target] >= LAYER_OF[package]:
        return f"is in layer {LAYER_OF[package]} and imports '{name}' from layer {LAYER_OF[target]}; only lower layers"
    return None


def violations(source: str, package: str, where: str) -> list[str]:
    """One sentence for every import in a package's source that breaks the rule."""
    found = []
    for line, name in imported_modules(ast.parse(source, filename=where)):
        reason = objection(package, name)
        if reason:
            found.append(f"{where}:{line}: {package} {reason}")
    return found


def package_of(file: Path) -> str:
    return file.relative_to(SOURCE).with_suffix("").parts[0]


def source_files() -> list[Path]:
    return sorted(file for file in SOURCE.rglob("*.py") if package_of(file) not in EXEMPT)


def test_every_package_has_a_layer() -> None:
    missing = sorted({package_of(file) for file in source_files()} - LAYER_OF.keys())
    assert not missing, f"in no layer: {missing}; add each to the LAYERS table of tests/test_layering.py"


def test_no_package_imports_from_its_own_layer_or_above() -> None:
    files = [file for file in source_files() if package_of(file) in LAYER_OF]
    assert files, f"no source found under {SOURCE}"
    found = [
        sentence
        for file in files
        for sentence in violations(file.read_text(encoding="utf-8"), package_of(file), str(file.relative_to(SOURCE)))
    ]
    assert not found, "\n" + "\n".join(found)


def test_the_package_does_not_import_the_benchmarks_beside_it() -> None:
    found = [
        f"{file.relative_to(SOURCE)}: {name}"
        for file in sorted(SOURCE.rglob("*.py"))
        for name in imported_modules(ast.parse(file.read_text(encoding="utf-8")), "benchmarks")
    ]
    assert not found, f"only {PACKAGE} goes into the wheel: {found}"
    source = "import benchmarks.loss\nfrom benchmarks import compare\nfrom crisscross import zoo\nimport benchmarks_2"
    names = [name for _, name in imported_modules(ast.parse(source), "benchmarks")]
    assert names == ["benchmarks.loss", "benchmarks.compare"]


def eager_imports(source: str) -> list[str]:
    """The modules a file imports as soon as it is imported itself, those under `if TYPE_CHECKING:` left out."""
    found = []
    waiting: list[ast.AST] = [ast.parse(source)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append("." * node.level + (node.module or ""))
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            waiting += ast.iter_child_nodes(node)
    return sorted(found)


def test_import_crisscross_imports_no_package() -> None:
    eager = eager_imports((SOURCE / "__init__.py").read_text(encoding="utf-8"))
    packages = [name for name in eager if name.startswith(".") or name.split(".")[0] == PACKAGE]
    assert not set(packages) - {f"{PACKAGE}._version"}, f"{PACKAGE}/__init__.py imports at once: {packages}"


@pytest.mark.parametrize(
    ("package", "source", "word"),
    [
        ("ops", "from crisscross.layers.attention import CrissCrossAttention", "layer 1"),
        ("ops", "import crisscross.errors", "layer 0"),
        ("layers", "from crisscross.config import ModelConfig", "layer 1"),
        ("surgery", "def build():\n    from crisscross.engine import train", "layer 6"),
        ("layers", "from crisscross import models", "layer 4"),
        ("data", "if TYPE_CHECKING:\n    from crisscross.metrics import Scores", "layer 2"),
        ("zoo", "import importlib\nimportlib.import_module('crisscross.checkpoints')", "layer 5"),
        ("layers", "from .attention import gate", "relatively"),
        ("layers", "from . import attention", "relatively"),
        ("models", "from crisscross.nowhere import nothing", "LAYERS table"),
        ("models", "from crisscross import CCNet", "LAYERS table"),
        ("models", "import crisscross", "LAYERS table"),
    ],
)
def test_the_checker_catches(package: str, source: str, word: str) -> None:
    (sentence,) = violations(source, package, "made_up.py")
    assert sentence.startswith(f"made_up.py:{len(source.splitlines())}: {package} ")
    assert word in sentence


@pytest.mark.parametrize(
    ("package", "source"),
    [
        ("ops", "import torch\nfrom crisscross.ops.reference import criss_cross_attention"),
        ("surgery", "from crisscross.layers import CrissCrossAttention\nfrom crisscross.errors import ConfigError"),
        ("cli", "from crisscross import engine, zoo\nfrom crisscross import __version__"),
        ("data", "import crisscross_other\nfrom torchvision.transforms import v2"),
    ],
)
def test_the_checker_lets_pass(package: str, source: str) -> None:
    assert violations(source, package, "made_up.py") == []


def test_the_eager_checker_tells_now_from_later() -> None:
    source = (
        "import a\nfrom crisscross.models import CCNet\nclass C:\n    import b\n"
        "if TYPE_CHECKING:\n    import c\nelse:\n    import d\ndef f():\n    import e\n"
    )
    assert eager_imports(source) == ["a", "b", "crisscross.models", "d"]


def named_alike(folder: Path) -> set[str]:
    """Modules of packages below a folder that have the name of something that their package makes public."""
    found = set()
    for file in folder.rglob("__init__.py"):
        inside = {
            path.stem for path in file.parent.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()
        }
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
                same = inside & set(ast.literal_eval(node.value))
                found |= {(file.parent / name).relative_to(folder).as_posix() for name in same}
    return found


def test_no_submodule_bears_the_name_of_a_public_function(tmp_path: Path) -> None:
    """Where one does, `package.name` is the function or the module, whichever was imported last."""
    # `surgery` is public itself. The losses of pixels are about to move.
    assert named_alike(SOURCE) <= {"surgery", "losses/cross_entropy"}
    (tmp_path / "inner").mkdir()
    for file, text in (("__init__.py", ""), ("inner/__init__.py", "__all__ = ['load', 'save']"), ("inner/load.py", "")):
        (tmp_path / file).write_text(text)
    assert named_alike(tmp_path) == {"inner/load"}
