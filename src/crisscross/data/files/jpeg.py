"""JPEG files: what their samples are, and damage that decoders pass over."""

import io
from typing import Any, BinaryIO

import numpy as np

from crisscross.data.files.samples import Samples, last_row

FF = 0xFF
RESTARTS, END, SCAN, INTERVAL = range(0xD0, 0xD8), 0xD9, 0xDA, 0xDD
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE = {0xC2, 0xC6, 0xCA, 0xCE}
FILLING = b"\x55" * 64


def jpeg_samples(file: BinaryIO, image: Any) -> Samples:
    """The samples of a JPEG.

    Raises:
        ValueError: of a kind that is not accepted.
    """
    if image.mode == "CMYK" and "adobe" not in image.info:
        raise ValueError("a CMYK JPEG without Adobe's marker: nothing says whether 0 is ink; save it as RGB")
    return Samples(lossy="JPEG")


def load_jpeg(file: BinaryIO, image: Any) -> None:
    """Decode a JPEG after following its markers: decoders go on where one is missing, and fill with gray.

    A JPEG holds no checksum: a changed bit amid the coded pixels is found only where it makes or breaks a marker.

    Raises:
        ValueError: damaged or cut off.
    """
    start = file.tell()
    file.seek(0)
    content = file.read()
    end = _end(content)
    file.seek(start)
    image.load()
    last = last_row(image).getpixel((image.width - 1, 0))
    if set(last if isinstance(last, tuple) else (last,)) <= {127, 128}:
        # Gray (inverted: 127) is what decoders make of missing pixels. If they are missing, more bits become pixels.
        longer = type(image)(io.BytesIO(content[:end] + FILLING + content[end:]))
        if longer.tobytes() != image.tobytes():
            raise ValueError("cut off: its coded pixels end before its last rows")


def _end(content: bytes) -> int:
    """Follow the markers; the position of the end marker."""
    frame = _Frame()
    at = 2
    numbers = np.frombuffer(content, np.uint8)
    # What may be a marker: 0xFF and what is neither 0 (a coded 0xFF) nor another 0xFF (filling).
    markers = np.flatnonzero((numbers[:-1] == FF) & (numbers[1:] != 0) & (numbers[1:] != FF))
    while True:
        while content[at : at + 2] == b"\xff\xff":
            at += 1
        if at + 2 > len(content) or content[at] != FF:
            raise ValueError(f"{'damaged' if at + 2 < len(content) else 'cut off'}: no JPEG marker at byte {at}")
        marker, at = content[at + 1], at + 2
        if marker == END:
            frame.check_complete()
            return at - 2
        if marker in RESTARTS or marker == 1:
            raise ValueError(f"damaged: a restart marker outside the pixels at byte {at}")
        length = int.from_bytes(content[at : at + 2], "big")
        segment = content[at + 2 : at + length]
        if length < 2 or len(segment) < length - 2:
            raise ValueError(f"cut off in the JPEG segment at byte {at}")
        at += length
        if marker in FRAMES:
            frame.begin(marker, segment)
        elif marker == INTERVAL:
            frame.interval = int.from_bytes(segment[:2], "big")
        elif marker == SCAN:
            at = _scan_end(content, markers[np.searchsorted(markers, at) :], frame.restarts(segment))


def _scan_end(content: bytes, markers: np.ndarray, restarts: int) -> int:
    """The position of the marker behind a scan's coded pixels, among those that follow its header."""
    count = 0
    for at in map(int, markers):
        marker = content[at + 1]
        if marker in RESTARTS and marker == RESTARTS[count % 8]:
            count += 1
            continue
        # Some cameras end with one restart marker too many.
        if marker in RESTARTS or count not in (restarts, restarts + 1):
            raise ValueError(f"damaged: restart markers are missing or misplaced before byte {at}")
        return at
    raise ValueError("cut off: its end marker is missing")


class _Frame:
    """What the frame header of a JPEG announces, and which of its scans were found."""

    def __init__(self) -> None:
        self.interval = 0
        self.progressive = False
        self.size = (0, 0)
        # Component number -> (horizontal, vertical) sampling factors, and the bits that coefficients still lack.
        self.sampling: dict[int, tuple[int, int]] = {}
        self.lacking: dict[int, list[int]] = {}

    def begin(self, marker: int, segment: bytes) -> None:
        if self.sampling or len(segment) < 6 or len(segment) < 6 + 3 * segment[5]:
            raise ValueError("damaged: a second or a short JPEG frame header")
        self.progressive = marker in PROGRESSIVE
        self.size = (int.from_bytes(segment[3:5], "big"), int.from_bytes(segment[1:3], "big"))
        for start in range(6, 6 + 3 * segment[5], 3):
            self.sampling[segment[start]] = (segment[start + 1] >> 4 or 1, segment[start + 1] & 15 or 1)
            self.lacking[segment[start]] = [1] * 64

    def restarts(self, segment: bytes) -> int:
        """Note a scan by its header; how many restart markers it needs."""
        count = segment[0] if segment else 0
        parts = segment[1 : 1 + 2 * count : 2]
        if len(segment) < 4 + 2 * count or not parts or not set(parts) <= set(self.sampling):
            raise ValueError("damaged: a JPEG scan of components that its frame header does not announce")
        first, last, low = segment[1 + 2 * count], segment[2 + 2 * count], segment[3 + 2 * count] & 15
        for part in parts:
            if self.progressive:
                self.lacking[part][first : last + 1] = [low] * len(self.lacking[part][first : last + 1])
            else:
                self.lacking[part] = [0]
        return (self._units(parts) - 1) // self.interval if self.interval else 0

    def _units(self, parts: bytes) -> int:
        """Minimum coded units of a scan: blocks of one component, or groups of blocks of all."""
        widest, highest = (max(factors) for factors in zip(*self.sampling.values(), strict=True))
        across, down = (widest, highest) if len(parts) > 1 else self.sampling[parts[0]]
        width, height = (-(-self.size[0] * across // widest), -(-self.size[1] * down // highest))
        side = (8 * widest, 8 * highest) if len(parts) > 1 else (8, 8)
        return -(-width // side[0]) * -(-height // side[1])

    def check_complete(self) -> None:
        if not self.lacking or any(any(bits) for bits in self.lacking.values()):
            raise ValueError("cut off: scans of the JPEG are missing")
