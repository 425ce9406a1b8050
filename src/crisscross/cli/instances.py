"""`crisscross train|evaluate|predict` for instance segmentation: what the three commands hand over to."""

from typing import TYPE_CHECKING

from crisscross.cli.tables import print_table

if TYPE_CHECKING:
    from crisscross.engine.instances.evaluate import InstanceEvaluation


def print_evaluation(result: "InstanceEvaluation") -> None:
    """Print box and mask AP of every class that occurs, and the means."""
    rows = [["class", "box AP", "mask AP"]]
    for name, mask in result.mask.classes.items():
        if mask is not None:
            rows.append([name, percent(result.box.classes[name]), percent(mask)])
    print_table(rows)
    print()
    names = list(result.mask.summary)
    print_table(
        [
            ["", *names],
            *(
                [kind, *(percent(found.summary[name]) for name in names)]
                for kind, found in (("box", result.box), ("mask", result.mask))
            ),
        ]
    )
    fps = "-" if result.fps is None else f"{result.fps:.2f}"
    print(
        f"AP in percent, as COCO counts it ({result.split}: {result.pictures} pictures, {result.seconds:.1f} s, {fps} fps)"
    )


def percent(value: float | None) -> str:
    """A share as percent; "-" where there is none."""
    return "-" if value is None else f"{100 * value:.1f}"
