"""The usual mix-ups of a whole data set, told once, with what to do about them."""

import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from crisscross.data.check.report import Problem
from crisscross.data.dataset import DataSet, Pair
from crisscross.data.files.decoding import opened
from crisscross.data.files.threads import each
from crisscross.data.labels import counts_problem, first_few
from crisscross.errors import CrissCrossError

# A mask, and its pixels of every stored value: int64 [256].
Read = tuple[Pair, np.ndarray]
MOSTLY = 0.95
# Colors of an image that is a mask, and of a mask that is a photograph.
FEW_COLORS, MANY_COLORS = 16, 64
# Pairs that are decoded to tell images from masks.
LOOKED_AT = 5


def label_mixups(dataset: DataSet, masks: Sequence[Read]) -> Iterator[Problem]:
    """Values that no class has: one error for all masks that were read. Also 0 and 255 alone, of which 255 is ignored,
    and masks that are ignored nearly everywhere."""
    total = sum((counts for _, counts in masks), np.zeros(256, np.int64))
    wrong = [(pair, text) for pair, counts in masks if (text := counts_problem(counts, total, dataset))]
    if wrong:
        yield Problem("error", wrong[0][0].mask, wrong[0][1], tuple(pair.mask for pair, _ in wrong[1:]))
    elif only_extremes(dataset, total):
        second = dataset.classes[1] if len(dataset.classes) > 1 else "?"
        yield Problem(
            "error",
            masks[0][0].mask,
            f"masks hold only 0 and 255, and 255 is ignored by default, so that {second!r} would never be seen: write "
            "`labels: {0: 0, 255: 1}` in dataset.yaml",
        )
    if dataset.labels is None and not wrong:
        ignored = [*{dataset.ignore, *dataset.void}]
        empty = [pair for pair, counts in masks if counts[ignored].sum() > MOSTLY * max(int(counts.sum()), 1)]
        if empty and not only_extremes(dataset, total):
            text = (
                f"{len(empty)} of {len(masks)} masks are ignored nearly everywhere (value {dataset.ignore}): is it a "
                "class? `labels` in dataset.yaml says what values mean"
            )
            yield Problem("warning", empty[0].mask, text, tuple(pair.mask for pair in empty[1:]))


def only_extremes(dataset: DataSet, total: np.ndarray) -> bool:
    """Whether masks of a described folder hold 255, perhaps 0, and nothing else, while 255 is ignored."""
    own = dataset.name == "folder" and dataset.labels is None and dataset.ignore == 255
    return own and bool(total[255]) and not total[1:255].any()


def swapped(pairs: Sequence[Pair]) -> Problem | None:
    """Images and masks that were exchanged: the images have few colors, the masks those of photographs."""
    looked_at = [pair for pair in pairs if pair.mask.is_file()][:LOOKED_AT]
    try:
        counts = [(_colors(pair.image), _colors(pair.mask)) for pair in looked_at]
    except CrissCrossError:
        return None
    if counts and all(image <= FEW_COLORS and mask > MANY_COLORS for image, mask in counts):
        return Problem(
            "error",
            looked_at[0].image,
            f"images and masks look exchanged: this image has {counts[0][0]} colors, its mask {looked_at[0].mask} has "
            f"{counts[0][1]}; exchange the two folders, or `images` and `masks` in dataset.yaml",
        )
    return None


def _colors(path: Path) -> int:
    with opened(path, decode=True) as (image, _):
        small = image.convert("RGB")
        return len(small.getcolors(small.width * small.height))


def lossy_cure(path: Path) -> str:
    """What a mask that was compressed with loss holds, and the command that mends it."""
    with opened(path, decode=True) as (image, samples):
        values, counts = np.unique(np.asarray(image.convert("L")), return_counts=True)
        kind = samples.lossy
    common = values[counts >= 0.05 * counts.sum()].tolist()
    # Neighbors of a frequent value are what the compression made of it.
    chosen: list[int] = []
    for value in sorted(common, key=lambda value: -int(counts[values == value][0])):
        if all(abs(value - other) > 20 for other in chosen):
            chosen.append(value)
    at = ",".join(map(str, sorted({255 if value > 243 else 0 if value < 12 else value for value in chosen})))
    at = at if "," in at else "0,255"
    folder = path.parent
    command = f"{shlex.quote(str(folder))} --classes-at {at} --out {shlex.quote(f'{folder}-png')}"
    return (
        f"a mask compressed with loss ({kind}): {len(values)} values where few are meant; `crisscross data prepare "
        f"masks {command}` gives each pixel the nearest class"
    )


def color_cure(path: Path) -> str:
    """What to write into dataset.yaml for a color mask; empty where it has more colors than classes could have."""
    with opened(path, decode=True) as (image, _):
        rgb, mode, alpha = image.convert("RGB"), image.mode, image.mode in ("RGBA", "LA", "PA")
        found = rgb.getcolors(MANY_COLORS)
        if alpha and found is not None and len(found) == 1:
            return (
                "a mask that lies in the transparency: `crisscross data prepare masks "
                f"{shlex.quote(str(path.parent))} --classes-at 0,255 --out {shlex.quote(f'{path.parent}-png')}`"
            )
    if found is None:
        return ""
    colors = [list(color) for _, color in sorted(found, reverse=True)[:LOOKED_AT]]
    listed = ", ".join(f"NAME: {color}" for color in colors)
    return f"a color mask (mode {mode}) of {len(found)} colors; name them in dataset.yaml: `palette: {{{listed}, ...}}`"


def unseen(dataset: DataSet, pairs: Sequence[Pair], most: int) -> list[int]:
    """Classes without one pixel in the masks of these pairs. Reads no further than to the last class, nor than `most`
    masks: of more, nothing can be said, and no class is returned.

    Masks that cannot be read, or hold wrong labels, end it likewise: they are told elsewhere.
    """
    from crisscross.data.check.pairs import read_counts, read_values

    missing = set(range(len(dataset.classes))) - set(dataset.void)
    for mask, problems in each(lambda pair: read_values(dataset, pair), pairs[:most]):
        if mask is None or problems:
            return []
        counts = read_counts(np.bincount(mask.ravel(), minlength=256), dataset)
        missing -= set(np.flatnonzero(counts).tolist())
        if not missing:
            return []
    return sorted(missing) if len(pairs) <= most else []


def untrained(dataset: DataSet, missing: Sequence[int], split: str) -> Iterator[Problem]:
    """One error for all classes without a pixel in the split that is trained on."""
    if not missing or dataset.name != "folder" or dataset.allow_empty:
        return
    verb = "it" if len(missing) == 1 else "they"
    yield Problem(
        "error",
        dataset.root,
        f"no pixel of {named(dataset, missing)} in {split!r}, so that {verb} cannot be learned: mend the names, the "
        "`labels` or the split; or write `allow_empty: true` in dataset.yaml",
    )


def named(dataset: DataSet, classes: Sequence[int]) -> str:
    """Classes for a message: `class 2 (door)`, or `66 of 150 classes (3 (sky), ... and 61 more)`."""
    if len(classes) == 1:
        return f"class {classes[0]} ({dataset.classes[classes[0]]})"
    listed = first_few([f"{number} ({dataset.classes[number]})" for number in classes])
    return f"{len(classes)} of {len(dataset.classes)} classes: {listed}"
