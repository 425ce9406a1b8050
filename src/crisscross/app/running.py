"""The page in a browser: from its start to Ctrl-C."""

import os
import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from threading import Event
from typing import Any

from crisscross.app.actions import Actions
from crisscross.app.networks import Network
from crisscross.app.page import create_page
from crisscross.service import listen

HOST = "127.0.0.1"
# Bytes of a file that is uploaded.
LARGEST = 200 * 2**20
STYLE = Path(__file__).with_name("style.css")


def show(networks: Sequence[Network], port: int, started: Callable[[str], Any] = lambda address: None) -> None:
    """Show the page at 127.0.0.1 until Ctrl-C or SIGTERM; files that were uploaded are removed then.

    Args:
        networks: what it shows.
        port: that nobody listens at.
        started: called with the page's address.
    """
    with tempfile.TemporaryDirectory(prefix="crisscross-app-") as folder, uploads_in(folder), _interrupted() as ended:
        actions = Actions(networks, Path(folder))
        page = create_page(actions)
        try:
            launch(page, port)
            started(f"http://{HOST}:{port}")
            ended.wait()
        finally:
            actions.stop()
            page.close(verbose=False)


def free(port: int) -> int:
    """A port that nobody listens at; for 0 any.

    Raises:
        CrissCrossError: there is a program that does.
    """
    with closing(listen(HOST, port)) as listening:
        return int(listening.getsockname()[1])


def launch(page: Any, port: int) -> None:
    """Serve a page, from threads of its own. Neither it nor the browser asks anybody else for anything."""
    import gradio as gr
    from starlette.middleware import Middleware
    from starlette.middleware.trustedhost import TrustedHostMiddleware

    letters = ("ui-sans-serif", "system-ui", "Segoe UI", "Helvetica Neue", "Arial", "sans-serif")
    theme = gr.themes.Default(
        primary_hue="blue", font=letters, font_mono=("ui-monospace", "Menlo", "Consolas", "monospace")
    ).set(body_text_color_subdued="*neutral_500", body_text_color_subdued_dark="*neutral_400")
    page.launch(
        server_name=HOST,
        server_port=port,
        prevent_thread_lock=True,
        quiet=True,
        share=False,
        ssr_mode=False,
        mcp_server=False,
        run_history=False,
        footer_links=[],
        max_file_size=LARGEST,
        # What a session holds is an image and its labels.
        state_session_capacity=32,
        theme=theme,
        css_paths=STYLE,
        # Pages whose name is made to point at this machine stay out.
        app_kwargs={"middleware": [Middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])]},
    )


@contextmanager
def uploads_in(folder: str) -> Iterator[None]:
    """Inside, gradio keeps files in a folder."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


@contextmanager
def _interrupted() -> Iterator[Event]:
    """An event that Ctrl-C and SIGTERM set; where they are another thread's matter, nobody does."""
    ended = Event()
    numbers = (signal.SIGINT, signal.SIGTERM)
    try:
        before = {number: signal.signal(number, lambda *_: ended.set()) for number in numbers}
    except ValueError:
        before = {}
    try:
        yield ended
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
