"""The comparison of truth.py must tell broken operators from right ones: operators of our own, and our own source.

`PYTHONPATH=tests/helpers python tests/ops/test_mutations.py` prints for every fault what gave it away.
"""

import sys
from types import ModuleType

import pytest
import torch
from faulty_source import Source, differentiable, faulty
from truth import disagreements, draw

from crisscross.ops import block, composite, lines, slopes
from crisscross.ops.block import Weights

# --- the operator once more, with one fault ---


def broken(mutation):
    """The operator once more, in einsum notation, with one fault; `none` is without any."""

    def operator(q, k, v):
        _, inner, height, width = q.shape
        if mutation == "scaled by 1/sqrt(d)":
            q = q / inner**0.5
        if mutation == "q and k swapped":
            q, k = k, q
        if mutation == "no gradient through k":
            k = k.detach()
        if mutation == "keys of the first image":
            k = k[:1].expand_as(k)
        column = torch.einsum("bchw,bciw->bhwi", q, k)
        row = torch.einsum("bchw,bchj->bhwj", q, k)
        same_row = torch.eye(height, dtype=torch.bool)[:, None, :]
        hidden = torch.tensor(-torch.inf, dtype=q.dtype)
        if mutation == "self left out":
            row = row.where(~torch.eye(width, dtype=torch.bool), hidden)
        if mutation == "column mask on rows":
            wrong = torch.arange(height)[:, None, None] == torch.arange(width)
            row = row.where(~wrong, hidden)
        elif mutation == "masked with 0":
            column = column.where(~same_row, torch.zeros_like(hidden))
        elif mutation != "self counted twice":
            column = column.where(~same_row, hidden)
        if mutation == "row only":
            column = column + hidden
        if mutation == "column only":
            row = row + hidden
            column = torch.einsum("bchw,bciw->bhwi", q, k)
        weights = torch.cat([column, row], -1).softmax(-1)
        if mutation == "a softmax for each part":
            weights = torch.cat([column.softmax(-1), row.softmax(-1)], -1) / 2
        if mutation == "no gradient through the softmax":
            weights = weights.detach()
        column, row = weights.split([height, width], -1)
        gather = "bihw,bciw->bchw" if mutation == "wrong transpose" else "bhwi,bciw->bchw"
        if mutation == "wrong transpose":
            column = column.permute(0, 1, 3, 2)
        return torch.einsum(gather, column, v) + torch.einsum("bhwj,bchj->bchw", row, v)

    return operator


MUTATIONS = [
    "self counted twice",
    "self left out",
    "masked with 0",
    "a softmax for each part",
    "row only",
    "column only",
    "wrong transpose",
    "column mask on rows",
    "scaled by 1/sqrt(d)",
    "q and k swapped",
    "keys of the first image",
    "no gradient through k",
    "no gradient through the softmax",
]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("mutation", MUTATIONS)
def test_the_comparison_catches_a_broken_operator(mutation, dtype):
    inputs = draw((2, 8, 6, 5, 5), dtype)
    assert disagreements(broken(mutation), *inputs), f"{mutation} went unnoticed"


def test_the_comparison_passes_the_same_operator_without_a_fault():
    assert not disagreements(broken("none"), *draw((2, 8, 6, 5, 5)))


# --- the source of the backend `eager`, with one fault ---

# What the fault is, the text of lines.py (forward) or slopes.py (backward), what stands there instead.
FAULTS = [
    ("columns include the position itself", "logits_NIJ.diagonal(dim1=1, dim2=2).fill_(-torch.inf)", "pass"),
    ("so does their gradient", "weights_NIJ.diagonal(dim1=1, dim2=2).zero_()", "pass"),
    ("columns are not weighed against rows", "(before_NI / total_NI)", "(total_NI / total_NI)"),
    ("rows are not weighed against columns", "total_NI += before_NI", "pass"),
    ("columns are lost", "out_NLC.baddbmm_(weights_NIJ", "out_NLC.zero_().baddbmm_(weights_NIJ"),
    ("the columns' sum is forgotten", ".exp_().mul_(total_NL)", ".exp_()"),
    ("the merged sum is forgotten", "total_NL.copy_(total_NI)", "begun or total_NL.copy_(total_NI)"),
    ("the merged maximum is forgotten", "top_NL.copy_(top_NI)", "begun or top_NL.copy_(top_NI)"),
    ("the softmax's own slope is forgotten", "slope_NIJ.sub_(self.mean[chunk][..., None]).mul_", "slope_NIJ.mul_"),
    ("the weights' gradient is not transposed", "to(grad_NLC.dtype).transpose(1, 2)", "to(grad_NLC.dtype)"),
    ("q and k trade gradients", "slope_NIJ.transpose(1, 2), q_NLD", "slope_NIJ, q_NLD"),
    ("the first chunk is used for all", "k_HWD[rows]", "k_HWD[: len(q_HWD[rows])]"),
    ("the last line is dropped", "range(start, end, step)", "range(start, max(1, end - 1), step)"),
    ("the row bias is lost", "q_HWD[rows], k_HWD[rows], reach.row_bias", "q_HWD[rows], k_HWD[rows], None"),
    ("rows ignore the columns' gain", "self.mean[chunk] += (self.weights(chunk)", "(self.weights(chunk)"),
    ("columns ignore the rows' gain", "self.mean[chunk] += (weights_NIJ * slope_NIJ).sum(-1)", "pass"),
    ("the bias collects too little", "slope_NIJ.sum(0)", "slope_NIJ[0]"),
]


