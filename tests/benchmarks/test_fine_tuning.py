"""The ablation of fine-tuning: no image is in two roles, and its tables hold what the runs say."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.ablations.fine_tuning import BUDGET, Case, experiment_of, main_grid, source_data, target_data
from benchmarks.ablations.fine_tuning_report import classes, read, settings, starts
from crisscross.data import DataSet, Pair
from crisscross.data.sets.camvid import CLASSES, PALETTE


def camvid() -> DataSet:
    """CamVid's names in small: sequences of train, val and test."""

    def pairs(*sequences: str) -> tuple[Pair, ...]:
        names = [f"{sequence}_{frame:05}" for sequence in sequences for frame in range(60)]
        return tuple(Pair(name, Path(name), Path(name)) for name in names)

    splits = {"train": pairs("0001TP", "0006R0", "0016E5"), "val": pairs("0016E5X"), "test": pairs("Seq05VD")}
    return DataSet("camvid", Path("camvid"), CLASSES, PALETTE, splits, void=(11,))


def test_no_image_is_in_two_roles():
    source = {pair.name for pair in source_data(camvid()).splits["train"]}
    assert len(source) == 120 and {name.partition("_")[0] for name in source} == {"0016E5", "0016E5X"}
    for seed in range(3):
        few, some, many = (
            {pair.name for pair in target_data(camvid(), images, seed).splits["train"]} for images in (10, 30, 100)
        )
        assert (len(few), len(some), len(many)) == (10, 30, 100) and few < some < many
        assert not many & source and not any(name.startswith("Seq05VD") for name in many | source)
    assert target_data(camvid(), 10, 0).splits["train"] != target_data(camvid(), 10, 1).splits["train"]


def test_the_targets_classes():
    target = target_data(camvid(), 10, 0)
    assert not set(target.classes) & set(CLASSES)
    named = {CLASSES[value]: target.classes[number] for value, number in target.labels.items() if value < 11}
    assert named["pavement"] == "ground" and named["pole"] == "structure" and named["bicyclist"] == "traffic"
    assert len(named) == 11 and target.labels[11] == 255


def test_settings_of_the_cases():
    cases = list(main_grid([0, 1, 2]))
    assert len({case.folder for case in cases}) == len(cases) == 27
    scratch, imagenet = experiment_of(cases[0], 150), experiment_of(cases[1], 150)
    assert (scratch.model.frozen, scratch.optim.backbone_factor) == ((), 1.0)
    assert (imagenet.model.frozen, imagenet.optim.backbone_factor) == (("conv1", "bn1", "layer1"), 0.1)
    assert scratch.augment.crop == tuple(BUDGET["augment.crop"]) and scratch.train.iterations == 150


def test_tables(tmp_path):
    def row(case: Case, miou: float) -> str:
        iou = {"ground": miou + 0.1, "structure": miou, "nature": miou, "traffic": miou - 0.1}
        return json.dumps(case.__dict__ | {"miou": miou, "iou": iou})

    rows = [json.dumps({"start": "imagenet", "images": 305, "seed": 0, "iou": {"sky": 1.0}, "miou": 1.0})]
    for seed, (first, second) in enumerate([(0.5, 0.7), (0.6, 0.7), (0.4, 0.6)]):
        rows += [row(Case("imagenet", 30, seed), first), row(Case("source", 30, seed), second)]
    rows += [row(Case("source", 30, 1, lr=3e-3), 0.65), row(Case("scratch", 10, 0, 1e-3, 1.0, "nothing"), 0.3)]
    file = tmp_path / "runs.jsonl"
    file.write_text("\n".join(rows) + "\n")
    cells = read(file)
    # Differences 20, 10 and 20 points: mean 16.7, standard deviation 5.8.
    assert "| 30 |  | 50.0 ± 10.0 | 66.7 ± 5.8 | +16.7 ± 5.8 |\n" in starts(cells)
    assert "| 10 | 30.0 (one seed) |  |  |  |\n" in starts(cells)
    assert "| 30 | ImageNet backbone | 60.0 | 50.0 | 50.0 | 40.0 |\n" in classes(cells)
    lines = settings(cells).splitlines()
    assert lines[2] == "| network of other classes | 0.001 | 0.0001 | first stage | 66.7 ± 5.8 |  |"
    assert lines[3].startswith(
        "| network of other classes | 0.003 | 0.0003 | first stage | 65.0 (one seed) | -5.0 (one"
    )
