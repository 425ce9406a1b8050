"""Every kind of image and mask file becomes the right array, or one clear line."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_data import draw_image, draw_labels

from crisscross.data import DataSet, Pair
from crisscross.data.files.reading import read_header, read_image, read_mask, read_pair
from crisscross.data.labels import illegal_labels
from crisscross.errors import CrissCrossError

RGB = draw_image(3, 5, 7)
GREY = draw_image(4, 5, 7)[..., 0]


def save(path: Path, image: np.ndarray | Image.Image, **options: object) -> Path:
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(path, **options)
    return path


def gray3(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def refusal(function, *arguments) -> str:
    with pytest.raises(CrissCrossError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_rgb_is_read_as_stored(tmp_path: Path, suffix: str) -> None:
    found = read_image(save(tmp_path / f"a.{suffix}", RGB))
    assert found.dtype == np.uint8
    assert np.array_equal(found, RGB)


def test_grey_becomes_three_equal_channels(tmp_path: Path) -> None:
    assert np.array_equal(read_image(save(tmp_path / "a.png", GREY)), gray3(GREY))


@pytest.mark.parametrize("top", [65535, 255])
def test_16_bit_grey_is_divided_by_256_however_dark(tmp_path: Path, top: int) -> None:
    values = np.linspace(0, top, 35).astype(np.uint16).reshape(5, 7)
    assert np.array_equal(read_image(save(tmp_path / "a.png", values)), gray3((values // 256).astype(np.uint8)))


def test_32_bit_grey_holds_8_or_16_bit_values() -> None:
    dark = Image.fromarray(GREY.astype(np.int32))
    bright = Image.fromarray(GREY.astype(np.int32) * 256 + 255)
    assert np.array_equal(read_image(dark), gray3(GREY))
    assert np.array_equal(read_image(bright), gray3(GREY))
    beyond = Image.fromarray(np.array([[-5, 70000], [65535, 256]], np.int32))
    assert read_image(beyond)[..., 0].tolist() == [[0, 255], [255, 1]]


@pytest.mark.parametrize("alpha", [0, 128, 255])
def test_transparency_lies_over_black(tmp_path: Path, alpha: int) -> None:
    layers = np.dstack([RGB, np.full((5, 7), alpha, np.uint8)])
    found = read_image(save(tmp_path / "a.png", layers)).astype(int)
    assert np.abs(found - RGB * (alpha / 255)).max() <= 1
    gray_alpha = Image.merge("LA", [Image.fromarray(layers[..., channel]) for channel in (0, 3)])
    found = read_image(save(tmp_path / "b.png", gray_alpha)).astype(int)
    assert np.abs(found - gray3(RGB[..., 0]) * (alpha / 255)).max() <= 1


def test_palette_image_shows_its_colors(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 0, 7, 8, 9])
    expected = [[[10, 20, 30], [200, 100, 0]], [[7, 8, 9], [200, 100, 0]]]
    assert read_image(save(tmp_path / "a.png", image)).tolist() == expected
    expected[0][1] = expected[1][1] = [0, 0, 0]
    assert read_image(save(tmp_path / "b.png", image, transparency=1)).tolist() == expected


def test_cmyk_and_1_bit(tmp_path: Path) -> None:
    cmyk = Image.new("CMYK", (6, 4), (0, 255, 255, 0))
    assert np.abs(read_image(save(tmp_path / "a.tif", cmyk)).astype(int) - [255, 0, 0]).max() <= 1
    bits = GREY > 100
    assert np.array_equal(read_image(save(tmp_path / "b.png", bits)), gray3(bits.astype(np.uint8) * 255))


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [(1, lambda x: x), (2, np.fliplr), (3, lambda x: np.rot90(x, 2)), (6, lambda x: np.rot90(x, -1)), (8, np.rot90)],
)
@pytest.mark.parametrize("suffix", ["png", "tif", "jpg"])
def test_exif_rotation_is_applied(tmp_path: Path, orientation: int, turn, suffix: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    flat = np.zeros((32, 48, 3), np.uint8)
    flat[:16, :16] = 255
    file = save(tmp_path / f"a.{suffix}", flat, exif=exif)
    expected = turn(flat)
    found = read_image(file)
    assert found.shape == expected.shape
    assert np.abs(found.astype(int) - expected).max() <= 3
    assert read_header(file) == expected.shape[1::-1]
    with Image.open(file) as opened:
        assert np.array_equal(read_image(opened), found)


@pytest.mark.parametrize("read", [read_image, read_mask, read_header])
def test_files_that_are_no_images(tmp_path: Path, read) -> None:
    assert refusal(read, tmp_path / "a.png") == f"{tmp_path / 'a.png'}: no such file"
    (tmp_path / "b.jpg").touch()
    assert refusal(read, tmp_path / "b.jpg") == f"{tmp_path / 'b.jpg'}: empty file (0 bytes)"
    (tmp_path / "c.jpg").write_text("<html>404 not found</html>")
    assert refusal(read, tmp_path / "c.jpg").startswith(f"{tmp_path / 'c.jpg'}: not an image: ")
    (tmp_path / "d.jpg").mkdir()
    assert refusal(read, tmp_path / "d.jpg").startswith(f"{tmp_path / 'd.jpg'}: cannot be read")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_truncated_file(tmp_path: Path, suffix: str) -> None:
    file = save(tmp_path / f"a.{suffix}", draw_image(1, 200, 300))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    assert str(file) in refusal(read_image, file)
    if suffix == "jpg":
        # Lazily opened by the caller, so that only the conversion meets the end of the file.
        with Image.open(file) as opened:
            assert refusal(read_image, opened).startswith("image: cannot be read")


def test_arrays() -> None:
    assert np.array_equal(read_image(RGB), RGB)
    assert np.array_equal(read_image(GREY), gray3(GREY))
    assert read_image(RGB[:, ::-1]).flags["C_CONTIGUOUS"]
    assert "must be uint8 (0..255), got float32" in refusal(read_image, RGB.astype(np.float32) / 255)
    for shape in ((5, 7, 4), (3, 5, 7), (1, 5, 7, 3), (7,), (0, 5, 3), (5, 0)):
        assert str(list(shape)[:2])[:-1] in refusal(read_image, np.zeros(shape, np.uint8))
    assert "got list" in refusal(read_image, [[1, 2], [3, 4]])
    assert "floating-point" in refusal(read_image, Image.fromarray(GREY.astype(np.float32)))


def test_masks_hold_their_numbers_in_every_kind_of_file(tmp_path: Path) -> None:
    labels = draw_labels(2, 5, 7)
    palette = Image.fromarray(labels)
    # All 256 entries: with fewer the PNG would have no room for the value 255.
    palette.putpalette([200, 1, 2, 3, 200, 5, 6, 7, 200, *[0] * 759])
    for number, kind in enumerate((labels, palette, labels.astype(np.uint16), labels.astype(np.int32), gray3(labels))):
        found = read_mask(save(tmp_path / f"{number}.{'tif' if number == 3 else 'png'}", kind))
        assert found.dtype == np.uint8
        assert np.array_equal(found, labels)
    bits = labels == 1
    assert np.array_equal(read_mask(save(tmp_path / "bits.png", bits)), bits.astype(np.uint8))


def test_color_masks_and_large_numbers_are_refused(tmp_path: Path) -> None:
    labels = gray3(draw_labels(0, 5, 7))
    labels[4, 6, 1] ^= 1
    message = refusal(read_mask, save(tmp_path / "a.png", labels))
    assert message.startswith(f"{tmp_path / 'a.png'}: a color mask (mode RGB)")
    assert "(mode RGBA)" in refusal(read_mask, save(tmp_path / "b.png", np.dstack([RGB, GREY])))
    wide = np.full((5, 7), 1000, np.uint16)
    assert "16-bit mask with value 1000" in refusal(read_mask, save(tmp_path / "c.png", wide))


def a_pair(folder: Path, labels: np.ndarray, void: tuple[int, ...] = ()) -> tuple[Pair, DataSet]:
    pair = Pair("a", save(folder / "a.png", RGB), save(folder / "m.png", labels))
    names = tuple(f"class {index}" for index in range(11))
    return pair, DataSet("test", folder, names, ((0, 0, 0),) * 11, {"train": (pair,)}, void=void)


def test_void_values_are_read_as_ignore(tmp_path: Path) -> None:
    labels = (np.arange(35, dtype=np.uint8) % 13).reshape(5, 7)
    image, found = read_pair(*a_pair(tmp_path, labels, void=(11, 12)))
    assert np.array_equal(image, RGB)
    assert np.array_equal(found, np.where(labels >= 11, 255, labels))


def test_a_label_outside_the_classes_names_file_value_and_count(tmp_path: Path) -> None:
    labels = np.zeros((5, 7), np.uint8)
    labels[0, :4] = 200
    pair, dataset = a_pair(tmp_path, labels)
    assert illegal_labels(labels, dataset) == [(200, 4)]
    message = refusal(read_pair, pair, dataset)
    assert message == f"{pair.mask}: label 200 at 4 pixels, but there are 11 classes (0..10, ignore 255)"


def test_sizes_that_differ(tmp_path: Path) -> None:
    pair, dataset = a_pair(tmp_path, np.zeros((7, 5), np.uint8))
    assert refusal(read_pair, pair, dataset) == f"{pair.mask}: the mask is 5 x 7, its image 7 x 5"


def test_a_16_bit_mask_of_two_values_keeps_them(tmp_path):
    values = np.zeros((4, 4), np.uint16)
    values[1] = 65535
    Image.fromarray(values).save(tmp_path / "m.png")
    with pytest.raises(
        CrissCrossError, match=r"16-bit mask of 0 and 65535; .*--classes-at 0,65535 .* makes them classes"
    ):
        read_mask(tmp_path / "m.png")
