"""Images of any size: blocks cover them once, and their labels are those of one pass."""

import struct

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from coarse_networks import CLASSES, expected_logits, image_of, small_segmenter, with_coarse
from image_files import png_chunk, write
from PIL import Image
from small_data import write_folder

import crisscross
from crisscross.cli import main
from crisscross.data import open_folder
from crisscross.data.files import big
from crisscross.data.files.cache import DiskCache
from crisscross.data.files.reading import open_array
from crisscross.engine.predict import find_images
from crisscross.engine.semantic import predict
from crisscross.errors import CrissCrossError
from crisscross.inference.tiles import blocks


def own_eight(x):
    """Each position sees its own 8 x 8 pixels."""
    weight = torch.randn(CLASSES, 3, 8, 8, generator=torch.Generator().manual_seed(5)) / 4
    return F.conv2d(x, weight, stride=8)


def around_corner(x):
    """Position p sees 3 x 3 pixels around pixel 8 p, so that corners lie on corners in images of 8 m + 1 pixels."""
    weight = torch.randn(CLASSES, 3, 3, 3, generator=torch.Generator().manual_seed(5)) / 2
    return F.conv2d(x, weight, stride=8, padding=1)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (64, 96), (300, 1000), (97, 4097), (1023, 65), (129, 161)])
@pytest.mark.parametrize(("block", "overlap"), [(64, 0), (96, 32), (100, 33), (128, 127)])
def test_kept_parts_cover_the_image_once_with_context_around_them(height, width, block, overlap, align_corners):
    count = np.zeros((height, width), int)
    parts = blocks(height, width, block, overlap, align_corners)
    for part in parts:
        count[part.keep] += 1
        for axis, length in enumerate((height, width)):
            read, keep, inside = part.read[axis], part.keep[axis], part.inside[axis]
            assert 0 <= read.start <= keep.start < keep.stop <= read.stop <= length
            assert (inside.start, inside.stop) == (keep.start - read.start, keep.stop - read.start)
            assert read.start % 32 == 0
            assert keep.start == 0 or keep.start - read.start >= overlap // 2
            assert keep.stop == length or read.stop - keep.stop >= overlap // 2
            # Rounded up, a corner more, a longer end; and room for the overlap.
            assert read.stop - read.start <= block + 31 + 1 + 31 + 64
    assert (count == 1).all()


def test_blocks_by_hand():
    found = blocks(64, 10000, 1024, 256, False)
    reads = [(part.read[1].start, part.read[1].stop) for part in found]
    # Steps of 768; the last begins at the last multiple of 32 from where it reaches the end: 8976 -> 8960.
    assert reads == [(768 * n, 768 * n + 1024) for n in range(12)] + [(8960, 10000)]
    keeps = [(part.keep[1].start, part.keep[1].stop) for part in found]
    assert keeps[:2] == [(0, 896), (896, 1664)]
    # 11 * 768 + 1024 = 9472 and 8960 share 512 pixels; the middle is 9216.
    assert keeps[-2:] == [(8576, 9216), (9216, 10000)]
    assert {(part.read[0].start, part.read[0].stop) for part in found} == {(0, 64)}


@pytest.mark.parametrize(
    ("function", "align_corners", "height", "width"), [(own_eight, False, 352, 480), (around_corner, True, 353, 481)]
)
def test_blocks_give_the_labels_of_one_pass(function, align_corners, height, width):
    # A small view: with 32 pixels of context nothing may differ but ties.
    segmenter = with_coarse(function, align_corners)
    image = image_of(height, width)
    labels = segmenter.predict_big(image, block=128, overlap=64)
    assert labels.dtype == np.uint8 and labels.shape == (height, width)
    logits = expected_logits(segmenter, image, function)
    best, second = logits.topk(2, 0).values
    clear = (best - second > 1e-4).numpy()
    assert clear.mean() > 0.999
    assert np.array_equal(labels[clear], logits.argmax(0).numpy()[clear])
    assert len(blocks(height, width, 128, 64, align_corners)) > 20


def test_each_block_is_an_image_at_native_size_whatever_the_test_scale():
    seen = []

    def spy(x):
        seen.append(tuple(x.shape[-2:]))
        return own_eight(x)

    segmenter = with_coarse(spy, scale=(40, 30), ratios=(0.5, 1.0), flip=False)
    told = []
    segmenter.predict_big(image_of(64, 160), 96, 32, done=lambda *numbers: told.append(numbers))
    assert seen == [(64, 96), (64, 96)] and told == [(1, 2), (2, 2)]
    seen.clear()
    segmenter.predict_big(image_of(64, 160), 96, 32, tta=True)
    assert seen == [(32, 48), (64, 96)] * 2


