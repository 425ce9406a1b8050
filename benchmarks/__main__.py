"""`python -m benchmarks`: measure this package beside other implementations, on this machine."""

import sys
from collections.abc import Sequence

from crisscross import cli
from crisscross.terminal import prepare

COMMANDS = {
    "attention": "the criss-cross layer beside MMCV's, a non-local block, SDPA and flex_attention",
    "clips": "the 3-D criss-cross layer beside einsum, cat and softmax",
    "model": "a whole network on this CPU: plain, folded, with Winograd convolutions",
    "evaluate": "reading, network, labels and counts of an evaluation, beside plain code",
    "train": "a training step beside the plain network of the published code",
}


def create_parser() -> cli.Parser:
    """The parser of all comparisons."""
    parser = cli.Parser(
        prog="python -m benchmarks",
        description="Measure this package beside other implementations, on this machine.",
    )
    parser.add_commands("benchmarks.commands", COMMANDS)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one comparison. Returns 0 when all went well, 2 for bad input, 130 after Ctrl-C."""
    return cli.main(arguments, create_parser)


if __name__ == "__main__":
    prepare()
    sys.exit(main())
