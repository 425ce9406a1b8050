"""The sixteen published CCNet systems of MMSegmentation: eight recipes x two depths, and what they scored.

Sources: the model index and configurations of mmsegmentation 1.2.2 (names, recipes, scores, checkpoints). The scores
are those of its version 0.x, which trained the weights in June 2020 on four V100 GPUs; fps and memory are of that time.
"""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

BASE_URL = "https://download.openmmlab.com/mmsegmentation/v0.5/ccnet"

# Where a crop is 769 x 769, images are labeled by sliding windows and corners are aligned.
ALIGNED: Row = {"model": {"align_corners": True}, "inference": {"mode": "slide"}}


@dataclass(frozen=True)
class Published:
    """One row of the published tables.

    `miou` and `miou_tta` (multi-scale + flip) are percent on the validation split, `memory` is GB of training memory on
    each GPU, `fps` images a second in inference; None where the tables have a dash. `older_name` is the name of the
    checkpoint, `digest` the first eight characters of its SHA-256.
    """

    name: str
    older_name: str
    depth: int
    data: str
    crop: tuple[int, int]
    iterations: int
    miou: float
    miou_tta: float
    memory: float | None
    fps: float | None
    stamp: str
    digest: str

    @property
    def file(self) -> str:
        """File name of the checkpoint."""
        return f"{self.older_name}_{self.stamp}-{self.digest}.pth"

    @property
    def url(self) -> str:
        """Where the checkpoint is published."""
        return f"{BASE_URL}/{self.older_name}/{self.file}"


@dataclass(frozen=True)
class Family:
    """What the rows of one data set and crop share: `scale` is (width, height), `crop` (height, width)."""

    data: str
    label: str
    crop: tuple[int, int]
    scale: tuple[int, int]
    per_gpu: int
    extra: Row


FAMILIES = (
    Family("cityscapes", "cityscapes", (512, 1024), (2048, 1024), 2, {}),
    Family("cityscapes", "cityscapes", (769, 769), (2049, 1025), 2, ALIGNED),
    Family("ade20k", "ade20k", (512, 512), (2048, 512), 4, {}),
    Family("voc2012aug", "voc12aug", (512, 512), (2048, 512), 4, {"augment": {"pad": "black"}}),
)

# Family, iterations, depth, mIoU, mIoU (ms+flip), memory, fps, time stamp and hash of the checkpoint.
TABLE = (
    (0, 40_000, 50, 77.76, 78.87, 6.0, 3.32, "20200616_142517", "4123f401"),
    (0, 40_000, 101, 76.35, 78.19, 9.5, 2.31, "20200616_142540", "a3b84ba6"),
    (1, 40_000, 50, 78.46, 79.93, 6.8, 1.43, "20200616_145125", "76d11884"),
    (1, 40_000, 101, 76.94, 78.62, 10.7, 1.01, "20200617_101428", "4f57c8d0"),
    (0, 80_000, 50, 79.03, 80.16, None, None, "20200617_010421", "869a3423"),
    (0, 80_000, 101, 78.87, 79.90, None, None, "20200617_203935", "ffae8917"),
    (1, 80_000, 50, 79.29, 81.08, None, None, "20200617_010421", "73eed8ca"),
    (1, 80_000, 101, 79.45, 80.66, None, None, "20200618_011502", "ad3cd481"),
    (2, 80_000, 50, 41.78, 42.98, 8.8, 20.89, "20200615_014848", "aa37f61e"),
    (2, 80_000, 101, 43.97, 45.13, 12.2, 14.11, "20200615_014848", "1f4929a3"),
    (2, 160_000, 50, 42.08, 43.13, None, None, "20200616_084435", "7c97193b"),
    (2, 160_000, 101, 43.71, 45.04, None, None, "20200616_000644", "e849e007"),
    (3, 20_000, 50, 76.17, 77.51, 6.0, 20.45, "20200617_193212", "fad81784"),
    (3, 20_000, 101, 77.27, 79.02, 9.5, 13.64, "20200617_193212", "0007b61d"),
    (3, 40_000, 50, 75.96, 77.04, None, None, "20200613_232127", "c2a15f02"),
    (3, 40_000, 101, 77.87, 78.90, None, None, "20200613_232127", "c30da577"),
)


def _published(row: tuple[Any, ...]) -> Published:
    family, (iterations, depth) = FAMILIES[row[0]], row[1:3]
    crop, schedule = "x".join(map(str, family.crop)), f"{iterations // 1000}k"
    name = f"ccnet_r{depth}-d8_4xb{family.per_gpu}-{schedule}_{family.label}-{crop}"
    older_name = f"ccnet_r{depth}-d8_{crop}_{schedule}_{family.label}"
    return Published(name, older_name, depth, family.data, family.crop, iterations, *row[3:])


PUBLISHED = {entry.name: entry for entry in map(_published, TABLE)}
ALIASES = {entry.older_name: entry.name for entry in PUBLISHED.values()}


def published_recipe(entry: Published) -> Row:
    """What differs from the defaults of `crisscross.config`, which are the published optimizer, loss and distortion.

    Padding and schedule are those of the configurations as they stand today (1.x); version 0.x padded Pascal VOC's
    images after normalization: `--set augment.pad=mean`.
    """
    family = next(family for family in FAMILIES if (family.data, family.crop) == (entry.data, entry.crop))
    every = entry.iterations // 10
    model = {"backbone": f"resnet{entry.depth}c", "pretrained": True}
    return {
        "model": {**model, **family.extra.get("model", {})},
        # The test splits of these data sets come without labels: the tables are about val.
        "data": {"name": family.data, "test_split": "val"},
        "preprocess": {"scale": list(family.scale)},
        "augment": {"scale": list(family.scale), "crop": list(family.crop), **family.extra.get("augment", {})},
        "train": {
            "iterations": entry.iterations,
            "batch": 4 * family.per_gpu,
            "validate_every": every,
            "checkpoint_every": every,
        },
        "inference": family.extra.get("inference", {}),
    }
