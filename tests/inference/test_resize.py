"""How logits are resized: in full float32, by what is made once for each size; and images once for each ratio."""

import numpy as np
import pytest
import torch
from clip_networks import drawn, network
from coarse_networks import coarse_of, image_of, with_coarse
from torch.overrides import TorchFunctionMode

from crisscross.inference import passes, predictor
from crisscross.inference import resize as axes
from crisscross.inference.arrays import resize_logits
from crisscross.inference.resize import bands, cells, line

PRODUCTS = {torch.Tensor.matmul, torch.Tensor.__matmul__, torch.Tensor.__rmatmul__, torch.matmul, torch.mm, torch.bmm}
CPU = torch.device("cpu")


class Products(TorchFunctionMode):
    """Notes the precision at which each product of matrices is made."""

    def __init__(self):
        super().__init__()
        self.precisions = []

    def __torch_function__(self, function, types, given=(), named=None):
        if function in PRODUCTS:
            self.precisions.append(torch.backends.mkldnn.matmul.fp32_precision)
        return function(*given, **(named or {}))


@pytest.fixture
def coarse_precision():
    """Products of float32 matrices may be of TensorFloat-32 or bfloat16."""
    former = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    yield torch.backends.mkldnn.matmul.fp32_precision
    torch.set_float32_matmul_precision(former)


def pieces(align_corners):
    """Coarse logits [3, 9, 14], their bands of rows and columns, and the dense result [3, 40, 61] in float64."""
    coarse = torch.randn(3, 9, 14, generator=torch.Generator().manual_seed(1))
    rows = line(9, 72, align_corners).then(line(72, 40, align_corners))
    columns = line(14, 112, align_corners).then(line(112, 61, align_corners)).mirrored()
    dense = []
    for axis in (rows, columns):
        dense.append(np.zeros((axis.outputs, axis.inputs)))
        np.add.at(dense[-1], (np.arange(axis.outputs)[:, None], axis.source), axis.weight)
    return coarse, rows, columns, torch.from_numpy(dense[0] @ coarse.double().numpy() @ dense[1].T)


def banded(rows, columns, device=CPU):
    return bands(rows, 16, device), bands(columns, 20, device)


def joined(coarse, down, across):
    return torch.cat([torch.cat([resize_logits(coarse, row, column) for column in across], 2) for row in down], 1)


@pytest.mark.parametrize("align_corners", [False, True])
def test_sums_and_products_are_the_dense_matrices(align_corners):
    coarse, *axes_of_both, expected = pieces(align_corners)
    down, across = banded(*axes_of_both)
    assert (joined(coarse, down, across) - expected).abs().max() < 2e-6
    # As on a GPU, where there are no matrices.
    down, across = ([band._replace(matrix=None) for band in part] for part in (down, across))
    with Products() as products:
        found = joined(coarse, down, across)
    assert (found - expected).abs().max() < 2e-6
    assert products.precisions == []


def test_logits_are_never_resized_in_less_than_float32(coarse_precision):
    coarse, *axes_of_both, expected = pieces(False)
    down, across = banded(*axes_of_both)
    with Products() as products:
        found = joined(coarse, down, across)
    assert coarse_precision == "bf16" and set(products.precisions) == {"ieee"}
    assert torch.backends.mkldnn.matmul.fp32_precision == coarse_precision
    assert (found - expected).abs().max() < 2e-6


@pytest.mark.parametrize(("tta", "mode"), [(False, "whole"), (True, "whole"), (True, "slide")])
def test_what_follows_from_sizes_is_made_once_for_each(tta, mode, monkeypatch):
    for kept in (passes._axis, bands, cells):
        kept.cache_clear()
    made = []
    for module, name in ((passes, "line"), (passes, "merge"), (axes, "merge"), (axes, "Band")):
        former = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given, former=former: made.append(given) or former(*given))
    segmenter = with_coarse(coarse_of, ratios=(0.5, 1.0), mode=mode, window=(48, 48), stride=(40, 40))
    first, second = (image_of(70, 90, seed) for seed in (0, 1))
    labels = segmenter.predict(first, tta=tta).labels
    assert made
    made.clear()
    assert not np.array_equal(segmenter.predict(second, tta=tta).labels, labels)
    assert np.array_equal(segmenter.predict(first, tta=tta).labels, labels)
    assert not made
    segmenter.predict(first[1:], tta=tta)
    assert made


def test_what_is_kept_also_serves_gradients():
    segmenter = with_coarse(coarse_of)
    segmenter.predict(image_of(66, 82))
    with torch.inference_mode():
        row, column = (bands(line(5, 10, False), 10, CPU)[0] for _ in range(2))
    coarse = torch.ones(1, 5, 5, requires_grad=True)
    for matrix in (row.matrix, None):
        coarse.grad = None
        resize_logits(coarse, row._replace(matrix=matrix), column._replace(matrix=matrix)).sum().backward()
        assert coarse.grad.sum().item() == pytest.approx(100)


def test_multi_scale_flip_resizes_once_for_each_ratio(monkeypatch):
    sizes = []
    former = predictor.resize
    monkeypatch.setattr(predictor, "resize", lambda *given: sizes.append(given[1]) or former(*given))
    segmenter = with_coarse(coarse_of, ratios=(0.5, 0.75, 1.0))
    segmenter.predict(image_of(40, 60), tta=True)
    assert sizes == [(20, 30), (30, 45)]


@pytest.mark.parametrize("label", ["middle", "last", "every"])
def test_each_frame_of_a_video_is_resized_once_for_each_ratio(label, monkeypatch):
    sizes, former = [], predictor.resize
    monkeypatch.setattr(predictor, "resize", lambda *given: sizes.append(given[1]) or former(*given))
    segmenter = network(3, label, **{"inference.ratios": [0.5, 1.5]})
    assert len(list(segmenter.predictor.label_frames(drawn(7), tta=True))) == 7
    assert sizes == [(24, 32), (72, 96)] * 7
