"""The command `caption-assets`."""

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console

import caption_assets
from caption_assets.cli.backfill import backfill
from caption_assets.cli.calibrate import calibrate
from caption_assets.cli.check import check, print_checks
from caption_assets.cli.chosen import given_flags, run_settings
from caption_assets.cli.console import RunConsole, plain, shown
from caption_assets.cli.dry_run import print_forecast
from caption_assets.cli.estimate import estimate
from caption_assets.cli.export import export
from caption_assets.cli.flags import caption_option, settings_flags
from caption_assets.cli.prune import prune
from caption_assets.cli.review import review
from caption_assets.cli.shards import chosen_shards, dataset_option, shards
from caption_assets.cli.stopping import stoppable
from caption_assets.cli.ui import ui
from caption_assets.demo.clips import demo_scenes, render_dataset
from caption_assets.errors import CaptionAssetsError, ConfigError
from caption_assets.extras import importing, install, missing
from caption_assets.media.previews import check_ffmpeg
from caption_assets.models.choice import check_keys
from caption_assets.models.engines.session import EngineSession
from caption_assets.models.prompts import enhance_prompt
from caption_assets.models.templates import places
from caption_assets.settings import CaptionModelSettings, PipelineSettings, TextModelSettings
from caption_assets.steps import model_session
from caption_assets.steps.asked import Ask, check_schemas
from caption_assets.steps.filling import check_known
from caption_assets.steps.sharding import dataset_for
from caption_assets.steps.telemetry import telemetry
from caption_assets.steps.trial import Trial
from caption_assets.store.store import Store
from caption_assets.store.tables import ENHANCED_CAPTIONS, WINDOW_CAPTIONS, WINDOW_PREVIEWS
from caption_assets.workers.local import Workers

OK, SHARD_FAILED, WRONG_USAGE = 0, 1, 2


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(caption_assets.__version__, prog_name="caption-assets")
def cli() -> None:
    """Captions and previews for shards of video clips, as Dagster assets."""


@cli.command()
@dataset_option(required=False)
@click.option("--output-path", help="Folder or fsspec URL for tables, documents and previews.")
@click.option("--shard", "named", multiple=True, help="Only this shard (its folder's name or key); may be repeated.")
@click.option("--source-root", help="Root of the source videos, for clips that another tool has cut.")
@click.option("--generate-captions", is_flag=True, help="Caption every window.")
@click.option("--generate-previews", is_flag=True, help="Make a WebP preview of every window.")
@click.option("--enhance-captions", is_flag=True, help="Rewrite every caption with a text model.")
@caption_option
@click.option("--limit", type=click.IntRange(1), help="Only the first so many clips of each shard, for a trial.")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and how much, and write nothing.")
@click.option("--verify", is_flag=True, help="Read clips again that seem not to have changed.")
@settings_flags
@click.pass_context
def run(context: click.Context, named: tuple[str, ...], **options: Any) -> None:
    """Materialize the assets of a dataset's shards in this process, through Dagster.

    What no flag says is as the deployment has it: in its environment, then in its file of settings.

    With none of --generate-captions, --generate-previews and --enhance-captions, all three are made. A second run
    does only what is missing or has changed. With --limit, a shard is as missing in Dagster as before, and a later run
    goes on from what is there. Exit status: 0 when every shard was processed (items that failed are
    listed), 1 when a shard failed, 2 for wrong usage.
    """
    sys.exit(_run(run_settings(given_flags(context)), named, options))


@cli.command()
@click.option("--dataset", default="demo/clips", show_default=True, help="Where the demo's clips are rendered to.")
@click.option("--output-path", default="demo/output", show_default=True, help="Where results go.")
def demo(dataset: str, output_path: str) -> None:
    """Render the demo's clips and run all assets on them with the embedded models: no GPU, no download."""
    if wrong := missing("demo"):
        raise ConfigError("the demo, whose models are embedded", wrong, install("demo"))
    scenes = demo_scenes()
    console = Console()
    written = render_dataset(Path(dataset), scenes)
    console.print(shown(f"{sum(map(len, scenes.values()))} clips in {dataset} ({written} rendered now)"))
    arguments = ["--dataset", dataset, "--output-path", output_path, "--device", "cpu"]
    arguments += ["--captioning-algorithm", "demo", "--enhance-captions-algorithm", "demo_lm"]
    with run.make_context("run", arguments) as context:
        settings = run_settings(given_flags(context), PipelineSettings())
        status = _run(settings, [], context.params)
    if status == OK:
        _show_samples(Store(output_path), list(scenes), console)
        places = {"--dataset": dataset, "--output-path": output_path}
        usual = {option.opts[0]: option.default for option in demo.params}
        _show_next([word for name, place in places.items() if place != usual[name] for word in (name, place)], console)
    sys.exit(status)


cli.add_command(ui)
cli.add_command(export)
cli.add_command(review)
cli.add_command(prune)
cli.add_command(calibrate)
cli.add_command(check)
cli.add_command(estimate)
cli.add_command(shards)
cli.add_command(backfill)


@cli.command("reference")
def print_reference() -> None:
    """Print every setting, every column of the tables and every rule, as Markdown."""
    from caption_assets.cli.reference import reference

    click.echo(reference(), nl=False)


