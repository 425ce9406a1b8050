"""The zoo as tables, and one entry in full."""

from crisscross.config.heads import CCNetConfig
from crisscross.terminal import decimal
from crisscross.zoo.instances import INSTANCE_RECIPES, instance_notes
from crisscross.zoo.lip import LIP
from crisscross.zoo.published_networks import FAMILIES, PUBLISHED, Published
from crisscross.zoo.recipes import OURS, published, recipe, shipped_weights
from crisscross.zoo.scores import LIP_PAPER, MEASURED, REPORTED

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
    ours = (decimal(found.miou, 2), decimal(found.miou_tta, 2)) if found else ("-", "-")
    return (
        *(entry.name, f"R-{entry.depth}", crop, f"{entry.iterations // 1000}k"),
        *(decimal(entry.memory, 1), decimal(entry.fps, 2), decimal(entry.miou, 2), decimal(entry.miou_tta, 2)),
        *ours,
    )


def _our_row(name: str) -> tuple[str, ...]:
    experiment, found = recipe(name), MEASURED.get(name)
    model, head = experiment.model, experiment.model.head
    assert isinstance(head, CCNetConfig)
    return (
        *(name, model.backbone, str(model.output_stride), str(head.recurrence), str(experiment.train.iterations)),
        "shipped" if shipped_weights(name) else "-",
        _reported(name),
        *((decimal(found.miou, 1), decimal(found.miou_tta, 1), found.data) if found else ("-", "-", "-")),
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
    experiment, paper, found = recipe(name), LIP_PAPER.get(name), MEASURED.get(name)
    model, crop = experiment.model, "x".join(map(str, experiment.augment.crop))
    scores = (paper.pixel_accuracy, paper.mean_accuracy, paper.miou) if paper else (None, None, None)
    return (
        *(name, model.head.name, model.backbone, str(model.output_stride), crop, str(experiment.train.iterations)),
        *(decimal(score, 2) for score in scores),
        decimal(found.miou if found else None, 2),
    )


def notes(name: str) -> list[str]:
    """What is known about a recipe, in lines.

    Raises:
        CrissCrossError: there is no such recipe.
    """
    if name in INSTANCE_RECIPES:
        return [name, *instance_notes(name)]
    experiment = recipe(name)
    row, found = published(name), MEASURED.get(experiment.name)
    lines = [experiment.name]
    if row:
        lines += [
            f"published: mIoU {row.miou:.2f}, ms+flip {row.miou_tta:.2f} ({TITLES[row.data]}), "
            f"memory {decimal(row.memory, 1)} GB a GPU, {decimal(row.fps, 2)} images/s; four V100",
            f"checkpoint: {row.url}",
            f"older name: {row.older_name}",
        ]
    if experiment.name in REPORTED:
        lines.append(f"reported by others: mIoU {_reported(experiment.name)}")
    if paper := LIP_PAPER.get(experiment.name):
        lines.append(
            f"published: pixel accuracy {paper.pixel_accuracy:.2f}, mean accuracy {paper.mean_accuracy:.2f}, "
            f"mIoU {paper.miou:.2f} (LIP val)"
        )
    measured = f"mIoU {found.miou:.1f} on {found.data} (docs/{found.page})" if found else "not measured by us"
    return [*lines, f"measured: {measured}"]
