"""A real browser, headless: Chromium, driven by Playwright."""

import os
import shutil

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def browser():
    """Ended with the module: while it runs, nothing else can run an event loop in this thread."""
    driver = pytest.importorskip(
        "playwright.sync_api", reason='needs Playwright: pip install "flamlib[dev]"'
    )
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("needs a Chromium: `apt-get install chromium`, or `brew install chromium`")
    as_root = hasattr(os, "geteuid") and os.geteuid() == 0  # for whom it has no sandbox
    with driver.sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=path, args=["--no-sandbox"] if as_root else []
        )
        yield started
        started.close()


@pytest.fixture
def tab(browser):
    """A page of the browser. The test fails if anything is said in its console.

    `tab.asked` lists the addresses it asked for.
    """
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.set_default_timeout(20_000)
    said, page.asked = [], []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    yield page
    context.close()
    assert said == []


def wait_until(tab, expression):
    """Wait for an expression of JavaScript; `wait_for_function` evaluates it within the page, which
    a Content Security Policy forbids from the second time on."""
    for _ in range(600):
        if tab.evaluate(expression):
            return
        tab.wait_for_timeout(50)
    raise AssertionError(f"not within 30 s: {expression}")
