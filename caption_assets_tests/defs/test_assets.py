"""The assets on a real Dagster instance."""

import io
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
from rich.console import Console

from caption_assets.cli.console import RunConsole
from caption_assets.defs.metadata import as_markdown
from caption_assets.defs.partitions import ranges
from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.resources import CaptionModel
from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.engines.transformers import TransformersEngine
from caption_assets.settings import PipelineSettings
from caption_assets.steps import buffer
from caption_assets.steps.choices import windows_choice
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, TABLES, WINDOW_CAPTIONS
from caption_assets.workers.local import Workers
from caption_assets_tests.pipelines import asset_key, materialize, materialized, metadata


@dataclass
class Made:
    """One run over both shards, for tests that only look at what it made."""

    instance: dg.DagsterInstance
    pipeline: Pipeline
    out: Path
    tasks: list[str]


@pytest.fixture(scope="module")
def made(tmp_path_factory, make_shards, make_pipeline):
    """Of everything, by a run with worker processes of its own. `tasks` are those that they were given, by name."""
    root, tasks, run = tmp_path_factory.mktemp("made"), [], Workers.run

    def noting(self, work, of_call, **bounds):
        of_call = list(of_call)
        tasks.extend(type(task).__name__ for task in of_call)
        return run(self, work, of_call, **bounds)

    pipeline = make_pipeline(make_shards(root / "clips"), root / "out", own_workers=True)
    (root / "instance").mkdir()
    with dg.DagsterInstance.local_temp(str(root / "instance")) as instance:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Workers, "run", noting)
            assert materialize(instance, pipeline, ["a", "b"]).success
        yield Made(instance, pipeline, root / "out", tasks)


@pytest.fixture
def after(made, tmp_path, make_pipeline):
    """That run's clips with copies of its instance and output, for tests that go on from there."""
    root = made.out.parent
    shutil.copytree(root / "instance", tmp_path / "instance")
    out = shutil.copytree(made.out, tmp_path / "out")
    with dg.DagsterInstance.local_temp(str(tmp_path / "instance")) as instance:
        yield Made(instance, make_pipeline(root / "clips", out), out, [])


def test_a_run_over_two_shards_materializes_all_four_assets_of_both(made):
    for asset in TABLES:
        assert materialized(made.instance, made.pipeline, asset) == {"a", "b"}
    store = Store(str(made.out))
    windows = store.read_rows(CLIP_WINDOWS, "a")
    assert [(r.relative_path, r.start_frame, r.end_frame) for r in windows if "long" in r.relative_path] == [
        ("a/long.mp4", 0, 63),
        ("a/long.mp4", 64, 99),
    ]
    for row in windows:
        document = json.loads((made.out / "metas" / "v0" / f"{row.clip_id}.json").read_text())
        found = {(w["start_frame"], w["end_frame"]): w for w in document["windows"]}
        window = found[(row.start_frame, row.end_frame)]
        assert window["demo_caption"]
        assert window["demo_lm_enhanced_caption"]
        assert (made.out / window["preview"]["path"]).is_file()
    chunk = json.loads((made.out / "processed_clip_chunks" / "a" / "long.mp4_0.json").read_text())
    assert chunk["num_clips_with_caption"] == chunk["num_clips_with_webp"] == 1


def test_the_metadata_says_what_happened_and_shows_it(made):
    instance = made.instance
    windows = metadata(instance, made.pipeline, "clip_windows", "a")
    assert windows["dagster/partition_row_count"].value == 3
    assert windows["clips"].value == 2
    assert windows["failures_by_reason"].value == {}
    assert windows["output_table"].value.endswith("tables/clip_windows/a.parquet")
    for asset in TABLES:
        found = metadata(instance, made.pipeline, asset, "a")
        assert found["windows_per_second"].value > 0
        assert found["seconds"].value > 0
    captions = metadata(instance, made.pipeline, "window_captions", "a")
    samples = captions["samples"].value.splitlines()
    assert samples[0].startswith("| preview | clip | frames | caption | confidence")
    assert 1 <= captions["samples"].value.count("![preview](data:image/webp;base64,") <= 4
    rows = Store(str(made.out)).read_rows(WINDOW_CAPTIONS, "a", "demo")
    assert [samples[2 + at].split(" | ")[3] for at in range(3)] == [
        as_markdown(row.text) for row in sorted(rows, key=lambda row: row.low_logprob)
    ]
    enhanced = metadata(instance, made.pipeline, "enhanced_captions", "a")["samples"].value
    assert enhanced.startswith("| preview | clip | frames | caption | enhanced | ")
    assert "a\\/short\\.mp4" in enhanced
    previews = metadata(instance, made.pipeline, "window_previews", "a")["samples"].value
    assert previews.startswith("| preview | clip | frames |\n")
    assert previews.count("![preview](data:image/webp;base64,") == 3
    assert captions["documents"].value == str(made.out / "metas" / "v0")
    assert captions["dataset_root"].value == made.pipeline.settings.dataset
    assert "review_page" not in captions
    assert metadata(instance, made.pipeline, "window_captions", "b")["ok"].value == 1


