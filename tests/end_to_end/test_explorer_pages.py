"""The explorer's further pages in a real headless Chromium; no Ray."""

import re

import pytest
from playwright.sync_api import Browser, FloatRect, Route, expect

from tests.end_to_end.visitor import Explorer, quoted
from tests.serve.fakes import KEYS, title_of

pytestmark = pytest.mark.browser

PAGES = ("/feed", "/map", "/compare", "/add")


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens_by_its_tab_fits_a_phone_and_is_not_empty(explorer: Explorer, path: str):
    explorer.page.set_viewport_size({"width": 360, "height": 780})
    explorer.page.goto("/")
    explorer.page.locator(f"[data-tabs] a[href='{path[1:]}']").click()
    expect(explorer.page.locator("main h1").first).to_be_visible()
    expect(explorer.page.locator("main")).not_to_have_attribute("aria-busy", "true")
    tab = explorer.page.locator("[aria-current=page]")
    expect(tab).to_have_attribute("href", path[1:])
    for one in explorer.page.locator("[data-tabs] a").all():
        expect(one).to_be_in_viewport(ratio=1)
    assert explorer.page.evaluate("document.documentElement.scrollWidth") == 360


@pytest.mark.parametrize("width", [400, 1400])
def test_without_a_pointer_that_hovers_why_covers_nothing(
    browser: Browser, server: str, width: int
):
    visitor = Explorer(browser, server, has_touch=True)
    page = visitor.page
    page.set_viewport_size({"width": width, "height": 900})
    visitor.open_item(KEYS[5])
    assert page.evaluate("matchMedia('(hover: none)').matches")
    expect(page.locator(".row .why").first).to_have_css("opacity", "1")
    parts = ".cover, .name, .sub, .number, .badge"
    for entry in page.locator("li:has(> .why)").all():
        why = entry.locator(".why").bounding_box()
        box = entry.bounding_box()
        assert why is not None
        assert box is not None
        assert all(box[side] <= why[side] for side in "xy")
        assert why["y"] + why["height"] <= box["y"] + box["height"]
        for part in entry.locator(parts).all():
            covered = part.bounding_box()
            # One without a text has no size.
            assert covered is None or not covered["height"] or _are_apart(covered, why)
    page.locator(".card .why").first.tap()
    expect(page.locator("dialog h2")).to_be_visible()
    page.context.close()
    assert visitor.errors == []


def _are_apart(one: FloatRect, other: FloatRect) -> bool:
    return any(
        first[side] + first[length] <= second[side] + 1
        for first, second in ((one, other), (other, one))
        for side, length in (("x", "width"), ("y", "height"))
    )


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("authors", ["a" * 5_000, "many authors, " * 400])
def test_authors_of_any_number_leave_room_for_the_answers(
    explorer: Explorer, authors: str, width: int
):
    def lengthen(route: Route) -> None:
        reply = route.fetch()
        content = reply.json()
        for item in (content["query"], *content.get("left", ()), *content.get("right", ())):
            item["metadata"]["authors"] = authors
        route.fulfill(response=reply, json=content)

    page = explorer.page
    page.set_viewport_size({"width": width, "height": 900})
    page.route(re.compile(r"/v1/(duel\?|items/.*/similar)"), lengthen)
    for address, places in (
        (f"/?item={KEYS[5]}", [".chosen .sub"]),
        ("/compare", [".asked .sub", ".side .sub"]),
    ):
        page.goto(address)
        for place in places:
            expect(page.locator(place).first).to_contain_text(authors.strip())
            box = page.locator(place).first.bounding_box()
            assert box is not None
            assert 0 < box["height"] < 130
        assert page.evaluate("document.documentElement.scrollWidth") == width


def test_where_there_is_room_answers_tell_of_themselves_beside_their_covers(explorer: Explorer):
    page = explorer.page
    page.set_viewport_size({"width": 1400, "height": 900})
    page.goto("/compare")
    expect(page.locator(".side .more").first).to_contain_text("year: 18")
    cover, text = (
        page.locator(f".side {part}").first.bounding_box() for part in (".cover", ".text")
    )
    assert cover is not None
    assert text is not None
    assert cover["x"] + cover["width"] < text["x"]
    page.set_viewport_size({"width": 400, "height": 900})
    expect(page.locator(".side .more").first).to_be_hidden()


