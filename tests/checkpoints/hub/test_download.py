"""Downloads from a local test server: complete, interrupted, resumed and invalid ones."""

import errno
import hashlib
import http.client
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from crisscross.checkpoints.hub import download
from crisscross.checkpoints.hub.download import fetch
from crisscross.errors import CrissCrossError

CONTENT = bytes(range(256)) * 20_000
DIGEST = hashlib.sha256(CONTENT).hexdigest()[:8]


class Server:
    """A server whose next `breaks` responses stop after a fraction (`fraction`) of what they announce."""

    def __init__(self):
        self.breaks, self.ranges, self.kind, self.asked = 0, True, "application/octet-stream", []
        self.content, self.raw = CONTENT, b""
        self.chunked, self.fraction = False, lambda asked: 1 / 2
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                outer.answer(self)

            def log_message(self, *words):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # A client that hangs up early is what some tests are about.
        self.http.handle_error = lambda request, address: None
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/net.pth"

    def answer(self, handler):
        asked = handler.headers.get("Range")
        self.asked.append(asked)
        if handler.path != "/net.pth":
            handler.send_error(404)
            return
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked and self.ranges else 0
        if self.raw:
            handler.wfile.write(self.raw)
            return
        if start >= len(self.content):
            handler.send_error(416)
            return
        rest = self.content[start:]
        handler.send_response(206 if start else 200)
        handler.send_header("Content-Type", self.kind)
        if self.chunked:
            handler.send_header("Transfer-Encoding", "chunked")
        else:
            handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        length = len(rest)
        if self.breaks:
            self.breaks -= 1
            rest = rest[: int(length * self.fraction(asked))]
        if self.chunked:
            handler.wfile.write(b"%x\r\n%b" % (length, rest) + b"\r\n0\r\n\r\n" * (len(rest) == length))
        else:
            handler.wfile.write(rest)


@pytest.fixture
def server():
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CRISSCROSS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("CRISSCROSS_OFFLINE", raising=False)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


