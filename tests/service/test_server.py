"""The service in a process of its own: clients that are slow, break off, come all at once; and how it stops."""

import http.client
import json
import re
import signal
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import numpy as np
import pytest
from filter_bank import image_of
from served import file_of, labels_of, predictor, served
from waiting import wait_until

from crisscross.errors import CrissCrossError
from crisscross.service import listen

IMAGE = image_of(75, 101, 1)
PNG = file_of(IMAGE)
EXPECTED = predictor().predict(IMAGE).labels


def ask(port, content=PNG, path="/predict", method="POST", **headers):
    """Status, headers and body of one request on a connection of its own."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, content, headers)
    answer = connection.getresponse()
    found = answer.status, answer.headers, answer.read()
    connection.close()
    return found


def good(port):
    status, _, body = ask(port)
    assert status == 200 and np.array_equal(labels_of(body), EXPECTED)


@pytest.fixture
def begun():
    """A function for connections on which something was sent; they are closed after the test."""
    with ExitStack() as connections:

        def begin(port: int, sent: bytes) -> socket.socket:
            connection = connections.enter_context(socket.create_connection(("127.0.0.1", port), 60))
            connection.sendall(sent)
            return connection

        yield begin


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """A service for the tests that leave it working."""
    with served(tmp_path_factory.mktemp("service"), 0.1, requests=8, batch=1, timeout=3, size=1_000_000) as found:
        yield found
        good(found.port)
        found.stop(signal.SIGINT)


def received(connection: socket.socket) -> bytes:
    """All until the other side closes."""
    found = b""
    while more := connection.recv(1 << 16):
        found += more
    return found


def head(length, *lines, path="/predict"):
    more = "".join(f"{line}\r\n" for line in lines)
    return f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def fails(act) -> bool:
    """Whether a connection is closed or refused."""
    try:
        act()
    except (OSError, http.client.HTTPException):
        return True
    return False


def gauge(port, name):
    text = ask(port, None, "/metrics", "GET")[2].decode()
    return int(re.search(rf"^{name} (\d+)$", text, re.M)[1])


def test_hundreds_at_once_each_get_an_answer(service):
    count, before = 300, len(service.lines())
    start = threading.Barrier(count)

    def one(number):
        start.wait()
        # Each tenth sends no image.
        return ask(service.port, PNG if number % 10 else b"no image")

    with ThreadPoolExecutor(count) as pool:
        answers = list(pool.map(one, range(count)))
    codes = [status for status, _, _ in answers]
    assert set(codes) <= {200, 429, 415} and codes.count(200) > 0 and 8 <= count - codes.count(429) < count
    for number, (status, headers, body) in enumerate(answers):
        if status == 200:
            assert number % 10 and np.array_equal(labels_of(body), EXPECTED)
        else:
            assert json.loads(body).keys() == {"error"}
            assert (headers["retry-after"] == "1") == (status == 429)
    wait_until(lambda: len(service.lines()) >= before + count, service.process)
    lines = service.lines()[before:]
    assert sorted(line["status"] for line in lines) == sorted(codes)
    assert len({line["id"] for line in lines}) == count
    sizes = [line["size"] for line in lines if line["status"] == 200]
    assert sizes == ["101x75"] * len(sizes)
    good(service.port)


def test_slow_clients_are_given_up_and_hold_up_nobody(service, begun):
    body = begun(service.port, head(len(PNG)) + PNG[:50])
    heads = [begun(service.port, text) for text in (b"", b"POST /pre", b"GET /health HTTP/1.1\r\nHost: localh")]
    # One that never stops sending what was refused.
    garbage = begun(service.port, head(10**12))
    good(service.port)
    answer = received(body)
    assert answer.startswith(b"HTTP/1.1 408 ") and b'{"error":"the request was not complete after 3 sec' in answer
    assert [received(connection) for connection in heads] == [b"", b"", b""]
    wait_until(lambda: fails(lambda: garbage.sendall(bytes(1000))), service.process, 60)
    assert gauge(service.port, "crisscross_under_way") == 0


def test_clients_that_break_off(service, begun):
    before, images = len(service.lines()), gauge(service.port, "crisscross_images_total")
    begun(service.port, head(len(PNG)) + PNG[:50]).close()
    # Whole requests: one is being computed when its client goes, the others wait and are never computed.
    gone = [begun(service.port, head(len(PNG)) + PNG) for _ in range(5)]
    wait_until(lambda: gauge(service.port, "crisscross_waiting") > 2, service.process)
    for connection in gone:
        connection.close()
    wait_until(lambda: gauge(service.port, "crisscross_under_way") == 0, service.process)
    good(service.port)
    assert gauge(service.port, "crisscross_images_total") <= images + 4
    codes = [line["status"] for line in service.lines()[before:] if line["path"] == "/predict"]
    assert len(codes) == 7 and codes.count(499) >= 4 and codes[-1] == 200


def test_it_answers_what_it_took_before_it_stops(tmp_path, begun):
    with served(tmp_path, 0.2, batch=1) as service, ThreadPoolExecutor(5) as pool:
        idle = begun(service.port, b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
        # One whose body comes after the signal.
        late = begun(service.port, head(len(PNG)) + PNG[:99])
        asked = [pool.submit(ask, service.port) for _ in range(4)]
        wait_until(lambda: gauge(service.port, "crisscross_under_way") == 5, service.process)
        service.process.send_signal(signal.SIGTERM)
        assert received(idle).endswith(b'{"status":"ok"}')
        wait_until(lambda: fails(lambda: ask(service.port, None, "/health", "GET")))
        late.sendall(PNG[99:])
        assert received(late).startswith(b"HTTP/1.1 200")
        for one in asked:
            status, _, body = one.result()
            assert status == 200 and np.array_equal(labels_of(body), EXPECTED)
        assert service.process.wait(60) == 0


@pytest.mark.slow
def test_a_second_ctrl_c_ends_at_once(tmp_path, begun):
    with served(tmp_path, 0.5, batch=1, timeout=600) as service:
        for _ in range(20):
            begun(service.port, head(len(PNG)) + PNG)
        wait_until(lambda: gauge(service.port, "crisscross_under_way") == 20, service.process)
        service.process.send_signal(signal.SIGINT)
        wait_until(lambda: fails(lambda: ask(service.port, None, "/health", "GET")))
        service.process.send_signal(signal.SIGINT)
        assert service.process.wait(5) is not None


def test_who_is_refused_while_sending_reads_the_answer(service, begun):
    large = bytes(30_000_000)
    for headers in ({}, {"Connection": "close"}):
        assert ask(service.port, large, **headers)[0] == 413
        assert ask(service.port, iter([large]), **headers)[0] == 413
        assert ask(service.port, large, "/nothing", **headers)[0] == 404
        assert ask(service.port, large, **headers, Origin="http://evil.com")[0] == 403
    # Who asks first whether to send is told before.
    for length, answer in ((10**9, b"HTTP/1.1 413 "), (len(PNG), b"HTTP/1.1 100 ")):
        asking = begun(service.port, head(length, "Expect: 100-continue"))
        assert asking.recv(4096).startswith(answer)
    asking.sendall(PNG)
    assert asking.recv(4096).startswith(b"HTTP/1.1 200 ")


def test_what_is_no_http(service, begun):
    before = len(service.lines())
    for text in (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 9, b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"):
        assert received(begun(service.port, text)).startswith(b"HTTP/1.1 400 ")
    assert received(begun(service.port, b"GET /" + b"x" * 100_000)).startswith(b"HTTP/1.1 400 ")
    upgrade = b"GET /predict HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    assert begun(service.port, upgrade).recv(99).startswith(b"HTTP/1.1 405 ")
    # Whatever happens, the log is lines of JSON.
    lines = service.lines()[before:]
    invalid = [line for line in lines if line.get("error") == "Invalid HTTP request received."]
    assert len(invalid) == 4 and {line["level"] for line in invalid} == {"warning"}
    assert "Traceback" not in str(lines)


def test_addresses_that_cannot_be_listened_at():
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CrissCrossError, match=f"^port {port} of 127.0.0.1 is in use; .* by --port$"):
            listen("127.0.0.1", port)
    listen("127.0.0.1", port).close()
    for host in ("203.0.113.1", "no.such.host.invalid"):
        with pytest.raises(CrissCrossError, match=f"^cannot listen at {host}, port 8000: "):
            listen(host, 8000)
