"""What a model is to say, as text → a logits processor that makes it say so, token by token."""

import re
from collections.abc import Callable, Sequence

from torch import Tensor

from glmflash.prompt.tokenizer import Tokenizer


def spelled(tokenizer: Tokenizer, text: str) -> list[int]:
    """Token ids of a text in which every spelled-out control token is meant as one."""
    names = sorted(tokenizer.controls, key=len, reverse=True)
    pieces = re.split(f"({'|'.join(map(re.escape, names))})", text)
    return [
        token
        for i, piece in enumerate(pieces)
        for token in ([tokenizer.control(piece)] if i % 2 else tokenizer.encode(piece) if piece else [])
    ]


def saying(tokenizer: Tokenizer, *turns: str | None) -> Callable[[Sequence[int], Tensor], Tensor]:
    """Says the first text in the first answer, and so on; None, and all after it, is left to the model."""
    scripts = [None if text is None else spelled(tokenizer, text) for text in turns]
    turn = -1

    def processor(ids: Sequence[int], logits: Tensor) -> Tensor:
        nonlocal turn
        turn += not ids
        script = scripts[turn] if turn < len(scripts) else None
        if script is None or len(ids) >= len(script):
            return logits
        return logits.new_full(logits.shape, -1e9).index_fill_(
            0, logits.new_tensor([script[len(ids)]]).long(), 0.0
        )

    return processor
