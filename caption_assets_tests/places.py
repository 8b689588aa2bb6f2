"""The places a store can be in: a folder, fsspec's memory, and an S3 server on the loopback device."""

from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from moto.server import ThreadedMotoServer
from upath import UPath

from caption_assets.store.store import Store


@pytest.fixture(scope="session")
def s3_options() -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    options = {"key": "test", "secret": "test", "endpoint_url": f"http://{host}:{port}"}
    UPath("s3://bucket", **options).fs.mkdir("bucket")
    yield options
    server.stop()


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
