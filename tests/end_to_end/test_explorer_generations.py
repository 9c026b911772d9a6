"""What a person with an open page sees of a switch, in a real headless Chromium; no Ray."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, expect

from pinsage.base.errors import ArtifactError
from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from serve.keys import Role, add_key
from serve.switching import Switcher
from tests.end_to_end.conftest import listening
from tests.end_to_end.visitor import Explorer
from tests.serve.fakes import KEYS, beside, write_further, write_generation

pytestmark = pytest.mark.browser

ITEM = 5


class Visit:
    """A visitor of a server that has three generations; the third is damaged."""

    def __init__(self, browser: Browser, address: str, switcher: Switcher, key: str) -> None:
        self.explorer = Explorer(browser, address)
        self.page = self.explorer.page
        self.switcher = switcher
        self.key = key

    def near(self) -> set[str]:
        return set(self.explorer.shown("pinsage")[:2])


@pytest.fixture
def visit(browser: Browser, tmp_path: Path) -> Iterator[Visit]:
    path = write_generation(tmp_path)
    generation = Generation.open(path)
    write_further(tmp_path, 3, group="blurb")
    write_further(tmp_path, 4)
    (tmp_path / "index" / f"{4:012x}" / "manifest.json").unlink()
    keys = tmp_path / "keys.json"
    key = add_key(keys, Role.ADMIN)
    config = ServeConfig(title="Old books", default_k=6, boundary={"keys": keys})
    app = build_api(generation, config)
    with listening(app) as address:
        visitor = Visit(browser, address, app.state.switcher, key)
        yield visitor
        visitor.page.context.close()
    assert visitor.explorer.errors == []


def type_key(visit: Visit, row: Locator) -> None:
    row.get_by_role("button", name="Serve it").click()
    expect(visit.page.get_by_label("API key with the role admin")).to_be_focused()
    visit.page.keyboard.type(visit.key)


def digest_of_step(visit: Visit, step: int) -> str:
    (found,) = [
        path.stem
        for path in (visit.switcher.output / "generations").iterdir()
        if f"{step:012x}" in path.read_text()
    ]
    return found


def test_an_open_page_says_that_something_else_is_served_and_asks_anew(visit: Visit):
    visit.explorer.open_item(KEYS[ITEM])
    before = visit.switcher.state.served
    expect(visit.page.locator("[data-foot]")).to_contain_text(before)
    assert visit.near() == beside(ITEM, 1)
    after = digest_of_step(visit, 3)
    visit.switcher.switch(after)
    # Whatever the page asks next tells it; a page left alone asks by itself now and then.
    visit.page.locator("#q").fill("emma")
    news = visit.page.locator("[data-news]")
    expect(news).to_contain_text(f"Generation {after} is served now, instead of {before}.")
    expect(visit.page.locator("[data-foot]")).to_contain_text(after)
    expect(visit.page.locator("[data-method=blurb]")).to_be_visible()
    assert visit.near() == beside(ITEM, 3)
    news.get_by_role("button", name="Close").click()
    expect(news).to_be_hidden()


def test_generations_are_listed_and_switched_with_an_admin_s_key_on_a_phone_too(visit: Visit):
    before, after = visit.switcher.state.served, digest_of_step(visit, 3)
    visit.page.set_viewport_size({"width": 360, "height": 780})
    visit.page.goto("/")
    visit.page.locator("[data-foot] a[href=generations]").click()
    row = visit.page.locator(f"[data-generation='{after}']")
    expect(visit.page.locator(f"[data-generation='{before}']")).to_contain_text("served")
    damaged = visit.page.locator(f"[data-generation='{digest_of_step(visit, 4)}']")
    expect(damaged).to_contain_text("isn't a published directory")
    expect(damaged.get_by_role("button")).to_have_count(0)
    assert visit.page.evaluate("document.documentElement.scrollWidth") == 360
    # Nothing of the table is out of sight either.
    assert visit.page.locator(".tally").evaluate("box => box.scrollWidth <= box.clientWidth")
    for head in ("Published", "Items", "Edges", "Hit-rate@100"):
        cell = row.locator(f"[data-head='{head}']")
        assert cell.evaluate("cell => getComputedStyle(cell, '::before').content") == f'"{head}"'
    type_key(visit, row)
    assert visit.switcher.state.served == before
    row.get_by_role("button", name="Serve it").click()
    expect(row).to_contain_text("served")
    assert visit.switcher.state.served == after
    visit.page.get_by_role("button", name="Go back to it").click()
    expect(visit.page.locator(f"[data-generation='{before}']")).to_contain_text("served")
    assert visit.switcher.state.served == before


@pytest.mark.parametrize("is_damaged", [True, False])
def test_a_switch_that_takes_long_is_told_when_it_has_come_to_something(
    visit: Visit, monkeypatch: pytest.MonkeyPatch, *, is_damaged: bool
):
    opened, may_open = Generation.open, threading.Event()

    def slow(path: Path) -> Generation:
        may_open.wait(60)
        if is_damaged:
            raise ArtifactError("index/torn.npy is torn")
        return opened(path)

    monkeypatch.setattr(Generation, "open", slow)
    monkeypatch.setattr("serve.routes_generation._WAITED", 0)
    after = digest_of_step(visit, 3)
    visit.page.goto("/generations")
    row = visit.page.locator(f"[data-generation='{after}']")
    type_key(visit, row)
    row.get_by_role("button", name="Serve it").click()
    told = visit.page.locator("p.told")
    expect(told).to_contain_text("is still being opened")
    may_open.set()
    if is_damaged:
        expect(told).to_contain_text("torn.npy is torn")
        expect(row.get_by_role("button")).to_be_enabled()
        visit.page.reload()
        expect(visit.page.get_by_role("alert")).to_contain_text("torn.npy is torn")
    else:
        expect(row).to_contain_text("served")


def test_a_rival_that_the_next_generation_lacks_is_chosen_no_more(visit: Visit):
    visit.page.goto("/compare")
    visit.page.get_by_label("PinSage against").select_option("text")
    expect(visit.page.locator("#rival")).to_have_value("text")
    visit.switcher.switch(digest_of_step(visit, 3))
    visit.page.get_by_role("button", name="Equal").click()
    visit.page.get_by_role("button", name="Show it").click()
    expect(visit.page.locator("#rival")).to_have_value("")
    expect(visit.page.locator(".side h2")).to_have_text(["Left", "Right"])
