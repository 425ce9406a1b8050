"""The zoo as tables: for the terminal, for docs/zoo.md, and one entry in full."""

from collections.abc import Sequence

from crisscross.config import to_yaml
from crisscross.config.heads import CCNetConfig
from crisscross.zoo.instances import INSTANCE_RECIPES, instance_table, instance_text
from crisscross.zoo.lip import CE2P_MIOU, LIP, PAPER
from crisscross.zoo.measured import MEASURED, MEASURED_VIDEO, PUBLISHED_VIDEO, VIDEO_PAGE
from crisscross.zoo.published import FAMILIES, PUBLISHED, Published
from crisscross.zoo.recipes import OURS, published, recipe, shipped_weights
from crisscross.zoo.reported import REPORTED

TITLES = {"cityscapes": "Cityscapes val", "ade20k": "ADE20K val", "voc2012aug": "Pascal VOC 2012 + Aug val"}
HEAD = ("name", "backbone", "crop", "iterations", "memory GB", "fps", "mIoU", "ms+flip", "measured mIoU", "ms+flip")
OUR_HEAD = ("name", "backbone", "stride", "R", "iterations", "weights", "reported", "measured mIoU", "ms+flip", "on")
LIP_HEAD = (
    *("name", "head", "backbone", "stride", "crop", "iterations", "published pixel acc.", "published mean acc."),
    *("published mIoU", "measured mIoU"),
)

Table = list[tuple[str, ...]]


def published_tables() -> dict[str, Table]:
    """Title -> table of the published rows of one data set, the head first."""
    tables: dict[str, Table] = {}
    for data in dict.fromkeys(family.data for family in FAMILIES):
        rows = [_row(entry) for entry in PUBLISHED.values() if entry.data == data]
        tables[TITLES[data]] = [HEAD, *rows]
    return tables


def our_table() -> Table:
    """Our own recipes, the head first."""
    return [OUR_HEAD, *map(_our_row, OURS)]


def _row(entry: Published) -> tuple[str, ...]:
    crop = "x".join(map(str, entry.crop))
    found = MEASURED.get(entry.name)
    ours = (_number(found.miou, 2), _number(found.miou_tta, 2)) if found else ("-", "-")
    return (
        *(entry.name, f"R-{entry.depth}", crop, f"{entry.iterations // 1000}k"),
        *(_number(entry.memory, 1), _number(entry.fps, 2), _number(entry.miou, 2), _number(entry.miou_tta, 2)),
        *ours,
    )


def _our_row(name: str) -> tuple[str, ...]:
    experiment, found = recipe(name), MEASURED.get(name)
    model, head = experiment.model, experiment.model.head
    assert isinstance(head, CCNetConfig)
    return (
        *(
            name,
            model.backbone,
            str(model.output_stride),
            str(head.recurrence),
            str(experiment.train.iterations),
        ),
        "shipped" if shipped_weights(name) else "-",
        _reported(name),
        *((_number(found.miou, 1), _number(found.miou_tta, 1), found.data) if found else ("-", "-", "-")),
    )


def _reported(name: str) -> str:
    """What others report, with its source."""
    row = REPORTED.get(name)
    if row is None:
        return "-"
    tta = f", ms+flip {row.miou_tta:.2f}" if row.miou_tta is not None else ""
    return f"{row.miou:.2f}{tta} ({row.source})"


def lip_table() -> Table:
    """The recipes for LIP beside what the paper reports, the head first."""
    return [LIP_HEAD, *map(_lip_row, LIP)]


def _lip_row(name: str) -> tuple[str, ...]:
    experiment, paper, found = recipe(name), PAPER.get(name), MEASURED.get(name)
    model, crop = experiment.model, "x".join(map(str, experiment.augment.crop))
    scores = (paper.pixel_accuracy, paper.mean_accuracy, paper.miou) if paper else (None, None, None)
    return (
        *(name, model.head.name, model.backbone, str(model.output_stride), crop, str(experiment.train.iterations)),
        *(_number(score, 2) for score in scores),
        _number(found.miou if found else None, 2),
    )


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def entry_text(name: str) -> str:
    """One recipe as a YAML file that `crisscross train` takes, what is known about it as comments at its head.

    Raises:
        CrissCrossError: there is no such recipe.
    """
    if name in INSTANCE_RECIPES:
        return instance_text(name)
    experiment = recipe(name)
    row, found = published(name), MEASURED.get(experiment.name)
    lines = [f"# {experiment.name}"]
    if row:
        lines += [
            f"# published: mIoU {row.miou:.2f}, ms+flip {row.miou_tta:.2f} ({TITLES[row.data]}), "
            f"memory {_number(row.memory, 1)} GB a GPU, {_number(row.fps, 2)} images/s; four V100",
            f"# checkpoint: {row.url}",
            f"# older name: {row.older_name}",
        ]
    if experiment.name in REPORTED:
        lines.append(f"# reported by others: mIoU {_reported(experiment.name)}")
    if paper := PAPER.get(experiment.name):
        lines.append(
            f"# published: pixel accuracy {paper.pixel_accuracy:.2f}, mean accuracy {paper.mean_accuracy:.2f}, "
            f"mIoU {paper.miou:.2f} (LIP val)"
        )
    measured = f"mIoU {found.miou:.1f} on {found.data} (docs/{found.page})" if found else "not measured by us"
    lines.append(f"# measured: {measured}")
    return "\n".join(lines) + "\n" + to_yaml(experiment)


def markdown() -> str:
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
    head = ("frames", "published mIoU", "measured mIoU, `ccnet3d-light`, small budget")
    rows = [
        (f"T = {frames}", _number(PUBLISHED_VIDEO.get(frames), 1), _number(MEASURED_VIDEO.get(frames), 1))
        for frames in sorted({*PUBLISHED_VIDEO, *MEASURED_VIDEO})
    ]
    return _markdown_table([head, *rows])


def _merged_head(table: Table) -> Table:
    """The published columns said to be so: on a page the eye meets them beside ours."""
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


INTRODUCTION = """\
<!-- Made by `crisscross zoo --markdown > docs/zoo.md`; a test compares. Change src/crisscross/zoo/ instead. -->
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

The older name of a checkpoint (`ccnet_r50-d8_512x1024_40k_cityscapes`) works everywhere, too. A download shows its
progress, goes on where it stopped, is checked by size and hash, and is kept in
`~/.cache/crisscross-seg/checkpoints` (`CRISSCROSS_CACHE` names another folder). `--offline` or
`CRISSCROSS_OFFLINE=1` forbids it. How the files of other publishers are read: [checkpoints.md](checkpoints.md);
what the data sets must look like: [datasets.md](datasets.md); whole images, sliding windows, several scales:
[inference.md](inference.md).

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
images: the networks of the tables and one fit for a CPU. The `-baseline` recipes leave the attention out.
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
