"""The server engine with several servers of the same model."""

import socket
from dataclasses import replace

import pytest

from caption_assets.errors import ModelError
from caption_assets.models.engines.openai.address import find_addresses
from caption_assets.models.engines.session import EngineSession
from caption_assets_tests.models.engines.served import (
    BRIEF,
    CHECKPOINT,
    DEMO,
    ENGINE,
    KEY,
    LONG_S,
    URL,
    engine,
    impatient,
    started,
    wait_for,
    window,
)
from caption_assets_tests.openai_server import OpenAIServer

GRACE = "caption_assets.models.engines.openai.meeting._GRACE_S"
MANY = [replace(BRIEF[k % 12], request_id=str(k)) for k in range(16)]


@pytest.fixture
def pair(server, served_models, monkeypatch):
    monkeypatch.setattr(GRACE, LONG_S)
    with OpenAIServer(served_models) as other:
        monkeypatch.setenv(URL, f"{server.url}, {other.url}")
        yield server, other
    if not server.pid:
        server.start()


def windows_at(server):
    """How many windows it has been asked about; the trial is no window."""
    return sum("Describe the video." not in str(body) for body in server.seen()["bodies"])


def test_each_of_two_servers_has_as_many_windows_as_one_would(pair):
    """None of the answers comes before four are open at each, at once."""
    with started(batch_size=4) as e:
        for server in pair:
            server.fail({"until_open": 4, "times": 4})
        found = list(e.generate(MANY))
    assert sorted(result.request_id for result in found) == sorted(request.request_id for request in MANY)
    assert all(result.text for result in found)
    assert sum(windows_at(server) for server in pair) == 16


def test_windows_go_to_the_least_busy(pair):
    slow, quick = pair
    with started(batch_size=2) as e:
        slow.fail({"hang": 600, "times": 99})
        results = e.generate(MANY)
        assert all(next(results).text for _ in range(len(MANY) - 2))
        results.close()
    assert windows_at(quick) == len(MANY) - 2


def test_windows_of_a_server_that_is_busy_go_to_others(pair, caplog):
    """For good, or for a moment, after which it has its part again."""
    busy, other = pair
    refused = {"status": 429, "headers": {"Retry-After": "1"}, "times": 99}
    with started(batch_size=2) as e:
        busy.fail(refused)
        found = list(e.generate(MANY))
        assert windows_at(other) == len(MANY)
        assert "is busy: HTTP 429" in caplog.text
        busy.fail({**refused, "times": 1})
        other.fail({"hang": 600, "times": 2})  # from now on it does nothing
        results = e.generate(MANY)
        found += [next(results) for _ in range(len(MANY) - 2)]
        results.close()
    assert all(result.text for result in found)
    assert "left out" not in caplog.text


def test_a_window_that_one_server_is_late_with_is_asked_of_another_once(pair, monkeypatch):
    impatient(monkeypatch, "linger")
    with started(batch_size=2) as e:
        for server, word in zip(pair, ("linger", "linger for all"), strict=True):
            server.fail({"match": word, "hang": 600, "times": 99})
        windows = [window(0, "linger", 8, small=True), window(1, "linger for all", 8, small=True), *MANY[:4]]
        found = {result.request_id: result.outcome.kind for result in e.generate(windows)}
    assert found == {"w0": "", "w1": "timeout", **{request.request_id: "" for request in MANY[:4]}}
    asked = [sum("linger for all" in str(body) for body in server.seen()["bodies"]) for server in pair]
    assert asked == [1, 1]


@pytest.mark.parametrize(
    "fault", [{"status": 500}, {"status": 413}, {"body": "what?"}], ids=["fails", "refuses", "raves"]
)
def test_a_window_that_one_server_fails_with_is_asked_of_another(pair, fault):
    odd = [window(k, "odd", 8, small=True) for k in range(4)]
    with started(batch_size=2) as e:
        pair[0].fail({"match": "odd", "times": 99, **fault})
        found = list(e.generate([*odd, *MANY[:4]]))
    assert [result.outcome.message for result in found if not result.outcome.ok] == []
    assert 0 < sum("odd" in str(body) for body in pair[0].seen()["bodies"]) <= len(odd)


def test_a_server_that_dies_is_left_out_and_has_its_part_when_it_is_back(pair, caplog):
    first, second = pair
    with started(batch_size=2) as e:
        first.fail({"hang": 600, "times": 2})  # what it has when it dies
        results = e.generate(MANY)
        found = [next(results) for _ in range(4)]
        first.stop()
        wait_for(lambda: f"{first.url.removesuffix('/v1')} is left out" in caplog.text)
        found += [next(results) for _ in range(4)]
        first.start()
        wait_for(lambda: "has its part" in caplog.text)
        second.fail({"hang": 600, "times": 2})  # from now on it does nothing
        found += [next(results) for _ in range(len(MANY) - 10)]
        second.fail()
        second.stop()
        found += results
    assert sorted(int(result.request_id) for result in found) == list(range(len(MANY)))
    assert [result.outcome.message for result in found if not result.outcome.ok] == []


