"""A visitor of the explorer, in a real browser."""

from pathlib import Path
from urllib.parse import quote

from playwright.sync_api import Browser, Page, Route, expect

from tests.serve.fakes import KEYS, title_of

CHROMIUM = next(
    (path for path in map(Path, ("/usr/bin/chromium", "/usr/bin/google-chrome")) if path.exists()),
    None,
)
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def quoted(title: str) -> str:
    """A title as sentences have it: isolated, so that it can't turn their words around."""
    return f"\u2068{title}\u2069"


class Explorer:
    """One fresh visitor of the page, and everything that went wrong for them."""

    def __init__(self, browser: Browser, server: str, *, has_touch: bool = False) -> None:
        context = browser.new_context(
            base_url=server, viewport={"width": 1280, "height": 900}, has_touch=has_touch
        )
        self.page: Page = context.new_page()
        self.page.set_default_timeout(20_000)
        self.errors: list[str] = []
        self.refused: list[str] = []
        self._server = server
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on(
            "console",
            lambda message: (
                self.errors.append(message.text)
                if "Content Security Policy" in message.text
                else None
            ),
        )
        self.page.route("**/*", self._stay_here)

    def _stay_here(self, route: Route) -> None:
        if route.request.url.startswith(self._server):
            route.continue_()
        else:
            self.refused.append(route.request.url)
            route.abort()

    def open_item(self, key: str) -> None:
        self.page.goto(f"/?item={quote(key, safe='')}")
        expect(self.page.locator(".chosen h1")).to_have_text(title_of(KEYS.index(key)))

    def shown(self, method: str) -> list[str]:
        links = self.page.locator(f"[data-method={method}] a[data-item]")
        return [links.nth(at).get_attribute("data-item") or "" for at in range(links.count())]
