"""Leases between real processes on real lock files. There may be no GPU here, so what NVML would say is given."""

import logging
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models import gpus
from caption_assets.models.gpus import Gpu, check, fit, lease, visible_gpus
from caption_assets.models.locks import try_lock
from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS

GIB = 1 << 30
QWEN = CAPTION_VARIANTS["qwen"]


def gpu(k, name="H200", capability=(9, 0), total=140.0, free=None):
    return Gpu(k, k, f"GPU-{k}", name, capability, int(total * GIB), int((total - 0.5 if free is None else free) * GIB))


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Puts GPUs into the machine and a new folder for its leases."""
    monkeypatch.setattr(gpus, "LEASES", tmp_path / "leases")
    monkeypatch.setattr(gpus, "_GRACE_S", 0.2)
    monkeypatch.setattr(gpus, "_POLL_S", 0.05)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")

    def put(*here):
        monkeypatch.setattr(gpus, "visible_gpus", lambda: here)

    return put


HOLDER = """
import sys, time
from pathlib import Path
from caption_assets.models import gpus
from caption_assets.models.variants import CAPTION_VARIANTS
from caption_assets_tests.models.test_gpus import gpu

gpus.LEASES, gpus._POLL_S = Path(sys.argv[1]), 0.05
gpus.visible_gpus = lambda: tuple(gpu(k) for k in range(int(sys.argv[2])))
held = gpus.lease(CAPTION_VARIANTS["qwen"], device=sys.argv[3], tensor_parallel=int(sys.argv[4]))
print(held.visible_devices, flush=True)
{then}
"""


@pytest.fixture
def process(tmp_path):
    """Starts a process that leases GPUs, prints which, and then keeps them for a while."""
    started = []

    def start(number=2, device="auto", count=1, then="time.sleep(3600)"):
        arguments = [tmp_path / "leases", number, device, count]
        command = [sys.executable, "-c", HOLDER.format(then=then), *map(str, arguments)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        each.wait()


def printed(process):
    return process.stdout.readline().strip()


def test_gpus_that_somebody_else_hands_out_are_taken_without_locks(machine, monkeypatch):
    monkeypatch.setenv("CAPTION_ASSETS_GPU_LEASES", "none")
    machine(gpu(0, free=3), gpu(1))
    with lease(QWEN) as first, lease(QWEN) as second:
        assert first.visible_devices == second.visible_devices == "GPU-1"
    assert not gpus.LEASES.exists()
    with pytest.raises(ModelError, match="other programs use the rest"):
        lease(QWEN, tensor_parallel=2)


def test_free_gpus_are_taken_and_given_back(machine):
    machine(gpu(0), gpu(1))
    with lease(QWEN) as first:
        with lease(QWEN) as second:
            assert {first.visible_devices, second.visible_devices} == {"GPU-0", "GPU-1"}
        with lease(QWEN) as third:
            assert third.visible_devices == second.visible_devices
    first.close()
    with lease(QWEN, tensor_parallel=2) as both:
        assert both.visible_devices == "GPU-0,GPU-1"
        assert both.notes == ()


def test_the_gpu_with_the_most_free_memory_is_taken_first(machine):
    machine(gpu(0, free=40), gpu(1, free=90), gpu(2, free=60))
    assert [lease(QWEN).visible_devices for _ in range(3)] == ["GPU-1", "GPU-2", "GPU-0"]


def test_a_process_that_is_killed_loses_its_lease(machine, process):
    machine(gpu(0), gpu(1))
    holders = [process(), process()]
    taken = [printed(holder) for holder in holders]
    assert set(taken) == {"GPU-0", "GPU-1"}
    waiting = process()
    line = waiting.stderr.readline()
    assert "Waiting for 1 GPU for qwen" in line
    for holder, uuid in zip(holders, taken, strict=True):
        assert f"cuda:{uuid[-1]} is used by process {holder.pid} on" in line
    holders[1].kill()
    assert printed(waiting) == taken[1]


def test_children_do_not_inherit_a_lease(machine, process):
    machine(gpu(0))
    then = """
