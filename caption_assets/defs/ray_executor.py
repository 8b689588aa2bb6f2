"""The executor that makes each step of a run a job of a Ray cluster."""

import logging
import os
import re
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

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

T = TypeVar("T")
log = logging.getLogger(__name__)
_PAUSES_S = (1, 2, 4, 8, 16, 32)
# What Ray says of a job.
_ALREADY, _UNKNOWN = "already exists", "does not exist"
_PASSWORD = re.compile(r"://[^/\s@]*:[^/\s]*@")
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

    handler = RayStepHandler(
        client=PatientJobs(_client(context.instance)),
        env_vars=_shown_variables(),
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


class PatientJobs:
    """The jobs of a cluster, which has none to say of them for a while after a node has died, and which is asked again.

    Without it, a run would end with an error where a step is to begin just then, and a step that works would count as
    lost and be begun once more.
    """

    def __init__(self, client: "JobSubmissionClient") -> None:
        self._client = client

    def submit_job(self, *, submission_id: str, **options: Any) -> None:
        """Raises RuntimeError or OSError where it is refused for a minute."""

        def submit() -> None:
            try:
                self._client.submit_job(submission_id=submission_id, **options)
            except RuntimeError as error:
                if _ALREADY not in str(error):  # or else it was taken, and the answer was lost
                    raise

        _patiently(f"take job {submission_id}", submit)

    def get_job_status(self, submission_id: str) -> Any:
        """Raises RuntimeError where there is no such job, and ConnectionError where nothing can be said."""
        try:
            return self._client.get_job_status(submission_id)
        except RuntimeError as error:
            if _UNKNOWN in str(error):
                raise
            raise ConnectionError(str(error)) from error

    def get_job_info(self, submission_id: str) -> Any:
        return self._client.get_job_info(submission_id)

    def stop_job(self, submission_id: str) -> None:
        """Says so where it cannot be done: whoever stops one stops others, too, and is to come to its end."""
        try:
            self._client.stop_job(submission_id)
        except (RuntimeError, OSError) as error:
            log.warning("Ray does not stop job %s: %s", submission_id, error)


def require_ray() -> None:
    """Raises ConfigError where the packages for it are missing."""
    if wrong := missing("ray"):
        raise ConfigError("executor 'ray'", wrong, install("ray"))


def _client(instance: dg.DagsterInstance) -> "JobSubmissionClient":
    from dagster_ray import RayRunLauncher
    from ray.job_submission import JobSubmissionClient

    launcher = instance.run_launcher
    try:
        if isinstance(launcher, RayRunLauncher):
            return _patiently("answer", lambda: launcher.client)
        return _patiently("answer", JobSubmissionClient)
    except (OSError, RuntimeError, ValueError) as error:
        fix = "let RAY_ADDRESS name the cluster's dashboard, such as http://head-node:8265"
        raise ConfigError("executor 'ray'", f"there is no Ray cluster ({error})", fix) from None


def _patiently(do_what: str, ask: Callable[[], T]) -> T:
    """What a cluster answers, which is asked again for a minute. Raises what it fails with in the end."""
    for pause_s in _PAUSES_S:
        try:
            return ask()
        except (RuntimeError, OSError) as error:  # ConnectionError, too
            log.warning("Ray does not %s yet: %s", do_what, error)
        time.sleep(pause_s)
    return ask()


def _shown_variables() -> list[str]:
    """Those of ours that a step is to have, and that Ray shows. Raises ConfigError for a password in one of them."""
    names = {name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)} - _OF_A_STEP - SECRETS
    if unfit := sorted(name for name in names if _PASSWORD.search(os.environ[name])):
        wrong = "it has a password in an address, and Ray shows what a job is given on its dashboard"
        raise ConfigError(unfit[0], wrong, "take it out, and have the nodes' own environment say it")
    return sorted(names)
