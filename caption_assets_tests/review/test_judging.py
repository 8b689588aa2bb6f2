"""People judge in a browser, and what they said is there whatever happens next."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from caption_assets.models.schemas import edited as edited_json
from caption_assets.records import text_hash
from caption_assets.review import paths
from caption_assets.review.render import read_view
from caption_assets.review.reviews import Reviews, VerdictAsked
from caption_assets.review.views import summary
from caption_assets.store.rows import VerdictRow
from caption_assets.store.store import Store
from caption_assets.store.tables import SHARD_REVIEW, WINDOW_CAPTIONS
from caption_assets_tests.dagster_dev import wait_for
from caption_assets_tests.review.serving import Serving
from caption_assets_tests.review.shards import write_shard
from caption_assets_tests.rows import verdict
from caption_assets_tests.s3 import S3Server

PAGE = paths.page("street")


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, Serving]]:
    """An output root with a shard for each test that names one, and its server."""
    out = tmp_path_factory.mktemp("shared") / "out"
    for shard, windows in {"edited": 2, "back": 2, "crowd": 24}.items():
        write_shard(Store(out), shard, windows)
    with Serving(out) as serving:
        yield out, serving
        assert serving.stop() == 130


def said(out: Path | str, shard: str = "street") -> list[VerdictRow]:
    return sorted(Store(out).read_rows(SHARD_REVIEW, shard), key=lambda row: row.at)


def name_oneself(page: Page, name: str) -> None:
    page.get_by_role("button", name=re.compile("Say who you are|Judging as")).click()
    page.get_by_label("Your name").fill(name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name=f"Judging as {name}")).to_be_visible()


def test_a_hundred_windows_are_judged_by_keyboard_and_are_there_after_a_kill(tmp_path: Path, page: Page) -> None:
    out = tmp_path / "out"
    write_shard(Store(out), "street", 100)
    with Serving(out) as serving:
        page.goto(f"{serving.url}{PAGE}#key=qwen3")
        name_oneself(page, "Ann")
        port = serving.url.rstrip("/").rpartition(":")[2]
        page.keyboard.press("j")
        for at in range(99):
            page.keyboard.press("w" if at % 4 == 0 else "r")
        expect(page.get_by_text("99 of 300 texts judged, 74.7 % right")).to_be_visible()
        expect(page.get_by_text("all saved")).to_be_visible()
        serving.kill()
        assert len(said(out)) == 99
        page.keyboard.press("r")  # what the server did not get is kept, and sent once it is back
        expect(page.get_by_role("alert")).to_contain_text("Not saved")
    with Serving(out, "--serve", "--port", port) as serving:
        expect(page.get_by_text("all saved")).to_be_visible(timeout=60_000)  # by itself
        expect(page.get_by_role("alert")).to_be_hidden()
        rows = said(out)
        assert len(rows) == 100
        assert {row.reviewer for row in rows} == {"Ann"}
        page.goto(f"{serving.url}{PAGE}#key=qwen3&verdict=wrong")
        page.reload()
        expect(page.get_by_text("25 windows of 100")).to_be_visible()
        expect(page.get_by_text("100 of 300 texts judged, 75 % right")).to_be_visible()
        row = page.get_by_role("row", name=re.compile(r"street.*qwen3 .*100 75 %"))
        page.goto(f"{serving.url}{paths.INDEX}")
        while not row.is_visible():  # the new server brings the index up to date beside its other work
            page.reload()


def test_an_edited_text_goes_into_the_clips_document_beside_the_models(
    shared: tuple[Path, Serving], page: Page
) -> None:
    out, serving = shared
    first = Store(out).read_rows(WINDOW_CAPTIONS, "edited", "qwen3")[0]
    page.goto(serving.url + paths.page("edited"))
    page.keyboard.press("j")
    page.keyboard.press("r")  # asks who this is first
    page.get_by_label("Your name").fill("Bo <b>")
    page.keyboard.press("Enter")
    page.keyboard.press("e")
    page.get_by_role("textbox", name="The text of qwen3").fill('Two "people" <i>walk</i>.')
    page.keyboard.press("Control+Enter")
    article = page.locator("article").first
    expect(article.get_by_text('Two "people" <i>walk</i>.')).to_be_visible()
    expect(article.get_by_text("edited", exact=True)).to_have_attribute("title", re.compile("edited: Bo <b>"))
    expect(page.get_by_text("all saved")).to_be_visible()
    # Document and page follow beside the server's other work, in this order.
    file = out / paths.page("edited")
    wait_for(lambda: file.exists() and '\\"people\\" ' in file.read_text())
    document = json.loads((out / "metas" / "v0" / f"{first.clip_id}.json").read_text())
    edited = document["windows"][0]
    assert edited["qwen3_caption"] == first.text
    assert edited["qwen3_reviewed"] == 'Two "people" <i>walk</i>.'
    assert edited["provenance"]["qwen3_reviewed"]["reviewer"] == "Bo <b>"
    # The page as a file says it, too.
    page.goto(file.as_uri())
    expect(page.locator("article").first.get_by_text('Two "people" <i>walk</i>.')).to_be_visible()
    assert page.get_by_role("button", name="edit").count() == 0


def test_an_edit_of_a_caption_that_is_json_keeps_to_its_schema(tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    write_shard(store, "street", 2)
    rows = store.read_rows(WINDOW_CAPTIONS, "street", "qwen3")
    schema = '{"type":"object","required":["x"]}'
    answers = [replace(row, text='{"x":1}', is_json=True, json_schema=schema) for row in rows]
    answers[1] = replace(answers[1], json_schema=None)
    store.commit_rows(WINDOW_CAPTIONS, "street", answers, "qwen3")
    reviews = Reviews(store, lambda shard: None, edited_json)

    def judge(at: int, text: str) -> str | None:
        of = {"clip": rows[at].clip_id, "start_frame": rows[at].start_frame, "end_frame": rows[at].end_frame}
        of |= {"shard": "street", "key": "qwen3", "text_hash": text_hash('{"x":1}'), "verdict": "edited"}
        return reviews.judge(VerdictAsked(**of, edited=text, reviewer="Ann")).edited

    assert judge(0, '{ "x": 2 }') == '{"x":2}'
    assert judge(1, "{}") == "{}"  # of earlier versions, whose schema nobody knows
    for at, text in ((0, "{}"), (0, "words"), (1, "[1]")):
        with pytest.raises(ValueError, match=r"JSON|schema"):
            judge(at, text)
    assert len(said(tmp_path / "out")) == 2


def test_a_verdict_can_be_taken_back_and_one_of_an_earlier_text_is_shown_as_that(
    shared: tuple[Path, Serving], page: Page
) -> None:
    out, serving = shared
    store = Store(out)
    row = store.read_rows(WINDOW_CAPTIONS, "back", "qwen3")[0]
    before = verdict(
        row, "wrong", "Cy", "2026-01-01T00:00:00", text="A text of old.", text_hash=text_hash("A text of old.")
    )
    store.put_part(SHARD_REVIEW, "back", [before])
    page.goto(serving.url + paths.page("back"))
    text = page.locator("article").first.locator(".text").first
    expect(text.get_by_text("wrong of an earlier text")).to_have_attribute("title", re.compile("A text of old"))
    expect(page.get_by_text("0 of 6 texts judged")).to_be_visible()
    name_oneself(page, "Ann")
    text.get_by_role("button", name="right").click()
    expect(page.get_by_text("1 of 6 texts judged, 100 % right")).to_be_visible()
    page.keyboard.press("u")
    expect(page.get_by_text("0 of 6 texts judged")).to_be_visible()
    expect(page.get_by_text("all saved")).to_be_visible()
    page.reload()
    expect(page.get_by_text("0 of 6 texts judged")).to_be_visible()
    assert [row.verdict for row in said(out, "back")] == ["wrong", "right", "withdrawn"]


def test_a_text_that_has_changed_under_the_page_is_not_judged(tmp_path: Path, page: Page) -> None:
    out, store = tmp_path / "out", Store(tmp_path / "out")
    write_shard(store, "street", 2)
    with Serving(out) as first:
        page.goto(first.url + PAGE)
        name_oneself(page, "Ann")
        port = first.url.rstrip("/").rpartition(":")[2]
    write_shard(store, "street", 2, text="It was written anew.")
    with Serving(out, "--serve", "--port", port):  # which has shown nobody the earlier text
        page.keyboard.press("j")
        page.keyboard.press("r")
        expect(page.get_by_role("alert")).to_contain_text("it has changed since the page was loaded")
        expect(page.get_by_text("0 of 6 texts judged")).to_be_visible()
        page.get_by_role("button", name="Reload").click()
        expect(page.get_by_text("It was written anew.", exact=True)).to_be_visible()
    assert said(out) == []


def test_two_reviewers_on_two_servers_lose_nothing(shared: tuple[Path, Serving]) -> None:
    out, one = shared
    with Serving(out) as other:
        judge_all(out, "crowd", one, other)
        other.kill()
    expect_all(out, "crowd")


def test_two_reviewers_lose_nothing_in_a_bucket_either(s3: S3Server) -> None:
    out = f"s3://{s3.bucket}/out"
    write_shard(Store(out), "street", 8)
    with Serving(out) as one, Serving(out) as other:
        judge_all(out, "street", one, other)
        one.kill()
        other.kill()
    expect_all(out, "street")


def judge_all(out: str | Path, shard: str, one: Serving, other: Serving) -> None:
    """Three people at once, on two servers; two of them disagree about every other text."""

    def judge(server: Serving, name: str, text: Any, what: str) -> None:
        named = dict(zip(("clip", "start_frame", "end_frame", "key", "text_hash"), text, strict=True))
        _post(server.url, {"shard": shard, **named, "verdict": what, "reviewer": name})

    with ThreadPoolExecutor(6) as people:
        for at, text in enumerate(qwen3_texts(out, shard)):
            people.submit(judge, one, "Ann", text, "right")
            people.submit(judge, other, "Bo", text, "right" if at % 2 else "wrong")
            people.submit(judge, one, "Cy", text, "right")


def expect_all(out: str | Path, shard: str) -> None:
    rows, texts = said(out, shard), qwen3_texts(out, shard)
    assert len(rows) == 3 * len(texts)
    assert len({row.at for row in rows}) == len(rows)
    figures = summary(read_view(Store(out), shard))["keys"]["qwen3"]
    assert (figures["judged"], figures["right"], figures["disputed"]) == (len(texts), len(texts) / 2, len(texts) / 2)
    assert figures["accepted_share"] == 0.5


def qwen3_texts(out: str | Path, shard: str) -> list[Any]:
    return [text for text in read_view(Store(out), shard).texts() if text[3] == "qwen3"]


def _post(url: str, body: Any) -> None:
    import urllib.request

    headers = {"Content-Type": "application/json", "Origin": url.rstrip("/")}
    request = urllib.request.Request(f"{url}api/verdicts", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request) as answer:
        assert json.loads(answer.read())["at"]


def test_whoever_has_the_token_logs_in_and_judges(tmp_path: Path, browser: Browser) -> None:
    out, token = tmp_path / "out", "a token of more than sixteen letters"
    write_shard(Store(out), "street", 2)
    with Serving(out, "--serve", "--host", "0.0.0.0", environment={"CAPTION_ASSETS_REVIEW_TOKEN": token}) as serving:
        page = browser.new_context().new_page()
        page.goto(serving.url.replace("0.0.0.0", "127.0.0.1"))
        page.get_by_label("The token").fill("not this one at all")
        page.get_by_role("button", name="Log in").click()
        expect(page.get_by_text("This is not the token.")).to_be_visible()
        page.get_by_label("The token").fill(token)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("link", name="street").first.click()
        name_oneself(page, "Ann")
        page.keyboard.press("j")
        page.keyboard.press("r")
        expect(page.get_by_text("1 of 6 texts judged")).to_be_visible()
        expect(page.get_by_text("all saved")).to_be_visible()
        page.context.close()
    assert len(said(out)) == 1
