"""From import to exit: threads, memory, signals and forks, looked at in processes of their own."""

import gc
import json
import subprocess
import sys
import textwrap
import threading
import time
import weakref
from pathlib import Path

import numpy as np
import pytest
from engine_world import BUSY

from glmflash import ClosedError, Pipeline
from glmflash.testing import random_checkpoint

ENDLESS = {"max_new_tokens": 3000, "ignore_eos": True, "repetition_stop": None, "temperature": 0}

PREAMBLE = (
    f"BUSY = {BUSY}"
    """
import gc, json, os, random, signal, sys, threading, time
def load(**options):
    from glmflash import Pipeline
    return Pipeline.from_pretrained(sys.argv[1], device="cpu", progress=False, **options)
ENDLESS = {"max_new_tokens": 3000, "ignore_eos": True, "repetition_stop": None, "temperature": 0}
SHORT = {"max_new_tokens": 4, "ignore_eos": True, "temperature": 0}
"""
)


def run(script: str, checkpoint: Path, tmp_path: Path, *, warnings: str = "error") -> dict:
    """Run a script with a checkpoint; it must end well and silently. Returns what it prints as JSON."""
    file = tmp_path / "script.py"
    file.write_text(PREAMBLE + textwrap.dedent(script))
    command = [sys.executable, "-W", warnings, str(file), str(checkpoint)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout.splitlines()[-1]) | {"ended": time.time()}


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("glmflash")]


def until(condition) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        gc.collect()
        time.sleep(0.005)


@pytest.fixture
def pipe(nano_checkpoint):
    with Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False) as pipe:
        yield pipe


# Closing and dropping


def test_closing_returns_threads_and_the_model(nano_checkpoint):
    before = ours()
    pipe = Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False)
    picture = np.zeros((56, 56, 3), np.uint8)
    result, encoded = pipe("Hi", images=picture, max_new_tokens=2), pipe.encode(picture)
    stream, model = pipe.stream("Hi", max_new_tokens=2), weakref.ref(pipe.engine.model)
    list(stream)
    assert len(ours()) > len(before)
    pipe.close()
    pipe.close()
    assert ours() == before
    until(lambda: model() is None)  # whatever else is still held
    assert (result.usage.completion, stream.result.usage.completion, encoded.num_tokens) == (2, 2, 9)
    with pytest.raises(ClosedError):
        pipe("Hi")


def test_closing_with_work_in_flight(pipe):
    stream = pipe.stream("Hi", **ENDLESS)
    next(stream)
    futures = [pipe.submit("Hi", **ENDLESS) for _ in range(20)]
    began = time.monotonic()
    pipe.close()
    for future in futures:
        assert isinstance(future.exception(timeout=0.1), ClosedError)
    with pytest.raises(ClosedError):
        list(stream)
    assert time.monotonic() - began < BUSY


def test_dropping_a_pipeline_ends_its_threads(nano_checkpoint):
    before = ours()
    pipe = Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False)
    pipe("Hi", max_new_tokens=2)
    model = weakref.ref(pipe.engine.model)
    del pipe
    until(lambda: ours() == before and model() is None)


def test_dropping_a_pipeline_in_a_circle_with_work_in_flight(nano_checkpoint):
    """What is under way is finished first; then nothing is left."""
    before = ours()
    pipe = Pipeline.from_pretrained(nano_checkpoint, device="cpu", progress=False)
    pipe.itself = pipe
    futures = [pipe.submit("Hi", max_new_tokens=30, ignore_eos=True) for _ in range(3)]
    stream = pipe.stream("Hi", max_new_tokens=30, ignore_eos=True)
    del pipe
    gc.collect()
    assert [future.result(timeout=10).finish_reason for future in futures] == ["length"] * 3
    assert stream.result.finish_reason == "length"
    until(lambda: ours() == before)


@pytest.mark.soak
def test_closing_returns_the_memory(tmp_path):
    """Of weights and KV, a hundred megabytes: within a few of them it is as before."""
    checkpoint = random_checkpoint(
        tmp_path / "larger", overrides={"text_config": {"intermediate_size": 64 * 1024}}
    )
    seen = run(
        """
        def resident():
            gc.collect()
            with open("/proc/self/statm") as file:
                return int(file.read().split()[1]) * 4096 / 2**20
        def once():
            with load() as pipe:
                pipe("Hi", **SHORT)
                return resident()
        def files():
            return len(os.listdir("/proc/self/fd"))
        once()
        before = files()
        sizes = [(once(), resident()) for _ in range(4)]
        print(json.dumps({"sizes": sizes, "threads": threading.active_count(),
                          "files": files() - before}))
        """,
        checkpoint,
        tmp_path,
    )
    (open_, closed), *later = seen["sizes"]
    assert open_ - closed > 30
    assert min(last for _, last in later) - closed < 5  # the system's allocator may keep some, now and then
    assert (seen["threads"], seen["files"]) == (1, 0)


