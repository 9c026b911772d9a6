import stat
from pathlib import Path

import pytest

from pinsage.base.errors import ConfigError
from pinsage.cluster.boundary_config import BoundaryConfig
from serve.auth import Caller, Gate, Verdict, check_exposure, decide, role_needed
from serve.keys import KeyRecord, KeyRing, Role, add_key, main, remove_key
from serve.problems import Code, ProblemError

LOCAL, REMOTE = "127.0.0.1", "192.0.2.7"


def record(role: str) -> KeyRecord:
    return KeyRecord(id="00", sha256="0" * 64, role=role)


def bearer(key: str) -> dict[bytes, bytes]:
    return {b"authorization": b"Bearer " + key.encode()}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


# Keys


def test_a_key_is_found_with_its_role_and_nothing_near_it_is(path: Path):
    key = add_key(path, Role.WRITE, note="the shop", requests_per_s=5, burst=9)
    ring = KeyRing.open(path)
    found = ring.find(key)
    assert found is not None
    assert (found.rank, found.note, found.requests_per_s, found.burst) == (
        Role.WRITE, "the shop", 5, 9,
    )  # fmt: skip
    for other in (key[:-1], key + "x", key.swapcase(), key.rsplit("_", 1)[0], "", "\udcff"):
        assert ring.find(other) is None


def test_the_file_holds_no_key_and_is_made_for_its_owner_alone(path: Path):
    key = add_key(path, Role.READ)
    assert key.rsplit("_", 1)[1] not in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o400, 0o440, 0o600, 0o640])
def test_a_key_file_may_be_read_by_its_owner_and_its_group(path: Path, mode: int):
    key = add_key(path, Role.READ)
    path.chmod(mode)
    assert KeyRing.open(path).find(key) is not None


@pytest.mark.parametrize("mode", [0o644, 0o660, 0o604, 0o602, 0o444])
def test_a_key_file_that_others_can_open_or_its_group_can_change_is_refused(path: Path, mode: int):
    add_key(path, Role.READ)
    path.chmod(mode)
    with pytest.raises(ConfigError, match=f"mode {mode:o}.*chmod 600"):
        KeyRing.open(path)


@pytest.mark.parametrize("content", ["", "[]", '{"keys": [{"id": "x"}]}', '{"format_version": 2}'])
def test_a_damaged_key_file_is_told(path: Path, content: str):
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="not a key file"):
        KeyRing.open(path)


def test_keys_are_added_listed_and_removed_by_command(
    path: Path, capsys: pytest.CaptureFixture[str]
):
    assert main(["--file", str(path), "add", "--role", "admin", "--note", "me"]) == 0
    key = capsys.readouterr().out.strip()
    assert KeyRing.open(path).find(key) is not None
    assert main(["--file", str(path), "list"]) == 0
    listed = capsys.readouterr().out
    assert "admin" in listed
    assert "me" in listed
    key_id = listed.split()[0]
    assert main(["--file", str(path), "remove", key_id]) == 0
    assert KeyRing.open(path).find(key) is None
    assert main(["--file", str(path), "remove", key_id]) == 2
    assert main(["--file", str(path), "add", "--requests-per-s", "-1"]) == 2
    assert "requests_per_s" in capsys.readouterr().err


# Who may do what


@pytest.mark.parametrize(
    ("method", "path", "role"),
    [
        ("GET", "/", None),
        ("GET", "/healthz", None),
        ("GET", "/metrics", Role.READ),
        ("GET", "/v1/items/a/similar", Role.READ),
        ("POST", "/v1/homefeed", Role.READ),
        ("POST", "/v1/embed", Role.READ),
        ("POST", "/v1/duel/votes", Role.READ),
        ("PUT", "/v1/items/a", Role.WRITE),
        ("DELETE", "/v1/items/v1/homefeed", Role.WRITE),
        ("POST", "/v1/similar/", Role.WRITE),
        ("PATCH", "/v1/anything", Role.WRITE),
        ("GET", "/v1/generation", Role.READ),
        ("POST", "/v1/generation", Role.ADMIN),
        ("DELETE", "/v1/generations/x", Role.ADMIN),
    ],
)
def test_a_call_needs_the_least_role_that_its_effect_asks_for(
    method: str, path: str, role: Role | None
):
    assert role_needed(method, path) == role


@pytest.mark.parametrize("reads", ["auto", "open", "key"])
@pytest.mark.parametrize("address", [LOCAL, REMOTE])
@pytest.mark.parametrize("role", ["read", "write", "admin"])
@pytest.mark.parametrize("needed", list(Role))
def test_a_key_may_do_what_its_role_covers_wherever_it_comes_from(
    reads: str, address: str, role: str, needed: Role
):
    config = BoundaryConfig(keys="k", reads=reads)
    caller = Caller(address, record(role), has_key=True)
    covers = Role[role.upper()] >= needed
    wanted = Verdict.ALLOW if covers else Verdict.ROLE_TOO_LOW
    assert decide(needed, caller, config) is wanted


