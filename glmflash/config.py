"""config.json, preprocessor_config.json, generation_config.json → frozen dataclasses.

Every spelling seen in published checkpoints is accepted (transformers 4.53 to 5.x); a value that the
network cannot honour raises `ConfigError` that names the file and the field. A size or an id that is not
in the file is an error; what the format lets a file leave out (rope, dtype, biases) means what it means to
the reference.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from glmflash.errors import ConfigError
from glmflash.fields import Fields

__all__ = [
    "GenerationConfig",
    "ModelConfig",
    "PreprocessorConfig",
    "TextConfig",
    "VisionConfig",
]

_MODEL_TYPES = {"glm4v": "glm4v", "glm46v": "glm4v", "glm_ocr": "glm_ocr"}
_MOST_ENLARGED = 2**24  # pixels to which a small picture may be enlarged: a thousand times what is published
_MOST_LAYERS = 128  # a config that asks for more is damaged, and would cost minutes to refuse by its tensors


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """Sizes of the vision tower; names are those of `vision_config`.

    `mlp_size`, `merger_size`, `qk_norm` and `learned_positions` are spelled out because the meaning of
    `intermediate_size` differs by family: in `glm4v` it is the width of the merger and the blocks use
    `out_hidden_size`; in `glm_ocr` it is the width of the blocks.
    """

    depth: int
    hidden_size: int
    num_heads: int
    intermediate_size: int
    out_hidden_size: int
    image_size: int
    patch_size: int
    spatial_merge_size: int
    temporal_patch_size: int
    in_channels: int
    rms_norm_eps: float
    attention_bias: bool
    mlp_size: int
    merger_size: int
    qk_norm: bool
    learned_positions: bool
    rope_theta: float = 10000.0

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads


@dataclass(frozen=True, slots=True)
class TextConfig:
    """Sizes of the decoder; names are those of `text_config`, rope fields flattened."""

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    max_position_embeddings: int
    rms_norm_eps: float
    attention_bias: bool
    rope_theta: float
    partial_rotary_factor: float
    mrope_section: tuple[int, int, int]

    @property
    def rotary_dim(self) -> int:
        """Leading dimensions of each head that rotate."""
        return int(self.head_dim * self.partial_rotary_factor)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    """The whole of config.json that the network and the prompt need.

    Raises:
        ConfigError: From `from_dict`, if a field is missing, of the wrong type, or not supported.
    """

    model_type: str
    text: TextConfig
    vision: VisionConfig
    image_token_id: int
    video_token_id: int
    eos_token_id: tuple[int, ...]
    tie_word_embeddings: bool
    dtype: str

    @classmethod
    def from_dict(cls, data: Mapping[str, object], *, file: str = "config.json") -> "ModelConfig":
        """Read the contents of a config.json; `file` is named in errors."""
        root = Fields(data, file)
        name = root.string("model_type")
        if name not in _MODEL_TYPES:
            raise ConfigError(
                f"{file}: model_type is {name!r:.80}; supported are {', '.join(sorted(_MODEL_TYPES))}. "
                "Mixture-of-experts relatives (glm4v_moe) are a different network."
            )
        family = _MODEL_TYPES[name]
        text_fields = root.section("text_config", fallback=True)
        text = _text_config(text_fields, family)
        vision = _vision_config(root.section("vision_config"), family, text.hidden_size)
        eos = (*text_fields.integers("eos_token_id", ()), *root.integers("eos_token_id", ()))
        return cls(
            model_type=family,
            text=text,
            vision=vision,
            image_token_id=text_fields.token_id("image_token_id", text.vocab_size),
            video_token_id=text_fields.token_id("video_token_id", text.vocab_size),
            eos_token_id=tuple(dict.fromkeys(eos)),
            tie_word_embeddings=root.boolean("tie_word_embeddings", False)
            or text_fields.boolean("tie_word_embeddings", False),
            dtype=_dtype(root, text_fields),
        )


@dataclass(frozen=True, slots=True)
class PreprocessorConfig:
    """How pixels become patches. Pixel bounds count all frames of a temporal patch together.

    Args:
        min_pixels: Least `frames * height * width` after resizing (`size.shortest_edge` in the file).
        max_pixels: Most of the same (`size.longest_edge`); a still counts as `temporal_patch_size` frames.
        family: "Glm46V" or "Glm4v"; they differ in how clips are sampled and stamped.
    """

    min_pixels: int
    max_pixels: int
    patch_size: int
    temporal_patch_size: int
    merge_size: int
    image_mean: tuple[float, float, float]
    image_std: tuple[float, float, float]
    family: str

    @property
    def factor(self) -> int:
        """Side of one vision token in pixels; resized pictures are multiples of it."""
        return self.patch_size * self.merge_size

    @classmethod
    def from_dict(
        cls, data: Mapping[str, object], *, file: str = "preprocessor_config.json"
    ) -> "PreprocessorConfig":
        """Read the contents of a preprocessor_config.json; `file` is named in errors."""
        fields = Fields(data, file)
        name = str(data.get("image_processor_type") or data.get("processor_class") or "Glm46VImageProcessor")
        family = next((f for f in ("Glm46V", "Glm4v") if name.startswith(f)), None)
        if family is None:
            raise ConfigError(f"{file}: image_processor_type is {name!r:.80}; allowed: Glm46V* and Glm4v*")
        for step in ("do_resize", "do_rescale", "do_normalize"):
            fields.expect(step, True)
        fields.expect("resample", 3)  # bicubic
        if abs(fields.number("rescale_factor", 1 / 255) * 255 - 1) > 1e-6:
            fields.refuse("rescale_factor", fields.number("rescale_factor"), "1/255")
        if min(fields.triple("image_std")) <= 0:
            fields.refuse("image_std", list(fields.triple("image_std")), "three numbers above 0")
        size = fields.section("size", fallback=True)
        short = "shortest_edge" if size.has("shortest_edge") else "min_pixels"
        long = "longest_edge" if size.has("longest_edge") else "max_pixels"
        low, high = size.positive(short, limit=_MOST_ENLARGED), size.positive(long)
        if low > high:
            raise ConfigError(f"{file}: {short} {low} is larger than {long} {high}")
        return cls(
            min_pixels=low,
            max_pixels=high,
            patch_size=fields.positive("patch_size"),
            temporal_patch_size=fields.positive("temporal_patch_size"),
            merge_size=fields.positive("merge_size"),
            image_mean=fields.triple("image_mean"),
            image_std=fields.triple("image_std"),
            family=family,
        )


@dataclass(frozen=True, slots=True)
class GenerationConfig:
    """The checkpoint's own sampling defaults (generation_config.json)."""

    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    eos_token_id: tuple[int, ...] = ()

    @classmethod
    def from_dict(
        cls, data: Mapping[str, object], *, file: str = "generation_config.json"
    ) -> "GenerationConfig":
        """Read the contents of a generation_config.json; `file` is named in errors."""
        fields = Fields(data, file)
        return cls(
            do_sample=fields.boolean("do_sample", False),
            temperature=fields.number("temperature", 1.0),
            top_p=fields.number("top_p", 1.0),
            top_k=fields.integer("top_k", 0),
            repetition_penalty=fields.number("repetition_penalty", 1.0),
            eos_token_id=fields.integers("eos_token_id", ()),
        )


