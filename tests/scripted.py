"""A pipeline that says what a script tells it: the real engine, its tokens chosen beforehand."""

import re

import torch

from glmflash import Pipeline
from glmflash.output.parse import MARKERS

_MARKER = re.compile("(" + "|".join(map(re.escape, MARKERS)) + ")")


class Scripted:
    """Satisfies `Asks`. A control token is spelled out in the script; the end of the turn follows it.

    Args:
        pipe: What it runs on.
        script: What to say, whatever the question.
    """

    def __init__(self, pipe: Pipeline, script: str) -> None:
        tokenizer = pipe.engine.tokenizer
        self._pipe = pipe
        self.ids = [
            token
            for piece in _MARKER.split(script)
            for token in ([tokenizer.controls[piece]] if piece in MARKERS else tokenizer.encode(piece))
        ] + [min(pipe.engine.eos)]
        self.asked: list[dict] = []

    def __getattr__(self, name):
        return getattr(self._pipe, name)

    def chat(self, messages, **options):
        return self._pipe.chat(messages, **self._told(options))

    def stream(self, text, **options):
        return self._pipe.stream(text, **self._told(options))

    def astream(self, text, **options):
        return self._pipe.astream(text, **self._told(options))

    def submit(self, item, **options):
        return self._pipe.submit(item, **self._told(options))

    def _told(self, options):
        self.asked.append(dict(options))
        # What would choose tokens otherwise is left out: here the script chooses.
        for name in ("tool_choice", "response_format", "regex", "choice"):
            options.pop(name, None)
        return options | {"logits_processors": [self._force], "repetition_stop": None}

    def _force(self, token_ids, logits):
        forced = torch.full_like(logits, -1e9)
        forced[self.ids[min(len(token_ids), len(self.ids) - 1)]] = 0.0
        return forced
