"""Files written by hand, in every kind that their formats know: read as defined, number by number, or refused."""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from image_files import bmp, exif, png, png_chunk, tiff, write
from PIL import Image

from crisscross.data.files.reading import read_header, read_image, read_mask
from crisscross.errors import CrissCrossError, CrissCrossWarning

HEIGHT, WIDTH = 13, 21
Y, X = np.mgrid[:HEIGHT, :WIDTH]
RGB8 = np.dstack([X * 12, Y * 19, (X + Y) * 7]).astype(np.uint8)


def draw(bits: int, bands: int) -> np.ndarray:
    """uint32 [H, W, bands]: numbers that differ between the bands and reach the largest of `bits` bits."""
    step = 97 if bits == 16 else 1
    bands_ = [(X * (3 + k) + Y * (5 + 2 * k) + 7 * k) * step % (2 ** min(bits, 16)) for k in range(bands)]
    bands_[0][0, 0] = 2 ** min(bits, 16) - 1
    return np.dstack(bands_).astype(np.uint32)


def outcome(read, path: Path) -> np.ndarray | str:
    try:
        return read(path)
    except CrissCrossError as error:
        message = str(error)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def agree(found: np.ndarray | str, expected: np.ndarray, tolerance: int) -> bool:
    return (
        isinstance(found, np.ndarray)
        and found.shape == expected.shape
        and bool(np.abs(found.astype(int) - expected).max() <= tolerance)
    )


def gray3(values: np.ndarray) -> np.ndarray:
    return np.repeat(values[..., None], 3, axis=2)


def seen(values: np.ndarray, bits: int) -> np.ndarray:
    """Stored numbers on the scale 0..255: 16 bits lose the lower half, fewer than 8 reach from black to white."""
    return values // 256 if bits == 16 else np.rint(values * 255.0 / (2**bits - 1))


def over_black(colors: np.ndarray, alpha: np.ndarray, premultiplied: bool = False) -> np.ndarray:
    return np.minimum(colors, alpha[..., None]) if premultiplied else colors * (alpha[..., None] / 255)


# PNG


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize(("color", "bits"), [(c, b) for c in (0, 2, 3, 4, 6) for b in (1, 2, 4, 8, 16)])
def test_png_of_every_color_type_and_depth(tmp_path: Path, color: int, bits: int, interlaced: bool) -> None:
    bands = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[color]
    values = draw(bits, bands)
    colors = np.random.default_rng(0).integers(0, 256, (2 ** min(bits, 8), 3), np.uint8)
    palette = png_chunk(b"PLTE", colors.tobytes()) if color == 3 else b""
    path = write(tmp_path / "a.png", png(values, bits, color, palette, interlaced))
    if (bits < 8 and color in (2, 4, 6)) or (color, bits) == (3, 16):
        assert "is not read" in outcome(read_image, path)
        return
    expected = {
        0: lambda: gray3(seen(values[..., 0], bits)),
        2: lambda: seen(values, bits),
        3: lambda: colors[values[..., 0]],
        4: lambda: over_black(gray3(seen(values[..., 0], bits)), seen(values[..., 1], bits)),
        6: lambda: over_black(seen(values[..., :3], bits), seen(values[..., 3], bits)),
    }[color]()
    assert agree(outcome(read_image, path), expected, 1 if color in (4, 6) else 0)
    if color in (0, 3) and bits <= 8:
        assert agree(outcome(read_mask, path), values[..., 0], 0)
    else:
        assert isinstance(outcome(read_mask, path), str)


def test_png_masks_of_16_bits_hold_numbers_to_255(tmp_path: Path) -> None:
    values = draw(8, 1)[..., 0]
    assert np.array_equal(read_mask(write(tmp_path / "a.png", png(values, 16))), values)
    assert read_image(tmp_path / "a.png").max() == 0
    thrice = write(tmp_path / "b.png", png(gray3(values), 16, 2))
    assert "16-bit colors" in outcome(read_mask, thrice)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_transparent_grey_of_a_png_becomes_black(tmp_path: Path, bits: int) -> None:
    values = draw(bits, 1)[..., 0]
    clear = int(values[0, 0])
    path = write(tmp_path / "a.png", png(values, bits, before=png_chunk(b"tRNS", clear.to_bytes(2, "big"))))
    expected = np.where(values == clear, 0, seen(values, bits))
    assert agree(outcome(read_image, path), gray3(expected), 0)
    if bits <= 8:
        assert np.array_equal(read_mask(path), values)


