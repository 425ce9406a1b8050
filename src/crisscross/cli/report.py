"""`crisscross report`: compare training runs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_force
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.report import RunRow
    from crisscross.report.examples import Example


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = (
        "Compare training runs of any tasks: print tables of scores and differences, and write a page with curves and "
        "images."
    )
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="folders of runs, finished or not")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("report.html"),
        metavar="FILE.html",
        help="the page to write (default report.html)",
    )
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command.

    Raises:
        CrissCrossError: a folder holds no run, or the page cannot be written.
    """
    from crisscross.files import claim, write_text
    from crisscross.report.comparison import by_class, differing, overview, render_comparison

    claim([arguments.out], force=arguments.force)
    folders = list(dict.fromkeys(arguments.runs))
    names = short_names(folders)
    runs = [read_run(folder, name) for folder, name in zip(folders, names, strict=True)]
    for rows in (overview(runs), by_class(runs), differing(runs)):
        if rows:
            print_table(rows)
            say()
    write_text(arguments.out, render_comparison(runs))
    say(f"curves: {arguments.out}")
    return 0


def short_names(folders: list[Path]) -> list[str]:
    """The last parts of the paths, as many as it takes to tell them apart."""
    parts = [folder.absolute().parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = ["/".join(entry[-count:]) for entry in parts]
        if len(set(names)) == len(names):
            break
    return names


def read_run(folder: Path, name: str) -> "RunRow":
    """The row of a run folder.

    Raises:
        CrissCrossError: it holds no run.
    """
    from crisscross import tasks
    from crisscross.config.parse import flatten, load_tree, read_tree, task_of
    from crisscross.engine.run.log import read_log
    from crisscross.engine.run.record import read_record
    from crisscross.report import Curves, RunRow
    from crisscross.report.facts import score_name

    config = folder / "experiment.yaml"
    if not config.is_file():
        raise CrissCrossError(f"{folder}: no run folder: experiment.yaml is not there")
    entries, tree = read_log(folder), read_tree(config)
    if task_of(tree) in tasks.TASKS:
        task = tasks.task(task_of(tree))
        values, keys, title = flatten(load_tree(config, task.experiment)), task.columns, task.title
    else:
        # The code of a task from outside is not imported for a table.
        keys = (next((name for entry in entries for name in entry if name.startswith("val_")), "val_score"),)
        values, title = flatten(tree), keys[0].removeprefix("val_")
    key, *more = keys
    classes = tuple(values.get("data.classes", ()))
    steps = [entry for entry in entries if "loss" in entry]
    scored = [entry for entry in entries if key in entry]
    best = max((entry for entry in scored if entry[key] is not None), key=lambda entry: entry[key], default=None)
    iou = (best.get("val_iou") or ()) if best else ()
    if len(iou) not in (0, len(classes)):
        raise CrissCrossError(f"{folder}: log.jsonl scores {len(iou)} classes, experiment.yaml names {len(classes)}")
    # Of a run of epochs the file does not say how many iterations they are.
    unsaid = ("data.classes", "data.palette", *(("train.iterations",) if values.get("train.epochs") else ()))
    values = {name: value for name, value in values.items() if name not in unsaid}
    starts = read_record(folder).get("starts", [])
    return RunRow(
        name,
        Curves.from_log(entries, key, more),
        classes,
        iou,
        best[key] if best else None,
        best["iteration"] if best else None,
        scored[-1][key] if scored else None,
        steps[-1].get("seconds") if steps else None,
        sum(bool(entry.get("skipped")) for entry in steps),
        values | (_circumstances(starts[-1]) if starts else {}),
        title,
        {score_name(name): best.get(name) for name in more} if best else {},
        _examples(folder),
    )


def _examples(folder: Path) -> "list[Example]":
    """The images of the run's own page; none where it has no such page."""
    from crisscross.report.examples import examples

    try:
        return examples((folder / "report.html").read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError):
        return []


def _circumstances(start: dict) -> dict[str, object]:
    """What of a start may explain a difference beside the experiment."""
    hardware, git = start["hardware"], start["git"]
    commit = "-" if not git else git["commit"][:10] + (" changed" if git["changed"] else "")
    found = {f"({name})": value for name, value in start["versions"].items()}
    return found | {"(device)": hardware.get("device"), "(processes)": hardware.get("processes"), "(git)": commit}
