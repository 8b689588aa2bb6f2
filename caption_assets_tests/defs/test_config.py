"""What cannot be is refused before it costs anything: in the launchpad, when a run is planned, or as it starts."""

import json
import os
import subprocess
import sys

import dagster as dg
import pytest
from pydantic import ValidationError

from caption_assets.defs.build import build_defs
from caption_assets.defs.config import config_schema
from caption_assets.defs.resources import CaptionModel
from caption_assets.errors import CaptionAssetsError
from caption_assets.settings import (
    ALL_SETTINGS,
    CaptionSettings,
    PipelineSettings,
    WindowSettings,
    choices_of,
    meanings_of,
)
from caption_assets_tests.pipelines import asset_key, materialize

_WITH_MEANINGS = {"model_variant", "prompt_variant", "precision", "engine"}


def test_choices_are_enums_and_the_launchpad_shows_their_meanings():
    fields = config_schema(CaptionSettings()).config_type.fields
    prompt = fields["prompt_variant"]
    meanings = {value.config_value: value.description for value in prompt.config_type.enum_values}
    assert meanings["av"] == "roads, seen from a vehicle"
    assert "av: roads, seen from a vehicle" in prompt.description
    engine = CaptionModel().get_resource_definition().config_schema.config_type.fields["engine"]
    assert "openai: a server that speaks OpenAI's API" in engine.description
    for settings in ALL_SETTINGS:
        for name, field in settings.model_fields.items():
            assert set(meanings_of(field)) <= set(choices_of(field)), name
            assert name not in _WITH_MEANINGS or meanings_of(field), name


def test_the_defaults_are_those_of_the_deployment():
    fields = config_schema(WindowSettings(window_size=64, sampling_fps=1.5)).config_type.fields
    assert (fields["window_size"].default_value, fields["sampling_fps"].default_value) == (64, 1.5)
    model = CaptionModel(temperature=0.5, model_variant="qwen3").get_resource_definition()
    assert model.config_schema.as_field().default_value["model_variant"] == "qwen3"


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({"temperature": 9.0}, "less than or equal to 2, not 9.0"),
        ({"tensor_parallel": 0}, "greater than or equal to 1, not 0"),
        ({"in_flight_gib": 0}, "greater than 0, not 0"),
        ({"model_variant": "qwen99"}, "not in enum type"),
        ({"device": "gpu"}, "not gpu .Device: auto, cpu, cuda, or one GPU as cuda:<n>"),
        ({"gpus": "0,x"}, "not 0,x .GPUs to use at once"),
    ],
)
def test_a_resource_refuses_what_its_settings_refuse_when_a_run_is_planned(instance, pipeline, config, wrong):
    job = dg.Definitions(
        assets=[pipeline.source, *pipeline.assets], resources={**pipeline.resources, "caption_model": CaptionModel()}
    ).resolve_implicit_global_asset_job_def()
    with pytest.raises(dg.DagsterInvalidConfigError, match=wrong):
        instance.create_run_for_job(job, run_config={"resources": {"caption_model": {"config": config}}})


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ({"prompt_text": "{nope}"}, "nothing of that name"),
        ({"prompt_text": " "}, "blank"),
        ({"json_schema": "nowhere.json"}, "it cannot be read"),
        ({"prompt_sampling": {"temperature": 9.0}}, "temperature: .*less than or equal to 2"),
        ({"prompt_sampling": {"bogus": 1.0}}, "'bogus'"),
        ({"prompt_variant": "structured", "prompt_text": "x"}, "its schema goes with its own text"),
        ({"max_output_tokens": 0}, "greater than or equal to 1"),
    ],
)
def test_captions_that_cannot_be_are_refused_when_a_run_is_planned(instance, pipeline, config, wrong):
    job = dg.Definitions(
        assets=[pipeline.source, *pipeline.assets], resources=pipeline.resources
    ).resolve_implicit_global_asset_job_def()
    op = asset_key(pipeline, "window_captions").to_python_identifier()
    with pytest.raises(dg.DagsterInvalidConfigError, match=wrong):
        instance.create_run_for_job(job, run_config={"ops": {op: {"config": config}}})


