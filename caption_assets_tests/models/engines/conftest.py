"""Servers for the tests of the engine that asks them."""

import os

import pytest

from caption_assets_tests.models.engines.served import ENGINE, HEADERS, KEY, LONG_S, SERVER, URL
from caption_assets_tests.openai_server import OpenAIServer

# A package that vLLM imports compiles kernels for GPUs in two processes beside each that imports it.
os.environ["HUMMING_DISABLE_PARALLEL_BUILD"] = "1"


@pytest.fixture(autouse=True)
def _no_servers(monkeypatch):
    for name in (URL, KEY, HEADERS, "OPENAI_TEXT_BASE_URL", "OPENAI_TEXT_API_KEY", "OPENAI_TEXT_HEADERS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _patience(monkeypatch):
    """With servers that are there, on a machine that may be busy; what fails is tried again after short pauses."""
    monkeypatch.setattr(f"{ENGINE}._FIRST_WAIT_S", LONG_S)
    monkeypatch.setattr(f"{SERVER}.CONNECT_S", LONG_S)
    monkeypatch.setattr(f"{SERVER}.FIRST_PAUSE_S", 0.05)


@pytest.fixture(scope="module")
def running(served_models):
    with OpenAIServer(served_models) as server:
        yield server


@pytest.fixture
def server(running, monkeypatch):
    """The demo model's server, without faults, in the environment."""
    running.be()
    running.fail()
    monkeypatch.setenv(URL, running.url)
    return running