# Exit


@pytest.mark.slow
def test_exit_with_work_in_flight_and_a_thousand_pictures_in_line(nano_checkpoint, tmp_path):
    seen = run(
        """
        import asyncio, numpy as np
        pipe, other = load(), load()
        picture = np.random.default_rng(1).integers(0, 256, (600, 800, 3), np.uint8)
        streams = [pipe.stream("Hi", **ENDLESS), other.stream("Hi", **ENDLESS)]
        for stream in streams:
            next(stream)
        held = [pipe.submit("Hi", **ENDLESS) for _ in range(20)]
        held += [pipe.submit({"text": "Hi", "images": picture}, **SHORT) for _ in range(1000)]
        async def begin():
            async for _ in other.astream("Hi", **ENDLESS):
                break
        asyncio.run(begin())
        results = other.map(("Hi" for _ in iter(int, 1)), **SHORT)
        next(results)
        print(json.dumps({"exiting": time.time()}))
        """,
        nano_checkpoint,
        tmp_path,
    )
    assert seen["ended"] - seen["exiting"] < 2 * BUSY  # all that was asked for would take many minutes


# Signals


@pytest.mark.slow
def test_an_interrupt_at_any_time(nano_checkpoint, tmp_path):
    """While loading, asking, streaming, in a batch: raised at once, and the next answer is right."""
    seen = run(
        """
        rng, sent = random.Random(1), []
        def interrupt():
            sent.append(time.perf_counter())
            os.kill(os.getpid(), signal.SIGINT)
        def swallowed(unraisable):  # Python drops one that lands in a destructor: send another
            if isinstance(unraisable.exc_value, KeyboardInterrupt):
                threading.Timer(0.01, interrupt).start()
            else:
                sys.__unraisablehook__(unraisable)
        sys.unraisablehook = swallowed
        def interrupted(action, longest):
            def send(delay=rng.random() * longest):
                time.sleep(delay)
                interrupt()
            thread = threading.Thread(target=send)
            try:
                thread.start()
                while True:
                    action()
            except KeyboardInterrupt:
                late = time.perf_counter() - sent[-1]
            thread.join()
            return late
        load().close()
        threads = threading.active_count()
        late = {"load": [interrupted(lambda: load().close(), 0.1) for _ in range(8)]}
        until = time.monotonic() + 5
        while (leaked := threading.active_count() - threads) and time.monotonic() < until:
            gc.collect()
            time.sleep(0.01)
        pipe = load(max_waiting=8, max_batch=4)
        wanted, wrong = pipe("Hi", **SHORT).token_ids, 0
        def stream():
            with pipe.stream("Hi", **ENDLESS) as deltas:
                for _ in deltas:
                    pass
        async def astream():
            async for _ in pipe.astream("Hi", **ENDLESS):
                pass
        import asyncio
        runner = asyncio.Runner()  # made before: a loop interrupted in the making complains as it goes
        runner.get_loop()
        for name, action in {
            "ask": lambda: pipe("Hi", **ENDLESS),
            "short": lambda: pipe("Hi", **SHORT),
            "stream": stream,
            "astream": lambda: runner.run(astream()),
            "batch": lambda: pipe.batch(["Hi"] * 40, progress=False, **ENDLESS),
            "map": lambda: list(pipe.map(["Hi"] * 40, **SHORT)),
        }.items():
            late[name] = []
            for _ in range(7):
                late[name].append(interrupted(action, 0.05))
                gc.collect()
                wrong += pipe("Hi", **SHORT).token_ids != wanted
        until = time.monotonic() + 5
        while (pipe.engine._inbox.held or pipe.stats().running) and time.monotonic() < until:
            time.sleep(0.01)
        used = pipe.engine.call(lambda pool, _: pool.stats().used).result(5)
        runner.close()
        late = {name: max(seconds) for name, seconds in late.items()}
        print(json.dumps({"late": late, "leaked": leaked, "wrong": wrong, "used": used,
                          "held": pipe.engine._inbox.held}))
        """,
        nano_checkpoint,
        tmp_path,
        warnings="ignore",  # of files that an interrupt leaves unclosed
    )
    assert max(seen["late"].values()) < BUSY
    assert (seen["leaked"], seen["wrong"], seen["used"], seen["held"]) == (0, 0, 0, 0)