def events(instance, pipeline, asset, shard):
    return instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key(pipeline, asset), asset_partitions=[shard]), limit=10
    ).records


def test_a_run_leaves_one_event_a_shard_and_asset(made, instance, pipeline):
    for asset in TABLES:
        for shard in ("a", "b"):
            assert len(events(made.instance, made.pipeline, asset, shard)) == 1
    materialize(instance, pipeline, ["b"], steps=["clip_windows", "window_previews"])
    assert [len(events(instance, pipeline, asset, "b")) for asset in ("clip_windows", "window_previews")] == [1, 1]


def test_a_run_over_previews_and_captions_decodes_each_clip_once(made):
    assert sorted(made.tasks) == ["CaptionTask"] * 3 + ["PlanTask"] * 3
    assert metadata(made.instance, made.pipeline, "window_previews", "a")["ok"].value == 3


def test_a_preview_that_fails_fails_its_own_step_and_not_the_captions(
    instance, make_pipeline, clips_root, pipeline, monkeypatch, tmp_path
):
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\ncase \"$*\" in *-encoders*) echo ' V....D libwebp  WebP';; *) exit 9;; esac\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    result = materialize(instance, make_pipeline(clips_root, tmp_path / "out", own_workers=True), ["a", "b"])
    assert not result.success
    assert [event.step_key for event in result.get_step_failure_events()] == ["window_previews"]
    assert materialized(instance, pipeline, "enhanced_captions") == {"a", "b"}
    assert materialized(instance, pipeline, "window_previews") == set()


def test_a_run_makes_its_previews_itself_where_the_model_cannot_start(
    instance, make_pipeline, clips_root, pipeline, tmp_path, checkpoints
):
    model = shutil.copytree(checkpoints["qwen2.5-vl"], tmp_path / "model")
    next(model.glob("*.safetensors")).write_bytes(b"which only its loading finds out")
    broken = make_pipeline(clips_root, tmp_path / "out", captions=[{"model_path": str(model), "device": "cpu"}])
    assert not materialize(
        instance, broken, ["a", "b"], steps=["clip_windows", "window_previews", "window_captions"]
    ).success
    assert materialized(instance, pipeline, "window_previews") == {"a", "b"}
    assert materialized(instance, pipeline, "window_captions") == set()


def test_a_second_run_reuses_everything_and_touches_no_document(after):
    documents = {p: p.stat().st_mtime_ns for p in after.out.rglob("*.json")}
    previews = {p: p.stat().st_mtime_ns for p in after.out.rglob("*.webp")}
    assert documents
    assert previews
    assert materialize(after.instance, after.pipeline, ["a"]).success
    for asset in TABLES:
        assert metadata(after.instance, after.pipeline, asset, "a")["reused"].value == 3
    assert documents | previews == {p: p.stat().st_mtime_ns for p in [*documents, *previews]}


def test_a_broken_shard_fails_by_name_and_the_others_stay_materialized(instance, pipeline, clips_root):
    (clips_root / "bad").mkdir()
    (clips_root / "bad" / "text.mp4").write_text("no video")
    result = materialize(instance, pipeline, ["a", "bad", "b"], steps=["clip_windows"])
    assert not result.success
    assert materialized(instance, pipeline, "clip_windows") == {"a", "b"}
    failure = result.get_step_failure_events()[0].step_failure_data
    assert "1 of 3 shards failed: bad" in failure.error.message or "1 of 3 shards failed" in str(failure)
    tagged = instance.fetch_materializations(
        dg.AssetRecordsFilter(dg.AssetKey("clip_windows"), asset_partitions=["a"]), limit=1
    ).records[0]
    assert (
        tagged.asset_materialization.tags["dagster/code_version"] == windows_choice(pipeline.settings.windows).version
    )


