"""Reading other publishers' files: additional content, other kinds of files, and code."""

import argparse
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import crisscross
from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.checkpoints.reading import read_content, read_state_dict
from crisscross.errors import CrissCrossError

TENSORS = {"a.weight": torch.arange(6.0).view(2, 3), "b": torch.tensor(7)}
FORMATS = {"zip": {}, "legacy": {"_use_new_zipfile_serialization": False}}


def refusal(path):
    with pytest.raises(CrissCrossError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message
    return message.removeprefix(f"{path}: ")


def same(found, expected=TENSORS):
    return found.keys() == expected.keys() and all(torch.equal(found[key], expected[key]) for key in expected)


class HistoryBuffer:
    """As MMEngine pickles its log: arrays, and methods of the class."""

    def __init__(self):
        self.__dict__ |= {
            "_log_history": np.arange(3.0),
            "_count": np.int64(3),
            "methods": {"mean": HistoryBuffer.mean},
        }

    def mean(self):
        raise AssertionError("nothing of this is called")


class ConfigDict(dict):
    """As MMEngine pickles its mapping: rebuilt from a plain one."""

    def __reduce_ex__(self, protocol):
        return type(self), (dict(self),)


@pytest.fixture
def mmengine(monkeypatch):
    """A package of that name while a file is written; it does not exist when the file is read."""
    homes = {HistoryBuffer: "mmengine.logging.history_buffer", ConfigDict: "mmengine.config.config"}
    with monkeypatch.context() as patch:
        for kind, home in homes.items():
            for end in (8, home.rindex("."), len(home)):
                name = home[:end]
                patch.setitem(sys.modules, name, sys.modules.get(name) or types.ModuleType(name))
            patch.setattr(sys.modules[home], kind.__name__, kind, raising=False)
            patch.setattr(kind, "__module__", home)
        patch.setattr(HistoryBuffer.mean, "__module__", homes[HistoryBuffer])
        yield patch


@pytest.mark.parametrize("kind", FORMATS)
def test_a_training_checkpoint_of_mmengine_is_read_without_mmengine(tmp_path, mmengine, kind):
    meta = {"iter": 5, "dataset_meta": {"classes": ("x", "y")}, "best": np.float64(0.5), "config": ConfigDict(a=1)}
    content = {"meta": meta, "state_dict": OrderedDict(TENSORS), "optimizer": {"state": {0: {"m": torch.ones(2)}}}}
    content["message_hub"] = {"log_scalars": OrderedDict(loss=HistoryBuffer())}
    torch.save(content, tmp_path / "x.pth", **FORMATS[kind])
    mmengine.undo()
    assert "mmengine" not in sys.modules
    found = read_content(tmp_path / "x.pth")
    assert same(found.tensors)
    assert found.meta == meta and type(found.meta["config"]) is dict


@pytest.mark.parametrize("kind", FORMATS)
def test_options_paths_and_numbers_of_numpy_are_harmless(tmp_path, kind):
    args = argparse.Namespace(lr=0.1, out=Path("runs/1"))
    content = {"model": TENSORS, "args": args, "scores": np.ones((2, 2), np.float32), "best": np.float32(1)}
    torch.save(content, tmp_path / "x.pth", **FORMATS[kind])
    assert same(read_state_dict(tmp_path / "x.pth"))


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_prefixes_of_training_wrappers_are_removed(tmp_path, prefix):
    torch.save({f"{prefix}{key}": value for key, value in TENSORS.items()}, tmp_path / "x.pt")
    assert same(read_state_dict(tmp_path / "x.pt"))


class Runs:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder, by="mkdir"):
        self.folder, self.by = folder, by

    def __reduce__(self):
        if self.by == "eval":
            return eval, (f"__import__('os').mkdir({str(self.folder)!r})",)
        if self.by == "method":
            return Path.mkdir, (self.folder,)
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    ("by", "name"),
    [("mkdir", f"{os.mkdir.__module__}.mkdir"), ("eval", "builtins.eval"), ("method", "builtins.getattr")],
)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pdparams", "pdparams 4"])
def test_code_in_a_checkpoint_is_refused_by_name_and_does_not_run(tmp_path, kind, by, name):
    witness = tmp_path / "ran"
    content = {**TENSORS, "evil": Runs(witness, by)}
    path = tmp_path / ("x.pdparams" if "pdparams" in kind else "x.pth")
    if "pdparams" in kind:
        arrays = {key: value.numpy() if isinstance(value, torch.Tensor) else value for key, value in content.items()}
        path.write_bytes(pickle.dumps(arrays, protocol=4 if "4" in kind else 2))
    else:
        torch.save(content, path, **FORMATS[kind])
    message = refusal(path)
    # Protocol 4 names a method by itself, the earlier ones by getattr.
    name = "pathlib.Path.mkdir" if (kind, by) == ("pdparams 4", "method") else name
    assert message == f"refused: it holds {name}, which could run code; convert it to .safetensors where it came from"
    with pytest.raises(CrissCrossError, match="refused"):
        crisscross.load(path)
    assert not witness.exists()
    # The witness works: read without care, the same bytes do run code.
    pickle.loads(path.read_bytes()) if "pdparams" in kind else torch.load(path, weights_only=False)
    assert witness.is_dir()


