"""A request just submitted → its pictures read and its prompt laid out, on a reader's thread."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from glmflash.config import PreprocessorConfig
from glmflash.engine.answer import Answer
from glmflash.engine.delivery import Delivery
from glmflash.engine.events import PictureDecoded
from glmflash.engine.guide import Guides
from glmflash.engine.inbox import Inbox
from glmflash.engine.inputs import build_prompt, read_pictures
from glmflash.engine.memory import short_of_memory
from glmflash.engine.prefix import leading
from glmflash.engine.sampler import RowState
from glmflash.engine.sequence import Letter, Sequence
from glmflash.errors import CacheFullError
from glmflash.media.policy import InputPolicy
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
        policy: Limits on pictures.
        eos: Tokens that end an answer.
        capacity: Tokens that the KV cache can hold at most.
        fingerprint: Names weights and preprocessing; encoded pictures of others are refused.
        guides: Make what steers an answer.
        delivery: Hears of what fails.
        inbox: Where prepared sequences go.
    """

    model: Glm4v
    tokenizer: Tokenizer
    preprocessor: PreprocessorConfig
    policy: InputPolicy
    eos: frozenset[int]
    capacity: int
    fingerprint: Callable[[], str]
    guides: Guides
    delivery: Delivery
    inbox: Inbox[Letter]

    def __call__(self, sequence: Sequence) -> None:
        """Prepare and hand over; whatever goes wrong ends the request. Raises nothing."""
        try:
            sequence.clock.reading = time.perf_counter()
            self.inbox.check()
            sequence.check()
            self._prepare(sequence)
            sequence.clock.prepared = time.perf_counter()
            self.inbox.put(sequence)
        except BaseException as error:  # noqa: BLE001 - decoders can panic; it is this request's alone
            if sequence.future.cancelled():
                self.delivery.cancel(sequence)
            else:
                self.delivery.fail(sequence, short_of_memory(error))

    def _prepare(self, sequence: Sequence) -> None:
        request = sequence.request
        began = time.perf_counter()
        pictures = read_pictures(request, self.preprocessor, self.policy, fingerprint=self.fingerprint)
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

    def _check_capacity(self, tokens: int) -> None:
        if tokens > self.capacity:
            raise CacheFullError(
                f"the request needs {tokens} tokens of KV cache, and there are {self.capacity} in all: give"
                " the pipeline more kv_memory, or ask with fewer or smaller pictures (max_image_tokens)"
            )