@pytest.mark.parametrize("bits", [8, 16])
def test_the_transparent_color_of_a_png(tmp_path: Path, bits: int) -> None:
    values = draw(bits, 3)
    clear = values[3, 4]
    chunk = png_chunk(b"tRNS", clear.astype(">u2").tobytes())
    found = outcome(read_image, write(tmp_path / "a.png", png(values, bits, 2, chunk)))
    if bits == 16:
        assert "16-bit color with a transparent color" in found
    else:
        assert agree(found, np.where((values == clear).all(2, keepdims=True), 0, values), 0)


def test_gamma_is_not_applied(tmp_path: Path) -> None:
    gamma = png_chunk(b"gAMA", (100000).to_bytes(4, "big"))
    assert np.array_equal(read_image(write(tmp_path / "a.png", png(RGB8, 8, 2, gamma))), RGB8)


@pytest.mark.parametrize("behind", [False, True])
def test_a_png_turned_by_exif_data(tmp_path: Path, behind: bool) -> None:
    chunk = png_chunk(b"eXIf", exif(6))
    path = write(tmp_path / "a.png", png(RGB8, 8, 2, **{"after" if behind else "before": chunk}))
    assert np.array_equal(read_image(path), np.rot90(RGB8, -1))
    gray = write(tmp_path / "m.png", png(RGB8[..., 0], 8, 0, **{"after" if behind else "before": chunk}))
    assert "not applied to masks" in outcome(read_mask, gray)
    profile = "\nexif\n 32\n" + exif(6).hex() + "\n"
    text = png_chunk(b"tEXt", b"Raw profile type exif\0" + profile.encode())
    assert np.array_equal(read_image(write(path, png(RGB8, 8, 2, text))), np.rot90(RGB8, -1))


def test_numbers_beyond_the_palette(tmp_path: Path) -> None:
    for name, content in (
        ("a.png", png(X % 6, 8, 3, png_chunk(b"PLTE", bytes([10, 20, 30] * 5)))),
        ("b.png", png(X % 6, 8, 3)),
        ("c.bmp", bmp(X % 6, 8, [(10, 20, 30)] * 5)),
    ):
        assert "beyond its palette" in outcome(read_image, write(tmp_path / name, content))
        assert np.array_equal(read_mask(tmp_path / name), X % 6)


def test_a_second_head_of_a_png(tmp_path: Path) -> None:
    head = png(GREY := RGB8[..., 0])[8:33]
    assert "there are two" in outcome(read_image, write(tmp_path / "a.png", png(GREY, before=head)))
    apple = png_chunk(b"CgBI", bytes(4))
    content = png(GREY)
    for read in (read_image, read_mask, read_header):
        message = outcome(read, write(tmp_path / "b.png", content[:8] + apple + content[8:]))
        assert "does not begin with its head" in message


# TIFF


# Byte order, planar configuration, side of tiles: each with each in the slow test, half of them in the quick one.
LAYOUTS = tuple(itertools.product("<>", (1, 2), (0, 16)))
QUICK_LAYOUTS = (("<", 1, 0), ("<", 2, 16), (">", 1, 16), (">", 2, 0))


def tiff_cases(compressions: Sequence[int], layouts: Sequence[tuple]) -> Iterator[tuple]:
    for bits, bands, kind in itertools.product((1, 2, 4, 8, 16, 32), range(1, 7), (0, 1, 2, 3, 5, 6, 8)):
        beyond = bands - {2: 3, 5: 4, 6: 3, 8: 3}.get(kind, 1)
        extras = [(), *((first, *[0] * (beyond - 1)) for first in (0, 1, 2) if beyond > 0)] if beyond >= 0 else []
        for extra in extras:
            for layout, compression in itertools.product(layouts, compressions):
                if bands > 1 or layout[1] == 1:
                    yield (bits, bands, kind, extra, *layout, compression)


def tiff_expected(values: np.ndarray, bits: int, kind: int, extra: tuple, palette: np.ndarray) -> np.ndarray | None:
    """RGB [H, W, 3] by the definition of the format; None for kinds that are not accepted, in whatever layout."""
    bands = values.shape[2]
    shown = seen(values, bits) if bits <= 16 else values
    alpha = extra[:1] in ((1,), (2,))
    if kind in (0, 1) and bits <= 16 and (bands == 1 or (kind, bits, bands) == (1, 8, 2)) and (kind, bits) != (0, 16):
        plain = gray3(255 - shown[..., 0] if kind == 0 else shown[..., 0])
        return over_black(plain, shown[..., 1], extra == (1,)) if alpha else plain if bands == 1 or extra else None
    if kind == 2 and bits in (8, 16) and bands >= 3:
        return over_black(shown[..., :3], shown[..., 3], extra[0] == 1) if alpha else shown[..., :3]
    if kind == 3 and bits <= 8 and bands == 1:
        return palette[values[..., 0]] // 256
    if kind == 5 and (bits, bands) == (8, 4):
        return (255 - shown[..., :3]) * (255 - shown[..., 3:]) / 255
    return None


