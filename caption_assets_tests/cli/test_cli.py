"""The command line, run as users run it."""

import json
import os
import re
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pyarrow.parquet as pq
import pytest
import yaml

from caption_assets.cli import main
from caption_assets.cli.flags import flags
from caption_assets.records import text_hash
from caption_assets.settings import ALL_SETTINGS, CaptionSettings, TextModelSettings
from caption_assets.settings.environment import deployed_settings
from caption_assets.store.store import Store
from caption_assets.store.tables import CLIP_WINDOWS, WINDOW_CAPTIONS

# Tiny models write what rules have something against.
SHORT = ("--captioning-max-output-tokens", "4", "--enhance-captions-max-output-tokens", "4")
SHORT += ("--enhance-captions-include-flagged",)


@dataclass
class Finished:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="module")
def new_home(tmp_path_factory):
    """A DAGSTER_HOME whose databases have just been made."""
    home = tmp_path_factory.mktemp("home")
    (home / "dagster.yaml").touch()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.get() as instance:
            instance.get_dynamic_partitions("shards")
    return home


@pytest.fixture
def caption_assets(tmp_path, new_home, checkpoints, monkeypatch, capsys):
    """Calls the command's entry point in a folder of its own, with tiny models; returns what it printed."""
    models = ("--model-path", str(checkpoints["qwen2.5-vl"]), "--text-model-path", str(checkpoints["text"]))
    monkeypatch.setenv("DAGSTER_HOME", str(shutil.copytree(new_home, tmp_path / "dagster_home")))
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.chdir(tmp_path)

    def call(*arguments, models=models):
        if arguments[0] == "run":
            arguments = (*arguments, *models, *SHORT, "--device", "cpu")
        monkeypatch.setattr(sys, "argv", ["caption-assets", *map(str, arguments)])
        capsys.readouterr()
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        return Finished(status, *capsys.readouterr())

    return call


def one_line(process, *parts):
    assert process.returncode == 2, process.stderr
    assert process.stderr.count("\n") == 1, process.stderr
    assert process.stdout == ""
    for part in parts:
        assert part in process.stderr


