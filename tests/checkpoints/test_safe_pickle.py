"""Small files that ask for much memory or depth: refused in one line before it is taken."""

import io
import json
import pickle
import struct
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import crisscross
from crisscross import models
from crisscross.checkpoints import loading, native
from crisscross.checkpoints.reading import read_content, read_state_dict
from crisscross.checkpoints.safe_pickle import DEPTH, Refused, scan
from crisscross.errors import CrissCrossError
from crisscross.instances import weights
from crisscross.instances.network import InstanceSegmenter

TENSORS = {"w": torch.arange(4.0)}


def refusal(path: Path) -> str:
    with pytest.raises(CrissCrossError) as caught:
        read_state_dict(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < len(str(path)) + 400
    return message.removeprefix(f"{path}: ")


def with_pickle(path: Path, content: bytes, **parts: bytes) -> Path:
    """A zip as torch writes it, with another pickle."""
    kept = io.BytesIO()
    torch.save(TENSORS, kept)
    with zipfile.ZipFile(kept) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("data.pkl") else parts.get(name[-1], old.read(name)))
    return path


def long(number: int) -> bytes:
    return pickle.dumps(number, protocol=2)[2:-1]


def rebuilt(size: int, stride: int) -> bytes:
    """The pickle of one tensor of `size` values over a storage of 4."""
    storage = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x04tQ"
    tensor = (
        b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + long(size) + b"\x85" + long(stride) + b"\x85"
    )
    return b"\x80\x02}X\x01\x00\x00\x00w" + tensor + b"\x89ccollections\nOrderedDict\n)RtRs."


# Nine bytes: None, kept in place 2**31 - 1 of a memo that has as many places.
NINE = b"\x80\x02Nr\xff\xff\xff\x7f."
NESTED = b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s."


@pytest.mark.parametrize("kind", ["zip", "plain", "legacy"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (NINE, "it wants a memo of 2147483647 entries for its 2 instructions"),
        # As a key it would be hashed, one call inside the other.
        (NESTED, "its values are nested more than 100 deep"),
        (b"\x80\x02]" + b"q\x00h\x00\x85" * 101 + b".", "its values are nested more than 100 deep"),
        (b"\x80\x02cbuiltins\nbytearray\n" + long(1 << 40) + b"\x85R.", "it holds builtins.bytearray"),
    ],
)
def test_pickles_that_ask_for_too_much(tmp_path, kind, content, message):
    path = tmp_path / "x.pth"
    if kind == "zip":
        with_pickle(path, content)
    elif kind == "plain":
        path.write_bytes(content)
    else:
        torch.save(TENSORS, path, _use_new_zipfile_serialization=False)
        head = [pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {})]
        assert path.read_bytes().startswith(head[0])
        path.write_bytes(b"".join(head) + content)
    assert (
        refusal(path)
        == f"refused: {message}"
        + (", which is not part of a checkpoint of tensors" if "bytearray" in message else "")
        + "; convert it to .safetensors where it came from"
    )


def test_ordinary_checkpoints_pass_the_scan(tmp_path):
    nested: list = []
    for _ in range(DEPTH - 3):
        nested = [nested]
    meta = {"names": ["x"] * 5000, "nested": nested, "pairs": {(1, 2): {3, 4}, "y": OrderedDict(a=(1.5, None, True))}}
    for protocol in range(6):
        scan(io.BytesIO(pickle.dumps(meta, protocol=protocol)))
    scan(io.BytesIO(pickle.dumps(np.arange(5), protocol=2)))
    with pytest.raises(Refused):
        scan(io.BytesIO(pickle.dumps([[[[nested]]]])))


def test_a_tensor_that_repeats_one_number(tmp_path):
    path = with_pickle(tmp_path / "x.pth", rebuilt(4, 1))
    assert torch.equal(read_state_dict(path)["w"], TENSORS["w"])
    path = with_pickle(tmp_path / "x.pth", rebuilt(1 << 40, 0))
    size = path.stat().st_size
    assert refusal(path).startswith(f"refused: its tensors take {4 << 40:,} bytes, the file has {size:,}")


