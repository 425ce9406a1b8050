"""Downloads of published files: with progress, resumed after interruptions, checked by hash, and cached."""

import hashlib
import http.client
import os
from pathlib import Path
from typing import Any

from crisscross.errors import CrissCrossError
from crisscross.files import is_offline, user_cache, with_home
from crisscross.progress import Progress

# At most so many connections for one file.
CONNECTIONS = 100
TIMEOUT_SECONDS = 30
# Far above all published files: a server that sends data without end must not fill the disk.
MOST_BYTES = 8 << 30
BLOCK = 1 << 20
AT_HAND = "if you have the file, give it with --weights FILE, to train with --init FILE (in Python weights= or init=)"


def cache_folder() -> Path:
    """Where downloads are kept: `CRISSCROSS_CACHE`, or `crisscross-seg/checkpoints` in the user's cache folder."""
    if chosen := os.environ.get("CRISSCROSS_CACHE"):
        return with_home(chosen)
    return user_cache("checkpoints")


def fetch(url: str, digest: str, offline: bool = False) -> Path:
    """The local copy of a published file, downloaded when it is not there yet.

    An interrupted download leaves `FILE.part`, and the next one continues it. Processes wait for each other.

    Args:
        url: http or https address; its last part names the file.
        digest: the SHA-256 of the file in hexadecimal, or the beginning of it.
        offline: use only the cache; so does `is_offline`.

    Raises:
        CrissCrossError: no network, not found, offline, an HTML page instead of the file, a wrong hash.
    """
    from filelock import FileLock

    target = cache_folder() / url.rpartition("/")[2]
    if not target.is_file():
        if offline or is_offline():
            raise CrissCrossError(f"{target.name}: not in {target.parent}, and downloads are off; {AT_HAND}")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(target.with_name(f".{target.name}.lock")):
                if not target.is_file():
                    _download(url, digest, target)
        except OSError as error:
            raise CrissCrossError(f"{target}: cannot be written: {error.strerror or error}") from None
        return target
    if not (found := _sha256(target)).startswith(digest):
        raise CrissCrossError(f"{target}: {_wrong_hash(found, digest)}; delete it and try again")
    return target


def _download(url: str, digest: str, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    for connection in range(1, CONNECTIONS + 1):
        before = _size(part)
        size, complete = _receive(url, part)
        if complete:
            break
        # An unstable connection is tried again as long as each attempt gets further than the one before.
        if _size(part) <= before or connection == CONNECTIONS:
            of = "" if size is None else f" of {size}"
            raise CrissCrossError(
                f"{url}: the connection broke at {_size(part)}{of} bytes, {connection} times in all; run the command "
                "again to continue from there"
            )
    if not (found := _sha256(part)).startswith(digest):
        part.unlink()
        raise CrissCrossError(f"{url}: {_wrong_hash(found, digest)}; the download was deleted; {AT_HAND}")
    os.replace(part, target)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(url: str, part: Path) -> tuple[int | None, bool]:
    """Append what is missing of a file; return its size (None if the server does not tell), and whether it is complete.

    A connection that breaks while data arrives is not an error here: the part stays short.
    """
    start = _size(part)
    with _open(url, start) as answer:
        if answer.status == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            part.unlink()
            return _receive(url, part)
        if answer.headers.get_content_type() == "text/html":
            raise CrissCrossError(f"{url}: the server answered with an HTML page instead of the file; {AT_HAND}")
        continued = answer.status == http.HTTPStatus.PARTIAL_CONTENT
        start = start if continued else 0
        # None if the header is missing or invalid.
        size = None if answer.length is None else start + answer.length
        shown = Progress(f"download {part.stem} [MiB]", (size or 0) // BLOCK, start // BLOCK)
        with part.open("ab" if continued else "wb") as file, shown as progress:
            block, broken = _block(answer)
            while block:
                file.write(block)
                if file.tell() > MOST_BYTES:
                    raise CrissCrossError(f"{url}: sends more than {MOST_BYTES:,} bytes; {AT_HAND}")
                progress.update(file.tell() // BLOCK)
                block, broken = (b"", True) if broken else _block(answer)
    return size, not broken and size in (None, _size(part))


def _block(answer: Any) -> tuple[bytes, bool]:
    """The next bytes (none at the end), and whether the connection broke."""
    try:
        return answer.read(BLOCK), False
    except http.client.IncompleteRead as error:
        return error.partial, True
    except (http.client.HTTPException, OSError):
        return b"", True


def _open(url: str, start: int) -> Any:
    """The server's response, which may be 416.

    Raises:
        CrissCrossError: no network, or an error of the server.
    """
    import urllib.error
    import urllib.request

    request = urllib.request.Request(url, headers={"Range": f"bytes={start}-"} if start else {})
    try:
        return urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and start:
            return error
        error.close()
        reason = " ".join(str(error.reason).split())
        raise CrissCrossError(f"{url}: the server says {error.code} {reason}; {AT_HAND}") from None
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        raise CrissCrossError(f"{url}: cannot be reached ({reason}); {AT_HAND}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wrong_hash(found: str, expected: str) -> str:
    return f"wrong hash: SHA-256 begins with {found[: len(expected)]}, published is {expected}"