def test_a_model_that_cannot_start_fails_the_run_and_not_shard_by_shard(
    instance, make_pipeline, clips_root, pipeline, tmp_path
):
    materialize(instance, pipeline, ["a", "b"], steps=["clip_windows"])
    broken = make_pipeline(clips_root, tmp_path / "out", captions=[{"model_path": str(tmp_path), "device": "cpu"}])
    result = materialize(instance, broken, ["a", "b"], steps=["window_captions"])
    assert not result.success
    assert materialized(instance, pipeline, "window_captions") == set()


def test_a_model_that_is_given_up_is_not_started_again_for_the_other_keys_of_the_run(
    instance, make_pipeline, clips_root, tmp_path, monkeypatch
):
    started = []

    def ready(engine):
        started.append(engine)
        raise ModelError("the model", "there is no memory for it", "make room")

    monkeypatch.setattr(TransformersEngine, "ready", ready)
    settings = {"device": "cpu", "prompts": {"short": {}, "mood": "Describe the mood."}}
    broken = make_pipeline(clips_root, tmp_path / "out", captions=[settings])
    progress = RunConsole(Console(file=io.StringIO()))
    broken.resources["progress"] = progress
    result = materialize(instance, broken, ["a", "b"], steps=["clip_windows", "window_captions"])
    failed = [event.step_failure_data.error for event in result.get_step_failure_events()]
    assert len(started) == 1
    assert len(failed) == 3
    keys = ("demo", "demo-short", "demo-mood")
    expected = {(f"window_captions {key}", shard) for key in keys for shard in ("a", "b")}
    assert {(of, shard) for of, shard, _ in progress.failures} == expected
    assert len({error for *_, error in progress.failures}) == 1


def test_a_schema_that_cannot_be_kept_fails_its_own_key_alone(instance, make_pipeline, clips_root, tmp_path):
    schema = tmp_path / "schema.json"
    schema.write_text('{"type": "object", "properties": {"a": false}, "required": ["a"]}')
    prompts = {"bad": {"prompt_text": "?", "json_schema": str(schema)}}
    model = {"device": "cpu", "max_output_tokens": 4, "prompts": prompts}
    pipeline = make_pipeline(clips_root, tmp_path / "out", captions=[model])
    result = materialize(instance, pipeline, ["b"], steps=["clip_windows", "window_captions"])
    assert [event.step_key for event in result.get_step_failure_events()] == ["window_captions_demo_bad"]
    assert materialized(instance, pipeline, "window_captions") == {"b"}


def test_another_variant_stands_beside_the_first_and_replaces_only_its_own(after, checkpoints):
    model = {"model_variant": "qwen3", "model_path": str(checkpoints["qwen3-vl"]), "device": "cpu"}
    chosen = Pipeline(after.pipeline.settings, {**after.pipeline.resources, "caption_model": CaptionModel(**model)})
    made = {key: events(after.instance, after.pipeline, key, "b") for key in ("window_captions", "window_previews")}
    assert materialize(after.instance, chosen, ["b"], steps=["window_captions"]).success
    # A run's own choice of another key is told of that key.
    assert events(after.instance, after.pipeline, "window_captions", "b") == made["window_captions"]
    assert after.instance.get_materialized_partitions(dg.AssetKey("window_captions_qwen3")) == {"b"}
    (row,) = Store(str(after.out)).read_rows(CLIP_WINDOWS, "b")
    path = after.out / "metas" / "v0" / f"{row.clip_id}.json"
    before = json.loads(path.read_text())["windows"][0]
    assert before["demo_caption"]
    assert before["qwen3_caption"]
    again = {"window_captions": {"max_output_tokens": 3, "prompt_text": "Otherwise."}}
    assert materialize(after.instance, after.pipeline, ["b"], steps=["window_captions"], config=again).success
    found = json.loads(path.read_text())["windows"][0]
    assert found["qwen3_caption"] == before["qwen3_caption"]
    assert found["demo_caption"] != before["demo_caption"]
    assert "demo_lm_enhanced_caption" not in found  # it enhanced a caption that is gone


