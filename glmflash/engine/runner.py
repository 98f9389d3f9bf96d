"""What the scheduler decides → vision tokens, packed forwards, chosen tokens; each request on its own."""

import contextlib
import time

from glmflash.engine.delivery import Delivery
from glmflash.engine.events import Prefill, TokenGenerated, VisionDone
from glmflash.engine.memory import short_of_memory
from glmflash.engine.prefix import Prefix
from glmflash.engine.sampler import Sampled, sample
from glmflash.engine.scheduler import Chunk, Scheduler
from glmflash.engine.sequence import Sequence
from glmflash.engine.step import forward
from glmflash.engine.vision import VisionCache, encode_picture
from glmflash.errors import CacheFullError, NumericsError
from glmflash.kv.store import BlockStore
from glmflash.model.decode import decode_step
from glmflash.model.glm import Glm4v
from glmflash.output.result import FinishReason

__all__ = ["Runner"]


def __dir__() -> list[str]:
    return __all__


class Runner:
    """Computes, on the worker's thread. Whatever goes wrong with a request ends that request alone.

    Args:
        model: The network.
        store: Where keys and values lie; as large as the scheduler's pool.
        scheduler: Decides what runs.
        vision: Remembers vision tokens.
        delivery: Where answers and errors go.
        vocab_size: Real entries of the tokenizer.
    """

    def __init__(
        self,
        model: Glm4v,
        store: BlockStore,
        scheduler: Scheduler,
        vision: VisionCache,
        delivery: Delivery,
        *,
        vocab_size: int,
    ) -> None:
        self.model = model
        self.store = store
        self.scheduler = scheduler
        self.vision = vision
        self.delivery = delivery
        self._vocab_size = vocab_size
        self._decode = decode_step(model)

    @property
    def capacity(self) -> int:
        """Tokens that the KV cache holds at most."""
        return self.scheduler.pool.num_blocks * self.scheduler.pool.block_size

    def end(self, sequence: Sequence, error: BaseException | None = None) -> None:
        """End a request: with its answer, or with an error. Its blocks are free or reusable from here on."""
        self.scheduler.remove(sequence, poisoned=isinstance(error, NumericsError))
        if sequence.future.cancelled():
            self.delivery.cancel(sequence)
        elif error is None:
            self.delivery.finish(sequence)
        else:
            self.delivery.fail(sequence, error)

    def cut(self, sequence: Sequence, reason: FinishReason) -> None:
        """End a request here, with the answer as far as it came."""
        assert sequence.answer is not None
        try:
            self.delivery.show(sequence, sequence.answer.finish(reason))
        except BaseException as error:  # noqa: BLE001 - the receiver's own
            self.end(sequence, error)
            return
        self.end(sequence)

    def see(self) -> None:
        """Encode at most one picture, so that decodes never wait for more than one."""
        for sequence in list(self.scheduler.running):
            while (index := sequence.unseen()) is not None:
                began = time.perf_counter()
                picture, salt = sequence.inputs.pictures[index], sequence.request.cache_salt
                try:
                    tokens, cached = encode_picture(self.model, picture, self.vision, salt=salt)
                except BaseException as error:  # noqa: BLE001 - whatever it is, it is this request's alone
                    self.end(sequence, short_of_memory(error))
                    break
                seconds = time.perf_counter() - began
                sequence.see(index, tokens, seconds=seconds, cached=cached)
                self._tell_vision(sequence, picture.digest, len(tokens), seconds, cached)
                if not cached:
                    return

    def complete(self) -> None:
        """Make of parts of prompts that are all there what was asked of them."""
        for sequence in list(self.scheduler.running):
            if sequence.then is None or sequence.missing or sequence.unseen() is not None:
                continue
            assert sequence.table is not None
            prefix = Prefix(
                keys=tuple(sequence.keys),
                pictures=sequence.inputs.pictures,
                vision=tuple(tokens for tokens in sequence.vision if tokens is not None),
                pool=self.scheduler.pool,
                store=self.store,
                table=sequence.table,
                prompt=sequence.inputs.prompt,
                check=sequence.check,
            )
            try:
                value = sequence.then(prefix)
            except BaseException as error:  # noqa: BLE001 - the function's own
                self.end(sequence, error)
                continue
            self.scheduler.remove(sequence)
            self.delivery.complete(sequence, value)

    def compute(self) -> None:
        """One packed forward for all that can run."""
        chunks, failed = self.scheduler.schedule()
        for sequence, error in failed:
            self._stuck(sequence, error)
        chunks = [chunk for chunk in chunks if self._make_room(chunk)]
        if chunks:
            self._forward(chunks)

    def _stuck(self, sequence: Sequence, error: BaseException) -> None:
        """No block can be had, for pictures are pinned: an answer that has begun ends here, as too long."""
        if isinstance(error, CacheFullError) and sequence.generated:
            self.cut(sequence, "length")
        else:
            self.end(sequence, error)

    def _make_room(self, chunk: Chunk) -> bool:
        """Have the store hold the chunk's blocks, and copy what is written to by several."""
        sequence = chunk.sequence
        if sequence.table is None:  # sent back, or ended, after it was given its turn
            return False
        try:
            if chunk.copies or chunk.tokens > 1 or chunk.start % self.store.block_size == 0:  # new blocks
                self.store.ensure(max(sequence.table.blocks) + 1)
                self.store.copy(chunk.copies)
        except BaseException as error:  # noqa: BLE001 - no memory, most likely
            failure: BaseException = error
        else:
            return True
        failure = short_of_memory(failure, self.store)
        self.end(sequence, failure)
        if isinstance(failure, CacheFullError):
            with contextlib.suppress(CacheFullError):  # others hold such blocks: their turn comes
                # What the device does not have must not be handed out again, while others run.
                self.scheduler.pool.resize(max(self.store.num_blocks, 1))
        return False

    def _forward(self, chunks: list[Chunk]) -> None:
        """If the pack fails, each chunk is tried alone: the one to blame fails, the others go on."""
        began = time.perf_counter()
        failure: BaseException | None = None
        try:
            logits = forward(self.model, self.store, chunks, decode=self._decode)
            rows = [one.sequence for one in chunks if one.last and one.sequence.answer is not None]
            tokens = sample(logits, [one.row for one in rows], vocab_size=self._vocab_size)
        except BaseException as error:  # noqa: BLE001 - see above
            failure = error
        if failure is None:
            seconds = time.perf_counter() - began
            self.delivery.accounts.generated(len(rows), seconds)
            self._commit(chunks, seconds)
            for sequence, token in zip(rows, tokens, strict=True):
                if sequence.table is not None:
                    self._push(sequence, token)
        elif len(chunks) == 1:
            self.end(chunks[0].sequence, short_of_memory(failure))
        else:
            del failure  # and with it the frames that hold the pack's tensors
            for chunk in chunks:
                self._forward([chunk])

    def _commit(self, chunks: list[Chunk], seconds: float) -> None:
        for chunk in chunks:
            sequence = chunk.sequence
            assert sequence.table is not None
            try:
                keys = sequence.keys[chunk.start : chunk.start + chunk.tokens]
                self.scheduler.pool.commit(sequence.table, keys)
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is this request's alone
                self.end(sequence, error)
                continue
            if sequence.generated == 0:
                self._tell_prefill(sequence, chunk.tokens, seconds)

    def _push(self, sequence: Sequence, token: Sampled | BaseException) -> None:
        if isinstance(token, BaseException):
            self.end(sequence, token)
            return
        answer = sequence.answer
        assert answer is not None
        if sequence.clock.first is None:
            sequence.clock.first = time.perf_counter()
        try:
            sequence.accept(token.token_id)
            self.delivery.show(sequence, answer.push(token))
        except BaseException as error:  # noqa: BLE001 - the receiver's own
            self.end(sequence, error)
            return
        self._tell_token(sequence, token.token_id)
        if answer.finish_reason is not None:
            self.end(sequence)

    def _tell_vision(
        self, sequence: Sequence, digest: str, tokens: int, seconds: float, cached: bool
    ) -> None:
        if observers := self.delivery.observers:
            observers.emit(
                VisionDone(
                    request=sequence.number, time=time.perf_counter(), digest=digest, tokens=tokens,
                    seconds=seconds, cached=cached,
                )
            )  # fmt: skip

    def _tell_prefill(self, sequence: Sequence, tokens: int, seconds: float) -> None:
        if observers := self.delivery.observers:
            observers.emit(
                Prefill(
                    request=sequence.number, time=time.perf_counter(), tokens=tokens,
                    cached=sequence.cached or 0, seconds=seconds,
                )
            )  # fmt: skip

    def _tell_token(self, sequence: Sequence, token_id: int) -> None:
        if observers := self.delivery.observers:
            observers.emit(
                TokenGenerated(
                    request=sequence.number, time=time.perf_counter(), index=sequence.generated - 1,
                    token_id=token_id,
                )
            )  # fmt: skip
