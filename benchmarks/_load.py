"""Load on an HTTP server: some connections, each with one request under way at a time.

The client is a process of its own, one thread over non-blocking sockets, so that it costs little
beside what it measures. It keeps connections open, and opens a new one where one was lost.
"""

import errno
import multiprocessing
import re
import selectors
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_READ_BYTES = 1 << 18
_RECONNECT_S = 0.02
_STUCK_S = 10.0


@dataclass
class Load:
    """What a stretch of load met.

    Attributes:
        seconds: how long it was.
        latencies_s: seconds of every request answered with 200, in order of their answers.
        statuses: how often each other status came.
        lost: how many requests got no answer at all.
        failed_at_s: when what failed failed, in seconds from the beginning.
    """

    seconds: float = 0.0
    latencies_s: list[float] = field(default_factory=list)
    statuses: dict[int, int] = field(default_factory=dict)
    lost: int = 0
    failed_at_s: list[float] = field(default_factory=list)

    @property
    def requests_per_s(self) -> float:
        """Answered with 200, in a second."""
        return len(self.latencies_s) / self.seconds if self.seconds else 0.0

    @property
    def failed(self) -> int:
        """Requests that were lost, or answered otherwise."""
        return self.lost + sum(self.statuses.values())

    def percentile_s(self, share: float) -> float:
        """Give the latency that a share of the requests stayed under."""
        ordered = sorted(self.latencies_s)
        return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def get(path: str) -> bytes:
    """Write a request down."""
    return f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: keep-alive\r\n\r\n".encode()


def load(port: int, requests: Sequence[bytes], *, connections: int, seconds: float) -> Load:
    """Put load on a server of this machine, from a process of its own.

    Args:
        port: where it listens.
        requests: what to ask, in turns.
        connections: requests under way at a time.
        seconds: how long.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        wanted = pool.apply_async(_run, (port, list(requests), connections, seconds))
        return wanted.get(timeout=seconds + 60)


class _Connection:
    """One connection and the request under way on it."""

    def __init__(self) -> None:
        self.socket: socket.socket | None = None
        self.asked_at = 0.0
        self.reads = bytearray()
        self.wanted = -1
        self.status = 0
        self.retry_at = 0.0


def _run(port: int, requests: list[bytes], connections: int, seconds: float) -> Load:
    return _Client(port, requests).run(connections, seconds)


class _Client:
    """The loop over all connections."""

    def __init__(self, port: int, requests: list[bytes]) -> None:
        self._address = ("127.0.0.1", port)
        self._requests = requests
        self._next = 0
        self._selector = selectors.DefaultSelector()
        self._load = Load()
        self._began = 0.0

    def run(self, connections: int, seconds: float) -> Load:
        """Keep all connections busy for some seconds."""
        everyone = [_Connection() for _ in range(connections)]
        self._began = time.perf_counter()
        end = self._began + seconds
        for connection in everyone:
            self._open(connection)
        while (now := time.perf_counter()) < end:
            for key, _ in self._selector.select(timeout=_RECONNECT_S):
                self._read(key.data)
            for connection in everyone:
                if connection.socket is None and now >= connection.retry_at:
                    self._open(connection)
                elif connection.socket is not None and now > connection.asked_at + _STUCK_S:
                    self._lose(connection)
        self._load.seconds = time.perf_counter() - self._began
        for connection in everyone:
            if connection.socket is not None:
                connection.socket.close()
        return self._load

    def _open(self, connection: _Connection) -> None:
        made = socket.socket()
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        made.settimeout(_STUCK_S)
        connection.asked_at = time.perf_counter()
        connection.socket = made
        try:
            made.connect(self._address)
        except OSError:
            self._lose(connection, registered=False)
            return
        made.settimeout(0)
        self._selector.register(made, selectors.EVENT_READ, connection)
        self._ask(connection)

    def _ask(self, connection: _Connection) -> None:
        assert connection.socket is not None
        request = self._requests[self._next % len(self._requests)]
        self._next += 1
        connection.reads.clear()
        connection.wanted = -1
        connection.asked_at = time.perf_counter()
        try:
            connection.socket.sendall(request)
        except OSError:
            self._lose(connection)

    def _read(self, connection: _Connection) -> None:
        if connection.socket is None:
            return
        try:
            part = connection.socket.recv(_READ_BYTES)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EWOULDBLOCK}:
                self._lose(connection)
            return
        if not part:
            self._lose(connection)
            return
        reads = connection.reads
        reads += part
        if connection.wanted < 0:
            end = reads.find(b"\r\n\r\n")
            if end < 0:
                return
            length = _LENGTH.search(reads, 0, end + 2)
            connection.status = int(reads[9:12])
            connection.wanted = end + 4 + (int(length[1]) if length else 0)
        if len(reads) >= connection.wanted:
            self._answered(connection)

    def _answered(self, connection: _Connection) -> None:
        now = time.perf_counter()
        if connection.status == 200:
            self._load.latencies_s.append(now - connection.asked_at)
        else:
            statuses = self._load.statuses
            statuses[connection.status] = statuses.get(connection.status, 0) + 1
            self._load.failed_at_s.append(now - self._began)
        self._ask(connection)

    def _lose(self, connection: _Connection, *, registered: bool = True) -> None:
        assert connection.socket is not None
        if registered:
            self._selector.unregister(connection.socket)
        connection.socket.close()
        connection.socket = None
        now = time.perf_counter()
        connection.retry_at = now + _RECONNECT_S
        self._load.lost += 1
        self._load.failed_at_s.append(now - self._began)
