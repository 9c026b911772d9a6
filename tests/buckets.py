"""Servers on this machine that speak S3, and that can be told to fail, or Google's language."""

import itertools
import threading
from collections.abc import Callable, Iterable
from urllib.parse import unquote

import boto3
from gcp_storage_emulator.server import create_server
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

BUSY = ("503 Service Unavailable", b"<Error><Code>SlowDown</Code></Error>")
CLOSED = ("403 Forbidden", b"<Error><Code>AccessDenied</Code></Error>")


class _Quiet(WSGIRequestHandler):
    def log_request(self, *_args: object) -> None:
        """Say nothing of a request."""


class BucketServer:
    """Moto's S3; every `run` is a new output folder of one bucket."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, str]] = []
        """Method and object of every request."""
        self.on_request: Callable[[str, str], tuple[str, bytes] | None] | None = None
        """Is told of every request before it is answered, and may answer with an error."""
        self._app = DomainDispatcherApplication(create_backend_app)
        self._server = make_server(
            "127.0.0.1", 0, self._answer, threaded=True, request_handler=_Quiet
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._numbers = itertools.count()

    def __enter__(self) -> "BucketServer":
        self._thread.start()
        self.client.create_bucket(Bucket="tests")
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.shutdown()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    @property
    def client(self):
        return boto3.client("s3", endpoint_url=self.url)

    def new_run(self) -> str:
        """The address of an output folder that is empty."""
        return f"s3://tests/run-{next(self._numbers)}?endpoint_override={self.url}"

    def objects(self, address: str) -> dict[str, bytes]:
        """All objects of an output folder, by name, without those that only mark a folder."""
        prefix = address.removeprefix("s3://tests/").partition("?")[0] + "/"
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="tests", Prefix=prefix)
        keys = [one["Key"] for page in pages for one in page.get("Contents", [])]
        names = [key.removeprefix(prefix) for key in keys if not key.endswith("/")]
        return {name: self._content(prefix + name) for name in names}

    def put(self, address: str, name: str, content: bytes) -> None:
        prefix = address.removeprefix("s3://tests/").partition("?")[0]
        self.client.put_object(Bucket="tests", Key=f"{prefix}/{name}", Body=content)

    def _content(self, key: str) -> bytes:
        return self.client.get_object(Bucket="tests", Key=key)["Body"].read()

    def _answer(self, environ: dict, start_response: Callable) -> Iterable[bytes]:
        method, path = environ["REQUEST_METHOD"], unquote(environ["PATH_INFO"])
        self.requests.append((method, path))
        refusal = self.on_request(method, path) if self.on_request is not None else None
        if refusal is not None:
            environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
            start_response(refusal[0], [("Content-Type", "application/xml")])
            return [refusal[1]]
        return self._app(environ, start_response)


class GoogleServer:
    """An emulator of Google's storage; every `run` is a new output folder of one bucket."""

    def __init__(self) -> None:
        self._server = create_server("127.0.0.1", 0, in_memory=True, default_bucket="tests")
        self._numbers = itertools.count()
        self._port = 0

    def __enter__(self) -> "GoogleServer":
        self._server.start()
        self._port = self._server._api._httpd.server_port
        return self

    def __exit__(self, *_error: object) -> None:
        self._server.stop()

    def new_run(self, bucket: str = "tests") -> str:
        """The address of an output folder that is empty."""
        server = f"endpoint_override=127.0.0.1:{self._port}&scheme=http"
        return f"gs://anonymous@{bucket}/run-{next(self._numbers)}?{server}"
