"""`crisscross app` where gradio is not installed; tests/app holds the rest."""

import sys

from crisscross.cli import main


def test_without_the_extra_it_says_how_to_install_it(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    assert main(["app"]) == 2
    error = capsys.readouterr().err
    assert "crisscross app needs gradio: run `pip install '.[app]'`" in error and error.count("\n") == 1