def _text_config(fields: Fields, family: str) -> TextConfig:
    hidden, heads = fields.positive("hidden_size"), fields.positive("num_attention_heads")
    head_dim = fields.positive("head_dim", hidden // heads)
    kv_heads = fields.positive("num_key_value_heads", heads)
    if heads % kv_heads:
        fields.refuse("num_key_value_heads", kv_heads, f"a divisor of num_attention_heads {heads}")
    fields.expect("hidden_act", "silu")
    rope = fields.rope()
    rope.expect("rope_type", "default", "mrope")
    default_factor = 1.0 if family == "glm_ocr" else 0.5
    factor = rope.positive_number("partial_rotary_factor", default_factor)
    section = rope.integers("mrope_section", (8, 12, 12))
    rotary = int(head_dim * factor)
    if factor > 1:
        rope.refuse("partial_rotary_factor", factor, "a share of the head, at most 1")
    if len(section) != 3 or min(section) < 0 or 2 * sum(section) != rotary:
        rope.refuse(
            "mrope_section", list(section), f"three numbers that sum to half the rotary size, {rotary}/2"
        )
    return TextConfig(
        vocab_size=fields.positive("vocab_size"),
        hidden_size=hidden,
        intermediate_size=fields.positive("intermediate_size"),
        num_hidden_layers=fields.positive("num_hidden_layers", limit=_MOST_LAYERS),
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=fields.positive("max_position_embeddings"),
        rms_norm_eps=fields.positive_number("rms_norm_eps"),
        attention_bias=family == "glm4v",  # fixed by the family: transformers ignores the field here
        rope_theta=rope.positive_number("rope_theta", 10000.0),
        partial_rotary_factor=factor,
        mrope_section=(section[0], section[1], section[2]),
    )


def _vision_config(fields: Fields, family: str, text_size: int) -> VisionConfig:
    ocr = family == "glm_ocr"
    hidden, heads = fields.positive("hidden_size"), fields.positive("num_heads")
    if hidden % heads or (hidden // heads) % 4:
        fields.refuse("num_heads", heads, f"heads whose size divides {hidden} and is a multiple of 4")
    inner, out = fields.positive("intermediate_size"), fields.positive("out_hidden_size")
    if out != text_size:
        fields.refuse("out_hidden_size", out, f"hidden_size of text_config, {text_size}")
    channels = fields.positive("in_channels", 3)
    image, patch = fields.positive("image_size"), fields.positive("patch_size")
    if image % patch:
        fields.refuse("image_size", image, f"a multiple of patch_size {patch}")
    fields.expect("hidden_act", "silu")
    rope = fields.rope()
    rope.expect("rope_type", "axial", "default")
    return VisionConfig(
        depth=fields.positive("depth", limit=_MOST_LAYERS),
        hidden_size=hidden,
        num_heads=heads,
        intermediate_size=inner,
        out_hidden_size=out,
        image_size=image,
        patch_size=patch,
        spatial_merge_size=fields.positive("spatial_merge_size"),
        temporal_patch_size=fields.positive("temporal_patch_size"),
        in_channels=channels,
        rms_norm_eps=fields.positive_number("rms_norm_eps"),
        attention_bias=fields.boolean("attention_bias", ocr),
        mlp_size=inner if ocr else out,
        merger_size=out * channels if ocr else inner,
        qk_norm=ocr,
        learned_positions=not ocr,
        rope_theta=rope.positive_number("rope_theta", 10000.0),
    )


def _dtype(root: Fields, text: Fields) -> str:
    for fields in (root, text):
        for key in ("dtype", "torch_dtype"):
            if fields.has(key):
                name = fields.string(key).removeprefix("torch.")
                if name not in ("float32", "float16", "bfloat16"):
                    fields.refuse(key, name, "float32, float16 or bfloat16")
                return name
    return "bfloat16"
