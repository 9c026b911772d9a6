"""Who is calling, and whether they may: keys, roles, addresses and origins."""

import ipaddress
import logging
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pinsage.base.errors import ConfigError
from pinsage.cluster.boundary_config import BoundaryConfig
from serve.keys import KeyRecord, KeyRing, Role
from serve.limits import TokenBuckets, retry_after
from serve.problems import Code, ProblemError
from serve.questions import changes_something

logger = logging.getLogger("pinsage.serve")

_VOTES = "/v1/duel/votes"
"""A call that changes something, and is open to whoever may read."""
_REREAD_S = 1.0

_FORWARDED_FOR = b"x-forwarded-for"
_FORWARDING = (
    _FORWARDED_FOR,
    b"forwarded",
    b"via",
    b"x-real-ip",
    b"x-forwarded-host",
    b"x-forwarded-proto",
)
"""What proxies add to the requests that they pass on."""


_BEARER = re.compile(r"(?:^|,\s*)bearer(?:\s|,|$)", re.IGNORECASE)
"""The scheme that is ours, alone or in a list."""


class Verdict(Enum):
    """What becomes of a request, as far as its caller goes."""

    ALLOW = "allow"
    KEY_NEEDED = "key needed"
    KEY_UNKNOWN = "key unknown"
    ROLE_TOO_LOW = "role too low"
    CROSS_SITE = "cross site"


class Caller(NamedTuple):
    """Who sent a request. A plain tuple, since every request makes one.

    Attributes:
        address: the client's IP address; empty if it has none, such as over a Unix socket; None if
            nobody can say, such as of a connection that was reset.
        key: what its key may do; None if it showed none, or one that isn't ours.
        has_key: whether it showed any.
        is_cross_site: whether a page of another web site sent it, so that where its browser runs
            opens nothing that changes something.
        is_forwarded: whether somebody forwarded it whose word on the address isn't trusted.
    """

    address: str | None
    key: KeyRecord | None = None
    has_key: bool = False
    is_cross_site: bool = False
    is_forwarded: bool = False

    @property
    def is_local(self) -> bool:
        """Whether it is on this machine; what has no IP address came over no network."""
        if self.is_forwarded or self.address is None:
            return False
        has_address = "." in self.address or ":" in self.address
        return not has_address or is_loopback(self.address)

    @property
    def name(self) -> str:
        """Whose bucket it draws from."""
        return f"key {self.key.id}" if self.key else f"address {self.address}"


def role_needed(method: str, path: str) -> Role | None:
    """Say what a call asks of its caller; None is open to everyone.

    Args:
        method: the HTTP method.
        path: the path, without a prefix.
    """
    # Routes are found with a line feed behind them, too.
    if not path.startswith("/v1/") and path.rstrip("\n") != "/metrics":
        # Pages, the description and health tell nothing about anyone.
        return None
    if not changes_something(method, path) or (method == "POST" and path == _VOTES):
        return Role.READ
    return Role.ADMIN if path.startswith("/v1/generation") else Role.WRITE


def decide(
    needed: Role | None, caller: Caller, config: BoundaryConfig, *, changes: bool = True
) -> Verdict:
    """Say whether a caller may make a call.

    Without a key file, this machine may do everything and others nothing: `serve.__main__` refuses
    to listen to others then. A page of another site may never make a browser change something on
    the strength of where that browser runs.

    Args:
        needed: what the call asks for; None is open to everyone.
        caller: who calls.
        config: who may do what.
        changes: whether the call changes anything.
    """
    if needed is None:
        return Verdict.ALLOW
    if caller.has_key:
        if caller.key is None:
            return Verdict.KEY_UNKNOWN
        return Verdict.ALLOW if caller.key.rank >= needed else Verdict.ROLE_TOO_LOW
    if needed == Role.READ and config.reads == "open":
        # Open to everyone, wherever they are.
        return Verdict.ALLOW
    asks_no_key = config.reads == "auto" if needed == Role.READ else config.keys is None
    if not config.open_to_network and not (asks_no_key and caller.is_local):
        return Verdict.KEY_NEEDED
    return Verdict.CROSS_SITE if changes and caller.is_cross_site else Verdict.ALLOW


