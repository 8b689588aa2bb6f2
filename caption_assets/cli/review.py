"""The command `caption-assets review`."""

import click

from caption_assets.errors import DatasetError
from caption_assets.review import paths
from caption_assets.review.render import known_shards, render_index, render_shard_page
from caption_assets.store.store import Store

_SHOWN = 10


@click.command()
@click.option("--output-path", required=True, help="Folder or fsspec URL that the captions are in.")
@click.option("--shard", "shards", multiple=True, help="Only this shard's page, by its key; may be repeated.")
def review(output_path: str, shards: tuple[str, ...]) -> None:
    """Write pages to look at windows and their captions: review/index.html, and one for each shard.

    Each page is a file by itself: open it from the folder, or from a bucket that a browser can read. Previews and JSON
    are linked.
    """
    store = Store(output_path)
    for shard in chosen_shards(store, shards):
        render_shard_page(store, shard)
    render_index(store)
    click.echo(store.url(paths.INDEX))


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
