"""The explorer's pages in a real headless Chromium, over a small generation; no Ray."""

from urllib.parse import quote

import pytest
from playwright.sync_api import Route, expect

from tests.end_to_end.visitor import Explorer, quoted
from tests.serve.fakes import (
    COLD,
    KEYS,
    NUM_ITEMS,
    ODD_KEYS,
    TEXT_STEP,
    WALK_STEPS,
    ring_neighbors,
    title_of,
)

pytestmark = pytest.mark.browser


def test_the_start_page_offers_items_and_says_what_is_served(explorer: Explorer):
    explorer.page.goto("/")
    expect(explorer.page.locator(".card").first).to_be_visible()
    expect(explorer.page).to_have_title("Old books")
    expect(explorer.page.locator(".brand")).to_have_text("Old books")
    expect(explorer.page.locator(".hero")).to_contain_text(f"{NUM_ITEMS} items")
    expect(explorer.page.locator("footer")).to_contain_text("hit-rate@100: PinSage 0.100")
    expect(explorer.page.locator("[data-latency]")).to_contain_text("ms")
    assert all("covers.invalid" in url for url in explorer.refused)


def test_a_search_by_keyboard_leads_to_recommendations(explorer: Explorer):
    explorer.page.goto("/")
    explorer.page.keyboard.press("/")
    explorer.page.keyboard.type("advent")
    options = explorer.page.get_by_role("option")
    expect(options.first).to_be_visible()
    combobox = explorer.page.get_by_role("combobox")
    expect(combobox).to_have_attribute("aria-expanded", "true")
    explorer.page.keyboard.press("ArrowDown")
    explorer.page.keyboard.press("ArrowDown")
    expect(combobox).to_have_attribute("aria-activedescendant", "match-1")
    chosen = options.nth(1).locator(".name").inner_text()
    explorer.page.keyboard.press("Enter")
    expect(explorer.page.locator(".chosen h1")).to_have_text(chosen)
    expect(explorer.page.get_by_role("listbox")).to_be_hidden()
    expect(explorer.page.locator("[data-method=pinsage] li").first).to_be_visible()


def test_enter_takes_the_first_match_of_what_was_typed_however_fast(explorer: Explorer):
    explorer.page.goto("/")
    expect(explorer.page.locator(".card").first).to_be_visible()
    explorer.page.locator("#q").fill("dracula")
    explorer.page.keyboard.press("Enter")
    expect(explorer.page.locator(".chosen h1")).to_have_text("Dracula")


def test_escape_closes_the_matches_then_empties_the_box(explorer: Explorer):
    explorer.page.goto("/")
    explorer.page.locator("#q").press_sequentially("war")
    expect(explorer.page.get_by_role("option").first).to_be_visible()
    explorer.page.keyboard.press("Escape")
    expect(explorer.page.get_by_role("listbox")).to_be_hidden()
    expect(explorer.page.locator("#q")).to_have_value("war")
    explorer.page.keyboard.press("Escape")
    expect(explorer.page.locator("#q")).to_have_value("")


def test_a_search_without_matches_says_so(explorer: Explorer):
    explorer.page.goto("/")
    explorer.page.locator("#q").press_sequentially("zzzzqqq")
    expect(explorer.page.locator(".matches")).to_have_text('Nothing matches "zzzzqqq".')
    said = explorer.page.locator("[data-says]")
    expect(said).to_have_text('Nothing matches "zzzzqqq".')
    expect(explorer.page.get_by_role("option")).to_be_disabled()
    explorer.page.locator("#q").fill("dracula")
    expect(said).to_have_text("1 match")
    explorer.page.route("**/v1/search?**", lambda route: route.abort())
    explorer.page.locator("#q").fill("emma")
    expect(said).to_contain_text("The server gave no answer")


def test_an_item_shows_the_answers_of_every_method(explorer: Explorer):
    explorer.page.add_init_script("localStorage.setItem('size', '6')")
    explorer.open_item(KEYS[9])
    assert set(explorer.shown("pinsage")) == ring_neighbors(9, 3)
    assert explorer.shown("walk") == [KEYS[9 + step] for step in WALK_STEPS]
    assert {KEYS[9 - TEXT_STEP], KEYS[9 + TEXT_STEP]} <= set(explorer.shown("text"))
    score = explorer.page.locator("[data-method=pinsage] .number").first
    expect(score).to_have_text("0.986")


