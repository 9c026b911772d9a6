"""Secrets stay out of what is published and logged, and what is installed is what was tested."""

import os
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.runs import ROOT, SMOKE

SECRETS = {
    "AWS_SECRET_ACCESS_KEY": "secret-of-a-bucket",
    "RAY_AUTH_TOKEN": "secret-of-a-cluster" + "0" * 45,
    "PINSAGE_API_KEY": "secret-of-a-server",
}


def test_a_secret_in_the_environment_is_in_no_log_and_no_file(tmp_path: Path) -> None:
    output = tmp_path / "run"
    arguments = ["--config", str(SMOKE), "--set", f"output={output}"]
    said = ""
    for job in ("ingest", "doctor", "status"):
        done = subprocess.run(
            [sys.executable, "-m", f"ray_jobs.{job}", *arguments],
            cwd=ROOT, env=os.environ | SECRETS, capture_output=True, text=True, timeout=120,
            check=False,
        )  # fmt: skip
        said += done.stdout + done.stderr
    files = [path for path in output.rglob("*") if path.is_file()]
    assert any(path.name == "manifest.json" for path in files), said
    for secret in SECRETS.values():
        assert secret not in said
        assert [path for path in files if secret.encode() in path.read_bytes()] == []


def test_the_lock_pins_every_package_that_gets_installed() -> None:
    pinned = {
        _name(line.partition("==")[0])
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    wanted = _closure("pinsage", {"cpu", "dev"})
    # What a package merely names for other systems or extras is not installed, so not wanted.
    assert sorted(wanted - pinned - {"pinsage"}) == []


def _closure(name: str, extras: set[str]) -> set[str]:
    """Names of a distribution and of all that it requires here, as far as installed."""
    found: dict[str, set[str]] = {}
    waiting = [(name, extras)]
    while waiting:
        one, its_extras = waiting.pop()
        known = found.get(one)
        if known is not None and its_extras <= known:
            continue
        found[one] = (known or set()) | its_extras
        try:
            listed = metadata.requires(one) or []
        except metadata.PackageNotFoundError:
            pytest.fail(f"{one} is required, but not installed")
        for text in listed:
            wanted = Requirement(text)
            environments = [{"extra": extra} for extra in ("", *its_extras)]
            if wanted.marker is None or any(map(wanted.marker.evaluate, environments)):
                waiting.append((_name(wanted.name), set(wanted.extras)))
    return set(found)


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()