def test_a_run_captions_previews_and_enhances_every_shard(caption_assets, clips_root, tmp_path):
    done = caption_assets("run", "--dataset", clips_root, "--output-path", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    total = re.search(r"total\D+(\d+)\D+(\d+)\D+(\d+)\D+(\d+)\D+(\d+)\D+(\d+)\D+([\d.]+)", done.stdout)
    assert total, done.stdout
    assert total.groups()[:6] == ("3", "3", "3", "3", "3", "0")
    assert len(list((tmp_path / "out").rglob("*.webp"))) == 3
    listed = caption_assets("shards", "list", "--dataset", clips_root)
    assert listed.stdout == "a\t2 clips\tregistered\nb\t1 clip\tregistered\n"


def test_clips_in_the_root_of_a_bucket_are_captioned_into_another(caption_assets, clips_root, s3):
    for name in ("short", "long"):
        s3.put(f"{name}.mp4", (clips_root / "a" / f"{name}.mp4").read_bytes())
    s3.put("marked/", b"")
    s3.client.create_bucket(Bucket=f"{s3.bucket}-out")
    done = caption_assets("run", "--dataset", f"s3://{s3.bucket}/", "--output-path", f"s3://{s3.bucket}-out/")
    assert done.returncode == 0, done.stderr
    written = [item["Key"] for item in s3.client.list_objects_v2(Bucket=f"{s3.bucket}-out")["Contents"]]
    assert f"tables/window_captions/demo/{s3.bucket}.parquet" in written
    documents = [key for key in written if key.startswith("metas/v0/")]
    read = [json.load(s3.client.get_object(Bucket=f"{s3.bucket}-out", Key=key)["Body"]) for key in documents]
    assert {document["clip_location"] for document in read} == {f"s3://{s3.bucket}/{n}.mp4" for n in ("long", "short")}
    assert all(window["demo_lm_enhanced_caption"] for document in read for window in document["windows"])
    assert len([key for key in written if key.endswith(".webp")]) == 2
    listed = caption_assets("shards", "list", "--dataset", f"s3://{s3.bucket}/")
    assert listed.stdout == f"{s3.bucket}\t2 clips\tregistered\n"


def test_the_demo_renders_its_clips_and_shows_what_it_made_of_them(caption_assets, tmp_path):
    done = caption_assets("demo")
    assert done.returncode == 0, done.stderr
    assert "12 clips in demo/clips (12 rendered now)" in done.stdout
    total = re.search(r"total\D+(\d+)\D+(\d+)\D+(\d+)\D+(\d+)\D+(\d+)\D+(\d+)", done.stdout)
    assert total, done.stdout
    assert total.groups() == ("12", "15", "15", "15", "15", "0")
    previews = re.findall(r"^previews/\S+\.webp$", done.stdout, re.MULTILINE)
    assert len(previews) == 3
    assert all((tmp_path / "demo" / "output" / preview).is_file() for preview in previews)
    documents = [json.loads(p.read_text()) for p in (tmp_path / "demo" / "output" / "metas" / "v0").iterdir()]
    texts = {text for d in documents for w in d["windows"] for k, text in w.items() if k.endswith("_caption")}
    shown = " ".join(done.stdout.split())
    assert sum(text in shown for text in texts) == 6

    places = ("--dataset", "demo/clips", "--output-path", "demo/output")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")}
    estimated = json.loads(caption_assets("estimate", *places, "--captioning-algorithm", "demo", "--json").stdout)
    assert (estimated["windows"], estimated["unusable"]) == (15, 0)
    assert estimated["keys"]["demo"]["of"] == "measured: 15 in 1 run into this output, on cpu"
    costs = [row for file in before if "window_captions_demo" in str(file) for row in pq.read_table(file).to_pylist()]
    assert estimated["keys"]["demo"]["prompt_tokens"] == sum(row["prompt_tokens"] for row in costs) > 0
    asked = ("--captioning-algorithm", "qwen", "--gpu-hour-price", "3.6", "--sample", "2", "--json")
    estimated = json.loads(caption_assets("estimate", *places, *asked).stdout)
    assert (estimated["looked_at"], estimated["windows"]) == (2, 15)
    assert estimated["keys"]["qwen"]["prompt_tokens"] == 15 * 6162
    assert estimated["keys"]["qwen"]["cost"] == pytest.approx((15 / 4.08 + 99) / 1000, abs=1e-4)
    prompts = {"dense": None, "mood": {"prompt_text": "Mood?", "max_output_tokens": 64}}
    Path("caption_assets.yaml").write_text(json.dumps({"captions": [{"model_variant": "qwen", "prompts": prompts}]}))
    estimated = json.loads(caption_assets("estimate", *places, *asked, "--caption", "short").stdout)
    assert estimated["keys"].keys() == {"qwen", "qwen-short"}  # a flag in place of what the file has
    estimated = json.loads(caption_assets("estimate", *places, *asked).stdout)
    tokens = {key: round(of["output_tokens"] / 15) for key, of in estimated["keys"].items()}
    assert tokens == {"qwen": 200, "qwen-dense": 400, "qwen-mood": 25}
    assert estimated["sum"]["output_tokens"] == 15 * 625
    assert estimated["keys"]["qwen-dense"]["cached_tokens"] == pytest.approx(0.96 * 15 * 6162, rel=1e-3)
    assert estimated["keys"]["qwen"]["cost"] < estimated["sum"]["cost"] < 1.3 * estimated["keys"]["qwen"]["cost"]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.parquet")} == before


def test_flags_choose_what_is_made_and_for_which_shard(caption_assets, clips_root, tmp_path):
    out = tmp_path / "out"
    base = ("run", "--dataset", clips_root, "--output-path", out, "--shard", "a")
    done = caption_assets(*base, "--generate-previews", "--preview-target-fps", "2", "--captioning-window-size", "64")
    assert done.returncode == 0, done.stderr
    made = {p.name for p in (out / "tables").iterdir()}
    assert made == {"clip_windows", "window_previews", "documents", "run_costs"}
    assert [p.name for p in (out / "tables" / "window_previews").iterdir()] == ["a.parquet"]
    assert caption_assets(*base, "--generate-captions").returncode == 0
    assert (out / "tables" / "window_captions" / "demo" / "a.parquet").is_file()
    assert not (out / "tables" / "enhanced_captions").exists()
    done = caption_assets(*base, "--enhance-captions")
    assert done.returncode == 0, done.stderr
    documents = [json.loads(p.read_text()) for p in (out / "metas" / "v0").iterdir()]
    assert all(w["demo_lm_enhanced_caption"] for d in documents for w in d["windows"])


SETTINGS = """
dataset: clips
output: out
windows: {window_size: 64, remainder_threshold: 8}
captions:
  - {model_path: MODEL, prompt_text: From the file.}
  - {model_path: MODEL, prompt_text: Another., caption_key: other}
enhanced: []
"""


def test_flags_win_over_the_environment_and_that_over_the_settings_file(
    caption_assets, checkpoints, clips_root, tmp_path, monkeypatch
):
    (tmp_path / "caption_assets.yaml").write_text(SETTINGS.replace("MODEL", str(checkpoints["qwen2.5-vl"])))
    monkeypatch.setenv("CAPTION_ASSETS_WINDOW_SIZE", "32")

    def prompts(*arguments):
        done = caption_assets("run", "--shard", "b", "--generate-captions", "--enhance-captions", *arguments, models=())
        assert done.returncode == 0, done.stderr
        tables = {key: Store("out").read_rows(WINDOW_CAPTIONS, "b", key) for key in ("demo", "other")}
        return {key: {row.prompt_hash for row in rows} for key, rows in tables.items()}, done

    made, done = prompts()
    assert made == {"demo": {text_hash("From the file.")}, "other": {text_hash("Another.")}}
    assert {row.end_frame for row in Store("out").read_rows(CLIP_WINDOWS, "b")} == {31, 39}
    assert not Path("out/tables/enhanced_captions").exists()
    assert re.search(r"b +1 +2 +0 +4 ", done.stdout), done.stdout  # the captions of both models

    flags = ("--captioning-window-size", "40", "--captioning-prompt-text", "From a flag.")
    assert prompts(*flags)[0] == {key: {text_hash("From a flag.")} for key in ("demo", "other")}
    assert {row.end_frame for row in Store("out").read_rows(CLIP_WINDOWS, "b")} == {39}


def test_a_shard_of_any_name_is_chosen_by_its_folder_or_by_its_key(caption_assets, clips_root, tmp_path):
    name = "my [b]\udcff"
    os.rename(clips_root / "b", os.path.join(clips_root, name))
    for number, named in enumerate((name, "my%20%5Bb%5D%FF")):
        base = ("run", "--dataset", clips_root, "--output-path", tmp_path / f"out{number}", "--shard", named)
        done = caption_assets(*base, "--generate-previews", "--preview-target-height", "16")
        assert done.returncode == 0, done.stderr
        assert r"my [b]\udcff" in done.stdout
        assert len(list((tmp_path / f"out{number}").rglob("*.webp"))) == 1
    listed = caption_assets("shards", "list", "--dataset", clips_root)
    assert listed.stdout == "a\t2 clips\tregistered\nmy [b]\\udcff\t1 clip\tregistered\n"


def test_bad_clips_are_listed_and_the_rest_is_done(caption_assets, clips_root, tmp_path, monkeypatch):
    monkeypatch.setattr("caption_assets.defs.run._MOST_CHECKED", 1)
    (clips_root / "a" / "text.mp4").write_text("not a video")
    (clips_root / "a" / "zero.mp4").touch()
    done = caption_assets("run", "--dataset", clips_root, "--output-path", tmp_path / "out", "--generate-captions")
    assert done.returncode == 0, done.stderr
    assert "a/text.mp4" in done.stdout
    assert "a/zero.mp4" in done.stdout
    assert "failures by reason" in done.stdout
    failed = "failed: clips_without_windows of clip_windows, shard a: 2 of 4 clips have no window (50.0%), and 5.0% may"
    assert failed in " ".join(done.stdout.split())
    with dg.DagsterInstance.get() as instance:
        checking = [run for run in instance.get_runs() if run.asset_check_selection]
        assert sorted(run.tags["dagster/partition"] for run in checking) == ["a", "a", "b", "b"]
        assert all(run.is_success for run in checking)

    # All texts of so few tokens are cut off.
    checks = ("check", "--output-path", tmp_path / "out", "--check-severities", '{"findings": "off"}')
    again = caption_assets(*checks)
    assert (again.returncode, failed in " ".join(again.stdout.split())) == (1, True)
    assert caption_assets(*checks, "--shard", "b").returncode == 0
    lenient = caption_assets(*checks, "--json", "--check-most-clips-without-windows", "0.5")
    assert lenient.returncode == 0
    first = json.loads(lenient.stdout)[0]
    assert (first["shard"], first["check"], first["passed"]) == ("a", "clips_without_windows", True)
    assert any(item.startswith("a/text.mp4: ") for item in first["worst"])


def test_a_shard_that_fails_makes_the_status_1_and_the_others_go_on(caption_assets, clips_root, tmp_path):
    (clips_root / "bad").mkdir()
    (clips_root / "bad" / "text.mp4").write_text("not a video")
    (clips_root / "void").mkdir()  # no shard
    done = caption_assets("run", "--dataset", clips_root, "--output-path", tmp_path / "out")
    assert done.returncode == 1
    assert "clip_windows failed for shard bad" in done.stdout
    assert "void" not in done.stdout
    for shard in ("a", "b"):
        assert (tmp_path / "out" / "tables" / "enhanced_captions" / "demo" / "demo_lm" / f"{shard}.parquet").is_file()


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["run"], ["--dataset", "--help"]),
        (["run", "--dataset", "nowhere", "--output-path", "o"], ["'nowhere'", "does not exist"]),
        (["run", "--dataset", "D", "--output-path", "o", "--shard", "z"], ["'z'", "it is unknown", "a, b"]),
        (["run", "--dataset", "D", "--output-path", "file/below"], ["file"]),
        (["run", "--dataset", "D", "--output-path", "o", "--captioning-algorithm", "gpt"], ["'gpt'", "'qwen'"]),
        (["run", "--dataset", "D", "--output-path", "o", "--captioning-algorithm", "nemotron"], ["nemotron", "vLLM"]),
        (["run", "--dataset", "D", "--output-path", "o", "--preview-quality", "101"], ["--preview-quality", "100"]),
        (["run", "--dataset", "D", "--output-path", "o", "--preview-compression-level", "7"], ["0<=x<=6"]),
        (["run", "--dataset", "D", "--output-path", "o", "--captioning-window-size", "3"], ["window-size", "x>=4"]),
        (["run", "--dataset", "D", "--output-path", "o", "--captioning-prompt-variant", "poem"], ["'poem'", "'av'"]),
        (["run", "--dataset", "D", "--output-path", "o", "--enhance-captioning-prompt-variant", "av"], ["'av'"]),
        (["run", "--dataset", "D", "--output-path", "o", "--captioning-prompt-text", " "], ["blank"]),
        (["run", "--dataset", "D", "--output-path", "o", "--caption", "a={columns.b}"], ["{columns.b}", "of no clip"]),
        (["run", "--dataset", "D", "--output-path", "o", "--caption", "a={sidecar.vtt}"], ["{sidecar.vtt}", "nothing"]),
        (
            ["run", "--dataset", "D", "--output-path", "o", "--enhance-captions", "--caption", "short"],
            ["--generate-captions"],
        ),
        *(
            (["run", "--dataset", "D", "--output-path", "o", "--generate-captions", "--dry-run", *arguments], parts)
            for arguments, parts in (
                (["--captioning-algorithm", "qwen3", "--caption", "2b=x"], ["'2b'", "those of variant qwen3-2b"]),
                (["--captioning-algorithm", "demo", "--caption", "a.b=x", "--caption", "a-b=y"], ["called demo_a_b"]),
                (["--captioning-algorithm", "demo", "--caption", "x_enhanced=y"], ["_enhanced"]),
                (["--captioning-algorithm", "demo", "--caption", "n" * 300 + "=y"], ["at most 100"]),
                (["--caption", "x=a", "--caption", "x=b"], ["'x' is given twice"]),
                (["--caption", "twice.yaml"], ["'x' is there again in line 2"]),
                (["--caption", "range.yaml"], ["'--caption': short.max_output_tokens: "]),
                (["--caption", "blank.yaml"], ["prompt_text of 'short' is blank"]),
                (["--caption", "structured=x"], ["its schema goes with its own text"]),
                (["--captioning-stage2-prompt-text", "x"], ["no second pass", "--captioning-stage2-caption"]),
                (["--enhance-captions", "--enhance-captions-prompt-text", "{sidecar.vtt}"], ["{sidecar.vtt}"]),
            )
        ),
        (["fly"], ["No such command 'fly'"]),
    ],
)
def test_wrong_usage_is_one_clear_line_and_status_2(caption_assets, clips_root, tmp_path, arguments, parts):
    (tmp_path / "file").touch()
    (tmp_path / "twice.yaml").write_text("x: a\nx: b\n")
    (tmp_path / "range.yaml").write_text("short: {max_output_tokens: 0}\n")
    (tmp_path / "blank.yaml").write_text("short: {prompt_text: }\n")
    arguments = [str(clips_root) if a == "D" else a for a in arguments]
    done = caption_assets(*arguments, models=())
    one_line(done, *parts)
    assert not (tmp_path / "o").exists()


