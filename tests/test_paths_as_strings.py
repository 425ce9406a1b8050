"""Whoever takes a path takes a string: the annotations of all public functions say so, and some are called with one."""

import importlib
import inspect
import typing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import crisscross
from crisscross.data import DataSet, Pair, write_prediction
from crisscross.data.scenes import write_scenes
from crisscross.video import VideoReader, is_video_file, predict_video

# What docs/ and examples/ import from.
PUBLIC = ("config", "checkpoints", "data", "data.scenes", "inference", "models", "report", "surgery", "video", "zoo")
# Functions outside of them that the pages name.
MORE = (
    *("engine.train:train", "engine.predict:predict_files", "engine.task:Scoring", "data.files.reading:read_image"),
    *("data.color:write_mask", "data.preparation:prepare", "data.preparation:round_masks"),
    *("checkpoints.loading:load", "checkpoints.reading:read_state_dict", "instances.annotations:open_coco_instances"),
)
# Made by us, with paths of ours; `Pair` and `DataSet` turn strings into paths.
RECORDS = {"DataSet", "Pair", "Prediction", "Run", "VideoResult"}


def public():
    modules = [crisscross, *(importlib.import_module(f"crisscross.{name}") for name in PUBLIC)]
    named = {f"{module.__name__}.{name}": getattr(module, name) for module in modules for name in module.__all__}
    for word in MORE:
        module, _, name = word.partition(":")
        named[word] = getattr(importlib.import_module(f"crisscross.{module}"), name)
    for name, found in named.items():
        if inspect.isfunction(found):
            yield name, found
        elif inspect.isclass(found):
            if found.__name__ not in RECORDS:
                yield name, found.__init__
            methods = inspect.getmembers(found, inspect.isfunction)
            yield from ((f"{name}.{each}", method) for each, method in methods if not each.startswith("_"))


def of_paths_alone(function):
    """The parameters that are annotated with `Path` and without `str`."""
    kinds = inspect.get_annotations(function)
    words = {name: kind if isinstance(kind, str) else str(kind) for name, kind in kinds.items() if name != "return"}
    return [name for name, kind in words.items() if _names_path_alone(kind)]


def _names_path_alone(kind):
    # A function of the caller's own gets what it is given; `find_images` makes the mappings.
    made = any(word in kind for word in ("Callable", "Mapping[pathlib.Path, pathlib.Path]"))
    return "Path" in kind.replace("PathLike", "") and "str" not in kind and not made


def test_every_public_function_takes_strings():
    found = {name: parameters for name, function in public() if (parameters := of_paths_alone(function))}
    assert not found and len(list(public())) > 80


def test_the_check_finds_them():
    def bad(first: Path, second: "Path | None", third: str | Path, fourth: typing.Sequence[Path]) -> Path: ...

    assert of_paths_alone(bad) == ["first", "second", "fourth"]


def test_they_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_scenes("scenes", {"train": 2, "val": 1}, height=32, width=64)
    pair = Pair("a", "scenes/images/train_0000.png", "scenes/masks/train_0000.png")
    dataset = DataSet("mine", "scenes", ("a", "b"), ((0, 0, 0), (1, 1, 1)), {"train": (pair,)})
    assert isinstance(pair.image, Path) and dataset.root == Path("scenes")
    written = write_prediction(dataset, pair, np.ones((2, 2), np.uint8), "out")
    assert np.array(Image.open(written)).tolist() == [[1, 1], [1, 1]] and written == Path("out/a.png")
    assert crisscross.open_dataset("auto", "scenes").split("val")[0].image == Path("scenes/images/val_0000.png")
    assert is_video_file("clips/a.mp4") and not is_video_file("a.png")
    with pytest.raises(crisscross.CrissCrossError, match=r"nowhere\.mp4: no such file"):
        VideoReader("nowhere.mp4")
    with pytest.raises(crisscross.CrissCrossError, match=r"would overwrite"):
        predict_video(crisscross.predictor("camvid-light"), "a.mp4", "a.mp4")
