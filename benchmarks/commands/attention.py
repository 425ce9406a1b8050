"""`crisscross benchmark`: measure this package beside other implementations, on this machine."""

import argparse
import functools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from crisscross.cli import benchmark_clips, benchmark_evaluate, benchmark_train
from crisscross.cli.options import add_force, add_trust, choose_device, parse_size, parse_sizes, positive, threads
from crisscross.cli.tables import print_table
from crisscross.errors import CrissCrossError
from crisscross.files import claim
from crisscross.terminal import say

if TYPE_CHECKING:
    import torch

    from crisscross.benchmarks.attention import Plan
    from crisscross.benchmarks.contestants import Contestant
    from crisscross.benchmarks.goals import Results
    from crisscross.benchmarks.rows import Row, Size
    from crisscross.layers import CrissCrossAttention
    from crisscross.progress import Progress

DTYPES = ("float32", "bfloat16", "float16")
FILES = ("attention.json", "attention.md", "attention.png")
# (sizes, rounds, peers); --quick leaves out what is slow or has to be compiled.
USUAL = ("64x64,97x97,64x128,128x256", 7, "mmcv,non-local,sdpa,flex")
QUICK = ("64x64,97x97", 3, "mmcv,non-local")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and what it can measure."""
    parser = commands.add_parser(
        "benchmark",
        help="measure time and memory",
        description="Measure this package beside other implementations, on this machine.",
    )
    subjects = parser.add_subparsers(title="what", metavar="WHAT", required=True)
    _add_attention(subjects)
    benchmark_clips.add_parser(subjects)
    _add_model(subjects)
    benchmark_evaluate.add_parser(subjects)
    benchmark_train.add_parser(subjects)


def _add_attention(subjects: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subjects.add_parser(
        "attention",
        help="the criss-cross layer beside MMCV's, a non-local block, SDPA and flex_attention",
        description="Measure the criss-cross layer beside other implementations: time, memory, error.",
        epilog="Compare ratios: they come from contestants that take turns in one process.",
    )
    parser.add_argument("--sizes", metavar="HxW,...", help=f"sizes of the feature map (default {USUAL[0]})")
    parser.add_argument("--channels", type=positive, default=512, metavar="N", help="default 512")
    parser.add_argument("--threads", type=threads, metavar="N", help="CPU threads (default: PyTorch's choice)")
    parser.add_argument("--rounds", type=positive, metavar="N", help=f"turns of each contestant (default {USUAL[1]})")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="cpu (default) or cuda")
    parser.add_argument("--dtype", default="float32", metavar="NAME", help=f"{', '.join(DTYPES)}; default float32")
    parser.add_argument("--recurrence", type=positive, default=1, metavar="N", help="passes that are timed (default 1)")
    parser.add_argument("--peers", metavar="NAME,...", help=f"who takes part beside ours (default {USUAL[2]})")
    parser.add_argument("--mmcv-wheel", type=Path, metavar="FILE", help="MMCV's wheel, where pip cannot fetch it")
    parser.add_argument(
        "--non-local-limit", type=float, metavar="GIB",
        help="memory for matrices over all pairs of positions (default: 4 on a CPU, half of what a GPU has free)",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help=f"{QUICK[0]}; {QUICK[2]}; {QUICK[1]} rounds")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"write {', '.join(FILES)}")
    add_force(parser)
    parser.set_defaults(run=run_attention)


def run_attention(arguments: argparse.Namespace) -> int:
    """Run the command."""
    defaults = QUICK if arguments.quick else USUAL
    sizes = parse_sizes(arguments.sizes or defaults[0], arguments.channels)
    if arguments.dtype not in DTYPES:
        raise CrissCrossError(f"--dtype: unknown {arguments.dtype}; known: {', '.join(DTYPES)}")
    if arguments.out:
        claim((arguments.out / name for name in FILES), force=arguments.force)

    import torch

    from crisscross.benchmarks.attention import Plan
    from crisscross.benchmarks.contestants import common_weights, create
    from crisscross.benchmarks.goals import check
    from crisscross.benchmarks.results import conditions, environment, goal_table

    device, dtype = choose_device(arguments.device), getattr(torch, arguments.dtype)
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    limit = quadratic_limit(arguments.non_local_limit, device)
    plan = Plan(dtype, device, arguments.rounds or defaults[1], arguments.recurrence, limit)
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
        "command": f"crisscross {shlex.join(_words())}",
    }
    say(conditions(about))
    results = _measure_and_show(sizes, weights, contestants, plan, about, arguments.out)
    say()
    print_table(goal_table(check(results, about["gpu"])))
    if arguments.out:
        _draw(arguments.out, results, conditions(about))
    return 0


def _add_model(subjects: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = subjects.add_parser(
        "model",
        help="a whole network on this CPU: plain, folded, with Winograd convolutions",
        description="Measure what `crisscross.optimize` does to a network here: time, memory, agreement.",
    )
    parser.add_argument("network", nargs="?", default="ccnet-r50", help="recipe, run or checkpoint (default ccnet-r50)")
    add_trust(parser)
    parser.add_argument("--size", default="512x1024", metavar="HxW", help="of the picture (default 512x1024)")
    parser.add_argument("--threads", type=threads, default=1, metavar="N", help="CPU threads (default 1)")
    parser.add_argument("--rounds", type=positive, default=5, metavar="N", help="turns of each variant (default 5)")
    parser.add_argument("--convolutions", action="store_true", help="time every 3 x 3 convolution too")
    parser.set_defaults(run=run_model)


def run_model(arguments: argparse.Namespace) -> int:
    """Run the command."""
    size = parse_size(arguments.size)
    import torch

    from crisscross.benchmarks.model import measure_convolutions, measure_model, network_of
    from crisscross.benchmarks.results import conditions, convolution_table, environment, model_table
    from crisscross.progress import Progress

    torch.set_num_threads(arguments.threads)
    say(conditions(environment(torch.device("cpu"), torch.float32)))
    network = network_of(arguments.network, arguments.trust)
    what = (network, size.height, size.width, arguments.rounds, arguments.threads)
    with Progress(str(size), 3 * (arguments.rounds + 1)) as progress:
        rows = measure_model(*what, on_turn=functools.partial(_advance, progress, arguments.network))
    say("", f"{arguments.network}, {size}")
    print_table(model_table(rows))
    if arguments.convolutions:
        say()
        print_table(convolution_table(measure_convolutions(*what)))
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
    from crisscross.benchmarks.attention import measure, steps
    from crisscross.benchmarks.results import memory_table, notes, time_table, write
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
    """The picture comes last: without matplotlib everything else is there."""
    from crisscross.benchmarks.picture import draw

    say("", f"{out / 'attention.json'}, {out / 'attention.md'}")
    try:
        draw(results, out / "attention.png", caption)
        say(out / "attention.png")
    except CrissCrossError as error:
        say(f"crisscross: {error}", error=True)


def _words() -> list[str]:
    """What was typed, with absolute paths by their last part only: results travel."""
    return [Path(word).name if Path(word).is_absolute() else word for word in sys.argv[1:]]
