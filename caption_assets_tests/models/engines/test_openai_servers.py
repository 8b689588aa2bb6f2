"""Servers as they are, and as nobody wants them: what they are sent, who has answered, and how a run ends."""

import json
import logging
import re
import socket
import ssl
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from caption_assets.errors import ModelError
from caption_assets.models.engines.base import EngineDeathError, EngineOptions, ServerOptions
from caption_assets.models.engines.openai.address import find_addresses
from caption_assets.models.engines.openai.engine import OpenAIEngine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.variants import text_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets_tests.models.engines.served import (
    BRIEF,
    CHECKPOINT,
    DEMO,
    ENGINE,
    HEADERS,
    KEY,
    LONG_S,
    SERVER,
    URL,
    engine,
    impatient,
    once,
    started,
    window,
)
from caption_assets_tests.openai_kinds import KINDS, answer, listing

# As where only the server has the weights, of a model that its row would have with a penalty.
PENALIZED = replace(DEMO, sampling=replace(DEMO.sampling, repetition_penalty=1.05))


NO_LOGPROBS = "The server gives no log-probabilities, so that nothing is known of how sure the model is."


@pytest.mark.parametrize("name", KINDS)
def test_a_server_is_taken_as_it_is(name, server, monkeypatch, caplog):
    kind = KINDS[name]
    server.be(**{"owned_by": "", **kind.be, "samples": False})
    if query := kind.be.get("query"):
        monkeypatch.setenv(URL, f"{server.url}/?{query}")
    if kind.headers:
        monkeypatch.setenv(HEADERS, json.dumps(kind.headers))
    caplog.set_level(logging.WARNING)
    options = EngineOptions(sampling=PENALIZED.sampling, server=ServerOptions(model=kind.model, retry_s=0.3))
    e = OpenAIEngine(PENALIZED, CHECKPOINT, options)
    info = e.start()
    server.fail()
    results = list(e.generate(BRIEF[:2]))
    assert [(r.outcome.message, bool(r.text)) for r in results] == [("", True)] * 2
    assert {r.finish_reason for r in results} <= {"stop", "length"}
    for author in (e.author(), *(result.author for result in results)):
        assert (author.model_id, author.server_model) == kind.author
    assert info.engine_version == kind.version
    # Servers that are given an answer of their own give no log-probabilities with it.
    for note in (*kind.notes, *([NO_LOGPROBS] if kind.be.get("answer") else [])):
        assert note in info.notes
        assert note in caplog.text
    assert all(bool(result.tokens) == (NO_LOGPROBS not in info.notes) for result in results)
    body = server.seen()["bodies"][-1]
    assert {field: body.get(field) for field in kind.sent} == kind.sent
    assert not set(kind.unsent) & body.keys()
    e.close()
    shown = repr((info, e.__dict__, results, caplog.text))
    assert not [value for value in kind.headers.values() if value in shown]


@pytest.mark.parametrize(
    ("owned_by", "sent", "note"),
    [
        ("vllm", {"chat_template_kwargs": {"enable_thinking": False}}, ""),
        ("llamacpp", {"chat_template_kwargs": {"enable_thinking": False}}, "only where it was started with --jinja"),
        ("library", {"reasoning_effort": "none"}, ""),
        ("somebody", {}, "is not known to take a switch for thinking; a model that thinks may do so."),
    ],
)
def test_the_switch_for_thinking_is_what_the_server_takes_or_is_said_to_be_missing(owned_by, sent, note, server):
    server.be(listing=listing({"id": "m", "owned_by": owned_by}), refuses=[["", 200, answer(content="Yes.")]])
    variant = text_variant("demo_lm")
    with started(variant=variant, checkpoint=checkpoint_of(variant)) as e:
        notes = " ".join(e.start().notes)
    body = server.seen()["bodies"][-1]
    switches = {name: body[name] for name in ("chat_template_kwargs", "reasoning_effort") if name in body}
    assert switches == sent
    assert note in notes
    assert bool(note) == ("thinking" in notes)


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "You are not allowed to request logprobs from this model"),
        (400, "Logprobs is not enabled for models/gemini-3-flash."),
        (422, "[{'type': 'extra_forbidden', 'loc': ['body', 'logprobs'], 'msg': 'Extra inputs are not permitted'}]"),
    ],
)
def test_a_server_that_gives_no_logprobs_gives_its_texts_all_the_same(status, said, server):
    with started() as e:
        author = e.author()
    server.be(refuses=[['"logprobs"', status, {"error": {"message": said}}]])
    with started() as e:
        assert NO_LOGPROBS in e.start().notes
        assert not any("it uses its own" in note for note in e.start().notes)
        assert e.author() == author  # what was written before is still its own
        results = list(e.generate(BRIEF[:2]))
    assert all(result.text and not result.tokens for result in results)