import os, subprocess
forked = os.fork()
if not forked:
    time.sleep(3600)
sleeper = subprocess.Popen(["sleep", "3600"], close_fds=False)
print(forked, sleeper.pid, flush=True)
time.sleep(3600)
"""
    parent = process(number=1, then=then)
    assert printed(parent) == "GPU-0"
    children = [int(pid) for pid in printed(parent).split()]
    try:
        parent.kill()
        parent.wait()
        assert all(os.path.exists(f"/proc/{pid}") for pid in children)
        with lease(QWEN) as mine:
            assert mine.visible_devices == "GPU-0"
    finally:
        for pid in children:
            os.kill(pid, signal.SIGKILL)


def test_two_that_need_two_gpus_each_get_them_one_after_the_other(process):
    both = [process(number=2, count=2, then="time.sleep(0.3)") for _ in range(4)]
    assert [printed(each) for each in both] == ["GPU-0,GPU-1"] * 4
    assert [each.wait() for each in both] == [0] * 4


def test_a_named_gpu_is_used_at_once_and_kept_from_those_that_name_none(machine, process):
    machine(gpu(0), gpu(1))
    holder = process()
    taken = printed(holder)
    other = "GPU-1" if taken == "GPU-0" else "GPU-0"
    with lease(QWEN, device=f"cuda:{taken[-1]}") as named:
        assert named.visible_devices == taken
        (note,) = named.notes
        assert f"was also used by process {holder.pid}" in note
    with lease(QWEN, device=f"cuda:{other[-1]}") as named, lease(QWEN, device=f"cuda:{other[-1]}") as again:
        assert again.visible_devices == named.visible_devices == other
        assert named.notes == again.notes == ()
        holder.kill()
        holder.wait()
        with lease(QWEN) as free:
            assert free.visible_devices == taken


def test_a_gpu_that_other_programs_fill_is_passed_over(machine):
    machine(gpu(0, free=3), gpu(1, free=30))
    with lease(QWEN) as mine:
        assert mine.visible_devices == "GPU-1"
    for device in ("auto", "cuda:0"):
        machine(gpu(0, free=3))
        with pytest.raises(ModelError, match=r"21 GiB of free memory.*3\.0 of 140\.0 GiB free.*other programs"):
            lease(QWEN, device=device)
    check(QWEN)  # which is not for ever


def test_memory_that_comes_back_late_is_waited_for(machine, monkeypatch):
    monkeypatch.setattr(gpus, "_GRACE_S", 3600)
    looks = iter([(gpu(0, free=2),), (gpu(0, free=2),)])
    monkeypatch.setattr(gpus, "visible_gpus", lambda: next(looks, (gpu(0),)))
    with lease(QWEN) as mine:
        assert mine.gpus[0].free_bytes > 100 * GIB


@pytest.mark.parametrize(
    ("variant", "precision", "here", "parts"),
    [
        ("qwen", "auto", [], ["no NVIDIA GPU here", "device cpu"]),
        ("qwen", "auto", [gpu(0, "T4", (7, 5), 15)], ["capability 8.0", "T4, compute capability 7.5"]),
        ("qwen", "auto", [gpu(0, "RTX 4080", (8, 9), 15.6)], ["21 GiB", "15.6 GiB", "demo", "qwen in fp8"]),
        ("qwen", "fp8", [gpu(0, "A100", (8, 0), 39.5)], ["(fp8)", "capability 8.9", "qwen, qwen2.5, qwen3, nemotron"]),
        ("nemotron-fp8", "auto", [gpu(0, "A10", (8, 6), 22)], ["capability 8.9", "nemotron-nvfp4"]),
        ("nemotron-3-nano-omni", "auto", [gpu(0, "L40S", (8, 9), 44)], ["72 GiB", "tensor_parallel"]),
    ],
)
def test_a_variant_that_no_gpu_here_can_run_is_refused_with_those_that_fit(machine, variant, precision, here, parts):
    machine(*here)
    with pytest.raises(ModelError) as error:
        check(CAPTION_VARIANTS[variant], precision)
    for part in parts:
        assert part in str(error.value)
    with pytest.raises(ModelError):
        lease(CAPTION_VARIANTS[variant], precision)


def test_what_fits_is_told_of_the_same_kind_of_model(machine):
    machine(gpu(0, "RTX 4090", (8, 9), 23.5))
    with pytest.raises(ModelError, match=r"Choose what fits \(demo_lm, qwen_lm in fp8, "):
        check(TEXT_VARIANTS["qwen_lm"])
    check(TEXT_VARIANTS["qwen_lm"], "fp8")


def test_several_gpus_share_the_need(machine):
    machine(gpu(0, "L40S", (8, 9), 44), gpu(1, "L40S", (8, 9), 44))
    omni = CAPTION_VARIANTS["nemotron-3-nano-omni"]
    with lease(omni, tensor_parallel=2) as both:
        assert len(both.gpus) == 2
    with pytest.raises(ModelError, match="it needs 3 GPUs"):
        check(omni, tensor_parallel=3)


@pytest.mark.parametrize(
    ("device", "count", "wrong"),
    [
        ("cuda:2", 1, "there are 2 GPUs.*choose cuda:0 to cuda:1"),
        ("cuda:x", 1, "the device is unknown"),
        ("tpu", 1, "the device is unknown"),
        ("cuda:0", 2, "tensor_parallel asks for 2 GPUs"),
        ("cpu", 2, "tensor_parallel asks for 2 GPUs"),
    ],
)
def test_devices_that_are_not_there_are_refused(machine, device, count, wrong):
    machine(gpu(0), gpu(1))
    with pytest.raises(ModelError, match=f"(?i){wrong}"):
        check(QWEN, device=device, tensor_parallel=count)


def test_a_cpu_needs_no_gpu_and_takes_none(machine):
    machine(gpu(0))
    check(QWEN, device="cpu")
    with lease(QWEN, device="cpu") as none, lease(QWEN) as other:
        assert (none.gpus, none.visible_devices) == ((), "")
        assert other.visible_devices == "GPU-0"
    assert fit(QWEN, ()) == QWEN.vllm


def test_a_precision_that_the_weights_do_not_have_is_refused():
    with pytest.raises(ConfigError, match=r"its weights are bf16\. Leave .* auto, or choose nemotron-fp8"):
        check(CAPTION_VARIANTS["nemotron"], "fp8")


def test_nvfp4_before_blackwell_is_noted(machine, caplog):
    nvfp4 = CAPTION_VARIANTS["nemotron-nvfp4"]
    machine(gpu(0))
    with caplog.at_level(logging.WARNING, "caption_assets"), lease(nvfp4) as hopper:
        assert "no FP4 arithmetic" in hopper.notes[0]
        assert hopper.notes[0] in caplog.text
    machine(gpu(0, "B200", (10, 0), 180))
    with lease(nvfp4) as blackwell:
        assert blackwell.notes == ()


def test_vllm_is_told_what_the_gpu_has_room_for():
    assert fit(QWEN, [gpu(0)]) == QWEN.vllm
    small = fit(QWEN, [gpu(0, "RTX 4090", (8, 9), 24)])
    assert (small.max_model_len, small.max_num_batched_tokens, small.gpu_memory_utilization) == (16384, 16384, 0.85)
    shared = fit(QWEN, [gpu(0), gpu(1, free=70)])
    assert shared.gpu_memory_utilization == 0.49  # of 140 GiB, with half a GiB to spare
    assert shared.max_num_batched_tokens == 32768
    assert fit(QWEN, [gpu(0, free=40)], min_gib=30).max_num_batched_tokens == 16384
    assert fit(CAPTION_VARIANTS["nemotron"], [gpu(0, free=40)]).max_num_batched_tokens == 8192


@pytest.mark.parametrize(
    ("visible", "chosen"),
    [
        (None, [0, 1, 2]),
        ("", []),
        ("-1", []),
        ("2,0", [2, 0]),
        (" 1 , 2", [1, 2]),
        ("GPU-b", [1]),
        ("GPU-c1,GPU-a", [2, 0]),
        ("0,7,1", [0]),
        ("0,0", [0]),
        ("GPU-", []),
    ],
)
def test_cuda_visible_devices_decides_which_gpus_there_are(monkeypatch, visible, chosen):
    here = [("GPU-a", (9, 0)), ("GPU-b", (8, 0)), ("GPU-c1", (7, 5))]

    class NotSupported(Exception):
        pass

    def memory(k):
        if k == 2:
            raise NotSupported
        return SimpleNamespace(total=80 * GIB, free=79 * GIB)

    nvml = SimpleNamespace(
        NVMLError=Exception,
        NVMLError_NotSupported=NotSupported,
        nvmlInit=lambda: None,
        nvmlShutdown=lambda: None,
        nvmlDeviceGetCount=lambda: len(here),
        nvmlDeviceGetHandleByIndex=lambda k: k,
        nvmlDeviceGetUUID=lambda k: here[k][0],
        nvmlDeviceGetName=lambda k: f"card {k}",
        nvmlDeviceGetCudaComputeCapability=lambda k: here[k][1],
        nvmlDeviceGetMemoryInfo=memory,
    )
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = visible_gpus()
    assert [g.index for g in found] == chosen
    assert [g.ordinal for g in found] == list(range(len(chosen)))
    assert all(g.capability == here[g.index][1] and g.total_bytes > 0 for g in found)


def test_looking_at_gpus_initialises_no_cuda():
    code = """
