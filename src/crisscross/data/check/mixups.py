"""The usual mix-ups of a whole data set, told once, with what to do about them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crisscross.data.check.report import Problem
from crisscross.data.color import palette_of
from crisscross.data.cures import DESCRIPTION, prepare_masks, write_key
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
    """Values that no class has: one error for all masks that were read. Also 255 where it can be a class and is
    ignored, palettes that differ, and masks that are ignored nearly everywhere."""
    total = sum((counts for _, counts in masks), np.zeros(256, np.int64))
    wrong = [(pair, text) for pair, counts in masks if (text := counts_problem(counts, total, dataset, pair.mask))]
    if wrong:
        yield Problem("error", wrong[0][0].mask, wrong[0][1], tuple(pair.mask for pair, _ in wrong[1:]))
    else:
        yield from _ignored_class(dataset, masks, total)
    yield from _palettes(dataset, masks)
    if dataset.labels is None and not wrong:
        ignored = [*{dataset.ignore, *dataset.void}]
        empty = [pair for pair, counts in masks if counts[ignored].sum() > MOSTLY * max(int(counts.sum()), 1)]
        if empty and not only_extremes(dataset, total):
            text = (
                f"{len(empty)} of {len(masks)} masks are ignored nearly everywhere (value {dataset.ignore}); if it is "
                f"a class, {write_key(dataset.root, f'labels: {{0: 0, {dataset.ignore}: 1}}')}"
            )
            yield Problem("warning", empty[0].mask, text, tuple(pair.mask for pair in empty[1:]))


def _ignored_class(dataset: DataSet, masks: Sequence[Read], total: np.ndarray) -> Iterator[Problem]:
    """255 that stands for the second class: in all masks, or in some of them."""
    second = dataset.classes[1] if len(dataset.classes) > 1 else "?"
    if only_extremes(dataset, total):
        yield Problem(
            "error",
            masks[0][0].mask,
            f"masks hold only 0 and 255, and 255 is ignored by default, so that {second!r} would never be seen: "
            f"{write_key(dataset.root, 'labels: {0: 0, 255: 1}')}",
        )
    elif _own(dataset) and (mixed := two_scales([np.flatnonzero(counts).tolist() for _, counts in masks])):
        high = [pair.mask for pair, counts in masks if counts[255]]
        yield Problem(
            "error",
            high[0],
            f"{mixed[1]} masks hold 0 and 255, {mixed[0]} hold 0 and 1, and 255 is ignored by default: if both are "
            f"{second!r}, {write_key(dataset.root, 'labels: {0: 0, 1: 1, 255: 1}')}; if not, `255: ignore` there",
            tuple(high[1:]),
        )


def two_scales(masks: Sequence[Iterable[int]]) -> tuple[int, int] | None:
    """How many masks hold 1 and how many 255, where all hold 0, 1 or 255, and none both 1 and 255; else None."""
    found = [set(values) for values in masks]
    ones, highs = sum(1 in values for values in found), sum(255 in values for values in found)
    apart = all(values <= {0, 1, 255} and not {1, 255} <= values for values in found)
    return (ones, highs) if apart and ones and highs else None


def _palettes(dataset: DataSet, masks: Sequence[Read]) -> Iterator[Problem]:
    """Palette images whose numbers have other colors in other files, where nothing says that numbers count."""
    if not _own(dataset) or dataset.colored:
        return
    palettes = each(lambda read: _stored_palette(read[0].mask), masks)
    shown = [
        (pair.mask, {value: palette[value] for value in np.flatnonzero(counts).tolist() if value in palette})
        for (pair, counts), palette in zip(masks, palettes, strict=True)
    ]
    if conflict := palette_conflict([one for one in shown if one[1]]):
        yield Problem(
            "error",
            dataset.root,
            f"{conflict}: to read masks by color, "
            f"{write_key(dataset.root, 'palette: {NAME: [red, green, blue], ...}')}; to read the numbers, list them as "
            "`labels: {0: 0, 1: 1, ...}`",
        )


def _stored_palette(path: Path) -> dict[int, tuple[int, int, int]]:
    with opened(path, decode=False) as (image, _):
        return palette_of(image)


def palette_conflict(palettes: Sequence[tuple[Path, Mapping[int, tuple[int, int, int]]]]) -> str:
    """That a number has different colors in two files, of the numbers that they use; empty if none has."""
    first: dict[int, tuple[Path, tuple[int, int, int]]] = {}
    for path, palette in palettes:
        for value, color in palette.items():
            other, known = first.setdefault(value, (path, color))
            if known != color:
                return (
                    f"palettes differ from file to file ({value} is {list(known)} in {other.name}, {list(color)} in "
                    f"{path.name})"
                )
    return ""


def only_extremes(dataset: DataSet, total: np.ndarray) -> bool:
    """Whether masks of a described folder hold 255, perhaps 0, and nothing else, while 255 is ignored."""
    return _own(dataset) and bool(total[255]) and not total[1:255].any()


def _own(dataset: DataSet) -> bool:
    """Whether the masks of a folder of someone's own hold class numbers, and 255 is ignored by default."""
    return dataset.name == "folder" and dataset.labels is None and dataset.ignore == 255


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
            f"{counts[0][1]}; exchange the two folders, or `images` and `masks` in dataset.yaml where it names them",
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
    return (
        f"a mask compressed with loss ({kind}): {len(values)} values where few are meant; {prepare_masks(path, at)} "
        "gives each pixel the nearest class"
    )


