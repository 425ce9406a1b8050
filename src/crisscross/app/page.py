"""The page, made with gradio: what it shows, and what happens when something on it is used."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gradio as gr

from crisscross.app.actions import Actions, Labeled
from crisscross.app.drawing import OPACITY, WIDTH, message
from crisscross.data.scenes import draw_scene
from crisscross.engine.formats import FORMATS, PNG
from crisscross.errors import CrissCrossError

# Actions that may wait for the network; others are told that the queue is full.
WAITING = 256
# The drawn examples: seeds, height and width.
SCENES, SCENE_SIZE = (5, 4, 2, 6), (360, 720)
TITLE = """<h1>crisscross</h1>
<p>Label every pixel of an image, and see where criss-cross attention looks. Images stay on this machine.</p>"""
HINT = "<p>Click the image, or give x and y, to see which classes the network finds there and where it looks.</p>"
# Scripts for the browser: bring what is wrong into view; fetch the file that was written, if nothing is.
REVEAL = "document.querySelector('#note .alert')?.scrollIntoView({block: 'nearest'})"
FETCH = f"() => document.querySelector('#note .alert') ? {REVEAL} : document.querySelector('#fetch').click()"
# What needs a network waits for its turn; gradio's programming interface is switched off.
PRIVATE = {"api_visibility": "private"}
IN_TURN = {**PRIVATE, "concurrency_id": "network", "concurrency_limit": 1}


def create_page(actions: Actions) -> Any:
    """The page as gradio's `Blocks`; drawn scenes are written to the folder of its actions."""
    with gr.Blocks(title="crisscross", analytics_enabled=False, delete_cache=(600, 3600), fill_width=True) as page:
        gr.HTML(TITLE, elem_id="title")
        with gr.Tab("Image"):
            ImageTab(actions).react(page)
        with gr.Tab("Video"):
            _video_tab(actions)
    return page.queue(max_size=WAITING, api_open=False)


def examples(folder: Path) -> list[str]:
    """Drawn scenes as files."""
    from PIL import Image

    paths = [folder / f"street-{number}.png" for number in range(1, len(SCENES) + 1)]
    for path, seed in zip(paths, SCENES, strict=True):
        Image.fromarray(draw_scene(seed, *SCENE_SIZE)[0]).save(path)
    return [str(path) for path in paths]


