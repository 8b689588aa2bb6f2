"""How many engines run at once, by what is asked for and what is here. There may be no GPU here, so some are given."""

import pytest

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models import seats as module
from caption_assets.models.seats import seats
from caption_assets.models.variants import CAPTION_VARIANTS
from caption_assets_tests.models.test_gpus import gpu

QWEN = CAPTION_VARIANTS["qwen"]


@pytest.fixture
def machine(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(module, "visible_gpus", lambda: (gpu(0), gpu(1), gpu(2, total=8), gpu(3)))


def asked(gpus, device="auto", tensor_parallel=1):
    found = seats(gpus, QWEN, "auto", device, tensor_parallel, 8)
    return found.count, dict(found.environment)


@pytest.mark.parametrize(
    ("gpus", "tensor_parallel", "count", "visible"),
    [
        (None, 1, 1, None),
        ("all", 1, 3, None),  # the small one is too small
        ("2", 1, 2, None),
        ("0,3", 1, 2, "GPU-0,GPU-3"),
        ("all", 2, 1, None),
        ("2", 2, 1, None),
        ("0, 1", 2, 1, "GPU-0,GPU-1"),
    ],
)
def test_each_gpu_that_can_run_the_model_has_an_engine(machine, gpus, tensor_parallel, count, visible):
    assert asked(gpus, tensor_parallel=tensor_parallel) == (count, {"CUDA_VISIBLE_DEVICES": visible} if visible else {})


def test_engines_on_a_cpu_share_its_cores_and_a_gpu_that_is_named_is_one(machine, monkeypatch):
    assert asked("4", "cpu") == (4, {"OMP_NUM_THREADS": "2"})
    assert asked("all", "cpu")[0] == asked("all", "cuda:1")[0] == 1
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert asked("2", "cpu") == (2, {"OMP_NUM_THREADS": "3"})


@pytest.mark.parametrize(
    ("gpus", "device", "error", "says"),
    [
        ("0", "auto", ConfigError, "neither a number of GPUs nor a list"),
        ("some", "auto", ConfigError, "neither a number of GPUs nor a list"),
        ("1,1", "auto", ConfigError, "neither a number of GPUs nor a list"),
        ("4", "auto", ModelError, "there are 3 that can run qwen. Give fewer, or all"),
        ("0,7", "auto", ModelError, "there is no GPU 7"),
        ("0,1", "cpu", ModelError, "there is no NVIDIA GPU here"),
        ("9", "cpu", ModelError, "8 cores for engines on the CPU. Give at most 8"),
        ("2", "cuda:0", ConfigError, "they name different GPUs"),
    ],
)
def test_what_cannot_be_is_refused_with_what_could(machine, gpus, device, error, says):
    with pytest.raises(error, match=says):
        asked(gpus, device)
