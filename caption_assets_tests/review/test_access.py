"""What the review server refuses, asked as anybody could ask it: with paths and headers that no browser would send."""

import http.client
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from caption_assets.errors import ConfigError
from caption_assets.records import text_hash
from caption_assets.review import paths
from caption_assets.review.access import check_listening
from caption_assets.store.store import Store
from caption_assets.store.tables import SHARD_REVIEW, WINDOW_CAPTIONS
from caption_assets_tests.review.serving import Serving
from caption_assets_tests.review.shards import write_shard

TOKEN = "a token of more than sixteen letters"


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("access") / "out"
    write_shard(Store(root), "street", 2)
    (root.parent / "secret.json").write_text('"secret"')
    (root / "metas" / "v0").mkdir(parents=True)
    (root / "metas" / "v0" / "link.json").symlink_to(root.parent / "secret.json")
    (root / "metas" / "v0" / "inside.json").write_text("{}")
    (root / "previews" / "linked").symlink_to(root.parent)
    (root.parent / "secret.webp").write_text("secret")
    return root


@pytest.fixture(scope="module")
def open_server(out: Path) -> Iterator[str]:
    with Serving(out, "--serve", "--host", "127.1") as serving:  # a name of this machine, by which it is then asked
        yield serving.url


@pytest.fixture(scope="module")
def guarded_server(out: Path) -> Iterator[str]:
    with Serving(out, "--serve", "--host", "0.0.0.0", environment={"CAPTION_ASSETS_REVIEW_TOKEN": TOKEN}) as serving:
        yield serving.url.replace("0.0.0.0", "127.0.0.1")


def ask(url: str, path: str, method: str = "GET", body: str | None = None, **headers: str) -> Any:
    """The answer, read; `path` goes as it is. Underscores in the headers' names are hyphens."""
    at = urlsplit(url)
    connection = http.client.HTTPConnection(at.hostname or "", at.port)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path, body, sent)
    answer = connection.getresponse()
    answer.text = answer.read().decode("utf-8", "replace")  # type: ignore[attr-defined]
    connection.close()
    return answer


def verdict(out: Path, **values: Any) -> dict[str, Any]:
    row = Store(out).read_rows(WINDOW_CAPTIONS, "street", "qwen3")[0]
    asked = {"shard": "street", "clip": row.clip_id, "start_frame": row.start_frame, "end_frame": row.end_frame}
    asked |= {"key": "qwen3", "text_hash": text_hash(row.text or ""), "verdict": "right", "reviewer": "ann"}
    return {**asked, **values}


def post(url: str, body: Any, **headers: str) -> Any:
    at = urlsplit(url)
    own = {"Content_Type": "application/json", "Origin": f"http://{at.netloc}"}
    return ask(url, "/api/verdicts", "POST", json.dumps(body), **{**own, **headers})


def said(out: Path) -> int:
    return len(Store(out).read_rows(SHARD_REVIEW, "street"))


def test_pages_and_what_they_link_to_are_answered_with_headers_that_keep_others_out(
    out: Path, open_server: str
) -> None:
    assert ask(open_server, "/").headers["location"] == f"/{paths.INDEX}"
    shown = ask(open_server, f"/{paths.page('street')}")
    assert shown.status == 200
    assert "frame-ancestors 'none'" in shown.headers["content-security-policy"]
    inside = ask(open_server, "/metas/v0/inside.json")
    assert (inside.status, inside.text) == (200, "{}")
    for answer in (shown, inside):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "path",
    [
        "/metas/v0/../../../secret.json",
        "/metas/v0/%2e%2e/%2e%2e/%2e%2e/secret.json",
        "/metas/v0/..%2f..%2f..%2fsecret.json",
        "/metas/v0/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret.json",
        "/previews/../../secret.webp",
        "/previews/%2e%2e/secret.webp",
        "/previews/..%5c..%5c/secret.webp",
        "//secret.json",
        "/%2fetc/passwd",
        "//etc/passwd",
        "/metas/v0/x%00.json",
        "/metas/v0/link.json",
        "/previews/linked/secret.webp",
        "/tables/clip_windows/street.parquet",
        "/review/../metas/v0/link.json",
        "/review/%3Cscript%3E.html",
        "/nothing/<script>alert(1)</script>",
    ],
)
def test_no_other_path_is_answered(open_server: str, path: str) -> None:
    answer = ask(open_server, path)
    assert answer.status == 404
    assert "secret" not in answer.text
    assert "<script>" not in answer.text
    assert answer.headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("host", ["evil.example", "evil.example:3001", "127.0.0.1.evil.example", "0.0.0.0", ""])
def test_a_name_that_others_have_made_to_mean_this_machine_is_not_answered(open_server: str, host: str) -> None:
    assert ask(open_server, f"/{paths.INDEX}", Host=host).status == 421


