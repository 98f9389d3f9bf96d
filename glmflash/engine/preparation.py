"""A request just submitted → its pictures read and its prompt laid out, on a reader's thread."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from glmflash.config import PreprocessorConfig
from glmflash.engine.answer import Answer
from glmflash.engine.delivery import Delivery
from glmflash.engine.events import PictureDecoded
from glmflash.engine.guide import Guides
from glmflash.engine.inbox import Inbox
from glmflash.engine.inputs import Seen, build_prompt, read_pictures
from glmflash.engine.memory import short_of_memory
from glmflash.engine.prefix import leading
from glmflash.engine.readers import Readers
from glmflash.engine.recall import Recall, make_recall
from glmflash.engine.sampler import RowState
from glmflash.engine.sequence import Letter, Sequence
from glmflash.engine.settings import Settings
from glmflash.errors import CacheFullError, FetchError, ImageError
from glmflash.model.glm import Glm4v
from glmflash.prompt.tokenizer import Tokenizer

__all__ = ["Preparation"]


def __dir__() -> list[str]:
    return __all__


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Preparation:
    """What is done for a request before it meets the model.

    Args:
        model: Only its config is read.
        tokenizer: Of the same checkpoint.
        preprocessor: How pictures become patches.
        video_preprocessor: How clips do.
        settings: Limits on both, and what keeps answers.
        eos: Tokens that end an answer.
        capacity: Tokens that the KV cache can hold at most.
        fingerprint: Names weights and preprocessing; encoded pictures of others are refused.
        guides: Make what steers an answer.
        delivery: Hears of what fails.
        inbox: Where prepared sequences go.
        readers: Hand answers on to whoever waits for them.

    Attributes:
        recall: What goes before the inbox, if answers are kept.
    """

    model: Glm4v
    tokenizer: Tokenizer
    preprocessor: PreprocessorConfig
    video_preprocessor: PreprocessorConfig
    settings: Settings
    eos: frozenset[int]
    capacity: int
    fingerprint: Callable[[], str]
    guides: Guides
    delivery: Delivery
    inbox: Inbox[Letter]
    readers: Readers
    recall: Recall | None = field(init=False)

    def __post_init__(self) -> None:
        recall = make_recall(
            self.settings, self.model, self.tokenizer, fingerprint=self.fingerprint, eos=self.eos,
            delivery=self.delivery, inbox=self.inbox, readers=self.readers,
        )  # fmt: skip
        object.__setattr__(self, "recall", recall)

    def __call__(self, sequence: Sequence) -> None:
        """Prepare and hand over; whatever goes wrong ends the request. Raises nothing."""
        try:
            sequence.clock.reading = time.perf_counter()
            self._check(sequence)
            self._prepare(sequence)
            sequence.clock.prepared = time.perf_counter()
            if self.recall is None or sequence.then is not None:
                self.inbox.put(sequence)
            else:
                self.recall(sequence)
        except BaseException as error:  # noqa: BLE001 - decoders can panic; it is this request's alone
            if sequence.future.cancelled():
                self.delivery.cancel(sequence)
            elif isinstance(error, (FetchError, ImageError)) and sequence.stopped:
                self.delivery.drop(sequence)
            else:
                self.delivery.fail(sequence, short_of_memory(error))

    def _prepare(self, sequence: Sequence) -> None:
        request = sequence.request
        began = time.perf_counter()
        pictures = self._read(sequence)
        seconds = time.perf_counter() - began
        if observers := self.delivery.observers:
            for index, picture in enumerate(pictures):
                observers.emit(
                    PictureDecoded(
                        request=sequence.number, index=index, digest=picture.digest,
                        seconds=seconds / len(pictures),
                    )
                )  # fmt: skip
        inputs = build_prompt(request, pictures, tokenizer=self.tokenizer, config=self.model.config)
        if sequence.then is not None:
            length = leading(inputs.prompt) if sequence.part == "leading" else len(inputs.prompt) - 1
            self._check_capacity(length)
            sequence.prepare(inputs, None, RowState(request.sampling), length)
            return
        length = len(inputs.prompt)
        self._check_capacity(length + 1)
        limit = min(self.model.config.text.max_position_embeddings, self.capacity)
        answer = Answer(request, inputs, tokenizer=self.tokenizer, eos=self.eos, room=limit - length)
        row = RowState(request.sampling, prompt=inputs.prompt.ids, guide=self.guides(request))
        sequence.prepare(inputs, answer, row, length)

    def _read(self, sequence: Sequence) -> tuple[Seen, ...]:
        try:
            return read_pictures(
                sequence.request, self.preprocessor, self.settings.policy, fingerprint=self.fingerprint,
                video_preprocessor=self.video_preprocessor, give_up=partial(self._given_up, sequence),
            )  # fmt: skip
        except (FetchError, ImageError):
            self._check(sequence)  # it may have been given up, and that is what is to be told
            raise

    def _check(self, sequence: Sequence) -> None:
        """Pass if somebody waits for it."""
        self.inbox.check()
        sequence.check()

    def _given_up(self, sequence: Sequence) -> bool:
        return sequence.cancelled or self.inbox.closed or sequence.overdue(time.perf_counter()) is not None

    def _check_capacity(self, tokens: int) -> None:
        if tokens > self.capacity:
            raise CacheFullError(
                f"the request needs {tokens} tokens of KV cache, and there are {self.capacity} in all: give"
                " the pipeline more kv_memory, or ask with fewer or smaller pictures (max_image_tokens)"
            )
