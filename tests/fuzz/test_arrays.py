"""Array files, .mat files and color tables, damaged by chance: what they say, or one line."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from fuzzing import edited, edits, read_or_refused, tries
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from shapes_data import experiment
from small_data import draw_image, draw_labels, write_folder

from crisscross.data import open_folder
from crisscross.data.files.cache import DiskCache
from crisscross.data.files.reading import read_mask
from crisscross.data.sets.camvid32 import CLASSES, open_camvid32
from crisscross.data.sets.voc import from_mat
from crisscross.engine.predict import find_images
from crisscross.engine.semantic.predict import predict_big_files
from crisscross.models import Segmenter

pytestmark = pytest.mark.slow


def saved(array: object, version: tuple[int, int] = (1, 0)) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array), version, allow_pickle=True)
    return stream.getvalue()


def zipped() -> bytes:
    stream = io.BytesIO()
    np.savez(stream, a=draw_image(1))
    return stream.getvalue()


ARRAYS = [
    *(saved(draw_image(1)), saved(draw_labels(1)), saved(draw_image(1), (2, 0)), saved(draw_image(1), (3, 0))),
    *(saved(np.asfortranarray(draw_image(1))), saved(draw_image(1).astype(">f8")), saved(np.array([{}, "x"]))),
    *(saved(np.zeros((3, 0, 3), np.uint8)), saved(np.zeros((), np.uint8)), zipped()),
]
TYPES = ["'|u1'", "'<i8'", "'|O'", "'|S0'", "[('a', '|u1')]", "('|u1', (3,))", "'|V99999999999'", "1", "'x'"]
LENGTHS = [0, 1, 3, 24, 32, -1, 2**31, 2**40, 2**63, 10**30, True, "x"]
HEADERS = st.builds(
    lambda kind, order, shape: f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}",
    st.sampled_from(TYPES),
    st.sampled_from(["True", "False", "0", "None"]),
    st.one_of(
        st.lists(st.sampled_from(LENGTHS), max_size=4).map(lambda lengths: repr(tuple(lengths))),
        st.sampled_from(["[24, 32, 3]", "(((", "()", "(24L, 32L, 3L)", "(" * 300, "24", "(1e3,)", "(\0)"]),
    ),
)


def with_header(header: str) -> bytes:
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + draw_image(1).tobytes()


@pytest.fixture(scope="module")
def network() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(experiment("data.classes=[floor, wall, door]")).eval()


@tries(4000)
@given(st.one_of(st.builds(edited, st.sampled_from(ARRAYS), edits), HEADERS.map(with_header)))
def test_array_files(tmp_path: Path, network: Segmenter, content: bytes) -> None:
    source, out = tmp_path / "a.npy", tmp_path / "out"
    source.write_bytes(content)
    (done,) = predict_big_files(network, find_images([source]), out, block=64, overlap=0)
    if done.error is not None:
        assert "\n" not in done.error and str(source) in done.error and len(done.error) < len(str(source)) + 600
        return
    values = np.lib.format.open_memmap(source, mode="r")
    assert np.array_equal(read_mask(done.written[0]), network.predict_big(values, block=64, overlap=0))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory):
    dataset = open_folder(write_folder(tmp_path_factory.mktemp("pair") / "set", {"train": 2, "val": 1}))
    return dataset.splits["train"][0], dataset


@tries(1500)
@given(st.one_of(st.builds(edited, st.sampled_from(ARRAYS), edits), HEADERS.map(with_header)))
def test_files_of_the_cache(tmp_path: Path, pair, content: bytes) -> None:
    cache = DiskCache(tmp_path / "cache")
    cache(*pair)
    (file,) = (tmp_path / "cache").iterdir()
    file.write_bytes(content)
    image, mask = cache(*pair)
    assert image.dtype == mask.dtype == np.uint8 and image.shape == (*mask.shape, 3)


def mat(labels: np.ndarray, **options: object) -> bytes:
    scipy_io, stream = pytest.importorskip("scipy.io"), io.BytesIO()
    scipy_io.savemat(stream, {"GTcls": {"Segmentation": labels, "Boundaries": np.zeros((3, 1))}}, **options)
    return stream.getvalue()


@tries(4000)
@given(st.data())
def test_mat_files(tmp_path: Path, data: st.DataObject) -> None:
    labels = draw_labels(1)
    seeds = [mat(labels), mat(labels, do_compression=True), mat(labels.astype(float)), mat(labels[:2, :2])]
    source, target = tmp_path / "a.mat", tmp_path / "a.png"
    source.write_bytes(edited(data.draw(st.sampled_from(seeds)), data.draw(edits)))
    target.unlink(missing_ok=True)
    if read_or_refused(from_mat, source, target, where=source) is None:
        assert not target.exists()
        return
    with Image.open(target) as image:
        values = np.asarray(image)
    assert values.ndim == 2 and set(np.unique(values)) <= {*range(21), 255}


WORDS = ["Animal", "Road", "Void ", "9" * 5000, "\u0663", ""]
LINES = st.lists(st.sampled_from([*CLASSES, *WORDS]) | st.text(max_size=20), max_size=4)


@tries(9000)
@given(LINES, st.integers(0, 32), st.integers(0, 3), st.sampled_from(["utf-8", "utf-16", "latin-1"]))
def test_lists_of_classes(tmp_path: Path, lines: list[str], start: int, left_out: int, encoding: str) -> None:
    text = "\n".join([*CLASSES[:start], *lines, *CLASSES[start + left_out :]])
    (tmp_path / "images").mkdir(exist_ok=True)
    (tmp_path / "labels").mkdir(exist_ok=True)
    (tmp_path / "codes.txt").write_bytes(text.encode(encoding, "replace"))
    read_or_refused(open_camvid32, tmp_path, where=tmp_path)