def alpha_cure(path: Path, image: Any) -> str:
    """What to do about an opened mask whose colors are all the same and whose transparency differs; else empty."""
    if image.mode not in ("RGBA", "LA", "PA") or image.getchannel("A").getextrema()[0] == 255:
        return ""
    if len(image.convert("RGB").getcolors(MANY_COLORS) or (0, 0)) > 1:
        return ""
    return f"a mask that lies in the transparency: {prepare_masks(path)}"


def color_cure(path: Path, root: Path) -> str:
    """What to write into the dataset.yaml of `root` for a color mask; empty where it has more colors than classes could
    have."""
    with opened(path, decode=True) as (image, _):
        mode, found = image.mode, image.convert("RGB").getcolors(MANY_COLORS)
        if cure := alpha_cure(path, image):
            return cure
    if found is None:
        return ""
    colors = [list(color) for _, color in sorted(found, reverse=True)[:LOOKED_AT]]
    listed = ", ".join(f"NAME: {color}" for color in colors) + (", ..." if len(found) > len(colors) else "")
    key = write_key(root, f"palette: {{{listed}}}")
    return f"a color mask (mode {mode}) of {len(found)} {'color' if len(found) == 1 else 'colors'}; {key}"


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
    """One error for all classes without a pixel in the split that is trained on; a warning where a labeling tool's list
    of classes names more than its masks hold."""
    described = (dataset.root / DESCRIPTION).is_file()
    if not missing or dataset.name != "folder" or (dataset.allow_empty and described):
        return
    verb = "it" if len(missing) == 1 else "they"
    text = f"no pixel of {named(dataset, missing)} in {split!r}, so that {verb} cannot be learned"
    if dataset.allow_empty:
        yield Problem("warning", dataset.root, text)
        return
    cure = f"mend the names, the labels or the split; or {write_key(dataset.root, 'allow_empty: true')}"
    yield Problem("error", dataset.root, f"{text}: {cure}")


def named(dataset: DataSet, classes: Sequence[int]) -> str:
    """Classes for a message: `class 2 (door)`, or `66 of 150 classes (3 (sky), ... and 61 more)`."""
    if len(classes) == 1:
        return f"class {classes[0]} ({dataset.classes[classes[0]]})"
    listed = first_few([f"{number} ({dataset.classes[number]})" for number in classes])
    return f"{len(classes)} of {len(dataset.classes)} classes: {listed}"
