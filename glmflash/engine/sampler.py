"""Logits of one step, one row per sequence → one token per row, each row as if it were alone.

The order is that of transformers: repetition penalty, the caller's processors, temperature, top-k, top-p,
min-p; what a guide forbids goes out before temperature. Only a greedy row that nothing else touches shares
work with its neighbours, and only an argmax, which does not round: so no row's token depends on which rows
stand beside it.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from glmflash.engine.guide import Guide
from glmflash.engine.sampling import Sampling
from glmflash.errors import NumericsError, ParameterError
from glmflash.grammar.state import Mask
from glmflash.output.result import TokenLogprob

__all__ = ["RowState", "Sampled", "sample"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Sampled:
    """The token chosen for one row, and its log-probability if asked for."""

    token_id: int
    logprob: TokenLogprob | None = None


@dataclass(slots=True)
class RowState:
    """What the sampler remembers of one sequence.

    Args:
        sampling: Its parameters.
        prompt: Ids of its prompt, placeholders included: the repetition penalty covers them all.
        generated: Ids generated so far; grows by `accept`.
        guide: Says which tokens may come next, if not all.
    """

    sampling: Sampling
    prompt: Sequence[int] = ()
    generated: list[int] = field(default_factory=list)
    guide: Guide | None = None
    _generator: torch.Generator = field(init=False, repr=False)
    _seen: Tensor | None = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        # On the CPU whatever the device, so that a seed means the same everywhere.
        seed = self.sampling.seed
        self._generator = torch.Generator().manual_seed(secrets.randbits(63) if seed is None else seed)

    def accept(self, token_id: int) -> None:
        """The sequence goes on with this token."""
        self.generated.append(token_id)
        if self.guide is not None:
            self.guide.accept(token_id)
        if self._seen is not None and token_id < len(self._seen):
            self._seen[token_id] = True

    def seen(self, vocab_size: int, device: torch.device) -> Tensor:
        """Which tokens the prompt and the answer hold.

        Shapes:
            -> (vocab_size,) bool
        """
        if self._seen is None:
            ids = [token for token in {*self.prompt, *self.generated} if 0 <= token < vocab_size]
            self._seen = torch.zeros(vocab_size, dtype=torch.bool, device=device)  # (V,)
            self._seen[ids] = True
        return self._seen

    def uniform(self) -> float:
        """The next random number of this row, 0 <= x < 1."""
        return float(torch.rand((), dtype=torch.float64, generator=self._generator).item())


def sample(logits: Tensor, rows: Sequence[RowState], *, vocab_size: int) -> list[Sampled | BaseException]:
    """Choose the next token of every row.

    A row that fails gives the exception instead of a token: logits that are not finite, or whatever a
    caller's processor raised. Its neighbours are not touched. The caller passes the token to `accept`.

    Args:
        logits: The model's output for the last token of each sequence. Not changed.
        rows: The sequences, in the same order.
        vocab_size: Real entries of the tokenizer; rows of the vocabulary from here on are never chosen.

    Shapes:
        logits (R, V), V >= vocab_size

    Example:
        >>> sample(torch.tensor([[0.0, 3.0, 9.0]]), [RowState(Sampling())], vocab_size=2)
        [Sampled(token_id=1, logprob=None)]
    """
    real = logits[:, :vocab_size].float()  # (R, vocab_size)
    # Ten times faster on a CPU than isfinite().all(). A sum of finite logits is finite.
    finite = real.sum(dim=-1).isfinite().tolist()
    best = _best(real)
    return [
        _sample_row(real[index], state, best[index])
        if finite[index]
        else NumericsError(
            "the model gave logits that are not finite numbers; this request was stopped;"
            " if it computes in float16, load it as bfloat16 or float32"
        )
        for index, state in enumerate(rows)
    ]


def _best(logits: Tensor) -> list[int]:
    """The argmax of each row, the first of equals. Shapes: logits (R, V) -> R ids."""
    if logits.device.type != "cpu":
        return logits.max(dim=-1).indices.tolist()
    ids: list[int] = logits.numpy().argmax(axis=-1).tolist()  # in a quarter of the time of `max`
    return ids


def _sample_row(logits: Tensor, state: RowState, best: int) -> Sampled | BaseException:
    """One row: logits (V,) that are all finite, and its argmax."""
    sampling = state.sampling
    token_id = best
    try:
        mask = None if state.guide is None else state.guide.mask()
        plain = sampling.greedy and sampling.repetition_penalty == 1 and not sampling.logits_processors
        if not plain or not (mask is None or mask[best]):
            # A copy: also aligned alike, alone or in a batch.
            token_id = _choose(logits.clone(), state, mask)
        if sampling.logprobs is None:
            return Sampled(token_id)
        return Sampled(token_id, _logprob(logits, token_id, sampling.logprobs))
    except BaseException as error:  # noqa: BLE001 - even SystemExit of a caller's processor is that row's alone
        return error


def _choose(scores: Tensor, state: RowState, mask: Mask | None) -> int:
    sampling = state.sampling
    if sampling.repetition_penalty != 1:
        seen = state.seen(len(scores), scores.device)
        penalty = sampling.repetition_penalty
        scores = torch.where(
            seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores
        )  # (V,)
    scores = _process(scores, state)
    if mask is not None:
        scores = _allowed(scores, mask)
    if sampling.greedy:
        return int(scores.argmax())
    ids, scores = keep_candidates(scores, sampling)
    # One random number and the cumulative distribution in double precision: the same on every device.
    cumulative = scores.cpu().double().softmax(dim=-1).cumsum(dim=-1)  # (K,)
    place = torch.searchsorted(cumulative, state.uniform() * float(cumulative[-1]), right=True)
    return int(ids[min(int(place), len(ids) - 1)])


def _process(scores: Tensor, state: RowState) -> Tensor:
    """The caller's functions, in order; what they return is checked."""
    for processor in state.sampling.logits_processors:
        result: object = processor(tuple(state.generated), scores)
        if not isinstance(result, Tensor) or result.shape != scores.shape:
            got = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
            raise ParameterError(
                "logits_processors",
                f"one returned {got}; it must return logits of shape {list(scores.shape)}",
            )
        scores = result.detach().to(device=scores.device, dtype=torch.float32)  # (V,)
    if state.sampling.logits_processors and not scores.amax().isfinite():  # NaN, +inf, or all -inf
        raise ParameterError(
            "logits_processors",
            "one returned logits that are not finite: leave at least one token above -inf, none NaN or +inf",
        )
    return scores


