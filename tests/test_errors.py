"""What errors show, and the one line about a package that is not installed."""

import json
import traceback

import pytest
import torch

import crisscross
from crisscross.errors import CrissCrossError, import_extra, shown, shown_name


def test_a_missing_package_names_itself_and_the_extra():
    assert import_extra("json.decoder", "reading", "files").JSONDecoder is json.JSONDecoder
    with pytest.raises(CrissCrossError) as caught:
        import_extra("not_there.part", "reading clips", "video")
    said = str(caught.value)
    assert said.startswith("reading clips needs not_there: run `pip install '.[video]'` in a checkout of crisscross (")
    assert "\n" not in said


def test_values_are_cut_and_names_are_one_line():
    assert shown("a\nb") == r"'a\nb'" and shown_name("a\n  b") == "a b"
    assert len(shown("x" * 1000)) < 120 and len(shown_name("x" * 1000)) < 120


def _broken(folder):
    (folder / "broken.png").write_bytes(b"no image")
    (folder / "broken.yaml").write_text("model: [")
    (folder / "broken.pth").write_bytes(b"nothing")
    (folder / "broken.safetensors").write_bytes(b"nothing")
    (folder / "wrong.yaml").write_text("model: {backbone: 3}")


@pytest.mark.parametrize(
    "call",
    [
        lambda folder: crisscross.load(folder / "broken.pth"),
        lambda folder: crisscross.load(folder / "broken.safetensors"),
        lambda folder: crisscross.load("camvid-light", device="gpu"),
        lambda folder: crisscross.load("camvid-light").predict(folder / "broken.png"),
        lambda folder: crisscross.load("camvid-light").predict(folder / "nowhere.png"),
        lambda folder: crisscross.train(folder / "broken.yaml", folder, folder / "run"),
        lambda folder: crisscross.train(folder / "wrong.yaml", folder, folder / "run"),
        lambda folder: crisscross.train("ccnet-light", folder, folder / "run", nothing=1),
        lambda folder: crisscross.build("ccnet-light", backbone="nothing", classes=["a"]),
        lambda folder: crisscross.build("ccnet-light", backbone="vgg11", output_stride=8, classes=["a"]),
        lambda folder: crisscross.open_dataset("cityscapes", folder),
        lambda folder: crisscross.load("camvid-light", head={"channels": 3}),
        lambda folder: crisscross.surgery.insert_attention(torch.nn.Linear(1, 1), after="nowhere"),
    ],
)
def test_bad_input_is_one_error_without_what_raised_it(call, tmp_path):
    _broken(tmp_path)
    with pytest.raises(CrissCrossError) as caught:
        call(tmp_path)
    shown = "".join(traceback.format_exception(caught.value))
    assert shown.count("Traceback") == 1 and "\n" not in str(caught.value)
