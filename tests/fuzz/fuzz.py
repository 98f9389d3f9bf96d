"""Targets and seconds → what went wrong, made as small as it can be, and kept as a file of the corpus.

    python tests/fuzz/fuzz.py --seconds 60 picture url

Without names all targets are tried. tests/test_fuzz.py tries each file of the corpus in every run.
"""

import argparse
import hashlib
import importlib.util
import sys
import time
import traceback
import warnings
from pathlib import Path
from random import SystemRandom

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from edits import to_bytes  # noqa: E402
from hypothesis import HealthCheck, Phase, given, seed, settings  # noqa: E402
from targets import TARGETS, Target  # noqa: E402

CORPUS = HERE / "corpus"
QUIET = settings(
    deadline=None,
    database=None,
    max_examples=200,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
    print_blob=False,
)


def main() -> int:
    """Try targets until their time is up; the number of those that failed."""
    parser = argparse.ArgumentParser(description="Try anything at every way in.")
    parser.add_argument("targets", nargs="*", choices=[*TARGETS, []], help="by name; all if none is given")
    parser.add_argument("--seconds", type=float, default=60, help="for each target")
    parser.add_argument("--seed", type=int, default=None, help="of the first round; by default any")
    arguments = parser.parse_args()
    failed = 0
    warnings.simplefilter("ignore")  # what libraries say of damaged files
    for name in arguments.targets or TARGETS:
        target = TARGETS[name]
        if target.needs and importlib.util.find_spec(target.needs) is None:
            print(f"{name:16} needs {target.needs}, which is not installed", flush=True)
            continue
        failed += not fuzz(name, target, arguments.seconds, arguments.seed)
    return failed


def fuzz(name: str, target: Target, seconds: float, first: int | None) -> bool:
    """Try one target; whether nothing went wrong."""
    number = SystemRandom().randrange(2**32) if first is None else first
    tried, last = 0, []
    end = time.monotonic() + seconds

    def attempt(value: object) -> None:
        nonlocal tried
        tried += 1
        try:
            target.run(value)
        except BaseException:
            last[:] = [value]  # the last one that fails is the smallest
            raise

    while time.monotonic() < end:
        try:
            seed(number)(QUIET(given(target.values())(attempt)))()
        except KeyboardInterrupt:
            raise
        except BaseException:  # noqa: BLE001 - panics of libraries too
            traceback.print_exc(limit=-4)
            print(f"{name:16} failed after {tried} inputs, seed {number}: {keep(name, last)}", flush=True)
            return False
        number += 1
    print(f"{name:16} {tried} inputs in {seconds:.0f} s: nothing", flush=True)
    return True


def keep(name: str, last: list[object]) -> str:
    """Write what failed to the corpus."""
    if not last:
        return "before any input"
    data = to_bytes(last[0])
    path = CORPUS / name / hashlib.sha256(data).hexdigest()[:12]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path.relative_to(HERE))


if __name__ == "__main__":
    sys.exit(main())
