"""The form that adds an item, in a real headless Chromium, over a server with a model; no Ray."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from pinsage.cluster.run_config import ServeConfig
from serve.api import build_api
from serve.generation import Generation
from tests.end_to_end.conftest import listening
from tests.end_to_end.visitor import Explorer
from tests.serve.fakes import KEYS, write_generation

pytestmark = pytest.mark.browser


@pytest.fixture
def adding(browser: Browser, tmp_path: Path) -> Iterator[Explorer]:
    generation = Generation.open(write_generation(tmp_path, with_model=True))
    with listening(build_api(generation, ServeConfig(title="Old books", default_k=6))) as address:
        visitor = Explorer(browser, address)
        visitor.page.goto("/add")
        yield visitor
        visitor.page.context.close()
        assert visitor.errors == []


def test_what_the_form_adds_is_found_at_once_and_gone_when_deleted(adding: Explorer):
    page = adding.page
    page.get_by_role("button", name="Fill in an example").click()
    expect(page.get_by_role("textbox", name="Contexts")).not_to_have_value("")
    page.get_by_label("Key", exact=True).fill("a/b c")
    page.get_by_role("textbox", name="Title").fill("A new book")
    page.get_by_role("button", name="Add it").click()
    told = page.locator(".told")
    expect(told).to_contain_text("Added in")
    expect(told).to_be_focused()
    page.get_by_role("link", name="See what is near it").click()
    expect(page.locator(".chosen h1")).to_have_text("A new book")
    assert adding.shown("pinsage")
    page.goto("/add")
    page.get_by_label("Key", exact=True).fill("a/b c")
    page.get_by_role("textbox", name="Title").fill("Another title")
    page.get_by_role("button", name="Add it").click()
    expect(told).to_contain_text("Changed in")
    page.get_by_role("button", name="Delete it again").click()
    expect(told).to_contain_text("Deleted")
    expect(told).to_be_focused()
    page.goto("/?item=a%2Fb%20c")
    expect(page.get_by_role("heading", name="There is no such item")).to_be_visible()


def test_replacing_an_item_keeps_what_is_not_changed(adding: Explorer):
    page = adding.page
    key, title = page.get_by_label("Key", exact=True), page.get_by_role("textbox", name="Title")
    item = f"/v1/items/{KEYS[3]}"
    before = page.request.get(item).json()
    made_from = page.request.get(f"{item}/description").json()
    assert before["metadata"]["authors"]
    assert made_from["contexts"]
    key.fill(KEYS[3])
    key.press("Tab")
    expect(page.locator(".told")).to_contain_text("There is an item of that key")
    expect(title).to_have_value(before["title"])
    expect(page.get_by_label("Metadata")).to_have_value(re.compile(before["metadata"]["authors"]))
    title.fill("Its second edition")
    page.get_by_role("button", name="Add it").click()
    expect(page.locator(".told")).to_contain_text("Changed in")
    assert page.request.get(item).json() == before | {"title": "Its second edition"}
    changed = page.request.get(f"{item}/description").json()
    assert changed == made_from | {"title": "Its second edition"}


def test_what_a_person_wrote_stays_and_what_another_key_filled_in_goes(adding: Explorer):
    page = adding.page
    key, title = page.get_by_label("Key", exact=True), page.get_by_role("textbox", name="Title")
    title.fill("Written before the key")
    key.fill(KEYS[3])
    key.press("Tab")
    expect(page.get_by_label("Metadata")).to_have_value(re.compile("authors"))
    expect(title).to_have_value("Written before the key")
    page.get_by_label("Metadata").fill('{"year": 1999}')
    key.fill("new")
    key.press("Tab")
    expect(page.get_by_label("Features")).to_have_value("")
    expect(page.get_by_role("textbox", name="Contexts")).to_have_value("")
    expect(page.get_by_label("Picture")).to_have_value("")
    expect(page.locator(".told")).to_be_empty()
    page.get_by_role("button", name="Add it").click()
    expect(page.locator(".told")).to_contain_text("Added in")
    put = page.request.get("/v1/items/new").json()
    assert (put["title"], put["metadata"]) == ("Written before the key", {"year": 1999})


def test_nothing_is_replaced_before_it_is_known_what_is_there(adding: Explorer):
    page = adding.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    page.route("**/description", lambda route: route.abort())
    page.get_by_role("textbox", name="Title").fill("Sent at once")
    page.get_by_label("Key", exact=True).fill(KEYS[3])
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("gave no answer")
    assert "PUT" not in asked
    page.unroute("**/description")
    page.get_by_role("button", name="Add it").click()
    expect(page.locator(".told")).to_contain_text("Changed in")
    put = page.request.get(f"/v1/items/{KEYS[3]}").json()
    assert put["title"] == "Sent at once"
    assert put["metadata"]["authors"]


def test_a_number_that_browsers_round_is_not_sent(adding: Explorer):
    page = adding.page
    page.get_by_label("Key", exact=True).fill("new")
    page.get_by_role("textbox", name="Title").fill("A new book")
    page.get_by_label("Metadata").fill('{"year": 9007199254740993}')
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("Metadata: year has a whole number")
    page.get_by_label("Metadata").fill('{"yaer": 1}')
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("Metadata: no such column")
    expect(page.get_by_label("Metadata")).to_be_focused()


def test_adding_looks_more_important_than_an_example(adding: Explorer):
    page = adding.page
    accent = page.locator("[aria-current=page]").evaluate("tab => getComputedStyle(tab).color")
    add, example = (
        page.get_by_role("button", name=name) for name in ("Add it", "Fill in an example")
    )
    expect(add).to_have_css("background-color", accent)
    expect(example).not_to_have_css("background-color", accent)


def test_what_cannot_be_added_is_told_with_its_field(adding: Explorer):
    page = adding.page
    page.get_by_label("Key", exact=True).fill("new")
    page.get_by_role("textbox", name="Title").fill("A new book")
    page.get_by_label("Features").fill("{text")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("not JSON")
    page.get_by_label("Features").fill('{"smell": [1]}')
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("no such feature group")
    page.get_by_label("Features").fill("[1]")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("Features: wanted lists of numbers")
    page.get_by_label("Features").fill("")
    page.get_by_label("Picture").fill("ftp://covers.invalid/1.jpg")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("alert")).to_contain_text("Picture: wanted an address of http")
    expect(page.locator("[aria-invalid=true]")).to_have_attribute("name", "image")
    expect(page.get_by_label("Picture")).to_be_focused()


def test_blanks_are_no_title(adding: Explorer):
    page = adding.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.method))
    page.get_by_label("Key", exact=True).fill("new")
    page.get_by_role("textbox", name="Title").fill("   ")
    page.get_by_role("button", name="Add it").click()
    expect(page.get_by_role("textbox", name="Title")).to_be_focused()
    expect(page.locator(".told")).to_be_empty()
    assert "PUT" not in asked


def test_a_field_that_is_wanting_stands_below_the_bar(adding: Explorer):
    page = adding.page
    page.set_viewport_size({"width": 1280, "height": 500})
    button = page.get_by_role("button", name="Add it")
    button.scroll_into_view_if_needed()
    assert page.evaluate("scrollY") > 200
    button.click()
    expect(page.get_by_label("Key", exact=True)).to_be_focused()
    field, bar = (page.locator(place).bounding_box() for place in ("#add-key", ".bar"))
    assert field is not None
    assert bar is not None
    assert field["y"] >= bar["y"] + bar["height"]


def test_the_skip_link_leaves_a_filled_form_alone(adding: Explorer):
    page = adding.page
    page.get_by_label("Key", exact=True).fill("new")
    page.get_by_role("link", name="Skip to the content").focus()
    page.keyboard.press("Enter")
    page.wait_for_url("**/add#main")
    expect(page.locator("main")).to_be_focused()
    expect(page.get_by_label("Key", exact=True)).to_have_value("new")
    page.go_back()
    page.wait_for_url("**/add")
    expect(page.get_by_label("Key", exact=True)).to_have_value("new")
