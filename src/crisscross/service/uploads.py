"""From a request to its image. Nothing of it is written to a disk."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Any, NamedTuple

import numpy as np
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from crisscross.data.files.decoding import SIGNATURES, TooManyPixels
from crisscross.data.files.reading import read_image
from crisscross.errors import CrissCrossError
from crisscross.service.limits import Limits

# nginx's number for a client that has closed the connection. Nobody gets it; the log does.
GONE = 499
MULTIPART = "multipart/form-data"


class Upload(NamedTuple):
    """The content of an image file, and the format that a form asks for, else None."""

    content: bytes
    format: str | None = None


async def receive_upload(request: Request, limits: Limits) -> Upload:
    """The image of a request: its body, or the first file of a form.

    Raises:
        HTTPException: 400, 408, 413 or 499; too many bytes, too slow, gone, a broken form, or no image.
    """
    try:
        async with asyncio.timeout(limits.timeout):
            body = await _body(request, limits.size)
    except TimeoutError as error:
        line = f"the request was not complete after {limits.timeout:g} seconds"
        # What else comes on this connection is not waited for.
        raise HTTPException(408, line, {"connection": "close"}) from error
    except ClientDisconnect as error:
        raise HTTPException(GONE, "the client closed the connection") from error
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    found = await _form(request, body) if kind == MULTIPART else Upload(body)
    if not found.content:
        raise HTTPException(400, "no image: send an image file as the body, or in a form as the field `image`")
    return found


async def _body(request: Request, most: int) -> bytes:
    declared = request.headers.get("content-length", "0")
    content = bytearray()
    if declared.isdecimal() and int(declared) <= most:
        async for chunk in request.stream():
            content += chunk
            if len(content) > most:
                break
        else:
            return bytes(content)
    raise HTTPException(413, f"the request has more than {most} bytes")


async def _form(request: Request, body: bytes) -> Upload:
    async def stream() -> AsyncGenerator[bytes, None]:
        yield body

    parser: Any = MultiPartParser(request.headers, stream(), max_files=1, max_fields=8)
    # In memory, whatever its size; older Starlette knows it by the second name.
    parser.spool_max_size = parser.max_file_size = len(body) + 1
    try:
        form = await parser.parse()
    # Its parser meets broken input with errors of several kinds.
    except (MultiPartException, ValueError, LookupError) as error:
        raise HTTPException(400, f"a broken form: {error}") from error
    file = next((value for value in form.values() if isinstance(value, UploadFile)), None)
    wanted = form.get("format")
    content = await file.read() if file else b""
    await form.close()
    return Upload(content, wanted if isinstance(wanted, str) else None)


def decode(content: bytes, most_pixels: int) -> np.ndarray:
    """The image uint8 [H, W, 3] of a file's content.

    Raises:
        HTTPException: 400, 413 or 415; damaged, too many pixels, or not an image.
    """
    try:
        return read_image(content, most_pixels)
    except CrissCrossError as error:
        if isinstance(error.__context__, TooManyPixels):
            raise HTTPException(413, f"the image has more than {most_pixels} pixels") from error
        known = content.startswith(tuple(SIGNATURES))
        raise HTTPException(400 if known else 415, str(error)) from error
