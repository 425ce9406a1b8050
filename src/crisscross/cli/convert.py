"""`crisscross convert`: weights of other publishers to ours, and ours to some of theirs."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from crisscross.cli.options import add_force, add_trust
from crisscross.errors import CrissCrossError
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.checkpoints.convert import Converted
    from crisscross.checkpoints.native import Misfit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Convert weights of other publishers to our format, or ours to theirs."
    parser.add_argument("source", metavar="IN", help="a .pth, .pdparams or .safetensors file, a folder, or a zoo name")
    parser.add_argument(
        "out",
        type=Path,
        metavar="OUT",
        help="the .safetensors file to write, or a folder to write in the layout of the Hugging Face Hub",
    )
    parser.add_argument(
        "--recipe", metavar="NAME", help="the zoo recipe of the weights: it decides what the file does not say"
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="class names: separated by commas, a file with one per line, or the name of a data set",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="change one value of the experiment"
    )
    parser.add_argument(
        "--to",
        metavar="PUBLISHER",
        help="write a .pth file instead: mmseg (MMSegmentation) or authors (the repository of CCNet's authors)",
    )
    add_trust(parser)
    parser.add_argument("--half", action="store_true", help="store weights in float16, half the size")
    add_force(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    import torch

    from crisscross import tasks
    from crisscross.checkpoints.convert import convert, save_as
    from crisscross.checkpoints.hub.repositories import FILES, save_pretrained
    from crisscross.checkpoints.native import RUN_WEIGHTS, Misfit, save
    from crisscross.files import claim

    _check_name(arguments.out, arguments.to)
    targets = [arguments.out] if arguments.out.suffix else [arguments.out / name for name in FILES]
    source = Path(arguments.source)
    tasks.refuse(tasks.task_of_network(arguments.source, trust=arguments.trust), {}, "convert", arguments.source)
    claim(targets, [source, *(source / name for name in (*FILES, *RUN_WEIGHTS))], arguments.force)
    try:
        converted = convert(
            arguments.source, arguments.recipe, _classes(arguments.classes), arguments.set, arguments.trust
        )
    except Misfit as misfit:
        _print_misfit(misfit)
        raise
    dtype = torch.float16 if arguments.half else None
    if arguments.to:
        save_as(converted.segmenter, arguments.out, arguments.to, dtype)
    elif not arguments.out.suffix:
        save_pretrained(converted.segmenter, arguments.out, facts=converted.facts, dtype=dtype)
    else:
        save(converted.segmenter, arguments.out, dtype, facts=converted.facts)
    _print_summary(converted, arguments.out)
    return 0


def _check_name(out: Path, to: str | None) -> None:
    """Refuse the name of another kind of file."""
    endings = (".pth", ".pt") if to else (".safetensors", "")
    if out.suffix not in endings:
        wanted = " or ".join(ending or "nothing (a folder)" for ending in endings)
        raise CrissCrossError(f"{out}: must end in {wanted}" + (f" with --to {to}" if to else ""))


def _classes(text: str | None) -> list[str] | str | None:
    if text is None:
        return None
    if "," in text:
        return [name.strip() for name in text.split(",")]
    if not (path := Path(text)).is_file():
        return text
    from crisscross.config.documents import YAML_BYTES, read_text

    return [line.strip() for line in read_text(path, YAML_BYTES).splitlines() if line.strip()]


def _print_misfit(misfit: "Misfit") -> None:
    lists = {"missing": misfit.missing, "left over": misfit.left_over, "of another shape": misfit.reshaped}
    say(*(f"{what}: {name}" for what, names in lists.items() for name in names), error=True)


def _print_summary(converted: "Converted", out: Path) -> None:
    from crisscross.checkpoints.publishers.table import PUBLISHERS

    segmenter, model = converted.segmenter, converted.segmenter.experiment.model
    publisher = PUBLISHERS[converted.publisher].title if converted.publisher else "crisscross"
    stored = segmenter.state_dict().values()
    classes = segmenter.classes
    shown = ", ".join(classes[:3]) + (", ..." if len(classes) > 3 else "")
    say(f"recognized: {publisher}'s {model.title}")
    say(f"tensors: {len(stored)}, parameters: {sum(p.numel() for p in segmenter.parameters()):,}")
    say(f"classes: {len(classes)} ({shown})")
    say(f"variant: {model.variant}, align_corners: {str(model.align_corners).lower()}")
    taken = segmenter.experiment.preprocess
    preprocessing = f"{taken.order}, mean {list(taken.mean)}, std {list(taken.std)}"
    say(f"preprocessing: {preprocessing}; inference: {segmenter.experiment.inference.mode}")
    size = sum(path.stat().st_size for path in (out.iterdir() if out.is_dir() else [out]))
    say(f"wrote {out} ({size / 1e6:.1f} MB)")
