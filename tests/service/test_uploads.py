"""What is no image, or too much of one, gets its status and one line."""

import re
import struct
import zlib

import numpy as np
import pytest
from filter_bank import image_of
from image_files import png_chunk
from served import file_of, labels_of, predictor
from starlette.testclient import TestClient

from crisscross.data.files import decoding
from crisscross.service import Limits, create_app

IMAGE = image_of(75, 101, 1)
PNG, JPEG = file_of(IMAGE), file_of(IMAGE, "JPEG")
LIMITS = Limits(size=100_000, pixels=20_000)


@pytest.fixture(scope="module")
def client():
    with TestClient(create_app(predictor(), LIMITS), "http://localhost") as found:
        yield found


def png_of_size(width: int, height: int) -> bytes:
    """A PNG whose head says so; its pixels, compressed, would be zeros."""
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(min(height * (3 * width + 1), 1 << 20)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", head) + png_chunk(b"IDAT", rows) + png_chunk(b"IEND", b"")


def webp_of_size(width: int, height: int) -> bytes:
    """A lossless WebP whose head says so."""
    head = b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14) + bytes(20)
    body = b"WEBPVP8L" + struct.pack("<I", len(head)) + head + bytes(len(head) % 2)
    return b"RIFF" + struct.pack("<I", len(body)) + body


MANY = "the image has more than 20000 pixels"
BAD = {
    "nothing": (b"", 400, "no image: send an image file"),
    "text": (b"Hello", 415, "not an image: its content is none of PNG, JPEG"),
    "html": (b"<html>" * 99, 415, "not an image"),
    "gif": (file_of(IMAGE, "GIF"), 415, "not an image"),
    "pdf": (file_of(IMAGE, "PDF"), 415, "not an image"),
    "truncated png": (PNG[: len(PNG) // 2], 400, "image: cannot be read: "),
    "truncated jpeg": (JPEG[: len(JPEG) // 2], 400, "image: cannot be read: cut off"),
    "head of a png": (PNG[:12], 400, "image: cannot be read: "),
    "damaged png": (PNG[:60] + b"\0" * 60 + PNG[120:], 400, "image: cannot be read: "),
    "one pixel too many": (file_of(np.zeros((101, 199, 3), np.uint8)), 413, MANY),
    "100 megapixels": (png_of_size(10_000, 10_000), 413, MANY),
    "bomb": (png_of_size(2**31 - 1, 2**31 - 1), 413, MANY),
    "bomb in webp": (webp_of_size(16_384, 16_384), 413, MANY),
    "no pixels": (png_of_size(0, 5), 400, "image: cannot be read: "),
    "too many bytes": (bytes(100_001), 413, "the request has more than 100000 bytes"),
}


@pytest.mark.parametrize("name", BAD)
@pytest.mark.parametrize("way", ["body", "chunks", "form"])
def test_bad_input_gets_its_status_and_a_line(client, name, way, monkeypatch):
    content, status, line = BAD[name]
    if status == 413:
        for loader in decoding.LOADERS:
            monkeypatch.setitem(decoding.LOADERS, loader, None)
    if way == "form":
        answer = client.post("/predict", files={"image": ("x.png", content)})
    else:
        answer = client.post("/predict", content=content if way == "body" else iter([content[:9], content[9:]]))
    assert answer.status_code == status
    error = answer.json()
    assert list(error) == ["error"] and line in error["error"] and "\n" not in error["error"]
    monkeypatch.undo()
    good = client.post("/predict", content=PNG)
    assert np.array_equal(labels_of(good.content), predictor().predict(IMAGE).labels)


def test_at_the_limits_all_is_well(client):
    assert client.post("/predict", content=file_of(np.zeros((100, 200, 3), np.uint8))).status_code == 200
    # Behind its end a JPEG may hold anything.
    full = JPEG + bytes(LIMITS.size - len(JPEG))
    assert client.post("/predict", content=full).status_code in (200, 400)
    assert client.post("/predict", content=full + b"\0").status_code == 413


@pytest.mark.parametrize(
    ("kind", "body", "line"),
    [
        ("multipart/form-data", b"x", "Missing boundary"),
        ("multipart/form-data; boundary=x", b"nothing of the kind", "Invalid multipart|Expected boundary"),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nno name\r\n--x--\r\n", "must be provided"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="image"\r\n', "no image"),
        ("Multipart/Form-Data; boundary=x", b"", "no image"),
        ("multipart/form-data; boundary=x; charset=\xff", b"--x--", "no image"),
    ],
)
def test_broken_forms(client, kind, body, line):
    answer = client.post("/predict", content=body, headers={"content-type": kind.encode("latin-1")})
    assert answer.status_code == 400 and re.search(line, answer.json()["error"])


def test_a_form_takes_one_file_and_few_fields(client):
    files = [("image", ("a.png", PNG)), ("image", ("b.png", PNG))]
    answer = client.post("/predict", files=files)
    assert answer.status_code == 400 and "Too many files" in answer.json()["error"]
    answer = client.post("/predict", files=files[:1], data={f"f{number}": "x" for number in range(9)})
    assert answer.status_code == 400 and "Too many fields" in answer.json()["error"]


def test_a_form_stays_in_memory(client, monkeypatch):
    def fail(*given, **named):
        raise AssertionError("a file was made")

    monkeypatch.setattr("tempfile.TemporaryFile", fail)
    monkeypatch.setattr("tempfile.SpooledTemporaryFile.rollover", fail)
    large = image_of(100, 199, 2)
    with TestClient(create_app(predictor(), Limits()), "http://localhost") as other:
        content = file_of(np.random.default_rng(0).integers(0, 256, (700, 700, 3)).astype(np.uint8))
        assert len(content) > 2**20
        assert other.post("/predict", files={"image": ("a.png", content)}).status_code == 200
    assert client.post("/predict", files={"image": ("a.png", file_of(large))}).status_code == 200