ALLOW, NEEDED = Verdict.ALLOW, Verdict.KEY_NEEDED


@pytest.mark.parametrize(
    ("settings", "address", "read", "write"),
    [
        ({}, LOCAL, ALLOW, ALLOW),
        ({}, "::1", ALLOW, ALLOW),
        ({}, "::ffff:127.0.0.1", ALLOW, ALLOW),
        ({}, "", ALLOW, ALLOW),
        ({}, None, NEEDED, NEEDED),
        ({}, REMOTE, NEEDED, NEEDED),
        ({}, "::ffff:192.0.2.7", NEEDED, NEEDED),
        ({"reads": "open"}, REMOTE, ALLOW, NEEDED),
        ({"keys": "k"}, LOCAL, ALLOW, NEEDED),
        ({"keys": "k"}, REMOTE, NEEDED, NEEDED),
        ({"keys": "k", "reads": "key"}, LOCAL, NEEDED, NEEDED),
        ({"open_to_network": True}, REMOTE, ALLOW, ALLOW),
    ],
)
def test_without_a_key_only_what_is_open_to_the_address_is_allowed(
    settings: dict, address: str | None, read: Verdict, write: Verdict
):
    config = BoundaryConfig(**settings)
    assert decide(Role.READ, Caller(address), config) is read
    assert decide(Role.WRITE, Caller(address), config) is write
    assert decide(None, Caller(address), config) is Verdict.ALLOW


def test_an_unknown_key_is_refused_even_where_none_is_needed():
    caller = Caller(LOCAL, None, has_key=True)
    assert decide(Role.READ, caller, BoundaryConfig()) is Verdict.KEY_UNKNOWN


def admitted(gate: Gate, method: str, path: str, client: str | None, **headers: str) -> Code | None:
    sent = {name.replace("_", "-").encode(): value.encode() for name, value in headers.items()}
    try:
        gate.admit(method, path, client, sent)
    except ProblemError as error:
        return error.code
    return None


@pytest.mark.parametrize(
    ("origin", "host", "code"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", None),
        ("http://localhost:8000", "localhost:8000", None),
        ("http://[::1]:8000", "[::1]:8000", None),
        ("https://evil.example", "127.0.0.1:8000", Code.FORBIDDEN),
        ("http://rebound.example:8000", "rebound.example:8000", Code.FORBIDDEN),
        ("http://localhost:9999", "localhost:8000", Code.FORBIDDEN),
        ("null", "127.0.0.1:8000", Code.FORBIDDEN),
        ("http://[", "[", Code.FORBIDDEN),
    ],
)
def test_only_this_servers_own_pages_may_change_something_without_a_key(
    origin: str, host: str, code: Code | None
):
    gate = Gate(BoundaryConfig())
    for method, path in (("PUT", "/v1/items/a"), ("POST", "/v1/duel/votes")):
        assert admitted(gate, method, path, LOCAL, origin=origin, host=host) is code
    for method, path in (("GET", "/v1/items/a"), ("POST", "/v1/similar")):
        assert admitted(gate, method, path, LOCAL, origin=origin, host=host) is None


@pytest.mark.parametrize(
    ("origin", "host", "code"),
    [
        ("http://10.0.0.5:8000", "10.0.0.5:8000", None),
        ("https://books.example", "books.example", None),
        ("http://10.0.0.5:9999", "10.0.0.5:8000", Code.FORBIDDEN),
        ("https://evil.example", "10.0.0.5:8000", Code.FORBIDDEN),
        ("null", "10.0.0.5:8000", Code.FORBIDDEN),
    ],
)
def test_what_is_open_to_the_network_may_be_changed_by_this_servers_own_pages_by_any_name(
    origin: str, host: str, code: Code | None
):
    gate = Gate(BoundaryConfig(open_to_network=True))
    for method, path in (("PUT", "/v1/items/a"), ("POST", "/v1/duel/votes")):
        assert admitted(gate, method, path, REMOTE, origin=origin, host=host) is code


def test_whoever_may_read_wherever_they_are_may_vote_from_any_page():
    gate = Gate(BoundaryConfig(reads="open"))
    sent = {"origin": "https://books.example", "host": "upstream"}
    for client in (LOCAL, REMOTE):
        assert admitted(gate, "POST", "/v1/duel/votes", client, **sent) is None


def test_sites_whose_pages_may_call_are_ours():
    gate = Gate(BoundaryConfig(allowed_origins=("https://shop.example",)))
    for origin, code in (("https://shop.example", None), ("https://evil.example", Code.FORBIDDEN)):
        assert admitted(gate, "POST", "/v1/duel/votes", LOCAL, origin=origin, host="x") is code


