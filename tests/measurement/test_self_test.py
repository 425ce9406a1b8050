"""The self-test notices what is wrong. That it passes where all is well: tests/cli/test_doctor.py."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from crisscross import checkpoints, ops
from crisscross.measurement import self_test


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_attention_that_is_wrong(monkeypatch, factor):
    right = ops.criss_cross_attention
    assert 0 < self_test._attention("cpu") < 1e-5
    monkeypatch.setattr(ops, "criss_cross_attention", lambda *given: factor * right(*given))
    with pytest.raises(ArithmeticError, match="off, at most"):
        self_test._attention("cpu")


def test_labels_of_another_size(monkeypatch):
    labels = torch.zeros(96, 127, dtype=torch.uint8).numpy()
    network = SimpleNamespace(predict=lambda image: SimpleNamespace(labels=labels), classes=("road",))
    monkeypatch.setattr(checkpoints, "load", lambda name: network)
    with pytest.raises(ArithmeticError, match=r"\(96, 127\)"):
        self_test._network()
