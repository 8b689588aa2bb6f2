"""What the width of Qwen2.5-VL's vision MLPs costs on a GPU: as published (3420), and padded to 3424 and to 3456, as
`caption_assets.models.engines.vllm.loader` does.

    python -m benchmarks.vision_mlp [--windows 5]

One block's MLP in bf16 on the patches of so many windows of 16 frames of 1036x588, timed by events on the device.
Needs an NVIDIA GPU, and no vLLM.
"""

import argparse
from collections.abc import Callable
from statistics import median

HIDDEN, BLOCKS = 1280, 32
PATCHES = 8 * 42 * 74  # of a window


def milliseconds(function: Callable[[], object], repeats: int = 30) -> list[float]:
    import torch

    for _ in range(5):
        function()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        function()
        end.record()
        end.synchronize()
        times.append(begin.elapsed_time(end))
    return sorted(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=5)
    windows = parser.parse_args().windows
    import torch
    import torch.nn.functional as F

    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}, {windows} windows of {PATCHES} patches")
    make = {"device": "cuda", "dtype": torch.bfloat16}
    x = torch.randn(windows * PATCHES, HIDDEN, **make)
    for width in (3420, 3424, 3456):
        up, down = torch.randn(2 * width, HIDDEN, **make) / 36, torch.randn(HIDDEN, width, **make) / 58
        up_bias, down_bias = torch.randn(2 * width, **make), torch.randn(HIDDEN, **make)
        wide = F.linear(x, up, up_bias)
        inner = F.silu(wide[:, :width]) * wide[:, width:]
        parts = {
            "up": milliseconds(lambda up=up, bias=up_bias: F.linear(x, up, bias)),
            "down": milliseconds(lambda inner=inner, down=down, bias=down_bias: F.linear(inner, down, bias)),
        }
        figures = ", ".join(f"{name} {median(t):.3f} ({t[0]:.3f} to {t[-1]:.3f}) ms" for name, t in parts.items())
        total = BLOCKS * sum(median(t) for t in parts.values()) / windows
        print(f"width {width}: {figures}; all {BLOCKS} blocks {total:.1f} ms a window")


if __name__ == "__main__":
    main()