def test_a_window_that_two_servers_die_of_is_set_aside(pair, caplog):
    def has_it(server):
        return server.pid and "poison" in str(server.seen()["bodies"])

    with started(batch_size=2) as e:
        for server in pair:
            server.fail({"match": "poison", "hang": 600, "times": 9})
        results = e.generate([window(0, "poison", 8), *MANY])
        found = [next(results)]
        wait_for(lambda: any(map(has_it, pair)))
        one, other = sorted(pair, key=has_it, reverse=True)
        one.stop()
        wait_for(lambda: has_it(other))
        one.start()
        wait_for(lambda: "has its part" in caplog.text)
        other.stop()
        found += results
    failed = {result.request_id: result.outcome for result in found if not result.outcome.ok}
    assert failed.keys() == {"w0"}
    assert failed["w0"].kind == "engine_died"
    assert failed["w0"].message.startswith("two servers went away on it")
    assert len(found) == len(MANY) + 1


def test_all_servers_gone_are_waited_for(pair, monkeypatch):
    monkeypatch.setattr(GRACE, 0.1)
    session = EngineSession(DEMO, CHECKPOINT, engine(batch_size=2, retry_s=0.3))
    results = session.generate(MANY)
    found = [next(results)]
    for server in pair:
        server.stop()
    pair[1].start()
    found += results
    session.close()
    assert session.usage.starts == 0  # of an engine of ours: there is none
    assert [result.outcome.message for result in found if not result.outcome.ok] == []
    assert len(found) == len(MANY)


def test_one_that_is_not_there_yet_is_left_out_of_the_start(pair, monkeypatch, caplog):
    monkeypatch.setattr(GRACE, 0.1)
    first, second = pair
    first.stop()
    with started(batch_size=2) as e:
        assert f"{first.url.removesuffix('/v1')} is left out for now" in caplog.text
        results = e.generate(MANY)
        found = [next(results)]
        first.start()
        wait_for(lambda: "has its part" in caplog.text)
        second.stop()
        found += results
    assert all(result.text for result in found)
    assert len(found) == len(MANY)


def test_servers_of_different_models_are_refused(pair):
    pair[1].be(served_model_name="demo")
    with pytest.raises(ModelError, match=r"those at http://127\S* and http://127\S* are not alike: .*same model"):
        engine().start()


def test_of_servers_that_are_all_away_each_is_named(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        places = [f"http://127.0.0.1:{place.getsockname()[1]}" for place in (one, other)]
    monkeypatch.setenv(URL, f"{places[0]}/v1,{places[1]}/v1")
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", 0.0)
    with pytest.raises(ModelError, match=f"none can be used. {places[0]} and {places[1]}: there is no connection"):
        engine().start()


def test_addresses_stand_in_a_list_or_a_file_each_once(tmp_path, monkeypatch):
    """However they are parted, and whatever stands around them."""
    monkeypatch.setenv(KEY, "a-key")
    file = tmp_path / "servers"
    wanted = ["http://a:8000/v1/models", "http://b:8000/v1/models?x=ge,heim"]

    def found(given):
        monkeypatch.setenv(URL, given)
        return [address.url("models") for address in find_addresses(text_model=True)]

    one, other = "http://a:8000/v1", "http://b:8000/v1?x=ge,heim"
    lists = [f"{one},{other}", f" ,,{one} ,\t,{other}, ", f"{one}\n{other}\n", f"{one},{one}/,{other},,"]
    assert [found(given) for given in lists] == [wanted] * len(lists)
    for encoding in ("utf-8", "utf-8-sig"):
        file.write_text(f"{one} # the first\r\n\n  # node 2\n\t{other} \n{one}/\n", encoding)
        assert found(str(file)) == wanted
    assert [address.headers for address in find_addresses(text_model=True)] == [{"Authorization": "Bearer a-key"}] * 2


def test_what_is_no_address_is_named_by_where_it_stands(tmp_path, monkeypatch):
    file = tmp_path / "servers"

    def says(given):
        monkeypatch.setenv(URL, str(given))
        with pytest.raises(ModelError) as error:
            find_addresses(text_model=False)
        return str(error.value).partition(". ")[0]

    server, no_address = "server of engine 'openai' in OPENAI_BASE_URL", "it is no address of an API"
    no_file = "there is no such file, or it does not stand alone"
    assert says(",, ,") == f"{server}: it is not set"
    assert says(file) == f"{server}: {no_file}"
    assert says(tmp_path) == "file of servers in OPENAI_BASE_URL: it cannot be read (IsADirectoryError)"
    for given in ("http://a/v1 node-2:8000", "http://a/v1, http://b;http://c/v1", "http://a/v1,ftp://b,http://c"):
        assert says(given) == f"{server}, address 2: {no_address}"
    assert says("http://a:1/v1,b:2/v1").startswith(f"{server}: {no_address}, and what follows its comma does not begin")
    file.write_text("# none\n")
    assert says(file) == "file of servers in OPENAI_BASE_URL: it names none"
    file.write_text("http://a/v1\nnode-1:8000\n")
    assert says(file) == f"{server}, line 2 of that file: {no_address}"
    assert says(f"{file},http://a/v1") == f"{server}, address 1: {no_file}"
