"""Tests lie where the code lies that they test; folders, files and functions keep to the sizes of CONTRIBUTING.md."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
from paths import ROOT, SOURCE, TESTS

PACKAGE = SOURCE / "crisscross"
# Folders of tests without a package of that name: several packages at once, and what lies beside `src`.
FOLDERS_WITHOUT_A_PACKAGE = {"fuzz", "benchmarks", "pages"}
MODULES_IN_A_FOLDER = 16
LINES_OF_A_FILE, LINES_OF_A_KERNEL, LINES_OF_A_TEST_FILE = 300, 450, 450
LINES_OF_A_FUNCTION = 60
KERNELS = ("src/crisscross/ops/kernels.py",)

# What is larger than it should be, and how large it may be until it is split. Nothing is added here.
LONG_FILES = {
    "tests/config/test_parse.py": 640,
    "tests/data/samples/test_transforms.py": 470,
    "tests/engine/test_options.py": 730,
    "tests/models/heads/test_ce2p.py": 520,
    "tests/models/test_segmenter.py": 600,
}
LONG_FUNCTIONS = {
    "src/crisscross/ops/kernels.py:attend_line": 65,
    "src/crisscross/ops/kernels.py:logits_line": 63,
    "benchmarks/gpu_checks.py:check_layer": 68,
}


def python_files(root: Path = ROOT) -> Iterator[tuple[str, Path]]:
    """Each Python file of the project, by its name from the root."""
    for top in ("src", "tests", "benchmarks", "examples", "scripts"):
        for path in sorted((root / top).rglob("*.py")):
            yield path.relative_to(root).as_posix(), path


def file_limit(name: str) -> int:
    if name in KERNELS:
        return LINES_OF_A_KERNEL
    return LINES_OF_A_TEST_FILE if name.startswith("tests/") else LINES_OF_A_FILE


def function_lengths(name: str, source: str) -> Iterator[tuple[str, int]]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield f"{name}:{node.name}", (node.end_lineno or node.lineno) - node.lineno + 1


def too_large(sizes: dict[str, tuple[int, int]], exceptions: dict[str, int]) -> list[str]:
    """One line for each size over its limit, for each exception that grew, and for each that is needed no more.

    `sizes` holds (size, limit) by name.
    """
    found = [
        f"{name}: {size} lines; at most {exceptions.get(name, limit)}"
        for name, (size, limit) in sizes.items()
        if size > exceptions.get(name, limit)
    ]
    for name in exceptions:
        size, limit = sizes.get(name, (0, 0))
        if size <= limit:
            found.append(f"{name}: is not too long any more; remove it from the exceptions in tests/test_layout.py")
    return found


def test_every_test_file_lies_in_the_folder_of_a_package() -> None:
    astray = []
    for path in sorted(TESTS.rglob("test_*.py")):
        folder = path.parent.relative_to(TESTS)
        if folder.parts[:1] and folder.parts[0] not in FOLDERS_WITHOUT_A_PACKAGE and not (PACKAGE / folder).is_dir():
            astray.append(
                f"tests/{path.relative_to(TESTS).as_posix()}: there is no src/crisscross/{folder.as_posix()}/"
            )
    assert not astray, "\n".join(astray)


def test_helpers_hold_no_tests_and_other_folders_hold_only_tests() -> None:
    assert not list((TESTS / "helpers").rglob("test_*.py"))
    others = [path.name for path in TESTS.rglob("*.py") if path.parent.name != "helpers" and path.name != "conftest.py"]
    assert [name for name in others if not name.startswith("test_")] == []


def test_no_test_file_imports_another() -> None:
    found = []
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            found += [f"{path.name}: {name}" for name in names if name.split(".")[-1].startswith("test_")]
    assert not found, f"shared test code belongs in tests/helpers: {found}"


def test_no_folder_holds_too_many_modules() -> None:
    counts = {
        folder.relative_to(ROOT).as_posix(): sum(path.name != "__init__.py" for path in folder.glob("*.py"))
        for folder in [PACKAGE, *(path for path in PACKAGE.rglob("*") if path.is_dir())]
    }
    assert counts["src/crisscross/ops"] > 5
    assert {name: count for name, count in counts.items() if count > MODULES_IN_A_FOLDER} == {}


def test_no_file_is_too_long() -> None:
    sizes = {
        name: (len(path.read_text(encoding="utf-8").splitlines()), file_limit(name)) for name, path in python_files()
    }
    assert len(sizes) > 200
    found = too_large(sizes, LONG_FILES)
    assert not found, "\n".join(found)


def test_no_function_is_too_long() -> None:
    sizes: dict[str, tuple[int, int]] = {}
    for name, path in python_files():
        for function, length in function_lengths(name, path.read_text(encoding="utf-8")):
            sizes[function] = (max(length, sizes.get(function, (0, 0))[0]), LINES_OF_A_FUNCTION)
    assert len(sizes) > 1000
    found = too_large(sizes, LONG_FUNCTIONS)
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("size", "exceptions", "said"),
    [
        (300, {}, None),
        (301, {}, "301 lines; at most 300"),
        (320, {"a.py": 320}, None),
        (321, {"a.py": 320}, "321 lines; at most 320"),
        (300, {"a.py": 320}, "not too long any more"),
    ],
)
def test_the_check_of_sizes_catches(size: int, exceptions: dict[str, int], said: str | None) -> None:
    found = too_large({"a.py": (size, 300)}, exceptions)
    assert len(found) == bool(said) and (said is None or said in found[0])


def test_a_function_is_counted_from_def_to_its_last_line() -> None:
    source = (
        "def f():\n    def g(\n        a,\n    ): return a\n    return g\nclass C:\n    def h(self):\n        pass\n"
    )
    assert dict(function_lengths("m", source)) == {"m:f": 5, "m:g": 3, "m:h": 2}
