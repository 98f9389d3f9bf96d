"""A question and pictures on a command line → the answer on standard output, as text or JSON."""

import argparse
import io
import json
import sys
from dataclasses import asdict
from pathlib import Path

from glmflash.cli.arguments import PICTURES, UsageError
from glmflash.engine.request import Options
from glmflash.media import read
from glmflash.output.result import Result
from glmflash.pipeline import Pipeline
from glmflash.weights.files import replacing

__all__ = ["ask"]


def __dir__() -> list[str]:
    return __all__


def ask(arguments: argparse.Namespace) -> int:
    """Load, ask once, print.

    Raises:
        UsageError: If arguments do not go together.
        GlmflashError: Whatever loading and asking raise.
        OSError: If the picture with boxes cannot be written.
    """
    model, question = _words(arguments.words)
    target = _target(arguments)
    streamed = sys.stdout.isatty() if arguments.stream is None else arguments.stream
    with Pipeline.from_pretrained(
        model,
        device=arguments.device,
        dtype=arguments.dtype,
        quantize=arguments.quantize,
        local_files_only=arguments.local_files_only,
    ) as pipe:
        result = _asked(pipe, question, arguments, streamed=streamed and not arguments.json)
    if arguments.json:
        sys.stdout.write(json.dumps(_plain(result), ensure_ascii=False) + "\n")
    if sys.stderr.isatty():
        sys.stderr.write(f"{result.summary}\n")
    if target is not None:
        drawn = io.BytesIO()
        result.draw(read(arguments.image[-1])).save(drawn, PICTURES[target.suffix.lower()])
        with replacing(target) as file:
            file.write(drawn.getvalue())
    return 0


def _words(words: list[str]) -> tuple[str, str]:
    """Which model, and what to ask it."""
    if len(words) > 2:
        raise UsageError("a question of several words stands in quotes")
    question = sys.stdin.read().strip() if words[-1] == "-" else words[-1]
    return (words[0] if len(words) > 1 else "tiny"), question


def _target(arguments: argparse.Namespace) -> Path | None:
    """Where to draw; checked before anything is loaded."""
    if arguments.draw is None:
        return None
    if not arguments.image:
        raise UsageError("--draw needs a picture to draw on; give one with --image")
    target = Path(arguments.draw)
    if target.suffix.lower() not in PICTURES:
        raise UsageError(f"--draw takes a name that ends in {', '.join(PICTURES)}")
    return target


def _asked(pipe: Pipeline, question: str, arguments: argparse.Namespace, *, streamed: bool) -> Result:
    """The answer; written already, unless it is wanted as JSON."""
    options: Options = {"thinking": arguments.thinking}
    for name in ("max_new_tokens", "max_image_tokens", "temperature", "seed"):
        if (value := getattr(arguments, name)) is not None:
            options[name] = value
    images = arguments.image or None
    if not streamed:
        result = pipe(question, images=images, system=arguments.system, **options)
        if not arguments.json:
            _err(f"{result.thinking}\n" if result.thinking else "")
            sys.stdout.write(f"{result.text}\n")
        return result
    with pipe.stream(question, images=images, system=arguments.system, **options) as stream:
        for delta in stream:
            if delta.channel == "thinking":
                _err(delta.text)
            elif delta.channel == "answer":
                sys.stdout.write(delta.text)
                sys.stdout.flush()
    sys.stdout.write("\n")
    return stream.result


def _err(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


def _plain(result: Result) -> dict[str, object]:
    """What a program wants of a result; without tokens, which are numbers of the model's own."""
    kept = ("text", "thinking", "finish_reason", "boxes", "tool_calls", "usage", "timings")
    values = asdict(result)
    return {name: values[name] for name in kept}