@pytest.mark.parametrize(("stated", "size"), [(8192, 8192), (None, None), ("8192", None), (0, None), (True, None)])
def test_what_a_server_says_of_its_context_is_what_windows_must_have_room_in(stated, size, server):
    server.be(listing=listing({"id": "m", "owned_by": "vllm", "root": "m", "max_model_len": stated}))
    with started(model="m") as e:
        assert e.start().context.size == size


def test_each_answer_names_its_own_author(server):
    with started() as e:
        ours = e.author()
        other = answer(model="another", content="A cat.")
        server.fail({"match": "oddly", "body": json.dumps(other)})
        found = {r.request_id: r for r in e.generate([BRIEF[0], window(1, "oddly")])}
    assert (ours.model_id, ours.server_model) == (str(CHECKPOINT.folder), str(CHECKPOINT.folder))
    assert found["w0"].author == ours
    assert found["w1"].author == replace(ours, model_id="another")


def test_how_it_was_asked_is_part_of_who_wrote_it(server):
    def author(**options):
        with started(**options) as e:
            return e.author()

    assert author(video="jpeg") == author()
    assert author(video="jpeg") != author(video="images")
    server.be(refuses=[['"top_p"', 400, {"error": "Unsupported parameter: top_p"}]])
    assert author(video="jpeg").manner == ("jpeg", "top_p=None")


# Starts that cannot be


@pytest.mark.parametrize(
    ("be", "options", "says"),
    [
        ({"listing": [404, {}]}, {}, r"lists no models \(HTTP 404\).*name one as server_model"),
        ({"listing": [405, {}]}, {}, "lists no models"),
        ({"listing": [401, {"error": "who?"}]}, {}, r"does not let us in \(HTTP 401, who\?\).*OPENAI_API_KEY"),
        ({"listing": [200, "<html>"]}, {}, "lists no models"),
        ({"listing": [200, {"data": None}]}, {}, "does not serve this model, but none"),
        ({"listing": [500, {"error": "boom"}]}, {}, "HTTP 500, boom"),
        ({"listing": [503, {"error": {"message": "Loading model"}}]}, {}, "HTTP 503, Loading model"),
        ({"listing": listing({"id": "x"}, {"id": "y"})}, {}, "but x, y"),
        (
            {"listing": listing({"id": "x"}), "refuses": [["", 404, {"error": "The model `z` does not exist."}]]},
            {"model": "z"},
            r"model 'z' of.*HTTP 404, The model `z` does not exist.*Check server_model.*lists x",
        ),
        (
            {"listing": [404, {}], "refuses": [["", 404, {"error": {"message": "no deployment"}}]]},
            {"model": "m"},
            r"model 'm' of.*HTTP 404, no deployment.*check server_model|Check server_model",
        ),
        ({"listing": [401, {}], "needs": {"x": "y"}}, {"model": "m"}, "does not let us in.*or its header in OPENAI_HE"),
        (
            {"refuses": [["image_url", 500, {"error": "image input is not supported"}]]},
            {"video": "images"},
            r"form 'images'.*HTTP 500, image input is not supported.*another form as server_video",
        ),
        ({"refuses": [["", 400, {"error": "max 1 image"}]]}, {}, "refuses it: HTTP 400, max 1 image"),
        (
            {"refuses": [["", 200, {"error": {"code": 402, "message": "no credits"}}]]},
            {},
            "HTTP 402|HTTP 200.*no credits",
        ),
        ({"refuses": [["", 200, {"error": "odd"}]]}, {}, "gives no answer.*odd"),
        ({"refuses": [["", 200, "<html>"]]}, {}, "gives no answer.*is no JSON object"),
        ({"refuses": [["", 200, {"choices": []}]]}, {}, "has no choices"),
        (
            {"refuses": [["", 200, answer(content=None, finish="error")]]},
            {},
            "broke the text off for the reason 'error'",
        ),
        (
            {"refuses": [["", 200, answer(content="A", finish="error")]]},
            {},
            "broke the text off for the reason 'error'",
        ),
        ({"refuses": [["", 200, answer(content="")]]}, {}, "has no text; it ended for the reason 'stop'"),
        ({"refuses": [["", 200, answer(content="", finish="content_filter")]]}, {}, "the server filtered the text"),
        ({"refuses": [["", 200, answer(content=None, message={"refusal": "No."})]]}, {}, "the model refuses: No"),
        ({"refuses": [["", 429, {"error": {"code": "insufficient_quota", "message": "pay"}}]]}, {}, "HTTP 429, pay"),
        ({"refuses": [["", 503, {}]]}, {}, "HTTP 503"),
        (
            {"refuses": [['"max_tokens"', 400, {"error": "unsupported: max_tokens"}], ["", 400, {"error": "no"}]]},
            {},
            "no",
        ),
    ],
)
def test_a_server_that_will_not_is_one_clear_error_before_anything_is_sent(be, options, says, server, monkeypatch):
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", 0.3)
    server.be(**be)
    with pytest.raises(ModelError, match=says):
        engine(**{"retry_s": 0.3, **options}).start()


