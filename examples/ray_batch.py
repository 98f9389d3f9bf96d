"""Ask one question about every picture of a folder, with as many workers as there are GPUs or machines.

pip install glmflash "ray[data]"
python examples/ray_batch.py pictures --question "What is the total?" --out answers
python examples/ray_batch.py pictures --out answers --model zai-org/GLM-4.6V-Flash --workers 8 --gpus 1

Each worker loads a pipeline of its own. Answers are written as they come, so whatever is killed, running the
same line again does only what is missing; in the end they are in answers.jsonl, in the order of the names.
What cannot be answered is a row too, with the error's code and message.
"""

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from glmflash import GlmflashError, PipelineSpec

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
import ray
from ray.data import ActorPoolStrategy, DataContext

Row = dict[str, Any]
DIED = "the process that read this picture died each time, even with nothing else to do"


class Asker:
    """One worker: a pipeline, loaded once, that answers a batch of pictures at a time."""

    def __init__(
        self, spec: PipelineSpec, folder: str, question: str, max_new_tokens: int, threads: int
    ) -> None:
        torch.set_num_threads(threads)
        self.pipe = spec.load(progress=False)
        self.folder, self.question, self.max_new_tokens = Path(folder), question, max_new_tokens

    def __call__(self, batch: dict[str, Any]) -> dict[str, list[str]]:
        """Rows go in and come out as JSON: so no name of a file and no answer is a problem to Arrow."""
        names = [json.loads(name) for name in batch["name"]]
        items = [{"text": self.question, "images": self.folder / name} for name in names]
        answers = self.pipe.batch(
            items, on_error="return", max_new_tokens=self.max_new_tokens, progress=False
        )
        return {"row": [json.dumps(self.row(*pair)) for pair in zip(names, answers, strict=True)]}

    def row(self, name: str, answer: Any) -> Row:  # noqa: ANN401 - a result or an error, as `batch` has it
        """What is written about one picture."""
        worker = f"{platform.node()}:{os.getpid()}"
        if isinstance(answer, GlmflashError):
            return {"name": name, "error": answer.code, "message": str(answer), "worker": worker}
        reason = answer.finish_reason
        return {"name": name, "text": answer.text, "finish_reason": reason, "error": None, "worker": worker}