def refusal(*arguments, **options):
    with pytest.raises(CrissCrossError) as caught:
        fetch(*arguments, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_file_is_fetched_once(server, cache):
    path = fetch(server.url, DIGEST)
    assert path == cache / "net.pth" and path.read_bytes() == CONTENT
    assert fetch(server.url, DIGEST, offline=True) == path
    assert server.asked == [None]
    assert not (cache / "net.pth.part").exists()


def test_an_interrupted_download_continues(server):
    server.breaks = 2
    assert fetch(server.url, DIGEST).read_bytes() == CONTENT
    half = len(CONTENT) // 2
    assert server.asked == [None, f"bytes={half}-", f"bytes={half + half // 2}-"]


def test_a_download_without_progress_stops_and_continues_next_time(server, cache):
    server.breaks, server.fraction = 2, lambda asked: 1 / 2 if asked is None else 0
    message = refusal(server.url, DIGEST)
    assert "the connection broke at 2560000 of 5120000 bytes, 2 times in all; run the command again" in message
    assert server.asked == [None, "bytes=2560000-"]
    assert (cache / "net.pth.part").stat().st_size == 2_560_000
    assert fetch(server.url, DIGEST).read_bytes() == CONTENT
    assert server.asked[-1] == "bytes=2560000-"


def test_an_unstable_connection_succeeds(server):
    server.breaks = 12
    assert fetch(server.url, DIGEST).read_bytes() == CONTENT
    assert len(server.asked) == 13


def test_an_interrupted_chunked_response_continues(server):
    server.breaks, server.chunked = 1, True
    assert fetch(server.url, DIGEST).read_bytes() == CONTENT
    first, second = server.asked
    # The last, unfinished block may be lost.
    assert first is None and 1_000_000 < int(second.removeprefix("bytes=").removesuffix("-")) <= 2_560_000


def test_a_server_without_ranges_sends_everything_again(server):
    server.breaks, server.ranges = 1, False
    assert fetch(server.url, DIGEST).read_bytes() == CONTENT


def test_a_server_that_always_starts_over_is_given_up(server):
    server.breaks, server.ranges = 50, False
    assert "the connection broke at 2560000 of 5120000 bytes, 2 times in all" in refusal(server.url, DIGEST)
    assert len(server.asked) == 2


def test_a_server_that_sends_little_each_time_is_given_up(server):
    server.breaks, server.fraction = 500, lambda asked: 1e-5
    assert "100 times in all" in refusal(server.url, DIGEST)
    assert len(server.asked) == 100


def test_a_server_that_never_ends_does_not_fill_the_disk(server, monkeypatch):
    monkeypatch.setattr(download, "MOST_BYTES", 3_000_000)
    assert "sends more than 3,000,000 bytes" in refusal(server.url, DIGEST)


def test_a_partial_file_that_is_too_long_is_deleted(server, cache):
    cache.mkdir()
    (cache / "net.pth.part").write_bytes(CONTENT + b"more")
    assert fetch(server.url, DIGEST).read_bytes() == CONTENT


def test_a_wrong_hash_leaves_nothing(server, cache):
    assert f"SHA-256 begins with {DIGEST}, published is 00000000" in refusal(server.url, "00000000")
    assert [path.name for path in cache.iterdir() if not path.name.startswith(".")] == []


def test_a_file_changed_in_the_cache_is_noticed(server, cache):
    fetch(server.url, DIGEST)
    (cache / "net.pth").write_bytes(CONTENT[:-1])
    message = refusal(server.url, DIGEST)
    assert message.startswith(str(cache / "net.pth")) and message.endswith("delete it and try again")


def test_an_html_page_instead_of_the_file(server, cache):
    server.kind = "text/html"
    assert "answered with an HTML page instead of the file" in refusal(server.url, DIGEST)
    assert not (cache / "net.pth").exists()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"SSH-2.0-OpenSSH\r\n\r\n", "cannot be reached (SSH-2.0-OpenSSH)"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n", "cannot be reached (got more than"),
        (b"HTTP/1.1 302 Found\r\nLocation: /net.pth\r\n\r\n", "the server says 302 "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nshort", "wrong hash"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\nshort", "wrong hash"),
    ],
)
def test_an_invalid_response_is_one_line(server, cache, raw, message):
    server.raw = raw
    assert message in refusal(server.url, DIGEST)
    server.raw = b""
    assert fetch(server.url, DIGEST).read_bytes() == CONTENT


def test_a_lost_network_is_not_reported_as_a_write_error(server, monkeypatch):
    def read(answer, size):
        raise OSError(errno.ENETUNREACH, os.strerror(errno.ENETUNREACH))

    monkeypatch.setattr(http.client.HTTPResponse, "read", read)
    assert "the connection broke at 0 of 5120000 bytes" in refusal(server.url, DIGEST)


def test_no_such_file_no_network_and_no_permission(server, monkeypatch):
    assert "the server says 404" in refusal(server.url + "x", DIGEST)
    server.http.shutdown()
    server.http.server_close()
    message = refusal(server.url, DIGEST)
    assert "cannot be reached (" in message and message.endswith(
        "--weights FILE, to train with --init FILE (in Python weights= or init=)"
    )
    assert "downloads are off" in refusal(server.url, DIGEST, offline=True)
    monkeypatch.setenv("CRISSCROSS_OFFLINE", "1")
    assert "downloads are off" in refusal(server.url, DIGEST)


def test_a_cache_that_cannot_be_written(server, cache):
    cache.write_text("a file where a folder should be")
    assert "cannot be written" in refusal(server.url, DIGEST)


def test_concurrent_downloads_fetch_once(server):
    threads = [threading.Thread(target=fetch, args=(server.url, DIGEST)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert server.asked == [None]


def test_where_files_are_kept(monkeypatch, tmp_path):
    monkeypatch.delenv("CRISSCROSS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / "crisscross-seg" / "checkpoints"
