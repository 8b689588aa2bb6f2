"""What the choice of a model comes to, from fields, flags and the environment."""

import json
import os
import re
import subprocess
import sys
from types import SimpleNamespace

import click
import dagster as dg
import pytest
from dagster._core.test_utils import create_run_for_test
from pydantic import ValidationError

from caption_assets.cli.app import run
from caption_assets.cli.flags import flags, settings_from
from caption_assets.defs.resources import CaptionModel, TextModel
from caption_assets.defs.workers import RunWorkers
from caption_assets.errors import ConfigError, ModelError
from caption_assets.media.mp4 import sampled_mp4
from caption_assets.models.engines.base import EngineOptions, ServerOptions
from caption_assets.models.variants import CAPTION_VARIANTS, Sampling
from caption_assets.settings import CaptionModelSettings, TextModelSettings, variables_of
from caption_assets.settings.environment import deployed_settings
from caption_assets_tests.models.hub import COMMIT, PATIENT, Hub


def options(model, batch_size=3):
    with model.session(batch_size) as session:
        return session._engine._options


def test_a_variant_comes_as_the_table_has_it():
    variant, checkpoint = CaptionModel(model_variant="qwen3").model()
    assert variant == CAPTION_VARIANTS["qwen3"]
    assert (checkpoint.model_id, checkpoint.revision, checkpoint.folder) == (variant.model_id, variant.revision, None)


def test_everything_that_is_chosen_reaches_the_engine():
    chosen = options(
        CaptionModel(
            device="cpu",
            precision="fp32",
            tensor_parallel=1,
            trust_remote_code=True,
            in_flight_gib=0.5,
            engine_timeout_s=77.0,
            vllm_args={"enforce_eager": True},
            temperature=0.4,
            server_video="png",
            server_timeout_s=9.0,
        )
    )
    assert chosen == EngineOptions(
        device="cpu",
        precision="fp32",
        batch_size=3,
        sampling=Sampling(temperature=0.4),
        tensor_parallel=1,
        in_flight_bytes=1 << 29,
        stuck_s=77.0,
        trust_remote_code=True,
        server=ServerOptions(None, "png", 9.0, encode_mp4=sampled_mp4),
        vllm_args={"enforce_eager": True},
    )


def test_fp8_is_of_the_variant_so_that_its_captions_are_new_ones():
    variant, _ = CaptionModel(model_variant="qwen", precision="fp8").model()
    assert variant.precision == "fp8"


@pytest.mark.parametrize(
    ("fields", "error", "parts"),
    [
        ({"model_variant": "gpt"}, ValidationError, ["'gpt'", "'demo', 'qwen'"]),
        ({"engine": "cuda"}, ValidationError, ["engine", "'cuda'", "'auto', 'vllm', 'transformers' or 'openai'"]),
        ({"precision": "int4"}, ValidationError, ["precision", "'int4'", "'auto', 'bf16', 'fp8' or 'fp32'"]),
        ({"model_variant": "nemotron", "precision": "fp8"}, ConfigError, ["weights are bf16", "nemotron-fp8"]),
        ({"server_video": "gif"}, ValidationError, ["server_video", "'gif'", "'jpeg'"]),
        ({"model_id": "a/b", "model_path": "c"}, ConfigError, ["'a/b'", "two models"]),
        ({"model_id": "https://huggingface.co/a/b"}, ConfigError, ["no Hugging Face id", "owner/name@revision"]),
        ({"model_path": "./nowhere"}, ModelError, ["the folder does not exist", "model_id"]),
        ({"model_path": "CHECKPOINT", "model_family": "gpt"}, ValidationError, ["'gpt'", "'qwen3-vl'"]),
        ({"engine": "transformers", "tensor_parallel": 2}, ModelError, ["on 2 GPUs", "engine vllm"]),
        ({"engine": "transformers", "model_variant": "qwen", "precision": "fp8"}, ModelError, ["engine vllm"]),
        ({"server_model": "m"}, ConfigError, ["'m'", "asks no server", "engine openai"]),
        ({"engine": "openai", "vllm_args": {"seed": 1}}, ConfigError, ["vllm_args seed", "engine vllm"]),
        ({"model_family": "qwen3-vl"}, ConfigError, ["'qwen3-vl'", "model_path"]),
        ({"engine": "vllm", "model_variant": "nemotron"}, ModelError, ["--trust-remote-code"]),
        ({"caption_key": "a/b"}, ConfigError, ["'a/b'", "cannot stand"]),
        ({"caption_key": "mine_enhanced"}, ConfigError, ["_enhanced"]),
    ],
)
def test_a_choice_that_cannot_be_is_one_clear_error(checkpoints, fields, error, parts):
    if fields.get("model_path") == "CHECKPOINT":
        fields = {**fields, "model_path": str(checkpoints["qwen3-vl"])}
    with pytest.raises(error) as raised, CaptionModel(**fields).session(1):
        pass
    for part in parts:
        assert part in str(raised.value)


