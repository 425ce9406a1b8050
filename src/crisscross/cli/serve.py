"""`crisscross serve`: label images over HTTP."""

import argparse
from collections.abc import Iterator
from contextlib import closing, contextmanager
from importlib import import_module
from typing import TYPE_CHECKING

from crisscross.cli.options import add_card, add_computing, add_network, positive, whole
from crisscross.errors import import_extra
from crisscross.terminal import say

if TYPE_CHECKING:
    from crisscross.inference import Predictor

MEGA = 2**20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what the command takes."""
    parser.description = "Label images over HTTP: POST /predict; GET /docs tells the rest."
    add_network(parser, exported=True)
    add_card(parser)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen at (default 127.0.0.1: this machine)")
    parser.add_argument("--port", type=whole(0, 65535), default=8000, help="default 8000; 0: any that is free")
    parser.add_argument(
        "--allow-host",
        action="append",
        default=[],
        metavar="NAME",
        help="a name at which clients address the service, beside localhost and IP addresses; may be repeated",
    )
    parser.add_argument(
        "--max-size", type=positive, default=20, metavar="MIB", help="size of a request at most (default 20)"
    )
    parser.add_argument(
        "--max-pixels", type=positive, default=16, metavar="N", help="millions of pixels at most (default 16)"
    )
    parser.add_argument(
        "--requests", type=positive, default=32, metavar="N", help="requests that may wait (default 32); others get 429"
    )
    parser.add_argument(
        "--batch", type=whole(1, 8), default=8, metavar="N", help="images of one size at once, 1 to 8 (default 8)"
    )
    parser.add_argument(
        "--timeout",
        type=positive,
        default=30,
        metavar="SECONDS",
        help="for receiving a request, and again for its answer (default 30)",
    )
    add_computing(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the command."""
    for module in ("fastapi", "uvicorn", "python_multipart"):
        import_extra(module, "crisscross serve", "serve")
    # Polygons need OpenCV, which installations without PyTorch may lack.
    import_module("cv2")
    from crisscross.service import Limits, create_app, listen, serve

    limits = Limits(
        size=arguments.max_size * MEGA,
        pixels=arguments.max_pixels * MEGA,
        requests=arguments.requests,
        batch=arguments.batch,
        timeout=arguments.timeout,
        hosts=tuple(arguments.allow_host),
    )
    # A port in use shows before the network is loaded.
    with closing(listen(arguments.host, arguments.port)) as listening:
        app = create_app(_predictor(arguments), limits)
        host, port = listening.getsockname()[:2]
        say(f"serving {arguments.network} at http://{f'[{host}]' if ':' in host else host}:{port} (Ctrl-C stops)")
        serve(app, listening, limits.timeout)
    say("stopped")
    return 0


def _predictor(arguments: argparse.Namespace) -> "Predictor":
    from crisscross.api.networks import SCENE, wanted
    from crisscross.data.scenes import draw_scene
    from crisscross.inference import Predictor
    from crisscross.tasks import predictor, refuse

    names = ("device", "weights", "offline", "trust", "optimize", "precision", "card", "backend")
    source = wanted(arguments.network, **{name: getattr(arguments, name) for name in names})
    refuse(source.task(), {}, "serve", arguments.network)
    network = source.on_backend(source.load(source.find_device(), {}), None, lambda: draw_scene(0, *SCENE)[0])
    found = predictor(network)

    @contextmanager
    def running() -> Iterator[None]:
        # Autocast holds for one thread, and the service computes in one of its own.
        with source.computing(network), found.running():
            yield

    return Predictor(found.stages, found.card, found.place, running)
