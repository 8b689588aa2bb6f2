"""The component, as its users have it: by `dg` in a project of their own."""

import os
import subprocess
import tomllib

import dagster as dg
import pytest
import yaml

from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets_tests.dagster_dev import BIN, CHECKOUT, COMPONENT, make_project, write_component
from caption_assets_tests.pipelines import QUIET


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project as `dg` makes them, in an environment with this package and its entry points."""
    root = tmp_path_factory.mktemp("project")
    make_project(root)
    return root


@pytest.fixture(scope="module")
def run(project, tmp_path_factory):
    """Runs `dg` in the project; gives its status and all that it says."""
    # The entry points of this checkout, whatever version of it is installed.
    installed = tmp_path_factory.mktemp("installed") / "caption_assets_here-0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: caption_assets_here\nVersion: 0\n")
    points = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["entry-points"]
    lines = [f"[{group}]\n" + "\n".join(f"{k} = {v}" for k, v in each.items()) for group, each in points.items()]
    (installed / "entry_points.txt").write_text("\n\n".join(lines))
    paths = os.pathsep.join(map(str, (CHECKOUT, installed.parent, project, os.environ["PYTHONPATH"])))
    env = {**os.environ, "PYTHONPATH": paths, "COLUMNS": "200", "NO_COLOR": "1"}

    def dg(*arguments):
        command = [BIN / "dg", *arguments]
        done = subprocess.run(
            command, cwd=project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        return done.returncode, done.stdout

    return dg


def test_it_is_listed_scaffolded_and_checked_by_dg(project, run):
    status, said = run("list", "components", "--json")
    assert status == 0, said
    assert COMPONENT in said
    status, said = run("scaffold", "defs", COMPONENT, "cars")
    assert status == 0, said
    scaffolded = project / "mine" / "defs" / "cars" / "defs.yaml"
    assert yaml.safe_load(scaffolded.read_text())["attributes"]["name"] == "cars"
    status, said = run("check", "yaml")
    assert status == 0, said
    # What is wrong, and where.
    captions = [{"model_variant": "qwen3", "prompt_varian": "av"}, {"model_variant": "qwen99"}]
    windows = {"window_size": 2}
    path = write_component(project, "cars", name="the cars", dataset="clips", windows=windows, captions=captions)
    status, said = run("check", "yaml")
    assert status == 1
    for line, wrong in [
        (3, "'the cars' does not match"),
        (6, "2 is less than the minimum of 4"),
        (9, "Additional properties are not allowed ('prompt_varian' was unexpected)"),
        (10, "'qwen99' is not one of ['demo', 'qwen', "),
    ]:
        assert any(f"{path}:{line} " in each and wrong in each for each in said.splitlines()), (line, said)


def test_settings_that_cannot_work_fail_the_check_of_definitions(project, run):
    write_component(project, "cars", name="cars", captions=[{"model_variant": "nemotron-bf16", "precision": "fp8"}])
    status, said = run("check", "defs")
    assert status == 1
    assert "variant 'nemotron-bf16' in precision 'fp8': its weights are bf16" in said


def test_two_of_them_in_one_project_are_what_their_files_say(project, tmp_path, monkeypatch):
    monkeypatch.setenv("BOATS", str(tmp_path / "boats"))
    write_component(
        project,
        "cars",
        name="cars",
        dataset=str(tmp_path / "cars"),
        output=str(tmp_path / "out"),
        enhanced=[],
        workers={"processes": 1},
        exports=[{"format": "csv"}],
    )
    monkeypatch.setenv("YEAR", "2024")
    models = [{"gpus": "2", "device": "cpu"}, {"caption_key": "other"}]
    write_component(
        project,
        "boats",
        name="boats",
        dataset="{{ env.BOATS }}",
        output=str(tmp_path / "out-boats"),
        captions=models,
        tags={"of": "{{ env.YEAR }}", "version": "1.0"},  # texts, though they look like numbers
    )
    monkeypatch.syspath_prepend(str(project))
    defs = dg.load_from_defs_folder(path_within_project=project / "mine")
    for name in ("cars", "boats"):
        render_dataset(tmp_path / name, {f"{name}-in-june": demo_scenes()["shard-000"][:1]})
    keys = {key.to_user_string() for key in defs.resolve_all_asset_keys()}
    texts = ("window_captions_demo", "window_captions_other", "enhanced_captions_demo_by_demo_lm")
    assert {"cars/window_captions_demo", "cars/export_csv_demo", *(f"boats/{name}" for name in texts)} < keys
    assert not any(key.startswith("cars/enhanced") for key in keys)
    boats = defs.resolve_assets_def(dg.AssetKey(["boats", "clip_windows"])).specs
    assert {"of": "2024", "version": "1.0"}.items() <= next(iter(boats)).tags.items()
    for name in ("cars", "boats"):
        shards = defs.resolve_assets_def(dg.AssetKey([name, "clip_windows"])).partitions_def
        assert shards.name.startswith(f"{name}-")  # of its own dataset
    with dg.DagsterInstance.ephemeral() as instance:
        made = dg.AssetKey(["cars", "clip_windows"])
        instance.add_dynamic_partitions(defs.resolve_assets_def(made).partitions_def.name, ["cars-in-june"])
        job = defs.resolve_implicit_global_asset_job_def()
        done = job.execute_in_process(
            instance=instance, asset_selection=[made], partition_key="cars-in-june", run_config={"loggers": QUIET}
        )
        assert done.success
    assert (tmp_path / "out" / "tables" / "clip_windows" / "cars-in-june.parquet").is_file()
    assert not (tmp_path / "out-boats").exists()
