"""Published files over the network: fetched once, with progress, continued where they stopped, checked, kept."""

import hashlib
import http.client
import os
import time
from pathlib import Path
from typing import Any

from crisscross.errors import CrissCrossError
from crisscross.files import user_cache, with_home
from crisscross.progress import Progress

# So many connections in a row may bring nothing new, and so many there are in all; the pause before the next one, in
# seconds, doubles with each that brought nothing.
ATTEMPTS, CONNECTIONS, PAUSE_SECONDS = 3, 100, 1.0
TIMEOUT_SECONDS = 30
# No published file comes near; a server that never ends would fill the disk.
MOST_BYTES = 8 << 30
BLOCK = 1 << 20
AT_HAND = "if you have the file, give it with --weights FILE (in Python weights=FILE)"


def cache_folder() -> Path:
    """Where downloads are kept: `CRISSCROSS_CACHE`, or `crisscross-seg/checkpoints` in the user's cache folder."""
    if chosen := os.environ.get("CRISSCROSS_CACHE"):
        return with_home(chosen)
    return user_cache("checkpoints")


def is_offline() -> bool:
    """Whether the environment forbids downloads: `CRISSCROSS_OFFLINE` or `HF_HUB_OFFLINE` set to something like 1."""
    words = (os.environ.get(name, "") for name in ("CRISSCROSS_OFFLINE", "HF_HUB_OFFLINE"))
    return any(word.lower() in ("1", "true", "yes", "on") for word in words)


def fetch(url: str, digest: str, offline: bool = False) -> Path:
    """The local copy of a published file, downloaded when it is not there yet.

    A download that breaks off leaves `FILE.part`, from where the next one goes on. Processes wait for each other.

    Args:
        url: http or https address; its last part names the file.
        digest: the SHA-256 of the file in hexadecimal, or the beginning of it.
        offline: use nothing but the cache (as `is_offline` says too).

    Raises:
        CrissCrossError: no network, not found, offline, a page instead of a file, a wrong size or hash.
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
            raise CrissCrossError(f"{target}: cannot be written: {error.strerror or error}") from error
        return target
    if not (found := _sha256(target)).startswith(digest):
        raise CrissCrossError(f"{target}: {_wrong_hash(found, digest)}; delete it and try again")
    return target


def _download(url: str, digest: str, target: Path) -> None:
    part = target.with_name(f"{target.name}.part")
    fruitless, furthest = 0, _size(part)
    for connection in range(1, CONNECTIONS + 1):
        size, complete = _receive(url, part)
        if complete:
            break
        # As long as each connection gets further than all before, a flaky line gets there. A server that cannot
        # continue starts anew each time, and may get less far.
        fruitless, furthest = 0 if _size(part) > furthest else fruitless + 1, max(furthest, _size(part))
        if fruitless == ATTEMPTS or connection == CONNECTIONS:
            of = "" if size is None else f" of {size}"
            raise CrissCrossError(
                f"{url}: the connection broke at {_size(part)}{of} bytes, {connection} times in all; type the same "
                "again to go on from there"
            )
        time.sleep(PAUSE_SECONDS * (2**fruitless - 1))
    if not (found := _sha256(part)).startswith(digest):
        part.unlink()
        raise CrissCrossError(f"{url}: {_wrong_hash(found, digest)}; the download was thrown away; {AT_HAND}")
    os.replace(part, target)


def _size(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _receive(url: str, part: Path) -> tuple[int | None, bool]:
    """Append what is missing of a file; its size (None where the server does not tell), and whether it is all there.

    A connection that breaks while data arrives is no error here: the part simply stays short.
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
        # None where the header is missing or senseless.
        size = None if answer.length is None else start + answer.length
        with part.open("ab" if continued else "wb") as file, _progress(part, start, size) as progress:
            block, broken = _block(answer)
            while block:
                file.write(block)
                if file.tell() > MOST_BYTES:
                    raise CrissCrossError(f"{url}: sends more than {MOST_BYTES:,} bytes; {AT_HAND}")
                progress.update(file.tell() // BLOCK)
                block, broken = (b"", True) if broken else _block(answer)
    return size, not broken and size in (None, _size(part))


def _block(answer: Any) -> tuple[bytes, bool]:
    """The next bytes (none at the end), and whether the connection broke, whatever the system calls that."""
    try:
        return answer.read(BLOCK), False
    except http.client.IncompleteRead as error:
        return error.partial, True
    except (http.client.HTTPException, OSError):
        return b"", True


def _progress(part: Path, start: int, size: int | None) -> Progress:
    # A file whose size is not told counts up alone.
    return Progress(f"download {part.stem} [MiB]", (size or 0) // BLOCK, start // BLOCK)


def _open(url: str, start: int) -> Any:
    """The server's answer, 416 among them.

    Raises:
        CrissCrossError: no network, or the server says no.
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
        raise CrissCrossError(f"{url}: the server says {error.code} {reason}; {AT_HAND}") from error
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        reason = " ".join(str(getattr(error, "reason", None) or error).split()) or type(error).__name__
        raise CrissCrossError(f"{url}: cannot be reached ({reason}); {AT_HAND}") from error


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _wrong_hash(found: str, expected: str) -> str:
    return f"wrong hash: SHA-256 begins with {found[: len(expected)]}, published is {expected}"