def test_memory_mapped_files_in_and_out_and_grey_arrays(tmp_path):
    segmenter, image = with_coarse(own_eight), image_of(96, 200)
    expected = segmenter.predict_big(image, 64, 32)
    np.save(tmp_path / "p.npy", image)
    mapped = np.load(tmp_path / "p.npy", mmap_mode="r")
    out = np.lib.format.open_memmap(tmp_path / "labels.npy", "w+", np.uint8, (96, 200))
    assert segmenter.predict_big(mapped, 64, 32, out=out) is out
    out.flush()
    assert np.array_equal(np.load(tmp_path / "labels.npy"), expected)
    gray = image[..., 0]
    assert np.array_equal(
        segmenter.predict_big(gray, 64, 32), segmenter.predict_big(gray[..., None].repeat(3, 2), 64, 32)
    )


def test_masked_pixels_get_the_ignored_label_and_masked_blocks_no_pass():
    seen = []

    def spy(x):
        seen.append(tuple(x.shape[-2:]))
        return own_eight(x)

    segmenter, image = with_coarse(spy), image_of(160, 160)
    expected = segmenter.predict_big(image, 64, 32)
    total = len(seen)
    hidden = np.zeros((160, 160, 3), bool)
    hidden[:100, :100] = True
    # Hidden in one channel is not hidden.
    hidden[100:, 100:, 1] = True
    seen.clear()
    labels = segmenter.predict_big(np.ma.MaskedArray(image, hidden), 64, 32)
    assert (labels[:100, :100] == 255).all()
    elsewhere = ~hidden.all(2)
    assert np.array_equal(labels[elsewhere], expected[elsewhere])
    # Kept are rows 0 to 48, 48 to 80, 80 to 112 and 112 to 160: two by two of 16 blocks are hidden.
    assert (total, len(seen)) == (16, 12)
    gray = np.ma.MaskedArray(image[..., 0], hidden[..., 0])
    assert ((segmenter.predict_big(gray, 64, 32) == 255) == hidden[..., 0]).all()


class Strict:
    """What `predict_big` may ask of an image and of labels, and what it asked for."""

    def __init__(self, values):
        self.values, self.shape, self.dtype, self.asked = values, values.shape, values.dtype, []

    def __getitem__(self, part):
        self.asked.append(part)
        return self.values[part]

    def __setitem__(self, part, labels):
        self.asked.append(part)
        self.values[part] = labels


def test_anything_of_which_parts_are_read_and_written():
    segmenter, image = with_coarse(own_eight), image_of(100, 150)
    source, target = Strict(image), Strict(np.zeros((100, 150), np.uint8))
    assert segmenter.predict_big(source, 64, 32, out=target) is target
    assert np.array_equal(target.values, segmenter.predict_big(image, 64, 32))
    parts = blocks(100, 150, 64, 32, False)
    assert source.asked == [part.read for part in parts] and target.asked == [part.keep for part in parts]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((4, 4, 3)),), r"uint8 array \[H, W, 3\] or \[H, W\], got float64 \[4, 4, 3\]"),
        ((np.zeros((4, 4, 4), np.uint8),), r"got uint8 \[4, 4, 4\]"),
        ((np.zeros((4, 4), np.uint8), 64, 64), r"overlap must be at least 0 and below block \(64\), got 64"),
        ((np.zeros((4, 4), np.uint8), 64, 0, False, np.zeros((4, 5), np.uint8)), r"out must be uint8 \[4, 4\]"),
    ],
)
def test_what_cannot_be_labeled_is_refused(arguments, message):
    with pytest.raises(CrissCrossError, match=message):
        with_coarse(own_eight).predict_big(*arguments)