def test_who_is_forwarded_from_afar_is_not_taken_for_local():
    gate = Gate(BoundaryConfig())
    assert admitted(gate, "PUT", "/v1/items/a", LOCAL, x_forwarded_for=LOCAL) is Code.KEY_NEEDED
    trusting = Gate(BoundaryConfig(trusted_proxies=(LOCAL,)))
    assert admitted(trusting, "GET", "/v1/items", LOCAL, x_forwarded_for=f"{LOCAL}, {REMOTE}")
    assert admitted(trusting, "GET", "/v1/items", LOCAL, x_forwarded_for=f"{REMOTE}, ::1") is None


@pytest.mark.parametrize("told", ["unknown", "_hidden", f"{REMOTE},", "", f"{LOCAL}:80"])
def test_a_trusted_proxy_that_names_no_address_speaks_for_strangers(told: str):
    trusting = Gate(BoundaryConfig(trusted_proxies=(LOCAL,)))
    assert admitted(trusting, "GET", "/v1/items", LOCAL, x_forwarded_for=told) is Code.KEY_NEEDED
    assert admitted(trusting, "GET", "/v1/items", LOCAL) is None


@pytest.mark.parametrize(
    "header", ["forwarded", "via", "x_real_ip", "x_forwarded_host", "x_forwarded_proto"]
)
def test_what_any_proxy_adds_tells_that_the_caller_may_be_elsewhere(header: str):
    for config in (BoundaryConfig(), BoundaryConfig(trusted_proxies=(LOCAL,))):
        sent = {header: LOCAL}
        found = admitted(Gate(config), "POST", "/v1/generation", LOCAL, **sent)
        assert found is Code.KEY_NEEDED


def test_no_one_is_local_behind_a_proxy_that_does_not_say_whom_it_speaks_for():
    gate = Gate(BoundaryConfig(local_callers=False))
    assert admitted(gate, "GET", "/v1/items", LOCAL) is Code.KEY_NEEDED
    assert admitted(gate, "PUT", "/v1/items/a", LOCAL) is Code.KEY_NEEDED


def test_rates_are_counted_by_key_and_by_address_and_wrong_keys_are_rated_too(path: Path):
    fast = add_key(path, Role.READ, requests_per_s=100, burst=3)
    slow = add_key(path, Role.READ)
    config = BoundaryConfig(keys=path, reads="open", requests_per_s=1, burst=1)
    gate = Gate(config, clock=lambda: 0.0)

    def ask(client: str | None, key: str | None = None) -> Code | None:
        headers = {} if key is None else {"authorization": f"bearer {key}"}
        return admitted(gate, "GET", "/v1/items", client, **headers)

    assert [ask(LOCAL, fast) for _ in range(4)] == [None] * 3 + [Code.TOO_MANY_REQUESTS]
    assert [ask(REMOTE, slow), ask(LOCAL, slow)] == [None, Code.TOO_MANY_REQUESTS]
    assert [ask(LOCAL), ask(LOCAL), ask(REMOTE)] == [None, Code.TOO_MANY_REQUESTS, None]
    assert [ask(None), ask(None), ask("")] == [None, Code.TOO_MANY_REQUESTS, None]
    assert [ask("192.0.2.9", "x"), ask("192.0.2.9", "y")] == [
        Code.KEY_NEEDED, Code.TOO_MANY_REQUESTS,
    ]  # fmt: skip
    assert admitted(gate, "GET", "/healthz", LOCAL) is None


def test_added_and_removed_keys_count_without_a_restart_and_a_lost_file_opens_nothing(path: Path):
    now = [0.0]
    first = add_key(path, Role.ADMIN)
    gate = Gate(BoundaryConfig(keys=path), clock=lambda: now[0])

    def may_write(key: str) -> bool:
        now[0] += 2
        return admitted(gate, "PUT", "/v1/items/a", LOCAL, x_api_key=key) is None

    assert may_write(first)
    second = add_key(path, Role.WRITE)
    assert may_write(second)
    remove_key(path, first.split("_")[1])
    assert not may_write(first)
    content = path.read_bytes()
    path.unlink()
    assert not may_write(second)
    path.write_bytes(content)
    path.chmod(0o600)
    assert may_write(second)


# Listening to others


def test_a_server_without_keys_refuses_to_be_open_to_the_network():
    for host in ("127.0.0.1", "localhost", "::1", "127.9.9.9"):
        check_exposure(host, BoundaryConfig())
    for host in ("0.0.0.0", "::", "192.0.2.7", "example.org", ""):
        with pytest.raises(ConfigError, match=r"serve\.keys add"):
            check_exposure(host, BoundaryConfig())
        check_exposure(host, BoundaryConfig(keys="k"))
        check_exposure(host, BoundaryConfig(open_to_network=True))