def test_why_shows_the_graph_s_evidence_and_escape_returns_to_the_item(explorer: Explorer):
    explorer.open_item(KEYS[5])
    button = explorer.page.get_by_role("button", name=f"Why {quoted(title_of(6))}?").first
    button.focus()
    explorer.page.keyboard.press("Enter")
    dialog = explorer.page.get_by_role("dialog")
    # By walk, the next item is the first neighbor, with half of the weight.
    expect(dialog).to_contain_text("neighbor 1, with 50.0% of what is pooled")
    expect(dialog).to_contain_text("contexts hold both")
    explorer.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    expect(button).to_be_focused()


def test_side_by_side_shows_ours_as_one_column_of_many_each_of_which_can_be_hidden(
    explorer: Explorer,
):
    explorer.open_item(KEYS[9])
    explorer.page.get_by_role("button", name="Side by side").click()
    columns = explorer.page.locator(".columns.even > .column")
    expect(columns).to_have_count(3)
    expect(columns.first.locator("h3")).to_have_text("PinSage")
    explorer.page.get_by_role("checkbox", name="Walks").uncheck()
    expect(explorer.page.locator(".column[aria-label=Walks]")).to_be_hidden()
    explorer.page.reload()
    expect(columns).to_have_count(3)


def test_what_is_liked_makes_a_feed_that_leaves_it_out(explorer: Explorer):
    explorer.page.goto("/feed")
    explorer.page.locator("[data-picks] .pick").first.click()
    expect(explorer.page.locator(".chip")).to_have_count(1)
    expect(explorer.page.locator("[data-feed] li").first).to_be_visible()
    explorer.page.locator("#q").fill("dracula")
    explorer.page.keyboard.press("Enter")
    expect(explorer.page.locator(".chip")).to_have_count(2)
    expect(explorer.page.locator("main")).to_be_focused()
    dracula = next(key for n, key in enumerate(KEYS) if title_of(n) == "Dracula")
    expect(explorer.page.locator(f"[data-feed] a[data-item='{dracula}']")).to_have_count(0)
    explorer.page.reload()
    expect(explorer.page.locator(".chip")).to_have_count(2)
    explorer.page.get_by_role("button", name=f"Take {quoted('Dracula')} out").click()
    expect(explorer.page.locator(".chip")).to_have_count(1)


def test_what_is_liked_and_gone_can_be_taken_out_of_the_feed(explorer: Explorer):
    gone = '[{"key": "gone", "title": "A lost book", "image": null, "metadata": {}}]'
    explorer.page.goto("/")
    explorer.page.evaluate("liked => localStorage.setItem('liked', liked)", gone)
    explorer.page.goto("/feed")
    expect(explorer.page.locator("[data-picks] .pick").first).to_be_visible()
    explorer.page.get_by_role("button", name=f"Take {quoted('A lost book')} out").click()
    expect(explorer.page.locator(".chip")).to_have_count(0)
    explorer.page.locator("[data-picks] .pick").first.click()
    expect(explorer.page.locator("[data-feed] li").first).to_be_visible()


def test_the_map_is_walked_by_arrow_keys_and_enter_opens_the_item(explorer: Explorer):
    explorer.page.goto("/map")
    expect(explorer.page.locator(".spot")).to_have_count(9)
    explorer.page.locator("svg.map").focus()
    panel = explorer.page.locator(".mapped aside")
    expect(panel.locator("h2")).to_have_text(title_of(0))
    explorer.page.keyboard.press("ArrowRight")
    expect(panel.locator("h2")).to_have_text(title_of(1))
    explorer.page.keyboard.press("ArrowDown")
    expect(panel.locator("h2")).to_have_text(title_of(4))
    explorer.page.keyboard.press("Enter")
    expect(explorer.page.locator(".chosen h1")).to_have_text(title_of(4))


def test_pointing_at_the_map_names_what_lies_there(explorer: Explorer):
    explorer.page.goto("/map")
    explorer.page.locator(".spot").nth(8).hover(force=True)
    expect(explorer.page.locator(".mapped h2")).to_have_text(title_of(8))
    expect(explorer.page.locator(".near path")).to_have_count(2)


def test_on_the_way_to_the_panel_the_pointer_points_at_nothing(explorer: Explorer):
    page = explorer.page
    page.clock.install(time=0)
    page.goto("/map")
    expect(page.locator(".spot")).to_have_count(9)
    page.clock.pause_at(60_000)
    page.locator(".spot").nth(8).hover(force=True)
    page.clock.run_for(100)
    panel = page.locator(".mapped aside")
    expect(panel.locator("h2")).to_have_text(title_of(8))
    for spot in page.locator(".spot").all()[:8]:
        spot.hover(force=True)
        page.clock.run_for(20)
    link = panel.locator("li a").first
    link.hover()
    page.clock.run_for(1_000)
    expect(panel.locator("h2")).to_have_text(title_of(8))
    title = link.inner_text()
    link.click()
    expect(page.locator(".chosen h1")).to_have_text(title)


