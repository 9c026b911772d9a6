"""Where a reader of the explorer stands: places, focus, and what the browser keeps; no Ray."""

import json
import re

import pytest
from playwright.sync_api import Locator, expect

from tests.end_to_end.visitor import Explorer, quoted
from tests.serve.fakes import KEYS, title_of

pytestmark = pytest.mark.browser

BLOCKED = """Object.defineProperty(window, "localStorage", {
    get() { throw new DOMException("denied", "SecurityError"); },
});"""
ALL_LIKED = [{"key": key, "title": title_of(n), "image": None} for n, key in enumerate(KEYS[:3])]


def top_of(locator: Locator) -> float:
    box = locator.bounding_box()
    assert box is not None
    return box["y"]


def test_a_pick_leaves_the_reader_at_the_next_one(explorer: Explorer):
    page = explorer.page
    page.set_viewport_size({"width": 360, "height": 780})
    page.goto("/feed")
    picks = page.locator(".pick")
    expect(picks.first).to_be_visible()
    following = picks.nth(8).get_attribute("title")
    picks.nth(7).focus()
    before = top_of(picks.nth(7))
    page.keyboard.press("Enter")
    expect(page.locator("[data-feed] li").first).to_be_attached()
    focused = page.locator(".pick:focus")
    expect(focused).to_have_attribute("title", str(following))
    assert abs(top_of(focused) - before) < 2


def test_what_is_taken_out_of_the_feed_leaves_the_focus_on_the_next(explorer: Explorer):
    page = explorer.page
    page.add_init_script(f"localStorage.setItem('liked', {json.dumps(json.dumps(ALL_LIKED))})")
    page.goto("/feed")
    page.get_by_role("button", name=f"Take {quoted(title_of(1))} out").press("Enter")
    expect(page.locator(".chip")).to_have_count(2)
    expect(page.get_by_role("button", name=f"Take {quoted(title_of(2))} out")).to_be_focused()


def test_back_and_forward_return_to_the_place_on_the_page(explorer: Explorer):
    page = explorer.page
    page.set_viewport_size({"width": 1280, "height": 500})
    page.add_init_script("localStorage.setItem('size', '24')")
    document = page.locator("html")
    explorer.open_item(KEYS[9])
    page.evaluate("scrollTo(0, 1500)")
    page.locator(f"[data-method=walk] a[data-item='{KEYS[11]}']").evaluate("link => link.click()")
    expect(page.locator(".chosen h1")).to_have_text(title_of(11))
    expect(document).to_have_js_property("scrollTop", 0)
    page.evaluate("scrollTo(0, 1200)")
    page.go_back()
    expect(page.locator(".chosen h1")).to_have_text(title_of(9))
    expect(document).to_have_js_property("scrollTop", 1500)
    page.go_forward()
    expect(page.locator(".chosen h1")).to_have_text(title_of(11))
    expect(document).to_have_js_property("scrollTop", 1200)
    page.reload()
    expect(document).to_have_js_property("scrollTop", 1200)


@pytest.mark.parametrize("hindrance", [BLOCKED, "localStorage.setItem('liked', '{\"a\": 1}')"])
def test_what_a_browser_does_not_keep_stops_no_page(explorer: Explorer, hindrance: str):
    page = explorer.page
    page.add_init_script(hindrance)
    page.goto("/feed")
    page.locator(".pick").first.click()
    expect(page.locator(".chip")).to_have_count(1)
    expect(page.locator("[data-feed] li").first).to_be_visible()
    page.goto("/docs")
    expect(page.locator(".call").first).to_be_visible()


def test_a_method_without_an_answer_says_so_in_its_own_column(explorer: Explorer):
    explorer.page.route(re.compile("method=walk"), lambda route: route.abort())
    explorer.open_item(KEYS[9])
    expect(explorer.page.locator("[data-method=pinsage] li").first).to_be_visible()
    expect(explorer.page.locator("[data-method=text] li").first).to_be_visible()
    walks = explorer.page.get_by_role("region", name="Walks")
    expect(walks).to_contain_text("The server gave no answer")
    # Nobody knows what walks would have found.
    expect(explorer.page.locator(".badge.unique")).to_have_count(0)


@pytest.mark.parametrize("width", [360, 1280])
def test_a_feed_for_titles_of_any_length_fits_its_window(explorer: Explorer, width: int):
    long = [
        {**item, "title": letter * 5_000} for item, letter in zip(ALL_LIKED, "abc", strict=True)
    ]
    explorer.page.set_viewport_size({"width": width, "height": 780})
    explorer.page.add_init_script(f"localStorage.setItem('liked', {json.dumps(json.dumps(long))})")
    explorer.page.goto("/feed")
    expect(explorer.page.locator("[data-feed] li").first).to_be_visible()
    assert explorer.page.evaluate("document.documentElement.scrollWidth") == width


def test_a_title_cannot_turn_the_words_around_it(explorer: Explorer):
    explorer.open_item(KEYS[5])
    expect(explorer.page).to_have_title(f"{quoted(title_of(5))} - Old books")
    explorer.page.goto(f"/compare?item={KEYS[5]}")
    asked = explorer.page.locator(".asked h1")
    expect(asked).to_have_text(f"Which is more related to {quoted(title_of(5))}?")
