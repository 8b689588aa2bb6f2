"""Who has which requests: those that wait, and those that each engine of a pool has. Bookkeeping, without threads."""

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from caption_assets.models.requests import Request

# An engine has at least so many to go on with, however few there are, and at most so many: vLLM runs 256 at once.
_LEAST, _MOST = 8, 512


@dataclass(slots=True)
class _Hand:
    """What one engine has. `is_alone` says that it has a suspect, and gets nothing beside it."""

    in_batches: bool
    held: dict[str, Request] = field(default_factory=dict)
    num_bytes: int = 0
    in_round: bool = False
    is_alone: bool = False


class Hands:
    """Requests between their source and the engines of a pool. Each engine, by its number, has up to `most_bytes` of
    them, at least one; one that works in batches a batch of `batch_size`."""

    def __init__(self, most_bytes: int, batch_size: int) -> None:
        self._most_bytes, self._batch_size = most_bytes, batch_size
        self._waiting: deque[Request] = deque()
        self._suspects: deque[Request] = deque()
        self._hands: dict[int, _Hand] = {}
        self._num_bytes = 0

    @property
    def in_sight(self) -> int:
        """Requests that have no answer yet."""
        return len(self._waiting) + len(self._suspects) + sum(len(hand.held) for hand in self._hands.values())

    def has_room(self, engines: int, request: Request | None = None) -> bool:
        """Whether `request`, or another one like the rest, may be read for so many engines."""
        size = request.size if request else 1
        return not self.in_sight or self._num_bytes + size <= engines * self._most_bytes

    def add(self, request: Request) -> None:
        self._waiting.append(request)
        self._num_bytes += request.size

    def join(self, engine: int, *, in_batches: bool) -> None:
        """An engine is ready, and has nothing."""
        self._hands[engine] = _Hand(in_batches)

    def leave(self, engine: int) -> Sequence[Request]:
        """An engine has ended; what it had."""
        hand = self._hands.pop(engine, None)
        return list(hand.held.values()) if hand else []

    def give_back(self, request: Request, *, suspect: bool = False) -> None:
        """What an engine had that has left: before all others, or where it is a `suspect`, alone."""
        if suspect:
            self._suspects.append(request)
        else:
            self._waiting.appendleft(request)

    def forget(self, request: Request) -> None:
        """What an engine had that has left is over."""
        self._num_bytes -= request.size

    def alone(self, engine: int) -> bool:
        return engine in self._hands and self._hands[engine].is_alone

    def done(self, engine: int, request_id: str) -> bool:
        """An engine has answered; False where nobody has asked it for that any more."""
        hand = self._hands.get(engine)
        request = hand.held.pop(request_id, None) if hand else None
        if hand is None or request is None:
            return False
        hand.num_bytes -= request.size
        hand.is_alone = False
        self._num_bytes -= request.size
        return True

    def end_round(self, engine: int) -> None:
        if engine in self._hands:
            self._hands[engine].in_round = False

    def drop_all(self) -> None:
        """Nobody waits for anything any more."""
        self._waiting.clear()
        self._suspects.clear()
        for hand in self._hands.values():
            hand.held.clear()
            hand.num_bytes, hand.is_alone = 0, False
        self._num_bytes = 0

    def take(self, engine: int, among: int, more_to_come: bool) -> list[Request]:
        """What an engine is to have now, beside what it has; nothing where it has enough.

        `among` so many engines all that is in sight is shared: none has more than its part, so that they end together,
        and one that is ready a moment before the others does not take everything. An engine that works in batches waits
        for a whole one where there is `more_to_come`.
        """
        hand = self._hands.get(engine)
        if hand is None or hand.in_round or hand.is_alone:
            return []
        if self._suspects and not self._waiting and not hand.held:
            hand.is_alone = True
            return self._give(hand, [self._suspects.popleft()])
        share = max(_LEAST, min(_MOST, math.ceil(self.in_sight / among)))
        if hand.in_batches:
            if len(self._waiting) < self._batch_size and more_to_come:
                return []
            size = min(self._batch_size, len(self._waiting), math.ceil(self.in_sight / among))
            return self._give(hand, [self._waiting.popleft() for _ in range(size)])
        if not self._waiting or len(hand.held) >= share:
            return []
        if hand.held and hand.num_bytes + self._waiting[0].size > self._most_bytes:
            return []
        return self._give(hand, [self._waiting.popleft()])

    def _give(self, hand: _Hand, requests: list[Request]) -> list[Request]:
        for request in requests:
            hand.held[request.request_id] = request
            hand.num_bytes += request.size
        hand.in_round = hand.in_batches and bool(requests)
        return requests
