"""Words → the command run, and how it ended as an exit code; an error is one line, and no traceback."""

import argparse
import os
import sys
from collections.abc import Sequence

from glmflash.cli.arguments import UsageError, parser
from glmflash.cli.ask import ask
from glmflash.cli.evaluate import evaluate
from glmflash.cli.info import info
from glmflash.errors import GlmflashError
from glmflash.plan import plan

__all__ = ["main"]

_MOST = 2000  # characters of an error: some list every tensor of a checkpoint


def __dir__() -> list[str]:
    return __all__


def main(words: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        words: What stands behind the program's name; None takes what it was started with.

    Returns:
        0, or 1 for an error that was explained, 130 for an interrupt, 141 if nobody read the output. Wrong
        words end the program with 2, as `argparse` does.
    """
    known = parser(ask=ask, plan=_plan, info=info, evaluate=evaluate)
    arguments = known.parse_args(words)
    try:
        code = int(arguments.run(arguments))
        sys.stdout.flush()
    except UsageError as error:
        known.error(str(error))
    except BrokenPipeError:  # `glmflash ... | head`: nothing more is wanted, not even a complaint at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        sys.stderr.write("\n")
        return 130
    except (GlmflashError, OSError, UnicodeError) as error:  # the last: of a standard stream's encoding
        problem = " ".join(str(error).split())
        sys.stderr.write(f"glmflash: {type(error).__name__}: {problem[:_MOST]}\n")
        return 1
    return code


def _plan(arguments: argparse.Namespace) -> int:
    made = plan(
        arguments.model,
        quantize=arguments.quantize,
        context=arguments.context,
        batch=arguments.batch,
        kv_dtype=arguments.kv_dtype,
        image_tokens=arguments.image_tokens,
        device=arguments.device,
        dtype=arguments.dtype,
        memory=arguments.memory,
        local_files_only=arguments.local_files_only,
    )
    sys.stdout.write(f"{made}\n")
    return 0
