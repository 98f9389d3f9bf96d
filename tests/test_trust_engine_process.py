"""Threats E2 to E4 in processes of their own: memory that ends, forks, interrupts by the hundred."""

import sys

import pytest
from test_engine_lifecycle import run

from glmflash.testing import random_checkpoint

pytestmark = pytest.mark.slow
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_AS is not heeded elsewhere")


@on_linux
@pytest.mark.soak
@pytest.mark.parametrize("cycles", [1, 20])
def test_e4_memory_that_ends_fails_only_its_request_every_time(tmp_path, cycles):
    """A network whose prompts take much, in a process that may not grow: what is smaller is answered."""
    checkpoint = random_checkpoint(
        tmp_path / "wide", overrides={"text_config": {"intermediate_size": 24 * 1024, "num_hidden_layers": 2}}
    )
    seen = run(
        """
        import resource
        import numpy as np
        from glmflash import CapacityError, ImageError
        def resident():
            gc.collect()
            with open("/proc/self/statm") as file:
                return [int(field) * 4096 for field in file.read().split()[:2]]
        pipe = load(kv_memory="16 MiB")
        long, picture = "Hi " * 1300, np.zeros((3000, 4000, 3), np.uint8)
        wanted = pipe("Hi", **SHORT).token_ids
        neighbour = pipe("which", **(SHORT | {"max_new_tokens": 40})).token_ids
        def spent():
            failed = []
            for options in ({}, {"images": picture}):
                beside = pipe.submit("which", **(SHORT | {"max_new_tokens": 40}))
                try:
                    pipe(long if not options else "Hi", **options, **SHORT)
                    failed.append("answered")
                except (CapacityError, ImageError) as error:
                    failed.append(type(error).__name__)
                    kept.append(error)
                assert beside.result().token_ids == neighbour
                assert pipe("Hi", **SHORT).token_ids == wanted
            return failed
        kept = []
        size, _ = resident()
        resource.setrlimit(resource.RLIMIT_AS, (size + 24 * 2**20, resource.RLIM_INFINITY))
        failed, sizes = [], []
        for _ in range(CYCLES):
            failed.append(spent())
            sizes.append(resident()[1])
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        answered = pipe(long, **SHORT).usage.completion
        used = pipe.engine.call(lambda pool, _: pool.stats().used).result(5)
        print(json.dumps({"failed": failed, "sizes": sizes, "answered": answered, "used": used,
                          "said": sorted({str(error) for error in kept})}))
        """.replace("CYCLES", str(cycles)),
        checkpoint,
        tmp_path,
    )
    assert [texts for texts, _ in seen["failed"]] == ["CapacityError"] * cycles
    assert {pictures for _, pictures in seen["failed"]} <= {"CapacityError", "ImageError"}
    assert (seen["answered"], seen["used"]) == (4, 0)
    assert all("memory" in said for said in seen["said"])
    assert seen["sizes"][-1] <= seen["sizes"][0] * 1.01  # the errors are all kept, and hold no tensors


@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_e3_threads_a_fork_after_the_import_has_a_pipeline_of_its_own(nano_checkpoint, tmp_path):
    seen = run(
        """
        import glmflash
        reader, writer = os.pipe()
        pid = os.fork()
        if not pid:
            with load() as pipe:
                os.write(writer, json.dumps(pipe("Hi", **SHORT).token_ids).encode())
            sys.exit(0)
        status = os.waitpid(pid, 0)[1]
        theirs = json.loads(os.read(reader, 999))
        with load() as pipe:
            mine = list(pipe("Hi", **SHORT).token_ids)
        print(json.dumps({"status": status, "same": mine == theirs}))
        """,
        nano_checkpoint,
        tmp_path,
    )
    assert (seen["status"], seen["same"]) == (0, True)