def test_a_folder_of_any_known_family_runs_under_the_key_that_is_asked_for(checkpoints):
    model = CaptionModel(model_path=str(checkpoints["qwen3-vl"]), caption_key="mine")
    variant, checkpoint = model.model()
    assert model.key == variant.name == "mine"
    assert variant.family.name == "qwen3-vl"
    assert variant.vllm == CAPTION_VARIANTS["qwen3"].vllm
    assert checkpoint.folder == checkpoints["qwen3-vl"]
    assert TextModel(model_path=str(checkpoints["text"])).key == "demo_lm"


def test_the_family_is_declared_where_the_config_is_of_an_unknown_type_and_nowhere_else(checkpoints, tmp_path):
    folder = tmp_path / "fork"
    folder.mkdir()
    for path in checkpoints["qwen3-vl"].iterdir():
        (folder / path.name).symlink_to(path)
    (folder / "config.json").unlink()
    config = json.loads((checkpoints["qwen3-vl"] / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "fork"}))
    with pytest.raises(ModelError, match=r"'fork' is of no known family.*give model_family"):
        CaptionModel(model_path=str(folder)).model()
    variant, _ = CaptionModel(model_path=str(folder), model_family="qwen3-vl").model()
    assert variant.family.name == "qwen3-vl"
    with pytest.raises(ModelError, match=r"of family qwen2\.5-vl: it is of family qwen3-vl"):
        CaptionModel(model_path=str(checkpoints["qwen3-vl"]), model_family="qwen2.5-vl").model()


def test_a_model_of_the_wrong_kind_is_refused_before_anything_starts(checkpoints):
    with pytest.raises(ModelError, match="Give demo a vision-language model"):
        CaptionModel(model_path=str(checkpoints["text"])).model()
    with pytest.raises(ModelError, match="Give demo_lm a text model"):
        TextModel(model_path=str(checkpoints["qwen3-vl"])).model()


def test_a_servers_model_needs_no_config_here():
    variant, checkpoint = CaptionModel(model_variant="qwen", engine="openai", model_id="me/mine").model()
    assert (variant.family.name, checkpoint.model_id, checkpoint.revision) == ("qwen2.5-vl", "me/mine", "main")


# Each time in a process of its own, which has what this one has imported and nothing else.
FROM_A_HUB = """
import os, sys
import torch, transformers.models.auto
from caption_assets.defs.resources import TextModel
from caption_assets.models.requests import enhance_request

def run():
    model = TextModel(model_id=f"tiny/model@{sys.argv[1]}", model_dir=sys.argv[2], caption_key="mine", device="cpu")
    with model.session(2) as session:
        results = list(session.generate([enhance_request("1", "Rewrite.", "A cat.", 4)]))
    checkpoint, variant = session.checkpoint, session.variant
    print(variant.name, variant.family, checkpoint.revision, results[0].outcome.status, flush=True)

for _ in sys.stdin:
    if not os.fork():
        run()
        os._exit(0)
    if os.wait()[1]:
        print("failed", flush=True)
"""


def test_a_model_of_a_hub_is_found_out_loaded_and_run(checkpoints, tmp_path):
    with Hub(checkpoints["text"]) as hub:
        env = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home"), "OMP_NUM_THREADS": "1", **PATIENT}
        command = [sys.executable, "-c", FROM_A_HUB, COMMIT, str(tmp_path / "models")]
        with subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:

            def run():
                print("run", file=process.stdin, flush=True)
                return process.stdout.readline().split()

            assert run() == ["mine", "text", COMMIT, "ok"]
            assert set(hub.fetched.values()) == {1}
            asked = len(hub.requests)
            assert run() == ["mine", "text", COMMIT, "ok"]
            assert len(hub.requests) == asked


