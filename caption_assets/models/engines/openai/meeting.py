"""How a model is met at its servers: each says what it serves, and passes a trial; and all have to be alike."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import cast, get_args

from caption_assets.errors import ConfigError, ModelError
from caption_assets.models.engines.base import EngineOptions
from caption_assets.models.engines.openai import server as asking
from caption_assets.models.engines.openai.address import Address
from caption_assets.models.engines.openai.dialects import DIALECTS
from caption_assets.models.engines.openai.inputs import Form, ServerPrepare
from caption_assets.models.engines.openai.look import Served, look
from caption_assets.models.engines.openai.server import Server
from caption_assets.models.engines.openai.trial import Passed, hold_trial, try_schemas
from caption_assets.models.families import FrameLimits
from caption_assets.models.requests import Author
from caption_assets.models.variants import Variant
from caption_assets.models.weights.checkpoints import Checkpoint, asked_limits, frame_limits
from caption_assets.models.weights.downloads import locate_config

log = logging.getLogger(__name__)
_MORE_TRIES = 3
# Once one server is there, the others are given so much longer.
_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class Met:
    """A server that has passed its trial: what it serves, as whose texts, and in which frames."""

    served: Served
    passed: Passed
    author: Author
    limits: FrameLimits | None

    def introduce(self, server: Server) -> None:
        """Tells a server what it needs to know to ask."""
        server.trial, server.trial_model, server.author = self.passed.body, self.passed.answer.model, self.author

    def like(self, other: "Met") -> bool:
        """Whether requests for one can be sent to the other, and their texts count as the same model's."""
        return self._kind == other._kind

    @property
    def _kind(self) -> tuple[object, ...]:
        return self.author, self.passed.prepare, self.passed.answer.model, self.limits, self.served.context


class Meetings:
    """Meets servers for one model. `frame_limits` may fetch a file: ask for it before you are in an event loop."""

    def __init__(
        self, variant: Variant, checkpoint: Checkpoint, options: EngineOptions, model_dir: str | None = None
    ) -> None:
        self._variant, self._checkpoint, self._options, self._model_dir = variant, checkpoint, options, model_dir
        self.schemas: dict[str, str] = {}
        """Those that answers are to keep to, each with what was asked with it."""

    async def meet_all(
        self, servers: Sequence[Server], wait_s: float, *, again: bool
    ) -> tuple[Mapping[Server, Met], Mapping[Server, str]]:
        """Those that are there, and why others are not. Raises ModelError where none is, and where they have different
        models.

        `again` says that they were there before: such a server is not given up for one answer, since others may come
        from where it restarts.
        """
        tasks = {asyncio.create_task(self._patiently(each, wait_s, again)): each for each in servers}
        open_tasks = set(tasks)
        try:
            while open_tasks and not any(_has_met(task) for task in tasks):
                _, open_tasks = await asyncio.wait(open_tasks, return_when=asyncio.FIRST_COMPLETED)
            if open_tasks:
                await asyncio.wait(open_tasks, timeout=_GRACE_S)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        met = {server: task.result() for task, server in tasks.items() if _has_met(task)}
        if not met:
            errors = {}
            for task, server in tasks.items():
                try:
                    task.result()
                except ModelError as error:
                    errors[server] = error
            raise _none_met(errors)
        _require_alike(met)
        away = {server: task for task, server in tasks.items() if server not in met}
        return met, {
            server: "it has not passed its trial yet" if task.cancelled() else str(task.exception())
            for server, task in away.items()
        }

    async def is_back(self, server: Server, found: Met) -> bool:
        """Whether a server that has gone is there and still has the model that was found."""
        try:
            met = await self._once(server, 0.0, again=True)
        except ModelError as error:
            log.info("%s", error)
            return False
        if not met.like(found):
            log.warning("The server at %s stays left out: it has another model now.", server.address.shown)
            return False
        met.introduce(server)
        return True

    @cached_property
    def frame_limits(self) -> FrameLimits | None:
        """By the model's config; None for a text model. Raises ModelError where it has none."""
        if self._variant.is_text:
            return None
        if self._variant.frames is not None and self._checkpoint.folder is None:
            return asked_limits(self._variant, self._variant.frames)
        folder = locate_config(self._checkpoint, self._model_dir)
        return frame_limits(self._variant, folder, self._variant.family)

    @property
    def names(self) -> tuple[str, ...]:
        """What a server may call the model."""
        folder = [str(self._checkpoint.folder)] if self._checkpoint.folder else []
        return self._checkpoint.model_id, *folder, self._variant.name

    async def _patiently(self, server: Server, wait_s: float, again: bool) -> Met:
        deadline, pause = time.monotonic() + wait_s, asking.FIRST_PAUSE_S
        for _ in range(_MORE_TRIES if again else 0):
            try:
                return await self._once(server, max(0.0, deadline - time.monotonic()), again)
            except ModelError:
                if time.monotonic() > deadline:
                    raise
            await asyncio.sleep(pause)
            pause *= 2
        return await self._once(server, max(0.0, deadline - time.monotonic()), again)

    async def _once(self, server: Server, wait_s: float, again: bool) -> Met:
        options = self._options
        served = await look(server, self.names, wait_s)
        form, limits = self._form(served), self.frame_limits
        if limits is not None and form in ("images", "mp4"):
            limits = limits.as_images()
        prepare = ServerPrepare(
            served.model,
            self._variant.family,
            form,
            options.sampling,
            self._variant.stop,
            DIALECTS["vllm"] if form in ("jpeg", "png") else served.dialect,
            options.server.encode_mp4,
        )
        patience_s = max(wait_s, options.server.retry_s)
        passed = await hold_trial(server, prepare, limits, patience_s, served.others or "", again=again)
        passed = await try_schemas(server, passed, limits, dict(self.schemas))
        return Met(served, passed, _author(server.address, served, passed), limits)

    def _form(self, served: Served) -> Form:
        options = self._options.server
        video = options.video
        if video not in (*get_args(Form), "auto"):
            raise ConfigError(f"form of video {video!r}", "it is unknown", "choose auto, jpeg, png, images or mp4")
        if video == "mp4" and options.encode_mp4 is None:
            raise ConfigError("form of video 'mp4'", "nothing here makes mp4 files", "give encode_mp4")
        if video == "auto":
            return "jpeg" if served.software == "vllm" else "images"
        return cast(Form, video)