def _allowed(scores: Tensor, mask: Mask) -> Tensor:
    """Only what the guide allows, whatever processors made of it.

    Shapes:
        scores (V,), mask (V,) -> (V,)
    """
    if not mask.any():
        raise ParameterError(
            "response_format", "no token of this checkpoint goes on with the text; ask for another format"
        )
    scores = scores.masked_fill(~torch.tensor(mask, device=scores.device), -torch.inf)
    if scores.amax() == -torch.inf:
        raise ParameterError(
            "logits_processors", "left no token that the response_format or tool_choice allows at this place"
        )
    return scores


def keep_candidates(scores: Tensor, sampling: Sampling) -> tuple[Tensor, Tensor]:
    """Apply temperature, top-k, top-p and min-p.

    Shapes:
        scores (V,) -> ids (K,) in ascending order, scores (K,)

    Source: transformers `generation/logits_process.py`, the warpers of the same names; parity in
    tests/test_engine_sampler.py.
    """
    # Against the best score, so that a tiny temperature cannot overflow.
    scores = (scores - scores.amax()) / max(sampling.temperature, 1e-6)  # (V,)
    keep = scores > -torch.inf
    if 0 < sampling.top_k < len(scores):
        keep &= scores >= scores.topk(sampling.top_k).values[-1]  # equals of the last one stay too
    ids = keep.nonzero()[:, 0]  # (K,)
    if sampling.top_p < 1:
        ids = _top_p(ids, scores[ids], sampling.top_p)
    if sampling.min_p > 0:
        probabilities = scores[ids].softmax(dim=-1)
        ids = ids[probabilities >= sampling.min_p * probabilities.amax()]
    return ids, scores[ids]


def _top_p(ids: Tensor, scores: Tensor, top_p: float) -> Tensor:
    """The fewest most likely tokens that reach `top_p`, at least one; of equals the lowest ids.

    Summed from the least likely up, as the reference does, so that both cut at the same token.
    """
    order = scores.sort(stable=True, descending=True).indices.flip(0)  # (K,) worst first
    below = scores[order].softmax(dim=-1).cumsum(dim=-1) <= 1 - top_p
    below[-1] = False
    return ids[order[~below]].sort().values


def _logprob(logits: Tensor, token_id: int, top: int) -> TokenLogprob:
    """Log-probabilities of the model's own logits, before penalty, guide, temperature and the rest."""
    logprobs = logits.log_softmax(dim=-1)  # (V,)
    values, ids = logprobs.topk(min(top, len(logprobs)))
    best = sorted(zip(ids.tolist(), values.tolist(), strict=True), key=lambda one: (-one[1], one[0]))
    return TokenLogprob(token_id, float(logprobs[token_id]), tuple(best))
