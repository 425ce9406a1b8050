"""Which hosts and origins are served."""

import pytest
from starlette.datastructures import Headers

from crisscross.service.guard import origin_problem


def status(host: str, origin: str | None = None, hosts=()) -> int:
    problem = origin_problem(Headers({"host": host} | ({} if origin is None else {"origin": origin})), hosts)
    return 200 if problem is None else problem[0]


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1:80", "10.1.2.3", "[::1]:8000", "[fe80::1]", "172.17.0.2:8000"]
)
def test_this_machine_and_addresses_are_served(host):
    assert status(host) == 200
    for scheme in ("http", "https"):
        assert status(host, f"{scheme}://{host}") == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.com", "evil.com:8000", "localhost.evil.com", "127.0.0.1.evil.com", "a@localhost@b", "[::1", "::1x"],
)
def test_names_are_not_unless_they_are_allowed(host):
    assert status(host) == 400
    assert status(host, hosts=("seg.example",)) == 400
    assert status(host, hosts=("*",)) == 200


def test_a_name_that_is_allowed():
    assert status("seg.example:8000", hosts=("a", "seg.example")) == 200
    assert status("seg.example", "https://seg.example", ("seg.example",)) == 200
    assert status("seg.example", "https://a", ("a", "seg.example")) == 403


@pytest.mark.parametrize(
    "origin",
    ["null", "", "http://evil.com", "http://localhost", "http://localhost:80001", "http://127.0.0.1:8000", "file://"],
)
def test_pages_of_another_origin_are_not_answered(origin):
    assert status("localhost:8000", origin) == 403
    assert status("localhost:8000", origin, ("*",)) == 403