def test_a_tap_on_the_map_shows_the_item_and_the_next_one_opens_it(browser: Browser, server: str):
    visitor = Explorer(browser, server, has_touch=True)
    visitor.page.goto("/map")
    spot = visitor.page.locator(".spot").nth(8)
    spot.tap(force=True)
    expect(visitor.page.locator(".mapped h2")).to_have_text(title_of(8))
    spot.tap(force=True)
    expect(visitor.page.locator(".chosen h1")).to_have_text(title_of(8))
    visitor.page.context.close()
    assert visitor.errors == []


def test_a_vote_by_keyboard_reveals_the_methods_and_counts(explorer: Explorer):
    explorer.page.goto("/compare")
    expect(explorer.page.locator(".side h2")).to_have_text(["Left", "Right"])
    first = explorer.page.locator(".asked h1").inner_text()
    # It scrolls, and is no vote.
    explorer.page.keyboard.press("ArrowDown")
    expect(explorer.page.locator(".told")).to_be_empty()
    explorer.page.keyboard.press("ArrowLeft")
    expect(explorer.page.locator(".told")).to_contain_text("You chose")
    expect(explorer.page.locator(".side.won")).to_have_attribute("data-side", "left")
    assert "Left" not in explorer.page.locator(".side h2").all_inner_texts()
    expect(explorer.page.locator(".tally tbody tr").first).to_be_visible()
    expect(explorer.page.locator(".tally .hint")).to_contain_text("1 vote on this generation")
    next_question = explorer.page.get_by_role("button", name="Next")
    expect(next_question).to_be_focused()
    explorer.page.keyboard.press("Enter")
    expect(explorer.page.locator(".side h2")).to_have_text(["Left", "Right"])
    assert first


@pytest.mark.parametrize("title", ["a" * 5_000, "a long title " * 400])
def test_titles_of_any_length_leave_room_for_the_answers(explorer: Explorer, title: str):
    def lengthen(route: Route) -> None:
        reply = route.fetch()
        content = reply.json()
        for item in (content["query"], *content["left"], *content["right"]):
            item["title"] = title
        route.fulfill(response=reply, json=content)

    explorer.page.set_viewport_size({"width": 360, "height": 780})
    explorer.page.route(re.compile(r"/v1/duel\?"), lengthen)
    explorer.page.goto("/compare")
    expect(explorer.page.locator(".asked h1")).to_contain_text(title.strip())
    assert explorer.page.evaluate("document.documentElement.scrollWidth") == 360
    for place in (".asked", ".side .name"):
        box = explorer.page.locator(place).first.bounding_box()
        assert box is not None
        assert box["height"] < 260


def test_a_vote_that_counted_is_said_to_though_the_tally_cannot_be_read(explorer: Explorer):
    explorer.page.goto("/compare")
    expect(explorer.page.locator(".side h2")).to_have_text(["Left", "Right"])
    explorer.page.route(
        "**/v1/duel/votes",
        lambda route: route.continue_() if route.request.method == "POST" else route.abort(),
    )
    explorer.page.get_by_role("button", name="Equal").click()
    expect(explorer.page.locator(".told")).to_contain_text("Equal: ")
    expect(explorer.page.get_by_role("button", name="Next")).to_be_focused()


def test_a_rival_can_be_chosen(explorer: Explorer):
    explorer.page.goto("/compare")
    explorer.page.get_by_label("PinSage against").select_option("walk")
    expect(explorer.page.locator("#rival")).to_have_value("walk")
    expect(explorer.page.locator("#rival")).to_be_focused()
    explorer.page.get_by_role("button", name="Equal").click()
    told = explorer.page.locator(".told")
    expect(told).to_contain_text("Walks")
    expect(told).to_contain_text("PinSage")


def test_where_methods_agree_another_item_or_rival_can_be_chosen(explorer: Explorer):
    problem = {"code": "nothing_to_compare", "detail": "The methods gave the same answers."}
    explorer.page.route(
        re.compile(r"/v1/duel\?item_key="), lambda route: route.fulfill(status=404, json=problem)
    )
    explorer.page.goto(f"/compare?item={KEYS[5]}")
    expect(explorer.page.get_by_role("alert")).to_contain_text("gave the same answers")
    expect(explorer.page.get_by_label("PinSage against")).to_be_visible()
    expect(explorer.page.locator(".tally")).to_be_visible()
    explorer.page.get_by_role("link", name="Another item").click()
    expect(explorer.page.locator(".side h2")).to_have_text(["Left", "Right"])
