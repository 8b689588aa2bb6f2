"""What people see of a shard in the catalog and in plots.

All of it lands in the event log, with every shard of every run: at most 20 kB without pictures, and 60 kB with them.
"""

import base64
import json
import math
import re
import string
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote

import dagster as dg

from caption_assets.media.thumbnails import thumbnail
from caption_assets.names import is_remote
from caption_assets.review import paths as review_paths
from caption_assets.steps import ShardReport
from caption_assets.steps.choices import Choice
from caption_assets.steps.report import Sample
from caption_assets.store.store import Store
from caption_assets.store.tables import Table, columns

# Inline pictures land in the event log. The UI gives Markdown pictures no width, so they are scaled here.
_THUMBNAIL_HEIGHT = 96
_THUMBNAIL_BYTES = 7680
# Bytes of texts in an event, where each letter outside of ASCII takes six or twelve.
_TEXT_BYTES = 460
_ITEMS_BYTES = 3000
_MOST_NAMES = 10
_PUNCTUATION = re.compile(rf"[{re.escape(string.punctuation)}]")
_METAS = "metas/v0"


def choice_metadata(choice: Choice) -> dict[str, Any]:
    """What was to be made: of texts the keys, the model and the prompt, with its text; every setting that counts."""
    keys = dict(zip(("caption_key", "text_key"), choice.keys, strict=False))
    settings = {name: value for name, value in choice.settings.items() if name not in choice.words}
    return {**keys, **choice.words, "settings": dg.MetadataValue.json(settings)}


def column_schema(table: Table[Any]) -> dg.TableSchema:
    """The columns of a table, with their descriptions."""
    return dg.TableSchema(
        columns=[dg.TableColumn(c.name, str(c.type), description=c.description) for c in columns(table.row)]
    )


def report_metadata(report: ShardReport) -> dict[str, Any]:
    """Counts, failures by reason, output path, seconds and samples of one shard."""
    metadata: dict[str, Any] = {
        "clips": report.clips,
        "ok": report.ok,
        "failed": report.failed,
        "skipped": report.skipped,
        "reused": report.reused,
        "failures_by_reason": dg.MetadataValue.json(dict(report.failures)),
    }
    if report.failed_items:
        metadata["failed_items"] = dg.MetadataValue.md("\n".join(listed(report.failed_items)))
    if report.samples:
        metadata["samples"] = dg.MetadataValue.md(samples_table(report.samples))
    return metadata | {
        "seconds": round(report.seconds, 3),
        **report.figures,
        "output_table": dg.MetadataValue.path(report.location),
        "dagster/partition_row_count": report.rows,
        "dagster/uri": report.location,
    }


def place_metadata(store: Store, dataset: str, shard: str, served_at: str | None) -> dict[str, dg.MetadataValue]:
    """Where the clips and the documents are, and the page to look at the shard, where it has been made."""
    places = {"dataset_root": _place(dataset), "documents": _place(store.url(_METAS))}
    review = review_paths.page(shard)
    if store.sizes([review])[review] is not None:
        places["review_page"] = page_link(store, review, served_at)
    return places


def page_link(store: Store, page: str, served_at: str | None) -> dg.MetadataValue:
    """A page of the store, at the address where that is served, or else where it lies: from Dagster's pages, browsers
    open no files."""
    return dg.MetadataValue.url(f"{served_at.rstrip('/')}/{quote(page)}") if served_at else _place(store.url(page))


def _place(at: str) -> dg.MetadataValue:
    return dg.MetadataValue.url(at) if is_remote(at) else dg.MetadataValue.path(at)


def samples_table(samples: tuple[Sample, ...]) -> str:
    """Samples as a Markdown table, pictures first; columns that none of them has are left out. Confidence is shown as
    the probability of a token, from 0 to 1."""
    rows = [_cells(sample) for sample in samples]
    names = [name for name in rows[0] if any(row[name] for row in rows)]
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cells(sample: Sample) -> dict[str, str]:
    picture = sample.picture and data_url(sample.picture)
    likely = [f"{math.exp(logprob):.3f}" for logprob in sample.confidence or ()]
    return {
        "preview": f"![preview]({picture})" if picture else "",
        "clip": as_markdown(sample.clip, _TEXT_BYTES // 2),
        "frames": as_markdown(sample.window),
        "caption": as_markdown(sample.caption or ""),
        "enhanced": as_markdown(sample.enhanced or ""),
        "confidence: mean, lowest tenth": ", ".join(likely),
        "findings": as_markdown(", ".join(sample.findings), _TEXT_BYTES // 2),
    }


def listed(items: Sequence[str]) -> Iterator[str]:
    """Items as a Markdown list, as many as there is room for."""
    room = _ITEMS_BYTES
    for at, item in enumerate(items):
        line = f"- {as_markdown(item)}"
        room -= _event_bytes(line)
        if room < 0:
            yield f"- and {len(items) - at} more"
            return
        yield line


def few(names: Sequence[str]) -> str:
    """The first ten names, and how many more there are."""
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def data_url(webp: bytes) -> str | None:
    """A thumbnail of a preview, for Markdown; None where it does not fit, or is no WebP."""
    small = thumbnail(webp, _THUMBNAIL_HEIGHT, _THUMBNAIL_BYTES)
    return None if small is None else "data:image/webp;base64," + base64.b64encode(small).decode()


def as_markdown(text: str, most_bytes: int = _TEXT_BYTES) -> str:
    """Text from elsewhere (names, what servers say) as Markdown that shows it letter for letter, in one line.

    Every punctuation mark is escaped: links, pictures, tags and addresses that are made links all need some. Of a long
    text, the beginning, so that an event has at most so many bytes of it.
    """
    words = " ".join(text.split())
    shown = _PUNCTUATION.sub(r"\\\g<0>", words)
    while _event_bytes(shown) > most_bytes:
        words = words[: min(most_bytes, len(words) * 9 // 10)]
        shown = _PUNCTUATION.sub(r"\\\g<0>", words) + "…"
    return shown


def _event_bytes(text: str) -> int:
    return len(json.dumps(text))
