"""A checkpoint's name → a pipeline: pictures and questions in, typed answers out. Wiring, no logic."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Self, Unpack

import torch

from glmflash import prepare
from glmflash.answers.cache import AnswerCache
from glmflash.asks import Item, Talk
from glmflash.engine.encoded import EncodedImage, encode
from glmflash.engine.engine import Engine
from glmflash.engine.events import Observer
from glmflash.engine.request import Request
from glmflash.engine.settings import Settings
from glmflash.engine.stats import Stats
from glmflash.engine.stream import AsyncStream, Stream
from glmflash.errors import ClosedError, ParameterError
from glmflash.loading import load_engine
from glmflash.many import batch, map_
from glmflash.media.policy import InputPolicy
from glmflash.output.result import Result
from glmflash.plan import plan, require_room
from glmflash.prepare import Options
from glmflash.progress import Progress
from glmflash.quant import Card, QuantizationConfig, card
from glmflash.session import Session
from glmflash.structured.methods import choose, extract, locate
from glmflash.tools import run_tools
from glmflash.weights.hub import resolve
from glmflash.weights.save import save_pretrained

__all__ = ["Pipeline"]


def __dir__() -> list[str]:
    return __all__


class Pipeline:
    """A loaded model that answers questions about pictures.

    Args:
        engine: What does the work. `from_pretrained` makes one from a checkpoint.
        source: The folder it was loaded from, for `save_pretrained`.

    Example:
        >>> pipe = Pipeline.from_pretrained("tiny")
        >>> result = pipe("What is the total?", max_new_tokens=8)
        >>> result.usage.completion <= 8
        True
    """

    def __init__(self, engine: Engine, *, source: Path | None = None) -> None:
        self._engine: Engine | None = engine
        self._source = source

    plan = staticmethod(plan)
    batch = batch
    map = map_
    choose = choose
    extract = extract
    locate = locate
    run_tools = run_tools

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        quantize: str | QuantizationConfig | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        kv_memory: str | int = "auto",
        kv_dtype: str = "auto",
        max_batch: int = 16,
        max_waiting: int = 1024,
        input_policy: InputPolicy | None = None,
        observers: Sequence[Observer] = (),
        answer_cache: AnswerCache | None = None,
        progress: Progress = None,
    ) -> Self:
        """Load a checkpoint.

        Args:
            model: A hub id such as "zai-org/GLM-4.6V-Flash", a folder, or "tiny", the embedded model.
            device: "auto" is the first GPU, if there is one, else the CPU.
            dtype: "auto" is the checkpoint's own where the device can compute in it.
            quantize: "int8" rounds weights, "w8a8" activations too; or a `QuantizationConfig`.
            revision: Branch, tag or commit of a hub id.
            local_files_only: Whether to use only what has been downloaded before.
            kv_memory: Most memory for the KV cache: bytes, or text such as "4 GiB"; see `Settings`.
            kv_dtype: "auto" is that of the model; "int8" takes half of it or less, at a small loss.
            max_batch: Most requests computed together.
            max_waiting: Most requests in line behind them.
            observers: Functions that are told every event; see `glmflash.engine.events`.
            answer_cache: Keeps answers, so that no question is answered twice; None keeps none.
            input_policy: Limits on pictures; the default suits strangers' uploads.
            progress: None shows bars on a terminal and in a notebook, True always; or a function of bytes.

        Raises:
            DownloadError, ConfigError, CheckpointError: If it is not there, or not as it should be.
            ParameterError: If an argument here is not one of those above.
            CapacityError: If the weights cannot fit into the memory there is.
        """
        settings = Settings(  # checked before anything is loaded
            policy=input_policy or InputPolicy(), kv_memory=kv_memory, kv_dtype=kv_dtype, max_batch=max_batch,
            max_waiting=max_waiting, observers=observers, answers=answer_cache)  # fmt: skip
        folder = resolve(model, revision=revision, local_files_only=local_files_only, progress=progress)
        require_room(folder, device=device, dtype=dtype, quantize=quantize)
        engine = load_engine(
            folder, device=device, dtype=dtype, quantize=quantize, progress=progress, settings=settings
        )
        return cls(engine, source=folder)

    @property
    def engine(self) -> Engine:
        """The rung below: model, tokenizer, configs.

        Raises:
            ClosedError: If the pipeline has been closed.
        """
        if self._engine is None:
            raise ClosedError("the pipeline has been closed; make a new one with Pipeline.from_pretrained")
        return self._engine

    def __call__(
        self, text: str, *, images: object = None, videos: object = None, system: str | None = None,
        **options: Unpack[Options],
    ) -> Result:  # fmt: skip
        """Ask one question.

        Args:
            text: The question.
            images: One picture or a list of them: a path, bytes, a file, a PIL image, an array, a tensor.
            videos: One clip or a list of them: a path, bytes, a file, a `Clip`.
            system: A system message to begin with.
            options: Among others `max_new_tokens`, `temperature` (0 is greedy), `seed`, `stop`, `thinking`
                (False unless given: an answer at once), `tools`, `response_format`, `choice`, `logprobs`; all
                are listed in `prepare.Options`, and explained in `Sampling` and `Request`.

        Raises:
            InputError: If something given cannot be used; the subclass says what.
            GlmflashError: If it could not be answered: no place in line, no room, no time, a closed pipeline.
        """
        return self.chat(prepare.question(text, images=images, videos=videos, system=system), **options)

    def chat(self, messages: Sequence[Mapping[str, object]], **options: Unpack[Options]) -> Result:
        """Continue a conversation given as OpenAI-style messages.

        Args:
            messages: Dictionaries with `role` and `content`; pictures and clips as parts "image" and "video".
            options: See `prepare.Options`. Errors are those of a call.
        """
        return self.engine.answer(self._request(messages, options))

    def stream(
        self, text: Talk, *, images: object = None, videos: object = None, system: str | None = None,
        **options: Unpack[Options],
    ) -> Stream:  # fmt: skip
        """Ask, and get the answer piece by piece.

        Args:
            text: The question, or a whole conversation as messages; then without what follows.
            images: As for a call, whose errors it raises.
            videos: As for a call.
            system: As for a call.
            options: As for a call.
        """
        messages = prepare.conversation(text, images, system, videos)
        return self.engine.start(self._request(messages, options))

    def astream(
        self, text: Talk, *, images: object = None, videos: object = None, system: str | None = None,
        **options: Unpack[Options],
    ) -> AsyncStream:  # fmt: skip
        """The same in a running event loop, a notebook's for one: `async for delta in pipe.astream(...)`.

        Raises:
            QueueFullError: If too many requests are in line; and what a call raises.
        """
        messages = prepare.conversation(text, images, system, videos)
        return self.engine.start_async(self._request(messages, options))

    def submit(self, item: Item, **options: Unpack[Options]) -> Future[Result]:
        """Ask without waiting; the future has the answer, or the error. `future.cancel()` always works.

        Args:
            item: A question, a list of messages, keywords of a call such as `{"text": ..., "images": ...}`,
                or a `Request`.
            options: See `prepare.Options`; what a mapping or a request says itself comes first.

        Raises:
            InputError: If it cannot be used; a picture's own errors come out of the future.
            QueueFullError: If too many requests are in line.
        """
        with (engine := self.engine).refusing():
            request = prepare.one(item, options, defaults=engine.generation)
        return engine.submit(request)

    def session(self, *, system: str | None = None, **options: Unpack[Options]) -> Session:
        """Begin a conversation; each turn computes only what is new. Options are for every question."""
        read = self.engine.read
        return Session(chat=self.chat, stream=self.stream, encode=read, system=system, options=options)

    def encode(
        self, image: object, *, max_image_tokens: int | None = None, cache_salt: str | None = None
    ) -> EncodedImage:
        """Read a picture once, for any number of questions: ask with `images=` the value returned.

        It keeps the vision tokens; the KV of prompts that begin with it is in the cache.

        Args:
            image: Of any kind that a call takes.
            max_image_tokens: Most vision tokens; fewer is faster and coarser.
            cache_salt: Keeps the KV for questions with the same salt.
        """
        return encode(self.engine, image, max_image_tokens=max_image_tokens, cache_salt=cache_salt)

    @property
    def card(self) -> Card | None:
        """What quantisation did to each layer; None if nothing is quantised."""
        return found if (found := card(self.engine.model)).layers else None

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the model, INT8 layers as INT8, with configs, tokenizer and card; `from_pretrained` loads it.

        Args:
            folder: Made if it is not there. What it holds stays whole until the new files are complete.
        """
        if self._source is None:
            raise ParameterError("source", "is not known; give it: Pipeline(engine, source=folder)")
        return save_pretrained(self.engine.model, folder, source=self._source)

    def stats(self) -> Stats:
        """What was asked and answered so far, how long it took by phase, and what the caches hold."""
        return self.engine.stats()

    def close(self) -> None:
        """End what is under way, and give memory and threads back. Closing twice is fine.

        Whoever still waits for an answer gets `ClosedError`, as does whoever asks afterwards.
        """
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if self._engine is None:
            return "<Pipeline: closed>"
        return repr(self._engine).replace("Engine", "Pipeline", 1)

    def _request(self, messages: Sequence[Mapping[str, object]], options: Options) -> Request:
        with (engine := self.engine).refusing():
            return prepare.request(messages, options, defaults=engine.generation)
