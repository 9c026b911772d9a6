"""`python -m serve`: the server and its page on this machine, until Ctrl-C or SIGTERM."""

import argparse
import json
import logging
import socket
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from ray import serve
from ray.serve.schema import LoggingConfig

from pinsage.base.config import add_recipe_flags, dump_config, load_config
from pinsage.base.errors import ConfigError, PinsageError, ResourceError
from pinsage.base.interrupts import hear_ctrl_c
from pinsage.base.logs import set_up_logging, writes_json
from pinsage.cluster.generations import GENERATION
from pinsage.cluster.run_config import RunConfig, ServeSection
from pinsage.cluster.session import cluster_address, session, stop_on_signals
from pinsage.cluster.worker_logs import set_up_logs
from serve.api import check_folders
from serve.app import AppArgs, build_app
from serve.auth import behind_haproxy, check_exposure
from serve.direct import serve_directly
from serve.generations import first_parts, newest_digest
from serve.keys import KeyRing
from serve.proxy import prepare_proxies

_REFUSALS = {401, 403, 429}
"""What a server says that wants a key, or has a low rate; it is there all the same."""
_APPLICATION = "pinsage"

_ANSWER_TIMEOUT_S = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a finished run; returns the exit status."""
    hear_ctrl_c()
    parser = argparse.ArgumentParser(prog="python -m serve", description=__doc__)
    add_recipe_flags(parser)
    parser.add_argument("--print-config", action="store_true", help="show all settings and stop")
    parser.add_argument(
        "--direct",
        action="store_true",
        help="listen with plain processes, without Ray: one machine, and much faster",
    )
    options = parser.parse_args(arguments)
    set_up_logging()
    try:
        config = load_config(RunConfig, options.config, options.overrides)
        if options.print_config:
            print(dump_config(config), end="")
            return 0
        set_up_logs(config.logs)
        everywhere = behind_haproxy() and not options.direct
        check_exposure("0.0.0.0" if everywhere else config.serve.host, config.serve.boundary)
        is_here = options.direct or cluster_address(config.ray) == "local"
        if is_here and config.serve.boundary.keys is not None:
            KeyRing.open(config.serve.boundary.keys)
        if options.direct:
            return _serve_directly(config)
        return _serve_until_stopped(config)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except PinsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _serve_until_stopped(config: RunConfig) -> int:
    is_local = cluster_address(config.ray) == "local"
    # Both are told before Ray takes its seconds to start.
    app = build_app(app_args(config))
    if is_local:
        _check_port(config.serve.host, config.serve.port)
        prepare_proxies()
    stop_on_signals()
    with session(config.ray):
        try:
            _start(app, config.serve)
            _announce(_url(config.serve), config, runs_in="started here" if is_local else "joined")
            threading.Event().wait()
        except KeyboardInterrupt:
            print("\nstopping ...", file=sys.stderr, flush=True)
        finally:
            # A cluster that was started here ends with the session, this application with it. To
            # ask it first could wait for ever: SIGTERM may have reached its processes too.
            if not is_local:
                serve.delete(_APPLICATION)
    return 0


def _serve_directly(config: RunConfig) -> int:
    args = app_args(config)
    check_folders(config.output, config.serve)
    first_parts(args.generation, follow=config.serve.follow)
    stop_on_signals()

    def announce() -> None:
        number = config.serve.num_replicas
        _announce(_url(config.serve), config, runs_in=f"not used; {number} plain process(es)")

    try:
        serve_directly(args.generation, config.serve, announce=announce)
    except KeyboardInterrupt:
        print("\nstopping ...", file=sys.stderr, flush=True)
    return 0


def app_args(config: RunConfig) -> AppArgs:
    """Say what a recipe asks the server for."""
    settings = config.serve.model_dump(exclude={"host", "port"})
    if config.serve.boundary.keys is not None:
        # A replica runs in another folder.
        settings["boundary"]["keys"] = config.serve.boundary.keys.absolute()
    return AppArgs(
        generation=(config.output / GENERATION).absolute(), storage=config.storage, **settings
    )


def _check_port(host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        # A port whose last user has just gone is free, though the system still remembers it.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ResourceError(
                f"port {port} of {host} cannot be used ({error.strerror}); stop what uses it, or "
                f"take another one with --set serve.port={port + 1 if port < 65_535 else 8000}"
            ) from error


def _start(app: serve.Application, section: ServeSection) -> None:
    quiet = LoggingConfig(
        log_level="WARNING",
        enable_access_log=False,
        encoding="JSON" if writes_json() else "TEXT",
    )
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    try:
        serve.start(
            proxy_location="HeadOnly",
            http_options={"host": section.host, "port": section.port},
            logging_config=quiet,
        )
        serve.run(app, name=_APPLICATION, route_prefix="/", logging_config=quiet)
    except RuntimeError as error:
        raise ResourceError(
            f"the server did not start ({error}); its log is in /tmp/ray/session_latest/logs/serve"
        ) from error


def _url(section: ServeSection) -> str:
    """Say where a person on this machine finds it."""
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    host = everywhere.get(section.host, section.host)
    return (
        f"http://{f'[{host}]' if ':' in host and not host.startswith('[') else host}:{section.port}"
    )


def first_answer(url: str) -> tuple[dict[str, Any] | None, str]:
    """Ask as a browser would: the page, an item, and what is related to it.

    Where answers want a key, only whether it is ready.
    """
    try:
        _get(f"{url}/readyz")
        return _first_related(url)
    except urllib.error.HTTPError as error:
        if error.code not in _REFUSALS:
            raise _no_answer(url, error) from error
        return None, f"GET /readyz; answers are for callers with a key (HTTP {error.code} without)"


def _first_related(url: str) -> tuple[dict[str, Any], str]:
    served: dict[str, Any] = json.loads(_get(f"{url}/v1/generation"))
    _get(f"{url}/")
    items = json.loads(_get(f"{url}/v1/items?limit=1"))["items"]
    if not items:
        return served, "GET /"
    path = f"/v1/items/{quote(items[0]['key'], safe='')}/similar"
    related = json.loads(_get(f"{url}{path}"))["items"]
    nearest = f" -> {related[0]['title']}" if related else ""
    return served, f"GET {path}: {items[0]['title']}{nearest}"


def _get(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=_ANSWER_TIMEOUT_S) as reply:
            content: bytes = reply.read()
            return content
    except urllib.error.HTTPError:
        raise
    except (urllib.error.URLError, TimeoutError) as error:
        raise _no_answer(url, error) from error


def _no_answer(url: str, error: Exception) -> ResourceError:
    return ResourceError(
        f"the server started, but {url} gave no answer ({error}); its log is "
        "above, or with Ray in /tmp/ray/session_latest/logs/serve"
    )


def _announce(url: str, config: RunConfig, *, runs_in: str) -> None:
    """Tell where the server is, once it has truly answered."""
    served, first = first_answer(url)
    if served is None:
        _print_ready(url, config, [f"answered  {first}"], runs_in)
        return
    counts, digest = served["counts"], served["generation"]
    newest = newest_digest(config.output)
    newer = "" if newest in {None, digest} else f"; a newer one, {newest}, waits for serve.switch"
    told = [
        f"items     {counts['items']:,}, with {counts['edges']:,} edges",
        f"serves    generation {digest}{newer}",
        f"answered  {first}",
    ]
    _print_ready(url, config, told, runs_in)


def _print_ready(url: str, config: RunConfig, told: Sequence[str], runs_in: str) -> None:
    lines = [*told, f"API       {url}/docs", f"Ray       {runs_in}; Ctrl-C stops the server"]
    head = f"\n  {config.serve.title} is ready:  {url}\n"
    print("\n".join([head, *(f"  {line}" for line in lines), ""]), flush=True)


if __name__ == "__main__":
    sys.exit(main())
