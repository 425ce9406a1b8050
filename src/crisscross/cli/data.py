"""`crisscross data`: list the known data sets, prepare or check one."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_force
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.data import DataSet
    from crisscross.data.check.report import CheckReport
    from crisscross.engine.task import Task

SHOWN_PROBLEMS, SHOWN_SIZES = 50, 5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "List, prepare or check data sets."
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    listing = actions.add_parser("list", help="list the built-in data sets", description="List the built-in data sets.")
    listing.set_defaults(run=run_list)
    _add_init(actions)
    _add_prepare(actions)
    _add_check(actions)


def _add_init(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    init = actions.add_parser(
        "init",
        help="look at a folder of your own and write its dataset.yaml",
        description="Recognize how images and masks lie in a folder, say what was assumed, and write dataset.yaml.",
        epilog="Also written: train.txt and val.txt where nothing splits the images, and crisscross-masks/ where "
        "masks have to be drawn from polygons. Which layouts are recognized: docs/data.md.",
    )
    init.add_argument("root", type=Path, metavar="DIR", help="the folder")
    init.add_argument("--dry-run", action="store_true", help="print dataset.yaml, write nothing")
    add_force(init)
    init.set_defaults(run=run_init)


def _add_prepare(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    prepare = actions.add_parser(
        "prepare",
        help="write the masks that a data set's download lacks",
        description="Make masks of class numbers from the files of a data set's download.",
        epilog="Finished files are skipped, so a stopped run continues where it was. See docs/datasets.md.",
    )
    prepare.add_argument(
        "name", metavar="NAME", help="a name in `crisscross data list`, or masks (round values to classes)"
    )
    prepare.add_argument("root", type=Path, metavar="DIR", help="the data set's folder; for masks: their folder")
    prepare.add_argument(
        "--out", type=Path, metavar="DIR", help="write the new files below this folder instead, in the same subfolders"
    )
    prepare.add_argument(
        "--classes-at",
        metavar="VALUES",
        help="for masks: the gray value or color of each class, such as 0,255 or '#000000,#ff0000'; every pixel gets "
        "the class whose value is nearest (for masks that are JPEG, or have soft edges)",
    )
    add_force(prepare)
    prepare.set_defaults(run=run_prepare)


def _add_check(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    check = actions.add_parser(
        "check",
        help="read every file and list what is wrong",
        description="Read every image and mask of a data set, list what is wrong and count the pixels of each class.",
        epilog="Exit code 0: no errors (there may be warnings); 2: errors.",
    )
    check.add_argument("root", metavar="DIR", help="the data set's folder")
    check.add_argument(
        "--name",
        default="auto",
        help="auto (recognize the layout, default), a name in `crisscross data list`, folder, coco-instances, or "
        "package.module:function",
    )
    check.add_argument("--plot", type=Path, metavar="FILE.png", help="also draw the fraction of each class")
    check.add_argument(
        "--report",
        type=Path,
        metavar="DIR",
        help="also write DIR/index.html: images with their masks laid over, fractions of classes, every problem",
    )
    check.add_argument("--json", type=Path, metavar="FILE", help="also write all problems and counts as JSON")
    add_force(check)
    check.set_defaults(run=run)


def run_list(arguments: argparse.Namespace) -> int:
    """Print names, numbers of classes, published numbers of images, and whether a preparation is needed."""
    from crisscross.data import DATASETS

    rows = [["name", "classes", "images", "crisscross data prepare"]]
    for name, known in DATASETS.items():
        if known.published:
            splits = ", ".join(f"{split} {images:,}" for split, images in known.published.items())
            rows.append([name, str(len(known.classes)), splits, known.when])
    print_table(rows)
    say("", "Your own images: folder (docs/data.md). Where to get these, and their layouts: docs/datasets.md.")
    return 0


def run_init(arguments: argparse.Namespace) -> int:
    """Say how a folder is read, and write or print its description.

    Raises:
        CrissCrossError: see `crisscross.data.sets.folder.describe`.
    """
    from crisscross.data import DATASETS
    from crisscross.data.check.checks import quick_check
    from crisscross.data.dataset import existing_folder
    from crisscross.data.sets.folder import describe
    from crisscross.data.sets.recognition import recognized_name

    root = existing_folder(arguments.root)
    if (known := recognized_name(root, DATASETS)) != "folder":
        dataset = DATASETS[known].open(root)
        quick_check(dataset, [split for split in ("train", "val") if split in dataset.splits] or dataset.splits)
        say(
            f"{root}: {known}, which is read as it is, without dataset.yaml",
            f"if its classes are others than the {len(dataset.classes)} of {known}: list them, one a line, in "
            f"{root / 'class_names.txt'}",
            f"next: crisscross data check {root}",
        )
        return 0
    text, lines = describe(arguments.root, arguments.dry_run, arguments.force)
    say(*lines)
    if arguments.dry_run:
        say("", *text.rstrip().splitlines())
    else:
        say(f"next: crisscross data check {arguments.root}")
    return 0


def run_prepare(arguments: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        CrissCrossError: see `crisscross.data.preparation`.
    """
    from crisscross.data.preparation import prepare

    if arguments.name == "masks":
        return _round_masks(arguments)
    if arguments.classes_at is not None:
        raise CrissCrossError(f"--classes-at is for `prepare masks`, not for {arguments.name}")
    try:
        done = prepare(arguments.name, arguments.root, arguments.out)
    except KeyboardInterrupt:
        say("stopped; finished files stay, the same command continues from there", error=True)
        raise
    say(f"{done.written} files written, {done.skipped} were there already")
    for line in done.lines:
        say(line)
    say(f"next: crisscross data check {arguments.out or arguments.root} --name {arguments.name}")
    return 0


