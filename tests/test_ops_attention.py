"""Both attentions against a plain one in float64."""

import pytest
import torch
from torch import Tensor

from glmflash.ops.attention import (
    causal_attention,
    causal_mask,
    decode_attention,
    head_attention,
    segment_attention,
)


def plain(q: Tensor, k: Tensor, v: Tensor, *, causal: bool) -> Tensor:
    """One head and one query at a time."""
    out = torch.zeros(len(q), q.shape[1], v.shape[2], dtype=torch.float64)
    group = q.shape[1] // k.shape[1]
    for head in range(q.shape[1]):
        keys, values = k[:, head // group].double(), v[:, head // group].double()
        for i, query in enumerate(q[:, head].double()):
            seen = len(k) - len(q) + i + 1 if causal else len(k)
            scores = keys[:seen] @ query / q.shape[2] ** 0.5
            out[i, head] = torch.softmax(scores, 0) @ values[:seen]
    return out


def tensors(new: int, seen: int, heads: int, kv_heads: int, size: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(new * 1000 + seen)
    return tuple(
        torch.randn(n, h, size, generator=generator)
        for n, h in ((new, heads), (seen, kv_heads), (seen, kv_heads))
    )


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (6, 1), (8, 2), (1, 1)])
@pytest.mark.parametrize(("new", "seen"), [(1, 1), (1, 9), (7, 7), (3, 9), (2, 3)])
def test_causal_attention_equals_the_plain_one(new, seen, heads, kv_heads):
    q, k, v = tensors(new, seen, heads, kv_heads)
    expected = plain(q, k, v, causal=True)
    torch.testing.assert_close(causal_attention(q, k, v).double(), expected, atol=1e-6, rtol=1e-6)


def test_causal_attention_of_one_new_token_equals_the_last_row_of_many():
    q, k, v = tensors(9, 9, 8, 2)
    torch.testing.assert_close(causal_attention(q[-1:], k, v), causal_attention(q, k, v)[-1:])


def test_causal_attention_does_not_look_ahead():
    q, k, v = tensors(6, 6, 4, 2)
    before = causal_attention(q, k, v)
    k[4:], v[4:] = 100.0, 100.0
    assert torch.equal(causal_attention(q, k, v)[:4], before[:4])


def heads_first(x: Tensor) -> Tensor:
    return x.transpose(0, 1)[None]


@pytest.mark.parametrize(("new", "seen"), [(1, 9), (7, 7), (3, 9)])
def test_head_attention_with_a_mask_made_before_equals_causal_attention(new, seen):
    q, k, v = tensors(new, seen, 8, 2)
    mask = causal_mask(new, seen, dtype=q.dtype, device=q.device)
    assert torch.equal(head_attention(q, heads_first(k), heads_first(v), mask), causal_attention(q, k, v))


@pytest.mark.parametrize("seen", [[4], [4, 4], [3, 17, 1, 8]])
def test_decode_attention_equals_one_sequence_at_a_time_bit_for_bit(seen):
    rows = [tensors(1, length, 6, 2) for length in seen]
    expected = torch.cat([causal_attention(*row) for row in rows])
    past = ((heads_first(k), heads_first(v)) for _, k, v in rows)
    assert torch.equal(decode_attention(torch.cat([q for q, _, _ in rows]), past), expected)


def test_decode_attention_uses_each_past_before_it_asks_for_the_next():
    rows = [tensors(1, 5, 4, 2) for _ in range(3)]
    rows = [(q, k + i, v * i) for i, (q, k, v) in enumerate(rows)]
    buffer = torch.empty(2, 5, 2, 8)

    def past():
        for _, k, v in rows:
            buffer[0], buffer[1] = k, v
            yield heads_first(buffer[0]), heads_first(buffer[1])

    expected = torch.cat([causal_attention(*row) for row in rows])
    assert torch.equal(decode_attention(torch.cat([q for q, _, _ in rows]), past()), expected)


@pytest.mark.parametrize(("new", "seen"), [(1, 1), (1, 5), (4, 4)])
def test_no_mask_is_made_where_none_is_needed(new, seen):
    assert causal_mask(new, seen, dtype=torch.float32, device=torch.device("cpu")) is None


@pytest.mark.parametrize("lengths", [[6], [4, 4, 4], [3, 5, 1, 2], [1, 1], [2, 2, 7]])
def test_segment_attention_equals_one_segment_at_a_time(lengths):
    q, k, v = tensors(sum(lengths), sum(lengths), 3, 3)
    parts = zip(*(x.split(lengths) for x in (q, k, v)), strict=True)
    expected = torch.cat([plain(*part, causal=False) for part in parts])
    torch.testing.assert_close(segment_attention(q, k, v, lengths).double(), expected, atol=1e-6, rtol=1e-6)


def test_attention_takes_strided_input():
    q, k, v = torch.randn(5, 3, 4, 8).unbind(1)
    expected = segment_attention(q.contiguous(), k.contiguous(), v.contiguous(), [5])
    torch.testing.assert_close(segment_attention(q, k, v, [5]), expected)
    torch.testing.assert_close(causal_attention(q[-1:], k, v), causal_attention(q[-1:].contiguous(), k, v))


def test_gradients_flow_through_both():
    q, k, v = (x.requires_grad_() for x in tensors(4, 4, 4, 2))
    (causal_attention(q, k, v).sum() + segment_attention(q, q, q, [2, 2]).sum()).backward()
    assert all(x.grad is not None and x.grad.isfinite().all() for x in (q, k, v))
