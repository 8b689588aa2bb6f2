"""The command `caption-assets check`, and how checks are shown."""

import json
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from caption_assets.cli.console import shown
from caption_assets.cli.flags import settings_flags, settings_from
from caption_assets.cli.review import chosen_shards
from caption_assets.dataset import shard_name
from caption_assets.settings import CheckSettings
from caption_assets.steps.checked import Checked
from caption_assets.steps.checks import check_shard
from caption_assets.store.store import Store


@click.command()
@click.option("--output-path", required=True, help="Folder or fsspec URL of the tables: that of `run`.")
@click.option("--shard", "shards", multiple=True, help="Only this shard, by its key; may be repeated.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON: a list with an object a check.")
@partial(settings_flags, classes=(CheckSettings,))
def check(output_path: str, shards: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Check what there is: clips without windows, previews, captions and enhanced captions.

    The same as Dagster shows beside the assets; nothing is made or written. Exit status: 0 where no check of severity
    error fails, 1 where one does, 2 for wrong usage.
    """
    store, settings = Store(output_path), settings_from(options, CheckSettings)
    results = [checked for shard in chosen_shards(store, shards) for checked in check_shard(store, shard, settings)]
    if as_json:
        click.echo(json.dumps([as_object(checked) for checked in results], indent=1))
    else:
        print_checks(results, Console(), all_of_them=True)
    sys.exit(1 if any(checked.failed for checked in results) else 0)


def as_object(checked: Checked) -> dict[str, Any]:
    """A check's result for JSON."""
    judgement = checked.judgement
    return {
        "shard": checked.shard,
        "asset": checked.table,
        "key": checked.key,
        "check": checked.check,
        "severity": checked.severity,
        "passed": checked.passed,
        "said": judgement.said,
        "figures": dict(judgement.figures),
        "worst": list(judgement.worst),
    }


def print_checks(results: Sequence[Checked], out: Console, all_of_them: bool = False) -> None:
    """What does not pass, with the worst examples; before that, with `all_of_them`, how often each check does."""
    counts = Counter("passed" if c.passed else c.severity for c in results)
    if all_of_them:
        out.print(_overview(results))
    for checked in results:
        if not checked.passed:
            word, style = _NOT_PASSED[checked.severity]
            about = f"{checked.check} of {checked.asset}, shard {shard_name(checked.shard)}"
            out.print(shown(f"{word}: {about}: {checked.judgement.said}"), style=style, soft_wrap=True)
            for item in checked.judgement.worst:
                out.print(shown(f"  {item}"), style="dim", soft_wrap=True)
    words = [f"{counts[name]} {said}" for name, said in _COUNTED.items() if counts[name]]
    out.print(f"checks: {', '.join(words) or 'none'}", highlight=False)


def _overview(results: Sequence[Checked]) -> Table:
    """A row for every check of every asset: for how many shards it passes, and of how many items these shards have."""
    by_check: dict[tuple[str, str], list[Checked]] = {}
    for checked in results:
        by_check.setdefault((checked.asset, checked.check), []).append(checked)
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for name in ("asset", "check"):
        table.add_column(name, overflow="fold")
    for name in ("items", "bad", "shards", "passed", "warning", "failed"):
        table.add_column(name, justify="right")
    for (asset, name), of_check in by_check.items():
        words = Counter("passed" if c.passed else _NOT_PASSED[c.severity][0] for c in of_check)
        items, bad = (sum(int(c.judgement.figures[figure]) for c in of_check) for figure in ("of", "bad"))
        numbers = (items, bad, len(of_check), words["passed"], words["warning"], words["failed"])
        table.add_row(shown(asset), name, *(f"{number:,}" for number in numbers))
    return table


_NOT_PASSED = {"error": ("failed", "red"), "warning": ("warning", "yellow")}
_COUNTED = {"passed": "passed", "error": "failed", "warning": "with a warning"}
