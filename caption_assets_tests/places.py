"""The places a store can be in: a folder, fsspec's memory, and an S3 server on the loopback device."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from moto.server import ThreadedMotoServer
from s3fs import S3FileSystem
from upath import UPath

from caption_assets.store.store import Store
from caption_assets_tests.s3 import S3Server


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "test", "secret": "test", "endpoint_url": f"http://{host}:{port}"}
    UPath("s3://bucket", **options).fs.mkdir("bucket")
    yield options
    server.stop()


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3Server]:
    """A server of the test's own, which every process that it starts finds."""
    with S3Server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # they are kept for as long as a process lives, with their server
        yield server
        S3FileSystem.clear_instance_cache()


@pytest.fixture(params=["local", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> UPath:
    if request.param == "s3":
        return UPath(f"s3://bucket/{uuid4().hex}/out", **request.getfixturevalue("s3_options"))
    return UPath(f"memory://{uuid4().hex}/out") if request.param == "memory" else UPath(tmp_path / "out")


@pytest.fixture
def store(root: UPath) -> Store:
    return Store(root)


@pytest.fixture
def local(tmp_path: Path) -> Store:
    return Store(tmp_path / "out")
