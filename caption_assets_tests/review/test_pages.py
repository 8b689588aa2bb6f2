"""Pages in a browser, opened as files."""

from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from caption_assets.review import paths
from caption_assets.review.render import render_index, render_shard_page
from caption_assets.store.store import Store
from caption_assets_tests.review.shards import write_shard

HOSTILE = (
    "</script><script>document.title='taken'</script><!--<img src=x onerror=\"document.title='taken'\">\u2028]]>&amp;"
)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An output root with the pages of two shards, one of them with texts that mean harm."""
    root = tmp_path_factory.mktemp("pages") / "out"
    store = Store(root)
    write_shard(store, "street", 8)
    write_shard(store, "a%20b", 2, text=HOSTILE, path=f"{HOSTILE}.mp4")
    write_shard(store, "long", 2, text=f"\u202eA man\u202c {'walks on and on ' * 20_000}to the end.")
    for shard in ("street", "a%20b", "long"):
        render_shard_page(store, shard)
    render_index(store)
    return root


def windows(page: Page) -> list[str]:
    """The windows that are shown, by clip and frames, in their order."""
    heads = page.locator("article:not([hidden]) h2")
    # Not what is rendered: what is far out of sight is not.
    return heads.evaluate_all("heads => heads.map(head => head.textContent.replace('JSON', '').trim())")


def test_the_index_leads_to_every_shard(out: Path, page: Page) -> None:
    page.goto((out / paths.INDEX).as_uri())
    rows = page.locator("tbody tr")
    expect(rows).to_have_count(9)
    assert rows.nth(0).inner_text().split("\t")[:5] == ["a b", "2", "0", "qwen3", "2"]
    page.get_by_label("Search shards").fill("street")
    expect(rows).to_have_count(3)
    page.get_by_role("link", name="street").first.click()
    expect(page.locator("h1")).to_have_text("street")
    page.get_by_role("link", name="Shards").click()
    page.get_by_role("link", name="a b").first.click()
    expect(page.locator("h1")).to_have_text("a b")


def test_the_worst_window_is_first_and_everything_about_it_is_there(out: Path, page: Page) -> None:
    page.goto((out / paths.page("street")).as_uri())
    worst = [label[7:].split("  ")[0] for label in windows(page)]
    # An error, a warning, and then by confidence.
    assert worst[:4] == ["0002.mp4 0–249", "0001.mp4 250–499", "0000.mp4 0–249", "0000.mp4 250–499"]
    found = page.locator("article").nth(1).get_by_text("length")
    assert found.get_attribute("title") == "warning: <b>far</b> from the median"
    first = page.locator("article").nth(2)
    text = first.inner_text()
    for part in (
        "camera_0000.mp4",
        "0–249",
        "0:00.0–0:10.0",
        "qwen3",
        "nemotron",
        "qwen3/qwen_lm",
        "some/model",
        "−1.00",
    ):
        assert part in text
    assert "window 0 by qwen3." in text
    assert "Enhanced: " in text
    image = first.locator("img")
    expect(image).to_have_js_property("naturalWidth", 64)
    assert image.get_attribute("src").startswith("../previews/")
    assert (out / "review" / first.get_by_role("link", name="JSON").get_attribute("href")).parent.name == "v0"


def test_a_long_text_is_folded_and_control_characters_are_shown_as_such(out: Path, page: Page) -> None:
    page.goto((out / paths.page("long")).as_uri())
    article = page.locator("article").first
    text = article.locator("section.text").first.locator(".body p")
    assert text.inner_text().startswith("\\u202eA man\\u202c walks on")
    assert len(text.inner_text()) < 2100
    article.get_by_role("button", name="Show all 320,0").first.click()
    assert text.inner_text().endswith("to the end.")
    article.get_by_role("button", name="Show less").click()
    assert len(text.inner_text()) < 2100
    page.get_by_label("Search texts and clips").fill("to the end")  # of the whole text
    expect(page.get_by_text("1 window of 2")).to_be_visible()


def test_windows_are_sorted_filtered_and_searched(out: Path, page: Page) -> None:
    page.goto((out / paths.page("street")).as_uri())
    worst = windows(page)
    page.get_by_label("Order").select_option("by clip and time")
    assert windows(page) == sorted(worst)
    page.get_by_label("Order").select_option("least confident first")
    assert windows(page) == sorted(worst)
    page.get_by_label("Key").select_option("nemotron")
    expect(page.locator("section.text:visible")).to_have_count(8)
    page.get_by_label("Key").select_option("all keys")
    page.keyboard.press("/")
    page.keyboard.type("window 5")
    expect(page.get_by_text("1 window of 8")).to_be_visible()
    assert "window 5 by nemotron." in page.locator("article:visible").inner_text()
    page.reload()
    expect(page.get_by_text("1 window of 8")).to_be_visible()
    page.get_by_role("button", name="Clear").click()
    page.get_by_label("Clip", exact=True).fill("0003")
    expect(page.get_by_text("2 windows of 8")).to_be_visible()
    page.get_by_label("Findings").select_option("any finding")
    expect(page.get_by_text("No window is like that.")).to_be_visible()
    page.get_by_label("Clip", exact=True).fill("")
    expect(page.get_by_text("2 windows of 8")).to_be_visible()
    page.get_by_label("Findings").select_option("cut_off (1)")
    expect(page.get_by_text("1 window of 8")).to_be_visible()


def test_keys_move_from_text_to_text_and_from_window_to_window(out: Path, page: Page) -> None:
    page.goto((out / paths.page("street")).as_uri())
    places = []
    for key in "jjjJJKk":
        page.keyboard.press(key)
        focused = page.locator("section:focus")
        window = focused.locator("xpath=ancestor::article").get_attribute("aria-label")
        places.append((window, focused.get_attribute("aria-label")))
    first, second, third = "camera_0002.mp4 0–249", "camera_0001.mp4 250–499", "camera_0000.mp4 0–249"
    assert places == [
        (first, "qwen3"),
        (first, "nemotron"),
        (first, "qwen3/qwen_lm"),
        (second, "qwen3"),
        (third, "qwen3"),
        (second, "qwen3"),
        (first, "qwen3/qwen_lm"),
    ]
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog", name="Keys")).to_have_count(0)


def test_whatever_a_text_holds_is_shown_as_text(out: Path, page: Page) -> None:
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((out / paths.page("a%20b")).as_uri())
    expect(page.locator("article")).to_have_count(2)
    expect(page).to_have_title("a b: captions")
    assert page.locator("article").first.locator(".body p").first.inner_text() == HOSTILE
    assert page.locator("article").first.locator(".path").inner_text() == f"{HOSTILE}.mp4"
    assert page.locator("script").count() == 2
    assert all("/x" not in url for url in asked)


def test_a_script_that_got_into_a_page_would_not_run(out: Path, page: Page, browser) -> None:
    changed = out / "review" / "changed.html"
    html = (out / paths.page("street")).read_text()
    changed.write_text(html.replace("</body>", "<script>document.title = 'taken'</script></body>"))
    with browser.new_context() as context:  # not `page`, which fails the test for what the policy refuses
        own = context.new_page()
        own.goto(changed.as_uri())
        expect(own.locator("article")).to_have_count(8)
        assert own.title() == "street: captions"


def test_pictures_of_a_long_page_are_loaded_as_they_come_into_sight(tmp_path: Path, page: Page) -> None:
    store = Store(tmp_path / "out")
    write_shard(store, "long", 600)
    render_shard_page(store, "long")
    loaded: set[str] = set()
    page.on("request", lambda request: loaded.add(request.url) if request.url.endswith(".webp") else None)
    page.goto((tmp_path / "out" / paths.page("long")).as_uri())
    expect(page.locator("article")).to_have_count(600)
    expect(page.locator("article img").first).to_have_js_property("naturalWidth", 64)
    at_first = len(loaded)
    assert 0 < at_first < 100
    page.get_by_label("Search texts").fill("window 599 by")
    expect(page.get_by_text("1 window of 600")).to_be_visible()
    expect(page.locator("article:visible img")).to_have_js_property("naturalWidth", 64)
    assert len(loaded) <= at_first + 20
