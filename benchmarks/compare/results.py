"""A run's numbers as tables of text, Markdown and JSON."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.compare.goals import MIB, Check, Results, check, ratio
from benchmarks.compare.rows import Row
from crisscross.files import write_text
from crisscross.measurement import network

if TYPE_CHECKING:
    from benchmarks.compare.model import ConvolutionRow, ModelRow

Table = list[list[str]]
NOTHING = "-"

PROTOCOL = (
    "One process; contestants take turns, medians of the rounds. Same weights, open gate, batch 1 unless stated. "
    "Times are of the stated passes of a criss-cross layer and of one non-local block, forward without gradients; "
    "ratios say how many times less than MMCV's module as published. GFLOP/s credits the work of the H + W - 1 "
    "positions (all pairs for a non-local block), forward + backward three times that of forward; the share is of a "
    "big square matrix product of the same type in the same race. Memory counts every byte of PyTorch's allocator "
    "above the existing input and upstream gradient, output included: forward of one pass; training of two passes "
    "with shared weights, or of one non-local block. Kept: what one pass saves for backward beyond its input. "
    "Errors are relative to float64."
)


def time_table(rows: Sequence[Row]) -> Table:
    """Head and one line a contestant: times, ratios to MMCV, speed."""
    table = [["time", "fwd ms", "x MMCV", "of peak", "fwd+bwd ms", "x MMCV", "of peak", "fwd GFLOP/s"]]
    for row in rows:
        times = [
            cell
            for field, share in (("forward", row.share), ("training", row.training_share))
            for cell in (
                _number(getattr(row, field), 1e3),
                _ratio(rows, row.name, field),
                NOTHING if share is None else f"{share:.0%}",
            )
        ]
        table.append([row.name, *times, _number(row.gflops)])
    return table


def memory_table(rows: Sequence[Row]) -> Table:
    """Head and one line a contestant: peaks, ratios to MMCV, what is kept, errors."""
    table = [["memory in MiB, error", "fwd", "x MMCV", "training", "x MMCV", "kept/pass", "error", "grad error"]]
    for row in rows:
        peaks = [
            cell
            for field in ("forward_peak", "training_peak")
            for cell in (_number(getattr(row, field), 1 / MIB), _ratio(rows, row.name, field))
        ]
        errors = [NOTHING if value is None else f"{value:.1e}" for value in (row.error, row.gradient_error)]
        table.append([row.name, *peaks, _number(row.kept, 1 / MIB), *errors])
    return table


def goal_table(checks: Sequence[Check]) -> Table:
    """Head and one line a goal."""
    table = [["goal", "needed", "judged", "found", "other mode", "reached"]]
    for one in checks:
        values = [NOTHING if value is None else f"{value:.2f}{one.unit}" for value in (one.found, one.other)]
        verdict = {True: "yes", False: "no", None: NOTHING}[one.reached]
        bound = f"{'<=' if one.at_most else '>='} {one.needed:g}{one.unit}"
        table.append([one.goal, bound, one.mode.removeprefix("ours, "), *values, verdict])
    return table


def model_table(rows: "Sequence[ModelRow]") -> Table:
    """Head and one line a variant of a whole network; the first is what the others are compared with."""
    table = [["", "seconds", "speed-up", "weights MiB", "peak MiB beside", "largest error / std", "same labels"]]
    for row in rows:
        memory = [_number(value, 1 / MIB) for value in (row.weight_bytes, row.peak_bytes)]
        speed = [f"{row.seconds:.2f}", f"{rows[0].seconds / row.seconds:.2f}"]
        table.append([row.variant, *speed, *memory, f"{row.error:.1e}", f"{row.same_labels:.4%}"])
    return table


def convolution_table(rows: "Sequence[ConvolutionRow]") -> Table:
    """Head and one line a 3 x 3 convolution, its milliseconds in each variant; at last all convolutions."""
    variants = list(rows[0].seconds) if rows else []
    table = [["3 x 3 convolution", "channels", "dilation", "output", *(f"{name}, ms" for name in variants)]]
    for row in rows:
        if row.kernel == (3, 3):
            sizes = [f"{row.in_channels} -> {row.out_channels}", str(row.dilation), f"{row.output[0]}x{row.output[1]}"]
            table.append([row.name, *sizes, *(_number(row.seconds[name], 1e3) for name in variants)])
    total = [_number(sum(row.seconds[name] for row in rows), 1e3) for name in variants]
    return [*table, ["all convolutions", "", "", "", *total]]


def _number(value: float | None, factor: float = 1.0) -> str:
    if value is None:
        return NOTHING
    scaled = value * factor
    return f"{scaled:.0f}" if scaled >= 1000 else f"{scaled:.1f}" if scaled >= 10 else f"{scaled:.2f}"


def _ratio(rows: Sequence[Row], name: str, field: str) -> str:
    value = ratio(rows, name, field)
    return NOTHING if value is None else f"{value:.2f}"


def notes(rows: Sequence[Row]) -> list[str]:
    """Why something is missing, one line a contestant."""
    return [f"{row.name}: {row.note}" for row in rows if row.note]


def environment(device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """What a number depends on."""
    about = network.environment(device) | {"dtype": str(dtype).removeprefix("torch.")}
    matmul, conv = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    return about | {"tf32": {"matmul": matmul, "conv": conv} if about["gpu"] else None}


def facts(results: Results, about: dict[str, Any], complete: bool) -> dict[str, Any]:
    """Everything as JSON values; seconds and bytes."""
    sizes = [
        {"height": size.height, "width": size.width, "channels": size.channels, "rows": [asdict(row) for row in rows]}
        for size, rows in results.items()
    ]
    goals = [asdict(one) | {"reached": one.reached} for one in check(results, about.get("gpu", False))]
    return {"about": about, "complete": complete, "protocol": PROTOCOL, "sizes": sizes, "goals": goals}


def markdown(results: Results, about: dict[str, Any]) -> str:
    """The tables as a page."""
    lines = ["# Criss-cross attention, measured", ""]
    lines += [f"- {name}: {value}" for name, value in about.items() if value is not None]
    lines += ["", PROTOCOL]
    for size, rows in results.items():
        lines += ["", f"## {size}, {size.channels} channels", ""]
        lines += [*_markdown_table(time_table(rows)), "", *_markdown_table(memory_table(rows))]
        lines += ["", *(f"- {note}" for note in notes(rows))] if notes(rows) else []
    goals = goal_table(check(results, about.get("gpu", False)))
    return "\n".join([*lines, "", "## Goals", "", *_markdown_table(goals), ""])


def _markdown_table(table: Table) -> list[str]:
    head, *rows = table
    rule = ["---", *(["---:"] * (len(head) - 1))]
    return [f"| {' | '.join(row)} |" for row in (head, rule, *rows)]


def write(folder: Path, results: Results, about: dict[str, Any], complete: bool) -> None:
    """Write `attention.json` and `attention.md`.

    Raises:
        CrissCrossError: the folder cannot be written.
    """
    write_text(folder / "attention.json", json.dumps(facts(results, about, complete), indent=1) + "\n")
    write_text(folder / "attention.md", markdown(results, about))
