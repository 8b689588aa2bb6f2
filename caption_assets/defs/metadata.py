"""A shard's report as Dagster metadata: what people see in the catalog and in plots over time."""

import base64
import io
from collections.abc import Mapping
from typing import Any

import dagster as dg

from caption_assets.steps.report import ShardReport
from caption_assets.store.tables import TABLES, columns

# Inline pictures land in the event log. The UI gives Markdown pictures no width, so they are scaled here.
_THUMBNAIL_HEIGHT = 96
_THUMBNAIL_BYTES = 24 * 1024
_SHOWN_TEXT = 600


def column_schema(asset: Any) -> dg.TableSchema:
    """The columns of an asset's table, with their descriptions."""
    return dg.TableSchema(
        columns=[dg.TableColumn(c.name, str(c.type), description=c.description) for c in columns(TABLES[asset].row)]
    )


def report_metadata(report: ShardReport) -> dict[str, Any]:
    """Counts, failures by reason, output path, seconds, samples and thumbnails of one shard."""
    metadata: dict[str, Any] = {
        "clips": report.clips,
        "ok": report.ok,
        "failed": report.failed,
        "skipped": report.skipped,
        "reused": report.reused,
        "failures_by_reason": dg.MetadataValue.json(dict(report.failures)),
    }
    if report.failed_items:
        metadata["failed_items"] = dg.MetadataValue.md("\n".join(f"- {_plain(item)}" for item in report.failed_items))
    if report.samples:
        metadata["sample_captions"] = dg.MetadataValue.table(
            [
                dg.TableRecord({"clip": s.clip, "window": s.window, "caption": s.text[:_SHOWN_TEXT]})
                for s in report.samples
            ],
            schema=dg.TableSchema(
                columns=[dg.TableColumn("clip"), dg.TableColumn("window"), dg.TableColumn("caption")]
            ),
        )
    pictures = [picture for data in report.thumbnails if (picture := thumbnail(data))]
    if pictures:
        metadata["previews"] = dg.MetadataValue.md(" ".join(f"![preview]({picture})" for picture in pictures))
    return metadata | {
        "seconds": round(report.seconds, 3),
        **report.figures,
        "output_table": dg.MetadataValue.path(report.table),
        "dagster/partition_row_count": report.rows,
        "dagster/uri": report.table,
        "dagster/column_schema": column_schema(report.asset),
    }


def thumbnail(webp: bytes) -> str | None:
    """A small animated WebP as a data URL of at most 24 KiB of picture; None where it does not fit."""
    from PIL import Image, ImageSequence

    picture = Image.open(io.BytesIO(webp))
    height = min(_THUMBNAIL_HEIGHT, picture.height)
    size = (max(1, round(picture.width * height / picture.height)), height)
    frames = [frame.convert("RGB").resize(size) for frame in ImageSequence.Iterator(picture)]
    while frames:
        buffer = io.BytesIO()
        duration = int(picture.info.get("duration") or 1000)
        frames[0].save(
            buffer, "WEBP", save_all=True, append_images=frames[1:], duration=duration, loop=0, quality=40, method=4
        )
        if buffer.tell() <= _THUMBNAIL_BYTES:
            return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
        frames = frames[: len(frames) // 2]
    return None


def versions(code_version: str | None) -> Mapping[str, str]:
    """Tags that give an event logged by hand the code version that Dagster gives its own."""
    return {"dagster/code_version": code_version} if code_version else {}


def _plain(text: str) -> str:
    return " ".join(text.split())[:_SHOWN_TEXT]
