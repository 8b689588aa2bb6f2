"""Which windows are shown: some from all over a shard, and the worst first."""

import pytest

from caption_assets.steps.samples import preview_samples, spread, text_samples
from caption_assets.store import Store
from caption_assets.store.rows import CaptionRow, PreviewRow


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path)


def captions(count, **scores):
    """Captions of clips c00, c01, …; `scores` by clip."""
    rows = []
    for k in range(count):
        clip, score = f"c{k:02}", scores.get(f"c{k:02}")
        rows.append(
            CaptionRow(
                key="k", clip_id=clip, start_frame=0, end_frame=9, text=clip, mean_logprob=score, low_logprob=score
            )
        )
    return rows


def shown(store, rows, **more):
    return [
        sample.caption
        for sample in text_samples(
            store, rows, more.pop("findings", {}), clip_of=lambda row: f"{row.clip_id}.mp4", **more
        )
    ]


def test_a_few_are_taken_from_all_over():
    assert spread(range(100), 4) == [12, 37, 62, 87]
    assert spread(range(3), 8) == [0, 1, 2]
    assert spread([], 8) == []


def test_without_findings_and_scores_the_samples_are_from_all_over_the_shard(store):
    assert shown(store, captions(80)) == ["c05", "c15", "c25", "c35", "c45", "c55", "c65", "c75"]


def test_the_worst_come_first_by_findings_and_then_by_confidence(store):
    scores = {f"c{k:02}": -0.01 * k for k in range(80)} | {"c07": -9.0, "c33": -5.0}
    findings = {("c50", 0, 9): ("repetition",), ("c51", 0, 9): ("cut_off", "length"), ("c52", 0, 9): ()}
    names = shown(store, captions(80, **scores), findings=findings)
    assert names[:4] == ["c51", "c50", "c07", "c33"]
    assert len(names) == 8
    rest = [int(name[1:]) for name in names[4:]]
    assert max(rest) - min(rest) > 40
    assert rest == sorted(rest, reverse=True)  # by confidence


def test_the_first_ones_have_their_previews_and_enhanced_texts_what_they_were_made_from(store):
    rows, previews = captions(10), []
    for row in rows:
        path = f"previews/{row.clip_id}/0_9.webp"
        store.write_bytes(path, row.clip_id.encode())
        previews.append(PreviewRow(clip_id=row.clip_id, start_frame=0, end_frame=9, path=path))
    samples = text_samples(
        store,
        rows,
        {},
        clip_of=lambda row: f"a/{row.clip_id}.mp4",
        captions={(row.clip_id, 0, 9): f"of {row.clip_id}" for row in rows},
    )
    assert [sample.picture for sample in samples[:4]] == [sample.enhanced.encode() for sample in samples[:4]]
    assert [sample.picture for sample in samples[4:]] == [None] * 4
    assert all(sample.clip == f"a/{sample.enhanced}.mp4" for sample in samples)
    assert all(sample.caption == f"of {sample.enhanced}" for sample in samples)
    assert [sample.picture for sample in preview_samples(store, previews, lambda row: row.clip_id)] == [
        b"c01",
        b"c03",
        b"c06",
        b"c08",
    ]
