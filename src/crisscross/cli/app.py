"""`crisscross app`: a page in the browser that labels images and shows what attention looks at."""

import argparse

from crisscross.cli.options import add_device, add_trust, whole
from crisscross.errors import import_extra
from crisscross.terminal import say

DEFAULT = "camvid-light"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Label images and videos in the browser, on this machine, and see what attention looks at."
    parser.add_argument(
        "networks",
        nargs="*",
        metavar="RUN|FILE|NAME",
        help=f"run folders, weights files, exported files or zoo names, shown side by side (default {DEFAULT})",
    )
    parser.add_argument("--port", type=whole(0, 65535), default=7860, help="default 7860; 0: any that is free")
    parser.add_argument("--offline", action="store_true", help="do not download anything")
    add_trust(parser)
    add_device(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    import_extra("gradio", "crisscross app", "app")
    from crisscross.app import free, open_networks, show

    # A port in use shows before networks are loaded.
    port = free(arguments.port)
    names = ("device", "offline", "trust")
    networks = open_networks(arguments.networks or [DEFAULT], **{name: getattr(arguments, name) for name in names})
    show(networks, port, lambda address: say(f"the app is at {address} (Ctrl-C stops it)"))
    say("stopped")
    return 0
