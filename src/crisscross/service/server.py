"""The HTTP server: its socket, its connections, its log and its end."""

import asyncio
import errno
import logging
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from math import ceil
from typing import Any

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from crisscross.errors import CrissCrossError
from crisscross.service.guard import log

# Connections that the system keeps until they are accepted.
BACKLOG = 2048


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; clients that connect before `serve` wait.

    Args:
        host: a name or IP address of this machine.
        port: 0 takes any that is free.

    Raises:
        CrissCrossError: the port is in use or reserved, or this machine has no such address.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(BACKLOG)
        except OSError:
            found.close()
            raise
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            line = f"port {port} of {host} is in use; stop the program that listens there, or choose another by --port"
        elif error.errno == errno.EACCES:
            line = f"port {port} is reserved for the system; choose one above 1023 by --port"
        else:
            line = f"cannot listen at {host}, port {port}: {error.strerror or error}; give an address of this machine"
        raise CrissCrossError(line) from error
    return found


def serve(app: ASGIApp, listening: socket.socket, timeout: float) -> None:
    """Answer requests until Ctrl-C or SIGTERM; what was taken until then is answered. A second Ctrl-C ends at once.

    Args:
        app: from `create_app`.
        listening: from `listen`.
        timeout: as in `Limits`.
    """
    with _logging():
        _Server(
            uvicorn.Config(
                app,
                http=_Protocol,
                ws="none",
                loop="asyncio",
                lifespan="on",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=BACKLOG,
                timeout_keep_alive=ceil(timeout),
                # Receiving, computing and sending.
                timeout_graceful_shutdown=ceil(3 * timeout),
            )
        ).run([listening])


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, which raises the signals once more at the end: here they are the usual way to stop."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


class _Protocol(H11Protocol):
    """A connection that is closed where the head of a request does not arrive in time, or a refused body never ends."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_request()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        self._expect_nothing()
        super().connection_lost(exc)

    def _expect_request(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._expect_nothing()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.timeout_keep_alive, self.transport.close)

    def _expect_nothing(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None


class _Lines(logging.Handler):
    """What the server logs, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        facts: dict[str, Any] = {"level": record.levelname.lower(), "error": record.getMessage().strip()}
        if record.exc_info and record.exc_info[1]:
            facts["error"] += f" {logging.Formatter().formatException(record.exc_info)}"
        log(**facts)


@contextmanager
def _logging() -> Iterator[None]:
    handler, loggers = (
        _Lines(logging.WARNING),
        [logging.getLogger(name) for name in ("uvicorn", "asyncio", "python_multipart")],
    )
    for logger in loggers:
        logger.addHandler(handler)
        logger.propagate = False
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
            logger.propagate = True