def test_a_model_that_must_think_first_passes_the_trial_with_more_tokens(server):
    few = {"message": "Could not finish the message because max_tokens or model output limit was reached."}
    server.be(refuses=[['"max_tokens": 16,', 400, {"error": few}]])
    with started() as e:
        assert [r.outcome.ok for r in e.generate(BRIEF[:1])] == [True]


@pytest.mark.parametrize(
    "found",
    [
        listing({"id": "a/m"}),
        listing({"id": "*"}),
        listing({"id": "x"}, {"id": "y"}, has_more=True),
        listing(),
        [422, {"detail": "no"}],
        [500, {"error": "boom"}],
        [502, {}],
        [307, {}],
        [200, "soon"],
    ],
    ids=str,
)
def test_a_model_that_is_named_need_not_be_listed(found, server, monkeypatch, caplog):
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", 0.1)
    server.be(listing=found)
    with started(model="a/m:novita") as e:
        assert e.author().server_model == "a/m:novita"
    assert "'a/m:novita'" in caplog.text
    assert server.seen()["bodies"][0]["model"] == "a/m:novita"


def test_a_model_is_found_among_others_by_what_it_was_loaded_from(server):
    server.be(listing=listing({"id": "x", "root": "somebody/x"}, {"id": "m", "root": str(CHECKPOINT.folder)}))
    with started() as e:
        assert e.author().server_model == "m"


@pytest.mark.parametrize(
    "thought", [answer(content="", finish="length"), answer(content=None, message={"reasoning_content": "Hm"})]
)
def test_a_model_whose_thinking_takes_the_whole_trial_passes_it(thought, server):
    server.be(refuses=[['"max_tokens": 16,', 200, thought]])
    with started() as e:
        assert [r.outcome.ok for r in e.generate(BRIEF[:1])] == [True]


def test_one_answer_without_a_text_ends_no_trial(server):
    server.fail({"body": json.dumps(answer(content=None, finish="error"))})
    with started() as e:
        assert e.author()


def test_a_server_that_redirects_says_where_to_without_what_is_secret(server):
    elsewhere = {"status": 307, "headers": {"Location": "https://login.example.org/secret-path?x=1"}}
    server.fail({**elsewhere, "times": 9})
    with pytest.raises(ModelError, match=r"HTTP 307, it sends us on to https://login.example.org\)") as error:
        engine(retry_s=0.3).start()
    assert "secret-path" not in str(error.value)


@pytest.mark.parametrize("fault", [{"hang": 600}, {"drip": 0.05}], ids=str)
def test_a_trial_without_an_answer_ends_within_its_time(server, fault):
    server.fail({**fault, "times": 9})
    with pytest.raises(ModelError, match=r"has not answered within 0\.5 s"):
        engine(timeout_s=0.5).start()


def test_a_server_busy_at_the_start_is_waited_for(server):
    server.fail({"status": 429, "times": 2}, {"status": 503}, {"drop": True})
    with started() as e:
        assert e.author()


