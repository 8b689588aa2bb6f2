"""The reference page: every setting, column and rule, written from where they are declared. docs/reference.md is it."""

from collections.abc import Iterator
from dataclasses import MISSING
from typing import Any

from pydantic.fields import FieldInfo

from caption_assets.models.variants import CAPTION_VARIANTS, TEXT_VARIANTS
from caption_assets.quality import describe_rules
from caption_assets.settings import (
    ALL_SETTINGS,
    ExportSettings,
    Settings,
    choices_of,
    flags_of,
    is_shared,
    variables_of,
)
from caption_assets.settings.environment import deployment_variables
from caption_assets.store.tables import FINDING_TABLES, REVIEW_TABLES, RUN_COSTS, TABLES, Table, columns

_HEAD = """# Reference

Written by `caption-assets reference` from the declarations in the code.

## Settings

A setting has one name in Dagster (of the asset's config, or of the resource), one flag and one environment variable.
The variables give a Dagster deployment's defaults and are read when the code location loads; the command line takes
flags.
"""


_ABOUT_DEPLOYMENTS = (
    "What is no setting of a single step: [dagster.md](dagster.md#settings) has an example of the file."
)
_ABOUT_TABLES = (
    "One row a window; a clip without a window has one row whose frames are null. Of verdicts and comparisons, one row "
    "each, in `<shard>.parts/` only."
)
_PLACES = (
    *(f"Asset `{name}`" for name in TABLES),
    *(f"Resource `{name}`" for name in ("caption_model", "text_model", "quality", "checks", "workers", "clips")),
)


def reference() -> str:
    """The page as Markdown."""
    return "\n".join([_HEAD, *_settings(), *_models(), *_tables(), *_rules()])


def _settings() -> Iterator[str]:
    yield from ("### A deployment", "", _ABOUT_DEPLOYMENTS, "")
    yield from ("| variable | in the file | default | |", "|---|---|---|---|")
    for variable, named, default, words in deployment_variables():
        yield f"| `{variable}` | {f'`{named}`' if named else ''} | {_default(default)} | {words} |"
    yield ""
    classes: tuple[type[Settings], ...] = (*ALL_SETTINGS, ExportSettings)
    for place, settings in zip((*_PLACES, "Command `export`, and `exports` of a deployment"), classes, strict=True):
        yield from (f"### {place}", "", " ".join((settings.__doc__ or "").split()), "")
        yield from ("| setting | flag, variable | default | |", "|---|---|---|---|")
        flags, variables = flags_of(settings), variables_of(settings)
        for name, field in settings.model_fields.items():
            how = f"`{flags[name]}`<br>`{variables[name][0]}`"
            yield f"| `{name}` | {how} | {_default(field.default)} | {_words(field)} |"
        yield ""


def _models() -> Iterator[str]:
    about = "Least memory is of one GPU, in GiB, and computed: the weights, the encoder and 4 GiB of key-value cache."
    yield from (
        "## Models",
        "",
        about,
        "",
        "| variant | checkpoint | licence | precision | memory |",
        "|---|---|---|---|---|",
    )
    texts = {f"{name} (text)": row for name, row in TEXT_VARIANTS.items()}
    for name, row in {**CAPTION_VARIANTS, **texts}.items():
        memory = f"{row.min_gpu_gib}" + f", {row.fp8_min_gpu_gib} in FP8 on load" * (row.fp8_min_gpu_gib is not None)
        weights = f"{row.model_id}@{row.revision}".removesuffix("@")
        yield f"| `{name}` | {weights} | {row.licence} | {row.precision} | {memory}{' (measured)' * row.is_measured} |"
    yield ""


def _words(field: FieldInfo) -> str:
    words = (field.description or "").replace("|", "\\|")
    if choices := choices_of(field):
        words += f" One of {', '.join(f'`{choice}`' for choice in choices)}."
    if bounds := ", ".join(_bound(bound) for bound in field.metadata if _bound(bound)):
        words += f" {bounds[0].upper()}{bounds[1:]}."
    return words + (" Of both models." if is_shared(field) else "")


def _bound(bound: Any) -> str:
    names = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words} {getattr(bound, name)}" for name, words in names.items() if hasattr(bound, name))


def _default(value: Any) -> str:
    return "" if value in (None, {}) else f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _tables() -> Iterator[str]:
    yield from ("## Tables", "", _ABOUT_TABLES, "")
    for table in (*TABLES.values(), *FINDING_TABLES, *REVIEW_TABLES, RUN_COSTS):
        place = "/".join(
            [
                "tables",
                table.name,
                *([table.key_form] if table.key_form else []),
                "<run>.parquet" if table is RUN_COSTS else "<shard>.parquet",
            ]
        )
        yield from (f"### {table}", "", f"`{place}`. {_first_line(table)}", "")
        yield from ("| column | type | default | |", "|---|---|---|---|")
        for column in columns(table.row):
            default = "" if column.default in (MISSING, None, "", ()) else f"`{column.default}`"
            yield f"| `{column.name}` | {column.type} | {default} | {column.description} |"
        yield ""


def _rules() -> Iterator[str]:
    yield from ("## Rules", "", "What they find, and how much that weighs unless `severities` says otherwise.", "")
    yield from ("| rule | severity | |", "|---|---|---|")
    yield from (f"| `{name}` | {severity} | {about} |" for name, severity, about in describe_rules())
    yield ""


def _first_line(table: Table[Any]) -> str:
    return (table.row.__doc__ or "").strip().splitlines()[0]