import sys
from caption_assets.models.gpus import visible_gpus
for gpu in visible_gpus():
    print(gpu)
assert "torch" not in sys.modules
import torch
assert len(visible_gpus()) == 0 or not torch.cuda.is_initialized()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_real_gpus_are_those_that_torch_sees(monkeypatch):
    import torch

    found = visible_gpus()
    if not torch.cuda.is_available():
        assert found == ()
        return
    assert len(found) == torch.cuda.device_count()
    for g in found:
        theirs = torch.cuda.get_device_properties(g.ordinal)
        assert (theirs.major, theirs.minor) == g.capability
        assert g.uuid == f"GPU-{theirs.uuid}"
        assert 0 < g.free_bytes <= g.total_bytes


def test_everybody_may_use_the_lock_files(machine, tmp_path):
    machine(gpu(0))
    before = os.umask(0o077)
    try:
        lease(QWEN).close()
    finally:
        os.umask(before)
    folder = tmp_path / "leases"
    assert folder.stat().st_mode & 0o7777 == 0o1777
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o666}


def test_a_folder_that_cannot_be_used_is_one_clear_error(machine, tmp_path):
    machine(gpu(0))
    (tmp_path / "leases").write_text("a file")
    with pytest.raises(ModelError, match="CAPTION_ASSETS_GPU_LEASES"):
        lease(QWEN)


def test_who_waits_for_several_gpus_is_not_passed_by_those_that_want_one(process, tmp_path):
    first = process()
    assert printed(first)
    both, turn = process(count=2), tmp_path / "leases" / "turn.lock"
    while (free := try_lock(turn)) is not None:  # until it waits for the other one
        free.close()
        time.sleep(0.05)
    late = process()
    first.kill()  # one was free all the time, and now both are
    assert sorted(printed(both).split(",")) == ["GPU-0", "GPU-1"]
    assert late.poll() is None
    both.kill()
    assert printed(late) in ("GPU-0", "GPU-1")