def test_an_engine_that_is_closed_while_it_starts_says_so(server):
    server.fail({"hang": 600, "times": 9})
    e = engine()
    once(lambda: server.seen()["open"], e.close)
    with pytest.raises(ModelError, match="closed in the middle of its start"):
        e.start()


@contextmanager
def odd_server(speak):
    """Where whatever connects is spoken to by `speak`, on a thread of its own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=speak, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
        listener.shutdown(socket.SHUT_RDWR)


def says(*parts, then=lambda connection: connection.close()):
    def speak(connection):
        connection.recv(65536)
        try:
            for part in parts:
                connection.sendall(part)
        except OSError:
            return
        then(connection)

    return speak


FOREVER = threading.Event().wait
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STRANGE = {
    "accepts and says nothing": (says(then=lambda _: FOREVER()), "does not answer within 0.5 s"),
    "closes at once": (says(), "RemoteProtocolError"),
    "speaks another protocol": (says(b"220 mail.example.org ESMTP\r\n"), "RemoteProtocolError"),
    "sends chunks that are none": (says(CHUNKED + b"zz\r\nabc\r\n"), "breaks off"),
    "sends a chunk that is too short": (says(CHUNKED + b"5\r\nab"), "breaks off"),
    "has headers without an end": (
        says(b"HTTP/1.1 200 OK\r\n", *([b"X-A: b\r\n"] * 200_000)),
        "RemoteProtocolError|ReadError|breaks",
    ),
    "sends gzip that is none": (
        says(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc"),
        "breaks off",
    ),
    "has a body without an end": (
        says(b"HTTP/1.1 200 OK\r\n\r\n", *([b" " * (1 << 20)] * 20)),
        "longer than 16 MiB",
    ),
}


@pytest.mark.parametrize("name", STRANGE)
def test_what_is_hardly_http_is_said_and_ends(name, monkeypatch):
    speak, message = STRANGE[name]
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", 0.2)
    if "0.5 s" in message:
        monkeypatch.setattr(f"{SERVER}.CONNECT_S", 0.5)
    with odd_server(speak) as url:
        monkeypatch.setenv(URL, url)
        with pytest.raises(ModelError, match=message):
            engine(retry_s=0.2).start()


def test_a_certificate_that_nobody_vouches_for_is_said_and_not_waited_for(tmp_path, monkeypatch):
    """Made here, by openssl; the wait would be two minutes."""
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run([*command, "-keyout", tmp_path / "key", "-out", tmp_path / "crt"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "crt", tmp_path / "key")

    def speak(connection):
        with connection, suppress(OSError):
            context.wrap_socket(connection, server_side=True)

    with odd_server(speak) as url:
        monkeypatch.setenv(URL, url.replace("http:", "https:"))
        with pytest.raises(ModelError, match=r"certificate is not trusted \(self.signed certificate.*SSL_CERT_FILE"):
            engine(retry_s=LONG_S).start()


@pytest.mark.parametrize(
    ("content", "why"), [(None, "No such file"), ("no certificate", "NO_CERTIFICATE|no certificate")]
)
def test_a_file_of_certificates_that_cannot_be_read_is_said(content, why, server, tmp_path, monkeypatch):
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with pytest.raises(ModelError, match=rf"in SSL_CERT_FILE: they cannot be read \(.*({why})"):
        engine().start()


def test_a_server_that_speaks_no_tls_is_said(server, monkeypatch):
    monkeypatch.setenv(URL, server.url.replace("http:", "https:"))
    with pytest.raises(ModelError, match=r"no TLS with it.*http:// rather than https://"):
        engine().start()


def test_a_name_that_nobody_knows_is_said(monkeypatch):
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", 0.2)
    monkeypatch.setenv(URL, "http://no-such-server.invalid/v1")
    with pytest.raises(ModelError, match="its name is not known"):
        engine().start()


@pytest.mark.parametrize(
    ("proxy", "message"),
    [
        ("http://127.0.0.1:9", r"no connection by way of the proxy that the environment names \(it is refused\)"),
        ("ftp://127.0.0.1:9", "proxy of the environment, for the server in OPENAI_BASE_URL: it cannot be used"),
    ],
)
def test_a_proxy_is_named_where_it_is_the_reason(proxy, message, monkeypatch):
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", 0.2)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv(URL, "http://example.org/v1")
    with pytest.raises(ModelError, match=message):
        engine().start()


def test_a_proxy_that_wants_a_password_is_said_and_not_waited_for(monkeypatch):
    with odd_server(says(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")) as proxy:
        monkeypatch.setenv("https_proxy", proxy.removesuffix("/v1"))
        monkeypatch.setenv(URL, "https://example.org/v1")
        with pytest.raises(ModelError, match=r"proxy that the environment names lets nothing through.*407"):
            engine().start()


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (b"407 Proxy Authentication Required", "does not let us in .*407 by way of the proxy.*the proxy's user"),
        (b"503 Service Unavailable", "HTTP 503 by way of the proxy that the environment names"),
    ],
)
def test_what_may_be_the_proxy_s_own_answer_is_said_to_come_by_way_of_it(said, message, monkeypatch):
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", 0.2)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with odd_server(says(b"HTTP/1.1 " + said + b"\r\nContent-Length: 0\r\n\r\n")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.removesuffix("/v1"))
        monkeypatch.setenv(URL, "http://example.org/v1")
        for model in (None, "m"):
            with pytest.raises(ModelError, match=message):
                engine(model=model, retry_s=0.2).start()


# Addresses


def test_headers_and_query_are_sent_and_secret(monkeypatch):
    monkeypatch.setenv(URL, "https://x.example.org/openai/v1/?api-version=2024-10-21&key=geheim-1")
    monkeypatch.setenv(KEY, "geheim-2")
    monkeypatch.setenv(HEADERS, '{"api-key": "geheim-3", "authorization": "Token geheim-4"}')
    (address,) = find_addresses(text_model=False)
    assert address.url("models") == "https://x.example.org/openai/v1/models?api-version=2024-10-21&key=geheim-1"
    assert address.beside("version") == "https://x.example.org/openai/version"
    assert address.headers == {"api-key": "geheim-3", "authorization": "Token geheim-4"}
    assert address.shown == "https://x.example.org"
    assert "geheim" not in repr(address)
    assert "geheim" not in address.redact("geheim-1 geheim-2 geheim-3 Token geheim-4 key=geheim-1")


def test_headers_go_to_the_address_that_they_stand_beside(monkeypatch):
    monkeypatch.setenv(URL, "http://a/v1")
    monkeypatch.setenv(HEADERS, '{"x": "captions"}')
    monkeypatch.setenv("OPENAI_TEXT_BASE_URL", "http://b/v1")
    assert find_addresses(text_model=True)[0].headers == {}
    monkeypatch.setenv("OPENAI_TEXT_HEADERS", '{"x": "texts"}')
    assert find_addresses(text_model=True)[0].headers == {"x": "texts"}
    assert find_addresses(text_model=False)[0].headers == {"x": "captions"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        (HEADERS, "api-key: geheim", r"headers in OPENAI_HEADERS: they are no JSON.*\{"),
        (HEADERS, '{"api-key": 5}', "they are no JSON of names with texts"),
        (HEADERS, '{"api key": "geheim"}', "header 'api key' in OPENAI_HEADERS"),
        (HEADERS, '{"api-key": "geheim\\n"}', "header 'api-key' in OPENAI_HEADERS: its name or its value"),
        (KEY, "geheim\u2026", "key in OPENAI_API_KEY: it has characters"),
    ],
)
def test_what_no_header_can_carry_is_refused_unseen(name, value, message, monkeypatch):
    monkeypatch.setenv(URL, "http://a/v1")
    monkeypatch.setenv(name, value)
    with pytest.raises(ModelError, match=message) as error:
        find_addresses(text_model=False)
    assert "geheim" not in str(error.value)


# In the middle of a run


def captioned(session, requests):
    """What came before the end, and the error that ended it."""
    results = []
    try:
        for result in session.generate(requests):
            results.append(result)
            yield results, None
    except ModelError as error:
        yield results, error
    finally:
        session.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"api_key": "new"}, r"does not let us in \(HTTP 401.*Set OPENAI_API_KEY"),
        ({"refuses": [["", 403, {"error": "revoked"}]]}, r"does not let us in \(.*HTTP 403, revoked"),
        ({"refuses": [["", 402, {"error": "no credits"}]]}, "HTTP 402, no credits"),
        ({"refuses": [["", 429, {"error": {"type": "insufficient_quota", "message": "pay"}}]]}, "HTTP 429, pay"),
        ({"refuses": [["", 200, {"error": "maintenance"}]]}, "maintenance"),
        ({"refuses": [["", 500, {"error": "CUDA error"}]]}, "HTTP 500, CUDA error"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_no_request_could_do_better_with_stops_the_run_at_once(change, message, server, monkeypatch):
    """A key that is revoked, money that is spent: a few requests notice, and not all."""
    monkeypatch.setenv(KEY, "old")
    server.be(api_key="old")
    session = EngineSession(DEMO, CHECKPOINT, engine(batch_size=3, retry_s=0.3, return_s=0.3))
    many = (replace(BRIEF[k % 12], request_id=str(k)) for k in range(500))
    results, error = [], None
    for results, error in captioned(session, many):
        if len(results) == 2 and error is None:
            server.fail()
            server.be(**{"api_key": "old", **change})
    assert error is not None
    assert error.kind == "model"
    assert re.search(message, str(error)), str(error)
    assert 2 <= len(results) < 20
    assert all(result.outcome.ok for result in results)
    assert len(server.seen()["at"]) < 60


@pytest.mark.parametrize(
    ("change", "fix"),
    [
        ({"api_key": "new"}, "Set OPENAI_API_KEY"),
        ({"refuses": [["", 429, {"error": "slow down"}]]}, "have fewer requests open"),
        ({"refuses": [["", 402, {"error": "no credits"}]]}, "See to what the server says"),
        ({"refuses": [["", 500, {"error": "boom"}]]}, "it may have run out of memory"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_to_do_about_a_server_that_has_gone_is_of_its_reason(change, fix, server):
    with started(retry_s=0.1) as e:
        server.be(**change)
        with pytest.raises(EngineDeathError, match=fix):
            list(e.generate(BRIEF[:1]))


def test_one_odd_answer_of_a_server_that_restarts_ends_nothing(server):
    """It goes away in the middle; what answers first when it comes back is a proxy that knows it no more."""
    session = EngineSession(DEMO, CHECKPOINT, engine(batch_size=2, retry_s=0.3))
    results = session.generate(BRIEF)
    found = [next(results)]
    server.stop()
    server.start()
    # Five are for what was open and for a look whether the server is there, the sixth for the new start.
    server.fail({"status": 404, "times": 6, "body": "default backend"})
    found += results
    session.close()
    assert sorted(r.outcome.ok for r in found).count(True) >= len(BRIEF) - 3
    assert len(found) == len(BRIEF)


def test_what_is_one_request_s_own_fault_stops_nothing(server):
    server.be(refuses=[["of something else", 403, {"error": "flagged"}]])
    with started(retry_s=0.3) as e:
        requests = [window(k, "of something else" if k % 2 else "Describe.", 8) for k in range(8)]
        found = list(e.generate(requests))
    assert sorted(r.outcome.ok for r in found) == [False] * 4 + [True] * 4
    assert {r.outcome.message for r in found if not r.outcome.ok} == {"the server refuses it: HTTP 403, flagged"}


def test_what_a_server_sends_twice_is_not_another_window_s_caption(server):
    """The second answer comes with the first, on the same connection, before anything else is asked there."""
    said = json.dumps(answer(content="Of the first window.")).encode()
    once_more = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(said), said)
    with started(batch_size=1) as e:
        server.fail({"match": "first", "body": said.decode(), "after": once_more.decode()})
        found = {r.request_id: r.text for r in e.generate([window(0, "first", 8), *BRIEF[1:4]])}
    assert [text for text in found.values() if text == "Of the first window."] == [found["w0"]]


def test_a_window_answered_byte_by_byte_fails_alone_when_its_time_is_up(server, monkeypatch):
    impatient(monkeypatch, "slowly")
    with started() as e:
        server.fail({"match": "slowly", "drip": 0.05, "times": 9})
        found = {r.request_id: r for r in e.generate([BRIEF[0], window(1, "slowly", 8), BRIEF[2]])}
    assert [found[f"w{k}"].outcome.kind for k in range(3)] == ["", "timeout", ""]
