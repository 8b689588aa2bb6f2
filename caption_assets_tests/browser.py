"""A real browser for tests of pages: Chromium, driven by Playwright."""

import os
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

# Only for what hangs, in milliseconds.
_HANG = 200_000
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


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
def page(browser: Browser) -> Iterator[Page]:
    """A page of its own session, 1280 by 800. What a script raises, or a policy refuses, fails the test."""
    with browser.new_context(viewport={"width": 1280, "height": 800}) as context:
        page = context.new_page()
        page.set_default_timeout(_HANG)
        wrong: list[str] = []
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda said: wrong.append(said.text) if _is_refusal(said.text) else None)
        yield page
        assert not wrong


def _is_refusal(said: str) -> bool:
    return "Content Security Policy" in said