def check_tiffs(folder: Path, compressions: Sequence[int], layouts: Sequence[tuple]) -> Counter:
    """How often each kind of TIFF (PhotometricInterpretation) was accepted, all numbers right."""
    accepted: Counter = Counter()
    for bits, bands, kind, extra, order, planar, tile, compression in tiff_cases(compressions, layouts):
        values = draw(bits, bands)
        palette = np.random.default_rng(0).integers(0, 65536, (2 ** min(bits, 8), 3))
        more = [(320, 3, palette.T.ravel().tolist())] if kind == 3 and bits <= 8 else []
        case = (bits, bands, kind, extra, order, planar, tile, compression)
        path = write(folder / "a.tif", tiff(values, bits, kind, order, planar, tile, 5, compression, extra, more=more))
        expected, found = tiff_expected(values, bits, kind, extra, palette), outcome(read_image, path)
        if isinstance(found, np.ndarray):
            assert expected is not None, case
            assert agree(found, expected, 2 if kind == 5 or extra else 0), case
            accepted[kind] += 1
        mask = outcome(read_mask, path)
        if isinstance(mask, np.ndarray):
            assert bands == 1 or kind == 2, case
            assert np.array_equal(mask, values[..., 0]), case
            accepted["mask"] += 1
    return accepted


@pytest.mark.filterwarnings("ignore::crisscross.errors.CrissCrossWarning")
def test_tiff_is_right_or_refused(tmp_path: Path) -> None:
    accepted = check_tiffs(tmp_path, (8,), QUICK_LAYOUTS)
    # What each accepted version of Pillow reads at the least.
    for kind, least in {0: 8, 1: 12, 2: 44, 3: 8, 5: 2, "mask": 24}.items():
        assert accepted[kind] >= least
    assert not accepted[6]
    assert not accepted[8]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::crisscross.errors.CrissCrossWarning")
def test_tiff_is_right_or_refused_in_every_layout(tmp_path: Path) -> None:
    check_tiffs(tmp_path, (1, 8, 32773), LAYOUTS)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("planar", [1, 2])
def test_tiff_with_its_bands_one_behind_the_other(tmp_path: Path, order: str, bits: int, planar: int) -> None:
    values = RGB8 if bits == 8 else RGB8.astype(np.uint16) * 256 + 77
    found = outcome(read_image, write(tmp_path / "a.tif", tiff(values, bits, 2, order, planar)))
    if (bits, planar) == (16, 2):
        assert found.startswith("cannot be read: a TIFF of 3 x 16 bits, band behind band ")
    else:
        assert np.array_equal(found, RGB8)


def test_a_tiff_mask_holds_its_numbers_where_0_is_white(tmp_path: Path) -> None:
    for bits in (1, 2, 4, 8):
        values = draw(bits, 1)[..., 0]
        path = write(tmp_path / f"{bits}.tif", tiff(values, bits, photometric=0))
        assert np.array_equal(read_mask(path), values)
        assert np.array_equal(read_image(path), gray3(255 - seen(values, bits)))


def test_a_fourth_band_is_left_out_with_one_warning_for_a_folder(tmp_path: Path) -> None:
    infrared = np.dstack([RGB8, 255 - RGB8[..., 0]])
    for extra in ((), (0,)):
        (tmp_path / str(len(extra))).mkdir()
        paths = [
            write(tmp_path / str(len(extra)) / name, tiff(infrared, 8, 2, extra=extra)) for name in ("a.tif", "b.tif")
        ]
        with pytest.warns(CrissCrossWarning) as caught:
            read = list(map(read_image, paths))
        assert all(np.array_equal(image, RGB8) for image in read)
        said = "TIFF files of 4 bands: the first are taken as red, green, blue, the others are left out"
        assert [str(one.message) for one in caught] == [f"{tmp_path / str(len(extra))}: {said}"]
    alpha = read_image(write(tmp_path / "c.tif", tiff(infrared, 8, 2, extra=(2,))))
    assert agree(alpha, over_black(RGB8, infrared[..., 3]), 1)