def _round_masks(arguments: argparse.Namespace) -> int:
    from crisscross.data.files.rounding import parse_values
    from crisscross.data.preparation import round_masks

    if arguments.classes_at is None or arguments.out is None:
        raise CrissCrossError("prepare masks needs --classes-at VALUES (such as 0,255) and --out DIR")
    done = round_masks(arguments.root, parse_values(arguments.classes_at), arguments.out, arguments.force)
    say(f"{done.written} masks written into {arguments.out}", *done.lines)
    say(_use_of(arguments.root, arguments.out))
    return 0


def _use_of(masks: Path, out: Path) -> str:
    """How new masks come to be read: they stand beside the former ones, or a description must name them."""
    import os
    import shlex

    from crisscross.data.cures import DESCRIPTION, PREPARED

    for root in (masks.parent, masks.parent.parent, masks):
        if (root / DESCRIPTION).is_file():
            former, new = (Path(os.path.relpath(folder, root)).as_posix() for folder in (masks, out))
            return f"next: write `masks: {new}` in {root / DESCRIPTION}, in place of {former}"
    if out.absolute() == masks.absolute().with_name(f"{masks.absolute().name}{PREPARED}"):
        return f"next: crisscross data check {shlex.quote(str(masks.parent))}"
    return f"next: put {out} in place of {masks}"


def run(arguments: argparse.Namespace) -> int:
    """Run the command. Returns 0 without errors, 2 with some.

    Raises:
        CrissCrossError: the folder is not a data set, or a file cannot be written.
    """
    from crisscross import tasks

    if found := tasks.task_of_data(arguments.name):
        return _check_own(found, arguments)
    from crisscross.data import open_dataset
    from crisscross.data.check.checks import check
    from crisscross.data.check.plot import write_plot
    from crisscross.files import claim, write_text
    from crisscross.progress import Progress

    dataset = open_dataset(arguments.name, arguments.root)
    files = [file for pairs in dataset.splits.values() for pair in pairs for file in (pair.image, pair.mask)]
    page = arguments.report / "index.html" if arguments.report else None
    claim(filter(None, (arguments.plot, arguments.json, page)), files, arguments.force)
    with Progress("reading", sum(map(len, dataset.splits.values()))) as progress:
        report = check(dataset, lambda done, total: progress.update(done))
    if arguments.plot and any(int(counts.sum()) for counts in report.pixels.values()):
        write_plot(report, dataset, arguments.plot)
        say(f"class fractions drawn: {arguments.plot}")
    print_report(report, dataset)
    if page:
        from crisscross.report.data_page import render_check

        write_text(page, render_check(report, dataset))
        say(f"images with their masks: {page}")
    if arguments.json:
        facts = {"root": str(dataset.root), "name": dataset.name, "classes": list(dataset.classes)} | report.to_dict()
        write_text(arguments.json, json.dumps(facts, indent=1) + "\n")
    return 2 if report.errors else 0


def _check_own(task: "Task", arguments: argparse.Namespace) -> int:
    """Check a data set whose layout belongs to a task."""
    from crisscross import tasks
    from crisscross.files import claim, write_text

    tasks.refuse(task, {"plot": arguments.plot, "report": arguments.report})
    claim(filter(None, (arguments.json,)), force=arguments.force)
    lines, problems = task.check(arguments.root)
    say(*lines, *problems[:SHOWN_PROBLEMS])
    shown = f", {SHOWN_PROBLEMS} of them shown" if len(problems) > SHOWN_PROBLEMS else ""
    say(f"errors: {len(problems)}{shown}")
    if arguments.json:
        write_text(arguments.json, json.dumps({"root": arguments.root, "problems": problems}, indent=1) + "\n")
    return 2 if problems else 0


def print_report(report: "CheckReport", dataset: "DataSet") -> None:
    """Print pairs, sizes, the table of class fractions, the problems and the verdict."""
    pairs = ", ".join(f"{split} {count}" for split, count in report.pairs.items())
    say(f"{dataset.root}: {dataset.name}, {len(dataset.classes)} classes, pairs: {pairs or 'none'}")
    if dataset.note:
        say(dataset.note)
    sizes = [f"{width} x {height} ({count})" for (width, height), count in report.sizes.items()]
    more = f" and {len(sizes) - SHOWN_SIZES} more" if len(sizes) > SHOWN_SIZES else ""
    say(f"image sizes (images): {', '.join(sizes[:SHOWN_SIZES]) or 'none readable'}{more}", "")
    print_table([["fraction of labeled pixels", *report.pairs], *_fraction_rows(report, dataset)])
    say()
    for problem in report.problems[:SHOWN_PROBLEMS]:
        say(problem)
    if len(report.problems) > SHOWN_PROBLEMS:
        say(f"... and {len(report.problems) - SHOWN_PROBLEMS} more")
    say(f"errors: {report.errors}, warnings: {len(report.problems) - report.errors}")


def _fraction_rows(report: "CheckReport", dataset: "DataSet") -> list[list[str]]:
    fractions = {split: report.fractions(split) for split in report.pairs}
    rows = [
        [name, *(f"{fractions[split][index]:.2%}" for split in report.pairs)]
        for index, name in enumerate(dataset.classes)
    ]
    return [*rows, ["ignored, of all pixels", *(f"{report.ignored_fraction(split):.2%}" for split in report.pairs)]]
