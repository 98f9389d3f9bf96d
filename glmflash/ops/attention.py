"""Queries, keys, values → attended values, for packed tokens without a batch dimension."""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["causal_attention", "causal_mask", "decode_attention", "head_attention", "segment_attention"]


def __dir__() -> list[str]:
    return __all__


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend the last N tokens of one sequence to all S of it, each to itself and what came before.

    Query heads are served by key heads in order: with G query heads to a key head, key head j serves
    query heads G*j to G*j + G - 1.

    Args:
        q: Queries of the newest tokens.
        k: Keys of the whole sequence, the newest tokens last.
        v: Values of the whole sequence.

    Shapes:
        q (N, H, D), k (S, K, D), v (S, K, D), S >= N, H a multiple of K -> (N, H, D).
    """
    mask = causal_mask(len(q), len(k), dtype=q.dtype, device=q.device)
    return head_attention(q, k.transpose(0, 1)[None], v.transpose(0, 1)[None], mask)


def causal_mask(new: int, seen: int, *, dtype: torch.dtype, device: torch.device) -> Tensor | None:
    """What to add to the scores of the last `new` of `seen` tokens; None where kernels need no telling.

    Shapes:
        -> (N, S), 0 for what a token may see and -inf for the rest.

    Example:
        >>> causal_mask(2, 4, dtype=torch.float32, device=torch.device("cpu")).tolist()
        [[0.0, 0.0, 0.0, -inf], [0.0, 0.0, 0.0, 0.0]]
    """
    if new in (1, seen):
        return None
    return torch.full((new, seen), -torch.inf, dtype=dtype, device=device).triu(seen - new + 1)


def head_attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """`causal_attention` of keys and values that lie head by head, with the `causal_mask` made before.

    Shapes:
        q (N, H, D), k (1, K, S, D), v (1, K, S, D), mask (N, S) -> (N, H, D).
    """
    if len(q) == 1:
        return decode_attention(q, [(k, v)])
    out = F.scaled_dot_product_attention(
        q.transpose(0, 1)[None], k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
    )  # (1, H, N, D)
    return out[0].transpose(0, 1)  # (N, H, D)


def decode_attention(q: Tensor, past: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Attend one query of each sequence to all that this sequence has seen, itself included.

    One call a sequence: on CPUs padding all to one length costs more than the calls, and this way no
    sequence is computed in another way than alone.

    Args:
        q: The queries.
        past: Keys and values of each sequence. Each pair is used before the next is asked for.

    Shapes:
        q (B, H, D), past (1, K, S, D) twice, S as it may be -> (B, H, D).
    """
    rows: Sequence[Tensor] = ()
    parts = []
    for number, (k, v) in enumerate(past):
        if not rows:
            # The query heads of one key head are rows of one product: keys are read once, not once a head.
            rows = q.view(len(q), 1, k.shape[1], -1, k.shape[3]).unbind()  # each (1, K, G, D)
        parts.append(F.scaled_dot_product_attention(rows[number], k, v))
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).reshape(q.shape)


def segment_attention(q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
    """Attend every token to all tokens of its own segment, and to none of another.

    Segments stand one behind the other along N. No mask over the pack is ever made: equal segments
    become a batch, unequal ones are attended one by one.

    Args:
        q: Queries.
        k: Keys.
        v: Values.
        lengths: Tokens of each segment; they sum to N.

    Shapes:
        q, k, v (N, H, D) -> (N, H, D).
    """
    if len(set(lengths)) == 1:
        shape = (len(lengths), lengths[0], *q.shape[1:])
        # CPU kernels go through keys and values a head at a time: one copy costs less than the strides.
        q, k, v = (x.view(shape).transpose(1, 2).contiguous() for x in (q, k, v))  # (B, H, n, D)
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(0, 1)  # (N, H, D)
    parts = zip(*(x.split(list(lengths)) for x in (q, k, v)), strict=True)
    return torch.cat([segment_attention(q_, k_, v_, [len(q_)]) for q_, k_, v_ in parts])