class ImageTab:
    """Images: components from left to right, and what they do."""

    def __init__(self, actions: Actions) -> None:
        self.actions = actions
        self.files = examples(actions.folder)
        self.found = gr.State(None)
        with gr.Row():
            with gr.Column(scale=1, min_width=280, elem_id="controls"):
                self._add_controls()
            with gr.Column(scale=3, min_width=320, elem_id="result"):
                self.note = gr.HTML(elem_id="note")
                with gr.Row():
                    views = [self._add_view(network.name) for network in actions.networks]
                self.images, self.legends = map(list, zip(*views, strict=True))
                self._add_point()

    def _add_controls(self) -> None:
        self.upload = gr.File(label="Image", file_types=["image"], height=160, elem_id="upload")
        gr.HTML("<p>Or take a drawn scene:</p>")
        how = {"object_fit": "cover", "height": "auto", "allow_preview": False, "interactive": False, "buttons": []}
        self.scenes = gr.Gallery(self.files, label="Drawn scenes", show_label=False, columns=2, **how, elem_id="scenes")
        self.opacity = gr.Slider(0, 1, OPACITY, step=0.05, label="Opacity of the labels", elem_id="opacity")
        self.formats = gr.CheckboxGroup(list(FORMATS), value=list(PNG), label="Masks to download", elem_id="formats")
        self.download = gr.Button("Download", elem_id="download")
        self.fetch = gr.DownloadButton("", visible="hidden", elem_id="fetch")

    @staticmethod
    def _add_view(name: str) -> tuple[Any, Any]:
        """The image of a network, and its legend."""
        with gr.Column(min_width=320):
            how = {"interactive": False, "buttons": ["fullscreen"], "elem_classes": "labels"}
            return gr.Image(label=name, alt_text=f"the labels of {name}", **how), gr.HTML()

    def _add_point(self) -> None:
        gr.HTML(HINT)
        with gr.Row(elem_id="point"):
            self.x = gr.Number(label="x", precision=0, min_width=80, elem_id="x")
            self.y = gr.Number(label="y", precision=0, min_width=80, elem_id="y")
            self.show = gr.Button("Show this pixel", variant="primary", min_width=140, elem_id="show")
        with gr.Row():
            self.explanations = [self._add_explanation() for _ in self.actions.networks]

    @staticmethod
    def _add_explanation() -> Any:
        # Of HTML in a row gradio ignores the width.
        with gr.Column(min_width=320):
            return gr.HTML()

    def react(self, page: Any) -> None:
        """Say what happens when."""
        for event, label, inputs in (
            (self.upload.upload, self._label, [self.upload, self.opacity]),
            (self.scenes.select, self._label_scene, [self.opacity]),
            (page.load, self._label_first, [self.opacity]),
        ):
            outputs = [self.note, self.found, self.x, self.y, *self.images, *self.legends]
            labeled = event(label, inputs, outputs, **IN_TURN)
            labeled.success(self._explain_silently, [self.found, self.x, self.y], self.explanations, **IN_TURN)
        for event in (self.show.click, self.x.submit, self.y.submit):
            self._then_explain(event)
        for image in self.images:
            self._then_explain(image.select(_pointed, self.found, [self.x, self.y], **PRIVATE).success)
        draw = (self._draw, [self.found, self.opacity, self.x, self.y], self.images)
        self.opacity.input(*draw, trigger_mode="always_last", show_progress="hidden", **PRIVATE)
        written = self.download.click(self._write, [self.found, self.formats], [self.note, self.fetch], **PRIVATE)
        written.success(None, js=FETCH)

    def _then_explain(self, event: Callable[..., Any]) -> None:
        point = [self.found, self.x, self.y]
        draw = (self._draw, [self.found, self.opacity, self.x, self.y], self.images)
        drawn = event(*draw, show_progress="hidden", **PRIVATE)
        explained = drawn.success(self._explain, point, [self.note, *self.explanations], **IN_TURN)
        explained.success(None, js=f"() => {REVEAL}")

    def _label(self, path: str, opacity: float) -> list[Any]:
        def label() -> list[Any]:
            note, found, x, y, images, legends = self.actions.label(path, opacity)
            return [message(note), found, x, y, *images, *legends]

        return answered(label, 4 + 2 * len(self.images))

    def _label_scene(self, opacity: float, event: gr.SelectData) -> list[Any]:
        return self._label(self.files[event.index], opacity)

    def _label_first(self, opacity: float) -> list[Any]:
        return self._label(self.files[0], opacity)

    def _draw(self, found: Labeled | None, opacity: float, x: int | None, y: int | None) -> dict[Any, Any]:
        if found is None:
            return {}
        # By component, because of a list with one value gradio would take the list for the value.
        at = None if x is None or y is None else (x, y)
        return dict(zip(self.images, self.actions.draw(found, opacity, at), strict=True))

    def _explain(self, found: Labeled | None, x: int | None, y: int | None) -> list[Any]:
        return answered(lambda: ["", *self.actions.explain(found, (x, y))], 1 + len(self.images))

    def _explain_silently(self, *given: Any) -> dict[Any, Any]:
        """Without touching the note, which belongs to the image."""
        return dict(zip(self.explanations, self._explain(*given)[1:], strict=True))

    def _write(self, found: Labeled | None, formats: list[str]) -> list[Any]:
        return answered(lambda: ["", str(self.actions.download(found, formats))], 2)


def _pointed(found: Labeled | None, event: gr.SelectData) -> list[Any]:
    """The pixel of the image that lies under one of the view."""
    if found is None:
        return [gr.skip(), gr.skip()]
    scale = found.image.shape[1] / WIDTH
    sizes = reversed(found.image.shape[:2])
    return [min(int(one * scale), size - 1) for one, size in zip(event.index, sizes, strict=True)]


def _video_tab(actions: Actions) -> None:
    names = [network.name for network in actions.networks]
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            upload = gr.File(label="Video", file_types=["video"], height=160, elem_id="upload-video")
            choice = gr.Dropdown(names, value=names[0], label="Network", visible=len(names) > 1)
            start = gr.Button("Label the video", variant="primary", elem_id="start-video")
        with gr.Column(scale=3, min_width=320):
            note = gr.HTML(elem_id="note-video")
            video = gr.Video(label="Labels", interactive=False, elem_id="video")

    def label(path: str | None, name: str, progress: Any = gr.Progress()) -> list[Any]:  # noqa: B008
        def show(done: int, expected: int) -> None:
            progress((done, expected or None), desc="frames", unit="frames")

        def run() -> list[Any]:
            text, out = actions.label_video(path, name, show)
            return [message(text), str(out)]

        return answered(run, 2, None)

    start.click(label, [upload, choice], [note, video], **IN_TURN)


def answered(act: Callable[[], list[Any]], count: int, otherwise: Any = ...) -> list[Any]:
    """What an action answers, the first of `count` being the note; where it cannot, the line that says why.

    The rest then stays as it is, or becomes `otherwise`.
    """
    try:
        return act()
    except CrissCrossError as error:
        return [message(str(error), alert=True), *[gr.skip() if otherwise is ... else otherwise] * (count - 1)]
