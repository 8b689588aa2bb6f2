"""How many engines of a model may run at once, and on which GPUs."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.gpus import Gpu, fitting_gpus, visible_gpus
from caption_assets.models.variants import Variant
from caption_assets.settings import AskedPrecision


@dataclass(frozen=True, slots=True)
class Seats:
    """Room for `count` engines; `environment` are the variables that a process with one of several needs."""

    count: int = 1
    environment: Mapping[str, str] = field(default_factory=dict)


def seats(
    asked: str | None, variant: Variant, precision: AskedPrecision, device: str, tensor_parallel: int, cores: int
) -> Seats:
    """What `asked` means here: None for one engine, "all", a number of GPUs, or their numbers ("0,2").

    Each engine leases `tensor_parallel` GPUs of its own. Without GPUs, a number of engines share the CPU's
    `cores`, and have at least one each. Raises ConfigError for what cannot be meant, ModelError for GPUs and cores that
    are not here.
    """
    number, numbers = read_gpus(asked)
    if asked is None or device.startswith("cuda:"):
        if number != 1 and asked not in (None, "all"):
            raise ConfigError(f"gpus {asked!r} and device {device!r}", "they name different GPUs", "give one of them")
        return Seats()
    gpus = () if device == "cpu" else visible_gpus()
    if not gpus:
        if numbers:
            raise ModelError(f"gpus {asked!r}", "there is no NVIDIA GPU here", "give a number of engines, or nothing")
        if (number or 1) > cores:
            wrong = f"there is no GPU to be used, and {cores} cores for engines on the CPU"
            raise ModelError(f"gpus {asked!r}", wrong, f"give at most {cores}, or nothing for one engine")
        threads = os.environ.get("OMP_NUM_THREADS") or max(1, cores // (number or 1))
        return Seats(number or 1, {"OMP_NUM_THREADS": str(threads)})
    chosen = _chosen(asked, numbers, gpus)
    usable = fitting_gpus(variant, precision, chosen, tensor_parallel)
    most = len(usable) // tensor_parallel
    wanted = most if number is None else number // tensor_parallel
    if wanted > most or not wanted:
        each = f", {tensor_parallel} for each engine" if tensor_parallel > 1 else ""
        wrong = f"there are {len(usable)} that can run {variant.name}{each}"
        raise ModelError(f"gpus {asked!r}", wrong, "give fewer, or all" if wanted else "give more, or all")
    if numbers or "CUDA_VISIBLE_DEVICES" in os.environ:
        return Seats(wanted, {"CUDA_VISIBLE_DEVICES": ",".join(gpu.uuid for gpu in chosen)})
    return Seats(wanted)


def read_gpus(asked: str | None) -> tuple[int | None, list[int]]:
    """The number of GPUs that is asked for, None for as many as there are, or the numbers that they have. Raises
    ConfigError."""
    text = (asked or "all").replace(" ", "")
    parts = text.split(",")
    if text == "all":
        return None, []
    if len(parts) > 1 and all(part.isdecimal() for part in parts) and len(set(map(int, parts))) == len(parts):
        return None, [int(part) for part in parts]
    if text.isdecimal() and int(text):
        return int(text), []
    fix = "give all, how many (4), or which (0,2); one alone is chosen by device cuda:<n>"
    raise ConfigError(f"gpus {asked!r}", "it is neither a number of GPUs nor a list of them", fix)


def _chosen(asked: str | None, numbers: Sequence[int], gpus: Sequence[Gpu]) -> Sequence[Gpu]:
    if missing := [number for number in numbers if number >= len(gpus)]:
        fix = f"choose among 0 to {len(gpus) - 1}"
        raise ModelError(f"gpus {asked!r}", f"there is no GPU {missing[0]}: {', '.join(map(str, gpus))}", fix)
    return [gpus[number] for number in numbers] or gpus
