"""The command `caption-assets ui`: Dagster for a dataset and its output, from any folder."""

import os
import sys

import click

from caption_assets.cli.flags import caption_option, settings_flags, variables_from
from caption_assets.models.choice import default_text_variant, default_variant
from caption_assets.names import absolute
from caption_assets.settings import ENVIRONMENT_PREFIX, PipelineSettings
from caption_assets.steps.sharding import dataset_for

_PLACES = {name: ENVIRONMENT_PREFIX + name.upper() for name in ("dataset", "output", "source_root")}
_VARIANT, _TEXT_VARIANT = ENVIRONMENT_PREFIX + "VARIANT", ENVIRONMENT_PREFIX + "TEXT_VARIANT"


@click.command()
@click.option(
    "--dataset",
    "roots",
    multiple=True,
    help="As for `run`; by default that of the settings file or the environment, or the demo's.",
)
@click.option("--output-path", help="As for `run`; by default that of the settings file or the environment.")
@click.option("--source-root", help="As for `run`.")
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to serve on.")
@click.option("--port", type=click.IntRange(1, 65535), default=3000, show_default=True, help="Port to serve on.")
@caption_option
@settings_flags
@click.pass_context
def ui(
    context: click.Context,
    roots: tuple[str, ...],
    output_path: str | None,
    source_root: str | None,
    host: str,
    port: int,
    **_: object,
) -> None:
    """Serve Dagster with a dataset's shards, assets and runs, until Ctrl-C.

    Its history is that of `run`: the instance of DAGSTER_HOME, else of the working directory's dagster.yaml, else of
    ~/.local/share/caption_assets. Give it the flags that `run` was given, so that both mean the same assets. What no
    flag says is as in a deployment: of the settings file and the environment (docs/dagster.md).
    """
    dataset = "\n".join(roots) or None
    places = {"dataset": dataset, "output": output_path, "source_root": source_root}
    chosen = {_PLACES[name]: absolute(place) for name, place in places.items() if place is not None}
    os.environ.update(chosen | variables_from(context))

    # Dagster takes a second or two to import.
    from caption_assets.defs.instance import WORKSPACE, instance_home, local_instance
    from caption_assets.defs.partitions import add_new_shards, shards_of
    from caption_assets.settings.environment import deployed_settings, has_file

    if not has_file():
        if dataset is not None:
            os.environ.setdefault(_VARIANT, default_variant())
        text_variant = default_text_variant(os.environ.get(_VARIANT) or PipelineSettings().captions[0].model_variant)
        os.environ.setdefault(_TEXT_VARIANT, text_variant)
    settings = deployed_settings()
    with local_instance() as instance:
        if dataset is not None:
            listed = dataset_for(settings.dataset, settings.clips, settings.output)
            add_new_shards(instance, shards_of(settings.dataset, settings.clips), listed)
    click.echo(f"{settings.dataset} and {settings.output} in Dagster, on http://{host}:{port}")
    click.echo(f"History: {instance_home()} (Ctrl-C stops)")
    # Dagster would rather have `dg dev`, which wants a project around it.
    quiet = ["-W", "ignore:Function `dev_command` is superseded"]
    command = [sys.executable, *quiet, "-m", "dagster", "dev", "--workspace", str(WORKSPACE)]
    os.execv(sys.executable, [*command, "--host", host, "--port", str(port)])
