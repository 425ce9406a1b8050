"""Images that are damaged, huge, no files, or of formats that nobody asked for: one line, at once."""

import io
import os
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from image_files import png, png_chunk, tiff, write
from PIL import Image, ImageFile
from small_data import draw_image, draw_labels, write_folder

from crisscross.data.check.checks import check, quick_check
from crisscross.data.files.decoding import MOST_PIXELS
from crisscross.data.files.reading import read_header, read_image, read_mask
from crisscross.data.sets.folder import open_folder
from crisscross.engine.predict import find_images
from crisscross.errors import CrissCrossError, CrissCrossWarning

READERS = (read_image, read_mask, read_header)


def outcome(read, path: Path) -> np.ndarray | str:
    try:
        return read(path)
    except CrissCrossError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def encoded(image: np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, kind, **options)
    return file.getvalue()


# PNG: every bit is covered by a checksum


def test_one_wrong_bit_anywhere_in_a_png(tmp_path: Path) -> None:
    # A palette and text, too: their damage leaves the pixels as they are, but nobody can know.
    labels = draw_labels(1, 12, 16) % 3
    content = png(labels, 8, 3, png_chunk(b"PLTE", bytes(9)) + png_chunk(b"tEXt", b"Comment\0none"))
    assert np.array_equal(read_mask(write(tmp_path / "a.png", content)), labels)
    for place in range(8, len(content)):
        damaged = bytearray(content)
        damaged[place] ^= 1 << place % 8
        for read in (read_mask, read_image):
            assert isinstance(outcome(read, write(tmp_path / "a.png", damaged)), str), place


def test_a_png_names_the_chunk_that_is_damaged_or_cut(tmp_path: Path) -> None:
    content = png(draw_labels(1, 30, 40))
    assert content[37:41] == b"IDAT"
    damaged = bytearray(content)
    damaged[50] ^= 1
    expected = "cannot be read: damaged: the checksum of the chunk IDAT at byte 33 is wrong"
    assert outcome(read_mask, write(tmp_path / "a.png", damaged)) == expected
    assert outcome(read_mask, write(tmp_path / "b.png", content[:-12])).endswith("its end chunk (IEND) is missing")
    assert "cut off in the chunk IDAT at byte 33" in outcome(read_mask, write(tmp_path / "c.png", content[:60]))


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "bits"), [(0, 1), (0, 8), (0, 16), (2, 8), (3, 4), (6, 16)])
def test_a_png_with_right_checksums_and_missing_rows(tmp_path: Path, color: int, bits: int, interlaced: bool) -> None:
    bands = {0: 1, 2: 3, 3: 1, 6: 4}[color]
    # Black at the end, where black is no sign of anything.
    values = np.ones((13, 9, bands), np.uint32)
    values[-3:] = 0
    palette = png_chunk(b"PLTE", bytes(48)) if color == 3 else b""
    whole = png(values, bits, color, palette, interlaced)
    assert read_image(write(tmp_path / "a.png", whole)).shape == (13, 9, 3)
    place = whole.index(b"IDAT") - 4
    packed = whole[place + 8 : place + 8 + int.from_bytes(whole[place : place + 4], "big")]
    pixels = zlib.decompress(packed)
    for count in (len(pixels) - 1, len(pixels) // 2, 3):
        short = png_chunk(b"IDAT", zlib.compress(pixels[:count])) + png_chunk(b"IEND", b"")
        message = outcome(read_image, write(tmp_path / "b.png", whole[:place] + short))
        assert isinstance(message, str), count
        assert "cut off" in message or "truncated" in message


def test_data_check_names_damaged_and_lossy_masks(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"train": 3})
    masks = sorted((root / "masks").iterdir())
    damaged = bytearray(masks[0].read_bytes())
    damaged[damaged.index(b"IDAT") + 9] ^= 4
    masks[0].write_bytes(damaged)
    masks[1].write_bytes(encoded(draw_labels(1), "JPEG", quality=95))
    said = {problem.file: problem.text for problem in check(open_folder(root)).problems}
    assert "the checksum of the chunk IDAT" in said[masks[0]]
    assert said[masks[1]].startswith("a mask compressed with loss (JPEG)")
    assert masks[2] not in said
    # The look at the heads, before training, sees the lossy one.
    with pytest.raises(CrissCrossError, match=f"{masks[1].name}: a mask compressed with loss"):
        quick_check(open_folder(root), ["train"])


