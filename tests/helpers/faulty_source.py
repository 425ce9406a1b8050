"""The package's own source with a fault in it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from crisscross.ops import lines, slopes


def faulty(text: str, instead: str, module: ModuleType) -> ModuleType:
    """A module as its source would be with `instead` for `text`."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert text in source, f"the source has changed: {text!r} is not there"
    made = ModuleType("faulty")
    exec(compile(source.replace(text, instead), "faulty.py", "exec"), made.__dict__)
    return made


class Source(NamedTuple):
    """Forward and backward, lines.py and slopes.py, with a fault in one of them."""

    lines: ModuleType
    slopes: ModuleType

    @classmethod
    def with_fault(cls, text: str, instead: str) -> "Source":
        if text in Path(str(lines.__file__)).read_text(encoding="utf-8"):
            return cls(faulty(text, instead, lines), slopes)
        return cls(lines, faulty(text, instead, slopes))

    @contextmanager
    def in_chunks(self, size: int) -> Iterator[None]:
        """Every chunk has so many lines."""
        with pytest.MonkeyPatch.context() as patch:
            for module in (lines, self.lines):
                patch.setattr(module, "lines_in_a_chunk", lambda _: size)
            yield


def differentiable(source: Source, frames: int = 1):
    """An operator on [B, channels, H, W] that differentiates with the source's own backward; or on stacked frames."""

    class Operator(torch.autograd.Function):
        @staticmethod
        def forward(ctx, q, k, v, row_bias, column_bias):
            ctx.reach = lines.Reach("both", row_bias, column_bias, frames)
            out, stats = source.lines.forward(q, k, v, ctx.reach)
            ctx.save_for_backward(q, k, v, stats)
            return out

        @staticmethod
        def backward(ctx, grad):
            q, k, v, stats = ctx.saved_tensors
            biases = source.slopes.zero_biases(ctx.reach, stats.dtype)
            grads = source.slopes.Grads(*(torch.zeros_like(x) for x in (q, k, v)), *biases)
            source.slopes.backward(grad, q, k, v, stats, ctx.reach, grads)
            return tuple(grads)

    def operator(q, k, v, row_bias=None, column_bias=None):
        q, k, v = (x.permute(0, 2, 3, 1).contiguous() for x in (q, k, v))
        return Operator.apply(q, k, v, row_bias, column_bias).permute(0, 3, 1, 2)

    return operator
