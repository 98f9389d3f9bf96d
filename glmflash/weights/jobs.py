"""Stored tensors, and what is to be INT8 → a list of what to read from where."""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

import torch

from glmflash.errors import ParameterError
from glmflash.quant import JOINT, QuantizationConfig
from glmflash.weights.compressed import StoredSchemes
from glmflash.weights.shards import StoredTensor

__all__ = ["EMBEDDINGS", "HEAD", "Job", "Parts", "choose", "jobs", "joined"]

Parts = tuple[StoredTensor, ...]

#: The module that embeds tokens, and the one that projects to the vocabulary.
EMBEDDINGS, HEAD = "model.language_model.embed_tokens", "lm_head"
_DTYPES = {"BF16": torch.bfloat16, "F16": torch.float16, "F32": torch.float32, "F64": torch.float64}


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Job:
    """A parameter, or an INT8 layer, and the stored tensors it is read from; two are stacked.

    Args:
        name: Of the parameter; of the module if it is INT8.
        weight: Floating tensors, or INT8 ones.
        dtype: Of the parameter, or of the layer's bias.
        scheme: Of an INT8 layer; None for a parameter.
        scale: Scales of INT8 tensors; none if they are to be made.
        bias: Of an INT8 layer.
    """

    name: str
    weight: Parts
    dtype: torch.dtype
    scheme: str | None = None
    scale: Parts = ()
    bias: Parts = ()

    @property
    def stored(self) -> Parts:
        """All tensors to read."""
        return (*self.weight, *self.scale, *self.bias)

    @property
    def num_bytes(self) -> int:
        """Bytes to read."""
        return sum(stored.num_bytes for stored in self.stored)


def choose(
    config: QuantizationConfig | None,
    linear: tuple[str, ...],
    *,
    stored: StoredSchemes | None,
    integer: Set[str],
) -> dict[str, str]:
    """Which layers are to be INT8, and each one's scheme.

    Args:
        config: What the caller wants; None wants nothing, or what is stored.
        linear: All linear layers.
        stored: Schemes in config.json, if the checkpoint is quantised.
        integer: Layers that are stored as INT8.

    Raises:
        ParameterError: If `match` finds no layer, or other layers than those that are stored as INT8.
    """
    if stored is not None:
        _agree(config, linear, integer)
        found = [layer for layer in (EMBEDDINGS, *linear) if layer in integer]
        chosen = {layer: config.scheme if config else stored.of(layer) for layer in found}
    elif config is not None:
        tables = [EMBEDDINGS] if config.selects_embedding(EMBEDDINGS) else []
        chosen = dict.fromkeys([*tables, *config.choose(linear)], config.scheme)
    else:
        return {}
    if EMBEDDINGS in chosen:
        chosen[EMBEDDINGS] = "int8"  # rows are looked up: there are no activations to round
    return chosen


def _agree(config: QuantizationConfig | None, linear: tuple[str, ...], integer: Set[str]) -> None:
    """Refuse what cannot be had any more of a checkpoint that is INT8 already; another scheme can."""
    if config is None:
        return
    remedy = "leave it out, or load the checkpoint that this one was made from"
    if config.match is not None and set(config.choose(linear)) != integer - {EMBEDDINGS}:
        raise ParameterError(
            "match",
            f"is {config.match!r:.80}, but the checkpoint is INT8 already, in {len(integer - {EMBEDDINGS})} "
            f"of {len(linear)} layers, which are others; {remedy}",
        )
    if config.embeddings == "int8" and EMBEDDINGS not in integer:
        raise ParameterError(
            "embeddings", f"is 'int8', but the checkpoint is INT8 already without them; {remedy}"
        )


def jobs(
    sources: Mapping[str, Parts], schemes: Mapping[str, str], *, dtype: torch.dtype, tied: bool
) -> list[Job]:
    """What to read for each parameter and INT8 layer.

    Args:
        sources: Parameter → stored tensors, from `layout.match`.
        schemes: From `choose`.
        dtype: Of all that is not INT8. Beside INT8 layers the embeddings stay as narrow as they are stored:
            rows are cast when they are looked up.
        tied: Whether there is no head of its own. The caller ties them if there is no job for it.
    """
    given = dict(sources)
    shared = tied and not {HEAD, EMBEDDINGS} & schemes.keys()
    if tied and not shared:
        for leaf in ("weight", "weight_scale"):
            if f"{EMBEDDINGS}.{leaf}" in given:
                given[f"{HEAD}.{leaf}"] = given[f"{EMBEDDINGS}.{leaf}"]
    found = []
    for name, parts in given.items():
        layer, _, leaf = name.rpartition(".")
        if layer not in schemes:
            narrow = bool(schemes) and layer == EMBEDDINGS and not shared
            found.append(Job(name, parts, _narrower(parts, dtype) if narrow else dtype))
        elif leaf == "weight":
            scale, bias = given.get(f"{layer}.weight_scale", ()), given.get(f"{layer}.bias", ())
            found.append(Job(layer, parts, dtype, schemes[layer], scale, bias))
    return found


def joined(work: Sequence[Job]) -> list[tuple[Job, ...]]:
    """The same jobs, with INT8 layers that are packed as one side by side, in the order of `JOINT`."""
    named = {job.name: job for job in work}
    groups = []
    for job in work:
        owner, _, leaf = job.name.rpartition(".")
        names = [f"{owner}.{one}" for one in JOINT] if leaf in JOINT else [job.name]
        group = [named[name] for name in names if name in named]
        alike = {one.scheme for one in group} == {job.scheme} and job.scheme is not None
        if not (alike and len(group) == len(names)):
            group = [job]
        if job is group[0]:
            groups.append(tuple(group))
    return groups


def _narrower(parts: Parts, dtype: torch.dtype) -> torch.dtype:
    return min(dtype, _DTYPES[parts[0].dtype], key=lambda kind: kind.itemsize)  # the first of equals
