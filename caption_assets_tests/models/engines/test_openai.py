"""The server engine against a real HTTP server that runs the demo checkpoints, well-behaved and not."""

import json
import logging
import os
import pickle
import re
import signal
import socket
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.engines.base import EngineDeathError, EngineOptions
from caption_assets.models.engines.openai.address import find_addresses
from caption_assets.models.engines.openai.engine import OpenAIEngine
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.models.requests import enhance_request, request_seed, video_metadata
from caption_assets.models.schemas import bounded
from caption_assets.models.variants import caption_variant, text_variant
from caption_assets.models.weights.checkpoints import checkpoint_of
from caption_assets.records import FramePicks, SampledFrames
from caption_assets_tests.models.engines.served import (
    BRIEF,
    CHECKPOINT,
    DEMO,
    ENGINE,
    KEY,
    LIMITS,
    LONG_S,
    SERVER,
    URL,
    WINDOWS,
    answers,
    engine,
    impatient,
    no_threads,
    once,
    started,
    wait_for,
    window,
)
from caption_assets_tests.openai_server import OpenAIServer


def by_transformers(windows):
    engine = TransformersEngine(DEMO, CHECKPOINT, EngineOptions("cpu", batch_size=12, sampling=DEMO.sampling))
    engine.start()
    results = {result.request_id: result for result in engine.generate(windows)}
    engine.close()
    return results


@pytest.fixture(scope="module")
def reference():
    """What transformers says of the windows, here."""
    return by_transformers(WINDOWS)


@pytest.fixture(scope="module")
def brief():
    """The beginnings of the texts that transformers gives for the windows, by their names."""
    texts = {name: result.text for name, result in by_transformers(BRIEF).items()}
    assert len(set(texts.values())) > 6
    return texts


# What is sent, and what comes back


def test_png_frames_give_the_texts_and_tokens_of_transformers(server, reference):
    server.fail({"match": "Describe.", "times": 4, "until_open": 4})
    begun = time.monotonic()
    found = answers(WINDOWS, video="png", batch_size=6)
    assert {key: r.text for key, r in found.items()} == {key: r.text for key, r in reference.items()}
    for key, result in found.items():
        assert result.outcome.ok
        assert result.tokens == [(read, pytest.approx(score, abs=1e-4)) for read, score in reference[key].tokens]
        assert (result.finish_reason, result.prompt_tokens) == ("stop", reference[key].prompt_tokens)
        assert 0 < result.output_tokens <= 64
        assert 0 < result.seconds < time.monotonic() - begun
    assert len({r.text for r in found.values()}) > 6
    assert 4 <= server.seen()["peak"] <= 6
    assert no_threads()


@pytest.mark.parametrize(("form", "share"), [("jpeg", 0.9), ("mp4", 0.8)])
def test_other_forms_say_nearly_the_same(server, reference, form, share):
    found = answers(WINDOWS, video=form)
    assert np.mean([found[key].text == reference[key].text for key in reference]) >= share


def test_a_list_of_images_is_read_by_servers_that_take_no_video(server):
    found = answers(video="images")
    assert all(result.outcome.ok for result in found.values())
    bodies = server.seen()["bodies"][-4:]
    told = {body["messages"][0]["content"][0]["text"] for body in bodies}
    shown = {", ".join(f"{time:.2f}" for time in request.frames.picks.times_s) for request in BRIEF[:4]}
    assert told == {f"Frames of a video, in order, shown at {times} seconds:" for times in shown}
    body = bodies[-1]
    _, *images, prompt = body["messages"][0]["content"]
    assert {image["image_url"]["url"] for image in images} == {"data:image/jpeg;base64,"}
    assert prompt["text"] == "Describe."
    assert not {"media_io_kwargs", "mm_processor_kwargs"} & body.keys()


def test_vllm_gets_the_true_times_and_all_of_the_sampling(server):
    sampling = replace(DEMO.sampling, top_p=0.9)
    e = engine(variant=replace(DEMO, stop=("</s>",)), sampling=sampling)
    e.start()
    list(e.generate(BRIEF[1:2]))
    e.close()
    body = server.seen()["bodies"][-1]
    true = video_metadata(WINDOWS[1].frames.picks)
    assert body.pop("media_io_kwargs") == {"video": {"num_frames": -1, "do_sample_frames": False, **true}}
    assert true["frames_indices"][1] == round(1000 * WINDOWS[1].frames.picks.times_s[1])
    assert body.pop("mm_processor_kwargs") == {"do_resize": False, "do_sample_frames": False}
    assert len(body.pop("messages")) == 1
    sent = {"temperature": 0.0, "top_p": 0.9, "top_k": -1, "repetition_penalty": 1.0, "max_tokens": 8}
    sent["logprobs"] = True
    assert body == {"model": str(CHECKPOINT.folder), "stop": ["</s>"], **sent}