# Other processes


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_after_a_fork_the_child_is_told_and_the_parent_goes_on(nano_checkpoint, tmp_path):
    seen = run(
        """
        import warnings
        warnings.simplefilter("ignore", DeprecationWarning)  # of forks with threads
        from glmflash import EngineDeadError, prepare
        pipe = load()
        wanted = pipe("Hi", **SHORT).token_ids
        running, stream = pipe.submit("Hi", **(ENDLESS | {"max_new_tokens": 200})), pipe.stream("Hi", **SHORT)
        long = pipe.stream("Hi", **ENDLESS)
        encoded = pipe.encode(__import__("numpy").zeros((56, 56, 3), "uint8"))
        pid = os.fork()
        if not pid:
            began, told = time.perf_counter(), 0
            for use in (
                lambda: pipe("Hi"), lambda: pipe.submit("Hi"), lambda: pipe.stream("Hi"), pipe.stats,
                lambda: pipe.batch(["Hi"]), lambda: list(pipe.map(["Hi"])), encoded.pin,
                lambda: pipe("Hi", images=encoded), lambda: list(long), lambda: pipe.engine.wait(running),
            ):
                try:
                    use()
                except EngineDeadError as error:
                    told += "fork" in str(error)
            text = repr(pipe)
            pipe.close()
            sys.exit(0 if told == 10 and time.perf_counter() - began < BUSY and "Pipeline" in text else 1)
        status = os.waitpid(pid, 0)[1]
        long.cancel()
        after = pipe("Hi", **SHORT).token_ids
        length = running.result().usage.completion
        print(json.dumps({"status": status, "same": after == wanted, "length": length,
                          "stream": stream.result.token_ids == wanted}))
        """,
        nano_checkpoint,
        tmp_path,
    )
    assert (seen["status"], seen["same"], seen["length"], seen["stream"]) == (0, True, 200, True)


@pytest.mark.slow
def test_a_spawned_process_has_its_own(nano_checkpoint, tmp_path):
    seen = run(
        """
        def ask(_):
            with load() as pipe:
                return pipe("Hi", **SHORT).token_ids
        if __name__ == "__main__":
            import multiprocessing
            mine = load()
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                theirs = pool.map(ask, [1])[0]
            print(json.dumps({"same": theirs == mine("Hi", **SHORT).token_ids}))
        """,
        nano_checkpoint,
        tmp_path,
    )
    assert seen["same"]


# A good guest


@pytest.mark.slow
def test_a_good_guest(nano_checkpoint, tmp_path):
    """What belongs to the host is after import and use as it was before."""
    seen = run(
        """
        import locale, logging, warnings
        import numpy, torch
        from PIL import Image, ImageFile
        Image.preinit()
        def look():
            return {
                "random": hash(random.getstate()),
                "numpy": str(numpy.random.get_state()),
                "torch": torch.get_rng_state().tolist(),
                "dtype": str(torch.get_default_dtype()),
                "threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
                "grad": [torch.is_grad_enabled(), torch.is_inference_mode_enabled()],
                "exact": [torch.get_float32_matmul_precision(), torch.are_deterministic_algorithms_enabled(),
                          torch.backends.cuda.matmul.allow_tf32, torch.get_default_device().type],
                "warnings": [str(one) for one in warnings.filters],
                "logging": [str(logging.root.handlers), logging.root.level, logging.raiseExceptions],
                "signals": [str(signal.getsignal(n)) for n in signal.valid_signals()],
                "hooks": [str(x) for x in (sys.excepthook, threading.excepthook, sys.unraisablehook)],
                "pillow": [Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, ImageFile.MAXBLOCK],
                "environment": dict(os.environ),
                "place": [os.getcwd(), sys.path[:], locale.setlocale(locale.LC_ALL), sys.getrecursionlimit()],
                "switches": [gc.isenabled(), gc.get_threshold(), sys.getswitchinterval()],
            }
        before = look()
        import glmflash
        cuda, started = torch.cuda.is_initialized(), threading.active_count()
        imported = look()
        from io import BytesIO
        png = BytesIO()
        Image.new("RGB", (60, 60)).save(png, "PNG")
        with load() as pipe:
            pipe("Hi", images=png.getvalue(), max_new_tokens=8, temperature=1.0, seed=1)
            pipe("Hi", max_new_tokens=8, temperature=1.0)
            pipe.batch(["Hi", "Ho"], progress=False, max_new_tokens=2)
            for bad in (b"", b"\\x89PNG", png.getvalue()[:60]):
                try:
                    pipe("Hi", images=bad)
                except glmflash.ImageError:
                    pass
        used = look()
        changed = {name: [str(before[name])[-999:], str(now[name])[-999:]]
                   for now in (imported, used) for name in before if now[name] != before[name]}
        print(json.dumps({"changed": changed, "cuda": cuda, "threads": started,
                          "after": threading.active_count(),
                          "loaded": [name for name in ("sympy", "torch._dynamo") if name in sys.modules]}))
        """,
        nano_checkpoint,
        tmp_path,
    )
    assert seen["changed"] == {}
    assert (seen["cuda"], seen["threads"], seen["after"]) == (False, 1, 1)
    assert seen["loaded"] == []  # a second and more that nobody needs