def test_pages_of_a_tiff(tmp_path: Path) -> None:
    # A smaller copy and a transparency mask behind the image do not make it two.
    assert np.array_equal(read_image(write(tmp_path / "a.tif", tiff(RGB8, 8, 2, pages=(0, 1, 4)))), RGB8)
    for read in (read_image, read_mask, read_header):
        assert "a TIFF of 2 images" in outcome(read, write(tmp_path / "b.tif", tiff(RGB8, 8, 2, pages=(0, 0))))
        assert "first page is not an image of full size" in outcome(
            read, write(tmp_path / "c.tif", tiff(RGB8, 8, 2, pages=(1, 0)))
        )


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ([(339, 3, [3] * 3)], "floating-point"),
        ([(339, 3, [2] * 3)], "SampleFormat 2"),
        ([(258, 3, [8, 8, 16])], "differ in kind (bits [8, 16])"),
        ([(259, 3, [34887])], "TIFF compression 34887"),
        ([(262, 3, [6])], "PhotometricInterpretation 6"),
        ([(262, 3, [8])], "PhotometricInterpretation 8"),
        ([(273, 4, [8])], "lacks some of its 3 strips"),
        ([(273, 4, [8, 0, 9]), (279, 4, [315, 0, 189])], "lacks some of its 3 strips"),
        ([(279, 4, [315, 315, 100])], "have 730 of 819 bytes"),
        ([(273, 4, [8, 323, 5000])], "lie outside the file"),
        ([(324, 4, [8]), (325, 4, [819]), (322, 4, [65536]), (323, 4, [65536])], "tiles of 65536 x 65536 pixels"),
        ([(256, 4, [0])], "without extent"),
        ([(257, 4, [1 << 31])], "lacks some of its"),
    ],
)
def test_tiff_that_is_refused_by_its_tags(tmp_path: Path, more: list, message: str) -> None:
    path = write(tmp_path / "a.tif", tiff(RGB8, 8, 2, more=more))
    for read in (read_image, read_mask, read_header):
        assert message in outcome(read, path)


def test_a_refusal_of_many_values_is_a_short_line(tmp_path: Path) -> None:
    for more in ([(338, 3, range(1000, 1300))], [(258, 3, range(1, 300))]):
        said = outcome(read_image, write(tmp_path / "a.tif", tiff(RGB8, 8, 2, more=more)))
        assert said.startswith("cannot be read: a TIFF") and "save it as 8-bit RGB" in said and len(said) < 300


