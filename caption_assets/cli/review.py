"""The command `caption-assets review`."""

import os
from collections.abc import Mapping
from typing import Any

import click
from rich import box
from rich.console import Console
from rich.table import Table

from caption_assets.cli.console import shown
from caption_assets.errors import ConfigError, DatasetError
from caption_assets.models.schemas import edited
from caption_assets.review import paths
from caption_assets.review.blind import Comparisons
from caption_assets.review.comparison import Study, study
from caption_assets.review.render import known_shards, read_view, render_index, render_shard_page
from caption_assets.review.upkeep import Upkeep
from caption_assets.settings import ENVIRONMENT_PREFIX
from caption_assets.steps.documents import render_documents_of
from caption_assets.store.store import Store

TOKEN = f"{ENVIRONMENT_PREFIX}REVIEW_TOKEN"
_SHOWN = 10


@click.command()
@click.option("--output-path", required=True, help="Folder or fsspec URL that the captions are in.")
@click.option("--shard", "shards", multiple=True, help="Only this shard's page, by its key; may be repeated.")
@click.option("--serve", is_flag=True, help="Show the pages on a local address, and keep verdicts and edited texts.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on; others want a token.")
@click.option("--port", default=3001, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 is any free one.")
@click.option(
    "--compare", nargs=2, metavar="KEY KEY", help="Serve two keys side by side, and do not say whose is whose."
)
@click.option("--result", is_flag=True, help="With --compare: print what the answers come to, and serve nothing.")
@click.option(
    "--seed", default=0, show_default=True, help="With --compare: another one, another order and other sides."
)
@click.option("--source-root", help="Root of the source videos, for clips that another tool has cut.")
def review(
    output_path: str,
    shards: tuple[str, ...],
    serve: bool,
    host: str,
    port: int,
    compare: tuple[str, str] | None,
    result: bool,
    seed: int,
    source_root: str | None,
) -> None:
    """Write pages to look at windows and their captions: review/index.html, and one for each shard.

    Each page is a file by itself: open it from the folder, or from a bucket that a browser can read. Previews and JSON
    are linked.

    With --serve the pages show what is there at the moment, and take verdicts (right, wrong) and edited texts, which go
    into the clips' JSON. Everybody who can reach the server can judge: on another address than this machine's own, the
    server wants a token, from the variable CAPTION_ASSETS_REVIEW_TOKEN.

    With --compare, two keys (qwen3, or qwen3/qwen_lm for an enhanced caption) are shown side by side, one window after
    the other in a drawn order, on drawn sides, and one key press says which is better.
    """
    if result and compare is None:
        raise click.UsageError("--result wants --compare.")
    store = Store(output_path)
    chosen = chosen_shards(store, shards)
    pairs = study([read_view(store, shard) for shard in chosen], compare, seed) if compare is not None else None
    if pairs is not None and result:
        print_result(Comparisons(store, pairs).result())
    elif pairs is not None or serve:
        _serve(store, chosen, host, port, source_root, pairs)
    else:
        for shard in chosen:
            render_shard_page(store, shard)
        render_index(store)
        click.echo(store.url(paths.INDEX))


def print_result(result: Mapping[str, Any]) -> None:
    """Prints a comparison's result: in words, then the figures of both keys."""
    console = Console()
    console.print(shown(result["said"]), soft_wrap=True)
    if result["same"]:
        console.print(f"{result['same']} further windows have the same text of both.")
    if result["of_earlier_texts"]:
        console.print(
            f"{result['of_earlier_texts']} answers are about texts that have changed since, and do not count."
        )
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("")
    for key in result["keys"]:
        table.add_column(shown(key), justify="right")
    figures = [result["figures"][key] for key in result["keys"]]
    for name in figures[0]:
        table.add_row(name.replace("_", " "), *(_shown(of[name]) for of in figures))
    console.print(table)


def _shown(figure: float | None) -> str:
    """To three decimals, and below one to three digits."""
    if figure is None:
        return ""
    return f"{figure:.3g}" if abs(figure) < 1 else f"{figure:,.3f}".rstrip("0").rstrip(".")


def _serve(store: Store, shards: list[str], host: str, port: int, source_root: str | None, pairs: Study | None) -> None:
    try:
        from caption_assets.review import access, server
        from caption_assets.review.reviews import Reviews
    except ImportError as error:
        fix = "install starlette and uvicorn, which come with dagster-webserver"
        raise ConfigError("review --serve", f"{error.name} is missing", fix) from error

    token = os.environ.get(TOKEN) or None
    access.check_listening(host, token)
    store.check_writable()
    with Upkeep(store, lambda shard: render_documents_of(store, shard, source_root), shards) as upkeep:
        comparisons = None if pairs is None else Comparisons(store, pairs)
        app = server.application(Reviews(store, upkeep.changed, edited), token, comparisons, host)
        server.serve(app, host, port, lambda url: click.echo(f"Review at {url} (Ctrl-C stops)"))


def chosen_shards(store: Store, named: tuple[str, ...]) -> list[str]:
    """The shards that are named, or all that the output root has. Raises DatasetError for one that it has not."""
    known = known_shards(store)
    if not known:
        asked, wrong = f"review of {store.url()}", "there are no tables of windows"
        raise DatasetError(asked, wrong, "give the output path of a run, or run it first")
    if unknown := [name for name in named if name not in known]:
        raise DatasetError(
            f"shard {unknown[0]!r} of {store.url()}", "it is unknown", f"choose: {', '.join(known[:10])}"
        )
    return list(named) or known
