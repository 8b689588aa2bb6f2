"""What tests of vLLM itself have in common: they need its build for CPUs, and a small cache."""

from importlib.util import find_spec

import pytest

from caption_assets.models.engines.vllm.launch import built_for_cpus, vllm_version

VLLM = tuple(map(int, vllm_version().split(".")[:2])) if find_spec("vllm") else (0, 0)
TRUSTED = ["--trust-request-mm-kwargs"] if VLLM >= (0, 32) else []
"""By which `vllm serve` takes a request's times; older releases always do."""
CACHE_BYTES = 1 << 28
# The model in the engine's process, as on one GPU: by itself, vLLM starts another one for it on CPUs.
ONE_PROCESS = "vllm.v1.executor.uniproc_executor.UniProcExecutor"
VLLM_ARGS = {"kv_cache_memory_bytes": CACHE_BYTES, "distributed_executor_backend": ONE_PROCESS}
NEEDS_VLLM_CPU = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        not (find_spec("vllm") and built_for_cpus()),
        reason="no vLLM for CPUs; make test-vllm brings it",
    ),
]