def test_attributes_of_anything_but_a_stand_in_are_refused(tmp_path):
    class Reaches:
        def __reduce__(self):
            return getattr, (OrderedDict, "fromkeys")

    torch.save({**TENSORS, "x": Reaches()}, tmp_path / "x.pth")
    assert "builtins.getattr" in refusal(tmp_path / "x.pth")


class ForgedKind:
    """A numpy dtype whose fields are objects while its flags deny it: bytes of the file would become pointers."""

    def __reduce__(self):
        return np.dtype, ("V8", False, True), (3, "|", None, ("a",), {"a": (np.dtype("O"), 0)}, 8, 1, 0)


class Forged:
    """An array of numpy by the arguments that its pickle holds."""

    def __init__(self, shape, kind, content):
        self.state = (1, shape, kind, False, content)

    def __reduce__(self):
        return np.zeros(1).__reduce__()[0], (np.ndarray, (0,), b"b"), self.state


@pytest.mark.parametrize(
    ("forged", "message"),
    [
        (Forged((1,), ForgedKind(), bytes(8)), "numpy values of type 'V8' are not read"),
        (Forged((1,), np.dtype("O"), [1, 2]), "whose number of objects differs from its shape"),
    ],
)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pdparams"])
def test_bytes_of_a_file_do_not_become_pointers_in_numpy(tmp_path, kind, forged, message):
    path = tmp_path / "x.pth"
    if kind == "pdparams":
        path.write_bytes(pickle.dumps({"a": forged}, protocol=2))
    else:
        torch.save({**TENSORS, "x": forged}, path, **FORMATS[kind])
    assert message in refusal(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_plain_values_of_numpy_are_read_as_they_were(tmp_path, kind):
    values = [
        np.arange(6.0).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=">i2").reshape(2, 3)),
        np.array(["road", "Straße"]),
        np.array([1, "x"], dtype=object),
        np.array(7),
        np.array([]),
    ]
    scalars = [np.float64(0.5), np.dtype(">u4").type(9), np.str_("x"), np.str_(""), np.bool_(True)]
    torch.save(
        {"state_dict": TENSORS, "meta": {"values": values, "scalars": scalars}}, tmp_path / "x.pth", **FORMATS[kind]
    )
    found = read_content(tmp_path / "x.pth").meta
    for one, other in zip(found["values"], values, strict=True):
        assert one.dtype == other.dtype.newbyteorder("=") and one.shape == other.shape and (one == other).all()
    assert found["scalars"] == scalars and [type(value) for value in found["scalars"]] == list(map(type, scalars))


