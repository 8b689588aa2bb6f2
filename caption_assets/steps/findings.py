"""What the rules have against a shard's texts, kept beside them; judged anew where texts, settings or rules change."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import Any

from caption_assets.models.confidence import Confidence
from caption_assets.quality import VERSION, Finding, Judged, judge, worst
from caption_assets.records import text_hash
from caption_assets.save_export.rendered import outdate_rendered
from caption_assets.settings import QualitySettings
from caption_assets.steps.context import StepContext
from caption_assets.store.rows import CaptionRow, EnhancedFindingRow, EnhancedRow, FindingRow
from caption_assets.store.tables import CAPTION_FINDINGS, ENHANCED_FINDINGS, Table

JudgedRow = tuple[CaptionRow | EnhancedRow, Judged]
"""A row with a text, and that text as the rules see it."""


def judged(
    row: CaptionRow | EnhancedRow, *, clip: str, prompt: str, caption: str | None = None, is_json: bool = False
) -> JudgedRow:
    """The text of a good row; `clip` is its clip as people know it, `caption` what it was made of, if of one."""
    scores = {field.name: getattr(row, field.name) for field in fields(Confidence)}
    known = {name: score for name, score in scores.items() if score is not None}
    window = f"{row.start_frame}_{row.end_frame}"
    return row, Judged(row.text or "", prompt, clip, window, row.finish_reason, caption, known, is_json)


def keep_findings(context: StepContext, shard: str, texts: Sequence[JudgedRow]) -> list[FindingRow]:
    """Judges a shard's texts of one table, all of them, and stores a row for each. Raises StoreError.

    Nothing is done where they were judged just so before.
    """
    if not texts:
        return []
    enhanced = isinstance(texts[0][0], EnhancedRow)
    table: Table[Any] = ENHANCED_FINDINGS if enhanced else CAPTION_FINDINGS
    fingerprint = _fingerprint(texts, context.quality)
    key = table.key_of(texts[0][0])
    before = context.store.read_committed(table, shard, key)
    if len(before) == len(texts) and {row.fingerprint for row in before} == {fingerprint}:
        return before
    found = judge([text for _, text in texts], context.quality)
    rows = [_row(row, findings, fingerprint) for (row, _), findings in zip(texts, found, strict=True)]
    outdate_rendered(context.store, shard)
    context.store.commit_rows(table, shard, rows, key)
    return rows


def findings_figures(rows: Sequence[FindingRow]) -> dict[str, int | str]:
    """How many texts have findings, how many of them an error, and how often each rule found something."""
    counts = Counter(rule for row in rows for rule in row.rules)
    figures: dict[str, int | str] = {
        "texts_with_findings": sum(bool(row.rules) for row in rows),
        "texts_flagged": sum(row.severity == "error" for row in rows),
    }
    if counts:
        figures["findings"] = ", ".join(f"{rule} {count}" for rule, count in counts.most_common())
    return figures


def flagged(row: CaptionRow, findings: Mapping[tuple[str, int, int], FindingRow]) -> str:
    """Why a caption is of no use, by a finding of severity error; empty where none is known of this text."""
    found = findings.get((row.clip_id, row.start_frame, row.end_frame))
    if found is None or found.severity != "error" or found.text_hash != text_hash(row.text or ""):
        return ""
    return f"{found.rules[0]}: {found.messages[0]}"


def _row(row: CaptionRow | EnhancedRow, findings: Sequence[Finding], fingerprint: str) -> FindingRow:
    values: dict[str, Any] = {
        "key": row.key,
        "clip_id": row.clip_id,
        "start_frame": row.start_frame,
        "end_frame": row.end_frame,
        "text_hash": text_hash(row.text or ""),
        "severity": worst(findings),
        "rules": tuple(finding.rule for finding in findings),
        "severities": tuple(finding.severity for finding in findings),
        "messages": tuple(finding.message for finding in findings),
        "fingerprint": fingerprint,
    }
    if isinstance(row, EnhancedRow):
        return EnhancedFindingRow(caption_key=row.caption_key, **values)
    return FindingRow(**values)


def _fingerprint(texts: Sequence[JudgedRow], settings: QualitySettings) -> str:
    said = [[text.clip, text.window, text.text, text.caption, text.finish_reason, text.confidence] for _, text in texts]
    return text_hash(json.dumps([VERSION, settings.model_dump(), texts[0][1].prompt, said]))
