"""JSON schemas of answers: what engines are given of a user's schema, and what becomes of an answer by it.

A user's schema is `bounded` once: its references are made local (`references`), its parts put together (`composing`)
and said plainly (`plain`), and then its arrays and texts are given ends (`bounds`). Grammars are made of what is
`grammatical` in it; an answer is `checked` by all of it.
"""

from caption_assets.models.schemas.answers import InvalidAnswerError, checked, edited
from caption_assets.models.schemas.bounds import bounded, tightened
from caption_assets.models.schemas.grammatical import grammatical, tell_unkept, unkept

__all__ = ["InvalidAnswerError", "bounded", "checked", "edited", "grammatical", "tell_unkept", "tightened", "unkept"]
