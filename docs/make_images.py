"""Make the pictures of README.md and the site from the package alone: `python docs/make_images.py`.

Scenes are drawn and two small networks trained on them, a minute each on a CPU; `--runs DIR` keeps and reuses the runs.
The same machine gives the same pictures.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import crisscross
from crisscross.data.scenes import draw_scene, write_scenes
from crisscross.explanation.heat import heat_map, mark
from crisscross.inference.legend import with_legend

OUT = Path(__file__).parent / "images"
# Two panels of 512 pixels and what is between them; pages show it smaller.
WIDTH, GAP = 1036, 12
INK = (29, 31, 35)
STREET, STREET_SIZE = 5018, (256, 512)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=Path)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as temporary:
        folder = runs or Path(temporary)
        streets = street_network(folder)
        save("prediction", prediction(streets))
        save("attention", attention(streets, draw_scene(STREET, *STREET_SIZE)[0], (340, 215)))


def save(name: str, picture: Any) -> None:
    path = OUT / f"{name}.webp"
    picture.save(path, quality=84, method=6)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1000:.0f} kB")


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


def attention(network: crisscross.Segmenter, image: np.ndarray, at: tuple[int, int]) -> Any:
    """A pixel of an image, and what it attends to in the first pass, and in all together."""
    found = crisscross.explain(network, image, at)
    layer = found.layers[0]
    large = np.asarray(
        Image.fromarray(image).resize((2 * WIDTH // 3, 2 * WIDTH // 3 * image.shape[0] // image.shape[1]))
    )
    spot = (at[0] + 0.5) * large.shape[1] / image.shape[1], (at[1] + 0.5) * large.shape[0] / image.shape[0]

    def seen(weights: np.ndarray, lit: np.ndarray | None = None) -> np.ndarray:
        reached = None if lit is None else found.on_image(lit)
        pixels = Image.fromarray(heat_map(image, found.on_image(weights), lit=reached))
        return np.asarray(pixels.resize((large.shape[1], large.shape[0]), Image.Resampling.LANCZOS))

    maps = [mark(one, spot, 14) for one in (large, seen(layer.passes[0], layer.cross), seen(layer.effective))]
    (name, value), *_ = found.top(1)
    return beside(maps, [f"one pixel: {name} {value:.0%}", "R = 1: its row and column", "R = 2: the whole image"])


def beside(panels: Sequence[np.ndarray], titles: Sequence[str] = ()) -> Any:
    """Panels [H, W, 3] in one row as wide as a page, each below its title."""
    wide = (WIDTH - GAP * (len(panels) - 1)) // len(panels)
    height, width = panels[0].shape[:2]
    high, head = round(wide * height / width), 26 if titles else 0
    sheet = Image.new("RGB", (WIDTH, head + high), "white")
    for number, panel in enumerate(panels):
        left = number * (wide + GAP)
        sheet.paste(Image.fromarray(panel).resize((wide, high), Image.Resampling.LANCZOS), (left, head))
    for number, title in enumerate(titles):
        font = ImageFont.load_default(15)
        ImageDraw.Draw(sheet).text((number * (wide + GAP), 17), title, fill=INK, font=font, anchor="ls")
    return sheet


if __name__ == "__main__":
    main()
