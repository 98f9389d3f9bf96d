"""A checkpoint's name and how it is to be used → bytes of memory by part, before anything is loaded."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from glmflash.config import ModelConfig
from glmflash.errors import CapacityError, ParameterError
from glmflash.kv.memory import parse_memory
from glmflash.plan.fit import device_memory
from glmflash.plan.job import BLOCK_SIZE, Job, Use
from glmflash.plan.parts import Part, as_html, as_text, gib
from glmflash.plan.source import Source
from glmflash.quant import QuantizationConfig
from glmflash.shown import show

__all__ = ["Plan", "plan"]

_CONTEXT = 8192
_SMALL_PICTURE = 1024  # vision tokens that `check` proposes


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True)
class Plan:
    """Bytes of memory by part. Made by `plan`, or `Pipeline.plan`.

    Args:
        model: What was asked for.
        device: Where it is to run.
        dtype: What it computes in.
        quantize: The scheme; None for none.
        context: Tokens of each request, prompt and answer.
        batch: Requests at once.
        kv_dtype: "int8", or "auto", which is `dtype`.
        image_tokens: Vision tokens of the largest picture; 0 for no pictures.
        parts: What takes memory.
        peak_loading: Most bytes at once while weights are loaded.
        available: Bytes that there are: what was said, or what the device has now.
    """

    model: str
    device: str
    dtype: str
    quantize: str | None
    context: int
    batch: int
    kv_dtype: str
    image_tokens: int
    parts: tuple[Part, ...]
    peak_loading: int
    available: int
    _job: Job = field(repr=False, compare=False)

    @property
    def weights(self) -> int:
        """Bytes of weights."""
        return self._sum("weights")

    @property
    def kv(self) -> int:
        """Bytes of keys and values: what to give as `kv_memory`."""
        return self._job.kv(self._use)

    @property
    def activations(self) -> int:
        """Most bytes of temporaries at once: of a part of a prompt, or of a picture."""
        return self._sum("step")

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(part.nbytes for part in self.parts)

    @property
    def peak(self) -> int:
        """Most bytes at any time."""
        return max(self.total, self.peak_loading)

    @property
    def fits(self) -> bool:
        """Whether loading and answering both stay within what is available."""
        return self.peak <= self.available

    @property
    def max_context(self) -> int:
        """The longest context that fits, with all else as it is; 0 if none does."""
        picture = self._job.picture(self._use)
        rest = self.total - self.kv - self.activations
        low, high = 0, self._job.source.config.text.max_position_embeddings // BLOCK_SIZE + 1  # blocks
        if self.peak_loading > self.available:
            return 0
        while high - low > 1:  # `low` fits, `high` does not
            middle = (low + high) // 2
            use = replace(self._use, context=middle * BLOCK_SIZE)
            needed = rest + self._job.kv(use) + max(picture, self._job.prompt(use))
            low, high = (middle, high) if needed <= self.available else (low, middle)
        return low * BLOCK_SIZE

    def but(
        self,
        *,
        quantize: str | QuantizationConfig | None = None,
        context: int | None = None,
        batch: int | None = None,
        kv_dtype: str | None = None,
        image_tokens: int | None = None,
    ) -> "Plan":
        """The same plan with other arguments; those that are None stay as they are.

        Raises:
            ParameterError: If an argument is not allowed; see `plan`.

        Example:
            >>> small = plan("tiny", context=256, memory="1 GB")
            >>> small.but(context=512).kv == 2 * small.kv
            True
        """
        use = Use(
            context=self.context if context is None else context,
            batch=self.batch if batch is None else batch,
            kv_dtype=self.kv_dtype if kv_dtype is None else kv_dtype,
            image_tokens=self.image_tokens if image_tokens is None else image_tokens,
        )
        job = self._job if quantize is None else self._job.quantized(quantize)
        return _make(job, use, self.available)

    def check(self) -> None:
        """Do nothing if it fits.

        Raises:
            CapacityError: If it does not; says what it needs, what there is, and what would fit.

        Example:
            >>> plan("tiny", memory="1 MB").check()
            Traceback (most recent call last):
            glmflash.errors.CapacityError: tiny needs ... GiB, ...
        """
        if self.fits:
            return
        ways = "; ".join(f"{said} takes {gib(smaller.peak)}" for said, smaller in self._ways())
        raise CapacityError(
            f"{self.model} needs {gib(self.peak)}, {gib(self.weights)} of it weights; there are "
            f"{gib(self.available)}; {'this fits: ' + ways if ways else 'nothing known here makes it fit'}"
        )

    def __str__(self) -> str:
        return as_text(self._title(), self.parts, self._sums())

    def _repr_html_(self) -> str:
        return as_html(self._title(), self.parts, self._sums())

    @property
    def _use(self) -> Use:
        return Use(
            context=self.context, batch=self.batch, kv_dtype=self.kv_dtype, image_tokens=self.image_tokens
        )

    def _sum(self, kind: str) -> int:
        return sum(part.nbytes for part in self.parts if part.kind == kind)

    def _title(self) -> str:
        scheme = f", {self.quantize}" if self.quantize else ""
        return f"{self.model} on {self.device}{scheme}, context {self.context}, batch {self.batch}"

    def _sums(self) -> list[tuple[str, str]]:
        longest = self.max_context
        verdict = f"yes, up to a context of {longest}" if self.fits else "no"
        return [
            ("total", gib(self.total)),
            ("most while loading", gib(self.peak_loading)),
            ("available", gib(self.available)),
            ("fits", verdict),
        ]

    def _ways(self) -> Iterator[tuple[str, "Plan"]]:
        """What would fit: each change alone, or if none does, as many together as it takes."""
        changes = list(self._changes())
        alone = [(said, change(self)) for said, change in changes]
        fitting = [(said, smaller) for said, smaller in alone if smaller.fits]
        if longest := self.max_context:
            fitting.append((f"context={longest}", self.but(context=longest)))
        if fitting:
            yield from fitting
            return
        words: list[str] = []
        smaller = self
        for said, change in changes:
            words.append(said)
            smaller = change(smaller)
            longest = smaller.max_context
            if longest:
                shorter = [] if longest >= self.context else [f"context={longest}"]
                yield ", ".join(words + shorter), smaller.but(context=min(longest, self.context))
                return

    def _changes(self) -> Iterator[tuple[str, Callable[["Plan"], "Plan"]]]:
        if self.quantize is None:
            yield 'quantize="int8"', lambda one: one.but(quantize="int8")
        if self.kv_dtype != "int8":
            yield 'kv_dtype="int8"', lambda one: one.but(kv_dtype="int8")
        if self.image_tokens > _SMALL_PICTURE:
            yield f"image_tokens={_SMALL_PICTURE}", lambda one: one.but(image_tokens=_SMALL_PICTURE)
        if self.batch > 1:
            yield "batch=1", lambda one: one.but(batch=1)


def plan(
    model: str | Path | ModelConfig,
    *,
    quantize: str | QuantizationConfig | None = None,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device = "auto",
    context: int | None = None,
    batch: int = 1,
    kv_dtype: str = "auto",
    image_tokens: int | None = None,
    memory: str | int | None = None,
    revision: str | None = None,
    local_files_only: bool = False,
) -> Plan:
    """Work out how much memory a checkpoint takes. Its weights need not be there; config.json is enough.

    Args:
        model: A hub id, a folder, "tiny", or a `ModelConfig`.
        quantize: As for `Pipeline.from_pretrained`, and so are the next two and `kv_dtype`.
        dtype: See above.
        device: See above. A card need not be here if `memory` says how much it has.
        context: Tokens of each request, prompt and answer; None is 8192, or less if the model takes less.
        batch: Requests at once.
        kv_dtype: See above.
        image_tokens: Vision tokens of the largest picture, 0 for no pictures; None is the most that the
            checkpoint allows, as far as the context has room for it.
        memory: What to compare with: bytes, or text such as "16 GB"; None is what the device has now.
        revision: Branch, tag or commit of a hub id.
        local_files_only: Whether to use only what has been downloaded before.

    Raises:
        DownloadError: If there is no such checkpoint.
        ConfigError: If its config.json cannot be honoured.
        ParameterError: If an argument is not allowed.

    Example:
        >>> plan("tiny", context=512, memory="1 GB").fits
        True
    """
    room = None if memory is None else parse_memory(memory, parameter="memory")
    source = Source.find(model, revision=revision, local_files_only=local_files_only)
    job = Job.of(source, device=device, dtype=dtype, quantize=quantize)
    if room is None and job.target.device.type == "cuda" and not torch.cuda.is_available():
        raise ParameterError("device", 'is a CUDA card, and none is here; say what it has: memory="16 GB"')
    use = _use(source, context=context, batch=batch, kv_dtype=kv_dtype, image_tokens=image_tokens)
    return _make(job, use, device_memory(job.target.device) if room is None else room)


def _use(source: Source, *, context: int | None, batch: int, kv_dtype: str, image_tokens: int | None) -> Use:
    longest = source.config.text.max_position_embeddings
    use = Use(
        context=min(_CONTEXT, longest) if context is None else context,
        batch=batch,
        kv_dtype=kv_dtype,
        image_tokens=source.image_tokens if image_tokens is None else image_tokens,
    )
    _check(use, longest)
    return use if image_tokens is not None else replace(use, image_tokens=min(use.image_tokens, use.context))


def _make(job: Job, use: Use, available: int) -> Plan:
    _check(use, job.source.config.text.max_position_embeddings)
    parts = job.parts(use)
    program = sum(part.nbytes for part in parts if part.kind == "program")
    return Plan(
        model=job.source.name,
        device=str(job.target.device),
        dtype=str(job.target.dtype).removeprefix("torch."),
        quantize=job.target.scheme,
        context=use.context,
        batch=use.batch,
        kv_dtype=use.kv_dtype,
        image_tokens=use.image_tokens,
        parts=parts,
        peak_loading=job.weights.peak + program,
        available=available,
        _job=job,
    )


def _check(use: Use, longest: int) -> None:
    for name, low, high in (("context", 1, longest), ("batch", 1, 2**20), ("image_tokens", 0, 2**20)):
        value: object = getattr(use, name)
        if type(value) is not int or not low <= value <= high:
            raise ParameterError(name, f"is {show(value)}; allowed: a whole number from {low} to {high}")
    kv_dtype: object = use.kv_dtype
    if not isinstance(kv_dtype, str) or kv_dtype not in ("auto", "int8"):
        raise ParameterError("kv_dtype", f'is {show(use.kv_dtype)}; allowed: "auto" or "int8"')
