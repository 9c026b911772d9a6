"""What a person sees of a server that answers nobody without a key, in a real headless Chromium."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.keys import Role, add_key
from tests.end_to_end.conftest import listening
from tests.end_to_end.visitor import Explorer
from tests.serve.fakes import KEYS, title_of, write_generation

pytestmark = pytest.mark.browser


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.fixture
def visitor(browser: Browser, tmp_path: Path, keys: Path) -> Iterator[Explorer]:
    add_key(keys, Role.ADMIN)
    generation = Generation.open(write_generation(tmp_path))
    config = ServeConfig(title="Old books", boundary={"keys": keys, "reads": "key"})
    with listening(build_api(generation, config)) as address:
        visitor = Explorer(browser, address)
        yield visitor
        visitor.page.context.close()
    assert visitor.errors == []


def test_a_key_is_asked_for_once_and_every_page_and_call_goes_on_with_it(
    visitor: Explorer, keys: Path
):
    page, key = visitor.page, add_key(keys, Role.READ)
    page.goto("/?item=" + KEYS[0].replace("/", "%2F"))
    box = page.get_by_label("API key with the role read")
    expect(box).to_be_focused()
    page.keyboard.type("no such key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("not known")
    # A key that was just made counts after a second.
    page.wait_for_timeout(1_200)
    expect(box).to_be_focused()
    page.keyboard.type(key)
    page.keyboard.press("Enter")
    expect(page.locator(".chosen h1")).to_have_text(title_of(0))
    for name in ("feed", "map", "compare", "generations"):
        page.goto(f"/{name}")
        expect(page.locator("main")).not_to_have_attribute("aria-busy", "true")
        expect(page.get_by_text("This server wants a key")).to_have_count(0)
    page.goto("/docs")
    # What was let in in this tab is sent with what is tried here too.
    expect(page.get_by_label("API key for what you try here")).to_have_value(key)
    call = page.locator("details.call").first
    call.locator("summary").click()
    call.get_by_role("button", name="Send").click()
    # Let in, though the example's key is of no item here.
    expect(call.get_by_role("status")).to_contain_text("unknown_item")
