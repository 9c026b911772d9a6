"""`python -m serve` as a user starts it: real processes, real HTTP."""

import json
import signal
import time
import urllib.error
import urllib.request

import pytest

from tests.end_to_end.conftest import Finished
from tests.runs import processes_of_session, start_job
from tests.waiting import free_port

pytestmark = pytest.mark.ray


def get(url: str) -> dict:
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.loads(reply.read())


def test_the_server_answers_over_http_and_ctrl_c_leaves_no_process_behind(
    finished: Finished,
) -> None:
    port = free_port()
    flags = ["--set", f"output={finished.run.output}", "--set", f"serve.port={port}"]
    server = start_job("serve", "--config", "ray_jobs/recipes/smoke.yaml", *flags)
    try:
        assert server.stdout is not None
        seen = ""
        deadline = time.monotonic() + 120
        while "Ctrl-C" not in seen and time.monotonic() < deadline:
            line = server.stdout.readline()
            assert line, server.communicate()[1]
            seen += line
        base = f"http://127.0.0.1:{port}"
        assert base in seen

        answer = get(f"{base}/v1/items/item-00007/similar?k=10")
        assert answer["query"]["key"] == "item-00007"
        keys = [item["key"] for item in answer["items"]]
        assert len(set(keys)) == 10
        assert "item-00007" not in keys
        same_community = [key for key in keys if int(key.removeprefix("item-")) % 10 == 7]
        assert len(same_community) >= 8

        found = get(f"{base}/v1/search?q=item%207")["items"]
        assert "item-00007" in [item["key"] for item in found]
        with pytest.raises(urllib.error.HTTPError) as caught:
            get(f"{base}/v1/items/no-such/similar")
        assert caught.value.code == 404
        assert json.loads(caught.value.read())["code"] == "unknown_item"
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=60)
    assert server.returncode == 0
    assert processes_of_session(server.pid) == []
