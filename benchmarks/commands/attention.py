"""`python -m benchmarks attention`: the criss-cross layer beside other implementations."""

import argparse
import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.commands.options import choose_device, parse_sizes
from crisscross.cli.options import add_force, positive
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError
from crisscross.files import claim
from crisscross.terminal import say

if TYPE_CHECKING:
    import torch

    from benchmarks.compare.attention import Plan
    from benchmarks.compare.contestants import Contestant
    from benchmarks.compare.goals import Results
    from benchmarks.compare.rows import Row, Size
    from crisscross.layers import CrissCrossAttention
    from crisscross.progress import Progress

DTYPES = ("float32", "bfloat16", "float16")
FILES = ("attention.json", "attention.md", "attention.png")
# (sizes, rounds, peers); --quick leaves out what is slow or has to be compiled.
USUAL = ("64x64,97x97,64x128,128x256", 7, "mmcv,non-local,sdpa,flex")
QUICK = ("64x64,97x97", 3, "mmcv,non-local")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Measure the criss-cross layer beside other implementations: time, memory, error."
    parser.epilog = "Compare ratios: they come from contestants that take turns in one process."
    parser.add_argument("--sizes", metavar="HxW,...", help=f"sizes of the feature map (default {USUAL[0]})")
    parser.add_argument("--channels", type=positive, default=512, metavar="N", help="default 512")
    parser.add_argument("--batch", type=positive, default=1, metavar="N", help="images in the input (default 1)")
    parser.add_argument("--threads", type=positive, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"turns of each contestant (default {USUAL[1]})")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    parser.add_argument("--dtype", default="float32", metavar="NAME", help=f"{', '.join(DTYPES)}; default float32")
    parser.add_argument("--recurrence", type=positive, default=1, metavar="N", help="passes that are timed (default 1)")
    parser.add_argument("--peers", metavar="NAME,...", help=f"which take part beside ours (default {USUAL[2]})")
    parser.add_argument("--mmcv-wheel", type=Path, metavar="FILE", help="MMCV's wheel, where pip cannot fetch it")
    parser.add_argument(
        "--non-local-limit", type=float, metavar="GIB",
        help="memory for matrices over all pairs of positions (default: 4 on a CPU, half of what a GPU has free)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help=f"{QUICK[0]}; {QUICK[2]}; {QUICK[1]} rounds")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {', '.join(FILES)}")
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    defaults = QUICK if arguments.quick else USUAL
    sizes = parse_sizes(arguments.sizes or defaults[0], arguments.channels)
    if arguments.dtype not in DTYPES:
        raise CrissCrossError(f"--dtype: unknown {arguments.dtype}; known: {', '.join(DTYPES)}")
    if arguments.out:
        claim((arguments.out / name for name in FILES), force=arguments.force)

    import torch

    from benchmarks.compare.attention import Plan
    from benchmarks.compare.contestants import common_weights, create
    from benchmarks.compare.goals import check
    from benchmarks.compare.results import environment, goal_table
    from crisscross.measurement.network import conditions

    device, dtype = choose_device(arguments.device), getattr(torch, arguments.dtype)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    limit = quadratic_limit(arguments.non_local_limit, device)
    plan = Plan(dtype, device, arguments.rounds or defaults[1], arguments.recurrence, limit, arguments.batch)
    weights = common_weights(arguments.channels, dtype)
    # A peer that was asked for by name has to be there; otherwise the benchmark goes on without it.
    peers = [name for name in (arguments.peers or defaults[2]).split(",") if name]
    asked = arguments.peers or arguments.mmcv_wheel
    contestants = create(
        weights, dtype, device, peers, arguments.mmcv_wheel,
        on_missing=None if asked else lambda reason: say(f"without MMCV: {reason}", error=True),
    )  # fmt: skip
    about = environment(device, dtype) | {
        "rounds": plan.rounds,
        "passes timed": plan.passes,
        "batch": plan.batch,
        "command": f"python -m benchmarks {shlex.join(_words())}",
    }
    say(conditions(about))
    results = _measure_and_show(sizes, weights, contestants, plan, about, arguments.out)
    say()
    print_table(goal_table(check(results, about["gpu"])))
    if arguments.out:
        _draw(arguments.out, results, conditions(about))
    return 0


def quadratic_limit(gib: float | None, device: "torch.device") -> float:
    """Bytes that matrices over all pairs of positions may take."""
    import torch

    if gib is None:
        return torch.cuda.mem_get_info(device)[0] / 2 if device.type == "cuda" else 4 * 2**30
    if not gib > 0:
        raise CrissCrossError(f"--non-local-limit must be above 0, got {gib:g}")
    return gib * 2**30


def _measure_and_show(
    sizes: "Sequence[Size]",
    weights: "CrissCrossAttention",
    contestants: "Sequence[Contestant]",
    plan: "Plan",
    about: dict[str, Any],
    out: Path | None,
) -> "Results":
    """One size after the other; its tables are printed, and all numbers so far written, as soon as it is done."""
    from benchmarks.compare.attention import measure, steps
    from benchmarks.compare.results import memory_table, notes, time_table, write
    from crisscross.progress import Progress

    results: dict[Size, list[Row]] = {}
    if out:
        # A folder that cannot be written is found out before the work.
        write(out, results, about, complete=False)
    for size in sizes:
        with Progress(str(size), steps(contestants, plan)) as progress:
            report = functools.partial(_advance, progress)
            results[size] = measure(size, weights, contestants, plan, report)
            progress.update(progress.total, at="done")
        if out:
            write(out, results, about, complete=size == sizes[-1])
        say("", f"{size}, {size.channels} channels")
        print_table(time_table(results[size]))
        print_table(memory_table(results[size]))
        for note in notes(results[size]):
            say(note)
    return results


def _advance(progress: "Progress", what: str) -> None:
    progress.update(progress.done + 1, at=what)


def _draw(out: Path, results: "Results", caption: str) -> None:
    """The image comes last: without matplotlib everything else is there."""
    from benchmarks.compare.image import draw

    say("", f"{out / 'attention.json'}, {out / 'attention.md'}")
    try:
        draw(results, out / "attention.png", caption)
        say(out / "attention.png")
    except CrissCrossError as error:
        say(f"crisscross: {error}", error=True)


def _words() -> list[str]:
    """What was typed, with absolute paths by their last part only: results travel."""
    return [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
