"""The assets of a pipeline. Each body names its inputs and calls one step for every shard of the run."""

import inspect
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

import dagster as dg

from caption_assets.defs.beside import previews_beside, settings_beside
from caption_assets.defs.catalog import catalog, code_reference
from caption_assets.defs.config import config_class, config_schema
from caption_assets.defs.io_manager import table_metadata
from caption_assets.defs.metadata import column_schema
from caption_assets.defs.names import Names, model_names
from caption_assets.defs.placing import beside_model, on_cpus, with_priority
from caption_assets.defs.reporting import Reports, ShardOutcomes
from caption_assets.defs.run_sizes import shards_per_run
from caption_assets.defs.step_run import StepRun
from caption_assets.defs.tags import tag_run
from caption_assets.errors import ConfigError
from caption_assets.models.choice import ModelChoice, prompt_key
from caption_assets.models.engines.session import EngineSession
from caption_assets.settings import (
    CaptionSettings,
    EnhanceSettings,
    PipelineSettings,
    PreviewSettings,
    Settings,
    WindowSettings,
    part,
)
from caption_assets.steps import Outcomes, caption_shards, captions, enhance_shards, preview_shards, window_shards
from caption_assets.steps.asked import Ask, asks_several, check_schemas
from caption_assets.steps.choices import Choice, captions_choice, enhanced_choice, previews_choice, windows_choice
from caption_assets.steps.report import Step


@dataclass(frozen=True)
class PipelineAsset:
    """An asset, and what it is to make where a run's config says nothing else."""

    definition: dg.AssetsDefinition
    choice: Choice
    settings: Settings

    @property
    def step(self) -> Step:
        return self.choice.step


def make_assets(
    settings: PipelineSettings, shards: dg.PartitionsDefinition, condition: dg.AutomationCondition[dg.AssetKey] | None
) -> list[PipelineAsset]:
    """The assets of a pipeline, each after those that it reads: of captions one for each model and prompt, of enhanced
    captions one for each captioning model and each text model. By `condition`, Dagster asks for them by itself. Raises
    ConfigError or ModelError for choices that cannot be.
    """
    for choice in (*map(ModelChoice, settings.captions), *map(ModelChoice, settings.enhanced)):
        choice.check()
    caption_models = model_names("caption_model", settings.captions)
    text_models = model_names("text_model", settings.enhanced)
    size, cpus = shards_per_run(settings), on_cpus(settings)
    recipes = [
        _Recipe(clip_windows, settings.windows, windows_choice, 2 * size, {"python", "parquet"}, more=cpus),
        _Recipe(window_previews, settings.previews, previews_choice, size, {"python", "ffmpeg", "webp"}, more=cpus),
    ]
    for name, model in caption_models.items():
        for prompt, asked in model.asked.items():
            recipe = _Recipe(
                window_captions,
                asked,
                partial(captions_choice, name=prompt),
                size,
                _MODEL_KINDS,
                models={"caption_model": (name, model)},
                prompt=prompt,
                # Before the previews of the same run, which it then makes on its way.
                more=with_priority(beside_model(settings, model), 1),
            )
            recipes.append(recipe)
    for name, model in caption_models.items():
        for text_name, text_model in text_models.items():
            recipe = _Recipe(
                enhanced_captions,
                part(text_model, EnhanceSettings),
                enhanced_choice,
                4 * size,
                _MODEL_KINDS,
                models={"caption_model": (name, model), "text_model": (text_name, text_model)},
                more=beside_model(settings, text_model),
            )
            recipes.append(recipe)
    names, preview_config = Names(settings.name), config_class(settings.previews)
    return [recipe.make(settings, names, shards, preview_config, condition) for recipe in recipes]


_MODEL_KINDS = {"python", "pytorch", "huggingface"}
_RESOURCES = ("clips", "save_export", "workers", "quality", "progress")