def test_a_drawn_text_has_a_seed_and_a_single_frame_goes_twice(server):
    with started() as e:
        sampled = replace(e.start().prepare, sampling=replace(DEMO.sampling, temperature=0.7))
        one = SampledFrames(WINDOWS[0].frames.frames[:1], FramePicks((0,), (0.0,)))
        body, other = (
            json.loads(bytes(sampled(replace(WINDOWS[0], frames=one, request_id=name)).prepared)) for name in "ab"
        )
    assert (body["seed"], other["seed"]) == (request_seed(0, "a"), request_seed(0, "b"))
    assert body["media_io_kwargs"]["video"]["frames_indices"] == [0, 0]
    assert body["messages"][0]["content"][0]["video_url"]["url"].count(",") == 2


def test_requests_are_prepared_in_other_processes(server, brief):
    with started(video="png") as e:
        info = e.start()
        prepare = pickle.loads(pickle.dumps(info.prepare))
        ready = [prepare(request) for request in BRIEF[:3]]
        assert all(r.frames is None and r.num_bytes == len(r.prepared) and r.prepared_at for r in ready)
        ready = pickle.loads(pickle.dumps(ready))
        assert {r.request_id: r.text for r in e.generate(ready)} == {f"w{k}": brief[f"w{k}"] for k in range(3)}


def test_what_is_known_of_the_server_is_reported(server):
    with started(model=None) as e:
        info = e.start()
    assert (info.engine, info.engine_version, info.device) == ("openai", "vllm 0.32.0", "server")
    assert info.precision == "unknown"
    assert info.frame_limits == LIMITS
    assert info.notes == ("Frames go to the server in the form 'jpeg'.",)


