"""Every term of the loss beside values worked out by hand or by a literal definition."""

import math

import pytest
import torch
from torch.nn import functional

from crisscross.config import Experiment, LossConfig, OhemConfig, override
from crisscross.config.loss import TERMS
from crisscross.losses import LossInputs, create_loss, cross_entropy, image_losses, ohem, pixel_losses, resampling
from crisscross.measurement.memory import peak_memory

IGNORE = 255
# Three classes, four pixels in a row, the last one ignored.
ODDS = [[0.5, 0.25, 0.25], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6], [0.9, 0.05, 0.05]]
LABELS = torch.tensor([[[0, 1, 1, IGNORE]]])
PROBABILITIES = torch.tensor(ODDS, dtype=torch.float64).T.reshape(1, 3, 1, 4)
LOGITS = PROBABILITIES.log()
ALL_TERMS = [name for name, term in TERMS.items() if term.reads == "logits"]


def config_of(*names, **values):
    words = [f"loss.{key}={value}" for key, value in values.items()]
    terms = ", ".join(f"{{name: {name}}}" for name in names)
    return override(Experiment(), [*words, f"loss.terms=[{terms}]"]).loss


def value_of(name, **values):
    return create_loss(config_of(name, **values), IGNORE)(LOGITS, None, LABELS).total.item()