# JPEG, WebP: what their structure tells


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    return np.clip(draw_image(1, 96, 128) + np.random.default_rng(0).normal(0, 9, (96, 128, 3)), 0, 255).astype(
        np.uint8
    )


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("restarts", [0, 3])
@pytest.mark.parametrize("kind", ["RGB", "L", "CMYK"])
def test_a_jpeg_cut_anywhere_though_its_end_marker_was_put_back(
    tmp_path: Path, noisy: np.ndarray, progressive: bool, restarts: int, kind: str
) -> None:
    image = np.asarray(Image.fromarray(noisy).convert(kind))
    file = io.BytesIO()
    Image.fromarray(image, kind).save(file, "JPEG", progressive=progressive, restart_marker_blocks=restarts)
    whole = file.getvalue()
    assert read_image(write(tmp_path / "a.jpg", whole)).shape == (96, 128, 3)
    scans = [place for place in range(len(whole)) if whole[place : place + 2] == b"\xff\xda"]
    # The last scan of a progressive JPEG only sharpens: that it ends early is seen by its restart markers alone.
    end = scans[-1] if progressive and not restarts else len(whole) - 60
    for place in range(scans[0] + 20, end, 97):
        assert "cut off" in outcome(read_image, write(tmp_path / "b.jpg", whole[:place])), place
        patched = whole[:place].rstrip(b"\xff") + b"\xff\xd9"
        assert isinstance(outcome(read_image, write(tmp_path / "c.jpg", patched)), str), place


def test_markers_that_a_jpeg_misses_or_has_too_many(tmp_path: Path, noisy: np.ndarray) -> None:
    whole = encoded(noisy, "JPEG", restart_marker_blocks=4)
    place = whole.index(b"\xff\xd2")
    expected = "damaged: restart markers are missing or misplaced"
    assert expected in outcome(read_image, write(tmp_path / "a.jpg", whole[:place] + whole[place + 2 :]))
    assert expected in outcome(read_image, write(tmp_path / "b.jpg", whole[:place] + b"\xff\xd5" + whole[place + 2 :]))
    assert "no JPEG marker at byte" in outcome(read_image, write(tmp_path / "c.jpg", whole[:20] + b"abc" + whole[20:]))
    # Filling before a marker, and anything behind the end, are allowed.
    again = whole[:20] + b"\xff\xff" + whole[20:] + b"more"
    assert np.array_equal(read_image(write(tmp_path / "d.jpg", again)), read_image(write(tmp_path / "e.jpg", whole)))


def test_a_whole_jpeg_that_ends_grey_is_read(tmp_path: Path) -> None:
    gray = np.full((40, 50, 3), 128, np.uint8)
    assert np.array_equal(read_image(write(tmp_path / "a.jpg", encoded(gray, "JPEG"))), gray)


@pytest.mark.parametrize("lossless", [False, True])
def test_a_webp_cut_anywhere(tmp_path: Path, noisy: np.ndarray, lossless: bool) -> None:
    whole = encoded(noisy, "WEBP", lossless=lossless)
    for place in range(12, len(whole), len(whole) // 40):
        for read in READERS:
            assert isinstance(outcome(read, write(tmp_path / "a.webp", whole[:place])), str)


@pytest.mark.parametrize("compression", [1, 8, 32773])
def test_a_tiff_cut_anywhere(tmp_path: Path, compression: int) -> None:
    whole = tiff(draw_image(1, 20, 30), 8, 2, compression=compression)
    assert np.array_equal(read_image(write(tmp_path / "a.tif", whole)), draw_image(1, 20, 30))
    for place in range(8, len(whole), len(whole) // 40):
        for read in READERS:
            assert isinstance(outcome(read, write(tmp_path / "a.tif", whole[:place])), str)


def test_truncated_images_are_never_filled_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    path = write(tmp_path / "a.bmp", encoded(draw_image(1), "BMP")[:200])
    assert "LOAD_TRUNCATED_IMAGES is set" in outcome(read_image, path)


# Sizes


def zeros(width: int, height: int) -> bytes:
    """A gray PNG of zeros, some bytes for each million of pixels."""
    packer = zlib.compressobj(9)
    body = b"".join(packer.compress(bytes(width + 1)) for _ in range(height)) + packer.flush()
    head = png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def many_pixels(kind: str) -> bytes:
    """Heads that announce 13300 x 13300 pixels, and hold none."""
    side = 13300
    if kind == "png":
        head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
        return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", b"") + png_chunk(b"IEND", b"")
    if kind == "jpg":
        small = encoded(draw_image(1, 16, 16), "JPEG")
        place = small.index(b"\xff\xc0") + 5
        return small[:place] + struct.pack(">HH", side, side) + small[place + 4 :]
    if kind == "bmp":
        small = encoded(draw_image(1, 16, 16), "BMP")
        return small[:18] + struct.pack("<II", side, side) + small[26:]
    if kind == "ppm":
        return b"P6\n%d %d\n255\n" % (side, side)
    if kind == "tif":
        sizes = [(256, 4, [side]), (257, 4, [side]), (278, 4, [side]), (279, 4, [9]), (273, 4, [8])]
        return tiff(draw_image(1, 4, 4), 8, 2, compression=8, more=sizes)
    if kind == "webp":
        packed = (side - 1) | (side - 1) << 14
        return b"RIFF" + struct.pack("<I4s4sI", 18, b"WEBP", b"VP8L", 5) + b"\x2f" + struct.pack("<I", packed) + b"\0"
    raise ValueError(kind)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "ppm", "tif", "webp"])
