"""The instance of a dagster.yaml is one and the same, from wherever it is opened."""

import json
import re
import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._cli.utils import get_possibly_temporary_instance_for_cli
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.test_utils import create_run_for_test
from dagster_postgres.utils import retry_pg_connection_fn

import caption_assets.defs.pools  # noqa: F401 - how a run waits
from caption_assets.defs.instance import local_instance
from caption_assets.errors import ConfigError

DAGSTER_YAML = Path(__file__).parents[2] / "dagster.yaml"


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "checkout").mkdir()
    return Path(shutil.copy(DAGSTER_YAML, tmp_path / "checkout")).parent


def known():
    """What is registered in the instances that DAGSTER_HOME names: for Dagster, and for our command."""
    with dg.DagsterInstance.get() as theirs, local_instance() as ours:
        return [instance.get_dynamic_partitions("shards") for instance in (theirs, ours)]


def test_history_is_beside_the_file_from_any_folder_and_with_or_without_a_home(checkout, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(checkout)
    with get_possibly_temporary_instance_for_cli() as instance:  # as `dagster dev` opens one without DAGSTER_HOME
        instance.add_dynamic_partitions("shards", ["a"])
        assert instance.is_persistent
    with local_instance() as ours:
        assert ours.get_dynamic_partitions("shards") == ["a"]
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("DAGSTER_HOME", str(checkout))
    assert known() == [["a"], ["a"]]
    assert not list(elsewhere.iterdir())
    assert {path.name for path in checkout.iterdir() if not path.name.startswith(".tmp")} == {
        "dagster.yaml",
        ".dagster_home",
    }


def test_a_copied_file_is_an_instance_of_its_own(checkout, tmp_path, monkeypatch):
    copy = shutil.copytree(checkout, tmp_path / "copy")
    for home, shard in ((checkout, "a"), (copy, "b")):
        monkeypatch.setenv("DAGSTER_HOME", str(home))
        with dg.DagsterInstance.get() as instance:
            instance.add_dynamic_partitions("shards", [shard])
            assert Path(instance.storage_directory()).is_relative_to(home)
            limits = instance.get_concurrency_config().pool_config
            assert limits.default_pool_limit == 1
        assert known() == [[shard], [shard]]


def test_history_that_an_earlier_file_has_kept_is_still_there(checkout, monkeypatch):
    now = (checkout / "dagster.yaml").read_text()
    earlier = "storage:\n  sqlite:\n    base_dir: .dagster_home\n"
    (checkout / "dagster.yaml").write_text(re.sub(r"instance_class:\n(  .*\n)+", earlier, now))
    monkeypatch.chdir(checkout)
    monkeypatch.setenv("DAGSTER_HOME", str(checkout))
    with dg.DagsterInstance.get() as instance:
        assert type(instance) is dg.DagsterInstance
        instance.add_dynamic_partitions("shards", ["old"])
    (checkout / "dagster.yaml").write_text(now)
    monkeypatch.chdir("/")
    assert known() == [["old"], ["old"]]


POSTGRES = "storage: {postgres: {postgres_url: {env: DAGSTER_POSTGRES_URL}}}"
UNREADABLE = {
    "the file": ("storage: {\n", "while parsing a flow"),
    "an entry": ("nosuch: 1\n", 'unexpected config entry "nosuch" at the root'),
    "a class": ("instance_class: {module: caption_assets.defs.instance, class: Nope}", "no attribute 'Nope'"),
    "two limits": (
        "concurrency: {runs: {max_concurrent_runs: 8}}\nrun_coordinator: {module: dagster.core.run_coordinator, "
        "class: QueuedRunCoordinator, config: {max_concurrent_runs: 32}}",
        "incompatible with the `concurrency > runs` config",
    ),
    "a variable": (POSTGRES, "environment variable DAGSTER_POSTGRES_URL is not set"),
    "a database": (POSTGRES, "Connection refused"),
    "a password in the host": (POSTGRES, 'host name "…@nowhere.invalid"'),
}
URLS = {
    "a database": "postgresql+psycopg2://user:geheim@127.0.0.1:9/dagster",
    "a password in the host": "postgresql+psycopg2://user:ge@heim@nowhere.invalid:9/dagster",
}


@pytest.mark.parametrize("name", UNREADABLE)
def test_an_instance_that_cannot_be_opened_is_one_clear_error(name, tmp_path, monkeypatch):
    monkeypatch.setattr(retry_pg_connection_fn, "__defaults__", (0, 0.0))
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path))
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", URLS.get(name, ""))
    if name not in URLS:
        monkeypatch.delenv("DAGSTER_POSTGRES_URL")
    text, says = UNREADABLE[name]
    (tmp_path / "dagster.yaml").write_text(text)
    with pytest.raises(ConfigError) as error, local_instance():
        pass
    said = str(error.value)
    assert said.startswith(f"Dagster instance of {tmp_path}: it cannot be opened (")
    assert says in said
    assert f"Mend {tmp_path / 'dagster.yaml'}" in said
    assert "heim" not in said
    assert "\n" not in said


def test_runs_that_caption_come_before_others_in_the_queue_unless_they_say_otherwise(checkout, monkeypatch):
    monkeypatch.setenv("DAGSTER_HOME", str(checkout))
    monkeypatch.setattr(dg.DagsterInstance, "submit_run", lambda self, run_id, workspace: self.get_run_by_id(run_id))
    captions, previews = dg.AssetKey(["cars", "window_captions_qwen"]), dg.AssetKey("window_previews")
    with dg.DagsterInstance.get() as instance:

        def priority(*keys, **tags):
            run = create_run_for_test(instance, asset_selection=frozenset(keys), tags=tags)
            return instance.submit_run(run.run_id, None).tags.get("dagster/priority")

        assert priority(captions, previews) == "1"
        assert priority(previews) is None
        assert priority(captions, **{"dagster/priority": "-3"}) == "-3"

        # Those that ask a model have what the deployment's environment says, too.
        pod = {"pod_spec_config": {"node_selector": {"pool": "gpu"}}}
        monkeypatch.setenv("CAPTION_ASSETS_GPU_RUN_TAGS", json.dumps({"dagster-k8s/config": pod}))
        tagged = [create_run_for_test(instance, asset_selection=frozenset({key})) for key in (captions, previews)]
        tags = [instance.submit_run(run.run_id, None).tags.get("dagster-k8s/config") for run in tagged]
        assert [json.loads(tag) if tag else tag for tag in tags] == [pod, None]


def test_a_run_rests_between_its_questions_for_a_slot(checkout):
    with dg.DagsterInstance.from_config(str(checkout)) as instance:
        instance.event_log_storage.set_concurrency_slots("gpu", 1)
        runs = [create_run_for_test(instance) for _ in range(2)]
        with (
            InstanceConcurrencyContext(instance, runs[0]) as first,
            InstanceConcurrencyContext(instance, runs[1]) as second,
        ):
            assert first.claim("gpu", "a step")
            assert not second.claim("gpu", "a step")
            assert 0 < second.interval_to_next_pending_claim_check() <= 15
            assert first.interval_to_next_pending_claim_check() == 0