@pytest.mark.parametrize("host", ["localhost", "localhost:9000", "127.0.0.1:1", "[::1]:3001"])
def test_this_machines_own_names_are_answered_also_through_another_port(open_server: str, host: str) -> None:
    assert ask(open_server, f"/{paths.INDEX}", Host=host).status == 200


def test_only_its_own_pages_can_write(out: Path, open_server: str) -> None:
    before, body, port = said(out), verdict(out), urlsplit(open_server).port
    for wrong in (
        "http://evil.example",
        f"http://127.0.0.1:{port}.evil.example",
        f"http://localhost:{port}",
        "null",
        "",
    ):
        assert post(open_server, body, Origin=wrong).status == 403
    assert post(open_server, body, Sec_Fetch_Site="cross-site").status == 403
    assert post(open_server, body, Content_Type="text/plain").status == 415
    assert ask(open_server, "/api/verdicts").status == 404
    assert said(out) == before
    assert post(open_server, body).status == 200
    assert said(out) == before + 1


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"verdict": "superb"}, 400),
        ({"edited": "A text."}, 400),
        ({"verdict": "edited"}, 400),
        ({"verdict": "edited", "edited": "  "}, 400),
        ({"verdict": "edited", "edited": "\ud800"}, 400),
        ({"reviewer": " "}, 400),
        ({"reviewer": "a\nb"}, 400),
        ({"reviewer": "a" * 101}, 400),
        ({"start_frame": "<script>"}, 400),
        ({"more": 1}, 400),
        ({"verdict": "edited", "edited": "x" * (2 << 20)}, 413),
        ({"text_hash": "another"}, 409),
        ({"clip": "../../x"}, 409),
        ({"shard": "../street"}, 409),
        ({"shard": "nowhere"}, 409),
    ],
)
def test_what_is_no_verdict_on_a_text_is_refused_in_words(
    out: Path, open_server: str, values: dict[str, Any], status: int
) -> None:
    before = said(out)
    answer = post(open_server, verdict(out, **values))
    assert answer.status == status
    assert answer.headers["content-type"].startswith("text/plain")
    assert len(answer.text) > 10
    assert said(out) == before


def test_on_another_address_nothing_is_answered_without_the_token(out: Path, guarded_server: str) -> None:
    url = guarded_server
    for path in (f"/{paths.INDEX}", f"/{paths.page('street')}", "/metas/v0/inside.json"):
        assert ask(url, path).status == 401
        assert ask(url, path, Authorization="Bearer wrong").status == 401
        assert ask(url, path, Cookie="caption_assets_review=wrong").status == 401
    assert post(url, verdict(out)).status == 401
    assert ask(url, f"/{paths.INDEX}", Authorization=f"Bearer {TOKEN}").status == 200
    asks = ask(url, f"/{paths.INDEX}", Accept="text/html")
    assert (asks.status, asks.headers["location"]) == (303, "/login")


def test_the_token_is_given_once_and_the_cookie_does_not_hold_it(out: Path, guarded_server: str) -> None:
    own = {"Origin": guarded_server.rstrip("/"), "Content_Type": "application/x-www-form-urlencoded"}
    wrong = ask(guarded_server, "/login", "POST", "token=wrong", **own)
    assert (wrong.status, wrong.headers["set-cookie"]) == (403, None)
    assert (
        ask(guarded_server, "/login", "POST", f"token={TOKEN}", **{**own, "Origin": "http://evil.example"}).status
        == 403
    )
    cookie = ask(guarded_server, "/login", "POST", f"token={TOKEN.replace(' ', '+')}", **own).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "samesite=strict" in cookie.lower()
    assert TOKEN not in cookie
    before = said(out)
    assert post(guarded_server, verdict(out), Cookie=cookie.partition(";")[0]).status == 200
    assert said(out) == before + 1


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.0.2.1"])
def test_only_this_machine_is_listened_to_without_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="CAPTION_ASSETS_REVIEW_TOKEN"):
        check_listening(host, None)
    with pytest.raises(ConfigError, match="guessed"):
        check_listening(host, "short")
    check_listening(host, TOKEN)
    for own in ("127.0.0.1", "::1", "localhost"):
        check_listening(own, None)


def test_a_place_that_cannot_be_written_any_more_is_said_and_the_verdict_not_taken(tmp_path: Path) -> None:
    store = Store(tmp_path / "out")
    write_shard(store, "street", 2)
    with Serving(tmp_path / "out") as serving:
        (tmp_path / "out" / "tables" / "shard_review").write_text("<script>in the way</script>")
        answer = post(serving.url, verdict(tmp_path / "out"))
        assert answer.status == 503
        assert answer.headers["content-type"].startswith("text/plain")
        os.unlink(tmp_path / "out" / "tables" / "shard_review")
        assert post(serving.url, verdict(tmp_path / "out")).status == 200
