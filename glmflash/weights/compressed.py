"""`quantization_config` of a config.json → the scheme of each INT8 layer, and back.

The spelling is that of compressed-tensors, which transformers and vLLM read: INT8 weights, symmetric, with a
scale per output channel; activations in floating point ("int8") or rounded token by token ("w8a8"). All else
is refused.

Source: https://github.com/vllm-project/compressed-tensors, `quant_args.py` and `quant_config.py`.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from glmflash.confined import tidy
from glmflash.errors import ConfigError
from glmflash.fields import Fields

__all__ = ["StoredSchemes", "quantization_config", "read_schemes"]

_KEY = "quantization_config"
_EVERY_LAYER, _FORMAT = "Linear", "int-quantized"
_TOKEN: Mapping[str, object] = {
    "num_bits": 8, "type": "int", "symmetric": True, "strategy": "token", "dynamic": True
}  # fmt: skip
_CHANNEL: Mapping[str, object] = {**_TOKEN, "strategy": "channel", "dynamic": False}


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class StoredSchemes:
    """Which scheme INT8 layers are stored for.

    Args:
        default: Of all layers that are not named; None if there is none for them.
        named: Layer → scheme.
        where: File and section, for messages.
    """

    default: str | None
    named: Mapping[str, str]
    where: str

    def of(self, layer: str) -> str:
        """The scheme of a layer.

        Raises:
            ConfigError: If none is given.
        """
        scheme = self.named.get(layer, self.default)
        if scheme is None:
            raise ConfigError(
                f"{self.where}: no group has {layer} among its targets, but its weights are INT8"
            )
        return scheme


def quantization_config(
    schemes: Mapping[str, str], *, ignore: Iterable[str], embeddings: bool = False
) -> dict[str, object]:
    """Spell schemes for config.json.

    Args:
        schemes: INT8 layer → scheme.
        ignore: Linear layers that are not INT8.
        embeddings: Whether the table of token embeddings is INT8 too.

    Example:
        >>> data = quantization_config({"lm_head": "w8a8"}, ignore=["model.visual.merger.proj"])
        >>> data["format"], data["config_groups"]["group_0"]["targets"], data["ignore"]
        ('int-quantized', ['Linear'], ['model.visual.merger.proj'])
    """
    kinds = sorted(set(schemes.values()))
    everything = [_EVERY_LAYER, "Embedding"] if embeddings else [_EVERY_LAYER]
    groups = {}
    for number, kind in enumerate(kinds):
        layers = [layer for layer, scheme in schemes.items() if scheme == kind]
        groups[f"group_{number}"] = {
            "targets": everything if len(kinds) == 1 else layers,
            "weights": dict(_CHANNEL),
            "input_activations": dict(_TOKEN) if kind == "w8a8" else None,
            "output_activations": None,
            "format": _FORMAT,  # said again: without it compressed-tensors expects weights alone to be packed
        }
    return {
        "quant_method": "compressed-tensors",
        "format": _FORMAT,
        "quantization_status": "compressed",
        "config_groups": groups,
        "ignore": list(ignore),
        "kv_cache_scheme": None,
    }


def read_schemes(config: Mapping[str, object], *, file: str = "config.json") -> StoredSchemes | None:
    """Read what config.json says about its weights; None if they are not quantised.

    Args:
        config: Contents of the file.
        file: Named in errors.

    Raises:
        ConfigError: If they are quantised in another way; the message names the field.

    Example:
        >>> read_schemes({}) is None
        True
    """
    root = Fields(config, file)
    if not root.has(_KEY):
        return None
    fields = root.section(_KEY)
    _require(fields, {"quant_method": "compressed-tensors", "format": (_FORMAT, "naive-quantized")})
    fields.expect("kv_cache_scheme", {})
    fields.expect("transform_config", {})
    fields.expect("sparsity_config", {}, {"format": "dense"})
    given = config[_KEY]
    groups = given.get("config_groups") if isinstance(given, Mapping) else None
    if not isinstance(groups, Mapping) or not groups:
        fields.refuse("config_groups", groups, "an object of one or more groups")
    section = fields.section("config_groups")
    schemes = {name: _scheme(section.section(str(name))) for name in groups}
    where = f"{file}: {_KEY}: config_groups"
    if len(set(schemes.values())) == 1:
        return StoredSchemes(next(iter(schemes.values())), {}, where)
    return _by_name(schemes, groups, where)


def _scheme(group: Fields) -> str:
    group.expect("format", _FORMAT, "naive-quantized")
    group.expect("output_activations", {})
    weights = group.section("weights")
    _require(
        weights, {**_CHANNEL, "symmetric": (True,)}, optional=("num_bits", "type", "symmetric", "dynamic")
    )
    weights.expect("group_size", -1)
    weights.expect("block_structure", "null")
    weights.expect("actorder", "null")
    if not group.has("input_activations"):
        return "int8"
    _require(group.section("input_activations"), _TOKEN, optional=("num_bits", "type", "symmetric"))
    return "w8a8"


def _require(fields: Fields, wanted: Mapping[str, object], *, optional: Iterable[str] = ()) -> None:
    for key, value in wanted.items():
        allowed = value if isinstance(value, tuple) else (value,)
        if key not in optional and not fields.has(key):
            fields.refuse(key, None, " or ".join(map(str, allowed)))
        fields.expect(key, *allowed)


def _by_name(schemes: Mapping[str, str], groups: Mapping[str, object], where: str) -> StoredSchemes:
    """Groups of several schemes. Their patterns are not run: a stranger's may take for ever."""
    named: dict[str, str] = {}
    default: str | None = None
    for name, scheme in schemes.items():
        group = groups[name]
        targets = group.get("targets") if isinstance(group, Mapping) else None
        if not isinstance(targets, list) or not all(isinstance(target, str) for target in targets):
            raise ConfigError(f"{where}: {tidy(name, 80)}: targets is not a list of strings")
        for target in targets:
            if target.startswith("re:"):
                raise ConfigError(
                    f"{where}: {tidy(name, 80)}: targets holds {target!r:.80}; allowed where groups differ: "
                    f"names of layers, {_EVERY_LAYER!r}"
                )
            if target == _EVERY_LAYER:
                default = scheme
            else:
                named[target] = scheme
    return StoredSchemes(default, named, where)
