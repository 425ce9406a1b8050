"""What every request passes: the check of its `Host` and `Origin`, the log, and an answer whatever goes wrong."""

import asyncio
import ipaddress
import json
import secrets
import time
import traceback
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from crisscross.service.metrics import Metrics
from crisscross.terminal import say

# Of a body that is refused, so much is received and thrown away before the answer: clients that send before they read
# would otherwise meet a closed connection.
DISCARDED, DISCARD_SECONDS = 2**26, 2.0
# Characters of a path in the log.
SHOWN = 200


def log(**facts: object) -> None:
    """Write one line of JSON to standard error."""
    now = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now)) + f".{int(now % 1 * 1000):03}Z"
    say(json.dumps({"time": stamp, **facts}), error=True)


def refused(status: int, error: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """The answer to a request that cannot be met."""
    return JSONResponse({"error": " ".join(error.split())}, status, headers)


def origin_problem(headers: Headers, hosts: tuple[str, ...]) -> tuple[int, str] | None:
    """Status and line for a request to a `Host` or from an `Origin` that is not served, else None.

    A page elsewhere that lets its name point to this machine sends its own name as `Host`, never an IP address.
    """
    host = headers.get("host", "")
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        name = ""
    if not (name == "localhost" or "*" in hosts or name in hosts or _is_address(name)):
        return 400, f"the host {json.dumps(host[:SHOWN])} is not served; the service may be started with --allow-host"
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host}".lower(), f"https://{host}".lower()):
        return 403, "requests from pages of another origin are not answered"
    return None


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class Guard:
    """Middleware around the whole application.

    Args:
        app: the application.
        hosts: see `Limits.hosts`.
        metrics: counts the requests.
        paths: those that are counted by name.
    """

    def __init__(self, app: ASGIApp, hosts: tuple[str, ...], metrics: Metrics, paths: frozenset[str]) -> None:
        self.app, self.hosts, self.metrics, self.paths = app, hosts, metrics, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        exchange = Exchange(scope, receive, send)
        try:
            if problem := origin_problem(exchange.headers, self.hosts):
                await refused(*problem)(scope, exchange.receive, exchange.send)
            else:
                await self.app(scope, exchange.receive, exchange.send)
        # What is wrong here stands in the log, under the number that the client is told.
        except Exception:
            log(level="error", id=exchange.id, error=traceback.format_exc())
            if not exchange.status:
                answer = refused(500, f"internal error; the log has it under {exchange.id}")
                await answer(scope, exchange.receive, exchange.send)
        finally:
            self._note(scope, exchange)

    def _note(self, scope: Scope, exchange: "Exchange") -> None:
        seconds, path = time.monotonic() - exchange.began, scope["path"]
        self.metrics.request(path if path in self.paths else "other", exchange.status, seconds)
        client = scope.get("client")
        log(
            id=exchange.id,
            client=client[0] if client else None,
            method=scope["method"],
            path=path[:SHOWN],
            status=exchange.status,
            ms=round(1000 * seconds, 1),
            received=exchange.received,
            sent=exchange.sent,
            **scope["state"].get("facts", {}),
        )


class Exchange:
    """A request and its answer: what has been received and sent of them."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = Headers(scope=scope)
        self.id, self.began = secrets.token_hex(6), time.monotonic()
        self.status = self.received = self.sent = 0
        self._receive, self._send = receive, send
        # A client that waits for the word to send its body needs none of it to be received.
        self._ended = "expect" in self.headers
        scope.setdefault("state", {})

    async def receive(self) -> Message:
        """As the server's."""
        message = await self._receive()
        self.received += len(message.get("body", b""))
        self._ended = self._ended or not message.get("more_body")
        return message

    async def send(self, message: Message) -> None:
        """As the server's, with our headers, and after the rest of the body was received."""
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            if "connection" not in headers:
                await self._discard()
            headers["x-request-id"] = self.id
            headers["x-content-type-options"] = "nosniff"
            headers["cache-control"] = "no-store"
            self.status = message["status"]
        self.sent += len(message.get("body", b""))
        await self._send(message)

    async def _discard(self) -> None:
        try:
            async with asyncio.timeout(DISCARD_SECONDS):
                while not self._ended and self.received < DISCARDED:
                    await self.receive()
        except TimeoutError:
            pass


def facts_of(scope: Any) -> dict[str, Any]:
    """What the log says about a request beside the usual, to be filled in."""
    return scope["state"].setdefault("facts", {})
