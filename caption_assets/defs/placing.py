"""What a step is given to work with: a slot of a pool of this machine, or cores and GPUs of a Ray cluster."""

from typing import Any

import dagster as dg

from caption_assets.errors import ConfigError
from caption_assets.media.cores import CORES
from caption_assets.models.gpus import LEASES_VARIABLE, NO_LEASES
from caption_assets.models.seats import read_gpus
from caption_assets.settings import ModelSettings, PipelineSettings
from caption_assets.store.tables import Table

GPU_POOL, CPU_POOL = "gpu", "cpu"
RAY_TAG = "dagster-ray/config"
# Cores of a step where the deployment does not say how many workers it has.
_CPU_STEP_CORES, _GPU_STEP_CORES = 4, 8
# A node that is taken away takes its steps with it, and stores and databases may be away for a moment. What else went
# wrong in our own words is not tried again (`failed_step`).
_AFTER_DEATH = dg.RetryPolicy(max_retries=3, delay=10)


def on_cpus(settings: PipelineSettings) -> dict[str, Any]:
    """Arguments of the asset of a step that uses cores."""
    if settings.executor != "ray":
        return {"pool": CPU_POOL}
    return _on_ray(settings.workers.processes or _CPU_STEP_CORES, 0)


def beside_model(settings: PipelineSettings, model: ModelSettings) -> dict[str, Any]:
    """Those of a step that asks a model. One that a server runs takes no GPU of this machine. Raises ConfigError for
    GPUs by their numbers on Ray."""
    if settings.executor != "ray":
        return {} if model.engine == "openai" else {"pool": GPU_POOL}
    gpus = 0 if model.engine == "openai" or model.device == "cpu" else _gpus_of_ray(model)
    return _on_ray(settings.workers.processes or _GPU_STEP_CORES * max(1, gpus), gpus)


def beside_encoders(settings: PipelineSettings) -> dict[str, Any]:
    """Those of an export, which mostly copies, and may have to encode: cores of a cluster, but no slot of a pool."""
    return on_cpus(settings) if settings.executor == "ray" else {}


def on_hardly_anything(settings: PipelineSettings) -> dict[str, Any]:
    """Those of a step that only reads what is stored, and asset checks'."""
    return {"retry_policy": _AFTER_DEATH} if settings.executor == "ray" else {}


def with_priority(given: dict[str, Any], priority: int) -> dict[str, Any]:
    """The same, before or after other steps of its run."""
    return {**given, "op_tags": {**given.get("op_tags", {}), "dagster/priority": str(priority)}}


def _gpus_of_ray(model: ModelSettings) -> int:
    """How many a step asks for, which then has an engine on each, or on each `tensor_parallel` of them."""
    number, numbers = read_gpus(model.gpus)
    if numbers:
        raise ConfigError(f"gpus {model.gpus!r} and executor 'ray'", "Ray chooses the GPUs", "give how many")
    return max(number or 0, model.tensor_parallel)


def _on_ray(cores: int, gpus: int) -> dict[str, Any]:
    """Ray counts, and sets CUDA_VISIBLE_DEVICES; that a process stays within its cores is its own affair."""
    variables = {CORES: str(cores), LEASES_VARIABLE: NO_LEASES}
    config = {"num_cpus": cores, "num_gpus": gpus, "runtime_env": {"env_vars": variables}}
    return {"op_tags": {RAY_TAG: config}, "retry_policy": _AFTER_DEATH}


def makes(run: dg.DagsterRun, *tables: Table[Any]) -> bool:
    """Whether the run was asked for assets of these tables by name; that of a job may name none."""
    return any(table.name in part for key in run.asset_selection or () for part in key.path for table in tables)