def drawn(batch=2, classes=4, coarse=(5, 6), size=(33, 41), dtype=torch.float64, seed=0):
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(batch, classes, *coarse, generator=generator, dtype=torch.float64).to(dtype)
    labels = torch.randint(0, classes, (batch, size[0] // 4 + 1, size[1] // 4 + 1), generator=generator)
    labels = labels.repeat_interleave(4, 1).repeat_interleave(4, 2)[:, : size[0], : size[1]].contiguous()
    labels[:, :5] = IGNORE
    return logits.requires_grad_(), labels.to(torch.uint8)


@pytest.mark.parametrize(("normalizer", "count"), [("all", 4), ("valid", 3)])
def test_terms_of_pixels_by_hand(normalizer, count):
    p, w = [0.5, 0.8, 0.2], [2.0, 0.5, 0.5]
    focal = [-((1 - a) ** 2) * math.log(a) for a in p]
    assert value_of("focal", normalizer=normalizer) == pytest.approx(sum(focal) / count, rel=1e-6)
    weighted = value_of("focal", normalizer=normalizer, class_weights="[2, 0.5, 1]")
    assert weighted == pytest.approx(sum(a * b for a, b in zip(focal, w, strict=True)) / count, rel=1e-6)
    plain = [-math.log(a) for a in p]
    assert value_of("focal", normalizer=normalizer, focal_gamma=0) == pytest.approx(sum(plain) / count, rel=1e-6)
    weighted = value_of("cross_entropy", normalizer=normalizer, class_weights="[2, 0.5, 1]")
    assert weighted == pytest.approx(sum(a * b for a, b in zip(plain, w, strict=True)) / count, rel=1e-6)
    # A tenth of every label goes to all three classes alike.
    smooth = [0.9 * -math.log(odds[k]) + 0.1 * -sum(map(math.log, odds)) / 3 for odds, k in zip(ODDS, [0, 1, 1])]  # noqa: B905
    assert value_of("cross_entropy", normalizer=normalizer, smoothing=0.1) == pytest.approx(
        sum(smooth) / count, rel=1e-6
    )


def test_the_focal_loss_is_smooth_where_a_pixel_is_certain():
    logits = torch.tensor([[[[80.0]], [[-80.0]]]], requires_grad=True)
    for gamma in (0.5, 2.0):
        loss = create_loss(config_of("focal", focal_gamma=gamma), IGNORE)(
            logits, None, torch.zeros(1, 1, 1, dtype=torch.uint8)
        )
        (gradient,) = torch.autograd.grad(loss.total, logits)
        assert gradient.isfinite().all() and loss.total.item() == pytest.approx(0, abs=1e-6)


def inputs(probabilities, labels):
    """What a term of whole images gets, with these probabilities."""
    made = LossInputs(probabilities, labels, IGNORE, False, 1, LossConfig())
    made.__dict__["probabilities"] = probabilities
    return made


def test_dice_by_hand():
    # Class 0: true at pixel 0; class 1: at pixels 1 and 2; class 2 is absent, pixel 3 ignored.
    first = 1 - 2 * 0.5 / (0.25 + 0.01 + 0.04 + 1)
    second = 1 - 2 * (0.8 + 0.2) / (0.0625 + 0.64 + 0.04 + 2)
    assert image_losses.dice(inputs(PROBABILITIES, LABELS)).item() == pytest.approx((first + second) / 2, abs=1e-12)
    perfect = functional.one_hot(torch.tensor([[[0, 1, 1, 2]]])).permute(0, 3, 1, 2).double()
    assert image_losses.dice(inputs(perfect, LABELS)).item() == pytest.approx(0, abs=1e-12)


def test_lovasz_by_hand():
    # Class 0, errors 0.5 (true), 0.2, 0.1: Jaccard losses 1, 1, 1 - 0/3: growth 1, 0, 0.
    first = 0.5
    # Class 1, errors 0.8 (true), 0.25 (not), 0.2 (true); losses 1 - 1/2, 1 - 1/3, 1 - 0/3.
    second = 0.8 * 1 / 2 + 0.25 * (2 / 3 - 1 / 2) + 0.2 * (1 - 2 / 3)
    assert image_losses.lovasz(inputs(PROBABILITIES, LABELS)).item() == pytest.approx((first + second) / 2, abs=1e-12)


def test_lovasz_of_hard_predictions_is_one_minus_iou():
    generator = torch.Generator().manual_seed(0)
    labels, found = (torch.randint(0, 3, (2, 6, 7), generator=generator) for _ in range(2))
    hard = functional.one_hot(found, 3).permute(0, 3, 1, 2).double()
    iou = [((labels == k) & (found == k)).sum() / ((labels == k) | (found == k)).sum() for k in range(3)]
    assert image_losses.lovasz(inputs(hard, labels)).item() == pytest.approx(1 - sum(iou).item() / 3)


# --- hard examples ---


def by_authors(probabilities, labels, threshold, keep):
    """The authors' rule with scipy's zoom, as they call it: bool [B, H, W]."""
    zoom = pytest.importorskip("scipy.ndimage").zoom
    small = zoom(probabilities.numpy(), (1, 1, 1 / 8, 1 / 8), order=1)
    target = zoom(labels.numpy(), (1, 1 / 8, 1 / 8), order=0)
    true = sorted(
        float(small[b, target[b, y, x], y, x])
        for b in range(len(target))
        for y in range(target.shape[1])
        for x in range(target.shape[2])
        if target[b, y, x] != IGNORE
    )
    keep //= 64
    limit = 1.0 if keep >= len(true) else max(threshold, true[keep - 1]) if keep else threshold
    valid = labels != IGNORE
    own = probabilities.gather(1, labels.long().where(valid, 0)[:, None])[:, 0]
    return (own <= limit) & valid


@pytest.mark.parametrize("size", [(33, 41), (64, 96), (769 // 7, 52)])
@pytest.mark.parametrize(("threshold", "keep"), [(0.7, 100), (0.2, 1500), (0.05, 0), (0.3, 10**6), (0.1, 640)])
def test_the_authors_ohem_with_scipy(size, threshold, keep):
    logits, labels = drawn(size=size)
    logits, config = logits.detach(), OhemConfig(threshold, keep)
    full = resampling.resize_logits(logits, size, False)
    wanted = by_authors(full.softmax(1), labels, threshold, keep)
    found = ohem.hard_pixels(ohem.true_probabilities(logits, labels, IGNORE, False), config)
    assert torch.equal(found, wanted) and 0 < wanted.sum() <= (labels != IGNORE).sum()
    # The loss is the mean over what is kept, whatever the normalizer.
    each = functional.cross_entropy(full, labels.long(), ignore_index=IGNORE, reduction="none")
    values = {"ohem": f"{{threshold: {threshold}, keep: {keep}}}"}
    loss = create_loss(config_of("ohem", **values), IGNORE)(logits, None, labels)
    assert loss.total.item() == pytest.approx(each[wanted].mean().item(), rel=1e-6)


# --- all of them ---


@pytest.mark.parametrize("name", ALL_TERMS)
@pytest.mark.parametrize("align_corners", [False, True])
def test_gradients_are_slopes(name, align_corners):
    logits, labels = drawn(coarse=(2, 3), size=(8, 7), classes=3, batch=1)
    # A threshold that no probability is near to: the choice of hard pixels has no slope.
    config = config_of(name, normalizer="valid", ohem="{threshold: 1.0, keep: 0}", class_weights="[1, 2, 0.5]")
    loss = create_loss(config, IGNORE, align_corners)
    assert torch.autograd.gradcheck(lambda x: loss(x, None, labels).total, (logits,))


@pytest.mark.parametrize("name", ALL_TERMS)
@pytest.mark.parametrize("normalizer", ["all", "valid"])
def test_a_batch_without_a_valid_pixel_costs_nothing(name, normalizer):
    logits, labels = drawn(dtype=torch.float32)
    labels[:] = IGNORE
    loss = create_loss(config_of(name, normalizer=normalizer), IGNORE)(logits, logits, labels)
    (gradient,) = torch.autograd.grad(loss.total, logits)
    assert loss.total.item() == 0 and torch.equal(gradient, torch.zeros_like(gradient))


@pytest.mark.parametrize("name", ALL_TERMS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_logits_are_worked_out_in_float32(name, dtype):
    logits, labels = drawn()
    halved = logits.detach().to(dtype).requires_grad_()
    loss = create_loss(config_of(name), IGNORE)
    found, wanted = loss(halved, None, labels).total, loss(halved.double(), None, labels).total
    found.backward()
    assert found.dtype == torch.float32 and found.item() == pytest.approx(wanted.item(), rel=1e-5)
    assert halved.grad.dtype == dtype and halved.grad.isfinite().all() and halved.grad.any()


def test_terms_add_up_and_the_auxiliary_head_has_cross_entropy_alone():
    logits, labels = drawn()
    single = {name: create_loss(config_of(name), IGNORE)(logits, None, labels).total for name in ALL_TERMS}
    terms = ", ".join(f"{{name: {name}, weight: {index + 1}}}" for index, name in enumerate(ALL_TERMS))
    config = override(Experiment(), [f"loss.terms=[{terms}]"]).loss
    loss = create_loss(config, IGNORE)(logits, logits.flip(0), labels)
    wanted = {name: (index + 1) * value.item() for index, (name, value) in enumerate(single.items())}
    wanted["aux"] = 0.4 * create_loss(LossConfig(), IGNORE)(logits.flip(0), None, labels).total.item()
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx(wanted, rel=1e-9)
    assert loss.total.item() == pytest.approx(sum(wanted.values()), rel=1e-9)
    (found,) = torch.autograd.grad(loss.total, logits)
    slopes = [
        torch.autograd.grad(value, logits, retain_graph=True)[0] * (i + 1) for i, value in enumerate(single.values())
    ]
    aux = create_loss(config_of("cross_entropy"), IGNORE)(logits.flip(0), None, labels).total
    assert torch.allclose(found, sum(slopes) + 0.4 * torch.autograd.grad(aux, logits)[0], rtol=1e-9, atol=1e-14)


# --- memory ---


def plain_way(coarse, labels, align_corners, **options):
    full = functional.interpolate(coarse, labels.shape[-2:], mode="bilinear", align_corners=align_corners)
    return cross_entropy(full, labels, IGNORE, **options)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=str)
@pytest.mark.parametrize(
    ("coarse", "size", "align_corners"), [((16, 24), (128, 192), False), ((13, 21), (97, 161), True)]
)
@pytest.mark.parametrize("normalizer", ["all", "valid"])
@pytest.mark.parametrize("together", [1, 2], ids=["bands", "images"])
def test_the_published_loss_has_the_gradients_of_full_size_logits_bit_for_bit(
    layout, coarse, size, align_corners, normalizer, together, monkeypatch
):
    logits, labels = drawn(classes=19, coarse=coarse, size=size, dtype=torch.float32)
    mine, theirs = (logits.detach().to(memory_format=layout).requires_grad_() for _ in range(2))
    monkeypatch.setattr(pixel_losses, "BAND_BYTES", 2**19 if together == 1 else 4 * 2**20)
    assert min(2, pixel_losses._images_at_once(logits, size)) == together
    assert (len(list(pixel_losses._bands(torch.zeros(together, 19, *size)))) > 1) == (together == 1)
    found = create_loss(LossConfig(normalizer=normalizer), IGNORE, align_corners)(mine, None, labels).total
    wanted = plain_way(theirs, labels, align_corners, normalizer=normalizer)
    found.backward()
    wanted.backward()
    assert found.item() == pytest.approx(wanted.item(), rel=1e-6)
    assert torch.equal(mine.grad, theirs.grad)


def test_cross_entropy_from_coarse_logits_takes_less_than_half_of_the_memory(monkeypatch):
    monkeypatch.setattr(pixel_losses, "BAND_BYTES", 2**20)
    logits, labels = drawn(classes=19, coarse=(32, 32), size=(256, 256), dtype=torch.float32)
    loss = create_loss(LossConfig(), IGNORE)
    ours = peak_memory(lambda: torch.autograd.grad(loss(logits, None, labels).total, logits), torch.device("cpu"))
    plain = peak_memory(lambda: torch.autograd.grad(plain_way(logits, labels, False), logits), torch.device("cpu"))
    full = 19 * 256 * 256 * 4
    # The plain way holds three times all full-size logits; ours once those of one image, and a few bands.
    assert plain.peak > 5.9 * full and full < ours.peak < 2.5 * full


def test_the_networks_own_logits_are_left_alone():
    logits, labels = drawn(coarse=(33, 41), dtype=torch.float32)
    before = logits.detach().clone()
    create_loss(LossConfig(), IGNORE)(logits, None, labels).total.backward()
    assert torch.equal(logits.detach(), before)


@pytest.mark.parametrize(("pixels", "features"), [(512, 64), (769, 97), (37, 5), (8, 1), (3, 7)])
@pytest.mark.parametrize("align_corners", [False, True])
def test_nearest_labels_lie_at_the_features(pixels, features, align_corners):
    labels = torch.arange(pixels).expand(1, pixels, pixels)
    found = resampling.nearest_labels(labels, (1, features), align_corners)[0, 0].tolist()
    if align_corners:
        wanted = [i * (pixels - 1) / max(features - 1, 1) for i in range(features)]
    else:
        wanted = [(i + 0.5) * pixels / features - 0.5 for i in range(features)]
    assert found == [math.floor(place + 0.5 + 1e-9) for place in wanted]


# --- logits that are no numbers ---

BROKEN = {
    "all nan": lambda logits: logits.fill_(math.nan),
    "one nan": lambda logits: logits[0, 0, 2, 2].fill_(math.nan),
    "one infinite": lambda logits: logits[0, 0, 2, 2].fill_(math.inf),
}


@pytest.mark.parametrize("broken", BROKEN)
@pytest.mark.parametrize("name", ALL_TERMS)
def test_no_term_hides_logits_that_are_no_numbers(name, broken):
    logits = drawn(dtype=torch.float32)[0].detach()
    # A single class has no edges, and the second settings of OHEM call hardly a pixel hard.
    labels = torch.ones(2, 33, 41, dtype=torch.uint8)
    BROKEN[broken](logits)
    for settings in ("{threshold: 0.7, keep: 100000}", "{threshold: 1.0e-30, keep: 0}"):
        value = create_loss(config_of(name, ohem=settings), IGNORE)(logits, None, labels).total.item()
        assert math.isnan(value), settings


@pytest.mark.parametrize("place", ["aux", "edges", "embedding"])
def test_no_other_part_of_the_loss_hides_what_is_no_number(place):
    labels = torch.arange(33 * 41).view(1, 33, 41) % 3
    given = {"aux": torch.zeros(1, 3, 5, 6), "edges": torch.zeros(1, 2, 5, 6), "embedding": torch.zeros(1, 16, 5, 6)}
    given[place][0, 0, 2, 2] = math.nan
    loss = create_loss(config_of("cross_entropy", "category_consistent"), IGNORE)
    value = loss(torch.zeros(1, 3, 5, 6), given["aux"], labels, given["embedding"], given["edges"]).total.item()
    assert math.isnan(value)


def test_what_is_no_number_at_ignored_pixels_counts_nowhere():
    logits, labels = drawn(coarse=(5, 6), dtype=torch.float32)
    logits, hidden = logits.detach(), logits.detach().clone()
    # Column 0 reaches as far as the middle of column 1: pixel 10 of 41.
    labels[:, :, :11] = IGNORE
    hidden[:, :, :, 0] = math.nan
    loss = create_loss(config_of("focal"), IGNORE)
    assert loss(hidden, None, labels).total.item() == loss(logits, None, labels).total.item() > 0
