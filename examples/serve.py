"""Serve a model over HTTP as OpenAI's clients expect it, with a page to drop a picture on.

pip install "glmflash[serve]"
export GLMFLASH_SECRET=$(python -c "import secrets; print(secrets.token_urlsafe(32))")
python examples/serve.py --print-token me        a token for yourself, and the page's address with it
python examples/serve.py                         the embedded model, on this machine only
python examples/serve.py zai-org/GLM-4.6V-Flash --quantize int8
"""

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

import uvicorn

from glmflash import Pipeline

sys.path.insert(0, str(Path(__file__).parent / "serve"))
import guard
from app import make


def main(arguments: list[str] | None = None) -> None:
    """Print a token, or serve until SIGTERM or Ctrl-C; answers under way are finished first."""
    parser, chosen = _parsed(arguments)
    try:
        secret = guard.check_secret(chosen.secret)
    except ValueError as error:
        parser.error(
            f"{error}. Give --secret, or better, set GLMFLASH_SECRET; the top of {__file__} shows how"
        )
    if chosen.print_token:
        token = guard.token(secret, chosen.print_token, hours=chosen.hours)
        print(token)
        print(f"http://{chosen.host}:{chosen.port}/#{token}", file=sys.stderr)
        return
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # once the server has stopped, so that `with` ends
    with Pipeline.from_pretrained(chosen.model, quantize=chosen.quantize) as pipe:
        app = make(
            pipe, secret=secret, name=chosen.name, max_body=chosen.max_body * 2**20, timeout=chosen.timeout
        )
        uvicorn.run(
            app, host=chosen.host, port=chosen.port, access_log=False, log_config=None, server_header=False,
            timeout_graceful_shutdown=chosen.grace, limit_concurrency=1024,
        )  # fmt: skip


def _parsed(arguments: list[str] | None) -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", nargs="?", default="tiny", help="hub id, folder, or tiny, the embedded model")
    add("--quantize", choices=["int8", "w8a8"], help="round the weights while loading")
    add("--name", default="glmflash", help="what clients call the model (%(default)s)")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=int, default=8000, help="port to listen on (%(default)s)")
    add("--secret", default=os.environ.get("GLMFLASH_SECRET", ""),
        help="signs the tokens; 32 bytes or more. Others on this machine can see a command line: prefer the"
             " environment variable GLMFLASH_SECRET")  # fmt: skip
    add("--print-token", metavar="NAME", help="print a bearer token for NAME, and exit")
    add("--hours", type=float, default=24.0, help="how long that token is valid (%(default)s)")
    add("--max-body", type=int, default=32, help="most MiB of a request (%(default)s)")
    add("--timeout", type=float, default=300.0, help="seconds for an answer (%(default)s)")
    add("--grace", type=int, default=30, help="seconds for answers under way at the end (%(default)s)")
    return parser, parser.parse_args(arguments)


if __name__ == "__main__":
    main()
