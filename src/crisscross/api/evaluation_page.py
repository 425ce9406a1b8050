"""The page that `crisscross evaluate --report` writes."""

import os
import shlex
from collections.abc import Mapping
from typing import Any

from crisscross.api.networks import Wanted
from crisscross.engine.run.record import hardware, versions
from crisscross.engine.task import Result, Task
from crisscross.report import Report, render
from crisscross.terminal import decimal

PAGE = "evaluation.html"
GIB = 2**30


def evaluation_page(
    source: Wanted, task: Task, network: Any, data: Any, split: str, result: Result, options: Mapping[str, Any]
) -> str:
    """The scores of a network as one HTML page.

    Args:
        source: where the network came from.
        task: that of the network.
        network, data, split, result: what was scored, and how well.
        options: those of the evaluation that a command to repeat it needs, by name; what is false is left out.
    """
    facts = result.facts
    name = _name(source, network)
    how = ", multi-scale + flip" if facts.get("tta") else ""
    return render(
        Report(
            **{
                "title": f"{name} on {data.root.resolve().name}",
                "summary": f"{facts.get('images', '')} images of the split {split} of {data.root}{how}.",
                "headline": [(task.title, decimal(result.score, 4))],
                "machine": _machine(source, facts, options),
                "command": _command(source, data, split, options),
                "versions": versions(),
                **task.report(network, data, split, result),
            }
        )
    )


def _name(source: Wanted, network: Any) -> str:
    if not isinstance(source.source, str | os.PathLike):
        return str(getattr(getattr(network, "experiment", None), "name", "") or "a network in memory")
    given = os.fspath(source.source)
    return os.path.basename(os.path.normpath(given)) or given


def _machine(source: Wanted, facts: Mapping[str, Any], options: Mapping[str, Any]) -> dict[str, str]:
    shown = {}
    if facts.get("fps"):
        shown["images a second"] = f"{facts['fps']:.2f}, one image at a time, without reading files"
    if facts.get("memory_bytes"):
        shown["peak memory"] = (
            f"{facts['memory_bytes'] / GIB:.2f} GiB {facts['memory_kind']}, what the page needs included"
        )
    if "seconds" in facts:
        shown["time"] = f"{facts['seconds']:.1f} s in all"
    shown["precision"] = "as exported" if source.exported else options.get("precision") or "fp32"
    return shown | {name: str(value) for name, value in hardware().items()}


def _command(source: Wanted, data: Any, split: str, options: Mapping[str, Any]) -> str:
    """The command that scores the same again; nothing for a network in memory."""
    if not isinstance(source.source, str | os.PathLike):
        return ""
    words = ["crisscross", "evaluate", os.fspath(source.source), "--data", str(data.root), "--split", split]
    for name, value in options.items():
        if value:
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [os.fspath(value)])]
    return shlex.join(words)
