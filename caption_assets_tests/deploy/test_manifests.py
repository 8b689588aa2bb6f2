"""The files of `deploy/` against what reads them: Dagster, its libraries for Kubernetes and AWS, our own command."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from typing import Any

import dagster as dg
import pytest
import yaml
from click.testing import CliRunner
from dagster._config import process_config, resolve_to_config_type
from dagster._core.instance.ref import InstanceRef
from dagster._core.remote_origin import GrpcServerCodeLocationOrigin
from dagster._core.run_coordinator import QueuedRunCoordinator
from dagster._core.workspace.load import location_origins_from_yaml_paths
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager
from dagster_k8s import K8sRunLauncher
from dagster_k8s.container_context import K8sContainerContext
from dagster_k8s.job import DagsterK8sJobConfig, UserDefinedDagsterK8sConfig, construct_dagster_k8s_job

from caption_assets.cli.app import cli
from caption_assets.defs.instance import _CODE_SERVER_PAUSE_S, _CODE_SERVER_TRIES
from caption_assets.media.cores import CORES
from caption_assets_tests.dagster_dev import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
# The image's, and its group's.
USER = 1000
# The chart's words for the parts of a pod, and the library's.
_PARTS = {
    "containerConfig": "container_config",
    "podSpecConfig": "pod_spec_config",
    "jobSpecConfig": "job_spec_config",
}


def snake_case(values: Any) -> Any:
    """Values of the chart by Dagster's names: a mapping's names, and those within it."""
    if not isinstance(values, dict):
        return values
    return {re.sub("([A-Z])", lambda word: f"_{word[1].lower()}", name): snake_case(of) for name, of in values.items()}


def instance_of(values: dict[str, Any]) -> dict[str, Any]:
    """The dagster.yaml that the chart's template `configmap-instance.yaml` makes of values, but for PostgreSQL's."""
    daemon = values["dagsterDaemon"]
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    logs = values["computeLogManager"]
    instance: dict[str, Any] = {
        "run_launcher": {
            "module": "dagster_k8s",
            "class": values["runLauncher"]["type"],
            "config": {
                "instance_config_map": "dagster-instance",
                "service_account_name": "dagster",
                "dagster_home": "/opt/dagster/dagster_home",
                "env_secrets": [secret["name"] for secret in launcher["envSecrets"]],
                "run_k8s_config": {_PARTS[name]: part for name, part in launcher["runK8sConfig"].items()},
                "fail_pod_on_run_failure": launcher["failPodOnRunFailure"],
            },
        },
        "compute_logs": {
            "module": "dagster_aws.s3.compute_log_manager",
            "class": logs["type"],
            "config": snake_case(logs["config"]["s3ComputeLogManager"]),
        },
        "run_monitoring": snake_case(daemon["runMonitoring"]),
        "run_retries": snake_case(daemon["runRetries"]),
        "telemetry": values["telemetry"],
    }
    if daemon.get("runCoordinator", {}).get("enabled", True):
        queue = daemon.get("runCoordinator", {}).get("config", {}).get("queuedRunCoordinator", {})
        instance["run_coordinator"] = {
            "module": "dagster.core.run_coordinator",
            "class": "QueuedRunCoordinator",
            "config": {"max_concurrent_runs": -1, **snake_case(queue)},
        }
    if values["concurrency"]["enabled"]:
        instance["concurrency"] = {name: snake_case(values["concurrency"][name]) for name in ("pools", "runs")}
    further = values["additionalInstanceConfig"]
    assert not further.keys() & {*instance, "concurrency", "python_logs", "retention", "schedules", "sensors"}
    return {**instance, **further}


@pytest.fixture(scope="module")
def values() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((DEPLOY / "values.yaml").read_text())
    return found


def test_the_instance_keeps_history_in_postgresql(tmp_path, monkeypatch):
    monkeypatch.setenv("DAGSTER_POSTGRES_URL", "postgresql+psycopg2://u:p@host:5432/dagster")
    shutil.copy(DEPLOY / "dagster.yaml", tmp_path)
    ref = InstanceRef.from_dir(str(tmp_path))
    assert ref.storage_data.class_name == "DagsterPostgresStorage"
    assert ref.custom_instance_class.__name__ == "StoredBesideInstance"
    queue = ref.run_coordinator.get_run_queue_config()
    waits_s = queue.max_user_code_failure_retries * queue.user_code_failure_retry_delay
    assert waits_s == _CODE_SERVER_TRIES * _CODE_SERVER_PAUSE_S == 600


def test_the_chart_makes_an_instance_that_dagster_takes(values, tmp_path):
    made = instance_of(values)
    for part, of in (("run_launcher", K8sRunLauncher), ("compute_logs", S3ComputeLogManager)):
        assert process_config(resolve_to_config_type(of.config_type()), made[part]["config"]).success
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(made))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        limits = instance.get_concurrency_config()
        assert type(instance).__name__ == "StoredBesideInstance"
        assert isinstance(instance.run_coordinator, QueuedRunCoordinator)
        assert limits.pool_config.default_pool_limit == 8
        assert limits.run_queue_config.max_concurrent_runs == 32
        assert instance.run_monitoring_enabled
        assert instance.run_retries_enabled


def test_a_run_that_asks_a_model_is_a_pod_with_a_gpu_that_knows_its_cores(values):
    launcher = instance_of(values)["run_launcher"]["config"]
    for of in ("dagsterWebserver", "dagsterDaemon"):
        tags = json.loads(values[of]["env"]["CAPTION_ASSETS_GPU_RUN_TAGS"])
        given = K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(launcher["run_k8s_config"]))
        asked = K8sContainerContext(run_k8s_config=UserDefinedDagsterK8sConfig.from_dict(tags["dagster-k8s/config"]))
        config = DagsterK8sJobConfig(job_image="image", dagster_home="/home", instance_config_map="instance")
        job = construct_dagster_k8s_job(config, ["run"], "run", given.merge(asked).run_k8s_config)
        pod = job.spec.template.spec
        (container,) = pod.containers
        assert container.resources.limits == {"nvidia.com/gpu": "1"}
        assert container.resources.requests["cpu"] == "12"
        (cores,) = [variable for variable in container.env if variable.name == CORES]
        assert cores.value_from.resource_field_ref.resource == "requests.cpu"
        assert pod.security_context.fs_group == USER
        (claim,) = [v.persistent_volume_claim for v in pod.volumes if v.persistent_volume_claim]
        assert claim.claim_name == yaml.safe_load((DEPLOY / "cache.yaml").read_text())["metadata"]["name"]


def test_volumes_are_mounted_over_folders_of_the_images_user(values):
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    made = dockerfile.partition("install --owner captions --group captions --directory")[2].partition("ENV")[0].split()
    assert f"--uid {USER} captions" in dockerfile
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    ours = [service for service in services.values() if service["image"] == "caption-assets"]
    mounted = {volume.partition(":")[2] for service in ours for volume in service["volumes"]}
    mounts = instance_of(values)["run_launcher"]["config"]["run_k8s_config"]["container_config"]["volume_mounts"]
    mounted |= {mount["mount_path"] for mount in mounts if mount["name"] != "shm"}
    assert len(mounted) == 2
    assert mounted <= set(made)


def test_web_server_and_daemon_ask_one_code_server_which_has_the_gpus_and_whose_runs_hear_a_signal():
    """Were it one for each, neither could end the runs of the other: only in the containers where they are."""
    services = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]
    (location,) = location_origins_from_yaml_paths([str(DEPLOY / "workspace.yaml")])
    assert isinstance(location, GrpcServerCodeLocationOrigin)
    server = services[location.host]
    assert {"code-server", "--host=0.0.0.0", f"--port={location.port}"} <= set(server["command"])
    assert [name for name, service in services.items() if "deploy" in service] == [location.host]
    dockerfile = (DEPLOY / "Dockerfile").read_text()
    assert "COPY deploy/workspace.yaml /opt/dagster/workspace.yaml\n" in dockerfile
    assert 'ENTRYPOINT ["tini", "-g", "--"]' in dockerfile
    for name in ("webserver", "daemon"):
        assert services[name]["command"][-2:] == ["--workspace", "workspace.yaml"]
        assert not [volume for volume in services[name]["volumes"] if volume.endswith("workspace.yaml")]


def test_the_image_installs_extras_that_there_are():
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (asked,) = [line.partition("=")[2].split(",") for line in lines if line.startswith("ARG EXTRAS")]
    assert set(asked) <= extras.keys()


@pytest.mark.parametrize("tasks", [range(3), range(1, 4), [5, 3, 4]])
def test_the_script_for_slurm_gives_each_shard_to_one_task(tasks, tmp_path):
    (tmp_path / "srun").write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (tmp_path / "srun").chmod(0o700)
    (tmp_path / "shards.txt").write_text("a b\nc\nd\ne\n")
    path = f"{tmp_path}:{os.environ['PATH']}"
    job = {"PATH": path, "SLURM_JOB_ID": "1", "SLURM_CPUS_PER_TASK": "48", "SLURM_TMPDIR": str(tmp_path)}
    given: list[str] = []
    for task in tasks:
        ask = ["bash", DEPLOY / "slurm.sh", "3"]
        env = job | {"SLURM_ARRAY_TASK_ID": str(task)}
        words = subprocess.run(ask, cwd=tmp_path, env=env, check=True, capture_output=True, text=True).stdout
        flags = [line for line in words.splitlines() if line.startswith("--")]
        given += [flag.removeprefix("--shard=") for flag in flags if flag.startswith("--shard=")]
    assert sorted(given) == ["a b", "c", "d", "e"]
    said = CliRunner().invoke(cli, ["run", "--help"]).output
    assert {name for flag in flags if (name := flag.partition("=")[0]) not in said} == {"--cpus-per-task"}


def test_a_task_of_slurm_without_shards_ends_well(tmp_path):
    (tmp_path / "shards.txt").write_text("a\n")
    ask = ["bash", DEPLOY / "slurm.sh", "3"]
    env = {"PATH": os.environ["PATH"], "SLURM_ARRAY_TASK_ID": "2"}
    done = subprocess.run(ask, cwd=tmp_path, env=env, check=True, capture_output=True, text=True)
    assert done.stdout == "part 2 of 3: 0 shards\n"
    (tmp_path / "shards.txt").unlink()
    assert subprocess.run(ask, cwd=tmp_path, env=env, capture_output=True).returncode