def test_one_array_by_many_names(tmp_path):
    array = np.zeros(1 << 20, np.float32)
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({f"a{n}": array for n in range(1000)}, protocol=2))
    assert "refused: its tensors take 4,194,304,000 bytes, the file has 4," in refusal(tmp_path / "x.pdparams")
    # Twice is how tied weights are stored.
    (tmp_path / "x.pdparams").write_bytes(pickle.dumps({"a": array, "b": array}, protocol=2))
    assert len(read_state_dict(tmp_path / "x.pdparams")) == 2


def test_compressed_zeros(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", rebuilt(1 << 24, 1))
        archive.writestr("x/data/0", bytes(1 << 26))
        archive.writestr("x/version", b"3\n")
    assert (tmp_path / "x.pth").stat().st_size < 100_000
    assert refusal(tmp_path / "x.pth").startswith("refused: its parts are compressed, which checkpoints are not")


def test_damaged_zips_are_one_line(tmp_path):
    torch.save(TENSORS, tmp_path / "x.pth")
    whole = (tmp_path / "x.pth").read_bytes()
    rng = np.random.default_rng(0)
    read, lines = 0, set()
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, len(whole), 3):
            damaged[place] = rng.integers(256)
        (tmp_path / "x.pth").write_bytes(damaged)
        try:
            read += bool(read_content(tmp_path / "x.pth").tensors)
        except CrissCrossError as error:
            lines.add(len(str(error).splitlines()))
    # Much of such a file is padding.
    assert 0 < read < 150 and lines == {1}


class Shadowed:
    """Pickled as an `OrderedDict` with attributes that replace its methods."""

    def __reduce__(self):
        return OrderedDict, (), {"items": 5, "keys": 5, "get": 5}, None, iter(TENSORS.items())


def test_names_and_methods_of_the_file_are_not_used(tmp_path):
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.numel = parameter.isfinite = "no method"
    odd = {"p": parameter, 10**600: torch.ones(1), ("a", 1): torch.ones(1), b"c": torch.ones(1)}
    torch.save({"state_dict": odd, "meta": Shadowed()}, tmp_path / "x.pth")
    found = read_content(tmp_path / "x.pth")
    assert list(found.tensors) == ["p"] and list(found.meta) == ["w"]
    assert found.tensors["p"].numel() == 2 and type(found.tensors["p"]) is torch.Tensor
    for content in (Shadowed(), {"model": Shadowed()}):
        torch.save(content, tmp_path / "y.pth")
        assert torch.equal(read_state_dict(tmp_path / "y.pth")["w"], TENSORS["w"])


def safetensors_of(header: bytes, body: bytes = b"", length: int | None = None) -> bytes:
    return struct.pack("<Q", len(header) if length is None else length) + header + body


def entry(dtype: str, shape: list, begin: int, end: int) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@pytest.mark.parametrize(
    "content",
    [
        safetensors_of(b"{}", length=1 << 62),
        safetensors_of(b"{}", length=(1 << 64) - 1),
        safetensors_of(b"{" * 99),
        safetensors_of(b'{"a":' * 5000),
        safetensors_of(json.dumps({"a": entry("F32", [1 << 40], 0, 4 << 40)}).encode(), bytes(4)),
        safetensors_of(json.dumps({"a": entry("F32", [1 << 32, 1 << 32], 0, 4)}).encode(), bytes(4)),
        safetensors_of(json.dumps({"a": entry("F32", [-1], 0, 4)}).encode(), bytes(4)),
        safetensors_of(json.dumps({"a": entry("X9", [1], 0, 4)}).encode(), bytes(4)),
        safetensors_of(json.dumps({"a": entry("F32", [1], 4, 0)}).encode(), bytes(4)),
        safetensors_of(json.dumps({"__metadata__": {"format": 3}}).encode()),
        safetensors_of(b'{"\xff":1}'),
        safetensors_of(b'{"a":' + b"9" * 6000 + b"}"),
    ],
)
def test_headers_of_safetensors(tmp_path, content):
    (tmp_path / "x.safetensors").write_bytes(content)
    with pytest.raises(CrissCrossError, match=r"x\.safetensors: not a readable safetensors file"):
        native.read(tmp_path / "x.safetensors")
    with pytest.raises(CrissCrossError, match=r"x\.safetensors: "):
        crisscross.load(tmp_path / "x.safetensors")


