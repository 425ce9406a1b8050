"""Make the images of README.md and the site from the package alone: `python docs/make_images.py`.

Two small networks are trained on drawn scenes, each in a minute on a CPU; `--runs DIR` keeps and reuses the runs.
The same machine gives the same images. That of the app is a screenshot; `--app` takes it alone, by Debian's
Chromium and the Python of `.venv-pages` (`make pages-environment`).
"""

import argparse
import io
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

import crisscross
from crisscross.cli import demo
from crisscross.data.color import overlay
from crisscross.data.scenes import draw_islands, draw_scene, write_scenes
from crisscross.explanation.heat import heat_map, mark
from crisscross.inference.legend import with_legend

OUT = Path(__file__).parent / "images"
# Two panels of 512 pixels and what is between them; pages show it smaller.
WIDTH, GAP = 1036, 12
INK = (29, 31, 35)
STREET, STREET_SIZE = 5018, (256, 512)
ISLANDS, ISLANDS_SIZE, PIXEL = 5004, (demo.HEIGHT, demo.WIDTH), (102, 84)
APP_PIXEL, CAPTION = (193, 222), 26


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path)
    parser.add_argument("--app", action="store_true")
    runs, wants_app = vars(parser.parse_args()).values()
    if wants_app:
        save("app", app())
        return
    # Another number of threads would give other last digits.
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = runs or Path(temporary)
        save("prediction", prediction(street_network(folder)))
        save("attention", attention(island_network(folder)))


def save(name: str, image: Any) -> None:
    path = OUT / f"{name}.webp"
    image.save(path, quality=84, method=6)
    print(f"{path}: {image.width} x {image.height}, {path.stat().st_size / 1000:.0f} kB")


def street_network(folder: Path) -> crisscross.Segmenter:
    """`camvid-light`, fine-tuned for 80 steps on the classes of drawn streets."""
    height, width = STREET_SIZE
    run = folder / "streets-run"
    if not run.exists():
        write_scenes(folder / "streets", {"train": 96, "val": 2, "test": 2}, height=height, width=width)
        short = {"iterations": 80, "batch": 2, "warmup": 5, "validate_every": 80}
        crisscross.train("ccnet-light", folder / "streets", run, init="camvid-light", crop=[256, 384], **short)
    network = crisscross.load(run)
    assert isinstance(network, crisscross.Segmenter)
    return network


def prediction(network: crisscross.Segmenter) -> Any:
    """A street and its labels, beside each other, over the legend."""
    image, _ = draw_scene(STREET, *STREET_SIZE)
    found = network.predict(image)
    shares = sorted(found.fractions().items(), key=lambda item: -item[1])
    colors = dict(zip(found.card.classes, found.card.palette, strict=True))
    entries = [(f"{name} {share:.0%}", colors[name]) for name, share in shares if share >= 0.005]
    return with_legend(beside([image, np.asarray(found.overlay(image, 0.6))]), entries, 20)


def island_network(folder: Path) -> crisscross.Segmenter:
    """What `crisscross demo` trains with R = 2."""
    run = folder / "islands-run"
    if not run.exists():
        height, width = ISLANDS_SIZE
        write_scenes(folder / "islands", demo.SCENES, height=height, width=width, kind="islands")
        changes = dict(change.split("=") for change in demo.DATA)
        crisscross.train("demo", folder / "islands", run, **changes)
    network = crisscross.load(run, trust=run)
    assert isinstance(network, crisscross.Segmenter)
    return network


def attention(network: crisscross.Segmenter) -> Any:
    """A pixel and what it attends to in one pass and in two, over labels with attention and without."""
    image, truth = draw_islands(ISLANDS, *ISLANDS_SIZE)
    found = crisscross.explain(network, image, PIXEL)
    assert found.labels is not None and found.labels_without is not None
    layer, (height, width) = found.layers[0], ISLANDS_SIZE
    ratio = ((WIDTH - 2 * GAP) // 3) / width
    size = round(ratio * width), round(ratio * height)
    spot = (PIXEL[0] + 0.5) * ratio, (PIXEL[1] + 0.5) * ratio

    def shown(pixels: np.ndarray) -> np.ndarray:
        return mark(np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)), spot, 9)

    def labels(numbers: np.ndarray) -> np.ndarray:
        return shown(overlay(image, numbers, found.palette, 0.8))

    def name(without: bool) -> str:
        (text, value), *_ = found.top(1, without)
        return f"{text} {value:.0%}"

    one = heat_map(image, found.on_image(layer.passes[0]), lit=found.on_image(layer.cross))
    both = heat_map(image, found.on_image(layer.effective))
    looks = beside(
        [shown(image), shown(one), shown(both)],
        ["whose is this town?", "one pass: row and column", "two passes: the sail"],
    )
    says = beside(
        [labels(truth), labels(found.labels), labels(found.labels_without)],
        ["the truth", f"with attention: {name(False)}", f"switched off: {name(True)}"],
    )
    sheet = Image.new("RGB", (WIDTH, looks.height + GAP + says.height), "white")
    sheet.paste(looks, (0, 0))
    sheet.paste(says, (0, looks.height + GAP))
    return sheet


def app() -> Any:
    """The page of `crisscross app` with the second of its scenes and a pixel of it."""
    from playwright.sync_api import expect, sync_playwright

    words = [sys.executable, "-m", "crisscross", "app", "--port", "0"]
    with (
        subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process,
        sync_playwright() as tool,
    ):
        try:
            lines = iter(process.stdout or ())
            address = next(found[0] for line in lines if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
            browser = tool.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1180, "height": 900}, color_scheme="light")
            page.goto(address)
            headings = page.locator(".pixel h3").first
            expect(headings).to_have_text(re.compile("at 360, 180$"), timeout=60_000)
            legend = page.locator("ul.legend").first
            before = legend.inner_text()
            page.locator("#scenes button").nth(1).click()
            expect(legend).not_to_have_text(before, use_inner_text=True, timeout=60_000)
            for name, value in zip("xy", APP_PIXEL, strict=True):
                page.locator(f"#{name} input").fill(str(value))
            page.locator("#show").click()
            expect(headings).to_have_text(re.compile("at {}, {}$".format(*APP_PIXEL)), timeout=60_000)
            page.wait_for_timeout(1000)
            last = page.locator(".pixel img").nth(1).bounding_box()
            assert last is not None
            high = round(last["y"] + last["height"]) + CAPTION
            shot = page.screenshot(full_page=True, clip={"x": 0, "y": 0, "width": 1180, "height": high})
            return Image.open(io.BytesIO(shot)).convert("RGB")
        finally:
            process.terminate()


def beside(panels: Sequence[np.ndarray], titles: Sequence[str] = ()) -> Any:
    """Panels [H, W, 3] in one row as wide as a page, each below its title."""
    wide = (WIDTH - GAP * (len(panels) - 1)) // len(panels)
    height, width = panels[0].shape[:2]
    high, head = round(wide * height / width), 34 if titles else 0
    sheet = Image.new("RGB", (WIDTH, head + high), "white")
    for number, panel in enumerate(panels):
        left = number * (wide + GAP)
        sheet.paste(Image.fromarray(panel).resize((wide, high), Image.Resampling.LANCZOS), (left, head))
    for number, title in enumerate(titles):
        font = ImageFont.load_default(20)
        ImageDraw.Draw(sheet).text((number * (wide + GAP), 23), title, fill=INK, font=font, anchor="ls")
    return sheet


if __name__ == "__main__":
    main()
