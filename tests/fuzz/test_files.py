"""Random files and names: every one is read, or refused in one line; none takes more memory than it may."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from fuzzing import edit, edited, edits, read_or_refused, tries
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

import crisscross
from crisscross.checkpoints import native
from crisscross.checkpoints.backbone import read_backbone_weights
from crisscross.checkpoints.reading import BYTES, TIMES, read_content
from crisscross.files import joined, output_path

pytestmark = pytest.mark.slow


TENSORS = {"decode_head.cca.query_conv.weight": torch.arange(8.0).view(2, 4, 1, 1), "b": torch.tensor(7)}


def written(**options: object) -> bytes:
    stream = io.BytesIO()
    torch.save(
        {"state_dict": TENSORS, "meta": {"CLASSES": ("a", "b"), "config": "model = dict(x=1)"}}, stream, **options
    )
    return stream.getvalue()


ARRAYS = pickle.dumps({key: (key, value.numpy()) for key, value in TENSORS.items()}, protocol=2)
BASES = [written(), written(_use_new_zipfile_serialization=False), ARRAYS, pickle.dumps({"a": TENSORS["b"].numpy()}, 4)]
HEADER = {"format": native.FORMAT, "experiment": json.dumps({"data": {"classes": ["a", "b"]}}), "facts": "{}"}
# Instructions of pickles, whole and with arguments that are drawn.
CALLS = [
    *(
        b"ctorch._utils\n_rebuild_tensor_v2\n",
        b"ccollections\nOrderedDict\n",
        b"cbuiltins\nbytearray\n",
        b"ctorch\nSize\n",
    ),
    *(b"cnumpy\nndarray\n", b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\n", b"ctorch\nFloatStorage\n"),
    *(
        b"ctorch\nFloatTensor\n",
        b"ctorch._utils\n_rebuild_parameter\n",
        b"cargparse\nNamespace\n",
        b"c_codecs\nencode\n",
    ),
    *(b"ccollections\nCounter\n", b"cpathlib\nPosixPath\n", b"ctorch\ndevice\n", b"cbuiltins\nset\n"),
]
PLAIN = [bytes([code]) for code in b"NIF)]}(tle0123asudRQb\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x92\x93\x94"]
number = st.integers(0, 255) | st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1])
instruction = st.one_of(
    st.sampled_from(PLAIN),
    st.sampled_from(CALLS),
    number.map(lambda n: b"r" + struct.pack("<I", n % 2**32)),
    number.map(lambda n: b"j" + struct.pack("<I", n % 2**32)),
    number.map(lambda n: b"\x8a\x08" + struct.pack("<Q", n)),
    number.map(lambda n: b"B" + struct.pack("<I", n % 2**32)),
    number.map(lambda n: b"\x8e" + struct.pack("<Q", n)),
    st.integers(0, 255).flatmap(lambda n: st.sampled_from([b"q", b"h", b"K"]).map(lambda code: code + bytes([n]))),
    st.text(max_size=9).map(lambda text: b"X" + struct.pack("<I", len(text.encode())) + text.encode()),
    st.sampled_from([b"\x85" * 300, b"]\x94" * 200, b"(" * 50, b"storage"]),
)


def check_content(path: Path) -> None:
    found = read_or_refused(read_content, path, where=path.name)
    if found is not None:
        total = sum(value.numel() * value.element_size() for value in found.tensors.values())
        assert total <= TIMES * path.stat().st_size + BYTES
        # What it is taken for: anything but a traceback.
        read_or_refused(crisscross.load, path, where=path.name)
        read_or_refused(read_backbone_weights, path, where=path.name)


@tries(4000)
@given(st.sampled_from(BASES), edits)
def test_damaged_checkpoints(tmp_path, base, changes):
    (tmp_path / "x.pth").write_bytes(edited(base, changes))
    check_content(tmp_path / "x.pth")


@tries(4000)
@given(st.lists(instruction, max_size=40).map(b"".join), st.sampled_from(["zip", "plain", "legacy"]))
def test_pickles_of_any_instructions(tmp_path, body, kind):
    path, content = tmp_path / "x.pth", b"\x80\x02" + body + b"."
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, part in (("x/data.pkl", content), ("x/version", b"3\n"), ("x/data/0", bytes(16))):
                archive.writestr(name, part)
    else:
        head = b"".join(pickle.dumps(value, protocol=2) for value in (0x1950A86A20F9469CFC6C, 1001, {}))
        path.write_bytes((head if kind == "legacy" else b"") + content)
    check_content(path)


@tries(400)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=8),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["model", "data", "classes", "channels", "mean", "name", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    ),
    st.lists(edit, max_size=4),
)
def test_damaged_safetensors(tmp_path, experiment, changes):
    header = HEADER | ({"experiment": json.dumps(experiment)} if not changes else {})
    (tmp_path / "x.safetensors").write_bytes(edited(save(TENSORS, header), changes))
    read_or_refused(native.read, tmp_path / "x.safetensors", where="x.safetensors")
    read_or_refused(crisscross.load, tmp_path / "x.safetensors")


@tries(5000)
@given(st.text(alphabet=st.sampled_from("./\\:~ aC\0\n\ud800ä"), max_size=12))
def test_names_never_lead_out_of_their_folder(tmp_path, name):
    folder = tmp_path / "out"
    for function in (joined, output_path):
        found = read_or_refused(function, folder, name)
        assert found is None or folder in found.resolve().parents
