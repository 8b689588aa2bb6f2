"""The executor that makes each step of a run a job of a Ray cluster."""

import os
from typing import TYPE_CHECKING

import dagster as dg
from dagster._core.definitions.executor_definition import multiple_process_executor_requirements
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.step_delegating import StepDelegatingExecutor

from caption_assets.errors import ConfigError
from caption_assets.extras import install, missing
from caption_assets.media.cores import CORES
from caption_assets.models.gpus import LEASES_VARIABLE
from caption_assets.settings.declare import ENVIRONMENT_PREFIX
from caption_assets.settings.environment import SECRETS

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

# A step's own, which its asset says.
_OF_A_STEP = {CORES, LEASES_VARIABLE}


@dg.executor(name="ray", requirements=multiple_process_executor_requirements())
def ray_executor(context: dg.InitExecutorContext) -> StepDelegatingExecutor:
    """Each step is a job of the cluster that RAY_ADDRESS names, or that the instance's RayRunLauncher is for.

    Ray gives it the cores and GPUs that its asset asks for. Steps have the settings of the run's process
    (CAPTION_ASSETS_…); everything else in their environment, secrets first of all, is the nodes' own. One of which the
    node dies is tried again, and goes on from what is stored.
    """
    from dagster_ray.core.executor import RayStepHandler

    names = {name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)} - _OF_A_STEP - SECRETS
    handler = RayStepHandler(
        client=_client(context.instance),
        env_vars=sorted(names),
        # What is said here would win over what assets ask for.
        runtime_env=None,
        num_cpus=None,
        num_gpus=None,
        memory=None,
        resources=None,
    )
    return StepDelegatingExecutor(
        handler,
        retries=RetryMode.ENABLED,
        should_verify_step=True,
        # As with the other executors: see `build`.
        step_dependency_config=StepDependencyConfig(require_upstream_step_success=False),
    )


def require_ray() -> None:
    """Raises ConfigError where the packages for it are missing."""
    if wrong := missing("ray"):
        raise ConfigError("executor 'ray'", wrong, install("ray"))


def _client(instance: dg.DagsterInstance) -> "JobSubmissionClient":
    from dagster_ray import RayRunLauncher
    from ray.job_submission import JobSubmissionClient

    launcher = instance.run_launcher
    if isinstance(launcher, RayRunLauncher):
        return launcher.client
    try:
        return JobSubmissionClient()
    except (ConnectionError, RuntimeError, ValueError) as error:
        fix = "let RAY_ADDRESS name the cluster's dashboard, such as http://head-node:8265"
        raise ConfigError("executor 'ray'", f"there is no Ray cluster ({error})", fix) from None