class Gate:
    """Lets callers in, or says why not."""

    def __init__(
        self, config: BoundaryConfig, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Read the key file, if there is one.

        Args:
            config: who may do what, and how often.
            clock: seconds, from any beginning.

        Raises:
            ConfigError: the key file cannot be used.
        """
        self._config = config
        self._clock = clock
        self._buckets = TokenBuckets(clock=clock)
        self._ring = KeyRing([])
        self._stamp: tuple[int, int, int] | None = None
        self._reread_at = clock()
        if config.keys is not None:
            self._stamp = _stamp(config.keys)
            self._ring = KeyRing.open(config.keys)

    def admit(
        self, method: str, path: str, client: str | None, headers: Mapping[bytes, bytes]
    ) -> Caller:
        """Let a request in.

        Args:
            method: the HTTP method.
            path: the path, without a prefix.
            client: the address of the other end; see `Caller.address`.
            headers: the request's, in lower case.

        Raises:
            ProblemError: it may not be answered: 401, 403 or 429.
        """
        caller = self._caller(client, headers)
        needed = role_needed(method, path)
        changes = changes_something(method, path)
        verdict = decide(needed, caller, self._config, changes=changes)
        if verdict is not Verdict.ALLOW:
            # Guesses at keys are rated like any other call.
            self._rate(caller)
            raise _refusal(verdict, needed)
        if needed is not None:
            self._rate(caller)
        return caller

    def _caller(self, client: str | None, headers: Mapping[bytes, bytes]) -> Caller:
        shown = _shown_key(headers)
        is_forwarded = any(name in headers for name in _FORWARDING)
        if is_forwarded and client in self._config.trusted_proxies:
            told = headers.get(_FORWARDED_FOR, b"").decode("latin-1").rpartition(",")[2].strip()
            # A proxy that names no address may speak for anyone.
            client, is_forwarded = (told, False) if _is_address(told) else (client, True)
        key = self._current_ring().find(shown) if shown is not None else None
        return Caller(
            client,
            key,
            has_key=shown is not None,
            is_cross_site=_is_cross_site(headers, self._config),
            is_forwarded=is_forwarded or not self._config.local_callers,
        )

    def _rate(self, caller: Caller) -> None:
        own = caller.key
        rate = (own.requests_per_s if own else None) or self._config.requests_per_s
        if rate is None:
            return
        burst = (own.burst if own else None) or self._config.burst
        wait_s = self._buckets.take(caller.name, requests_per_s=rate, burst=burst)
        if wait_s:
            raise ProblemError(
                Code.TOO_MANY_REQUESTS,
                f"You may make {rate:g} requests a second, {burst} at once; try again in "
                f"{max(wait_s, 0.1):.1f} s.",
                headers=retry_after(wait_s),
            )

    def _current_ring(self) -> KeyRing:
        """Read the file again when it has changed; looked at once a second at most."""
        path, now = self._config.keys, self._clock()
        if path is None or now < self._reread_at + _REREAD_S:
            return self._ring
        self._reread_at = now
        try:
            stamp = _stamp(path)
            if stamp != self._stamp:
                self._ring, self._stamp = KeyRing.open(path), stamp
        except ConfigError as error:
            # Who removes keys counts on their being refused, so a lost file opens nothing.
            logger.error("no key is accepted until this is mended: %s", error)
            self._ring, self._stamp = KeyRing([]), None
        return self._ring


def behind_haproxy() -> bool:
    """Say whether Ray Serve puts HAProxy before its replicas: only Ray's own switch knows.

    It listens on every address, whatever host is asked for, and doesn't say whom it speaks for.
    """
    return os.environ.get("RAY_SERVE_ENABLE_HA_PROXY") == "1"


def check_exposure(host: str, config: BoundaryConfig) -> None:
    """Refuse to listen to others while there is nothing to tell friend from stranger.

    Raises:
        ConfigError: the host is not this machine alone, and there are no keys.
    """
    if is_loopback(host) or config.open_to_network or config.keys is not None:
        return
    raise ConfigError(
        f"serve.host is {host}, which other machines can reach, but there are no API keys; make "
        "one with `python -m serve.keys add --role admin` and set serve.boundary.keys=keys.json, "
        "or let everyone in with serve.boundary.open_to_network=true"
    )


@lru_cache(maxsize=4096)
def is_loopback(address: str) -> bool:
    """Say whether a host is this machine, and can be reached from nowhere else."""
    if address == "localhost":
        return True
    try:
        ip = ipaddress.ip_address(address.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None)
    return bool((mapped or ip).is_loopback)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Give headers by name; what was sent several times is one list (RFC 9110, 5.2).

    >>> by_name([(b"via", b"a"), (b"host", b"x"), (b"via", b"b")])
    {b'via': b'a, b', b'host': b'x'}
    """
    found = dict(headers)
    if len(found) == len(headers):
        return found
    found.clear()
    for name, value in headers:
        found[name] = found[name] + b", " + value if name in found else value
    return found


def _shown_key(headers: Mapping[bytes, bytes]) -> str | None:
    """Read the key a request shows, if any; other schemes of authorization aren't ours.

    What is shown beside another scheme, or another key, is no key that anybody was given: which of
    them counts would hang on their order.
    """
    shown = headers.get(b"x-api-key")
    if shown is not None:
        return shown.decode("latin-1").strip()
    authorization = headers.get(b"authorization", b"").decode("latin-1")
    if not _BEARER.search(authorization):
        return None
    return authorization.partition(" ")[2].strip()


def _is_cross_site(headers: Mapping[bytes, bytes], config: BoundaryConfig) -> bool:
    """Say whether a browser sends this for a page from elsewhere, or under a borrowed name.

    Browsers name the page's origin with everything that may change something. A page of this
    server has the origin that the request goes to, and that is a name of this machine: a name that
    someone else points here (DNS rebinding) isn't, unless the server is open to the network, where
    it goes by any name.

    Args:
        headers: the request's.
        config: names the sites that count as ours.
    """
    if b"origin" not in headers:
        return False
    origin, host = (headers.get(name, b"").decode("latin-1") for name in (b"origin", b"host"))
    if origin in config.allowed_origins:
        return False
    try:
        page = urlsplit(origin)
        goes_by = config.open_to_network or is_loopback(page.hostname or "?")
    except ValueError:
        return True
    return page.netloc != host or not goes_by


def _refusal(verdict: Verdict, needed: Role | None) -> ProblemError:
    role = needed.name.lower() if needed else "read"
    if verdict is Verdict.ROLE_TOO_LOW:
        return ProblemError(Code.FORBIDDEN, f"This call needs a key with the role {role}.")
    if verdict is Verdict.CROSS_SITE:
        return ProblemError(
            Code.FORBIDDEN, "A page from elsewhere may not change anything here without a key."
        )
    detail = {
        Verdict.KEY_NEEDED: f"This call needs an API key with the role {role}, sent as "
        "`Authorization: Bearer KEY`.",
        Verdict.KEY_UNKNOWN: "This API key is not known here, or no longer; send one key, once.",
    }[verdict]
    return ProblemError(
        Code.KEY_NEEDED, detail, headers={"WWW-Authenticate": 'Bearer realm="pinsage"'}
    )


def _stamp(path: Path) -> tuple[int, int, int]:
    """What tells one version of a file from the next."""
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(
            f"{path}: the key file cannot be read ({error.strerror}); make one with "
            "`python -m serve.keys add`"
        ) from error
    return found.st_mtime_ns, found.st_ino, found.st_size
