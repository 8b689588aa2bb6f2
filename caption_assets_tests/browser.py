"""A real browser for tests of pages: Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, ViewportSize, expect, sync_playwright

# Only for what hangs, in milliseconds.
_HANG = 200_000
VIEWPORT: ViewportSize = {"width": 1280, "height": 800}
# The first needs half of the time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def chromium() -> str:
    """The browser's path: the one that the variable CHROMIUM names, else the system's. Fails the test without one."""
    named = os.environ.get("CHROMIUM")
    found = shutil.which(named) if named else next(filter(None, map(shutil.which, _NAMES)), None)
    if found is None:
        pytest.fail(f"no Chromium ({named or ', '.join(_NAMES)}): see CONTRIBUTING.md, Tests")
    return found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for a module, which can have no other event loop in its thread (no `asyncio.run`)."""
    with sync_playwright() as playwright:
        # Without the sandbox, which root has none of; /dev/shm is small in containers.
        options = ["--no-sandbox", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=chromium(), args=options)
        expect.set_options(timeout=_HANG)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A session of the test's own, whose pages are 1280 by 800."""
    with browser.new_context(viewport=VIEWPORT) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Iterator[Page]:
    """A page of the session. What a script raises, or a policy refuses, fails the test."""
    with context.new_page() as page:
        page.set_default_timeout(_HANG)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if _is_refusal(said.text) else None)
        yield page
        assert not wrong


def _is_refusal(said: str) -> bool:
    return "Content Security Policy" in said
