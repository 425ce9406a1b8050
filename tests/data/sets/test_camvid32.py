"""CamVid's 32 classes from its color labels."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from preparing import refusal
from published_data import save, write_camvid32

from crisscross.data import open_dataset
from crisscross.data.files.reading import read_mask
from crisscross.data.preparation import prepare
from crisscross.data.sets import camvid32
from crisscross.errors import CrissCrossError


def test_color_labels_of_camvid(tmp_path: Path) -> None:
    write_camvid32(tmp_path)
    wanted = {path.name: read_mask(path) for path in (tmp_path / camvid32.INDEX).iterdir()}
    for path in (tmp_path / camvid32.INDEX).iterdir():
        path.unlink()
    (tmp_path / camvid32.INDEX).rmdir()
    with pytest.raises(CrissCrossError, match=r"LabeledIndex_full: no such folder; .*crisscross data prepare camvid32"):
        open_dataset("auto", tmp_path)
    assert prepare("camvid32", tmp_path).lines == ()
    assert {path.name: read_mask(path).tolist() for path in (tmp_path / camvid32.INDEX).iterdir()} == {
        name: mask.tolist() for name, mask in wanted.items()
    }
    assert open_dataset("auto", tmp_path).name == "camvid32"


def test_unknown_colors_of_camvid(tmp_path: Path) -> None:
    write_camvid32(tmp_path, 1)
    victim = tmp_path / camvid32.COLORS / "0001TP_006690_L.png"
    with Image.open(victim) as image:
        colors = np.array(image)
    colors[40, 10:14] = (1, 2, 3)
    save(victim, colors)
    for path in (tmp_path / camvid32.INDEX).iterdir():
        path.unlink()
    (line,) = prepare("camvid32", tmp_path).lines
    assert line == "4 pixels with a color of no class became Void"
    assert (read_mask(tmp_path / camvid32.INDEX / victim.name)[40, 10:14] == camvid32.VOID).all()
    save(victim, np.full_like(colors, 77))
    (tmp_path / camvid32.INDEX / victim.name).unlink()
    assert refusal("camvid32", tmp_path) == f"{victim}: 3072 pixels have colors of no class of CamVid, such as 77 77 77"
