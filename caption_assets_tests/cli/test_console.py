"""Names, captions and what servers say are shown letter for letter, whatever they hold."""

import io
import logging
import re
import time

import pytest
from rich.console import Console

from caption_assets.cli.console import RunConsole, plain
from caption_assets.dataset import shard_key
from caption_assets.steps.report import Sample, ShardReport

HOSTILE = "a\x1b[31m[red]b[/red]\r\x9b2J\u202egpj.\x07"
SAFE = r"a\x1b[31m[red]b[/red]\r\x9b2J\u202egpj.\x07"


@pytest.mark.parametrize("text", ["a b", "日本\u3000語", "a\u200db", "\U0001f600", "[bold]", "é"])
def test_ordinary_text_is_shown_as_it_is(text):
    assert plain(text) == text


def test_nothing_that_a_terminal_or_rich_would_act_on_is_shown():
    written = io.StringIO()
    out = Console(file=written, force_terminal=True, color_system=None, width=300)
    report = ShardReport(
        asset="clip_windows",
        shard=shard_key(HOSTILE),
        clips=1,
        ok=0,
        failed=1,
        skipped=0,
        reused=0,
        seconds=1.0,
        location="",
        data_version="",
        input_versions={},
        failures={HOSTILE: 1},
        failed_items=(HOSTILE,),
        samples=(Sample("", "", "x" * 1000, picture=b"x" * 1000),),
    )
    with RunConsole(Console(file=io.StringIO())) as console:
        console.done(report)
        console.failed("clip_windows", report.shard, ValueError(HOSTILE))
    console.summarize([report.shard], out)
    shown = written.getvalue()
    assert "\x1b" not in shown.replace("\x1b[0m", "")
    assert shown.count(SAFE) == 6
    assert not any(kept.samples for kept in console.reports[report.shard].values())


def test_a_bar_says_how_far_it_is_of_all_shards_and_how_long_the_rest_takes():
    written = io.StringIO()
    with RunConsole(Console(file=written, force_terminal=True, color_system=None, width=120), shards=4) as console:
        console.start("clip_windows", "a", 40)
        for _ in range(3):
            console.advance("clip_windows", "a")
            time.sleep(0.3)
        console._bars.refresh()
    assert re.search(r"3/160 .*[1-9]\d* (s|min) left", written.getvalue())


def test_a_shard_that_failed_is_counted_and_leaves_no_bar_that_waits_for_it():
    written, summary = io.StringIO(), io.StringIO()
    with RunConsole(Console(file=written, force_terminal=True, color_system=None, width=120), shards=2) as console:
        console.start("clip_windows", "bad", 1)
        console.failed("clip_windows", "bad", ValueError("it is no video"))
        console.start("clip_windows", "good", 3)
        console.advance("clip_windows", "good", 3)
        console.start("window_captions", "good", 5)
        console.advance("window_captions", "good", 5)
    ended = [line for line in written.getvalue().splitlines() if re.search(r"\d+/\d+", line)][-2:]
    assert "3/3" in ended[0]
    assert "5/5" in ended[1]
    assert "left" not in "".join(ended)
    console.summarize(["bad", "good"], Console(file=summary, width=120))
    rows = {line.split()[0]: line for line in summary.getvalue().splitlines() if line.strip()}
    assert " shard " in rows["bad"]
    assert " 1 shard " in rows["total"]
    assert "it is no video" in summary.getvalue()


def test_messages_of_the_log_are_shown_so_too():
    written = io.StringIO()
    with RunConsole(Console(file=written, width=300)):
        logging.getLogger("caption_assets.steps").warning("%s: %s", HOSTILE, "two\nlines")
    assert SAFE in written.getvalue()
    assert "lines" in [line.strip() for line in written.getvalue().splitlines()]
    assert "\x1b[31m" not in written.getvalue()