def unmask(source: Source) -> list[str]:
    chance = torch.Generator().manual_seed(2)
    row_bias, column_bias = (torch.randn(n, n, generator=chance, dtype=torch.float64) for n in (5, 6))
    with source.in_chunks(2):
        inputs = draw((2, 4, 3, 6, 5))
        return disagreements(differentiable(source), *inputs, row_bias=row_bias, column_bias=column_bias)


@pytest.mark.parametrize("fault", FAULTS, ids=[fault[0] for fault in FAULTS])
def test_the_comparison_catches_a_fault_in_the_source(fault):
    try:
        found = unmask(Source.with_fault(*fault[1:]))
    except RuntimeError as error:
        # A shape that does not fit is noticed as well.
        found = [str(error)]
    assert found, f"{fault[0]} went unnoticed"


def test_the_comparison_passes_the_source_as_it_is():
    assert not unmask(Source(lines, slopes))


# --- the layer around it, with one fault in block.py ---

BLOCK_FAULTS = [
    (
        "the lean way always adds the residual",
        "grad_x_NC.add_(grad_PC[part]) if self.residual else grad_x_NC",
        "grad_x_NC.add_(grad_PC[part])",
    ),
    ("the lean way forgets the value projection", "grad_x_NC = u_PC[part] @ value", "grad_x_NC = u_PC[part].clone()"),
    (
        "the lean way starts from what lies in memory",
        "grads.x.zero_()\n        value",
        "grads.x.fill_(1)\n        value",
    ),
    (
        "the fast way forgets the residual",
        "            grads.x.copy_(grad_BHWC)",
        "            grads.x.zero_()",
    ),
    (
        "the output forgets the input",
        "torch.add(x_NWC, self.weights.value_bias, out=y_NWC)",
        "y_NWC.copy_(self.weights.value_bias)",
    ),
    ("the output forgets the bias", "torch.add(x_NWC, self.weights.value_bias, out=y_NWC)", "y_NWC.copy_(x_NWC)"),
    ("q and k trade places", "q_HWD, k_HWD = _halves(qk_HWE)", "k_HWD, q_HWD = _halves(qk_HWE)"),
    ("no gradient through q and k", "grads.x.flatten(0, 2).addmm_(grad_qk_PE, self.weights.qk)", "pass"),
    (
        "the value's gradient is transposed",
        "grad_PC[part].t(), attended_PC[part]",
        "attended_PC[part].t(), grad_PC[part]",
    ),
    ("the first image is kept for all", "kept.attended[i]", "kept.attended[0]"),
    ("only the last image's weights count", "total.addmm_(a, b)", "total.copy_(a @ b)"),
]


def block_disagreements(module: ModuleType) -> list[str]:
    """Where forward or backward of the layer differ from the plain expression's, in float64."""
    module.POSITIONS = 7
    chance = torch.Generator().manual_seed(3)
    sizes = [(2, 4, 5, 8), (4, 8), (4,), (8, 8), (8,), (2, 4, 5, 8)]
    x, *weights, g = (torch.randn(size, generator=chance, dtype=torch.float64) for size in sizes)
    inputs = [tensor.requires_grad_() for tensor in (x, *weights)]
    wrong = []
    for residual in (True, False):
        y = composite.block(x, Weights(*weights), lines.Reach("both"), residual)
        expected = [y, *torch.autograd.grad(y, inputs, g)]
        for keep in (True, False):
            with torch.no_grad():
                made = module.LayerFunction(module.Weights(*weights), lines.Reach("both"), residual)
                found, kept = made.forward(x, keep, fused=False)
                grads = made.backward(g, x, kept, fused=False)
            for name, value, truth in zip(NAMES, (found, grads.x, *grads.weights), expected, strict=True):
                if not torch.allclose(value, truth, rtol=1e-9, atol=1e-9):
                    wrong.append(f"{name}, {residual=}, {keep=}: off by {(value - truth).abs().max():.3g}")
    return wrong


NAMES = ["output", "x", "qk", "qk bias", "value", "value bias"]


@pytest.mark.parametrize("fault", BLOCK_FAULTS, ids=[fault[0] for fault in BLOCK_FAULTS])
def test_the_comparison_catches_a_fault_in_the_layer(fault):
    assert block_disagreements(faulty(*fault[1:], block)), f"{fault[0]} went unnoticed"


def test_the_comparison_passes_the_layer_as_it_is():
    assert not block_disagreements(faulty("import torch", "import torch", block))


def everything():
    """(fault, what gave it away) of all."""
    for name in MUTATIONS:
        yield name, disagreements(broken(name), *draw((2, 8, 6, 5, 5)))
    for name, text, instead in FAULTS:
        try:
            yield name, unmask(Source.with_fault(text, instead))
        except RuntimeError as error:
            yield name, [str(error)]
    for name, text, instead in BLOCK_FAULTS:
        yield name, block_disagreements(faulty(text, instead, block))


if __name__ == "__main__":
    unnoticed = 0
    for name, reasons in everything():
        unnoticed += not reasons
        print(f"{name}: {reasons[0] if reasons else 'UNNOTICED'}")
    sys.exit(bool(unnoticed))
