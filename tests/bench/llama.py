"""llama.cpp's own programs and a GGUF file → rows of the same table, where the programs are on PATH.

They run by themselves, not in turns with us, on a file of the user's: the same shapes in Q8_0 compare best.
"""

import json
import re
import shutil
import statistics
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

BENCH, MULTIMODAL = "llama-bench", "llama-mtmd-cli"
_MS = r"\s+(\d+(?:\.\d+)?) ms"
_VISION = re.compile(r"image slice encoded in" + _MS)
_PROMPT = re.compile(r"prompt eval time =" + _MS + r" /\s+(\d+) tokens")


def measure(
    *,
    gguf: Path | None,
    mmproj: Path | None,
    picture: np.ndarray,
    text: str,
    prompt: int,
    steps: int,
    threads: int,
    rounds: int,
) -> dict[str, object]:
    """A row for each program; where one cannot run, the row says why.

    Args:
        gguf: The language model.
        mmproj: The vision tower; needed for the picture.
        picture: Asked about.
        text: The question.
        prompt: Tokens that llama-bench reads.
        steps: Tokens that it decodes.
        threads: Of each program.
        rounds: How often each measures.
    """
    rows: dict[str, object] = {}
    for program, missing in ((BENCH, gguf is None), (MULTIMODAL, gguf is None or mmproj is None)):
        if shutil.which(program) is None:
            rows[program] = "not on PATH"
        elif missing:
            rows[program] = "not given " + ("--gguf" if gguf is None else "--mmproj")
        elif program == BENCH:
            rows[program] = bench(gguf, prompt=prompt, steps=steps, threads=threads, rounds=rounds)
        else:
            rows[program] = ask(gguf, mmproj, picture, text, threads=threads, rounds=rounds)
    return rows


def bench(gguf: Path, *, prompt: int, steps: int, threads: int, rounds: int) -> dict[str, object]:
    """Prefill of text and decode by llama-bench."""
    command = [BENCH, "-m", gguf, "-p", prompt, "-n", steps, "-t", threads, "-r", rounds, "-o", "json"]
    return read_bench(_run(command).stdout, prompt=prompt, steps=steps)


def read_bench(printed: str, *, prompt: int, steps: int) -> dict[str, object]:
    """What `llama-bench -o json` printed → the model, seconds of prefill, seconds of a decode step."""
    found: dict[str, object] = {}
    for test in json.loads(printed):
        found |= {
            "model": test["model_type"],
            "model_bytes": test["model_size"],
            "threads": test["n_threads"],
        }
        if (test["n_prompt"], test["n_gen"]) == (prompt, 0):
            found["prefill"] = _cell([nanoseconds / 1e9 for nanoseconds in test["samples_ns"]])
        if (test["n_prompt"], test["n_gen"]) == (0, steps):
            found["decode"] = _cell([nanoseconds / 1e9 / steps for nanoseconds in test["samples_ns"]])
    return found


def ask(
    gguf: Path, mmproj: Path, picture: np.ndarray, text: str, *, threads: int, rounds: int
) -> dict[str, object]:
    """Vision and first token by llama-mtmd-cli, which is started anew for each; loading does not count."""
    found: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        Image.fromarray(picture).save(path)
        command = [MULTIMODAL, "-m", gguf, "--mmproj", mmproj, "--image", path, "-p", text]
        for _ in range(rounds):
            done = _run([*command, "-t", threads, "-n", 1, "--temp", 0])
            for name, seconds in read_ask(done.stdout + done.stderr).items():
                found.setdefault(name, []).append(seconds)
    tokens = round(statistics.median(found.pop("prompt_tokens")))
    return {"prompt_tokens": tokens, **{name: _cell(values) for name, values in found.items()}}


def read_ask(printed: str) -> dict[str, float]:
    """What llama-mtmd-cli logged → seconds of vision and of the first token, and tokens of the prompt.

    Its "prompt eval time" is the decoder's alone, vision tokens included.
    """
    vision = [float(ms) / 1e3 for ms in _VISION.findall(printed)]
    prompt = _PROMPT.search(printed)
    if not vision or prompt is None:
        raise ValueError(f"{MULTIMODAL} did not log the times of picture and prompt:\n{printed[-2000:]}")
    return {
        "vision": sum(vision),
        "first_token": sum(vision) + float(prompt[1]) / 1e3,
        "prompt_tokens": float(prompt[2]),
    }


def _run(command: list[object]) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, check=True)


def _cell(seconds: list[float]) -> dict[str, float]:
    return {
        "seconds": round(statistics.median(seconds), 6),
        "fastest": round(min(seconds), 6),
        "slowest": round(max(seconds), 6),
    }
