"""How the transformers engine draws tokens, as vLLM does, with a seed for each row of a batch; and scores them."""

from collections.abc import Callable, Sequence
from typing import Any

from caption_assets.models.variants import Sampling

Scores = Callable[[Any, Any], Any]
"""Of the tokens so far, (rows, length), and their scores, (rows, vocabulary): the scores to choose the highest of."""


def score_changes(sampling: Sampling, seeds: Sequence[int], prompt_length: int) -> list[Scores]:
    """What is to be done to scores before the highest is chosen, in this order.

    `seeds` are those of the rows; a row's draws are its own, whichever rows are beside it.
    """
    from transformers import RepetitionPenaltyLogitsProcessor

    changes: list[Scores] = []
    if sampling.repetition_penalty != 1:
        changes.append(RepetitionPenaltyLogitsProcessor(sampling.repetition_penalty))
    if sampling.presence_penalty:
        changes.append(_lower_present(sampling.presence_penalty, prompt_length))
    if sampling.temperature > 0:
        changes.append(_draw(sampling, seeds))
    return changes


class Noted:
    """Notes the log-probability of each token that is chosen, by the scores as the model gives them.

    To be called with the scores of each step before anything changes them. Of these, no more than one step's are kept.
    """

    def __init__(self, prompt_length: int) -> None:
        self._length = prompt_length
        self._scores: Any = None
        self._steps: list[Any] = []

    def __call__(self, tokens: Any, scores: Any) -> Any:
        self._note(tokens)
        self._scores = scores
        return scores

    def of(self, tokens: Any) -> list[list[float]]:
        """Of every row's tokens after the prompt, given everything that was generated, (rows, length)."""
        import torch

        self._note(tokens)
        self._scores = None
        return torch.stack(self._steps, dim=1).tolist() if self._steps else [[] for _ in tokens]

    def _note(self, tokens: Any) -> None:
        """What was chosen by the scores of the step before."""
        if self._scores is not None:
            chosen = tokens[:, self._length + len(self._steps), None]
            scores = self._scores.float()
            self._steps.append((scores.gather(1, chosen) - scores.logsumexp(dim=1, keepdim=True))[:, 0])


def _lower_present(penalty: float, prompt_length: int) -> Scores:
    def change(tokens: Any, scores: Any) -> Any:
        import torch

        present = torch.zeros_like(scores).scatter_(1, tokens[:, prompt_length:], penalty)
        return scores - present

    return change


def _draw(sampling: Sampling, seeds: Sequence[int]) -> Scores:
    """Adds noise by which the highest score is a draw of the distribution (the Gumbel trick)."""
    generators: list[Any] = []

    def change(_: Any, scores: Any) -> Any:
        import torch

        if not generators:
            generators.extend(torch.Generator(scores.device).manual_seed(seed) for seed in seeds)
        kept = _cut_off(scores.float() / sampling.temperature, sampling.top_k, sampling.top_p)
        noise = torch.empty_like(kept)
        for row, generator in zip(noise, generators, strict=True):
            row.exponential_(generator=generator)
        return kept - noise.log()

    return change


def _cut_off(scores: Any, top_k: int, top_p: float) -> Any:
    """The scores, minus infinity for all but the `top_k` best (0: all) and the best that have `top_p` together."""
    import torch

    if 0 < top_k < scores.shape[1]:
        least = scores.topk(top_k).values[:, -1:]
        scores = scores.masked_fill(scores < least, -torch.inf)
    if top_p < 1:
        ascending, order = scores.sort()
        unlikely = ascending.softmax(dim=1).cumsum(dim=1) <= 1 - top_p
        unlikely[:, -1] = False
        scores = scores.masked_fill(unlikely.scatter(1, order, unlikely), -torch.inf)
    return scores
