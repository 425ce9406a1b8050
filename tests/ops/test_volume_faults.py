"""The 3-D comparison must tell faults: those of the authors' published 3-D file, and some planted in our own source.

`PYTHONPATH=tests/helpers python tests/ops/test_volume_faults.py` prints for every fault what gave it away.
"""

import sys

import pytest
import torch
from faulty_source import Source, differentiable, faulty
from truth import worst
from truth_volume import disagreements, draw_clip, loop

from crisscross import criss_cross_attention_3d
from crisscross.ops import composite, lines, slopes

# --- what is wrong in the published file (functions3d.py of the branch pure-python) ---


def expression(fault, verbose=True):
    """Attention over clips in our own words, in einsum notation: right, or with one of the three published faults."""

    def operator(q, k, v):
        batch, _, frames, height, width = q.shape
        time = torch.einsum("bcthw,bcshw->bthws", q, k)
        column = torch.einsum("bcthw,bctiw->bthwi", q, k)
        row = torch.einsum("bcthw,bcthj->bthwj", q, k)
        if fault == "a name that is nowhere defined" and verbose:
            print_tensor("row", row)  # noqa: F821
        if fault != "itself hidden in the column alone":
            time = time.masked_fill(torch.eye(frames, dtype=torch.bool)[:, None, None], -torch.inf)
        column = column.masked_fill(torch.eye(height, dtype=torch.bool)[:, None], -torch.inf)
        weights = torch.cat([time, column, row], -1).softmax(-1)
        time, column, row = weights.split([frames, height, width], -1)
        # Rows as a batch: frame and height lead, then asking and answering position.
        row_ij = row.reshape(-1, width, width)
        if fault == "asking and answering positions permuted":
            # The five dimensions in the published order, read as the same shape.
            row_ij = row.permute(0, 1, 4, 2, 3).reshape(-1, width, width)
        along_row = row_ij @ v.permute(0, 2, 3, 4, 1).reshape(-1, width, v.shape[1])
        along_row = along_row.view(batch, frames, height, width, -1).permute(0, 4, 1, 2, 3)
        along_time = torch.einsum("bthws,bcshw->bcthw", time, v)
        return along_row + along_time + torch.einsum("bthwi,bctiw->bcthw", column, v)

    return operator


def test_the_expression_without_a_fault_is_the_definition():
    assert not disagreements(expression(None), *draw_clip((2, 4, 3, 3, 4, 5)))


@pytest.mark.parametrize("fault", ["itself hidden in the column alone", "asking and answering positions permuted"])
@pytest.mark.parametrize("size", [(3, 4, 5), (2, 2, 2), (4, 4, 4)], ids=str)
def test_published_faults_of_numbers_are_not_ours(fault, size):
    q, k, v, g = draw_clip((2, 4, 3, *size))
    truth = loop(q, k, v, g)[0]
    assert worst(expression(fault)(q, k, v), truth) > 0.1
    for backend in ("auto", "eager", "composite", "reference"):
        assert worst(criss_cross_attention_3d(q, k, v, backend), truth) < 1e-12


def test_the_published_fault_of_names_is_not_ours():
    q, k, v, g = draw_clip((1, 4, 3, 2, 3, 4))
    with pytest.raises(NameError, match="print_tensor"):
        expression("a name that is nowhere defined")(q, k, v)
    torch.testing.assert_close(criss_cross_attention_3d(q, k, v), loop(q, k, v, g)[0])


def test_the_published_second_counting_weighs_the_centre_twice():
    """With equal logits it is 2 / (T + H + W - 1) instead of 1 / (T + H + W - 2)."""
    q, size = torch.zeros(1, 1, 2, 3, 4), (2, 3, 4)
    indicator = torch.eye(24).view(1, 24, *size)
    faulty_weights = expression("itself hidden in the column alone")(q, q, indicator).reshape(24, 24)
    weights = criss_cross_attention_3d(q, q, indicator).reshape(24, 24)
    torch.testing.assert_close(faulty_weights.diagonal(), torch.full((24,), 2 / 8))
    torch.testing.assert_close(weights.diagonal(), torch.full((24,), 1 / 7))