@dataclass(frozen=True)
class _Recipe:
    """How an asset is made: `body` runs its step for the shards of a run, and `choose` says what that is to make.

    `models` has the models' resources: for the word by which `body` and `choose` know one, its name and its settings.
    `prompt` is the name of the prompt that captions are asked by.
    """

    # Parents and children differ in `shards_per_run` on purpose: Dagster then gives them runs of their own in a
    # backfill, and a shard that fails in one asset does not keep the others' shards from going on. Previews and
    # captions have the same, so that one run makes both, from one decoding.
    body: Callable[[StepRun, Any], Outcomes]
    settings: Settings
    choose: Callable[..., Choice]
    shards_per_run: int
    kinds: set[str]
    models: Mapping[str, tuple[str, Any]] = field(default_factory=dict)
    prompt: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)

    def make(
        self,
        pipeline: PipelineSettings,
        names: Names,
        shards: dg.PartitionsDefinition,
        previews: type[Any],
        condition: dg.AutomationCondition[dg.AssetKey] | None,
    ) -> PipelineAsset:
        """The asset. `previews` is the config of the pipeline's previews."""
        choice = self.choose(self.settings, **{word: model for word, (_, model) in self.models.items()})
        step = choice.step

        def compute(context: dg.AssetExecutionContext) -> Reports:
            settings = type(self.settings)(**context.op_execution_context.op_config)
            yield from self._run(context, settings, names, previews)

        resources = [*_RESOURCES, *(name for name, _ in self.models.values())]
        definition = dg.asset(
            key=names.asset(step.table, *choice.keys),
            description=_description(self.body, choice),
            deps=[names.asset(table, *choice.keys) for table in step.reads] or [names.source],
            partitions_def=shards,
            backfill_policy=dg.BackfillPolicy.multi_run(max_partitions_per_run=self.shards_per_run),
            automation_condition=condition,
            group_name=names.group,
            kinds=self.kinds,
            required_resource_keys={names.of(word) for word in resources},
            io_manager_key=names.of("save_export"),
            config_schema=config_schema(
                self.settings,
                partial(self.choose, **{word: model for word, (_, model) in self.models.items()}),
                choice.version,
            ),
            output_required=False,  # every shard is stored and reported as it is done
            code_version=choice.version,
            metadata={
                "dagster/column_schema": column_schema(step.table),
                **table_metadata(step.table, choice.keys),
                **code_reference(self.body),
            },
            **catalog(pipeline, step, choice.keys),
            **self.more,
        )(compute)
        return PipelineAsset(definition, choice, self.settings)

    def _run(self, context: dg.AssetExecutionContext, settings: Any, names: Names, previews: type[Any]) -> Reports:
        models = {word: name for word, (name, _) in self.models.items()}
        chosen = {word: getattr(context.resources, names.of(name)) for word, name in models.items()}
        try:
            choice = self.choose(settings, **chosen)
        except ConfigError as error:
            raise dg.Failure(str(error), allow_retries=False) from error
        tag_run(context, names.asset(choice.step.table, *choice.keys), choice)
        run = StepRun(context, names, choice, models)
        if self.body is window_captions:
            made = self._captions(context, names, settings, chosen["caption_model"])
            run = replace(run, captions=made, beside=previews_beside(context, names, previews))
        with run.progress:
            yield from ShardOutcomes(run).report(chain(run.not_ready, self._outcomes(run, settings)))

    def _outcomes(self, run: StepRun, settings: Any) -> Outcomes:
        """What the body gives; it begins when the first is asked for, so that what stops it is reported, too."""
        if run.shards:
            yield from self.body(run, settings)

    def _captions(
        self, context: dg.AssetExecutionContext, names: Names, own: Any, model: Any
    ) -> dict[str, tuple[CaptionSettings, Choice]]:
        """What is asked in the same visit, by the names of prompts: its own, and others that this run has to make."""
        made: dict[str, tuple[CaptionSettings, Choice]] = {}
        _, deployed = self.models["caption_model"]
        for prompt, asked in deployed.asked.items():
            settings: Any = own
            if prompt != self.prompt:
                asset = names.asset(captions.STEP.table, prompt_key(ModelChoice(deployed).key, prompt))
                settings = settings_beside(context, names, asset, config_class(asked), CaptionSettings)
            with suppress(ConfigError):  # what is wrong there is for its own step to say
                if settings is not None:
                    made[prompt] = settings, captions_choice(settings, model, prompt)
        return made


def _description(body: Callable[..., Outcomes], choice: Choice) -> str:
    """What the body says; of texts, with the keys and the prompt of this very asset before it."""
    text = inspect.getdoc(body) or ""
    if not choice.keys:
        return text
    return f"Key {' by '.join(choice.keys)}, prompt {choice.words['prompt']}. {text}"


def clip_windows(run: StepRun, settings: WindowSettings) -> Outcomes:
    """The shard's clips cut into windows of consecutive frames, with the frames that a captioning model is to see.

    One row a window: the clip's size, rate, codec and content hash, the window's first and last frame (inclusive, at
    the clip's own rate), and the picked frames with their true presentation times. Plans only: no pixels are stored,
    and nothing depends on the captioning model. A clip that cannot be used is a row that says why.
    """
    given, dataset = run.given(), run.resource("clips").dataset()
    return window_shards(given, dataset, run.left, settings)


def window_previews(run: StepRun, settings: PreviewSettings) -> Outcomes:
    """A small animated WebP of every window, to check clips and captions at a glance.

    Written to `previews/<clip>/<start>_<end>.webp`. One row a window with the file's frames, size and bytes, or the
    reason why there is no preview. Files of windows that no longer exist are removed. A run that makes captions, too,
    makes both from one decoding.
    """
    return preview_shards(run.given(), run.left, settings)


def window_captions(run: StepRun, settings: CaptionSettings) -> Outcomes:
    """A caption of every window, by the chosen vision-language model.

    One row a window with text, finish reason, token counts, model, revision and prompt hash; rendered into
    `metas/v0/<clip>.json` under `<variant>_caption`, beside the captions of other variants. A second run captions
    only what is missing or has changed. One engine start serves all shards of a run, and a run that makes captions by
    several prompts of a model asks for all of them in one visit to each window.
    """
    given, asked = run.given(), {prompt: chosen for prompt, (chosen, _) in run.captions.items()}
    if run.left:
        with run.session("caption_model", settings.batch_size, several=asks_several(asked)) as session:
            yield from caption_shards(given, run.left, session, _of_one_visit(run, session), run.beside)


def _of_one_visit(run: StepRun, session: EngineSession) -> dict[str, CaptionSettings]:
    """What is asked of a window, by the names of prompts: the step's own, and of the others those whose schema the
    engine can keep to."""
    asked: dict[str, CaptionSettings] = {}
    for prompt, (settings, choice) in run.captions.items():
        try:
            check_schemas({prompt: Ask.of(settings, prompt)}, session)
        except ConfigError:
            if choice.key != run.choice.key:
                continue  # what is wrong there is for its own step to say
        asked[prompt] = settings
    return asked


def enhanced_captions(run: StepRun, settings: EnhanceSettings) -> Outcomes:
    """Every caption of the chosen variant, rewritten and enriched by a text model.

    One row a caption with the new text and the hash of the caption it came from; rendered into `metas/v0/<clip>.json`
    under `<key>_enhanced_caption`, and left out there once the caption has changed.
    """
    given, (caption_key, _) = run.given(), run.choice.keys
    with run.session("text_model", settings.batch_size) as session:
        yield from enhance_shards(given, run.shards, caption_key, session, settings)