def test_a_model_directory_without_weights_is_wrong_usage(caption_assets, clips_root, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    arguments = ("run", "--dataset", clips_root, "--output-path", tmp_path / "o", "--model-path", tmp_path / "model")
    one_line(caption_assets(*arguments, models=()), "holds no weights", "Download the whole model")


def test_syncing_registers_new_shards_at_once(caption_assets, clips_root):
    assert "2 new shards" in caption_assets("shards", "sync", "--dataset", clips_root).stdout
    shutil.copytree(clips_root / "b", clips_root / "c")
    assert caption_assets("shards", "sync", "--dataset", clips_root).stdout == "1 new shards registered\nc\n"
    assert "0 new shards" in caption_assets("shards", "sync", "--dataset", clips_root).stdout


def test_every_setting_has_a_flag_with_its_words_and_default(caption_assets):
    text = " ".join(caption_assets("run", "--help").stdout.split())
    for flag in flags():
        assert flag.name in text
        if flag.settings is not TextModelSettings and "algorithm" not in flag.name:
            assert " ".join(flag.info.description.split()) in text
    assert {(s, name) for s in ALL_SETTINGS for name in s.model_fields} == {(f.settings, f.field) for f in flags()}
    for flag in ("--generate-captions", "--generate-previews", "--enhance-captions", "--captioning-algorithm"):
        assert flag in text


def test_the_reference_page_is_what_the_declarations_say(caption_assets):
    page = Path(__file__).parents[2] / "docs" / "reference.md"
    assert caption_assets("reference").stdout == page.read_text(), "caption-assets reference > docs/reference.md"


def test_the_ui_is_dagster_of_the_same_shards_history_and_settings(caption_assets, clips_root, tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr("os.execv", lambda program, command: commands.append(command))
    monkeypatch.setattr("os.environ", os.environ.copy())
    chosen = ("--captioning-algorithm", "qwen3", "--captioning-use-fp8-weights", "--captioning-window-size", "64")
    (tmp_path / "more.yaml").write_text(
        "mood: What mood is it?\nfacts: {prompt_text: As JSON., json_schema: facts.json}\n"
    )
    (tmp_path / "facts.json").write_text("{}")
    chosen += ("--caption", "short", "--caption", "more.yaml")
    done = caption_assets("ui", "--dataset", clips_root.name, "--output-path", "out", *chosen, "--port", "3999")
    assert done.returncode == 0, done.stderr
    settings = deployed_settings()
    assert (settings.dataset, settings.output) == (str(clips_root), str(tmp_path / "out"))
    assert [(of.model_variant, of.precision) for of in settings.captions] == [("qwen3", "fp8")]
    prompts = settings.captions[0].prompts
    assert list(prompts) == ["short", "mood", "facts"]
    assert prompts["mood"].prompt_text == "What mood is it?"
    assert [each.most_output_tokens for each in settings.captions[0].asked.values()] == [512, 96, 512, 512]
    assert CaptionSettings(prompt_variant="structured").most_output_tokens == 3072
    assert prompts["facts"].json_schema == str(tmp_path / "facts.json")
    assert [of.model_variant for of in settings.enhanced] == ["qwen_lm"]
    assert settings.windows.window_size == 64
    assert caption_assets("shards", "list", "--dataset", clips_root).stdout.count("registered") == 2
    (command,) = commands
    assert command[command.index("-m") :][:3] == ["-m", "dagster", "dev"]
    (location,) = yaml.safe_load(Path(command[command.index("--workspace") + 1]).read_text())["load_from"]
    assert location["python_module"]["module_name"] == "caption_assets.definitions"


def test_the_ui_leaves_to_a_file_of_settings_what_no_flag_says(caption_assets, tmp_path, monkeypatch):
    monkeypatch.setattr("os.execv", lambda program, command: None)
    monkeypatch.setattr("os.environ", os.environ.copy())
    models = "captions: [{model_variant: qwen3}, {model_variant: nemotron-fp8}]\nenhanced: []\n"
    (tmp_path / "caption_assets.yaml").write_text(f"output: there\n{models}")
    assert caption_assets("ui", "--preview-quality", "77").returncode == 0
    settings = deployed_settings()
    assert settings.output == str(tmp_path / "there")
    assert [of.model_variant for of in settings.captions] == ["qwen3", "nemotron-fp8"]
    assert (settings.enhanced, settings.previews.quality) == ((), 77)


def test_a_backfill_is_asked_for_of_what_is_missing_in_one_call(caption_assets, clips_root, monkeypatch):
    monkeypatch.setenv("CAPTION_ASSETS_DATASET", str(clips_root))
    monkeypatch.setenv("CAPTION_ASSETS_OUTPUT", "out")
    one_line(caption_assets("backfill", "--shard", "z"), "shard 'z'", "Choose: a, b")
    asked = caption_assets("backfill", "--missing", "--shard", "b")
    assert (asked.returncode, asked.stderr) == (0, "")
    with dg.DagsterInstance.get() as instance:
        (backfill,) = instance.get_backfills()
        assert f"Backfill {backfill.backfill_id} of 1 shard " in asked.stdout
        target = backfill.asset_backfill_data.target_subset
    assert {key.to_user_string() for key in target.asset_keys} > {"clip_windows", "window_captions_demo"}
    assert {shard for key in target.asset_keys for shard in target.get_partitions_subset(key).get_partition_keys()} == {
        "b"
    }
    again, rest = caption_assets("backfill", "--missing", "--shard", "b"), caption_assets("backfill", "--missing")
    left_out = "1 shard is being made or waits to be made already: left out.\n"
    assert again.stdout == f"{left_out}No other shard lacks an asset, or has one that is out of date.\n"
    assert rest.stdout.startswith(left_out)
    assert " of 1 shard waits" in rest.stdout
