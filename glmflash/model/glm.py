"""Both towers as one module: patches → vision tokens, and packed prompt tokens → logits.

Parameter names equal the checkpoint's. Nothing that belongs to a request is stored here: positions,
lengths and caches are arguments, so one model serves any number of conversations.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from glmflash.config import ModelConfig
from glmflash.errors import MessageError
from glmflash.model.cache import Cache
from glmflash.model.layers import Linear
from glmflash.model.text import TextModel
from glmflash.model.vision import VisionModel
from glmflash.shapes import Grid, ImageSpan

__all__ = ["Glm4v", "place_vision_tokens"]


def __dir__() -> list[str]:
    return __all__


class Glm4v(nn.Module):
    """GLM-4.6V-Flash and its relatives.

    Example:
        >>> from glmflash.weights import load_model
        >>> model = load_model("tiny")
        >>> from glmflash.model import NoCache
        >>> ids, positions = torch.tensor([1, 2, 3]), torch.arange(3).expand(3, 3)
        >>> model(model.embed(ids), positions, NoCache([3])).shape == (3, model.config.text.vocab_size)
        True

    Source: transformers glm4v, `Glm4vForConditionalGeneration`; parity in tests/parity/test_model.py.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Towers(config)
        self.lm_head = Linear(config.text.hidden_size, config.text.vocab_size, bias=False)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.language_model.norm.weight.device

    @property
    def dtype(self) -> torch.dtype:
        """What activations are computed in."""
        return self.model.language_model.norm.weight.dtype

    def encode_images(self, rows: Tensor, grids: Sequence[Grid]) -> list[Tensor]:
        """Encode pictures and clips of any sizes in one pass; each sees only itself.

        Args:
            rows: Patches of all of them, one behind the other (see `media.patches`).
            grids: Size of each in patches; their patches sum to N.

        Shapes:
            rows (N, 588) for stills or (N, 1176) for clips (patch size 14)
            -> for each grid (num_tokens, hidden_size).
        """
        tokens = self.model.visual(rows.to(self.device), grids)
        return list(tokens.split([grid.num_tokens(self.config.vision.spatial_merge_size) for grid in grids]))

    def embed(self, ids: Tensor, vision: Sequence[Tensor] = (), spans: Sequence[ImageSpan] = ()) -> Tensor:
        """Embed token ids and put vision tokens where their placeholders stand.

        Shapes:
            ids (N,) -> (N, hidden_size).
        """
        embeds = self.model.language_model.embed_tokens(ids).to(self.dtype)  # a table may be narrower
        return place_vision_tokens(embeds, torch.cat(list(vision)), spans) if vision else embeds

    def forward(
        self, embeds: Tensor, positions: Tensor, cache: Cache, *, rows: Tensor | None = None
    ) -> Tensor:
        """Logits of the new tokens of any number of packed sequences.

        Args:
            embeds: From `embed`.
            positions: From `prompt.positions`.
            cache: `NoCache`, `GrowingCache`, or any other with `attend`.
            rows: Indices of the tokens whose logits are wanted; all by default. The projection to the
                vocabulary costs as much as three layers, so ask for no more than are needed.

        Shapes:
            embeds (N, hidden_size), positions (3, N) int64, rows (R,) -> (N or R, vocab_size).
        """
        hidden = self.model.language_model(embeds, positions, cache, rows=rows)
        logits: Tensor = self.lm_head(self.model.language_model.norm(hidden))
        return logits


class Towers(nn.Module):
    """`model.*` of the checkpoint: the two towers side by side."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.visual = VisionModel(config.vision)
        self.language_model = TextModel(config.text)


def place_vision_tokens(embeds: Tensor, vision: Tensor, spans: Sequence[ImageSpan]) -> Tensor:
    """Put each picture's vision tokens where its placeholders stand.

    Placeholders keep their position; only their embeddings change.

    Args:
        embeds: Token embeddings of the packed prompts.
        vision: Vision tokens of all pictures, in prompt order.
        spans: Where each picture stands; lengths sum to `len(vision)`.

    Shapes:
        embeds (N, C), vision (M, C) -> (N, C), dtype of `embeds`.

    Raises:
        MessageError: If spans and vision tokens disagree in number.

    Example:
        >>> place_vision_tokens(torch.zeros(4, 2), torch.ones(2, 2), [ImageSpan(1, 2)])[:, 0].tolist()
        [0.0, 1.0, 1.0, 0.0]

    Source: transformers glm4v, `Glm4vModel.forward` (masked_scatter).
    """
    wanted = sum(span.length for span in spans)
    if wanted != len(vision):
        raise MessageError(
            f"the prompt has {wanted} picture placeholders, the pictures give {len(vision)} tokens"
        )
    placed = embeds.clone()
    for span, tokens in zip(spans, vision.split([span.length for span in spans]), strict=True):
        placed[span.start : span.start + span.length] = tokens
    return placed