def test_a_tiff_without_its_palette(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", tiff(RGB8[..., 0], photometric=3))
    for read in (read_image, read_mask, read_header):
        assert outcome(read, path).startswith("cannot be read: a TIFF of 1 x 8 bits (PhotometricInterpretation 3,")


def test_a_tiff_opened_by_the_caller_is_asked_likewise(tmp_path: Path) -> None:
    values = RGB8.astype(np.uint16) * 256
    message = "image: cannot be read: a TIFF of 3 x 16 bits, band behind band"
    with (
        Image.open(write(tmp_path / "a.tif", tiff(values, 16, 2, planar=2))) as opened,
        pytest.raises(CrissCrossError, match=message),
    ):
        read_image(opened)


def test_tiff_orientation(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", tiff(RGB8, 8, 2, more=[(274, 3, [6])]))
    assert np.array_equal(read_image(path), np.rot90(RGB8, -1))
    assert read_header(path) == (HEIGHT, WIDTH)
    assert "EXIF rotation" in outcome(read_mask, write(path, tiff(RGB8[..., 0], more=[(274, 3, [3])])))


# BMP, PPM


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("kind", ["colors", "gray", "black and white"])
def test_bmp_with_a_palette(tmp_path: Path, bits: int, kind: str) -> None:
    indices = draw(bits, 1)[..., 0] if kind != "black and white" else (X + Y) % 2
    colors = {
        "colors": [(k * 7 % 256, k * 13 % 256, 255 - k) for k in range(2**bits)],
        "gray": [(k, k, k) for k in range(2**bits)],
        "black and white": [(0, 0, 0), (255, 255, 255)],
    }[kind]
    path = write(tmp_path / "a.bmp", bmp(indices, bits, colors))
    found, mask = outcome(read_image, path), outcome(read_mask, path)
    if isinstance(found, str):
        assert f"a BMP of {bits} bits with a gray palette" in found == mask
        assert (kind, bits) in (("gray", 4), ("black and white", 4), ("black and white", 8))
    else:
        assert np.array_equal(found, np.array(colors)[indices])
        assert np.array_equal(mask, indices)


def test_bmp_of_run_lengths_is_refused(tmp_path: Path) -> None:
    content = bytearray(bmp(X % 6, 8, [(k, 255 - k, 0) for k in range(256)]))
    content[30] = 1
    assert "compressed by run lengths" in outcome(read_image, write(tmp_path / "a.bmp", content))


@pytest.mark.parametrize("masks", [(), (0xFF0000, 0xFF00, 0xFF, 0xFF000000)])
def test_bmp_of_32_bits(tmp_path: Path, masks: tuple) -> None:
    lying = np.dstack([RGB8[..., ::-1], np.zeros_like(RGB8[..., 0])])
    assert np.array_equal(read_image(write(tmp_path / "a.bmp", bmp(lying, 32, masks=masks))), RGB8)
    lying[..., 3] = X * 12
    found = read_image(write(tmp_path / "b.bmp", bmp(lying, 32, masks=masks)))
    assert agree(found, over_black(RGB8, lying[..., 3]) if masks else RGB8, 1)


@pytest.mark.parametrize("largest", [1, 18, 200, 255, 1000, 65535])
@pytest.mark.parametrize("plain", [False, True])
def test_ppm_of_any_largest_number(tmp_path: Path, largest: int, plain: bool) -> None:
    gray = (X * 5 + Y * 11) % (min(largest, 255) + 1)
    color = np.dstack([(X * (3001 + k) + Y * 577) % (largest + 1) for k in range(3)])
    for magic, values, read, expected, tolerance in (
        (b"P2" if plain else b"P5", gray, read_mask, gray, 0),
        (b"P2" if plain else b"P5", color[..., 0], read_image, gray3(color[..., 0] * 255 / largest), 1),
        (b"P3" if plain else b"P6", color, read_image, color * 255 / largest, 1),
    ):
        numbers = " ".join(map(str, values.ravel())).encode()
        body = numbers if plain else values.astype(">u2" if largest > 255 else "u1").tobytes()
        head = b"%s # of a camera\n%d %d\n%d\n" % (magic, WIDTH, HEIGHT, largest)
        assert agree(outcome(read, write(tmp_path / "a.ppm", head + body)), expected, tolerance)


def test_pbm_masks_hold_their_bits_where_1_is_black(tmp_path: Path) -> None:
    bits = (X * 3 + Y) % 2
    path = write(
        tmp_path / "a.ppm", b"P4\n%d %d\n" % (WIDTH, HEIGHT) + np.packbits(bits.astype(bool), axis=1).tobytes()
    )
    assert np.array_equal(read_mask(path), bits)
    assert np.array_equal(read_image(path), gray3(255 * (1 - bits)))


# JPEG, WebP


def test_cmyk_jpeg_is_read_with_adobes_marker_alone(tmp_path: Path) -> None:
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(tmp_path / "a.jpg", quality=100)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - [255, 0, 0]).max() <= 2
    whole = (tmp_path / "a.jpg").read_bytes()
    start = whole.index(b"\xff\xee")
    assert whole[start + 4 : start + 9] == b"Adobe"
    without = whole[:start] + whole[start + 2 + int.from_bytes(whole[start + 2 : start + 4], "big") :]
    assert "CMYK JPEG without Adobe's marker" in outcome(read_image, write(tmp_path / "b.jpg", without))


def test_masks_compressed_with_loss_are_refused(tmp_path: Path) -> None:
    labels = ((X // 5 + Y // 4) % 4 * 3).astype(np.uint8)
    image = Image.fromarray(labels)
    image.save(tmp_path / "a.jpg", quality=100)
    image.save(tmp_path / "b.webp", quality=100)
    image.save(tmp_path / "c.tif", compression="jpeg")
    for name, loss in (("a.jpg", "JPEG"), ("b.webp", "lossy WebP"), ("c.tif", "JPEG in TIFF")):
        for read in (read_mask, lambda path: read_header(path, mask=True)):
            message = outcome(read, tmp_path / name)
            assert message.startswith(f"a mask compressed with loss ({loss}): it invents classes")
            assert "write it again from its source as PNG" in message
        assert agree(read_image(tmp_path / name), gray3(labels), 6)
    image.save(tmp_path / "d.webp", lossless=True)
    image.save(tmp_path / "e.tif", compression="tiff_lzw")
    for name in ("d.webp", "e.tif"):
        assert np.array_equal(read_mask(tmp_path / name), labels)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_animations_are_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.roll(RGB8, k, axis=1)) for k in range(2)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    for read in (read_image, read_mask, read_header):
        assert "an animation" in outcome(read, tmp_path / f"a.{suffix}")


def test_webp_turned_by_exif_data(tmp_path: Path) -> None:
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.fromarray(RGB8).save(tmp_path / "a.webp", lossless=True, exif=turned)
    assert np.array_equal(read_image(tmp_path / "a.webp"), np.rot90(RGB8, -1))
    assert read_header(tmp_path / "a.webp") == (HEIGHT, WIDTH)
