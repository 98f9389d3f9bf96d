"""The parts of an engine → nothing, or the error of parts that do not belong together."""

from glmflash.config import ModelConfig
from glmflash.errors import CheckpointError, ConfigError
from glmflash.model.glm import Glm4v
from glmflash.prompt.template import Control, segments
from glmflash.prompt.tokenizer import Tokenizer
from glmflash.quant import card

__all__ = ["check_eos", "check_vocabulary", "describe"]


def __dir__() -> list[str]:
    return __all__


def check_vocabulary(config: ModelConfig, tokenizer: Tokenizer) -> None:
    """A foreign tokenizer would index past the embeddings, or put pictures where none are looked for.

    Raises:
        CheckpointError: If network and tokenizer are not of one checkpoint.
    """
    if tokenizer.vocab_size > config.text.vocab_size:
        raise CheckpointError(
            f"tokenizer.json has ids up to {tokenizer.vocab_size - 1}, but vocab_size in config.json is "
            f"{config.text.vocab_size}; they are of different checkpoints"
        )
    for segment in segments([{"role": "user", "content": [{"type": "image", "image": ""}]}]):
        if isinstance(segment, Control):
            tokenizer.control(segment.token)
    if tokenizer.control("<|image|>") != config.image_token_id:
        raise CheckpointError(
            f"tokenizer.json has <|image|> as {tokenizer.control('<|image|>')}, but image_token_id in "
            f"config.json is {config.image_token_id}; they are of different checkpoints"
        )


def check_eos(eos: frozenset[int], vocab_size: int) -> None:
    """Something must end an answer.

    Raises:
        ConfigError: If nothing does.
    """
    if not eos or not all(0 <= token_id < vocab_size for token_id in eos):
        raise ConfigError(
            f"generation_config.json: eos_token_id is {sorted(eos)!s:.80}; allowed: at least one id below "
            f"vocab_size {vocab_size}, here or in config.json"
        )


def describe(model: Glm4v) -> str:
    """Say in one line what a model is."""
    layers = card(model).layers
    size = sum(parameter.numel() for parameter in model.parameters())
    size += sum(layer.shape[0] * layer.shape[1] for layer in layers)
    schemes = "".join(f"{scheme} and " for scheme in sorted({layer.scheme for layer in layers}))
    dtype = str(model.dtype).removeprefix("torch.")
    return f"{model.config.model_type}, {size:,} parameters, {schemes}{dtype} on {model.device}"
