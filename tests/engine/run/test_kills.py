"""A few kills of each command; `python tests/helpers/kills.py --count 40` is the long form."""

import os

import pytest
from kills import attack_all

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")]


def test_a_killed_command_leaves_whole_files_and_the_next_run_ends_alike(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    done = attack_all([], 4, 0, tmp_path)
    assert [(each.name, each.counts["kills"], each.counts["BROKEN"]) for each in done] == [
        (each.name, 4, 0) for each in done
    ]
