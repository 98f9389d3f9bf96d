"""Generated tokens, one at a time → streamed deltas, the reason to stop, and the result in the end."""

from dataclasses import replace

from glmflash.engine.inputs import Inputs
from glmflash.engine.recorded import Recorded
from glmflash.engine.request import Request
from glmflash.engine.sampler import Sampled
from glmflash.engine.stops import RepetitionStop, StopStrings
from glmflash.output.boxes import parse_boxes
from glmflash.output.parse import StreamParser
from glmflash.output.result import Delta, FinishReason, Result, Timings, TokenLogprob, Usage
from glmflash.output.text import Detokenizer
from glmflash.prompt.template import TemplateStyle
from glmflash.prompt.tokenizer import Tokenizer

__all__ = ["Answer"]


def __dir__() -> list[str]:
    return __all__


class Answer:
    """The growing answer of one request. It knows tokens and text, not the network.

    Args:
        request: What was asked.
        inputs: The prompt, and the sizes of the pictures that boxes refer to.
        tokenizer: Of the checkpoint.
        eos: Tokens that end the answer.
        room: Most tokens that the context has room for.
    """

    def __init__(
        self, request: Request, inputs: Inputs, *, tokenizer: Tokenizer, eos: frozenset[int], room: int
    ) -> None:
        sampling = request.sampling
        self._tokenizer = tokenizer
        image = sum(span.length for span in inputs.prompt.spans)
        self._usage = Usage(prompt=len(inputs.prompt), image=image)
        self._sizes = inputs.sizes
        self._eos = frozenset[int]() if sampling.ignore_eos else eos
        self.room = min(sampling.max_new_tokens, room)
        self._wants_logprobs = sampling.logprobs is not None
        always_thinks = not TemplateStyle.of(tokenizer.controls).switch
        self._detokenizer = Detokenizer(tokenizer.token_bytes)
        self._parser = StreamParser(
            thinking=always_thinks or bool(request.thinking), tools=request.shown_tools
        )
        self._stops = StopStrings(sampling.stop)
        self._repetition = RepetitionStop(sampling.repetition_stop) if sampling.repetition_stop else None
        self._token_ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []
        self._cut = False
        self.finish_reason: FinishReason | None = None
        self.opening = self._shown(self._parser.push(request.answer_prefix)) if request.answer_prefix else []

    def push(self, sampled: Sampled) -> list[Delta]:
        """Add a token; returns what can be shown now. Sets `finish_reason` once the answer ends."""
        token_id = sampled.token_id
        self._token_ids.append(token_id)
        if sampled.logprob is not None:
            self._logprobs.append(sampled.logprob)
        if token_id in self._eos:
            return self._end("stop")
        control = self._tokenizer.control_name(token_id)
        text = self._detokenizer.push(token_id) if control is None else self._detokenizer.flush()
        deltas = self._shown(self._parser.push(text, control))
        if self.finish_reason is not None:  # a stop string
            return deltas
        if self._repetition is not None and self._repetition.push(token_id):
            return deltas + self._end("repetition")
        return deltas + self._end("length") if len(self._token_ids) >= self.room else deltas

    def finish(self, reason: FinishReason) -> list[Delta]:
        """Cut the answer here; returns what was still waiting."""
        self._cut = True
        return self._end(reason)

    @property
    def record(self) -> Recorded | None:
        """Its tokens, from which `replay` makes it again; None unless it ended by itself."""
        if self._cut or self.finish_reason is None:
            return None
        logprobs = self._logprobs if self._wants_logprobs else [None] * len(self._token_ids)
        tokens = map(Sampled, self._token_ids, logprobs)
        return Recorded(tuple(tokens), self.finish_reason)

    def replay(self, recorded: Recorded) -> list[Delta] | None:
        """Add the tokens of an answer given before; returns its deltas, or None if it does not come out."""
        deltas = list(self.opening)
        for sampled in recorded.tokens:
            if self.finish_reason is not None or (sampled.logprob is None) is self._wants_logprobs:
                return None
            deltas += self.push(sampled)
        return deltas if self.finish_reason == recorded.finish_reason else None

    def anew(self, request: Request, inputs: Inputs) -> "Answer":
        """The same before its first token; what it was made of, it does not keep."""
        return Answer(request, inputs, tokenizer=self._tokenizer, eos=self._eos, room=self.room)

    def result(
        self, timings: Timings, *, cached: int = 0, saved: int = 0, from_cache: bool = False
    ) -> Result:
        """The finished answer.

        Args:
            timings: Where its time went.
            cached: Tokens of the prompt whose KV was already there.
            saved: Tokens that were not computed again thanks to any cache.
            from_cache: Whether no token of it was generated for this request.
        """
        parsed = self._parser.parsed()
        last = len(self._sizes) - 1  # the text does not say which picture; the latest is the likeliest
        boxes = (
            parse_boxes(parsed.text, size=self._sizes[last], image=last, marked=parsed.marked)
            if self._sizes
            else ()
        )
        decoded = max(len(self._token_ids) - 1, 0)  # the first token comes out of the prefill
        speed = decoded / timings.decode if timings.decode and not from_cache else 0.0
        assert self.finish_reason is not None
        return Result(
            text=parsed.text,
            raw=parsed.raw,
            thinking=parsed.thinking,
            token_ids=tuple(self._token_ids),
            logprobs=tuple(self._logprobs) if self._wants_logprobs else None,
            boxes=boxes,
            tool_calls=parsed.tool_calls,
            finish_reason=self.finish_reason,
            usage=replace(self._usage, completion=len(self._token_ids), cached=cached, saved_prefill=saved),
            timings=replace(timings, tokens_per_second=speed),
            from_cache=from_cache,
        )

    def _end(self, reason: FinishReason) -> list[Delta]:
        deltas = self._parser.push(self._detokenizer.flush()) + self._parser.finish()
        shown = self._shown(deltas, final=True)
        self.finish_reason = self.finish_reason or reason
        return shown

    def _shown(self, deltas: list[Delta], *, final: bool = False) -> list[Delta]:
        """Hold back what may become a stop string; cut the answer where one is complete."""
        shown = self._stops.filter(deltas, final=final)
        if self._stops.hit is not None and self.finish_reason is None:
            self._parser.finish()
            self._parser.truncate(self._stops.emitted)
            self.finish_reason = "stop"
        return shown
