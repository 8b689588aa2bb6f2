"""One shard's windows, each visited once: decoded, prepared, and asked everything that any caption of it lacks."""

import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

from caption_assets.errors import CaptionAssetsError
from caption_assets.models.engines.base import EngineInfo
from caption_assets.models.requests import Question, Request, Result, caption_request
from caption_assets.records import FramePicks, Window
from caption_assets.steps.beside import PreviewsBeside
from caption_assets.steps.caption_stream import Captions, request_id
from caption_assets.steps.preparing import Preparers
from caption_assets.steps.report import Ended
from caption_assets.steps.windows import probed_clips
from caption_assets.store.rows import WindowRow, window_of
from caption_assets.workers.tasks import CaptionTask, Prepared, WantedFrames, caption_clip


class Visits:
    """A `Stream`: the captions of one shard by several keys, with its previews, where these are made on the way.

    Of the keys that a window lacks, the first one's question is the request's own, and those of the others go with it,
    as far as they would have its frames in the same size if they were asked alone: a caption is what it would be
    without the others. Those that would not are asked in a further visit. Where any prompt has the caption of the
    window before, the windows of a clip are visited one after the other.
    """

    def __init__(
        self,
        captions: Sequence[Captions],
        windows: list[WindowRow],
        preparers: Preparers,
        batch_size: int,
        previews: PreviewsBeside | None,
    ) -> None:
        first = captions[0]
        # Of both threads, and never changed.
        self.shard = first.shard
        self._captions, self._previews = captions, previews
        self._preparers, self._batch_size = preparers, batch_size
        self._context, self._session, self._step = first.context, first.session, first.step
        good = [row for row in windows if row.status == "ok"]
        self._rows = {request_id(self.shard, row): row for row in good}
        self._probed = probed_clips(windows)
        self._locations = {row.location: row for row in good}
        # By window, the captions that it has not been asked for, and those of the visit that is under way. The asking
        # thread writes them where a visit begins, and the answering one reads them where it ends.
        self._lacking = {name: [each for each in captions if name in each.pending] for name in self._rows}
        self._asked: dict[str, list[Captions]] = {}
        self._pending = {name: row for name, row in self._rows.items() if self._lacking[name]}
        opened = {row.clip_id: row.num_bytes or 0 for row in self._pending.values()}
        if previews is not None:
            opened |= {row.clip_id: row.num_bytes or 0 for row in good if row.location in previews.locations}
        first.bytes_read = sum(opened.values())  # once, whatever is asked
        # Set by the stream that the shard belongs to, before anything is asked.
        self.unasked: Callable[[str, CaptionAssetsError], None]
        following = any(each.ask.follows for each in captions)
        pairs = pairwise(self._pending.items()) if following else ()
        self._next = {name: after for (name, a), (after, b) in pairs if a.clip_id == b.clip_id}
        # Written by one thread and read by the other, an entry at a time.
        later = set(self._next.values())
        self._ready = deque(name for name in self._pending if name not in later)
        self._preparing: dict[str, tuple[float, float]] = {}
        # Set in the answering thread, and read by both.
        self.ended = False
        # Of the answering thread.
        self.waiting = set(self._pending)
        reused, frames = len(good) - len(self.waiting), sum(map(_frames_shown, self._pending.values()))
        self._context.progress.start(self._step.name, self.shard, len(good), reused=reused, work=frames)

    # In the asking thread.

    @property
    def works_beside(self) -> bool:
        return self._previews is not None and self._previews.to_make

    def requests(self) -> Iterator[Request]:
        """A request for each window, decoded and prepared in the workers, ahead of the engine."""
        yield from self._made(self._tasks(self._previews))
        if self._previews is not None:
            self._previews.complete()

    def more_requests(self) -> Iterator[Request]:
        """For the windows whose turn it is by now."""
        if self._ready:
            yield from self._made(self._tasks(None))

    def _made(self, tasks: Sequence[CaptionTask]) -> Iterator[Request]:
        left = {task.location: {asked.request_id for asked in task.questions.values()} for task in tasks}
        # Prepared windows are large: for each engine, a batch can form while another runs, and no further.
        preparers = self._preparers
        in_flight = 2 * self._batch_size * preparers.engines
        loads = next((task.prepare for task in tasks), None)  # the engine's; it is None where previews alone are made
        run = self._context.workers.run(
            caption_clip, tasks, at_once=preparers.at_once, in_flight=in_flight, loads=loads
        )
        asked_at = time.monotonic()
        for task, made in run:
            if isinstance(made, Prepared):
                left[task.location].discard(made.request_id)
                if isinstance(made.request, CaptionAssetsError):
                    self.unasked(made.request_id, made.request)
                    continue
                self._preparing[made.request_id] = made.decode_s, made.render_s
                made_at = time.monotonic()
                yield made.request
                taken_at = time.monotonic()
                preparers.waited(made_at - asked_at, taken_at - made_at)
                asked_at = taken_at
                continue
            if isinstance(made, CaptionAssetsError):
                for name in left[task.location]:
                    self.unasked(name, made)
            if self._previews is not None:
                self._previews.settle(task.location, made)

    def _tasks(self, previews: PreviewsBeside | None) -> list[CaptionTask]:
        """What the workers are to do now: the windows whose turn it is, and where given, the previews."""
        by_location: dict[str, list[WindowRow]] = {}
        while self._ready:
            row = self._pending[self._ready.popleft()]
            by_location.setdefault(row.location, []).append(row)
        info = self._captions[0].start_engine() if by_location else None
        tasks = []
        for location, any_row in self._locations.items():
            rows = {window_of(row): row for row in by_location.get(location, ())}
            wanted = self._wanted(rows, info) if info is not None else {}
            windows = previews.pending(location) if previews is not None else ()
            if not wanted and not windows:
                continue
            tasks.append(
                CaptionTask(
                    location=location,
                    content_hash=any_row.content_hash or "",
                    probed=self._probed.get(location),
                    wanted=tuple(wanted.values()),
                    questions={window: self._request(rows[window]) for window in wanted},
                    prepare=info.prepare if info is not None else None,
                    previews=windows,
                    preview_settings=previews.settings if previews is not None else None,
                )
            )
        threads = max(1, self._preparers.at_once() // max(1, len(tasks)))
        return [replace(task, threads=threads) for task in tasks]

    def _request(self, row: WindowRow) -> Request:
        """What is asked about a window, without its frames."""
        name = request_id(self.shard, row)
        first, *others = self._questions(name)
        # The request itself is "".
        then = (replace(each, of="" if each.of == first.name else each.of) for each in others)
        return caption_request(name, first.prompt, None, first.max_tokens, first.sampling, first.schema, tuple(then))

    def _questions(self, name: str) -> list[Question]:
        return [question for each in self._asked[name] for question in each.questions(name)]

    def _wanted(self, rows: Mapping[Window, WindowRow], info: EngineInfo) -> dict[Window, WantedFrames]:
        """What to decode, by window, and who asks about it; a window that the model cannot take is left out and said to
        fail, for the caption that it is too much for."""
        wanted: dict[Window, WantedFrames] = {}
        if info.frame_limits is None:
            return wanted
        for window, row in rows.items():
            name = request_id(self.shard, row)
            sizes = [(captions, self._size(captions, row, info)) for captions in self._lacking[name]]
            first, size = sizes[0]
            together = [each for each, its in sizes if its == size] if isinstance(size, tuple) else [first]
            self._asked[name] = together
            self._lacking[name] = [each for each, _ in sizes if each not in together]
            if isinstance(size, CaptionAssetsError):
                self.unasked(name, size)
                continue
            wanted[window] = WantedFrames(window, FramePicks(row.frame_ids, row.times_s), size)
        return wanted

    def _size(self, captions: Captions, row: WindowRow, info: EngineInfo) -> tuple[int, int] | CaptionAssetsError:
        """The size that the model sees the window's frames in for one of its captions, or why it cannot."""
        assert info.frame_limits is not None
        shown, count = (row.display_width or 0, row.display_height or 0), len(row.frame_ids)
        prompt, max_tokens = _longest(captions.questions(request_id(self.shard, row)))
        asked = f"window {window_of(row)}"
        try:
            return info.context.frame_size(asked, prompt, max_tokens, shown, count, info.frame_limits)
        except CaptionAssetsError as error:
            return error

    # In the answering thread.

    def settle(self, request_id: str, result: Result | CaptionAssetsError) -> None:
        """Makes the answers about a window the rows that are stored, one for each key that it lacked."""
        times = self._preparing.pop(request_id, (None, None))
        then = iter(result.then if isinstance(result, Result) else ())
        first = True
        for captions in self._asked[request_id]:
            count = len(captions.questions(request_id))
            # Where nothing came of the request at all, nothing did of any question.
            given = [result] if first else []
            given += [each for _, each in zip(range(count - len(given)), then, strict=False)]
            captions.keep(request_id, captions.row(request_id, given or [_untimed(result)], *(times if first else ())))
            first = False
        if self._lacking[request_id]:
            self._ready.append(request_id)
            return
        self._done(request_id)
        self._lead_on(request_id)

    def _lead_on(self, name: str) -> None:
        """It is the next window's turn, which may lack nothing, by what was said of this one."""
        while (after := self._next.get(name)) is not None:
            self._lacking[after] = [each for each in self._lacking[after] if each.lacks(after)]
            if self._lacking[after]:
                self._ready.append(after)
                return
            self._done(name := after)

    def _done(self, name: str) -> None:
        self.waiting.discard(name)
        self._context.progress.advance(self._step.name, self.shard, work=_frames_shown(self._pending[name]))

    def finish(self) -> Iterator[Ended]:
        if self._previews is not None:
            # First: the documents that are rendered for the captions then have the previews, too.
            seconds = sum(captions.seconds for captions in self._captions)
            yield self._previews.finish(self.shard, seconds if self._pending else None)
            self._captions[0].unchanged.append(self._previews.unchanged)
        for captions in self._captions:
            yield from captions.finish()

    def give_up(self, error: CaptionAssetsError) -> Iterator[Ended]:
        if self._previews is not None:
            yield self._previews.give_up(self.shard, error)
        for captions in self._captions:
            yield from captions.give_up(error)

    def save(self) -> None:
        if self._previews is not None:
            self._previews.save()
        for captions in self._captions:
            captions.save()


def _frames_shown(row: WindowRow) -> int:
    """What the time that a window takes goes by: most of its tokens are of these."""
    return len(row.frame_ids)


def _untimed(result: Result | CaptionAssetsError) -> Result | CaptionAssetsError:
    """A result whose time is another row's."""
    return replace(result, seconds=0.0) if isinstance(result, Result) else result


def _longest(questions: Sequence[Question]) -> tuple[str, int]:
    """Of a caption's questions, the prompt and the tokens of answers that take most of a model's context beside the
    window's video."""
    tokens = {question.name: question.max_tokens for question in questions}
    # One that follows an answer has that in its prompt.
    room = [(q.prompt, q.max_tokens + (tokens[q.of] if q.of is not None else 0)) for q in questions]
    return max(room, key=lambda each: len(each[0].encode()) + each[1])
