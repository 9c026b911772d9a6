"""How long a connection may take to say what it wants, where we listen ourselves."""

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol


class PatientProtocol(HttpToolsProtocol):
    """Uvicorn's HTTP/1.1, which closes connections whose headers do not come whole in time.

    Uvicorn waits for them for ever, so that whoever opens enough connections and says nothing takes
    all files that the process may open. `Boundary` limits all that comes after the headers.
    """

    header_timeout_s = 30.0

    _is_asking = True
    """Between connecting, or the first byte of a request, and the last one of its headers."""
    _headers_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take in a part; what has all headers, as nearly all parts have, sets no timer."""
        super().data_received(data)
        if self._is_asking and self._headers_due is None:
            self._wait()

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        super().on_message_begin()
        self._is_asking = True

    def on_headers_complete(self) -> None:
        """Note that it is known what is wanted."""
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._headers_due = self.loop.call_later(self.header_timeout_s, self.transport.close)

    def _stop_waiting(self) -> None:
        self._is_asking = False
        if self._headers_due is not None:
            self._headers_due.cancel()
            self._headers_due = None


def patient(header_timeout_s: float) -> type[PatientProtocol]:
    """Make the protocol for one server.

    Args:
        header_timeout_s: how long a connection may take until it has asked for something.
    """
    return type("Patient", (PatientProtocol,), {"header_timeout_s": header_timeout_s})
