"""What a page is told of a shard."""

from dataclasses import replace

from caption_assets.review.views import shard_view, summary
from caption_assets.store.rows import CaptionRow, FindingRow, WindowRow
from caption_assets.store.snapshot import ClipRows
from caption_assets_tests.rows import caption, enhanced, failed_caption, failed_clip, finding, verdict, window


def clip(row: WindowRow, *rows: CaptionRow | FindingRow | None, **more: object) -> ClipRows:
    captions = {one.key: {(0, 249): one} for one in rows if isinstance(one, CaptionRow)}
    findings = {one.key: {(0, 249): one} for one in rows if isinstance(one, FindingRow)}
    return ClipRows((row,), captions=captions, findings=findings, **more)  # type: ignore[arg-type]


def test_windows_are_weighed_by_failures_then_findings_then_confidence() -> None:
    rows = {name: window(name, relative_path=f"{name}.mp4") for name in ("error", "sure", "unsure", "warned")}
    scores = {"error": -0.1, "sure": -0.2, "unsure": -2.0, "warned": -0.3}
    texts = {
        name: caption(row, f"A {name}.", mean_logprob=scores[name], min_logprob=-1.0, low_logprob=-1.0)
        for name, row in rows.items()
    }
    failed = window("failed", relative_path="a.mp4")
    found = {
        "warned": finding(texts["warned"], length="it is long"),
        "error": finding(texts["error"], "error", empty="it is empty"),
        "sure": finding(caption(rows["sure"], "What it said before."), "error", empty="it was empty"),
    }
    clips = [clip(rows[name], texts[name], found.get(name)) for name in rows]
    clips += [clip(failed, failed_caption(failed)), clip(failed_clip("gone"))]
    view = shard_view("s", clips)
    worst = sorted(view.windows, key=lambda of: -of.badness)
    assert [of.clip for of in worst] == ["failed", "gone", "error", "warned", "unsure", "sure"]


def test_confidence_is_weighed_among_texts_of_the_same_key() -> None:
    row, other = window("one", relative_path="1.mp4"), window("two", relative_path="2.mp4")

    def text(of: WindowRow, key: str, mean: float) -> CaptionRow:
        return caption(of, f"{key}.", key, mean_logprob=mean, min_logprob=mean, low_logprob=mean)

    clips = [
        clip(row, text(row, "a", -0.1), text(row, "b", -9.0)),
        clip(other, text(other, "a", -0.2), text(other, "b", -8.0)),
    ]
    ranks = {(of.clip, one.key): one.rank for of in shard_view("s", clips).windows for one in of.texts}
    assert ranks == {("one", "a"): 1.0, ("one", "b"): 0.0, ("two", "a"): 0.0, ("two", "b"): 1.0}
    alike = [clip(row, text(row, "a", -0.1)), clip(other, text(other, "a", -0.1))]
    assert {one.rank for of in shard_view("s", alike).windows for one in of.texts} == {0.5}


def test_a_verdict_is_of_the_text_that_was_judged() -> None:
    row = window()
    old, new = caption(row, "An old text."), caption(row, "A new text.")
    rows = clip(row, new, verdicts=(verdict(old), verdict(new, "wrong", "bob")))
    text = shard_view("s", [rows]).windows[0].texts[0]
    assert text.opinion == "wrong"
    assert [(said.reviewer, said.verdict, said.of) for said in text.said] == [
        ("bob", "wrong", None),
        ("ann", "right", "An old text."),
    ]


def test_a_text_is_accepted_where_nobody_says_otherwise_and_the_last_word_of_each_counts() -> None:
    row = window()
    said = {
        "right": [("ann", "wrong", "1"), ("ann", "right", "2"), ("bob", "right", "3")],
        "disputed": [("ann", "right", "1"), ("bob", "wrong", "2")],
        "edited": [("ann", "wrong", "1"), ("bob", "edited", "2")],
        "open": [("ann", "wrong", "1"), ("ann", "withdrawn", "2")],
    }
    texts = {key: caption(row, f"Text {key}.", key) for key in said}
    verdicts = [verdict(texts[key], what, who, at) for key, all_said in said.items() for who, what, at in all_said]
    view = shard_view("s", [clip(row, *texts.values(), verdicts=tuple(reversed(verdicts)))])
    assert {text.key: text.opinion for text in view.windows[0].texts} == {**{key: key for key in said}, "open": None}
    figures = summary(view)["keys"]
    assert {key: of["accepted_share"] for key, of in figures.items()} == {
        "right": 1.0,
        "disputed": 0.0,
        "edited": 0.0,
        "open": None,
    }
    assert figures["open"]["judged"] == 0


def test_what_is_of_an_earlier_caption_or_clip_is_not_passed_off_as_current() -> None:
    row = window()
    first, later = caption(row, "First."), caption(row, "Later.")
    of_first = enhanced(first)
    rows = clip(row, later, enhanced={("qwen_lm", "qwen"): {(0, 249): of_first}})
    caption_view, enhanced_view = shard_view("s", [rows]).windows[0].texts
    assert (caption_view.outdated, enhanced_view.outdated) == (False, True)
    changed = replace(row, content_hash="another")
    assert shard_view("s", [clip(changed, later)]).windows[0].texts == ()