# --- our own source, with one fault ---

# What the fault is, the text of lines.py, slopes.py or composite.py, what stands there instead.
FAULTS = [
    ("time lines include the position itself", "None, exclude_self=True, begun", "None, exclude_self=False, begun"),
    ("columns include it, too", "exclude_self=has_rows, begun", "exclude_self=False, begun"),
    ("columns forget the time lines", "begun=has_time)", "begun=False)"),
    ("rows forget the time lines without columns", "begun = has_time or has_columns", "begun = has_columns"),
    ("columns run through all frames", "v_HWC.shape[0] // reach.frames", "v_HWC.shape[0]"),
    ("the first frame is attended to from all", "q_HWD[rows], k_HWD[rows]", "q_HWD[rows], k_HWD[: len(q_HWD[rows])]"),
    ("the gradient of time lines includes itself", "._replace(exclude_self=True)", ""),
    ("time lines get no gradient", "time.differentiate(gains_LTT)", "pass"),
    ("time lines keep their own mean gain", "time.differentiate(gains_LTT)", "time.differentiate(None)"),
    ("frames ignore the gain of time", "gains_LTT = time.gains()", "gains_LTT = time.gains(); mean_HW.zero_()"),
    ("gradients of columns run through all", "v_BHWC.shape[1] // reach.frames", "v_BHWC.shape[1]"),
    ("the first frame's gradient is all", "whole.part(frame)", "whole.part(slice(0, height))"),
    ("the expression's time lines include itself", "_without_self(q_BHWTD @ k_BHWDT)", "(q_BHWTD @ k_BHWDT)"),
    ("the expression's time weights are lost", ".movedim(3, 1) + out_BHWC", ".movedim(3, 1) * 0 + out_BHWC"),
]
# Without columns, without rows to speak of, and with everything.
SIZES = [(2, 4, 3, 3, 4, 5), (1, 4, 3, 3, 1, 4), (1, 4, 3, 2, 3, 1)]


def over_clips(operator):
    """An operator over stacked frames as one over clips."""

    def call(q, k, v):
        stacked = operator(q.shape[2])(*(x.flatten(2, 3) for x in (q, k, v)))
        return stacked.unflatten(2, v.shape[2:4])

    return call


def unmask(text=None, instead=None):
    """What gives a fault away; nothing without one."""
    found = []
    if text is None or text in composite_source():
        module = composite if text is None else faulty(text, instead, composite)

        def expressed(q, k, v):
            channels_last = (x.permute(0, 2, 3, 4, 1) for x in (q, k, v))
            return module.attention(*channels_last, lines.Reach("both")).permute(0, 4, 1, 2, 3)

        for shape in SIZES:
            found += disagreements(expressed, *draw_clip(shape))
    if text is None or text not in composite_source():
        source = Source(lines, slopes) if text is None else Source.with_fault(text, instead)
        operator = over_clips(lambda frames: differentiable(source, frames))
        with source.in_chunks(2):
            for shape in SIZES:
                try:
                    found += disagreements(operator, *draw_clip(shape))
                except RuntimeError as error:
                    # A shape that does not fit is noticed as well.
                    found.append(str(error))
    return found


def composite_source():
    with open(composite.__file__, encoding="utf-8") as file:
        return file.read()


@pytest.mark.parametrize("fault", FAULTS, ids=[fault[0] for fault in FAULTS])
def test_the_comparison_catches_a_fault_in_the_source(fault):
    assert unmask(*fault[1:]), f"{fault[0]} went unnoticed"


def test_the_comparison_passes_the_source_as_it_is():
    assert not unmask()


if __name__ == "__main__":
    unnoticed = 0
    for name, *fault in FAULTS:
        reasons = unmask(*fault)
        unnoticed += not reasons
        print(f"{name}: {reasons[0] if reasons else 'UNNOTICED'}")
    sys.exit(bool(unnoticed))
