"""Packages that not everybody needs, by the extra of `pyproject.toml` that installs them."""

import gc
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from types import MappingProxyType

EXTRAS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "transformers": ("torch", "torchvision", "transformers", "xgrammar"),
        "vllm": ("vllm",),
        "demo": ("torch", "torchvision", "transformers", "xgrammar"),
        "s3": ("s3fs",),
        "ray": ("ray", "dagster_ray"),
        "postgres": ("dagster_postgres", "psycopg2"),
        "kubernetes": ("dagster_aws", "dagster_k8s", "dagster_postgres", "psycopg2", "s3fs"),
        "telemetry": (
            "opentelemetry.sdk",
            "opentelemetry.exporter.otlp.proto.http",
            "opentelemetry.exporter.prometheus",
        ),
    }
)
"""What each extra brings, by the names that are imported."""


def missing(extra: str) -> str:
    """What is wrong where an extra is not installed: names the package. Empty where it is."""
    absent = next((name for name in EXTRAS[extra] if not _is_there(name)), "")
    return f"{absent} is not installed" if absent else ""


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:  # a package that it would be in
        return False


def install(extra: str) -> str:
    """The command that installs an extra, as the remedy of an error."""
    return f"run pip install 'caption_assets[{extra}]'"


def check_url(url: str) -> None:
    """Raises ImportError, with the command, for a URL whose file system an extra brings that is not installed."""
    if url.startswith("s3://") and (wrong := missing("s3")):
        raise ImportError(f"{wrong}; {install('s3')}")


@contextmanager
def importing() -> Iterator[None]:
    """For imports of large packages. What they leave stays: looking through it for garbage, again and again, takes a
    quarter of their time."""
    collects = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collects:
            gc.enable()
