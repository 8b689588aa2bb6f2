"""The trial: a request of the kind that is sent, as small as can be, and what its answer shows of the server."""

import asyncio
import json
import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from caption_assets.errors import ModelError
from caption_assets.models.engines.openai import server as asking
from caption_assets.models.engines.openai.inputs import ServerPrepare
from caption_assets.models.engines.openai.look import way_in
from caption_assets.models.engines.openai.replies import Answer
from caption_assets.models.engines.openai.server import RefusedError, Server, TroubleError
from caption_assets.models.families import FrameLimits
from caption_assets.models.requests import Request, caption_request, enhance_request, frame_size
from caption_assets.models.schemas import grammatical, tell_unkept
from caption_assets.records import FramePicks, SampledFrames

_TOKENS, _MANY_TOKENS = 16, 4096
# Of models that cannot but think first, where that takes all the tokens that there are.
_TOO_FEW = re.compile(r"output limit was reached|higher max_(?:completion_)?tokens", re.IGNORECASE)
# By so many equal answers a server says that it will not, and does not just fail.
_STEADY = 3


@dataclass(frozen=True, slots=True)
class Passed:
    """The trial's answer, its `body`, and requests made as the server takes them."""

    answer: Answer
    body: bytes
    prepare: ServerPrepare

    def left_out(self) -> Iterator[str]:
        """In sentences, what of all that is wanted the server does not do."""
        yield from self.prepare.left_out()
        if not self.answer.tokens and self.answer.text:
            yield "The server gives no log-probabilities, so that nothing is known of how sure the model is."


async def hold_trial(
    server: Server,
    prepare: ServerPrepare,
    limits: FrameLimits | None,
    patience_s: float,
    others: str = "",
    *,
    again: bool = False,
) -> Passed:
    """Asks for a few words about four black frames, or with no `limits` about none.

    A field that the server does not take, and that can be done without, is left out of all requests. What may pass is
    waited for, `patience_s` seconds. An answer need have no text only where thinking has taken its few tokens. Raises
    ModelError where the server does not answer, which names the `others` that a server lists in place of this model, or
    says that it did before, where it is asked `again`.
    """
    deadline, pause, tokens = time.monotonic() + patience_s, asking.FIRST_PAUSE_S, _TOKENS
    last, times = "", 0

    def refused(objection: str, status: int) -> ModelError:
        if again and not way_in(server.address, status):
            return _no_longer(server, objection)
        return _refused(server, prepare, limits, others, objection, status)

    while True:
        fields = prepare.body(_request(limits, tokens))
        body = json.dumps(fields).encode()
        try:
            answer = await server.send(body, server.options.timeout_s, fields)
            if answer.problem and not answer.too_short:
                raise TroubleError(server.address.redact(answer.problem), status=200)
            return Passed(answer, body, prepare)
        except RefusedError as refusal:
            if refusal.field is not None:
                prepare = prepare.without(refusal.field)
            elif tokens == _TOKENS and _TOO_FEW.search(str(refusal)):
                tokens = _MANY_TOKENS
            else:
                raise refused(str(refusal), refusal.status) from None
            continue
        except TroubleError as trouble:
            times = times + 1 if str(trouble) == last else 1
            last = str(trouble)
            wait_s = max(trouble.wait_s, pause * random.uniform(0.5, 1.5))
            pause = min(2 * pause, asking.LONGEST_PAUSE_S)
            steady = trouble.status in (200, 500, 501) and times == _STEADY
            if steady or isinstance(trouble, asking.LateError) or time.monotonic() + wait_s > deadline:
                raise refused(last, trouble.status) from None
        await asyncio.sleep(wait_s)


async def try_schemas(server: Server, passed: Passed, limits: FrameLimits | None, schemas: Mapping[str, str]) -> Passed:
    """Asks for a few words by each of the `schemas`, of which it is known what was asked with them.

    Where the server refuses one, it is sent what grammars keep to of each. Raises ModelError where it refuses that,
    too. Any other trouble is not the schema's.
    """
    prepare = passed.prepare
    waiting = list(schemas)
    while waiting:
        schema = waiting[-1]
        fields = prepare.body(replace(_request(limits, _TOKENS), schema=schema))
        try:
            await server.send(json.dumps(fields).encode(), server.options.timeout_s, fields)
        except RefusedError as refusal:
            if refusal.status in (400, 422):
                if prepare.grammatical or grammatical(schema) == schema:
                    asked = f"{schemas[schema]}, of the server in {server.address.variable}"
                    fix = "write it with words that the server takes, or ask without a schema"
                    raise ModelError(asked, str(refusal), fix) from None
                prepare = replace(prepare, grammatical=True)
                continue
        except TroubleError:
            pass
        if prepare.grammatical:
            tell_unkept(schema, schemas[schema])
        waiting.pop()
    return replace(passed, prepare=prepare)


def _request(limits: FrameLimits | None, tokens: int) -> Request:
    if limits is None:
        return enhance_request("trial", "Repeat this.", "Yes.", tokens)
    width, height = frame_size(limits.factor, limits.factor, 4, limits)
    picks = FramePicks((0, 1, 2, 3), (0.0, 0.5, 1.0, 1.5))
    frames = SampledFrames(np.zeros((4, height, width, 3), np.uint8), picks)
    return caption_request("trial", "Describe the video.", frames, tokens)


def _no_longer(server: Server, objection: str) -> ModelError:
    asked = f"server of engine 'openai' in {server.address.variable}"
    wrong = f"it no longer answers requests of the kind that it has answered before ({objection})"
    return ModelError(asked, wrong, "see to the server, and run this again")


def _refused(
    server: Server, prepare: ServerPrepare, limits: FrameLimits | None, others: str, objection: str, status: int
) -> ModelError:
    address = server.address
    what = f"video in the form {prepare.form!r}" if limits else "a text"
    asked = f"{what} for model {prepare.model!r} of the server in {address.variable}"
    if fix := way_in(address, status):
        return ModelError(asked, f"it does not let us in ({objection})", fix)
    if status in (404, 405) or 300 <= status < 400:
        fix = f"check server_model, and {address.variable}, which mostly ends in /v1"
        fix += f"; the server lists {others}" if others else ""
    elif "trust-request-mm-kwargs" in objection:
        fix = "start the server with --trust-request-mm-kwargs, by which vLLM lets a request state its frames' times"
    elif status == 0 or status == 429:
        fix = "see to the server, and run this again"
    elif others:
        fix = f"check server_model; the server lists {others}"
    elif limits:
        fix = "start the server as docs/engines.md says, or choose another form as server_video, or a model that sees"
    else:
        fix = "check which model it serves"
    return ModelError(asked, f"it gives no answer ({objection})", fix)