def test_big_images_from_the_command_line(tmp_path, capsys):
    segmenter = small_segmenter()
    crisscross.save(segmenter, tmp_path / "net.safetensors")
    image = image_of(100, 180)
    np.save(tmp_path / "a.npy", image)
    Image.fromarray(image).save(tmp_path / "b.png")
    (tmp_path / "c.npy").write_bytes(b"nothing")
    words = ["predict", str(tmp_path / "net.safetensors"), *(str(tmp_path / name) for name in ("a.npy", "b.png"))]
    out = tmp_path / "out"
    assert main([*words, "--out", str(out), "--big", "--block", "64"]) == 0
    assert sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png")) == ["labels/a.png", "labels/b.png"]
    # The weights file holds half the digits.
    expected = crisscross.load(tmp_path / "net.safetensors").predict_big(image, 64, 16)
    for name in ("a", "b"):
        assert (np.asarray(Image.open(out / "labels" / f"{name}.png")) == expected).mean() > 0.999
    assert "(labels/, classes.json)" in capsys.readouterr().out
    assert main([*words[:2], str(tmp_path / "c.npy"), "--out", str(out), "--big"]) == 2
    assert "c.npy: not a readable array file" in capsys.readouterr().err


def test_a_path_is_read(tmp_path):
    image, segmenter = image_of(70, 90), small_segmenter()
    Image.fromarray(image).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", image)
    expected = segmenter.predict_big(image, 64, 16)
    for path in (tmp_path / "a.npy", str(tmp_path / "a.png")):
        assert np.array_equal(segmenter.predict_big(path, 64, 16), expected)
    with pytest.raises(CrissCrossError, match="must be a path or a uint8 array, got NoneType"):
        segmenter.predict_big(None)


def test_a_file_beyond_the_bound_is_read_as_far_as_the_memory_goes(tmp_path, monkeypatch):
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", 13300, 13300, 8, 0, 0, 0, 0))
    path = write(tmp_path / "a.png", b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b""))
    monkeypatch.setattr(big, "free_memory", lambda: 2**30)
    (result,) = predict.predict_big_files(small_segmenter(), find_images([path]), tmp_path / "out", 64, 32)
    assert result.error == (
        f"{path}: 13300 x 13300 pixels take 2.8 GiB to decode, 1.0 are free; save it as an array file (.npy), which is "
        "read block by block"
    )
    asked = []

    def read(path, most_pixels):
        asked.append(most_pixels)
        return image_of(9, 9)

    monkeypatch.setattr(big, "free_memory", lambda: 2**32)
    monkeypatch.setattr(big, "read_image", lambda path, most_pixels: asked.append(most_pixels) or image_of(9, 9))
    (result,) = predict.predict_big_files(small_segmenter(), find_images([path]), tmp_path / "out", 64, 32)
    assert (result.error, asked) == (None, [None])


def test_blocks_are_for_big_images(tmp_path, capsys):
    message = "--block is for --big"
    assert main(["predict", "camvid-light", str(tmp_path), "--block", "64"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.slow
def test_more_pixels_than_pillow_opens(tmp_path):
    """196 million pixels: a file that is mostly a hole, in far less memory than its labels' logits would take."""
    height = width = 14000
    mapped = np.lib.format.open_memmap(tmp_path / "big.npy", "w+", np.uint8, (height, width, 3))
    mapped[:512, :512] = corner = image_of(512, 512)
    segmenter = with_coarse(own_eight)
    labels = segmenter.predict_big(np.load(tmp_path / "big.npy", mmap_mode="r"))
    assert np.array_equal(labels[:480, :480], segmenter.predict(corner).labels[:480, :480])
    assert len(np.unique(labels[600:])) == 1


@pytest.mark.parametrize("content", ["zip", "bracket", "length", "negative", "no extent", "objects"])
def test_array_files_that_are_none_are_one_line_everywhere(tmp_path, content):
    path, cache = tmp_path / "a.npy", DiskCache(tmp_path / "cache")
    if content == "zip":
        with path.open("wb") as file:
            np.savez(file, a=np.zeros((2, 3), np.uint8))
    elif content == "objects":
        np.save(path, np.array([{}, "x"], object), allow_pickle=True)
    else:
        kind = "|S0" if content == "no extent" else "|u1"
        shape = {"bracket": "(((", "length": f"({2**40}, {2**40})", "negative": "(-1, 3)"}.get(content, "(2, 3)")
        header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(CrissCrossError, match=r"^\S*a\.npy: not a readable array file: [^\n]{1,200}$"):
        open_array(path)
    # What a cache holds is made again where it is damaged.
    dataset = open_folder(write_folder(tmp_path / "set", {"train": 2, "val": 1}))
    pair = dataset.splits["train"][0]
    wanted = cache(pair, dataset)
    (kept,) = (tmp_path / "cache").iterdir()
    kept.write_bytes(path.read_bytes())
    for again, array in zip(cache(pair, dataset), wanted, strict=True):
        assert np.array_equal(again, array)