def test_times_that_the_server_tells_are_passed_on(server):
    said = {
        "choices": [{"message": {"content": " A cat. "}, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
        "metrics": {"time_to_first_token_ms": 150.0, "generation_time_ms": 50.0, "queue_time_ms": 1.0},
    }
    server.fail({"match": "tell", "hang": 0.4, "body": json.dumps(said)})
    begun = time.monotonic()
    (result,) = answers([window(0, "tell")]).values()
    assert (result.text, result.finish_reason, result.prompt_tokens, result.output_tokens) == ("A cat.", "length", 7, 3)
    assert (result.prefill_s, result.generate_s) == (0.15, 0.05)
    assert 0.2 <= result.wait_s <= time.monotonic() - begun - 0.2
    assert result.seconds >= 0.4


def test_the_text_model_may_have_a_server_of_its_own(server, served_models, monkeypatch):
    variant = text_variant("demo_lm")
    checkpoint = checkpoint_of(variant)
    monkeypatch.setenv(KEY, "of-the-captions")
    caption = "A red circle is standing still on a black background."
    requests = [enhance_request(str(k), "Rewrite this caption.", caption, 60) for k in range(3)]
    with OpenAIServer(served_models, "demo_lm") as texts:
        texts.be(api_key="of-the-texts", served_model_name="rewriter")
        monkeypatch.setenv("OPENAI_TEXT_BASE_URL", texts.url)
        with pytest.raises(ModelError, match=r"HTTP 401.*Set OPENAI_TEXT_API_KEY") as refused:
            engine(variant, checkpoint).start()
        assert "of-the" not in str(refused.value)
        monkeypatch.setenv("OPENAI_TEXT_API_KEY", "of-the-texts")
        with started(variant=variant, checkpoint=checkpoint) as e:
            assert e.start().frame_limits is None
            found = list(e.generate(requests))
        assert texts.seen()["bodies"][-1]["chat_template_kwargs"] == {"enable_thinking": False}
    assert len({r.text for r in found}) == 1
    assert len(found[0].text) > len(caption)


# Servers that are not there, serve something else, or take other requests


def test_without_an_address_it_says_what_to_set():
    with pytest.raises(ModelError, match=r"OPENAI_BASE_URL: it is not set\. Set OPENAI_BASE_URL, such as http.*vllm"):
        engine().start()
    variant = text_variant("demo_lm")
    with pytest.raises(ModelError, match="OPENAI_TEXT_BASE_URL and OPENAI_BASE_URL are not set"):
        engine(variant, checkpoint_of(variant)).start()


@pytest.mark.parametrize(
    "address", ["localhost:8000", "ftp://host/v1", "http://", "http://host:port/v1", "http://h/#a", "http://h/v 1"]
)
def test_an_address_that_is_none_is_refused(address, monkeypatch):
    monkeypatch.setenv(URL, address)
    with pytest.raises(ModelError, match="it is no address of an API"):
        engine().start()


@pytest.mark.parametrize("model", [None, "m"])
def test_a_server_that_is_not_there_is_one_clear_error_without_its_credentials(monkeypatch, model):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv(URL, f"http://user:geheim@127.0.0.1:{port}/secret-path/v1")
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", 0.6)
    with pytest.raises(ModelError) as error:
        engine(model=model).start()
    assert f"http://127.0.0.1:{port}, from OPENAI_BASE_URL: there is no connection (it is refused)" in str(error.value)
    assert "`vllm serve" in str(error.value)
    assert not any(secret in str(error.value) for secret in ("user", "geheim", "secret-path"))


def test_an_address_is_shown_without_what_is_secret_in_it(monkeypatch):
    monkeypatch.setenv(URL, "https://user:p%40ss@[::1]:8443/gateway/t0ken/v1/")
    (address,) = find_addresses(text_model=False)
    assert address.base == "https://[::1]:8443/gateway/t0ken/v1/"
    assert address.shown == "https://[::1]:8443"
    assert address.headers == {"Authorization": "Basic dXNlcjpwQHNz"}
    assert not any(secret in repr(address) for secret in ("user", "p%40ss", "p@ss", "t0ken", "dXNlcjp"))
    assert address.redact("p@ss p%40ss dXNlcjpwQHNz") == "*** *** ***"
    assert address.redact("half a letter \ud83d,\n\tas JSON may have it") == "half a letter ?, as JSON may have it"


def test_an_address_beside_the_api_is_not_taken_for_a_server_that_is_not_there(server, monkeypatch):
    monkeypatch.setenv(URL, server.url.removesuffix("/v1"))
    with pytest.raises(ModelError, match=r"it lists no models \(HTTP 404, Not Found\).*mostly ends in /v1"):
        engine().start()


def test_another_model_is_refused(server):
    with pytest.raises(
        ModelError, match=r"model 'qwen' of the server.*does not exist.*server_model; the server lists /"
    ):
        engine(model="qwen").start()
    with pytest.raises(ModelError, match=r"model 'Qwen/Qwen2.5-VL-7B-Instruct' at .*does not serve this model, but /"):
        engine(caption_variant("qwen"), checkpoint_of(caption_variant("qwen"))).start()
    with pytest.raises(ConfigError, match="Choose auto, jpeg"):
        engine(video="webm").start()


def test_a_vllm_that_trusts_no_request_is_refused_at_the_start(server):
    server.be(trust_request_mm_kwargs=False)
    with pytest.raises(ModelError, match=r"form 'jpeg'.*disabled by default.*Start the server with --trust-request"):
        engine().start()
    with started(video="mp4") as e:  # the file holds the times
        assert [r.outcome.ok for r in e.generate(BRIEF[:1])] == [True]


def test_other_servers_are_sent_what_the_api_knows_and_no_more(server):
    server.be(owned_by="openai", version="", served_model_name="gpt")
    penalized = replace(DEMO, sampling=replace(DEMO.sampling, top_k=20, repetition_penalty=1.05))
    e = OpenAIEngine(penalized, CHECKPOINT, EngineOptions(sampling=penalized.sampling))
    info = e.start()
    assert [r.outcome.ok for r in e.generate(BRIEF[:2])] == [True, True]
    e.close()
    assert info.engine_version == "openai"
    assert info.notes[0] == "Frames go to the server in the form 'images'."
    assert info.notes[1] == "The server is not known to take a top_k; it uses its own."
    assert info.notes[2] == "The server is not known to take a repetition penalty; none is used."
    known = {"model", "messages", "max_tokens", "temperature", "top_p", "logprobs"}
    assert server.seen()["bodies"][-1].keys() == known


def test_a_schema_that_the_server_refuses_is_known_at_the_start(server):
    """And where it takes what grammars keep to of it, it is sent that."""
    schema = bounded({"properties": {"a": {"type": "array", "uniqueItems": True}}}, "the schema")
    refused = {"error": {"message": "features not supported by xgrammar", "type": "BadRequestError"}}
    server.be(refuses=[["uniqueItems", 400, refused]])
    e = engine()
    e.check_schema(schema, "schema of the prompt 'a'")
    try:
        notes = e.start().notes
        assert "The server takes no JSON schema with what grammars do not keep to" in " ".join(notes)
        (result,) = e.generate([replace(BRIEF[0], schema=schema)])
        assert result.outcome.kind != "server"
        sent = [body["response_format"]["json_schema"]["schema"] for body in server.seen()["bodies"][-2:]]
        assert all(each["properties"]["a"]["maxItems"] for each in sent)
        server.be(refuses=[["maxItems", 400, refused]])
        e.close()
        with pytest.raises(ModelError, match=r"prompt 'a', of the server in \w+: the server refuses it:.*xgrammar"):
            e.start()
    finally:
        e.close()


def test_an_old_vllm_and_a_model_by_another_name_are_noted(server):
    server.be(version="0.25.1", served_model_name="m")
    elsewhere = replace(CHECKPOINT, folder=None)  # as where only the server has the weights
    with started(variant=replace(DEMO, frames=LIMITS), checkpoint=elsewhere) as e:
        notes = e.start().notes
    assert notes[0] == "Frames go to the server in the form 'jpeg'."
    other = replace(DEMO, frames=LIMITS, name="mine")
    with started(variant=other, checkpoint=replace(elsewhere, model_id="me/mine"), model="m") as e:
        assert [r.outcome.ok for r in e.generate(BRIEF[:1])] == [True]
    assert "The server calls its model 'm'." in notes
    assert any(note.startswith("vLLM 0.25.1 does not give Qwen2.5-VL the frames' times") for note in notes)
    server.be(version="")
    with started() as e:
        (note,) = (note for note in e.start().notes if "frames' times" in note)
    assert note.startswith("vLLM, which does not tell its version, may not give Qwen2.5-VL the frames' times")


# Trouble that passes


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 429},
        {"status": 429, "times": 3},
        {"status": 500, "body": '{"error": {"message": "boom"}}'},
        {"status": 503, "body": "<html>"},
        {"drop": True},
        {"drop": True, "times": 3},
        {"truncate": True},
    ],
    ids=str,
)
def test_what_passes_is_tried_again(server, brief, fault):
    with started(video="png") as e:
        server.fail(fault)
        found = {r.request_id: r.text for r in e.generate(BRIEF[:5])}
    assert found == {f"w{k}": brief[f"w{k}"] for k in range(5)}
    assert len(server.seen()["at"]) == 5 + fault.get("times", 1)


