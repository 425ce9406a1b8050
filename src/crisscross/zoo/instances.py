"""Recipes of instance segmentation, and the paper's table beside what we measured."""

from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]

# For a modest machine: a quarter of the pixels, narrower heads, and a schedule that a GPU of one's own ends in hours.
SMALL: Row = {
    "task": "instances",
    "model": {
        "backbone": "resnet50",
        "attention": "rcca",
        "channels": 128,
        "box_features": 512,
        "mask_layers": 2,
        "trainable_layers": 2,
        "anchors": [16, 32, 64, 128, 256],
    },
    "preprocess": {"short": 400, "long": 667},
    "proposals": {"train": 500, "test": 300, "anchors": 128, "boxes": 128},
    "optim": {
        "name": "adamw",
        "lr": 4e-4,
        "weight_decay": 1e-2,
        "backbone_factor": 0.25,
        "clip": 5.0,
        "warmup": 200,
        "steps": [24_000, 32_000],
    },
    "train": {"iterations": 36_000, "batch": 4, "validate_every": 4000},
}


@dataclass(frozen=True)
class PaperRow:
    """Box and mask AP in percent on COCO val 2017 (CCNet, arXiv 1811.11721v2), and ours where measured."""

    name: str
    box: float
    mask: float
    measured: tuple[float, float] | None = None


PAPER = (
    PaperRow("maskrcnn_r50_fpn_coco", 38.2, 34.8),
    PaperRow("maskrcnn_r50_fpn_nonlocal_coco", 39.0, 35.5),
    PaperRow("maskrcnn_r50_fpn_rcca_coco", 39.3, 36.1),
    PaperRow("maskrcnn_r101_fpn_coco", 40.1, 36.2),
    PaperRow("maskrcnn_r101_fpn_nonlocal_coco", 40.8, 37.1),
    PaperRow("maskrcnn_r101_fpn_rcca_coco", 41.0, 37.3),
)
SMALL_NAME = "maskrcnn_r50_fpn_rcca_small_coco"


HEAD = ("name", "backbone", "attention", "iterations", "paper box AP", "mask AP", "measured box AP", "mask AP")


def instance_table() -> list[tuple[str, ...]]:
    """All recipes, the head first: the paper's scores and what we measured on COCO val, in percent."""
    return [HEAD, *map(_table_row, INSTANCE_RECIPES)]


def _table_row(name: str) -> tuple[str, ...]:
    row, paper = INSTANCE_RECIPES[name], _paper(name)
    scores = (f"{paper.box:.1f}", f"{paper.mask:.1f}") if paper else ("-", "-")
    ours = tuple(f"{value:.1f}" for value in paper.measured) if paper and paper.measured else ("-", "-")
    model, iterations = row["model"], f"{row['train']['iterations'] // 1000}k"
    return (name, f"R-{model['backbone'].removeprefix('resnet')}", model["attention"], iterations, *scores, *ours)


def instance_notes(name: str) -> list[str]:
    """What is known of a recipe: the paper's scores and ours."""
    paper = _paper(name)
    said = f"box AP {paper.box:.1f}, mask AP {paper.mask:.1f} (COCO val 2017)" if paper else "-"
    return [f"paper: {said}", "measured: not measured by us on COCO val"]


def _paper(name: str) -> PaperRow | None:
    return next((row for row in PAPER if row.name == name), None)


def _row(name: str) -> Row:
    attention = next((kind for kind in ("rcca", "nonlocal") if f"_{kind}_" in name), "none")
    model = {"backbone": "resnet101" if "_r101_" in name else "resnet50", "attention": attention}
    return {"task": "instances", "model": model, "train": {"iterations": 90_000}}


# What differs from the defaults of `crisscross.instances.config`, which are the published schedule.
INSTANCE_RECIPES: dict[str, Row] = {row.name: _row(row.name) for row in PAPER} | {SMALL_NAME: SMALL}
