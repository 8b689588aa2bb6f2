"""The machine's NVIDIA GPUs: what they are, which variants they can run, and who uses which.

Nothing here initialises CUDA in this process: from then on CUDA_VISIBLE_DEVICES would no longer count.
"""

import logging
import math
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

from caption_assets.errors import ModelError
from caption_assets.models.locks import FileLock, holder, try_lock, wait_lock
from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS, Variant, VllmOptions
from caption_assets.models.waits import waiting
from caption_assets.settings import AskedPrecision

log = logging.getLogger(__name__)

LEASES_VARIABLE = "CAPTION_ASSETS_GPU_LEASES"
LEASES = Path(os.environ.get(LEASES_VARIABLE) or "/tmp/caption_assets-gpus")
"""The folder of lock files: one for all users and processes of the machine, so it does not follow TMPDIR."""

NO_LEASES = "none"
"""The value of that variable by which GPUs are handed out by somebody else, such as Ray: all visible ones are ours."""

_GIB = 1 << 30
_POLL_S = 0.5
# Processes that have just ended may take this long to give their GPU memory back.
_GRACE_S = 15.0
_FP4_CAPABILITY = (10, 0)  # FP4 arithmetic came with Blackwell
_TIGHT_TOKENS = 16384
_MARGIN_GIB = 0.5


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU that this process may use. `ordinal` is its place among them (torch's cuda:<ordinal>), `index` its
    number in nvidia-smi; `free_bytes` was free when it was looked at.
    """

    ordinal: int
    index: int
    uuid: str
    name: str
    capability: tuple[int, int]
    total_bytes: int
    free_bytes: int

    def __str__(self) -> str:
        memory = f"{self.free_bytes / _GIB:.1f} of {self.total_bytes / _GIB:.1f} GiB free"
        return f"cuda:{self.ordinal} ({self.name}, compute capability {_dotted(self.capability)}, {memory})"


@dataclass(slots=True)
class GpuLease:
    """GPUs that are this process's until `close`, or until it ends; `since` a time of `time.monotonic`. `notes` are
    sentences for the metadata."""

    gpus: tuple[Gpu, ...]
    notes: tuple[str, ...] = ()
    _locks: ExitStack = field(default_factory=ExitStack, repr=False)
    since: float = field(default_factory=time.monotonic)

    @property
    def visible_devices(self) -> str:
        """CUDA_VISIBLE_DEVICES for a process that is to see these GPUs and no other."""
        return ",".join(gpu.uuid for gpu in self.gpus)

    def close(self) -> None:
        """Gives the GPUs back. May be called more than once."""
        self._locks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def visible_gpus() -> tuple[Gpu, ...]:
    """The GPUs that CUDA_VISIBLE_DEVICES leaves to this process, in its order; none where there is no driver.

    Numbers in that variable are nvidia-smi's. MIG slices are not known here.
    """
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return ()
    try:
        gpus = [_read(pynvml, index) for index in range(pynvml.nvmlDeviceGetCount())]
    finally:
        pynvml.nvmlShutdown()
    chosen = _chosen(gpus, os.environ.get("CUDA_VISIBLE_DEVICES"))
    return tuple(replace(gpu, ordinal=ordinal) for ordinal, gpu in enumerate(chosen))


def require_device(device: str) -> None:
    """Raises ModelError for an NVIDIA GPU that is not here. Loads nothing."""
    kind, _, number = device.partition(":")
    if kind != "cuda":
        return
    gpus = visible_gpus()
    if not gpus:
        raise ModelError(f"device {device!r}", "there is no usable NVIDIA GPU here", "choose device cpu or auto")
    if number and (not number.isdecimal() or int(number) >= len(gpus)):
        fix = f"choose cuda:0 to cuda:{len(gpus) - 1}"
        raise ModelError(f"device {device!r}", f"there are {len(gpus)} GPUs: {_list(gpus)}", fix)


def check(
    variant: Variant,
    precision: AskedPrecision = "auto",
    *,
    device: str = "auto",
    tensor_parallel: int = 1,
    min_gib: float | None = None,
) -> None:
    """Raises ModelError where no GPU of `device` can ever run `variant`: none there, too old, or too small.

    `device` is "auto" or "cuda" for any, "cuda:<n>" for one, "cpu" for none. `tensor_parallel` GPUs share the memory
    need, which is `min_gib` where given, else the variant's. What other programs use at the moment does not count here.
    """
    need = _Need(variant, precision, device, tensor_parallel, min_gib)
    if device != "cpu":
        need.fitting(visible_gpus())


def fitting_gpus(
    variant: Variant, precision: AskedPrecision, gpus: Sequence[Gpu], tensor_parallel: int = 1
) -> Sequence[Gpu]:
    """Those of `gpus` that can run `variant`; arguments as for `check`. Raises ModelError where they are too few."""
    return _Need(variant, precision, "cuda", tensor_parallel, None).fitting(gpus)


def lease(
    variant: Variant,
    precision: AskedPrecision = "auto",
    *,
    device: str = "auto",
    tensor_parallel: int = 1,
    min_gib: float | None = None,
) -> GpuLease:
    """`tensor_parallel` GPUs to run `variant` on. Arguments as for `check`.

    Where no GPU is named, the free ones with the most free memory are taken, all at once, and nobody else gets them;
    while too many are leased this waits. Who waits for several goes first: nobody takes them one by one. A GPU that is
    named is used at once, leased or not, since whoever names one decides: it is shared with others that name it, and
    kept from those that do not. Raises ModelError as `check`, and where other programs leave too little memory.
    """
    need = _Need(variant, precision, device, tensor_parallel, min_gib)
    if device == "cpu":
        return GpuLease(())
    # Torch and CUDA are to count GPUs as NVML does, on machines with different ones too.
    os.environ.setdefault("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    what, deadline = f"{need.count} GPU{'s'[: need.count > 1]} for {variant.name}", None
    said = ""
    with waiting(lambda: said or what), _Turn() as turn:
        while True:
            gpus = visible_gpus()
            fitting = need.fitting(gpus)
            taken, leased = _handed_out(need, fitting) if _no_leases() else _take(need, fitting, turn)
            if taken is not None:
                for note in taken.notes:
                    log.warning("%s", note)
                return taken
            ready = [gpu for gpu in fitting if gpu not in leased and need.has_room(gpu)]
            if len(leased) + len(ready) >= need.count:
                deadline = None
                whose = ", ".join(f"cuda:{gpu.ordinal} is used by {holder(_file(gpu))}" for gpu in leased)
                if not said:
                    log.warning("Waiting for %s: %s.", what, whose)
                said = f"{what} ({whose})"
            elif deadline is None:
                deadline = time.monotonic() + _GRACE_S
            elif time.monotonic() > deadline:
                raise need.refusal(gpus, f"{_list(gpu for gpu in fitting)}: other programs use the rest", free=True)
            time.sleep(_POLL_S)


def fit(variant: Variant, gpus: Sequence[Gpu], min_gib: float | None = None) -> VllmOptions:
    """The variant's vLLM options on these GPUs.

    vLLM does not start where less is free than `gpu_memory_utilization` says, so that is lowered to what is free. On
    a GPU with little more memory than the variant needs, shorter batches leave room for the key-value cache.
    """
    if not gpus:
        return variant.vllm
    free = min((gpu.free_bytes - _MARGIN_GIB * _GIB) / gpu.total_bytes for gpu in gpus)
    share = min(variant.vllm.gpu_memory_utilization, math.floor(free * 100) / 100)
    options = replace(variant.vllm, gpu_memory_utilization=share)
    need = (variant.min_gpu_gib if min_gib is None else min_gib) / len(gpus)
    if share * min(gpu.total_bytes for gpu in gpus) >= 1.5 * need * _GIB:
        return options
    tokens = min(options.max_model_len, _TIGHT_TOKENS)
    batch = min(options.max_num_batched_tokens, tokens)
    return replace(options, max_model_len=tokens, max_num_batched_tokens=batch)


class _Need:
    """What is asked for, and the words to refuse it in."""

    def __init__(
        self, variant: Variant, precision: AskedPrecision, device: str, tensor_parallel: int, min_gib: float | None
    ) -> None:
        self.variant = variant.in_precision(precision)
        self.device, self.count = device, tensor_parallel
        self.gib = (self.variant.min_gpu_gib if min_gib is None else min_gib) / tensor_parallel
        self.named = self._ordinal()

    def fitting(self, gpus: Sequence[Gpu]) -> list[Gpu]:
        """Those of `gpus` that could run it if nothing else did, the most free memory first. Raises ModelError."""
        if not gpus:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            here = "no NVIDIA GPU here" if visible is None else f"no NVIDIA GPU with CUDA_VISIBLE_DEVICES={visible!r}"
            fix = "run it where there is one, take engine openai and a server that has one, or choose device cpu"
            raise ModelError(self._asked, f"there is {here}", f"{fix} and variant demo")
        if self.named is not None and self.named >= len(gpus):
            fix = f"choose cuda:0 to cuda:{len(gpus) - 1}, or cuda for any"
            raise ModelError(self._asked, f"there are {len(gpus)} GPUs: {_list(gpus)}", fix)
        candidates = gpus if self.named is None else [gpus[self.named]]
        fitting = [gpu for gpu in candidates if _fits(self.variant, self.gib, gpu, gpu.total_bytes)]
        if len(fitting) < self.count:
            raise self.refusal(gpus, f"there is {_list(candidates)}")
        return sorted(fitting, key=lambda gpu: -gpu.free_bytes)

    def has_room(self, gpu: Gpu) -> bool:
        return _fits(self.variant, self.gib, gpu, gpu.free_bytes)

    def refusal(self, gpus: Sequence[Gpu], there_is: str, *, free: bool = False) -> ModelError:
        """`free` says that a lack of free memory is the reason."""
        table = TEXT_VARIANTS if self.variant.is_text else CAPTION_VARIANTS
        precisions: tuple[AskedPrecision, ...] = ("auto", "fp8")
        fits = [
            f"{name} in fp8" if precision == "fp8" else name
            for name, row in table.items()
            for precision in precisions
            if precision == "auto" or row.fp8_min_gpu_gib is not None
            for variant in [row.in_precision(precision)]
            if any(_fits(variant, variant.min_gpu_gib, g, g.free_bytes if free else g.total_bytes) for g in gpus)
        ]
        fix = f"choose what fits ({', '.join(fits) or 'none does'}), or spread it over several GPUs (tensor_parallel)"
        return ModelError(
            self._asked,
            f"it needs {self.count} GPU{'s'[: self.count > 1]} with {self.gib:.0f} GiB of {'free ' * free}memory "
            f"and compute capability {_dotted(self.variant.min_capability)}, and {there_is}",
            f"end those programs, or {fix}" if free else fix,
        )

    @property
    def _asked(self) -> str:
        return f"variant {self.variant.name!r} ({self.variant.precision}) on device {self.device!r}"

    def _ordinal(self) -> int | None:
        kind, _, number = self.device.partition(":")
        if self.device == "cpu" and self.count > 1:
            raise ModelError(self._asked, f"tensor_parallel asks for {self.count} GPUs", "leave it at 1 on a CPU")
        if self.device in ("auto", "cuda", "cpu"):
            return None
        if kind != "cuda" or not number.isdecimal():
            raise ModelError(self._asked, "the device is unknown", "choose auto, cpu, cuda or cuda:<n>")
        if self.count > 1:
            fix = "choose device cuda, and bound the choice with CUDA_VISIBLE_DEVICES if need be"
            raise ModelError(self._asked, f"tensor_parallel asks for {self.count} GPUs", fix)
        return int(number)


class _Turn:
    """The right to take GPUs that nobody has named. Whoever waits for several keeps it, and others wait behind."""

    def __init__(self) -> None:
        self._held: FileLock | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.give_up()

    def is_mine(self) -> bool:
        self._held = self._held or try_lock(LEASES / "turn.lock")
        return self._held is not None

    def give_up(self) -> None:
        if self._held is not None:
            self._held.close()
        self._held = None


def _no_leases() -> bool:
    return os.environ.get(LEASES_VARIABLE) == NO_LEASES


def _handed_out(need: _Need, fitting: Sequence[Gpu]) -> tuple[GpuLease | None, list[Gpu]]:
    """The first of `fitting` with room, or None if they are too few."""
    ready = [gpu for gpu in fitting if need.has_room(gpu)][: need.count]
    if len(ready) < need.count:
        return None, []
    gpus = tuple(sorted(ready, key=lambda gpu: gpu.ordinal))
    return GpuLease(gpus, tuple(_notes(need.variant, fitting))), []


def _take(need: _Need, fitting: Sequence[Gpu], turn: _Turn) -> tuple[GpuLease | None, list[Gpu]]:
    """A lease on the first of `fitting` with room, or None if they are too few; and those that others have leased, or
    are to have first."""
    taken: list[Gpu] = []
    leased: list[Gpu] = []
    notes = _notes(need.variant, fitting)
    try:
        _make_folder()
        # One at a time: of two that need several GPUs each, one gets all of its own.
        with ExitStack() as locks, wait_lock(LEASES / "taking.lock"):
            if need.named is None and not turn.is_mine():
                return None, list(fitting)
            for gpu in fitting:
                held = try_lock(_file(gpu), shared=need.named is not None)
                if held is None and need.named is None:
                    leased.append(gpu)
                elif len(taken) < need.count and need.has_room(gpu):
                    taken.append(gpu)
                    if held is None:
                        notes.append(f"cuda:{gpu.ordinal} was also used by {holder(_file(gpu))}.")
                    else:
                        locks.enter_context(held)
                elif held is not None:
                    held.close()
            if len(taken) < need.count:
                if need.count == 1:
                    turn.give_up()
                return None, leased
            gpus = tuple(sorted(taken, key=lambda gpu: gpu.ordinal))
            return GpuLease(gpus, tuple(notes), locks.pop_all()), leased
    except OSError as error:
        fix = "set CAPTION_ASSETS_GPU_LEASES to a folder that everybody who uses these GPUs can write to"
        raise ModelError(f"a GPU leased in {LEASES}", f"lock files cannot be used there ({error})", fix) from error


def _make_folder() -> None:
    if not LEASES.is_dir():
        LEASES.mkdir(parents=True, exist_ok=True)
        LEASES.chmod(0o1777)  # as /tmp: everybody makes files here, and nobody removes another's


def _file(gpu: Gpu) -> Path:
    return LEASES / f"{gpu.uuid}.lock"


def _fits(variant: Variant, gib: float, gpu: Gpu, num_bytes: int) -> bool:
    return gpu.capability >= variant.min_capability and num_bytes >= gib * _GIB


def _notes(variant: Variant, gpus: Sequence[Gpu]) -> list[str]:
    if variant.precision != "nvfp4" or all(gpu.capability >= _FP4_CAPABILITY for gpu in gpus):
        return []
    return [
        f"{gpus[0].name} has no FP4 arithmetic: the NVFP4 weights of {variant.name} save memory here and cost "
        "time, since they are unpacked and multiplied in 16 bits; nemotron-fp8 is faster."
    ]


def _read(pynvml: Any, index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    try:
        memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
        total, free = memory.total, memory.free
    except pynvml.NVMLError_NotSupported:  # such a GPU has no memory of its own but the machine's
        total = free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    uuid, name = pynvml.nvmlDeviceGetUUID(handle), pynvml.nvmlDeviceGetName(handle)
    capability = tuple(pynvml.nvmlDeviceGetCudaComputeCapability(handle))
    return Gpu(index, index, uuid, name, capability, total, free)


def _chosen(gpus: Sequence[Gpu], visible: str | None) -> list[Gpu]:
    """The GPUs that a value of CUDA_VISIBLE_DEVICES names: like CUDA, up to the first that is not there."""
    if visible is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for entry in visible.split(","):
        entry = entry.strip()
        named = [g for g in gpus if (str(g.index) == entry or (entry.startswith("GPU-") and g.uuid.startswith(entry)))]
        if len(named) != 1 or named[0] in chosen:
            break
        chosen += named
    return chosen


def _list(gpus: Iterable[Gpu]) -> str:
    return ", ".join(map(str, gpus))


def _dotted(capability: tuple[int, int]) -> str:
    return ".".join(map(str, capability))