def ours(path: Path, **changes: str) -> Path:
    header = {"format": native.FORMAT, "experiment": "{}", "facts": "{}"} | changes
    save_file({"head.classify.weight": torch.zeros(2, 4, 1, 1)}, path, header)
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"format": "x" * 10_000 + "\n\n"},
        {"experiment": "[" * 10_000},
        {"experiment": '{"model":' * 500 + "1" + "}" * 500},
        {"experiment": '{"model": {"channels": ' + "9" * 6000 + "}}"},
        {"experiment": '{"model": {"head": {"channels": [[[[]]]]}}}'},
        {"experiment": '{"data": {"classes": [["a"], {"b": 1}]}}'},
        {"experiment": '{"data": {"palette": [[1e400, 0, 0]]}}'},
        {"experiment": '{"preprocess": {"mean": ["a", "b", "c"]}}'},
        {"experiment": "3"},
        {"experiment": '"\\ud800"'},
        {"facts": "[" * 10_000},
        {"facts": "[]"},
        {"facts": "9" * 6000},
        {"facts": "{"},
    ],
)
def test_invalid_headers_of_our_files_are_one_short_line(tmp_path, changes):
    path = ours(tmp_path / "x.safetensors", **changes)
    for read in (native.read, crisscross.load):
        with pytest.raises(CrissCrossError) as caught:
            read(path)
        message = str(caught.value)
        assert message.startswith(f"{path}: ") and "\n" not in message and len(message) < len(str(path)) + 400


@pytest.mark.parametrize(
    "experiment",
    [
        {"model": {"head": {"channels": 1 << 14}}},
        {"model": {"aux_head": {"channels": 1 << 14}}},
        {"model": {"backbone": "vit_giant_patch14_dinov2"}},
        {"model": {"head": {"recurrence": 0, "channels": 1 << 14}}},
    ],
)
def test_a_small_file_makes_no_large_network(tmp_path, monkeypatch, experiment):
    experiment = {"data": {"classes": ["a", "b"]}} | experiment
    path = ours(tmp_path / "x.safetensors", experiment=json.dumps(experiment))
    devices = []

    def create(*arguments, **options):
        devices.append(torch.get_default_device().type)
        return models.create_segmenter(*arguments, **options)

    monkeypatch.setattr(loading, "create_segmenter", create)
    with pytest.raises(CrissCrossError) as caught:
        crisscross.load(path)
    assert devices == ["meta"] and "\n" not in str(caught.value)


def test_a_small_file_makes_no_large_network_of_instances(tmp_path, monkeypatch):
    experiment = {"task": "instances", "model": {"channels": 1 << 14}, "data": {"classes": ["a"], "categories": [1]}}
    path, devices = ours(tmp_path / "x.safetensors", experiment=json.dumps(experiment)), []

    def create(*arguments, **options):
        devices.append(torch.get_default_device().type)
        return InstanceSegmenter(*arguments, **options)

    monkeypatch.setattr(weights, "InstanceSegmenter", create)
    with pytest.raises(CrissCrossError, match=r"x\.safetensors: backbone\.body\.conv1\.weight is missing"):
        crisscross.load(path)
    assert devices == ["meta"]


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_weights_of_a_type_that_is_not_computed_with(tmp_path, dtype):
    tensor = {"decode_head.cca.query_conv.weight": torch.zeros(2, 2, 1, 1).to(dtype)}
    save_file(tensor, tmp_path / "x.safetensors")
    with pytest.raises(CrissCrossError, match=r"^x: decode_head.* holds torch\.float8_\w+, not plain numbers"):
        native.check_finite(tensor, "x")
