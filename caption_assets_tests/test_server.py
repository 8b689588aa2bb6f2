"""The assets with both models behind servers: the captions of models in this process, and no secret anywhere."""

import json

import dagster as dg
import pytest

from caption_assets.dataset import open_dataset
from caption_assets.defs.pipeline import Pipeline
from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.demo.world import score
from caption_assets.errors import ModelError
from caption_assets.save_export.files import read_document
from caption_assets.settings import (
    CaptionModelSettings,
    CaptionSettings,
    EnhanceSettings,
    PipelineSettings,
    TextModelSettings,
    WindowSettings,
)
from caption_assets.steps import (
    StepContext,
    caption_shards,
    enhance_shards,
    model_session,
    window_shard,
)
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, ENHANCED_CAPTIONS, WINDOW_CAPTIONS
from caption_assets_tests.openai_kinds import answer, listing
from caption_assets_tests.openai_server import OpenAIServer
from caption_assets_tests.pipelines import materialize as made

SHARD = "shard-000"
MADE = ("clip_windows", "window_captions", "enhanced_captions")


@pytest.fixture(scope="module")
def scenes():
    """Four clips of `make demo`, as one shard."""
    return next(iter(demo_scenes().values()))


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
    text_model = {name: value for name, value in model.items() if name != "server_video"}
    settings = PipelineSettings(dataset=clips, output=str(out), captions=[model], enhanced=[text_model])
    assert made(instance, Pipeline(settings), [SHARD], MADE, config={}).success
    return Store(str(out))


def rows(store, table, key=None):
    return {(row.clip_id, row.start_frame): row for row in store.read_rows(table, SHARD, key)}


@pytest.mark.parametrize(("video", "same"), [("png", 1.0), ("auto", 0.9)])
def test_captions_by_way_of_a_server_are_those_of_the_model_itself(
    instance, clips, scenes, tmp_path, in_process, servers, video, same
):
    store = materialize(instance, clips, tmp_path / "out", engine="openai", server_video=video)
    windows = rows(store, CLIP_WINDOWS)
    for table, key in ((WINDOW_CAPTIONS, "demo"), (ENHANCED_CAPTIONS, "demo/demo_lm")):
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


# Who wrote it


@pytest.fixture
def asked(servers, clips_root, tmp_path, workers):
    """Asks for captions of three windows by the server, which may be another meanwhile, and for their rewriting."""
    captions, texts = servers
    given = StepContext(Store(str(tmp_path / "out")), workers)
    window_shard(given, open_dataset(str(clips_root)), "a", WindowSettings(window_size=64, remainder_threshold=32))

    def caption(**chosen):
        captions.fail()
        settings = CaptionModelSettings(engine="openai", **chosen)
        with model_session(settings) as session:
            (ended,) = caption_shards(given, ["a"], session, CaptionSettings(max_output_tokens=4))
        return ended.outcome, given.store.read_rows(WINDOW_CAPTIONS, "a", "demo")

    def enhance(**chosen):
        with model_session(TextModelSettings(engine="openai", **chosen)) as session:
            (ended,) = enhance_shards(given, ["a"], "demo", session, EnhanceSettings(max_output_tokens=4))
        return ended.outcome, given.store.read_rows(ENHANCED_CAPTIONS, "a", "demo/demo_lm")

    caption.store, caption.workers, caption.server, enhance.texts = given.store, workers, captions, texts
    yield caption, enhance
    captions.be(api_key="s3cret-key")
    texts.be()


def test_another_model_of_the_server_captions_anew_and_is_named(asked):
    caption, enhance = asked
    report, rows = caption()
    folder = rows[0].model_id
    assert (report.ok, report.reused) == (3, 0)
    assert folder.endswith("demo")
    assert {(row.server_model, row.model_revision) for row in rows} == {(folder, "")}
    again, _ = caption()
    assert (again.reused, again.figures["model"], again.figures["server_model"]) == (3, folder, folder)

    # The server's only model is another, under whatever name.
    caption.server.be(api_key="s3cret-key", listing=listing({"id": "other"}), answer=answer(model="other-1"))
    report, rows = caption()
    assert (report.ok, report.reused) == (3, 0)
    assert {(row.model_id, row.server_model, row.status) for row in rows} == {("other-1", "other", "ok")}
    assert caption()[0].reused == 3
    document = read_document(caption.store, f"metas/v0/{rows[0].clip_id}.json")
    provenance = document["windows"][0]["provenance"]["demo_caption"]
    assert (provenance["model_id"], provenance["server_model"]) == ("other-1", "other")

    # The user chooses another of several.
    two = listing({"id": "other"}, {"id": "third"})
    caption.server.be(api_key="s3cret-key", listing=two)
    report, rows = caption(server_model="third")
    assert (report.reused, {row.model_id for row in rows}) == (0, {"third"})
    assert caption(server_model="third")[0].reused == 3
    assert caption(server_model="other")[0].reused == 0

    # And so with the text model.
    _, first = enhance()
    assert (enhance()[0].reused, first[0].server_model) == (3, first[0].model_id)
    enhance.texts.be(listing=listing({"id": "writer"}))
    report, rows = enhance()
    assert (report.reused, {(row.model_id, row.server_model) for row in rows}) == (0, {("writer", "writer")})


def test_another_form_of_the_frames_captions_anew(asked):
    caption, _ = asked
    caption()
    assert caption(server_video="png")[0].reused == 0
    assert caption(server_video="png")[0].reused == 3


def test_what_another_model_answered_is_asked_for_again(asked):
    caption, _ = asked
    caption.server.be(api_key="s3cret-key")
    settings = CaptionModelSettings(engine="openai")
    with model_session(settings) as session:
        session.start()
        caption.server.fail({"body": json.dumps(answer(model="fallback", content="A cat."))})
        given = StepContext(caption.store, caption.workers)
        (ended,) = caption_shards(given, ["a"], session, CaptionSettings(max_output_tokens=4))
    assert ended.outcome.ok == 3
    rows = caption.store.read_rows(WINDOW_CAPTIONS, "a", "demo")
    assert sorted(row.model_id == "fallback" for row in rows) == [False, False, True]
    assert caption()[0].reused == 2


def test_without_its_server_a_rerun_does_not_claim_to_know_who_wrote(asked, monkeypatch):
    caption, _ = asked
    caption()
    monkeypatch.setattr("caption_assets.models.engines.openai.engine._FIRST_WAIT_S", 0.1)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    with pytest.raises(ModelError, match="there is no connection"):
        caption()
