"""The files of `deploy/` against what reads them: Dagster, its libraries for Kubernetes and AWS, our own command."""

import json
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
from dagster_aws.s3.compute_log_manager import S3ComputeLogManager
from dagster_k8s import K8sRunLauncher
from dagster_k8s.job import UserDefinedDagsterK8sConfig

from caption_assets.cli.app import cli
from caption_assets_tests.dagster_dev import CHECKOUT

DEPLOY = CHECKOUT / "deploy"
# The chart's words for the parts of a pod, and the library's.
_PARTS = {
    "containerConfig": "container_config",
    "podSpecConfig": "pod_spec_config",
    "jobSpecConfig": "job_spec_config",
}


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


def test_what_runs_are_given_on_kubernetes_is_known_there(values):
    launcher = values["runLauncher"]["config"]["k8sRunLauncher"]
    pods = {_PARTS[name]: part for name, part in launcher["runK8sConfig"].items()}
    UserDefinedDagsterK8sConfig.from_dict(pods)
    config = {
        "instance_config_map": "dagster-instance",
        "service_account_name": "dagster",
        "dagster_home": "/opt/dagster/dagster_home",
        "run_k8s_config": pods,
        "fail_pod_on_run_failure": launcher["failPodOnRunFailure"],
        "env_secrets": [secret["name"] for secret in launcher["envSecrets"]],
    }
    assert process_config(resolve_to_config_type(K8sRunLauncher.config_type()), config).success
    for of in ("dagsterWebserver", "dagsterDaemon"):
        tags = json.loads(values[of]["env"]["CAPTION_ASSETS_GPU_RUN_TAGS"])
        pod = UserDefinedDagsterK8sConfig.from_dict(tags["dagster-k8s/config"])
        assert pod.container_config["resources"]["limits"] == {"nvidia.com/gpu": "1"}
    logs = values["computeLogManager"]["config"]["s3ComputeLogManager"]
    assert process_config(resolve_to_config_type(S3ComputeLogManager.config_type()), logs).success


def test_the_chart_makes_an_instance_of_what_it_has_no_values_for(values, tmp_path):
    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(values["additionalInstanceConfig"]))
    with dg.DagsterInstance.from_config(str(tmp_path)) as instance:
        assert instance.get_concurrency_config().pool_config.default_pool_limit == 8


def test_the_image_installs_extras_that_there_are():
    extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    lines = (DEPLOY / "Dockerfile").read_text().splitlines()
    (asked,) = [line.partition("=")[2].split(",") for line in lines if line.startswith("ARG EXTRAS")]
    assert set(asked) <= extras.keys()


def test_the_script_for_slurm_is_one_and_its_flags_are_those_of_the_command():
    script = DEPLOY / "slurm.sh"
    subprocess.run(["bash", "-n", script], check=True)
    command = script.read_text().partition("caption-assets run")[2].partition("$(printf")[0]
    flags = {word for word in command.split() if word.startswith("--")}
    said = CliRunner().invoke(cli, ["run", "--help"]).output
    assert {flag for flag in {*flags, "--shard"} if flag not in said} == set()
