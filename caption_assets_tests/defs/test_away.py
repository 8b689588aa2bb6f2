"""What a cluster's runs and steps wait for, and are tried again for, when it is away for a moment."""

import time
from types import SimpleNamespace

import dagster as dg
import pytest
from dagster._core.errors import DagsterCodeLocationNotFoundError, DagsterUserCodeUnreachableError
from dagster._daemon.auto_run_reexecution import auto_run_reexecution
from dagster_postgres.utils import retry_pg_connection_fn
from sqlalchemy.exc import OperationalError

from caption_assets.defs import instance
from caption_assets.defs.instance import StoredBesideInstance
from caption_assets.defs.pipeline import Pipeline
from caption_assets.defs.ray_executor import PatientJobs, ray_executor
from caption_assets.defs.reporting import failed_step
from caption_assets.errors import ConfigError, ModelError, StoreError
from caption_assets.settings import PipelineSettings


@pytest.fixture
def waited(monkeypatch):
    """The seconds that were slept, without sleeping them."""
    slept = []
    monkeypatch.setattr(time, "sleep", slept.append)
    return slept


class Ray:
    """A cluster's jobs, that answers with `errors` first."""

    def __init__(self, *errors):
        self.errors, self.asked = list(errors), []

    def __getattr__(self, name):
        def answer(submission_id, **_):
            self.asked.append((name, submission_id))
            if self.errors:
                raise self.errors.pop(0)
            return "RUNNING"

        return answer if not name.startswith("_") else super().__getattribute__(name)

    def submit_job(self, **options):
        return self.__getattr__("submit_job")(**options)


NO_AGENT = "Request failed with status code 500: No available agent to submit job, please try again later.."


def test_a_connection_to_the_database_is_tried_for_most_of_a_minute(waited):
    assert StoredBesideInstance  # whose module says so
    tries = []

    def connect():
        tries.append(1)
        if len(tries) < 8:
            raise OperationalError("connect", {}, Exception("refused"))
        return "connected"

    assert retry_pg_connection_fn(connect) == "connected"
    assert 40 < sum(waited) < 60


def test_a_run_is_launched_again_as_soon_as_the_code_server_is_back(waited, monkeypatch):
    """By the daemon, whose module it is: by itself, it would give such a run up."""
    answers: list[Exception] = [DagsterUserCodeUnreachableError("refused"), DagsterCodeLocationNotFoundError("none")]
    launched = []

    def launch(run, _):
        if answers:
            raise answers.pop(0)
        launched.append(run)

    monkeypatch.setattr(auto_run_reexecution, "retry_run", launch)
    instance._be_patient()
    auto_run_reexecution.retry_run("a", None)
    assert launched == ["a"]
    assert len(waited) == 2
    answers[:] = [ValueError("no such job")]
    with pytest.raises(ValueError, match="no such job"):
        auto_run_reexecution.retry_run("b", None)


def test_a_job_is_asked_for_until_ray_takes_it_and_never_twice(waited):
    ray = Ray(RuntimeError(NO_AGENT), ConnectionError("refused"))
    PatientJobs(ray).submit_job(submission_id="a", entrypoint="true")
    assert ray.asked == [("submit_job", "a")] * 3
    ray = Ray(RuntimeError(NO_AGENT), RuntimeError("Job with submission_id a already exists. "))
    PatientJobs(ray).submit_job(submission_id="a", entrypoint="true")
    assert ray.asked == [("submit_job", "a")] * 2
    with pytest.raises(RuntimeError, match="No available agent"):
        PatientJobs(Ray(*[RuntimeError(NO_AGENT)] * 99)).submit_job(submission_id="a", entrypoint="true")


def test_a_cluster_that_does_not_answer_is_waited_for_and_is_told_no_secret(waited, monkeypatch):
    errors = [ConnectionError("refused"), RuntimeError("Request failed with status code 503")]

    def client():
        if errors:
            raise errors.pop(0)
        return Ray()

    monkeypatch.setattr("ray.job_submission.JobSubmissionClient", client)
    for name, value in {"FAILURE_WEBHOOK": "https://h/k3y", "REVIEW_TOKEN": "t0ken", "OUTPUT": "s3://b/out"}.items():
        monkeypatch.setenv(f"CAPTION_ASSETS_{name}", value)
    context = SimpleNamespace(instance=SimpleNamespace(run_launcher=None))
    handler = ray_executor.executor_creation_fn(context)._step_handler
    assert len(waited) == 2
    assert "CAPTION_ASSETS_OUTPUT" in handler.env_vars
    assert not {"CAPTION_ASSETS_FAILURE_WEBHOOK", "CAPTION_ASSETS_REVIEW_TOKEN"} & set(handler.env_vars)
    monkeypatch.setenv("CAPTION_ASSETS_OUTPUT", "sftp://user:geheim@host/out")
    with pytest.raises(ConfigError, match="CAPTION_ASSETS_OUTPUT: it has a password"):
        ray_executor.executor_creation_fn(context)
    errors += [ConnectionError("refused")] * 99
    with pytest.raises(ConfigError, match="there is no Ray cluster"):
        ray_executor.executor_creation_fn(context)


def test_a_job_is_lost_where_ray_says_so_and_not_where_it_says_nothing():
    with pytest.raises(RuntimeError, match="does not exist"):
        PatientJobs(Ray(RuntimeError("Request failed with status code 404: Job a does not exist"))).get_job_status("a")
    with pytest.raises(ConnectionError):
        PatientJobs(Ray(RuntimeError(NO_AGENT))).get_job_status("a")
    PatientJobs(Ray(RuntimeError(NO_AGENT))).stop_job("a")


def test_every_step_on_ray_is_tried_again_when_its_node_or_a_store_goes():
    pipeline = Pipeline(PipelineSettings(executor="ray", exports=[{"format": "jsonl"}]))
    ops = {each.op.name: each.op for each in [*pipeline.assets, *pipeline.checks]}
    assert {name for name, op in ops.items() if op.retry_policy is None} == set()
    assert failed_step("", [ModelError("a", "b"), StoreError("a", "b")]).allow_retries
    assert not failed_step("", [ModelError("a", "b")]).allow_retries
    here = Pipeline(PipelineSettings())
    assert not any(isinstance(op.op.retry_policy, dg.RetryPolicy) for op in [*here.assets, *here.checks])
