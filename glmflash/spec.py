"""How a pipeline is to be loaded → a frozen value that other processes and machines can load it from."""

import json
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self

import torch

from glmflash.answers.cache import AnswerCache
from glmflash.engine.events import Observer
from glmflash.engine.settings import Settings
from glmflash.errors import ParameterError
from glmflash.media.clip_policy import ClipPolicy
from glmflash.media.fetch.policy import UrlPolicy
from glmflash.media.policy import InputPolicy
from glmflash.pipeline import Pipeline
from glmflash.progress import Progress
from glmflash.quant import QuantizationConfig
from glmflash.shown import show
from glmflash.weights.hub import settle

__all__ = ["PipelineSpec"]

_DTYPES = ("auto", "bfloat16", "float16", "float32")


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class PipelineSpec:
    """The recipe of a pipeline: what `Pipeline.from_pretrained` takes, checked, and nothing loaded.

    It holds names and numbers alone, so it can be pickled, compared, hashed, written as JSON, and sent to
    where the pipeline is to be: a process, a Ray actor, another machine. All is checked that can be without
    the files and the device, neither of which this machine needs to have.

    Args:
        model: A hub id, a folder, or "tiny". A folder that is here is kept by its full path, for another
            process may stand elsewhere.
        device: As for `Pipeline.from_pretrained`, and so are all below. Three of its arguments belong to
            one process, and go to `load`: `observers`, `answer_cache` and `progress`.
        dtype: Kept by its name.
        quantize: Kept as a `QuantizationConfig`.
        revision: A commit makes sure that all have the same files.
        local_files_only: As there.
        kv_memory: As there; pipelines on one machine share its memory, so give each its part.
        kv_dtype: As there.
        max_batch: As there.
        max_waiting: As there.
        input_policy: As there.

    Raises:
        ParameterError: If a value is not one that `from_pretrained` takes.
        DownloadError: If `model` can be neither a folder nor a hub id.

    Example:
        >>> spec = PipelineSpec("tiny", quantize="int8")
        >>> spec == PipelineSpec.from_json(spec.to_json())
        True
        >>> with spec.load() as pipe:
        ...     result = pipe("What is the total?", max_new_tokens=8)
    """

    model: str | Path
    _: KW_ONLY
    device: str | torch.device = "auto"
    dtype: str | torch.dtype = "auto"
    quantize: str | QuantizationConfig | None = None
    revision: str | None = None
    local_files_only: bool = False
    kv_memory: str | int = "auto"
    kv_dtype: str = "auto"
    max_batch: int = 16
    max_waiting: int = 1024
    input_policy: InputPolicy | None = None

    def __post_init__(self) -> None:
        policy = InputPolicy() if self.input_policy is None else self.input_policy
        Settings(
            policy=policy, kv_memory=self.kv_memory, kv_dtype=self.kv_dtype, max_batch=self.max_batch,
            max_waiting=self.max_waiting,
        )  # fmt: skip
        _check("revision", self.revision, str | None, "a branch, tag or commit, or None")
        _check("local_files_only", self.local_files_only, bool, "True or False")
        for name, value in (
            ("model", settle(self.model, revision=self.revision)),
            ("device", _device(self.device)),
            ("dtype", _dtype(self.dtype)),
            ("quantize", QuantizationConfig.of(self.quantize)),
            ("input_policy", policy),
        ):
            object.__setattr__(self, name, value)

    def load(
        self,
        *,
        observers: Sequence[Observer] = (),
        answer_cache: AnswerCache | None = None,
        progress: Progress = None,
    ) -> Pipeline:
        """Load it, here: `Pipeline.from_pretrained` with these values, whose errors it raises.

        Args:
            observers: As for `from_pretrained`.
            answer_cache: As for `from_pretrained`.
            progress: As for `from_pretrained`.
        """
        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        own: dict[str, Any] = {"observers": observers, "answer_cache": answer_cache, "progress": progress}
        return Pipeline.from_pretrained(values.pop("model"), **own, **values)

    def to_json(self) -> str:
        """All values as a JSON object, in one line."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read what `to_json` wrote, or a person: what is left out has its default.

        Raises:
            ParameterError: If it is not JSON, a name is unknown, or a value is not allowed.
            DownloadError: As for the constructor.
        """
        try:
            given = json.loads(text)
        except (TypeError, ValueError, RecursionError):
            raise ParameterError(
                "spec", 'is not JSON; allowed: an object such as {"model": "tiny"}'
            ) from None
        values = _object("spec", given, cls)
        if "model" not in values:
            raise ParameterError("model", "is missing; give a hub id, a folder, or 'tiny'")
        if isinstance(values.get("quantize"), dict):
            values["quantize"] = QuantizationConfig(
                **_object("quantize", values["quantize"], QuantizationConfig)
            )
        if values.get("input_policy") is not None:
            policy = _frozen("input_policy", values["input_policy"], InputPolicy)
            for name, kind in (("urls", UrlPolicy), ("clips", ClipPolicy)):
                if policy.get(name) is not None:
                    policy[name] = kind(**_frozen(name, policy[name], kind))
            values["input_policy"] = InputPolicy(**policy)
        return cls(**values)


def _object(name: str, given: object, kind: type) -> dict[str, Any]:
    """The values of a JSON object that a dataclass is to be made of."""
    allowed = [field.name for field in fields(kind)]
    if not isinstance(given, dict):
        raise ParameterError(
            name, f"is a {type(given).__name__}; allowed: an object with {', '.join(allowed)}"
        )
    for key in given:
        if key not in allowed:
            raise ParameterError(name, f"holds {key!r:.40}, which is unknown; allowed: {', '.join(allowed)}")
    return dict(given)


def _frozen(name: str, given: object, kind: type) -> dict[str, Any]:
    """The same, with tuples for JSON's lists."""
    values = _object(name, given, kind)
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def _check(name: str, value: object, kind: Any, allowed: str) -> None:  # noqa: ANN401 - a type, or several
    if not isinstance(value, kind):
        raise ParameterError(name, f"is a {type(value).__name__}; allowed: {allowed}")


def _device(given: object) -> str:
    refusal = ParameterError("device", f"is {show(given)}; allowed: 'auto', 'cpu', 'cuda', 'cuda:1'")
    if not isinstance(given, str | torch.device):
        raise refusal
    try:
        kind = "cpu" if given == "auto" else torch.device(given).type
    except RuntimeError:
        raise refusal from None
    if kind not in ("cpu", "cuda"):
        raise refusal
    return str(given)


def _dtype(given: object) -> str:
    name = str(given).removeprefix("torch.") if isinstance(given, torch.dtype) else given
    if not isinstance(name, str) or name not in _DTYPES:
        raise ParameterError("dtype", f"is {show(given)}; allowed: {', '.join(map(repr, _DTYPES))}")
    return name
