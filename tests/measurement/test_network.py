"""`crisscross benchmark`: a user's network in each way that it can run in, against hand-counted labels and bytes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import narrow
from small_data import CLASSES, draw_image

import crisscross
from crisscross import Prediction, hardware
from crisscross.cli import main
from crisscross.cli.benchmark import advice, table
from crisscross.config import DataConfig, Experiment, ModelConfig, PreprocessConfig
from crisscross.deploy.samples import Samples
from crisscross.layers import CrissCrossAttention
from crisscross.measurement import exported
from crisscross.measurement import network as subject
from crisscross.measurement.network import ExportedVariant, NetworkRow, Variant, measure, variants_of

pytestmark = pytest.mark.usefixtures("one_thread")

IMAGE = torch.from_numpy(draw_image(3, 40, 56)).permute(2, 0, 1)
KINDS = ["plain", "channels-last", "optimize", "attention eager", "attention composite"]


def segmenter(recurrence: int = 2, **options: object) -> crisscross.Segmenter:
    torch.manual_seed(0)
    model = ModelConfig("test_resnet", **narrow(16, 0, recurrence=recurrence))
    made = crisscross.Segmenter(Experiment(model=model, data=DataConfig(classes=CLASSES), **options))
    for module in made.modules():
        if isinstance(module, CrissCrossAttention):
            torch.nn.init.constant_(module.gamma, 0.5)
    torch.nn.init.normal_(made.head.classify.weight)
    return made


@pytest.fixture(autouse=True)
def with_bfloat16(monkeypatch):
    monkeypatch.setattr(hardware, "processor", lambda: ("some", {"avx512_bf16"}))


def test_each_variant_runs_in_each_precision_and_labels_as_predict_does():
    net = segmenter()
    rows, reasons = measure(variants_of(net), IMAGE, 1)
    assert [(row.variant, row.precision) for row in rows] == [(kind, p) for p in ("fp32", "bf16") for kind in KINDS]
    # The kernels need a GPU; of a CPU nobody expects fp16.
    assert len(reasons) == 1 and reasons[0].startswith("attention fused: ") and "CUDA" in reasons[0]
    expected = net.predict(IMAGE.permute(1, 2, 0).numpy()).labels
    assert len(np.unique(expected)) > 1
    plain = rows[0]
    assert plain.same_labels == 1 and plain.weight_bytes == sum(
        tensor.nbytes for tensor in (*net.parameters(), *net.buffers())
    )
    assert np.array_equal(variants_of(net)[0].labels(IMAGE).numpy(), expected)
    for row in rows:
        assert row.seconds > 0 and row.same_labels > 0.9
        # The labels themselves, and the image as float32.
        assert row.peak_bytes >= 40 * 56 * (1 + 3 * 4)
    # The network that was given is left as it was.
    assert net.training and all(layer.backend == "auto" for layer in subject._attention(net))


def test_a_network_without_attention_has_no_backends_to_choose():
    assert [way.name for way in variants_of(segmenter(recurrence=0)) if way.precision == "fp32"] == KINDS[:3]


def test_compile_is_taken_on_request_alone(monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda call: compiled.append(call) or (lambda x: call(x)))
    assert not [way for way in variants_of(segmenter()) if way.name == "compile"] and not compiled
    (way,) = (
        way for way in variants_of(segmenter(), compiled=True) if (way.name, way.precision) == ("compile", "fp32")
    )
    assert len(compiled) == 1 and way.labels(IMAGE).shape == (40, 56)


class Made(torch.nn.Module):
    """Labels that are known beforehand: `differing` of the pixels are of class 1."""

    def __init__(self, differing: int = 0) -> None:
        super().__init__()
        self.attend = crisscross.CrissCrossAttention(8)
        self.labels = torch.zeros(4, 5, dtype=torch.uint8)
        self.labels.view(-1)[:differing] = 1
        self.seen: list[tuple[str, bool]] = []

    def predict(self, image: torch.Tensor) -> Prediction:
        self.seen.append((self.attend.backend, torch.is_autocast_enabled("cpu")))
        if self.attend.backend == "fused":
            raise ValueError("no kernels\nhere")
        return Prediction(self.labels.numpy())


def test_differing_labels_are_counted():
    rows, reasons = measure([Variant("plain", "fp32", Made()), Variant("other", "fp32", Made(3))], IMAGE, 1)
    assert [row.same_labels for row in rows] == [1.0, 17 / 20] and reasons == []


def test_a_variant_sets_its_backend_and_its_precision_and_no_other_keeps_them():
    net = Made()
    trio = [Variant("a", "fp32", net), Variant("b", "fp32", net, "eager"), Variant("c", "bf16", net, "composite")]
    for way in (*trio, trio[0]):
        way.labels(IMAGE)
    auto = ("auto", False)
    assert net.seen == [auto, ("eager", False), ("composite", True), auto]


def test_who_cannot_run_is_one_reason_and_no_row_but_plain_has_to_run():
    net, turns = Made(), []
    some = [Variant("a", "fp32", net), *(Variant("b", precision, net, "fused") for precision in ("fp32", "bf16"))]
    rows, reasons = measure(some, IMAGE, 2, lambda: turns.append(1))
    assert [row.variant for row in rows] == ["a"] and reasons == ["b: no kernels"]
    assert len(turns) <= 3 * (2 + 3)
    with pytest.raises(ValueError, match="no kernels"):
        measure(some[::-1], IMAGE, 1)


def test_a_gpu_of_old_has_no_bfloat16(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "old")
    assert subject._precisions(torch.device("cuda")) == ["fp32", "fp16"]
    assert subject._precisions(torch.device("cpu")) == ["fp32", "bf16"]


class Labels:
    """A predictor whose `differing` first labels are of class 1, the others of class 0."""

    def __init__(self, differing: int) -> None:
        self.labels = Made(differing).labels.numpy()

    def predict(self, image: np.ndarray) -> Prediction:
        assert image.shape[2] == 3
        return Prediction(self.labels)


def _file(folder, monkeypatch):
    """A file and its weights, seven bytes; labeling with it takes a MiB."""
    file, weights = folder / "model.xml", folder / "model.bin"
    weights.write_bytes(b"weights")
    expected = (file, "int8", *IMAGE.shape[1:])
    monkeypatch.setattr(subject, "peak_of_file", lambda *given: 2**20 if given == expected else None)
    return file, weights


def test_labels_of_samples_are_compared_and_scored(monkeypatch, tmp_path):
    mask = np.zeros((4, 5), np.uint8)
    # Truth: 10 of class 0 and 9 of class 1, one pixel is ignored.
    mask.flat[:9], mask.flat[9] = 1, 255
    some = [
        Variant("plain", "fp32", Made(5)),
        ExportedVariant("file", "int8", Labels(9), *_file(tmp_path, monkeypatch)),
    ]
    samples = Samples("made", [IMAGE.permute(1, 2, 0).numpy()] * 2, [], [mask] * 2)
    plain, file = measure(some, IMAGE, 1, samples=samples)[0]
    assert (plain.same_labels, file.same_labels) == (1, 16 / 20) and (file.weight_bytes, file.peak_bytes) == (7, 2**20)
    # Five of nine of class 1 are found: IoU 5 / 9 and 10 / 14.
    assert plain.miou == pytest.approx((5 / 9 + 10 / 14) / 2) and file.miou == 1
    assert measure(some, IMAGE, 1, samples=replace(samples, masks=()))[0][1].miou is None
    assert table([plain, file])[0][-1] == "mIoU" and table([plain, file])[2][4:] == ["1.0", "0.0", "80.000%", "100.00"]


def row(variant: str, precision: str, seconds: float, same: float) -> NetworkRow:
    return NetworkRow(variant, precision, seconds, 0, 0, same)


def test_the_advice_is_the_fastest_exact_row_and_a_faster_one_that_is_close():
    plain, exact = row("plain", "fp32", 1, 1), row("a", "fp32", 0.5, 0.99991)
    off, close, worse = row("b", "fp32", 0.1, 0.9998), row("c", "bf16", 0.25, 0.995), row("d", "int8", 0.05, 0.9949)
    first = "use: a in fp32 (2.00 times as fast as plain, exact)"
    assert advice([plain, exact, row("c", "bf16", 0.6, 1), worse]) == first
    assert advice([plain, exact, close, worse]) == f"{first}, or c in bf16 (4.00 times as fast, 99.50% of the labels)"
    assert advice([plain, exact, close, off]) == f"{first}, or b in fp32 (10.00 times as fast, 99.98% of the labels)"
    assert advice([plain]) == "use: plain in fp32 (1.00 times as fast as plain, exact)"


@pytest.fixture
def no_exports(monkeypatch):
    monkeypatch.setattr(exported, "exported_variants", lambda *words: ([], []))


@pytest.mark.usefixtures("no_exports")
def test_the_command_prints_one_table_and_writes_what_it_printed(tmp_path, capsys):
    path = tmp_path / "a.json"
    crisscross.save(segmenter(preprocess=PreprocessConfig(scale=(48, 32))), tmp_path / "net.safetensors")
    words = ["benchmark", str(tmp_path / "net.safetensors"), "--size", "40x56", "--rounds", "1", "--json", str(path)]
    assert main([*words, "--device", "cpu"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert "the network sees every image at 32x48: preprocess.scale" in out
    known = json.loads(path.read_text())
    assert (known["height"], known["width"], known["about"]["threads"]) == (40, 56, 1)
    lines = [line for line in out if "  fp32  " in line or "  bf16  " in line]
    assert len(lines) == len(known["rows"]) == 2 * len(KINDS)
    first = known["rows"][0]
    assert lines[0].split() == [
        "plain",
        "fp32",
        f"{1000 * first['seconds']:.1f}",
        "1.00",
        f"{first['peak_bytes'] / 2**20:.1f}",
        f"{first['weight_bytes'] / 2**20:.1f}",
        "100.000%",
    ]
    assert out[-1] == known["advice"]
    assert out[-2] == f"not available: {known['not_available'][0]}"


@pytest.mark.usefixtures("no_exports")
def test_what_the_processor_would_emulate_is_left_out_and_said_so(monkeypatch, capsys):
    monkeypatch.setattr(hardware, "processor", lambda: ("some", {"avx2"}))
    net = segmenter()
    monkeypatch.setattr(subject, "network_of", lambda *words, **options: net)
    assert main(["benchmark", "demo", "--size", "32x32", "--rounds", "1", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "  fp32  " in out and "  bf16  " not in out
    assert (
        "not available: bf16: this processor has no instructions for it, PyTorch would emulate it" in out.splitlines()
    )


@pytest.mark.usefixtures("no_exports")
def test_random_weights_are_called_so(monkeypatch, capsys):
    net = segmenter()
    monkeypatch.setattr(subject, "network_of", lambda *words, **options: net)
    monkeypatch.setattr(subject, "variants_of", lambda *words: variants_of(net)[:1])
    assert main(["benchmark", "ccnet-r50", "--size", "32x32", "--rounds", "1"]) == 0
    assert "ccnet-r50 has no weights here: random ones" in capsys.readouterr().out
    assert main(["benchmark", "camvid-light", "--size", "32x32", "--rounds", "1"]) == 0
    assert "random" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("demo --size 64", "--size: '64' is not a size; write HEIGHTxWIDTH, as in 64x128"),
        ("demo --size 16x64", "--size must be at least 32x32, got '16x64'"),
        ("maskrcnn_r50_fpn_rcca_coco", "benchmark handles semantic segmentation only"),
        ("nothing", "nothing: no such file or run folder"),
        ("demo --weights nothing.pth", "nothing.pth: no such file"),
    ],
)
def test_bad_input_is_one_line(words, message, capsys):
    assert main(["benchmark", *words.split()]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("crisscross: ") and message in line
