"""Words of a command line → what is to be done, and with which arguments."""

import argparse
from collections.abc import Callable

from glmflash.version import __version__

__all__ = ["PICTURES", "WAYS", "UsageError", "parser"]

#: Endings of pictures that can be written, and the format of each.
PICTURES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}

#: Ways to load a model: weights as stored or in INT8, and keys and values in INT8 too.
WAYS = ("none", "int8", "w8a8", "none+kv", "int8+kv", "w8a8+kv")

Command = Callable[[argparse.Namespace], int]
_MODEL = 'a hub id such as "zai-org/GLM-4.6V-Flash", a folder, or "tiny", the embedded model'
_EXAMPLES = """examples:
  glmflash ask "What is the total?" --image receipt.png
  glmflash ask zai-org/GLM-4.6V-Flash "Where is the Save button?" --image ui.png --draw boxes.png
  glmflash ask - --image page.png --json < question.txt
  glmflash plan zai-org/GLM-4.6V-Flash --quantize int8 --context 8192
  glmflash info tiny
  glmflash evaluate questions.jsonl --model zai-org/GLM-4.6V-Flash --quantize none int8 --report out.html

exit codes: 0 done, 1 an error that one line explains, 2 wrong arguments, 130 interrupted"""


def __dir__() -> list[str]:
    return __all__


class UsageError(Exception):
    """Words that do not go together."""


def parser(*, ask: Command, plan: Command, info: Command, evaluate: Command) -> argparse.ArgumentParser:
    """The parser of the whole command line.

    Args:
        ask: What each command runs; the parsed arguments have it as `run`.
        plan: Likewise.
        info: Likewise.
        evaluate: Likewise.
    """
    top = argparse.ArgumentParser(
        prog="glmflash",
        description="Ask GLM-4.6V-Flash about pictures, on this machine.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"glmflash {__version__}")
    commands = top.add_subparsers(required=True, metavar="{ask,plan,info,evaluate}")
    _ask(commands.add_parser("ask", help="ask a question about pictures")).set_defaults(run=ask)
    _plan(commands.add_parser("plan", help="how much memory a model takes, by part")).set_defaults(run=plan)
    _info(commands.add_parser("info", help="what a checkpoint is; reads no weights")).set_defaults(run=info)
    accuracy = "how accurate a model is, in several ways to load it"
    _evaluate(commands.add_parser("evaluate", help=accuracy)).set_defaults(run=evaluate)
    return top


def _ask(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    one.description = "Ask a question. The answer goes to standard output, everything else to standard error."
    one.usage = "%(prog)s [MODEL] QUESTION [--image FILE]... [options]"
    one.add_argument(
        "words", nargs="+", metavar="[MODEL] QUESTION",
        help=f'the question, "-" to read it from standard input; before it, if not "tiny": {_MODEL}',
    )  # fmt: skip
    one.add_argument("--image", action="append", default=[], metavar="FILE", help="may be given repeatedly")
    one.add_argument("--system", metavar="TEXT", help="a system message")
    one.add_argument("--thinking", action="store_true", help="reason first; shown on standard error")
    one.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer")
    one.add_argument("--max-image-tokens", type=int, metavar="N", help="fewer is faster and coarser")
    one.add_argument("--temperature", type=float, metavar="T", help="0 takes the likeliest token each time")
    one.add_argument("--seed", type=int, metavar="N", help="the same answer again, if temperature is not 0")
    one.add_argument(
        "--stream", action=argparse.BooleanOptionalAction, default=None,
        help="write the answer as it comes; without either, on a terminal only",
    )  # fmt: skip
    one.add_argument(
        "--json", action="store_true", help="answer, boxes, usage and timings as one JSON object"
    )
    one.add_argument(
        "--draw", metavar="FILE", help=f"save the last picture with boxes drawn ({', '.join(PICTURES)})"
    )
    return _where(one)


def _plan(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    one.description = "Bytes of memory by part, before anything is loaded."
    one.add_argument("model", metavar="MODEL", help=_MODEL)
    one.add_argument("--context", type=int, metavar="N", help="tokens of a request, prompt and answer")
    one.add_argument("--batch", type=int, default=1, metavar="N", help="requests at once")
    one.add_argument("--kv-dtype", default="auto", choices=["auto", "int8"], help="of keys and values")
    one.add_argument("--image-tokens", type=int, metavar="N", help="of the largest picture")
    one.add_argument(
        "--memory", metavar="SIZE", help='what there is, such as "16 GB"; looked up if not given'
    )
    return _where(one)


def _info(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    one.description = "Configuration, parameters, files, tokenizer and quantisation of a checkpoint."
    one.add_argument("model", metavar="MODEL", help=_MODEL)
    one.add_argument("--local-files-only", action="store_true", help="download nothing")
    return one


def _evaluate(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    one.description = "Ask a file of questions of a model, loaded in one way after the other, and compare."
    one.add_argument("questions", metavar="QUESTIONS", help="JSON Lines, pictures beside it")
    one.add_argument("--model", default="tiny", metavar="MODEL", help=_MODEL)
    one.add_argument(
        "--quantize", nargs="+", choices=WAYS,
        help="ways to load it, compared with the first; +kv: keys and values in INT8 too",
    )  # fmt: skip
    one.add_argument(
        "--report", action="append", default=[], metavar="FILE",
        help="write one; .html, .json, .md or .txt; may be given repeatedly",
    )  # fmt: skip
    one.add_argument("--resume", metavar="FILE", help="a journal: made, or gone on from if it is there")
    one.add_argument("--together", type=int, default=1, metavar="N", help="questions under way at once")
    one.add_argument("--limit", type=int, metavar="N", help="only the first ones")
    one.add_argument("--max-new-tokens", type=int, metavar="N", help="longest answer")
    one.add_argument(
        "--max-drop", type=float, metavar="POINTS",
        help="exit with 1 if a way is less accurate than the first by more percentage points",
    )  # fmt: skip
    return _place(one)


def _where(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """What says which weights, and where they are to be."""
    one.add_argument("--quantize", choices=["int8", "w8a8"], help="round weights to INT8: half the memory")
    return _place(one)


def _place(one: argparse.ArgumentParser) -> argparse.ArgumentParser:
    one.add_argument("--device", default="auto", metavar="NAME", help="auto, cpu, cuda, cuda:1")
    one.add_argument("--dtype", default="auto", metavar="NAME", help="auto, float32, bfloat16, float16")
    one.add_argument("--local-files-only", action="store_true", help="download nothing")
    return one
