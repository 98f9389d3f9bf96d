"""The decoder, and the projection to the vocabulary."""

from collections.abc import Iterator

from torch import Tensor, nn

from glmflash.model import Glm4v
from glmflash.model.layers import RMSNorm
from glmflash.weights.rescale.bounds import ball_bound
from glmflash.weights.rescale.norms import (
    norm_at,
    rescale_queries_,
    rescale_reader_,
    rescale_writer_,
    rows_at,
)
from glmflash.weights.rescale.pairs import (
    LOOSE,
    Entry,
    Pair,
    digits,
    gated_pair,
    largest,
    plain_pair,
    rescale_pair_,
    shares,
    tightened,
)
from glmflash.weights.rescale.rescaling import Bound
from glmflash.weights.rescale.shift import shift_eps_, shift_norm_, shift_rows_

__all__ = ["rescale_text_", "written"]

_TOWER = "model.language_model"
_POST = ("post_self_attn_layernorm", "post_mlp_layernorm")


def __dir__() -> list[str]:
    return __all__


def written(model: Glm4v, index: int) -> Tensor:
    """Bounds of what a layer adds to the residual stream. Shapes: -> (C,) float64."""
    attention, mlp = (norm_at(model, f"{_TOWER}.layers.{index}.{name}").given().peaks() for name in _POST)
    return attention + mlp


def rescale_text_(model: Glm4v, entering: Tensor, *, lost: int) -> Iterator[Entry]:
    """Bring the decoder into range.

    Args:
        model: Changed in place.
        entering: (C,) bounds of token embeddings and vision tokens, unscaled.
        lost: Binary digits that the residual stream must lose.
    """
    table = rows_at(model, f"{_TOWER}.embed_tokens")
    yield from _head(model, table.layer, lost)
    yield from shift_rows_(table, -lost)
    yield Bound(f"{_TOWER}.layers.0", "input", *_scaled(entering, lost))
    for index in range(model.config.text.num_hidden_layers):
        entering = entering + written(model, index)
        yield from _attention(model, index, lost)
        yield from _mlp(model, index, lost)
        yield Bound(f"{_TOWER}.layers.{index}", "output", *_scaled(entering, lost))


def _attention(model: Glm4v, index: int, lost: int) -> Iterator[Entry]:
    name, config = f"{_TOWER}.layers.{index}", model.config.text
    q, k, v, o = (rows_at(model, f"{name}.self_attn.{part}_proj") for part in "qkvo")
    norm = norm_at(model, f"{name}.input_layernorm")
    yield from rescale_reader_(norm, (q, k, v), lost=lost)
    yield from rescale_queries_(q, k, norm.given())
    heads = config.num_key_value_heads
    pair = plain_pair(v, o, norm.given(), heads=heads, repeat=config.num_attention_heads // heads)
    yield from _written(model, f"{name}.{_POST[0]}", pair, lost)


def _mlp(model: Glm4v, index: int, lost: int) -> Iterator[Entry]:
    name, size = f"{_TOWER}.layers.{index}", model.config.text.intermediate_size
    both, down = f"{name}.mlp.gate_up_proj", rows_at(model, f"{name}.mlp.down_proj")
    gate = rows_at(model, both, part="gate", rows=slice(0, size))
    up = rows_at(model, both, part="up", rows=slice(size, 2 * size))
    norm = norm_at(model, f"{name}.post_attention_layernorm")
    yield from rescale_reader_(norm, (gate, up), lost=lost)
    pair = gated_pair(gate, up, down, norm.given())
    if digits(largest(pair.out)) > 2 * LOOSE:  # two matrices share them
        pair = tightened(pair)
    yield from _written(model, f"{name}.{_POST[1]}", pair, lost)


def _written(model: Glm4v, norm: str, pair: Pair, lost: int) -> Iterator[Entry]:
    """Two matrices and the norm behind them."""
    first, second = shares(pair)
    yield from rescale_pair_(pair, first, second)
    yield from rescale_writer_(norm_at(model, norm), taken=first + second, lost=lost)


def _head(model: Glm4v, table: nn.Module, lost: int) -> Iterator[Entry]:
    """The last norm and the vocabulary; if that is the table of embeddings, the norm undoes its factor."""
    head, norm = rows_at(model, "lm_head"), norm_at(model, f"{_TOWER}.norm")
    logits, peak = largest(ball_bound(head, norm.given())), largest(norm.given().peaks())
    tied = getattr(head.layer, "weight", None) is table.weight  # an INT8 projection has its own
    if tied and digits(peak * 2.0**lost):
        assert isinstance(table.weight, Tensor)
        head.layer.weight = nn.Parameter(table.weight.clone(), requires_grad=False)
        tied = False
    if tied:
        assert isinstance(norm.layer, RMSNorm)
        yield from shift_eps_(norm.name, norm.layer, -lost)
        yield from shift_norm_(norm.name, norm.layer, lost)
        yield Bound(norm.name, "output", peak, peak * 2.0**lost)
    else:
        yield from rescale_reader_(norm, (head,), lost=lost)
    yield Bound(head.name, "output", logits, logits)


def _scaled(bounds: Tensor, lost: int) -> tuple[float, float]:
    return largest(bounds), largest(bounds) * 2.0**-lost
