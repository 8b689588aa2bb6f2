"""What a deployment chooses, by a file and by the environment."""

import os

import pytest

from caption_assets.defs.build import build_defs
from caption_assets.errors import ConfigError
from caption_assets.settings.environment import deployed_settings

FILE = """
dataset: clips
output: s3://bucket/out
windows: {window_size: 128}
previews:
  quality: 80
captions:
  - model_variant: qwen3
    prompt_text: Say what the cars do.
  - model_variant: nemotron-fp8
    model_dir: weights
enhanced: []
"""


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch, tmp_path):
    for name in [name for name in os.environ if name.startswith("CAPTION_ASSETS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_a_file_sets_everything_and_the_environment_wins(monkeypatch, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc" / "pipeline.yaml").write_text(FILE)
    monkeypatch.setenv("CAPTION_ASSETS_SETTINGS", str(tmp_path / "etc" / "pipeline.yaml"))
    settings = deployed_settings()
    assert (settings.dataset, settings.output) == (str(tmp_path / "etc" / "clips"), "s3://bucket/out")
    assert (settings.windows.window_size, settings.windows.remainder_threshold) == (128, 128)
    first, second = settings.captions
    assert (first.model_variant, first.prompt_text, second.prompt_text) == ("qwen3", "Say what the cars do.", None)
    assert second.model_dir == str(tmp_path / "etc" / "weights")
    assert settings.enhanced == ()

    given = {"OUTPUT": "elsewhere", "WINDOW_SIZE": "64", "PREVIEW_QUALITY": "9", "MAX_OUTPUT_TOKENS": "5"}
    for name, value in given.items():
        monkeypatch.setenv(f"CAPTION_ASSETS_{name}", value)
    settings = deployed_settings()
    assert (settings.output, settings.windows.window_size, settings.previews.quality) == ("elsewhere", 64, 9)
    assert [captions.max_output_tokens for captions in settings.captions] == [5, 5]
    assert settings.captions[0].prompt_text == "Say what the cars do."


def test_a_dataset_may_be_several_and_says_how_it_is_read(monkeypatch, tmp_path):
    (tmp_path / "caption_assets.yaml").write_text("dataset: [one, cars=two, s3://b/x/]\nclips: {shards: 4}\n")
    settings = deployed_settings()
    assert settings.dataset == f"{tmp_path}/one\ncars={tmp_path}/two\ns3://b/x/"
    assert settings.clips.shards == 4
    monkeypatch.setenv("CAPTION_ASSETS_DATASET_FORMAT", "manifest")
    assert deployed_settings().clips.dataset_format == "manifest"
    monkeypatch.setenv("CAPTION_ASSETS_SHARD_SIZE", "10")
    with pytest.raises(ConfigError, match="two ways to say the same"):
        deployed_settings()


def test_exports_come_from_the_file_or_the_environment(monkeypatch, tmp_path):
    (tmp_path / "caption_assets.yaml").write_text("exports: [{format: txt, min_seconds: 2, to: train}]")
    monkeypatch.setenv("CAPTION_ASSETS_EXPORT_MIN_CONFIDENCE", "-1")
    (export,) = deployed_settings().exports
    assert (export.format, export.min_seconds, export.min_confidence) == ("txt", 2, -1)
    assert export.to == str(tmp_path / "train")
    monkeypatch.setenv("CAPTION_ASSETS_EXPORT", "webdataset, parquet")
    assert [(of.format, of.min_seconds, of.min_confidence) for of in deployed_settings().exports] == [
        ("webdataset", None, -1),
        ("parquet", None, -1),
    ]
    monkeypatch.setenv("CAPTION_ASSETS_EXPORT", "lance")
    with pytest.raises(ConfigError, match=r"exports\.0\.format"):
        deployed_settings()


def test_a_file_in_the_working_directory_is_found(tmp_path):
    assert deployed_settings().dataset == "demo/clips"
    (tmp_path / "caption_assets.yaml").write_text("dataset: found\n")
    assert deployed_settings().dataset == str(tmp_path / "found")


def test_a_plain_run_has_the_settings_of_the_deployment(tmp_path):
    (tmp_path / "caption_assets.yaml").write_text(FILE)
    asset = build_defs().resolve_assets_def("window_captions_qwen3")
    fields = asset.op.config_schema.config_type.fields
    assert fields["prompt_text"].default_value == "Say what the cars do."
    windows = build_defs().resolve_assets_def("clip_windows")
    assert windows.op.config_schema.config_type.fields["window_size"].default_value == 128


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("captions: [{model_variant: qwen99}]", r"captions\.0\.model_variant: Input should be 'demo', "),
        ("windows: {window_sizes: 3}", r"windows\.window_sizes: Extra inputs are not permitted"),
        ("captions: {model_variant: qwen}", "captions: Input should be a valid tuple"),
        ("- dataset", "it holds no names with values"),
        ("dataset: [", "it is no YAML"),
    ],
)
def test_what_cannot_be_in_a_file_is_one_clear_error(tmp_path, text, wrong):
    (tmp_path / "caption_assets.yaml").write_text(text)
    with pytest.raises(ConfigError, match=wrong) as error:
        deployed_settings()
    assert "settings file caption_assets.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("GPU_RUN_TAGS", "{'dagster/max_retries': '5'}", "they are no JSON of names with values"),
        ("CORES", "abc", "it is no number of cores"),
        ("GPUS", "-1", "it has to be all, how many"),
        ("FAILURE_WEBHOOK", "x", "failure_webhook: it has to be an address like"),
    ],
)
def test_what_a_variable_cannot_be_is_an_error_of_the_code_location(name, value, says, monkeypatch):
    """Of those, too, that are read only when a run is to begin."""
    monkeypatch.setenv(f"CAPTION_ASSETS_{name}", value)
    with pytest.raises(ConfigError, match=says):
        build_defs()


def test_a_file_that_is_named_must_be_there(monkeypatch):
    monkeypatch.setenv("CAPTION_ASSETS_SETTINGS", "nowhere.yaml")
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: it cannot be read"):
        deployed_settings()


def test_automation_is_switched_on_by_the_environment_in_words_that_are_checked(monkeypatch):
    assert not deployed_settings().automation
    monkeypatch.setenv("CAPTION_ASSETS_AUTOMATION", "true")
    assert [sensor.name for sensor in build_defs().sensors] == [
        "register_new_shards",
        "look_for_old_shards",
        "work_on_shards",
    ]
    monkeypatch.setenv("CAPTION_ASSETS_AUTOMATION", "perhaps")
    with pytest.raises(ConfigError, match=r"automation: .*valid boolean"):
        deployed_settings()