def _has_met(task: "asyncio.Task[Met]") -> bool:
    return task.done() and not task.cancelled() and task.exception() is None


def _none_met(errors: Mapping[Server, ModelError]) -> ModelError:
    """Of one server its error, of several why each of them cannot be used."""
    (one, first), *others = errors.items()
    if not others:
        return first
    why: dict[str, list[str]] = {}
    for server, error in errors.items():
        why.setdefault(error.wrong, []).append(server.address.shown)
    wrong = "; ".join(f"{' and '.join(servers)}: {said}" for said, servers in why.items())
    return ModelError(f"servers of engine 'openai' in {one.address.variable}", f"none can be used. {wrong}", first.fix)


def _require_alike(met: Mapping[Server, Met]) -> None:
    (first, found), *others = met.items()
    for server, other in others:
        if not other.like(found):
            named = " and ".join(
                f"{each.author.model_id!r} ({', '.join(each.author.manner)})" for each in (found, other)
            )
            raise ModelError(
                f"servers of engine 'openai' in {first.address.variable}",
                f"those at {first.address.shown} and {server.address.shown} are not alike: {named}",
                "give servers that run the same model with the same software and options",
            )


def _author(address: Address, served: Served, passed: Passed) -> Author:
    """The model by its answer's name for it; where that is only ours, by what the server has loaded it from."""
    named, prepare = address.redact(passed.answer.model), passed.prepare
    model_id = served.root if served.root and named in ("", served.model) else named or served.model
    # No text depends on whether its tokens' log-probabilities are told.
    changed = (f"{name}={new}" for name, new in prepare.changed.items() if new is None and name != "logprobs")
    manner = (*(() if prepare.family.is_text else (prepare.form,)), *sorted(changed))
    return Author(model_id, server_model=served.model, manner=manner)
