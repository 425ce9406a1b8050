"""How logits are resized: in full float32, by what is made once for each size; and images once for each ratio."""

import pytest
import torch
from clip_networks import drawn, network
from coarse_networks import coarse_of, image_of, with_coarse
from torch.overrides import TorchFunctionMode

from crisscross.inference import passes
from crisscross.inference import resize as axes
from crisscross.inference.resize import apply, bands, cells, line
from crisscross.models import segmenter as models

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
        dense.append(torch.zeros(axis.outputs, axis.inputs, dtype=torch.float64))
        dense[-1].scatter_add_(1, axis.source, axis.weight)
    return coarse, bands(rows, 16, CPU), bands(columns, 20, CPU), dense[0] @ coarse.double() @ dense[1].T


def joined(coarse, down, across):
    return torch.cat([torch.cat([apply(coarse, row, column) for column in across], 2) for row in down], 1)


@pytest.mark.parametrize("align_corners", [False, True])
def test_sums_and_products_are_the_dense_matrices(align_corners):
    coarse, down, across, expected = pieces(align_corners)
    assert (joined(coarse, down, across) - expected).abs().max() < 2e-6
    # As on a GPU, where there are no matrices.
    down, across = ([band._replace(matrix=None) for band in part] for part in (down, across))
    with Products() as products:
        found = joined(coarse, down, across)
    assert (found - expected).abs().max() < 2e-6
    assert products.precisions == []


def test_logits_are_never_resized_in_less_than_float32(coarse_precision):
    coarse, down, across, expected = pieces(False)
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
    for room, name in ((passes, "line"), (passes, "merge"), (axes, "merge"), (axes, "Band")):
        former = getattr(room, name)
        monkeypatch.setattr(room, name, lambda *given, former=former: made.append(given) or former(*given))
    segmenter = with_coarse(coarse_of, ratios=(0.5, 1.0), mode=mode, window=(48, 48), stride=(40, 40))
    first, second = (torch.from_numpy(image_of(70, 90, seed)).permute(2, 0, 1) for seed in (0, 1))
    labels = segmenter.labels_at(first, tta)
    assert made
    made.clear()
    assert not torch.equal(segmenter.labels_at(second, tta), labels)
    assert torch.equal(segmenter.labels_at(first, tta), labels)
    assert not made
    segmenter.labels_at(first[:, 1:], tta)
    assert made


def test_what_is_kept_also_serves_gradients():
    segmenter = with_coarse(coarse_of)
    segmenter.labels_at(torch.from_numpy(image_of(66, 82)).permute(2, 0, 1))
    with torch.inference_mode():
        row, column = (bands(line(5, 10, False), 10, CPU)[0] for _ in range(2))
    coarse = torch.ones(1, 5, 5, requires_grad=True)
    for matrix in (row.matrix, None):
        coarse.grad = None
        apply(coarse, row._replace(matrix=matrix), column._replace(matrix=matrix)).sum().backward()
        assert coarse.grad.sum().item() == pytest.approx(100)


def test_multi_scale_flip_resizes_once_for_each_ratio(monkeypatch):
    sizes = []
    former = models.resize_to_scale
    monkeypatch.setattr(models, "resize_to_scale", lambda *given: sizes.append(given[1]) or former(*given))
    segmenter = with_coarse(coarse_of, ratios=(0.5, 0.75, 1.0))
    segmenter.labels_at(torch.from_numpy(image_of(40, 60)).permute(2, 0, 1), tta=True)
    assert sizes == [(30, 20), (45, 30), (60, 40)]


@pytest.mark.parametrize(("label", "expected"), [("middle", 7 + 1), ("every", 3 + 2 + 3 + 2 + 1)])
def test_each_frame_of_a_video_is_resized_once_for_each_ratio(label, expected, monkeypatch):
    """And one more where a window shows no new frame, or labels another one."""
    frames = []
    former = models.resize_to_scale
    monkeypatch.setattr(models, "resize_to_scale", lambda *given: frames.append(len(given[0])) or former(*given))
    segmenter = network(3, label, **{"inference.ratios": [0.5, 1.0]})
    assert len(list(segmenter.label_frames(drawn(7), tta=True))) == 7
    assert sum(frames) == expected * 2