class Output:
    """A folder of answers: parts that are whole or not there, and one file of them all in the end."""

    def __init__(self, folder: Path, job: Row) -> None:
        self.folder, self.parts = folder, folder / "parts"
        self.parts.mkdir(parents=True, exist_ok=True)
        path = folder / "job.json"
        if path.exists() and json.loads(path.read_text()) != job:
            raise SystemExit(
                f"{folder} holds answers to another question, or about another folder; see {path}, "
                "or give another --out"
            )
        self.write(path, json.dumps(job, indent=2))

    def write(self, path: Path, text: str) -> None:
        """All of it or nothing, whenever the process or the machine ends."""
        beside = path.with_name(f"{path.name}.new")
        with beside.open("w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)

    def add(self, rows: list[Row]) -> None:
        """One more part."""
        if not rows:
            return
        number = max((int(part.stem) for part in self.parts.glob("*.jsonl")), default=-1) + 1
        self.write(self.parts / f"{number:08}.jsonl", "".join(f"{json.dumps(row)}\n" for row in rows))

    def rows(self) -> dict[str, Row]:
        """By name; what was asked again has the later answer."""
        parts = sorted(self.parts.glob("*.jsonl"))
        rows = (json.loads(line) for part in parts for line in part.read_text().splitlines())
        return {row["name"]: row for row in rows}


def answered(
    names: list[str], chosen: argparse.Namespace, spec: PipelineSpec, size: int
) -> Iterator[list[Row]]:
    """Rows of the batches, each as soon as it is there."""
    blocks = math.ceil(len(names) / size)
    # One more waits at each worker, but not where it could be lost with a neighbour.
    pool = ActorPoolStrategy(size=min(chosen.workers, blocks), max_tasks_in_flight_per_actor=min(size, 2))
    data = ray.data.from_items([{"name": json.dumps(name)} for name in names], override_num_blocks=blocks)
    rows = data.map_batches(
        Asker,
        fn_constructor_args=(
            spec, str(chosen.folder.resolve()), chosen.question, chosen.max_new_tokens, chosen.threads
        ),
        batch_size=size,
        compute=pool,
        num_cpus=chosen.threads,  # Ray gives a worker as many, and starts no more than there are
        num_gpus=chosen.gpus,
        # A worker that died is made anew, and its batch asked again; not for ever, as is the default: a
        # picture that kills whoever reads it would never end.
        ray_remote_args_fn=lambda: {"max_task_retries": 2},
    )  # fmt: skip
    for block in rows.iter_batches(batch_size=None, batch_format="pyarrow"):
        yield [json.loads(row) for row in block["row"].to_pylist()]


def main(arguments: list[str] | None = None) -> None:
    """Answer what is not answered yet, then write everything in order."""
    chosen = _parsed(arguments)
    spec = PipelineSpec(chosen.model, quantize=chosen.quantize, kv_memory=chosen.kv_memory)
    job = {"question": chosen.question, "max_new_tokens": chosen.max_new_tokens}
    job |= {"folder": str(chosen.folder.resolve())}  # names alone would take other pictures for the same
    output = Output(chosen.out, job | {"pipeline": json.loads(spec.to_json())})
    names = sorted(x.name for x in os.scandir(chosen.folder) if x.is_file() and not x.name.startswith("."))
    done = {name for name, row in output.rows().items() if not (chosen.retry and row["error"])}
    missing = dict.fromkeys(name for name in names if name not in done)
    print(f"{len(names) - len(missing)} of {len(names)} done before", file=sys.stderr)
    if missing:
        _start(chosen)
    for size in (chosen.batch, 1):  # what is lost with all its batch is asked once more, alone
        for rows in answered(list(missing), chosen, spec, size) if missing else ():
            output.add(rows)
            for row in rows:
                missing.pop(row["name"])
            print(f"{len(names) - len(missing)} of {len(names)}", file=sys.stderr)
    output.add([{"name": name, "error": "worker_died", "message": DIED, "worker": None} for name in missing])
    found = output.rows()
    output.write(chosen.out / "answers.jsonl", "".join(f"{json.dumps(found[name])}\n" for name in names))
    failed = sum(found[name]["error"] is not None for name in names)
    print(f"{chosen.out / 'answers.jsonl'}: {len(names)} rows, {failed} of them errors", file=sys.stderr)


def _start(chosen: argparse.Namespace) -> None:
    """Join a cluster, or make one of this machine alone."""
    context = DataContext.get_current()
    context.max_errored_blocks = -1  # they are seen to here
    context.enable_progress_bars = context.print_on_execution_start = False
    if chosen.address:
        ray.init(chosen.address, log_to_driver=False)
        return
    ray.init(
        num_cpus=chosen.workers * chosen.threads, num_gpus=math.ceil(chosen.workers * chosen.gpus),
        object_store_memory=200 * 2**20, include_dashboard=False, log_to_driver=False,
        logging_level="warning",
    )  # fmt: skip


def _parsed(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("folder", type=Path, help="with the pictures; every worker must see it under this path")
    add("--out", type=Path, required=True, help="folder for the answers, made if it is not there")
    add("--question", default="What is the total?", help="(%(default)s)")
    add("--max-new-tokens", type=int, default=256, help="of each answer (%(default)s)")
    add("--model", default="tiny", help="hub id, folder, or tiny, the embedded model")
    add("--quantize", choices=["int8", "w8a8"], help="round the weights while loading")
    add("--kv-memory", default="auto", help="of each worker (%(default)s)")
    add("--workers", type=int, default=1, help="pipelines; one a GPU, or one a machine (%(default)s)")
    add("--threads", type=int, help="CPUs of each worker (those of this machine, shared out)")
    add("--gpus", type=float, default=0.0, help="of each worker (%(default)s)")
    add("--batch", type=int, default=16, help="pictures that a worker answers together (%(default)s)")
    add("--retry", action="store_true", help="ask again where there was an error")
    add("--address", help="of a Ray cluster; auto is the one this machine belongs to")
    chosen = parser.parse_args(arguments)
    if chosen.threads is None:
        chosen.threads = max(1, (os.cpu_count() or 1) // chosen.workers)
    return chosen


if __name__ == "__main__":
    main()
