"""When attention helps: backbones that see little to much of an image, with and without attention, on CamVid.

    python -m benchmarks.ablations.receptive_field CAMVID --backbone-weights FILE --out runs/receptive-field

The backbones are the first two, three and four stages of a ResNet-50 at output stride 8. `FILE` holds ImageNet weights
in timm's names, of a network whose second stage strides in its first 1 x 1 convolution. All runs of one seed and
backbone start as the same function and see the same crops; how their attention starts and learns is in `VARIANTS`.
Finished runs are kept, so that the command can be stopped and typed again; `runs.jsonl` has one line for each.
"""

from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.ablations.runs import (
    LAST_WEIGHTS,
    Facts,
    collect,
    finished,
    once,
    open_camvid,
    parser_for,
    run_script,
    train_and_score,
)
from crisscross.checkpoints import native
from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.config import Experiment, apply_overrides
from crisscross.config.tree import IMAGENET_MEAN, IMAGENET_STD
from crisscross.data import DataSet
from crisscross.data.files.reading import read_image
from crisscross.engine.semantic.settle import with_classes
from crisscross.explanation.receptive_field import effective_side
from crisscross.models import Segmenter, create_segmenter
from crisscross.models.backbones import load_backbone_weights
from crisscross.zoo import recipe

STAGES = {2: "two_stages", 3: "three_stages", 4: "four_stages"}


@dataclass(frozen=True)
class Variant:
    """What the attention is at first, and how its gate learns.

    Attributes:
        recurrence: R.
        gate_start: the gate's first value; other than 0 the value projection starts at 0, so that the layer is the
            identity all the same.
        gate_factor: `optim.gate_factor`.
        query_start: multiplies the query projection's first weights; 1 / sqrt(16) gives the logits of scaled attention.
    """

    recurrence: int = 2
    gate_start: float = 0.0
    gate_factor: float = 1.0
    query_start: float = 1.0


VARIANTS = {
    "R=0": Variant(0),
    "R=1": Variant(1),
    "R=2": Variant(),
    "R=2-open": Variant(gate_start=1.0),
    "R=2-gate-x10": Variant(gate_factor=10.0),
    "R=2-scaled": Variant(query_start=0.25),
}
# Loss, augmentation and optimizer are those of the recipe `camvid-light`, but for these.
BUDGET: Facts = LAST_WEIGHTS | {
    "model.output_stride": 8,
    "model.pretrained": False,
    "model.head.channels": 128,
    "model.head.pyramid": 0,
    "model.aux_head.channels": 0,
    "model.frozen": ["conv1", "bn1", "layer1"],
    "preprocess.mean": list(IMAGENET_MEAN),
    "preprocess.std": list(IMAGENET_STD),
    "preprocess.scale": None,
    "augment.scale": None,
    "augment.crop": [256, 256],
    "optim.backbone_factor": 0.1,
    "optim.warmup": 20,
    "train.iterations": 200,
    "train.batch": 2,
}
# Images of the test split on which receptive field and use of the attention are measured.
PROBES = 4


def two_stages(output_stride: int) -> nn.Module:
    """The first two stages of a ResNet-50; [B, 3, H, W] -> maps of strides 2, 4, 8."""
    return _stages(2, output_stride)


def three_stages(output_stride: int) -> nn.Module:
    """The first three stages of a ResNet-50, the third dilated; the last two maps have stride 8."""
    return _stages(3, output_stride)


def four_stages(output_stride: int) -> nn.Module:
    """A whole ResNet-50, third and fourth stage dilated; the last three maps have stride 8."""
    return _stages(4, output_stride)


def _stages(count: int, output_stride: int) -> nn.Module:
    import timm

    net: Any = timm.create_model(
        "resnet50", features_only=True, output_stride=output_stride, out_indices=tuple(range(count + 1))
    )
    first = net["layer2"][0]
    first.conv1.stride, first.conv2.stride = (2, 2), (1, 1)
    return net


def theoretical_field(net: nn.Module) -> int:
    """Side in pixels of the square that a position of the last feature map can depend on."""
    side, stride = 1, 1
    for name, module in net.named_modules():
        if isinstance(module, nn.Conv2d | nn.MaxPool2d) and "downsample" not in name:
            kernel, step, dilation = (_one(size) for size in (module.kernel_size, module.stride, module.dilation))
            side += (kernel - 1) * dilation * stride
            stride *= step
    return side


def _one(size: Any) -> int:
    return int(size[0] if isinstance(size, tuple) else size)