@contextmanager
def _usable(model: CaptionModelSettings | TextModelSettings, dry_run: bool) -> Iterator[EngineSession]:
    """A session to check with whether a model can be asked as it is to be; without a dry run its server is, too. Raises
    ConfigError and ModelError."""
    with model_session(model, 1) as session:
        yield session
        if not dry_run:
            session.author()


def _run(settings: PipelineSettings, named: Sequence[str], options: Mapping[str, Any]) -> int:
    """Checks everything that can be wrong before any work, then works. Returns the exit status."""
    wanted = ("generate_captions", "generate_previews", "enhance_captions")
    captions, previews, enhance = (options[name] or not any(options[w] for w in wanted) for name in wanted)
    if not options["dry_run"]:
        Store(settings.output).check_writable()
    dataset = dataset_for(settings.dataset, settings.clips, settings.output, keep=not options["dry_run"])
    asked_for, trial = chosen_shards(dataset, named), Trial(options["limit"], options["verify"])
    steps = {"clip_windows"}
    if previews:
        check_ffmpeg()
        steps.add("window_previews")
    if captions:
        steps.add("window_captions")
        check_keys(settings.captions)
        asks = [{name: Ask.of(each, name) for name, each in chosen.asked.items()} for chosen in settings.captions]
        check_known([name for each in asks for ask in each.values() for name in ask.names], dataset, asked_for)
        for chosen, asked in zip(settings.captions, asks, strict=True):
            with _usable(chosen, options["dry_run"]) as session:
                check_schemas(asked, session)
    elif options["caption"]:
        raise click.UsageError("--caption asks windows, and this run captions none: add --generate-captions.")
    if enhance:
        steps.add("enhanced_captions")
        check_keys(settings.enhanced)
        for wanted_texts in settings.enhanced:
            prompt = enhance_prompt(wanted_texts.prompt_variant, wanted_texts.prompt_text)
            check_known(places(prompt), dataset, asked_for)
            with _usable(wanted_texts, options["dry_run"]):
                pass

    if options["dry_run"]:
        print_forecast(dataset, Store(settings.output), asked_for, settings, steps, trial)
        return OK

    # Dagster takes a second or two to import: wrong usage has been answered by now.
    with importing():
        from caption_assets.defs.instance import local_instance
        from caption_assets.defs.pipeline import Pipeline
        from caption_assets.defs.run import materialize_shards
        from caption_assets.defs.workers import SharedWorkers

    with (
        telemetry() as told,
        local_instance() as instance,
        RunConsole(Console(stderr=True), len(asked_for)) as console,
        Workers.from_settings(settings.workers) as clip_workers,
    ):
        pipeline = Pipeline(settings, {"workers": SharedWorkers(clip_workers, told)})
        failed = materialize_shards(instance, pipeline, asked_for, steps, console, trial)
    console.summarize(asked_for, Console())
    print_checks(console.checks, Console(), passed=console.passed)
    if trial.limit is not None:
        click.echo(f"Only the first {trial.limit} clips of each shard: a run without --limit goes on from here.")
    return SHARD_FAILED if failed else OK


def _show_samples(store: Store, shards: list[str], console: Console) -> None:
    """The first caption and enhanced caption of every shard, with its preview's path."""
    for shard in shards:
        caption = next(iter(store.read_rows(WINDOW_CAPTIONS, shard, "demo")))
        enhanced = next(iter(store.read_rows(ENHANCED_CAPTIONS, shard, "demo/demo_lm")))
        preview = next(iter(store.read_rows(WINDOW_PREVIEWS, shard)))
        console.print("\n", shown(preview.path or ""), sep="", style="bold", highlight=False, soft_wrap=True)
        console.print(shown(f"demo:    {caption.text}"))
        console.print(shown(f"demo_lm: {enhanced.text}"))
    console.print("\n", shown(f"Everything is in {store.url()}. In Dagster:"), sep="", soft_wrap=True)


def _show_next(arguments: Sequence[str], console: Console) -> None:
    """The command that shows the same in Dagster, as this one was called."""
    own, found = sys.argv[0], shutil.which("caption-assets")
    is_found = found is not None and os.path.exists(own) and os.path.samefile(found, own)
    command = ["caption-assets"] if is_found else [own]
    if os.path.basename(own) == "__main__.py":
        command = [sys.executable, "-m", "caption_assets"]
    line = shlex.join([*command, "ui", *arguments])
    console.print(shown(f"  {line}"), style="bold", highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point: errors that we understand are one line and exit status 2; 130 after Ctrl-C, 143 after SIGTERM."""
    with stoppable() as stop:
        try:
            cli(standalone_mode=False)
        except click.UsageError as error:
            where = error.ctx.command_path if error.ctx else "caption-assets"
            click.echo(f"{where}: {plain(error.format_message())} See {where} --help.", err=True)
            sys.exit(WRONG_USAGE)
        except CaptionAssetsError as error:
            click.echo(f"caption-assets: {plain(str(error))}", err=True)
            sys.exit(WRONG_USAGE)
        except (click.Abort, KeyboardInterrupt):
            click.echo("caption-assets: stopped; what is finished is kept", err=True)
            sys.exit(stop.status)