def test_recommendations_say_whether_other_methods_share_them(explorer: Explorer):
    explorer.page.add_init_script("localStorage.setItem('size', '6')")
    explorer.open_item(KEYS[20])

    def card(item_id: int):
        return explorer.page.locator(
            f"[data-method=pinsage] li:has(a[data-item='{KEYS[item_id]}'])"
        )

    expect(card(21).locator(".badge")).to_have_text("also Walks")
    expect(card(19).locator(".badge")).to_have_text("only PinSage")
    # Of the ring's six, walks know the two next ones, text none of them.
    expect(explorer.page.locator(".found .heading")).to_contain_text("4 of 6 only PinSage found.")
    in_walks = explorer.page.locator(f"[data-method=walk] li:has(a[data-item='{KEYS[21]}'])")
    expect(in_walks.locator(".badge")).to_have_text("PinSage too")


def test_pointing_at_an_item_marks_it_in_every_list(explorer: Explorer):
    explorer.open_item(KEYS[20])
    explorer.page.locator(f"[data-method=walk] a[data-item='{KEYS[21]}']").hover()
    expect(explorer.page.locator("a.pointed")).to_have_count(2)


def test_a_click_travels_on_and_back_returns(explorer: Explorer, server: str):
    explorer.open_item(KEYS[9])
    explorer.page.evaluate("window.stillHere = true")
    explorer.page.locator(f"[data-method=walk] a[data-item='{KEYS[11]}']").click()
    expect(explorer.page.locator(".chosen h1")).to_have_text(title_of(11))
    expect(explorer.page).to_have_url(f"{server}/?item={quote(KEYS[11], safe='')}")
    expect(explorer.page.locator(".trail a > span:last-child")).to_have_text([title_of(9)])
    explorer.page.go_back()
    expect(explorer.page.locator(".chosen h1")).to_have_text(title_of(9))
    explorer.page.go_forward()
    expect(explorer.page.locator(".chosen h1")).to_have_text(title_of(11))
    assert explorer.page.evaluate("window.stillHere") is True


def test_the_brand_leads_back_to_the_start(explorer: Explorer):
    explorer.open_item(KEYS[9])
    explorer.page.locator(".brand").click()
    expect(explorer.page.locator(".hero h1")).to_be_visible()
    explorer.page.go_back()
    expect(explorer.page.locator(".chosen h1")).to_have_text(title_of(9))


@pytest.mark.parametrize("key", ODD_KEYS.values())
def test_any_key_can_be_carried_by_the_address(explorer: Explorer, key: str):
    explorer.open_item(key)
    expect(explorer.page.locator(".facts")).to_contain_text(key)


def test_surprise_me_leads_to_an_item(explorer: Explorer):
    explorer.page.goto("/")
    explorer.page.get_by_role("button", name="Surprise me").click()
    expect(explorer.page.locator(".chosen h1")).to_be_visible()
    assert "?item=" in explorer.page.url


def test_the_number_of_answers_can_be_changed(explorer: Explorer):
    explorer.open_item(KEYS[9])
    explorer.page.get_by_label("Show").select_option("24")
    expect(explorer.page.locator("[data-method=pinsage] li")).to_have_count(24)
    explorer.open_item(KEYS[12])
    expect(explorer.page.locator("[data-method=pinsage] li")).to_have_count(24)


def test_a_cover_that_cannot_load_leaves_one_drawn_from_the_title(explorer: Explorer):
    explorer.open_item(KEYS[24])
    cover = explorer.page.locator(".chosen .cover")
    expect(cover.locator("img")).to_have_count(0)
    expect(cover.locator(".initials")).to_have_text("TT")
    expect(cover.locator(".cover-title")).to_have_text("A Tale of Two Cities")


def test_markup_in_a_title_is_shown_as_text(explorer: Explorer):
    explorer.open_item(KEYS[COLD])
    expect(explorer.page.locator(".chosen h1 b")).to_have_count(0)


def test_a_cold_item_says_which_methods_know_nothing(explorer: Explorer):
    explorer.open_item(KEYS[COLD])
    expect(explorer.page.locator("[data-method=pinsage] li").first).to_be_visible()
    expect(explorer.page.locator(".column .empty")).to_have_count(2)


