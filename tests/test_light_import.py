"""`import crisscross` costs nothing, and its lower layers need torch alone. Each check runs in a Python of its own."""

from __future__ import annotations

import pytest
from fresh_python import BLOCK, run_python

from crisscross.cli import COMMANDS, create_parser

HEAVY = (
    "torch",
    "timm",
    "torchvision",
    "PIL",
    "matplotlib",
    "rich",
    "accelerate",
    "numpy",
    "yaml",
    "triton",
    "onnx",
    "gradio",
)
NOT_NEEDED_BY_OPS = ("timm", "torchvision", "accelerate", "PIL", "rich", "yaml", "safetensors", "matplotlib")


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = f"import sys, crisscross\nprint(*sorted(set({HEAVY!r}) & set(sys.modules)))"
    assert run_python(code).split() == []


def test_lower_layers_need_torch_alone() -> None:
    packages = "crisscross.ops, crisscross.layers, crisscross.surgery"
    code = f"{BLOCK % (NOT_NEEDED_BY_OPS,)}\nimport {packages}\nprint('torch' in sys.modules)"
    assert run_python(code).strip() == "True"


def test_help_does_not_need_torch() -> None:
    code = f"""{BLOCK % (("torch",),)}
import runpy
sys.argv = ["crisscross", "--help"]
runpy.run_module("crisscross", run_name="__main__", alter_sys=True)
"""
    assert "usage" in run_python(code).lower()


def test_a_command_imports_no_parser_of_another() -> None:
    code = """
import contextlib, io, sys
from crisscross.cli import COMMANDS, main
for words in (["--help"], ["zoo"], ["predict", "--help"]):
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main(words)
    print(*(name for name in COMMANDS if f"crisscross.cli.{name}" in sys.modules))
"""
    assert run_python(code).splitlines() == ["", "zoo", "zoo predict"]


def test_help_lists_every_command() -> None:
    """Each with its line, and each line with a module that has the rest."""
    # Where lines are broken depends on Python's version.
    lines = " ".join(run_python("from crisscross.cli import main\nmain(['--help'])").split())
    parser = create_parser()
    commands = parser._subparsers._group_actions[0].choices
    assert list(commands) == list(COMMANDS) and set(COMMANDS) == {
        "demo",
        "zoo",
        "train",
        "report",
        "evaluate",
        "app",
        "explain",
        "predict",
        "serve",
        "data",
        "convert",
        "export",
        "benchmark",
        "doctor",
    }
    for name, line in COMMANDS.items():
        assert name in lines and line in lines
        commands[name].fill()
        assert commands[name].get_default("run") or name == "data"
        assert commands[name].description


def test_the_block_blocks() -> None:
    code = f"""{BLOCK % (("yaml", "xml"),)}
for name in ("yaml", "xml.dom", "colorsys"):
    try:
        __import__(name)
        print(name, "imported")
    except ModuleNotFoundError:
        print(name, "blocked")
"""
    assert run_python(code).splitlines() == ["yaml blocked", "xml.dom blocked", "colorsys imported"]


@pytest.mark.parametrize(
    "package", ["inference", "metrics", "video.labeling", "data.samples.preprocess", "data", "deploy", "tasks"]
)
def test_prediction_needs_no_torch(package: str) -> None:
    code = f"{BLOCK % (('torch', *NOT_NEEDED_BY_OPS[:3]),)}\nimport crisscross.{package}\nprint('torch' in sys.modules)"
    assert run_python(code).strip() == "False"