def test_other_windows_replace_the_previews_of_the_old_ones_and_nothing_else(after):
    def previews(shard):
        clips = {row.clip_id for row in Store(str(after.out)).read_rows(CLIP_WINDOWS, shard)}
        return {p: p.stat().st_mtime_ns for clip in clips for p in (after.out / "previews" / clip).glob("*.webp")}

    stray = after.out / "previews" / "of-somebody-else.txt"
    stray.write_text("stays")
    others = previews("b")
    config = {"clip_windows": {"window_size": 40}}
    assert materialize(after.instance, after.pipeline, ["a"], config=config).success
    assert {p.name for p in previews("a")} == {"0_47.webp", "0_39.webp", "40_99.webp"}
    assert previews("b") == others != {}
    assert stray.exists()


OUT_OF_RANGE = [
    ("window_previews", {"compression_level": 7}),
    ("window_previews", {"quality": 101}),
    ("window_previews", {"target_fps": 0}),
    ("clip_windows", {"remainder_threshold": 3}),
    ("window_captions", {"max_output_tokens": 0}),
]
UNKNOWN = [("window_captions", {"prompt_variant": "poem"}), ("enhanced_captions", {"prompt_variant": "av"})]


def test_settings_out_of_range_are_refused_before_a_run_begins(after):
    def files():
        return sorted((p, p.stat().st_mtime_ns) for p in after.out.rglob("*") if p.is_file())

    before = files()
    assert before
    for asset, config in OUT_OF_RANGE:
        wrong = rf"{asset}\w*:config:{next(iter(config))} of original value"
        with pytest.raises(dg.DagsterInvalidConfigError, match=wrong):
            materialize(after.instance, after.pipeline, ["b"], [asset], {asset: config})
        assert files() == before, config
    for asset, config in UNKNOWN:
        with pytest.raises(dg.DagsterInvalidConfigError, match="not in enum type"):
            materialize(after.instance, after.pipeline, ["b"], config={asset: config})


def test_a_downstream_asset_loads_the_rows_of_its_shard_as_a_data_frame(made):
    seen = {}

    captions = dg.AssetIn(asset_key(made.pipeline, "window_captions"), input_manager_key="save_export")

    @dg.asset(partitions_def=made.pipeline.shards, ins={"window_captions": captions})
    def lengths(window_captions) -> None:
        seen["frame"] = window_captions

    dg.materialize(
        [*made.pipeline.assets, lengths],
        selection=[lengths],
        instance=made.instance,
        resources=made.pipeline.resources,
        partition_key="a",
    )
    assert list(seen["frame"]["key"]) == ["demo"] * 3
    assert list(seen["frame"]["shard"]) == ["a"] * 3


@pytest.mark.parametrize(("planned", "windows_per_run", "size"), [(0, 2048, 32), (1, 100, 32), (1, 2, 1), (1, 7, 2)])
def test_a_run_has_shards_enough_for_its_windows_and_parents_and_children_differ(
    made, tmp_path, planned, windows_per_run, size
):
    settings = made.pipeline.settings
    output = settings.output if planned else str(tmp_path / "new")
    settings = settings.model_copy(update={"output": output, "windows_per_run": windows_per_run})
    pipeline = Pipeline(settings)
    assets = [*(made.definition for made in pipeline.made), pipeline.review]
    sizes = {asset.key: asset.backfill_policy.max_partitions_per_run for asset in assets}
    assert sizes[asset_key(pipeline, "window_captions")] == size
    assert sizes[asset_key(pipeline, "window_previews")] == sizes[asset_key(pipeline, "window_captions")]
    for asset in assets:
        for parent in asset.dependency_keys - {pipeline.source.key}:
            assert sizes[parent] != sizes[asset.key]


