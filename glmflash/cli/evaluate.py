"""A file of questions and ways to load a model → how accurate each is, as a table, a page or JSON."""

import argparse
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from glmflash import evaluate as evaluation
from glmflash.cli.arguments import UsageError
from glmflash.evaluate import Asking, asking, gate, read_questions
from glmflash.pipeline import Pipeline

__all__ = ["evaluate"]

_ENDINGS = (".html", ".json", ".md", ".txt")


def __dir__() -> list[str]:
    return __all__


def evaluate(arguments: argparse.Namespace) -> int:
    """Ask every question of the model in every way, print the table, and write reports.

    Returns:
        0; or 1 if a way is worse than the first by more than `--max-drop`.

    Raises:
        UsageError: If arguments do not go together.
        GlmflashError: Whatever reading, loading and asking raise.
        OSError: If a report cannot be written.
    """
    for path in arguments.report:
        if Path(path).suffix not in _ENDINGS:
            raise UsageError(f"--report takes a name that ends in {', '.join(_ENDINGS)}")
        if not Path(path).parent.is_dir():  # found now, not after hours of asking
            raise UsageError(f"--report {path}: there is no such folder")
    if arguments.limit is not None and arguments.limit < 1:
        raise UsageError("--limit takes a whole number from 1")
    ways = dict.fromkeys(arguments.quantize or ["none"])
    if arguments.max_drop is not None and len(ways) < 2:
        raise UsageError("--max-drop compares ways; give several, such as --quantize none int8")
    if arguments.max_drop is not None and not 0 <= arguments.max_drop <= 100:
        raise UsageError("--max-drop takes percentage points, from 0 to 100")
    questions = read_questions(arguments.questions)
    systems = {_name(way): _system(way, arguments) for way in ways}
    report = evaluation.run(
        systems,
        questions[: arguments.limit],
        concurrency=arguments.together,
        resume=arguments.resume,
    )
    sys.stdout.write(f"{report}\n")
    for path in arguments.report:
        report.save(path)
    if arguments.max_drop is not None:
        sys.stdout.write(f"\n{gate(report, max_drop=arguments.max_drop / 100)}\n")
    return 0


def _name(way: str) -> str:
    return "as stored" if way == "none" else way


def _system(way: str, arguments: argparse.Namespace) -> Asking:
    scheme, _, kv = way.partition("+")
    load: Callable[[], Pipeline] = partial(
        Pipeline.from_pretrained,
        arguments.model,
        device=arguments.device,
        dtype=arguments.dtype,
        quantize=None if scheme == "none" else scheme,
        kv_dtype="int8" if kv else "auto",
        local_files_only=arguments.local_files_only,
    )
    most = arguments.max_new_tokens
    asked = asking(load) if most is None else asking(load, max_new_tokens=most)
    return replace(asked, source=f"{arguments.model}, {arguments.dtype}, {way}")
