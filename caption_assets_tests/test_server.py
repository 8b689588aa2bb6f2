"""The assets with both models behind servers: the captions of models in this process, and no secret anywhere."""

import dagster as dg
import pytest

from caption_assets.defs.assets import ASSETS
from caption_assets.defs.resources import CaptionModel, TextModel
from caption_assets.defs.run import run_resources
from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.demo.world import score
from caption_assets.steps import Progress
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS
from caption_assets_tests.openai_server import OpenAIServer

SHARD = "shard-000"
MADE = [asset for asset in ASSETS if asset.key.path[-1] != "window_previews"]


@pytest.fixture(scope="module")
def scenes():
    """Eight clips of `make demo`, as one shard."""
    first, second, _ = demo_scenes().values()
    return [*first, *second]


@pytest.fixture(scope="module")
def clips(scenes, tmp_path_factory):
    root = tmp_path_factory.mktemp("clips")
    render_dataset(root, {SHARD: scenes})
    return str(root)


@pytest.fixture(scope="module")
def servers(served_models):
    with OpenAIServer(served_models) as captions, OpenAIServer(served_models, "demo_lm") as texts:
        captions.be(api_key="s3cret-key")
        yield captions, texts


@pytest.fixture(autouse=True)
def _addresses(servers, monkeypatch):
    captions, texts = servers
    monkeypatch.setenv("OPENAI_BASE_URL", captions.url)
    monkeypatch.setenv("OPENAI_API_KEY", "s3cret-key")
    monkeypatch.setenv("OPENAI_TEXT_BASE_URL", texts.url)
    monkeypatch.setattr("caption_assets.models.engines.openai.engine._FIRST_WAIT_S", 120.0)  # it is there, if slow


@pytest.fixture(scope="module")
def in_process(clips, tmp_path_factory):
    """Where the same captions stand that models in this process have made."""
    with dg.DagsterInstance.ephemeral() as instance:
        return materialize(instance, clips, tmp_path_factory.mktemp("out"), engine="transformers", device="cpu")


def materialize(instance, clips, out, **model):
    instance.add_dynamic_partitions("shards", [SHARD])
    text_model = TextModel(**{name: value for name, value in model.items() if name != "server_video"})
    resources = {**run_resources(clips, str(out), None, CaptionModel(**model), text_model), "progress": Progress()}
    assert dg.materialize(MADE, instance=instance, resources=resources, partition_key=SHARD).success
    return Store(str(out))


def rows(store, table, key=None):
    return {(row.clip_id, row.start_frame): row for row in store.read_rows(table, SHARD, key)}


@pytest.mark.parametrize(("video", "same"), [("png", 1.0), ("auto", 0.9)])
def test_captions_by_way_of_a_server_are_those_of_the_model_itself(
    instance, clips, scenes, tmp_path, in_process, servers, video, same
):
    store = materialize(instance, clips, tmp_path / "out", engine="openai", server_video=video)
    windows = rows(store, CLIP_WINDOWS)
    for table, key in ((WINDOW_CAPTIONS, "demo"), (ENHANCED_CAPTIONS, "demo_lm")):
        found, expected = rows(store, table, key), rows(in_process, table, key)
        assert found.keys() == expected.keys() == windows.keys()
        assert sum(found[k].text == expected[k].text for k in found) >= same * len(found)
        assert {(row.status, row.engine, row.engine_version) for row in found.values()} == {
            ("ok", "openai", "vllm 0.32.0")
        }
    captions = rows(store, WINDOW_CAPTIONS, "demo")
    right = [
        score(captions[k].text, scenes[int(row.relative_path[-6:-4])], row.start_s, row.end_s)["all"]
        for k, row in windows.items()
    ]
    assert sum(right) >= 0.85 * len(right)
    assert all(row.decode_s > 0 and row.render_s > 0 and row.prompt_tokens > 50 for row in captions.values())
    (run,) = instance.get_runs()
    log = "\n".join(map(str, [run, *instance.all_logs(run.run_id), *captions.values()]))
    for secret in ("s3cret-key", *(f":{server.port}" for server in servers)):
        assert secret not in log
        assert not [path for path in (tmp_path / "out").rglob("*.*") if secret.encode() in path.read_bytes()]
