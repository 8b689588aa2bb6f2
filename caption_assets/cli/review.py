"""The command `caption-assets review`."""

import os

import click

from caption_assets.errors import ConfigError, DatasetError
from caption_assets.review import paths
from caption_assets.review.render import known_shards, render_index, render_shard_page
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
@click.option("--source-root", help="Root of the source videos, for clips that another tool has cut.")
def review(
    output_path: str, shards: tuple[str, ...], serve: bool, host: str, port: int, source_root: str | None
) -> None:
    """Write pages to look at windows and their captions: review/index.html, and one for each shard.

    Each page is a file by itself: open it from the folder, or from a bucket that a browser can read. Previews and JSON
    are linked.

    With --serve the pages show what is there at the moment, and take verdicts (right, wrong) and edited texts, which go
    into the clips' JSON. Everybody who can reach the server can judge: on another address than this machine's own, the
    server wants a token, from the variable CAPTION_ASSETS_REVIEW_TOKEN.
    """
    store = Store(output_path)
    chosen = chosen_shards(store, shards)
    if serve:
        _serve(store, chosen, host, port, source_root)
        return
    for shard in chosen:
        render_shard_page(store, shard)
    render_index(store)
    click.echo(store.url(paths.INDEX))


def _serve(store: Store, shards: list[str], host: str, port: int, source_root: str | None) -> None:
    try:
        from caption_assets.review import access, server
    except ImportError as error:
        fix = "install starlette and uvicorn, which come with dagster-webserver"
        raise ConfigError("review --serve", f"{error.name} is missing", fix) from error

    token = os.environ.get(TOKEN) or None
    access.check_listening(host, token)
    store.check_writable()
    with Upkeep(store, lambda shard: render_documents_of(store, shard, source_root), shards) as upkeep:
        app = server.application(server.Reviews(store, upkeep.changed), token)
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
