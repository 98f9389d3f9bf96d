"""A prompt and ways to go on → how likely each is, token by token: one forward behind the prompt's KV."""

from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from glmflash.bounds import CHARACTERS_PER_TOKEN
from glmflash.engine.prefix import Prefix
from glmflash.engine.request import Request
from glmflash.errors import ContextLengthError, NumericsError, ParameterError
from glmflash.kv.cache import KVCache
from glmflash.kv.pool import BlockTable
from glmflash.model.glm import Glm4v
from glmflash.prompt.template import TemplateStyle

if TYPE_CHECKING:
    from glmflash.engine.engine import Engine

__all__ = ["score"]

_PACK = 256  # tokens of one forward: their logits are whole rows of the vocabulary
_MOST = 4096  # tokens of all texts: neighbours wait until they are computed
_Ids = tuple[int, ...]


def __dir__() -> list[str]:
    return __all__


def score(self: "Engine", request: Request, texts: Sequence[str]) -> "Future[tuple[tuple[float, ...], ...]]":
    """How likely each of several texts is as the answer to a request, by the model's own distribution.

    Pictures and prompt are computed once, or found in the cache; then all texts together, each as a sequence
    that shares the prompt's blocks. Only beyond 256 tokens do they take more than one forward; between these
    the request's `timeout` and a `cancel` of the future are heard.

    Args:
        self: The engine.
        request: What is asked. Of its sampling nothing is used.
        texts: Answers, each whole.

    Returns:
        A future with, for each text, the log-probability of each of its tokens, and last of its end.

    Raises:
        ParameterError: If a text is empty, the answer would not begin with it (after reasoning, as a call),
            or all together have more than 4,096 tokens.
        QueueFullError, ClosedError, EngineDeadError: As `submit`.
    """
    _check(self, request, texts)
    model, eos, size = self.model, sorted(self.eos), self.tokenizer.vocab_size
    ways = [tuple(self.tokenizer.encode(text)) for text in texts]
    limit = model.config.text.max_position_embeddings
    if (total := sum(map(len, ways)) + len(ways)) > _MOST and max(map(len, ways)) < limit:
        raise ParameterError("texts", f"have {total} tokens with their ends; allowed: at most {_MOST} in all")

    def measure(prefix: Prefix) -> tuple[tuple[float, ...], ...]:
        tokens = len(prefix.prompt) + max(map(len, ways))
        if tokens > limit:
            raise ContextLengthError(
                f"prompt and answer have {tokens} tokens; the context holds {limit}",
                tokens=tokens,
                limit=limit,
            )
        found: list[tuple[float, ...]] = []
        for pack in _packs(ways):
            prefix.check()
            logits = _forward(model, prefix, pack)[:, :size].float()  # (N, vocab_size)
            found += _logprobs(logits, pack, eos)
        return tuple(found)

    return self.prefill(request, then=measure, part="prompt")


def _check(self: "Engine", request: Request, texts: Sequence[str]) -> None:
    if isinstance(texts, str) or not texts or not all(map(_is_text, texts)):
        raise ParameterError("texts", "has to be a list of one or more strings, none of them empty")
    if len(texts) > _MOST or sum(map(len, texts)) > CHARACTERS_PER_TOKEN * _MOST:  # before they are encoded
        raise ParameterError("texts", f"are far too long or many; allowed: at most {_MOST} tokens in all")
    refused = (
        ("thinking", bool(request.thinking)),
        ("response_format", request.response_format is not None),
        ("tool_choice", bool(request.must_call)),
    )
    for name, given in refused:
        if given:
            raise ParameterError(name, "cannot be given where answers are compared as they are")
    if not TemplateStyle.of(self.tokenizer.controls).switch:
        raise ParameterError("texts", "cannot be compared: this checkpoint always thinks before it answers")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and value != ""


def _packs(ways: Sequence[_Ids]) -> Iterator[list[_Ids]]:
    pack: list[_Ids] = []
    for way in ways:
        if pack and sum(map(len, pack)) + len(pack) + len(way) + 1 > _PACK:
            yield pack
            pack = []
        pack.append(way)
    yield pack


def _forward(model: Glm4v, prefix: Prefix, pack: Sequence[_Ids]) -> Tensor:
    """The last token of the prompt and one way, for each way; nothing of it stays in the cache.

    Shapes:
        -> (N, V), N the tokens of all ways and one more for each
    """
    pool, store, prompt = prefix.pool, prefix.store, prefix.prompt
    new = [1 + len(way) for way in pack]
    tables: list[BlockTable] = []
    try:
        for tokens in new:
            tables.append(pool.fork(prefix.table))
            copies = pool.reserve(tables[-1], tokens)
            store.ensure(max(tables[-1].blocks) + 1)
            store.copy(copies)
        ids = torch.tensor([token for way in pack for token in (prompt.ids[-1], *way)], device=model.device)
        last = torch.tensor(prompt.positions[:, -1:])  # (3, 1)
        later = [
            torch.arange(len(prompt), len(prompt) + len(way)).expand(3, -1) + prompt.delta for way in pack
        ]
        positions = torch.cat([part for way in later for part in (last, way)], dim=1)  # (3, N)
        logits: Tensor = model(model.embed(ids), positions.to(model.device), KVCache(store, tables, new))
        return logits
    finally:
        for table in tables:
            pool.close(table)


def _logprobs(logits: Tensor, pack: Sequence[_Ids], eos: list[int]) -> Iterator[tuple[float, ...]]:
    """Of each way, its tokens and its end: any end token will do, so theirs is the probability of all."""
    logprobs = logits.log_softmax(dim=-1)
    if not logprobs.isfinite().all():
        raise NumericsError(
            "the model gave logits that are not finite numbers; this request was stopped;"
            " if it computes in float16, load it as bfloat16 or float32"
        )
    for way, rows in zip(pack, logprobs.split([1 + len(way) for way in pack]), strict=True):
        tokens = rows[torch.arange(len(way)), list(way)].tolist()
        yield (*tokens, float(rows[-1, eos].logsumexp(dim=-1)))
