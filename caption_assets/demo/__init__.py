"""The demo world and the two small models that know it.

Here: the synthetic scenes that the demo renders (`world`, `draw`), the true sentences about them (`facts`), and the
checkpoints that were trained on that world. Not here: how they were trained (`training/` beside the package), and
the engines that run them.
"""

from pathlib import Path

CHECKPOINTS = ("demo", "demo_lm")


def checkpoint(name: str) -> Path:
    """Folder of a shipped checkpoint in Hugging Face's format: "demo" captions videos, "demo_lm" rewrites captions.

    Raises ValueError for another name.
    """
    if name not in CHECKPOINTS:
        raise ValueError(f"there is no demo checkpoint {name!r}; choose one of {', '.join(CHECKPOINTS)}")
    return Path(__file__).parent / "checkpoints" / name
