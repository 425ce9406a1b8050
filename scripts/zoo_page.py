"""Write docs/zoo.md: the tables of the zoo with explanations."""

from collections.abc import Sequence

from crisscross.terminal import decimal
from crisscross.zoo.instances import instance_table
from crisscross.zoo.scores import MEASURED
from crisscross.zoo.tables import HEAD, Table, lip_table, our_table, published_tables

# CE2P with its own context module, in the same table as the paper's other scores on LIP val.
CE2P_MIOU = 53.10
# Test mIoU in percent of CCNet3D on CamVid by the frames of a clip: the paper's (TPAMI; backbone, resolution and
# pretraining are not known), and ours with the light network under the small budget of the page.
VIDEO_PAGE = "results/video.md"
PUBLISHED_VIDEO = {1: 77.9, 5: 79.1}
MEASURED_VIDEO: dict[int, float] = {1: 57.1, 3: 57.6}

INTRODUCTION = """\
<!-- Written by `python -m scripts.zoo_page > docs/zoo.md`; change that script or src/crisscross/zoo/ instead. -->
# The zoo

Sixteen published CCNet systems by name, and our own recipes.

```sh
crisscross zoo                                             # these tables
crisscross zoo ccnet_r50-d8_4xb2-40k_cityscapes-512x1024   # one recipe in full: a YAML file to keep and change
crisscross evaluate ccnet_r50-d8_4xb2-40k_cityscapes-512x1024 --data CITYSCAPES       # downloads the weights once
crisscross evaluate ccnet_r50-d8_4xb2-40k_cityscapes-512x1024 --data CITYSCAPES --tta # multi-scale + flip
crisscross predict ccnet_r50-d8_4xb2-40k_cityscapes-512x1024 street.jpg --weights FILE   # with a file at hand
crisscross train ccnet_r50-d8_4xb2-40k_cityscapes-512x1024 --data CITYSCAPES --out runs/citys
```

```python
import crisscross

segmenter = crisscross.load("ccnet_r50-d8_4xb2-40k_cityscapes-512x1024")
```

The older name of a checkpoint (`ccnet_r50-d8_512x1024_40k_cityscapes`) works everywhere, too. Downloads resume where
they stopped, are checked by SHA-256, and are kept in `~/.cache/crisscross-seg/checkpoints` (or the folder
`CRISSCROSS_CACHE`). `--offline` or `CRISSCROSS_OFFLINE=1` forbids them. See [checkpoints.md](checkpoints.md) for files
of other publishers, [datasets.md](datasets.md) for the layouts of data sets, and [inference.md](inference.md) for whole
images, sliding windows and several scales.

## Published by MMSegmentation

The published columns are MMSegmentation's own: trained in June 2020 on four V100, memory of training on each GPU,
mIoU in percent of the last checkpoint on the validation split; fps was measured with a slower, compiled attention
operator of that time. `measured` is ours and stays empty until the data set and the weights were in our hands;
scores of one recipe scatter by about a point between seeds (R-101 lies below R-50 in places).
"""

RECIPE_NOTES = """\
All sixteen: output stride 8, R = 2, auxiliary head with weight 0.4; SGD 0.01, momentum 0.9, weight decay 5e-4 on
everything, polynomial 0.9 down to 1e-4 at the last iteration; cross-entropy over all pixels, ignored ones in the
divisor; random scale 0.5 to 2, crop (a class covers at most 75%), flip, photometric distortion; synchronized batch
norm over GPUs. Cityscapes 8 images a step, the others 16. At 769 x 769 corners are aligned and images are
labeled by 769 windows every 513 pixels; elsewhere in one pass. Test scale 2048 x 1024, 2049 x 1025 or 2048 x 512;
`--tta` takes 0.5 to 1.75 times *that*, with flips, as the version that produced the table did. (MMSegmentation 1.x
takes the ratios of each image's own size, which gives other numbers.) Small images of Pascal VOC are padded
black before normalization, as the present configurations do; the weights of 2020 were trained with the mean
color: `--set augment.pad=mean`. The backbones start from timm's `resnet50c` and `resnet101c` (ImageNet).

## Ours
"""

OUR_NOTES = """\
`camvid-light` ships with the package. `ccnet-r50`, `ccnet-r101` and `ccnet-light` are starting points for your own
images: the networks of the tables and one fit for a CPU. `ccnet-light`, `camvid-light` and `ccnet3d-light` have a
feature pyramid behind CCNet's head (`model.head.pyramid`; [why](results/beside-other-networks.md)). The `-baseline`
recipes leave the attention out.
`cityscapes-r101d-ohem` is the recipe of the best CCNet that anybody published for Cityscapes val, `ccnet-convnext-tiny`
a start from a backbone of today; neither was trained by us. `reported` is what others say, `measured` what we found.
"""

LIP_NOTES = f"""\
## Human parsing: LIP

The published columns are the paper's (ResNet-101, CE2P with criss-cross attention as its context module; CE2P itself
has mIoU {CE2P_MIOU:.2f} there). Nothing is measured on LIP: its 40,000 images were not at hand. The head, its losses
and where each setting comes from: [parsing.md](parsing.md).
"""

INSTANCE_INTRODUCTION = """\
## Instance segmentation

Mask R-CNN on COCO val 2017, see [instances.md](instances.md). The paper's columns are those of its COCO table;
`measured` is ours and stays empty until COCO and a GPU were in our hands.
"""

VIDEO_NOTES = f"""\
## Video

`ccnet3d-r50-camvid` is CCNet3D on a ResNet-50 (`--set model.frames=1` or `=3` for other lengths), `ccnet3d-light` one
that a CPU can train; both attend over clips of consecutive frames, R = 3: [video.md](video.md). On CamVid's test split,
published by the paper and [measured by us]({VIDEO_PAGE}) with a few minutes of fine-tuning, so that only the difference
between our rows says something:
"""


def page() -> str:
    """The page docs/zoo.md."""
    parts = [INTRODUCTION]
    for title, table in published_tables().items():
        parts += [f"### {title}\n", _markdown_table(_merged_head(table))]
    parts += [RECIPE_NOTES, _markdown_table(_linked(our_table())), OUR_NOTES, VIDEO_NOTES, _video_table()]
    parts += [LIP_NOTES, _markdown_table(lip_table())]
    parts += [INSTANCE_INTRODUCTION, _markdown_table(instance_table())]
    return "\n".join(parts)


def _video_table() -> str:
    """Clips of CamVid, by their frames."""
    head = ("frames", "published mIoU", "measured mIoU, `ccnet3d-light` without its pyramid, small budget")
    rows = [
        (f"T = {frames}", decimal(PUBLISHED_VIDEO.get(frames), 1), decimal(MEASURED_VIDEO.get(frames), 1))
        for frames in sorted({*PUBLISHED_VIDEO, *MEASURED_VIDEO})
    ]
    return _markdown_table([head, *rows])


def _merged_head(table: Table) -> Table:
    """The table with its columns of published scores named so."""
    head = tuple(f"published {name}" if name in ("mIoU", "ms+flip") and i < 8 else name for i, name in enumerate(HEAD))
    return [(*head[:-1], "measured ms+flip"), *table[1:]]


def _linked(table: Table) -> Table:
    rows = [table[0]]
    for row in table[1:]:
        found = MEASURED.get(row[0])
        rows.append((*row[:-1], f"[{row[-1]}]({found.page})") if found else row)
    return rows


def _markdown_table(rows: Sequence[Sequence[str]]) -> str:
    head, *body = rows
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    lines += ["| " + " | ".join([f"`{row[0]}`", *row[1:]]) + " |" for row in body]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