def test_the_catalog_has_what_people_read(pipeline):
    reads = {"clip_windows": {"clips"}, "window_previews": {"clip_windows"}, "window_captions_demo": {"clip_windows"}}
    reads["enhanced_captions_demo_by_demo_lm"] = {"window_captions_demo"}
    for made in pipeline.made:
        asset = made.definition
        spec = next(iter(asset.specs))
        assert spec.description
        assert "\n" in spec.description
        assert spec.kinds
        assert spec.code_version == made.choice.version
        assert {key.to_user_string() for key in asset.dependency_keys} == reads.pop(asset.key.to_user_string())
        assert spec.metadata["dagster/column_schema"].columns
        assert all(column.description for column in spec.metadata["dagster/column_schema"].columns)
        for field in asset.op.config_schema.config_type.fields.values():
            assert field.description
    assert not reads
    pools = {made.step.name: made.definition.op.pool for made in pipeline.made}
    assert pools["window_captions"] == pools["enhanced_captions"] == "gpu"
    assert pools["clip_windows"] == pools["window_previews"] == "cpu"


def test_on_ray_a_step_asks_for_cores_and_gpus_and_waits_for_no_pool():
    captions = [
        {"model_variant": "qwen", "tensor_parallel": 2},
        {"model_variant": "nemotron", "engine": "openai"},
        {"model_variant": "qwen3", "gpus": "4"},
        {"model_variant": "demo", "gpus": "all"},
    ]
    made = Pipeline(PipelineSettings(executor="ray", captions=captions, enhanced=[])).made
    ops = {made.definition.key.to_user_string(): made.definition.op for made in made}
    asked = {name: json.loads(op.tags["dagster-ray/config"]) for name, op in ops.items()}
    assert {name: (each["num_cpus"], each["num_gpus"]) for name, each in asked.items()} == {
        "clip_windows": (4, 0),
        "window_previews": (4, 0),
        "window_captions_qwen": (16, 2),
        "window_captions_nemotron": (8, 0),
        "window_captions_qwen3": (32, 4),
        "window_captions_demo": (8, 1),
    }
    told = {name: each["runtime_env"]["env_vars"]["CAPTION_ASSETS_CORES"] for name, each in asked.items()}
    assert told == {name: str(each["num_cpus"]) for name, each in asked.items()}
    assert {op.pool for op in ops.values()} == {None}
    assert {op.retry_policy.max_retries for op in ops.values()} == {3}
    with pytest.raises(ConfigError, match=r"gpus '0,2' and executor 'ray': Ray chooses the GPUs. Give how many"):
        assert Pipeline(PipelineSettings(executor="ray", captions=[{"model_variant": "qwen", "gpus": "0,2"}])).made


def test_shards_are_grouped_into_contiguous_ranges():
    order = list("abcdef")
    assert ranges(["f", "a", "b", "d"], order) == [("a", "b"), ("d",), ("f",)]
    assert ranges(list("abcde"), order, most=2) == [("a", "b"), ("c", "d"), ("e",)]


@pytest.mark.parametrize(
    ("asset", "method"),
    [
        ("clip_windows", "commit_rows"),
        ("window_previews", "append_rows"),
        ("window_captions", "look"),
        ("window_captions", "append_rows"),
        ("window_captions", "commit_rows"),
        ("enhanced_captions", "append_rows"),
    ],
)
def test_an_exception_that_nobody_foresaw_is_the_error_of_its_shard_alone(after, monkeypatch, asset, method):
    function = getattr(Store, method)

    def broken(self, table, shard, *args, **more):
        if shard == "a" and table.name == asset:
            return 1 / 0
        return function(self, table, shard, *args, **more)

    monkeypatch.setattr(Store, method, broken)
    monkeypatch.setattr(buffer, "_FLUSH_ROWS", 1)
    changed = {"clip_windows": {"sampling_fps": 1.0}, "window_previews": {"target_fps": 2.0}}
    config = {asset: changed.get(asset, {"max_output_tokens": 5})}
    result = materialize(after.instance, after.pipeline, ["a", "b"], [asset], config)
    assert not result.success
    (failure,) = result.get_step_failure_events()
    message = failure.step_failure_data.error.message
    assert message.startswith("dagster._core.definitions.events.Failure: 1 of 2 shards failed: a.")
    assert f"{asset} of shard 'a': ZeroDivisionError: division by zero" in message
    events = after.instance.fetch_materializations(asset_key(after.pipeline, asset), limit=4).records
    assert {event.partition_key for event in events if event.run_id == result.run_id} == {"b"}
