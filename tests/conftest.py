"""Fixtures that several test files share."""

import pytest

from crisscross.layers import WinogradConv2d


@pytest.fixture
def fast_calls(monkeypatch):
    """The tilings that the fast way was taken with."""
    calls, tiled = [], WinogradConv2d._tiled

    def counted(self, x, grid):
        calls.append(grid)
        return tiled(self, x, grid)

    monkeypatch.setattr(WinogradConv2d, "_tiled", counted)
    return calls