def test_an_unknown_item_says_so_and_offers_the_way_back(explorer: Explorer):
    explorer.page.goto("/?item=nope")
    expect(explorer.page.get_by_role("alert")).to_contain_text(f'has the key "{quoted("nope")}"')
    explorer.page.get_by_role("link", name="Back to the start").click()
    expect(explorer.page.locator(".card").first).to_be_visible()


def test_a_server_that_is_gone_is_told_and_can_be_tried_again(explorer: Explorer):
    gone = "**/similar?**"
    explorer.page.route(gone, lambda route: route.abort())
    explorer.page.goto(f"/?item={KEYS[9]}")
    expect(explorer.page.get_by_role("alert")).to_contain_text("The server can't be reached")
    explorer.page.unroute(gone)
    explorer.page.get_by_role("button", name="Try again").click()
    expect(explorer.page.locator(".chosen h1")).to_have_text(title_of(9))
    expect(explorer.page.locator("main")).to_be_focused()


def test_gray_shapes_stand_in_while_answers_are_awaited(explorer: Explorer):
    waiting: list[Route] = []
    explorer.page.route("**/similar?**", lambda route: waiting.append(route))
    explorer.page.goto(f"/?item={KEYS[9]}")
    expect(explorer.page.locator("main")).to_have_attribute("aria-busy", "true")
    expect(explorer.page.locator(".skeleton").first).to_be_visible()
    while waiting:
        waiting.pop().continue_()
    expect(explorer.page.locator("[data-method=walk]")).to_be_visible()
    expect(explorer.page.locator(".skeleton")).to_have_count(0)
    expect(explorer.page.locator("main")).not_to_have_attribute("aria-busy", "true")


def test_what_was_found_is_said_aloud(explorer: Explorer):
    explorer.page.add_init_script("localStorage.setItem('size', '6')")
    explorer.open_item(KEYS[9])
    expect(explorer.page.locator("[aria-live=polite]")).to_have_text(
        f"6 recommendations for {quoted(title_of(9))}"
    )


def test_the_theme_follows_the_system_until_the_button_is_pressed(explorer: Explorer):
    explorer.page.emulate_media(color_scheme="dark")
    explorer.page.goto("/")
    expect(explorer.page.locator("html")).to_have_css("color-scheme", "dark")
    explorer.page.get_by_role("button", name="Switch between light and dark").click()
    expect(explorer.page.locator("html")).to_have_css("color-scheme", "light")
    explorer.page.reload()
    expect(explorer.page.locator("html")).to_have_css("color-scheme", "light")


@pytest.mark.parametrize("path", ["/", f"/?item={KEYS[9]}", "/?item=nope", "/docs"])
def test_nothing_is_wider_than_a_phone(explorer: Explorer, path: str):
    explorer.page.set_viewport_size({"width": 360, "height": 780})
    explorer.page.goto(path)
    expect(explorer.page.locator(".card, .notice, .call").first).to_be_visible()
    assert explorer.page.evaluate("document.documentElement.scrollWidth") == 360


def test_the_description_page_lists_the_calls_and_tries_one(explorer: Explorer):
    paths = explorer.page.request.get("/openapi.json").json()["paths"]
    explorer.page.goto("/docs")
    expect(explorer.page.locator(".call")).to_have_count(sum(map(len, paths.values())))
    call = explorer.page.locator(".call").filter(has_text="Find items by title")
    call.locator("summary").click()
    call.locator("input[name=q]").fill("les mis")
    call.get_by_role("button", name="Send").click()
    expect(call.locator("pre")).to_contain_text("Les Mis\u00e9rables")
    assert explorer.refused == []


def test_calls_are_tried_with_what_fits_every_catalog(explorer: Explorer):
    explorer.page.goto("/docs")
    for about, name in (("Items related to one item", "item_key"), ("several items", "body")):
        call = explorer.page.locator(".call").filter(has_text=about)
        call.locator("summary").click()
        place = call.locator(f"[name={name}]")
        place.fill(place.input_value().replace("1", KEYS[0]).replace("2", KEYS[1]))
        call.get_by_role("button", name="Send").click()
        expect(call.locator(".try .hint")).to_contain_text(": 200 in")


def test_a_problem_s_type_leads_to_its_line(explorer: Explorer):
    explorer.page.goto("/docs#unknown_item")
    expect(explorer.page.locator("#unknown_item")).to_be_in_viewport()