def test_the_environment_sets_every_field_of_both_models(monkeypatch):
    for name in list(os.environ):
        if name.startswith("CAPTION_ASSETS_"):
            monkeypatch.delenv(name)
    given = {
        "VARIANT": "qwen3",
        "PRECISION": "fp8",
        "CAPTION_KEY": "mine",
        "TENSOR_PARALLEL": "2",
        "TRUST_REMOTE_CODE": "true",
        "IN_FLIGHT_GIB": "2.5",
        "VLLM_ARGS": '{"max_num_seqs": 8}',
        "DEVICE": "cuda",
        "TEXT_VARIANT": "qwen_lm",
        "TEXT_DEVICE": "cuda:1",
        "TEXT_TEMPERATURE": "0.5",
    }
    for name, value in given.items():
        monkeypatch.setenv(f"CAPTION_ASSETS_{name}", value)
    settings = deployed_settings()
    caption, text = settings.captions[0], settings.enhanced[0]
    assert (caption.model_variant, caption.precision, caption.caption_key) == ("qwen3", "fp8", "mine")
    assert (caption.tensor_parallel, caption.trust_remote_code, caption.in_flight_gib) == (2, True, 2.5)
    assert (caption.vllm_args, caption.device, caption.temperature) == ({"max_num_seqs": 8}, "cuda", None)
    assert (text.model_variant, text.precision, text.caption_key, text.vllm_args) == ("qwen_lm", "auto", None, {})
    assert (text.tensor_parallel, text.device, text.temperature) == (2, "cuda:1", 0.5)
    names = [names[0] for s in (CaptionModelSettings, TextModelSettings) for names in variables_of(s).values()]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "value", "wrong"),
    [
        ("TENSOR_PARALLEL", "two", "valid integer.*GPUs that one model"),
        ("TENSOR_PARALLEL", "0", "greater than or equal to 1"),
        ("TRUST_REMOTE_CODE", "perhaps", "valid boolean"),
        ("VLLM_ARGS", "max_num_seqs=8", "not JSON"),
        ("VLLM_ARGS", "[8]", "valid dictionary"),
    ],
)
def test_a_variable_that_cannot_be_read_is_one_clear_error(monkeypatch, name, value, wrong):
    monkeypatch.setenv(f"CAPTION_ASSETS_{name}", value)
    with pytest.raises(ConfigError, match=wrong) as error:
        deployed_settings()
    assert f"CAPTION_ASSETS_{name}=" in str(error.value)


def test_a_variable_that_sets_nothing_is_refused(monkeypatch):
    monkeypatch.setenv("CAPTION_ASSETS_ENHANCER", "qwen3")
    with pytest.raises(ConfigError, match="CAPTION_ASSETS_ENHANCER: it is unknown"):
        deployed_settings()


def parsed(*arguments):
    with run.make_context("run", ["--dataset", "d", "--output-path", "o", *arguments]) as context:
        return [settings_from(context.params, s) for s in (CaptionModelSettings, TextModelSettings)]


def test_without_flags_the_models_are_as_their_fields_default():
    assert parsed("--captioning-algorithm", "demo", "--enhance-captions-algorithm", "demo_lm") == [
        CaptionModelSettings(),
        TextModelSettings(),
    ]


def test_flags_reach_the_model_that_they_are_for_or_both():
    caption, text = parsed(
        *("--captioning-algorithm", "qwen", "--enhance-captions-algorithm", "qwen_lm"),
        *("--captioning-use-fp8-weights", "--model-id", "a/b", "--text-model-id", "c/d@main", "--caption-key", "k"),
        *("--device", "cpu", "--tensor-parallel", "2", "--trust-remote-code", "--vllm-args", '{"max_num_seqs": 4}'),
        *("--text-temperature", "0.5"),
    )
    assert (caption.precision, caption.model_id, caption.caption_key) == ("fp8", "a/b", "k")
    assert (text.precision, text.model_id, text.caption_key) == ("auto", "c/d@main", None)
    assert (caption.vllm_args, text.vllm_args) == ({"max_num_seqs": 4}, {})
    assert (caption.temperature, text.temperature) == (None, 0.5)
    for chosen in (caption, text):
        assert (chosen.device, chosen.tensor_parallel, chosen.trust_remote_code) == ("cpu", 2, True)


@pytest.mark.parametrize("value", ["max_num_seqs=4", "[4]"])
def test_engine_arguments_that_are_no_json_are_wrong_usage(value):
    with pytest.raises(click.UsageError, match=re.escape(value)):
        parsed("--vllm-args", value)


def test_every_flag_of_the_models_is_in_the_help():
    text = run.get_help(click.Context(run))
    assert all(flag.name in text for flag in flags())


def test_a_run_may_choose_the_model_in_its_config(instance):
    @dg.asset
    def chosen(caption_model: CaptionModel) -> None:
        variant, _ = caption_model.model()
        assert (variant.name, variant.precision, caption_model.vllm_args) == ("qwen", "fp8", {"max_num_seqs": 4})

    config = {"model_variant": "qwen", "precision": "fp8", "vllm_args": {"max_num_seqs": 4}}
    resources = {"caption_model": CaptionModel.configure_at_launch()}
    run_config = {"resources": {"caption_model": {"config": config}}}
    assert dg.materialize([chosen], instance=instance, resources=resources, run_config=run_config).success


@pytest.mark.parametrize(("asset", "further"), [("clip_windows", 10), ("window_captions_demo", 0)])
def test_workers_of_a_run_that_asks_no_model_stand_back_for_those_of_runs_that_do(instance, asset, further):
    run = create_run_for_test(instance, asset_selection=frozenset({dg.AssetKey(asset)}))
    context = SimpleNamespace(run=run, instance=instance)
    with RunWorkers(processes=1).yield_for_execution(context) as shared:
        seen = [nice for _, nice in shared.clip_workers.map_unordered(os.nice, [0])]
    assert seen == [min(os.nice(0) + further, 19)]
