"""Cross-entropy worked out by hand."""

import math

import pytest
import torch

from crisscross.config import LossConfig
from crisscross.losses import create_loss, cross_entropy


def by_hand(logits, label):
    """-log softmax(logits)[label] in plain Python."""
    top = max(logits)
    return math.log(sum(math.exp(value - top) for value in logits)) + top - logits[label]


# Four pixels, three classes; the last pixel is ignored.
PIXELS = [[1.0, 2.0, 0.5], [0.0, 0.0, 0.0], [-3.0, 4.0, 1.0], [9.0, -9.0, 3.0]]
LABELS = torch.tensor([[[1, 0], [2, 255]]])
LOGITS = torch.tensor(PIXELS).T.reshape(1, 3, 2, 2)
TOTAL = by_hand(PIXELS[0], 1) + by_hand(PIXELS[1], 0) + by_hand(PIXELS[2], 2)


def test_all_divides_by_every_pixel_and_valid_by_those_that_count():
    assert by_hand(PIXELS[1], 0) == pytest.approx(math.log(3))
    assert cross_entropy(LOGITS, LABELS).item() == pytest.approx(TOTAL / 4, rel=1e-6)
    assert cross_entropy(LOGITS, LABELS, normalizer="all").item() == pytest.approx(TOTAL / 4, rel=1e-6)
    assert cross_entropy(LOGITS, LABELS, normalizer="valid").item() == pytest.approx(TOTAL / 3, rel=1e-6)


@pytest.mark.parametrize("normalizer", ["all", "valid"])
def test_the_gradient_is_softmax_minus_one_hot_and_0_where_ignored(normalizer):
    logits = LOGITS.clone().requires_grad_()
    cross_entropy(logits, LABELS, normalizer=normalizer).backward()
    count = {"all": 4, "valid": 3}[normalizer]
    for place, (values, label) in enumerate(zip(PIXELS, LABELS.flatten().tolist(), strict=True)):
        odds = [math.exp(-by_hand(values, index)) for index in range(3)]
        expected = [0.0] * 3 if label == 255 else [(odd - (index == label)) / count for index, odd in enumerate(odds)]
        assert logits.grad.flatten(2)[0, :, place].tolist() == pytest.approx(expected, abs=1e-6)


def test_ignore_is_any_label_and_labels_may_be_uint8():
    labels = LABELS.to(torch.uint8)
    expected = (TOTAL - by_hand(PIXELS[0], 1) + by_hand(PIXELS[3], 0)) / 3
    labels[0, 1, 1] = 0
    assert cross_entropy(LOGITS, labels, ignore=1, normalizer="valid").item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("normalizer", ["all", "valid"])
def test_without_a_valid_pixel_the_loss_is_0_and_its_gradient_finite(normalizer):
    logits = LOGITS.clone().requires_grad_()
    loss = cross_entropy(logits, torch.full((1, 2, 2), 255), normalizer=normalizer)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_logits_are_summed_in_float32(dtype):
    # 100 x 100 pixels at log(3) each: the sum, 10986, is a step of 8 or more away in half precision.
    logits = torch.zeros(1, 3, 100, 100, dtype=dtype)
    loss = cross_entropy(logits, torch.zeros(1, 100, 100, dtype=torch.int64))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(3), rel=1e-6)


def test_the_auxiliary_loss_weighs_two_fifths():
    aux = torch.zeros(1, 3, 2, 2)
    loss = create_loss(LossConfig(), ignore=255)
    assert loss(LOGITS, None, LABELS).total.item() == pytest.approx(TOTAL / 4, rel=1e-6)
    assert loss(LOGITS, aux, LABELS).total.item() == pytest.approx(TOTAL / 4 + 0.4 * 3 * math.log(3) / 4, rel=1e-6)
    loss = create_loss(LossConfig(normalizer="valid", aux_weight=2.0), ignore=255)
    assert loss(LOGITS, aux, LABELS).total.item() == pytest.approx(TOTAL / 3 + 2 * math.log(3), rel=1e-6)
    loss = create_loss(LossConfig(aux_weight=0), ignore=255)
    assert loss(LOGITS, aux, LABELS).total.item() == pytest.approx(TOTAL / 4, rel=1e-6)


def test_the_configured_ignore_label_reaches_both_logits():
    labels = LABELS.clone()
    labels[labels == 255] = 7
    loss = create_loss(LossConfig(normalizer="valid"), ignore=7)
    assert loss(LOGITS, LOGITS, labels).total.item() == pytest.approx(1.4 * TOTAL / 3, rel=1e-6)


def test_an_unknown_normalizer_is_refused():
    with pytest.raises(ValueError, match="normalizer must be 'all' or 'valid', got 'mean'"):
        cross_entropy(LOGITS, LABELS, normalizer="mean")


@pytest.mark.parametrize(("normalizer", "pixels"), [("all", 4), ("valid", 3)])
def test_class_weights_multiply_pixels_and_leave_the_normalizer_alone(normalizer, pixels):
    # Equal logits: every pixel costs log 2. Two pixels of class 0, one of class 1, one ignored.
    logits, labels = torch.zeros(1, 2, 2, 2), torch.tensor([[[0, 0], [1, 255]]])
    value = cross_entropy(logits, labels, 255, normalizer, torch.tensor([0.5, 3.0]))
    assert float(value) == pytest.approx((2 * 0.5 + 3.0) * math.log(2) / pixels)


def test_class_weights_reach_both_heads():
    loss = create_loss(LossConfig(class_weights=(0.0, 2.0), aux_weight=0.5), 255)
    logits, labels = torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])
    # Main 2 log 2 / 2 pixels; the auxiliary one counts half of the same.
    assert float(loss(logits, logits, labels).total) == pytest.approx(1.5 * math.log(2))
