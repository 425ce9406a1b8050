"""What the tests of `crisscross data prepare` share."""

import importlib
from pathlib import Path

import pytest

from crisscross.data.preparation import prepare
from crisscross.errors import CrissCrossError


def refusal(*arguments: object) -> str:
    with pytest.raises(CrissCrossError) as caught:
        prepare(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def hide_package(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """As if it were not installed."""
    real = importlib.import_module

    def without(module: str, *rest: object) -> object:
        if module.startswith(package):
            raise ImportError(module)
        return real(module, *rest)

    monkeypatch.setattr(importlib, "import_module", without)


def files_below(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}