def effective_field(segmenter: Segmenter, images: list[Tensor]) -> float:
    """Side in pixels of the smallest square around the middle that holds 90 % of a logit's gradient.

    The logit is that of the most probable class at the middle of the last map; the gradient's absolute values are
    summed over channels and normalized per image. Returns the mean over images uint8 [3, H, W].
    """
    sides = []
    for image in images:
        x = segmenter.preprocess(image).requires_grad_()
        logits = segmenter.encode(x)
        row, column = (side // 2 for side in logits.shape[-2:])
        (gradient,) = torch.autograd.grad(logits[0, :, row, column].max(), x)
        stride = x.shape[-1] / logits.shape[-1]
        sides.append(effective_side(gradient[0].abs().sum(dim=0), ((row + 0.5) * stride, (column + 0.5) * stride)))
    return sum(sides) / len(sides)


@torch.inference_mode()
def use_of_attention(segmenter: Segmenter, images: list[Tensor]) -> float:
    """Norm of what the attention adds to its input, over the norm of that input; the mean over images."""
    found: list[float] = []

    def compare(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        found.append(float((result - given[0]).norm() / given[0].norm()))

    attend: Any = segmenter.head.attend
    with attend.register_forward_hook(compare):
        for image in images:
            segmenter.encode(segmenter.preprocess(image))
    return sum(found) / len(found)


def experiment_of(stages: int, variant: str, seed: int, iterations: int | None) -> Experiment:
    """The recipe `camvid-light` under the budget, with this backbone, R and seed."""
    changes = BUDGET | {
        "name": f"receptive-field-{stages}-{variant}",
        "model.backbone": f"benchmarks.ablations.receptive_field:{STAGES[stages]}",
        "model.head.recurrence": VARIANTS[variant].recurrence,
        "optim.gate_factor": VARIANTS[variant].gate_factor,
        "train.seed": seed,
    }
    return apply_overrides(
        recipe("camvid-light"), changes if iterations is None else changes | {"train.iterations": iterations}
    )


def write_start(experiment: Experiment, variant: Variant, weights: Path, file: Path) -> None:
    """Write the network that a run starts from: the same function for every variant of one seed and backbone."""
    torch.manual_seed(experiment.train.seed)
    attending = create_segmenter(apply_overrides(experiment, {"model.head.recurrence": 2}), initialize=False)
    load_backbone_weights(attending.backbone, read_backbone_weights(weights), str(weights))
    head: Any = attending.head
    attention = head.attend.attention
    with torch.no_grad():
        attention.gamma.fill_(variant.gate_start)
        attention.query.weight.mul_(variant.query_start)
        attention.query.bias.mul_(variant.query_start)
        if variant.gate_start:
            attention.value.weight.zero_()
            attention.value.bias.zero_()
    start = create_segmenter(experiment, initialize=False)
    tensors = attending.state_dict()
    start.load_state_dict({key: tensors[key] for key in start.state_dict()})
    native.save(start, file)


def run(experiment: Experiment, variant: Variant, dataset: DataSet, folder: Path, weights: Path) -> Facts:
    """Train one network, or the rest of one, and return its scores on the test split with all facts."""
    start = folder / "start.safetensors"

    def begin() -> Facts:
        write_start(with_classes(experiment, dataset), variant, weights, start)
        return {"init": str(start)}

    network, _, facts = train_and_score(experiment, dataset, folder, begin)
    start.unlink(missing_ok=True)
    pairs = dataset.split("test")
    images = [torch.from_numpy(read_image(pair.image)).permute(2, 0, 1) for pair in pairs[:: -(-len(pairs) // PROBES)]]
    attention: Any = getattr(network.head.attend, "attention", None)
    return facts | {
        "gate_end": None if attention is None else attention.gamma.item(),
        "attention_over_input": 0.0 if attention is None else use_of_attention(network, images),
        "theoretical_field": theoretical_field(network.backbone.net),
        "effective_field": effective_field(network, images),
    }


def main() -> None:
    """Run what is not finished yet: all variants of a seed before the next one."""
    parser = parser_for(__doc__, "receptive-field")
    parser.add_argument("--backbone-weights", type=Path, metavar="FILE", required=True)
    parser.add_argument("--stages", type=int, nargs="+", choices=STAGES, default=list(STAGES))
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["R=0", "R=2", "R=2-open"])
    parser.add_argument("--iterations", type=int, metavar="N", help="another length of training")
    parser.add_argument("--test-every", type=int, default=1, metavar="N", help="score every Nth test image only")
    arguments = parser.parse_args()
    dataset, out, weights = open_camvid(arguments.data, arguments.test_every), arguments.out, arguments.backbone_weights
    for seed, stages, name in product(arguments.seeds, arguments.stages, arguments.variants):
        experiment, variant = experiment_of(stages, name, seed, arguments.iterations), VARIANTS[name]
        folder = out / f"{stages}-stages-{experiment.train.iterations}" / name / f"seed{seed}"
        row = {"seed": seed, "stages": stages} | asdict(variant)
        once(folder, row, partial(run, experiment, variant, dataset, folder, weights))
        collect(out, finished(out, "*-stages-*/*/seed*"))


if __name__ == "__main__":
    run_script(main)