@pytest.mark.parametrize(
    ("fault", "least_s"),
    [
        ({"status": 429, "headers": {"Retry-After": "1.0"}}, 1.0),
        ({"away_s": 2}, 0.99),  # dates have whole seconds
    ],
)
def test_a_busy_server_is_left_alone_as_long_as_it_asks(server, fault, least_s):
    with started() as e:
        server.fail(fault)
        assert [r.outcome.ok for r in e.generate(BRIEF[:1])] == [True]
    first, second = server.seen()["at"]
    assert second - first >= least_s


def test_a_server_that_asks_for_more_time_than_there_is_fails_the_request_at_once(server):
    with started(retry_s=600.0) as e:
        server.fail({"status": 429, "headers": {"Retry-After": "3600"}, "body": '{"detail": "quota"}'})
        begun = time.monotonic()
        (result,) = e.generate(BRIEF[:1])
    assert time.monotonic() - begun < LONG_S
    assert (result.outcome.kind, result.outcome.message) == ("server", "HTTP 429, quota, after 1 attempts")


# Trouble that stays, of one request


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (
            {"status": 400, "body": '{"error": {"message": "prompt too\\nlong"}}'},
            "server",
            "refuses it: HTTP 400, prompt",
        ),
        ({"status": 413, "body": "too large"}, "server", "refuses it: HTTP 413"),
        ({"status": 500, "body": '{"error": "boom"}'}, "server", r"HTTP 500, boom, after \d attempts"),
        ({"status": 502}, "server", r"HTTP 502, after \d attempts"),
        ({"drop": True}, "server", r"the connection breaks \(RemoteProtocolError\), after \d attempts"),
        ({"truncate": True}, "server", r"its answer breaks off \(RemoteProtocolError\), after \d attempts"),
        ({"hang": 600}, "timeout", "has not answered within 1 s"),
        ({"body": '{"choices": [{"mess'}, "reply", r"is no JSON object: .\"choices"),
        ({"body": "[]"}, "reply", "is no JSON object"),
        ({"body": '{"choices": []}'}, "reply", "has no choices"),
        ({"body": '{"choices": ["?"]}'}, "reply", "for the reason None"),
        ({"body": '{"choices": [{"message": {"content": " "}, "finish_reason": "stop"}]}'}, "reply", "has no text"),
        ({"body": '{"choices": [{"message": {}, "finish_reason": "length"}], "usage": "?"}'}, "reply", "'length'"),
        ({"body": '{"choices": [{"message": {"content": "x"}, "finish_reason": "abort"}]}'}, "reply", "'abort'"),
        ({"body": '{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}'}, "reply", "no text"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_answer_fails_its_request_and_no_other(server, brief, monkeypatch, fault, kind, message):
    if "hang" in fault:
        impatient(monkeypatch, "badly")
    windows = [BRIEF[0], window(1, "Describe badly."), *BRIEF[2:4]]
    with started(video="png", retry_s=0.3) as e:
        server.fail({"match": "badly", "times": 99, **fault})
        found = {r.request_id: r for r in e.generate(windows)}
    for k in (0, 2, 3):
        assert found[f"w{k}"].text == brief[f"w{k}"]
    assert found["w1"].text is None
    assert found["w1"].outcome.kind == kind
    assert re.search(message, found["w1"].outcome.message), found["w1"].outcome.message


def test_a_request_that_cannot_be_sent_fails_alone(server):
    no_frames = replace(WINDOWS[1], frames=None)
    crooked = replace(WINDOWS[2], frames=SampledFrames(np.zeros((4, 56), np.float32), WINDOWS[2].frames.picks))
    found = answers([BRIEF[0], no_frames, crooked, BRIEF[3]])
    assert [found[f"w{k}"].outcome.ok for k in range(4)] == [True, False, False, True]
    assert "has no frames" in found["w1"].outcome.message
    assert found["w2"].outcome.kind == "engine"


# A server that goes away


def test_a_server_that_comes_back_soon_loses_nothing(server, brief):
    with started(video="png") as e:
        results = e.generate(BRIEF)
        found = {(first := next(results)).request_id: first.text}
        server.stop()
        threading.Timer(0.5, server.start).start()
        found |= {r.request_id: r.text for r in results}
    assert found == brief


def test_a_server_that_stays_away_longer_is_waited_for(server, brief, monkeypatch):
    e = engine(video="png", retry_s=0.3, return_s=LONG_S)
    session = EngineSession(DEMO, CHECKPOINT, e)
    find, looks = OpenAIEngine._find, []

    def noted(self, wait_s):
        looks.append(wait_s)
        if len(looks) == 2:  # it has been given up
            threading.Timer(0.5, server.start).start()
        return find(self, wait_s)

    monkeypatch.setattr(OpenAIEngine, "_find", noted)
    try:
        results = session.generate(BRIEF)
        found = {(first := next(results)).request_id: first.text}
        server.stop()
        found |= {r.request_id: r.text for r in results}
    finally:
        session.close()
    assert found == brief
    assert len(looks) == 2
    assert no_threads()


@pytest.mark.parametrize("refuses", [False, True])
def test_a_server_that_does_not_come_back_ends_the_run(server, refuses):
    e = engine(retry_s=0.3, return_s=0.3)
    session = EngineSession(DEMO, CHECKPOINT, e)
    try:
        results = session.generate(BRIEF)
        next(results)
        if refuses:
            server.fail({"status": 400, "times": 99})
        else:
            server.stop()
        wrong = "no longer answers requests.*HTTP 400" if refuses else "there is no connection"
        with pytest.raises(ModelError, match=wrong):
            list(results)
    finally:
        session.close()
        server.start()
    assert no_threads()


def test_those_that_the_server_had_when_it_went_are_named(server):
    with started(retry_s=0.3, batch_size=3) as e:
        server.fail({"match": "slowly", "hang": 600, "times": 99})
        slow = [window(k, "Describe slowly.") for k in range(5)]
        once(lambda: server.seen()["open"] == 3, server.stop)
        with pytest.raises(EngineDeathError, match="there is no connection") as death:
            list(e.generate(slow))
    server.start()
    assert death.value.in_flight == {"w0", "w1", "w2"}


def test_a_server_that_hangs_as_a_whole_has_gone(server, monkeypatch):
    with started() as e:
        impatient(monkeypatch, "")  # whatever is asked, now that it has met the server
        monkeypatch.setattr(f"{SERVER}.CONNECT_S", 0.5)
        os.kill(server.pid, signal.SIGSTOP)
        try:
            with pytest.raises(EngineDeathError, match="1 s; nor does it answer what it has answered") as death:
                list(e.generate(BRIEF[:2]))
        finally:
            os.kill(server.pid, signal.SIGCONT)
    assert death.value.in_flight


# Ends, bounds, secrets


def settled(server):
    """What the server has seen, once it has noticed what is going on."""
    wait_for(lambda: not server.seen()["open"])
    return server.seen()


def test_a_generation_that_is_closed_early_leaves_nothing_running(server):
    with started(batch_size=3) as e:
        server.fail({"match": "slowly", "hang": 600, "times": 99})
        requests = iter([BRIEF[0], *(window(k, "Describe slowly.") for k in range(1, 9))])
        results = e.generate(requests)
        assert next(results).request_id == "w0"
        wait_for(lambda: server.seen()["open"])
        results.close()
        assert no_threads()
        seen = settled(server)
        assert seen["open"] == 0
        assert 1 <= seen["left"] <= 3
        assert len(seen["at"]) <= 4
        assert len(list(requests)) >= 3  # read ahead, and no further
        server.fail()
        assert [r.outcome.ok for r in e.generate(BRIEF[:1])] == [True]


def test_an_engine_that_is_closed_meanwhile_tells_who_waits(server):
    e = engine()
    e.start()
    server.fail({"match": "slowly", "hang": 600, "times": 99})
    once(lambda: server.seen()["open"], e.close)
    with pytest.raises(EngineDeathError, match="closed in the middle"):
        list(e.generate([window(0, "Describe slowly.")]))
    e.close()
    assert no_threads()
    assert settled(server)["open"] == 0

    def requests():
        yield BRIEF[0]
        e.close()
        yield from BRIEF[1:3]

    e.start()
    with pytest.raises(EngineDeathError, match="closed in the middle"):
        list(e.generate(requests()))
    assert no_threads()


def test_requests_are_read_as_answers_come(server):
    read = []

    def requests():
        for k, request in enumerate(BRIEF):
            read.append(k)
            yield request

    with started(batch_size=4) as e:
        for number, _ in enumerate(e.generate(requests()), 1):
            assert len(read) <= number + 4 + 4 // 4 + 1
        assert len(read) == len(WINDOWS)
        e._options = replace(e._options, in_flight_bytes=1)
        server.fail()
        assert len(list(e.generate(BRIEF[:3]))) == 3
        assert server.seen()["peak"] == 1


def test_an_error_of_the_requests_reaches_the_caller_and_ends_everything(server):
    def requests():
        yield BRIEF[0]
        raise OSError("the disk is full")

    with started() as e, pytest.raises(OSError, match="disk is full"):
        list(e.generate(requests()))
    assert no_threads()


def test_address_and_key_are_in_no_log_result_or_record(server, monkeypatch, caplog):
    caplog.set_level(logging.DEBUG)
    server.be(api_key="s3cret-key")
    monkeypatch.setenv(KEY, "s3cret-key")
    e = engine(retry_s=0.3)
    info = e.start()
    quoted = json.dumps({"error": {"message": f"your key s3cret-key at {server.url} is out of funds"}})
    server.fail(
        {"match": "unpaid", "status": 402, "body": quoted},
        {"match": "failing", "status": 500, "body": quoted, "times": 9},
        {"match": "no answer", "body": quoted},
        {"match": "dropped", "drop": True, "times": 9},
    )
    results = list(
        e.generate([window(k, word) for k, word in enumerate(("unpaid", "failing", "no answer", "dropped"))])
    )
    e.close()
    monkeypatch.setenv(KEY, "wr0ng-key")
    with pytest.raises(ModelError, match="Set OPENAI_API_KEY") as refused:
        e.start()
    e.close()
    assert [r.outcome.ok for r in results] == [False] * 4
    everything = [repr(results), repr(info), str(refused.value), repr(e.__dict__), repr(pickle.dumps(info.prepare))]
    everything += [record.getMessage() for record in caplog.records if record.name.partition(".")[0] != "httpcore2"]
    for text in everything:
        assert "s3cret-key" not in text
        assert "wr0ng-key" not in text
        assert "/v1" not in text
        assert str(server.port) not in text or text == str(refused.value)