def test_a_whole_pickled_network_is_refused_by_the_name_of_its_class(tmp_path):
    torch.save(torch.nn.Sequential(torch.nn.Linear(2, 2)), tmp_path / "x.pth")
    assert "it holds torch.nn.modules.container.Sequential, which could run code" in refusal(tmp_path / "x.pth")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file; the download failed"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "an HTML page, not a checkpoint; the download failed"),
        (b"\n <html lang='en'>", "an HTML page, not a checkpoint; the download failed"),
        (b"<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>", "an HTML page, not a checkpoint"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 199\n", "a Git LFS pointer"),
        (b'{"error": "not found"}', "text, not a checkpoint; the download failed"),
        (b"\x1f\x8b\x08\x00" + bytes(80), "a compressed archive; unpack it"),
        (b"PK\x03\x04" + bytes(80), "truncated: the end of the file is missing"),
        (b"\x80\x02}q\x00X\x05\x00", "not a readable checkpoint (truncated or of another kind)"),
        (bytes(200), "not a readable checkpoint"),
    ],
)
@pytest.mark.parametrize("suffix", ["pth", "pdparams", "safetensors"])
def test_other_kinds_of_files_are_named(tmp_path, content, message, suffix):
    (tmp_path / f"x.{suffix}").write_bytes(content)
    if suffix == "safetensors":
        with pytest.raises(CrissCrossError) as caught:
            crisscross.load(tmp_path / "x.safetensors")
        kinds = ("truncated: ", "not a readable checkpoint")
        expected = "not a readable safetensors file" if message.startswith(kinds) else message
        assert str(caught.value).startswith(f"{tmp_path / 'x.safetensors'}: {expected}")
        return
    found = refusal(tmp_path / f"x.{suffix}")
    # All zeros are no pickle at all; torch's reader says so in its own words.
    assert found.startswith(message) or (content == bytes(200) and "refused: it is no checkpoint" in found)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_a_truncated_checkpoint(tmp_path, kind, share):
    torch.save({"a": torch.randn(100, 100)}, tmp_path / "x.pth", **FORMATS[kind])
    whole = (tmp_path / "x.pth").read_bytes()
    (tmp_path / "x.pth").write_bytes(whole[: int(len(whole) * share)])
    assert "truncated" in refusal(tmp_path / "x.pth")


def test_zip_files_of_other_kinds(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w") as archive:
        archive.writestr("readme.txt", "hello")
    assert refusal(tmp_path / "x.pth") == "a zip file (with readme.txt), not a checkpoint"
    with zipfile.ZipFile(tmp_path / "y.pt", "w") as archive:
        for name in ("y/data.pkl", "y/constants.pkl", "y/code/__torch__.py"):
            archive.writestr(name, b"\x80\x02}.")
    assert refusal(tmp_path / "y.pt").startswith("refused: a TorchScript archive")


def test_a_safetensors_file_by_another_name(tmp_path):
    save_file(TENSORS, tmp_path / "x.pth")
    assert refusal(tmp_path / "x.pth") == "a safetensors file; name it .safetensors"


@pytest.mark.parametrize("protocol", [2, 3, 4])
@pytest.mark.parametrize("named", [False, True])
def test_arrays_of_paddle(tmp_path, protocol, named):
    arrays = {key: value.numpy() for key, value in TENSORS.items()}
    content = {key: (f"conv2d_{i}.w_0", array) for i, (key, array) in enumerate(arrays.items())} if named else arrays
    content = content | {"StructuredToParameterName@@": {"a.weight": "conv2d_0.w_0"}}
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps(content, protocol=protocol))
    assert same(read_state_dict(tmp_path / "x.pdparams"))
    # By another name it is the same file.
    (tmp_path / "x.pdparams").rename(tmp_path / "x.pth")
    assert same(read_backbone_weights(tmp_path / "x.pth"))


def test_arrays_that_are_not_numbers(tmp_path):
    for kind, values in (("object", [1, "x"]), ("longdouble", [1, 2])):
        array = np.array(values, dtype=kind)
        (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"a": array}, protocol=2))
        message = f"a holds values of type {array.dtype}, which no network has"
        assert refusal(tmp_path / "x.pdparams") == message
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps([1, 2], protocol=2))
    assert refusal(tmp_path / "x.pdparams") == "holds no tensors"
