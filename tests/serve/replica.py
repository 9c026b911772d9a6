"""A server of a run's folder, asked as over HTTP."""

from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from pinsage.cluster.generations import GENERATION
from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.generations import first_parts
from serve.live import Writes
from serve.switching import Switcher
from tests.serve.fakes import KEYS

ITEM = 5


class Server:
    """One replica of a run's folder."""

    def __init__(self, output: Path, **settings: object) -> None:
        config = ServeConfig.model_validate(settings)
        parts = first_parts(output / GENERATION, follow=config.follow)
        app = build_api(Generation.open(parts.path), config)
        self.switcher: Switcher = app.state.switcher
        self.writes: Writes = app.state.writes
        # Typed as anything: what type a test client's answers have hangs on the versions installed.
        self.client: Any = TestClient(app)

    @property
    def served(self) -> str:
        return self.client.get("/v1/generation").json()["generation"]

    def nearest(self) -> set[str]:
        reply = self.client.get(f"/v1/items/{KEYS[ITEM]}/similar?k=2")
        assert reply.headers["x-pinsage-generation"] == self.served
        return {item["key"] for item in reply.json()["items"]}

    def near(self, key: str) -> list[tuple[str, float]]:
        """The published items nearest to one, and their scores."""
        items = self.client.get(f"/v1/items/{key}/similar?k=100").json()["items"]
        return [(item["key"], item["score"]) for item in items if item["key"] in KEYS]

    def ask(self, **wanted: object) -> tuple[int, str]:
        """Ask for a switch; gives the status, and what became of it."""
        reply = self.client.post("/v1/generation", json=wanted)
        body = reply.json()
        assert str(self.switcher.output) not in reply.text
        return reply.status_code, body.get("state") or body.get("code")
