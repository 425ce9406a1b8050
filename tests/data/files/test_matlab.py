"""MATLAB files, against those that SciPy writes."""

import struct
from pathlib import Path

import numpy as np
import pytest

from crisscross.data.files.matlab import read_field


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", ["u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"])
def test_numbers_of_mat_files_are_those_that_were_saved(tmp_path: Path, kind: str, packed: bool) -> None:
    scipy_io, path = pytest.importorskip("scipy.io"), tmp_path / "a.mat"
    values = np.arange(12).reshape(3, 4).astype(kind)
    others = {"Boundaries": np.array([np.eye(2), "x"], object), "CategoriesPresent": [1, 2], "Segmentation": values}
    scipy_io.savemat(path, {"first": np.eye(3), "GTcls": others, "last": "x"}, do_compression=packed)
    found = read_field(path, "GTcls", "Segmentation")
    assert found.dtype == kind and np.array_equal(found, values)
    with pytest.raises(ValueError, match=r"no GTcls\.Boundary in it"):
        read_field(path, "GTcls", "Boundary")
    whole = path.read_bytes()
    for length in range(0, len(whole) - 100, 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^(not a MATLAB file|cut off|damaged: |no GTcls|it holds|GTcls is not)"):
            read_field(path, "GTcls", "Segmentation")


def test_labels_that_announce_other_sizes_are_refused(tmp_path: Path) -> None:
    scipy_io, path = pytest.importorskip("scipy.io"), tmp_path / "a.mat"
    scipy_io.savemat(path, {"GTcls": {"Segmentation": np.zeros((3, 4), np.uint8)}})
    whole = path.read_bytes()
    for shape in ((2**31 - 1, 2**31 - 1), (-3, -4), (3, 5), (0, 4)):
        path.write_bytes(whole.replace(struct.pack("<ii", 3, 4), struct.pack("<ii", *shape)))
        with pytest.raises(ValueError, match="it holds 12 numbers, but its shape is"):
            read_field(path, "GTcls", "Segmentation")