@pytest.mark.parametrize(
    ("model", "sentence"),
    [
        ({"device": "cuda:7"}, "device 'cuda:7': there "),
        ({"device": "cpu", "model_path": "nowhere"}, "nowhere"),
        ({"engine": "openai"}, "OPENAI_BASE_URL"),
        ({"device": "cpu", "caption_key": "a/b"}, "caption key 'a/b'"),
    ],
)
def test_the_rest_is_one_sentence_at_the_start_of_a_run_before_a_step_takes_a_slot(
    instance, make_pipeline, clips_root, tmp_path, model, sentence
):
    pipeline = make_pipeline(clips_root, tmp_path / "out")
    chosen = {**pipeline.resources, "caption_model": CaptionModel(**model)}
    instance.add_dynamic_partitions(pipeline.shards.name, ["a"])
    result = dg.materialize(
        pipeline.assets,
        selection=[asset_key(pipeline, "window_captions")],
        instance=instance,
        resources=chosen,
        partition_key="a",
        raise_on_error=False,
    )
    assert not result.success
    events = instance.all_logs(result.run_id)
    kinds = {event.dagster_event.event_type_value for event in events if event.dagster_event}
    assert not kinds & {"STEP_START", "STEP_FAILURE"}
    (said,) = [event.user_message for event in events if event.dagster_event is None and event.level == 40]
    assert said.startswith(sentence) or sentence in said
    assert "\n" not in said


def test_enhanced_captions_do_not_ask_for_the_gpu_of_the_captions(instance, make_pipeline, clips_root, tmp_path):
    pipeline = make_pipeline(clips_root, tmp_path / "out")
    assert materialize(instance, pipeline, ["b"]).success
    pipeline.resources["caption_model"] = CaptionModel(device="cuda:7")
    assert materialize(instance, pipeline, ["b"], ["enhanced_captions"]).success


def test_definitions_that_cannot_work_are_no_definitions(tmp_path):
    command = [sys.executable, "-m", "dagster", "definitions", "validate", "-m", "caption_assets.definitions"]
    for name, value, wrong in (
        ("BATCH_SIZE", "-5", "greater than or equal to 1"),
        ("CAPTION_KEY", "a/b", "cannot stand in the output"),
    ):
        environment = {**os.environ, f"CAPTION_ASSETS_{name}": value, "DAGSTER_HOME": str(tmp_path)}
        done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode != 0, json.dumps(environment)
        assert wrong in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("settings", "wrong"),
    [
        ({"captions": [{"model_variant": "nemotron", "engine": "transformers"}]}, "run with vLLM only"),
        ({"captions": [{"model_id": "a/b", "model_path": "/x"}]}, "they are two models"),
        ({"captions": [{"prompt_sampling": {"temperature": -5}}]}, "temperature: Input should be greater than"),
        ({"dataset": "foo://x"}, "dataset 'foo://x': its scheme is unknown"),
        ({"output": "foo://x"}, "output 'foo://x': its scheme is unknown"),
        ({"quality": {"script": "klingon"}}, "script 'klingon': no letters are of it"),
    ],
)
def test_there_are_no_definitions_of_what_cannot_be(settings, wrong):
    with pytest.raises((CaptionAssetsError, ValidationError), match=wrong):
        build_defs(PipelineSettings(**settings))


def test_an_output_that_cannot_be_written_is_one_sentence(instance, make_pipeline, clips_root, tmp_path):
    (tmp_path / "file").write_text("no folder")
    pipeline = make_pipeline(clips_root, tmp_path / "file")
    (event,) = materialize(instance, pipeline, ["a"], ["clip_windows"]).get_step_failure_events()
    assert str(tmp_path / "file") in event.step_failure_data.user_failure_data.description