def test_a_size_is_refused_before_anything_is_decoded(tmp_path: Path, kind: str) -> None:
    path = write(tmp_path / f"a.{kind}", many_pixels(kind))
    for read in READERS:
        message = outcome(read, path)
        assert message.startswith(f"cannot be read: 13300 x 13300 pixels are more than {MOST_PIXELS}: ")
        assert "crisscross predict --big" in message


def test_more_pixels_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Also beyond the bounds of Pillow itself, which are warnings or errors.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    path = write(tmp_path / "a.png", zeros(100, 80))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_image(path).shape == (80, 100, 3)
    assert "are more than 7999" in outcome(lambda path: read_image(path, most_pixels=7999), path)
    assert read_image(path, most_pixels=None).shape == (80, 100, 3)


def test_directories_that_announce_more_than_the_file_holds(tmp_path: Path) -> None:
    # 1000 entries that all name the same bytes.
    body = bytes(10000)
    table = b"".join(struct.pack("<HHII", 1000 + number, 1, 10000, 8) for number in range(1000))
    content = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", 1000) + table + bytes(4)
    for read in READERS:
        assert "announces more bytes than the file has" in outcome(read, write(tmp_path / "a.tif", content))
    circle = b"II*\0" + struct.pack("<IHHHIIH", 8, 1, 254, 4, 1, 0, 8) + bytes(2)
    assert "form a circle" in outcome(read_image, write(tmp_path / "b.tif", circle))


# What is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_fifos_and_devices_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    (tmp_path / "null.png").symlink_to("/dev/zero")
    for path in (tmp_path / "a.png", tmp_path / "null.png"):
        for read in READERS:
            assert outcome(read, path) == "cannot be read: a FIFO, socket or device, not an ordinary file"
    assert find_images([tmp_path / "a.png"]) == {tmp_path / "a.png": Path("a")}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs FIFOs")
def test_data_check_does_not_wait_for_a_fifo(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "data", {"train": 2})
    for folder in ("images", "masks"):
        (root / folder / "train_0.png").unlink()
        os.mkfifo(root / folder / "train_0.png")
    with pytest.warns(CrissCrossWarning, match=r"train_0\.png"), pytest.raises(CrissCrossError, match="'train_0'"):
        open_folder(root)


# Formats


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_only_accepted_formats_are_decoded_and_no_process_is_started(tmp_path: Path) -> None:
    started: list[str] = []
    watching = True

    def watch(event: str, arguments: tuple) -> None:
        if watching and event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
            started.append(event)

    sys.addaudithook(watch)
    Image.init()
    accepted = {"PNG", "JPEG", "MPO", "BMP", "WEBP", "TIFF", "PPM"}
    contents = {
        "EPS": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n",
        "DDS": b"DDS " + struct.pack("<7I", 124, 0x1007, 20000, 20000, 0, 0, 1) + bytes(96),
        "PFM": b"Pf\n2 2\n-1.0\n" + bytes(16),
        "WMF": b"\xd7\xcd\xc6\x9a" + bytes(200),
        "XV thumbnail": b"P7 332\n#END\n2 2 255\n" + bytes(4),
    }
    for kind in sorted(Image.SAVE):
        if kind != "PDF":
            for mode in ("RGB", "L", "1", "P"):
                file = io.BytesIO()
                try:
                    Image.new(mode, (16, 16)).save(file, kind)
                except (OSError, ValueError, KeyError, AttributeError, TypeError):
                    continue
                contents.setdefault(kind, file.getvalue())
                break
    assert len(contents) > 15
    try:
        for kind, content in contents.items():
            for read in READERS:
                found = outcome(read, write(tmp_path / "a.png", content))
                if kind not in accepted:
                    assert found.startswith(("not an image: its content is none of PNG, JPEG, WebP, BMP", "cannot be"))
    finally:
        watching = False
    assert started == []


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    assert np.array_equal(read_image(write(tmp_path / "a.jpg", png(draw_image(1), 8, 2))), draw_image(1))
    image = write(tmp_path / "a.png", encoded(draw_image(1), "GIF"))
    expected = "not an image: its content is none of PNG, JPEG, WebP, BMP, TIFF, PPM"
    assert outcome(read_image, image) == expected
