"""Importing the package starts nothing, reaches for nothing, and is quick."""

import json
import subprocess
import sys
from typing import cast

import pytest

PROBE = """
import json, sys, threading, time
import torch, numpy
def no_cuda(*args, **kwargs):
    raise AssertionError("CUDA is initialised")
torch.cuda._lazy_init = no_cuda
events, start, before = [], time.process_time(), set(sys.modules)
WATCHED = ("socket.", "subprocess.", "os.system", "os.posix_spawn", "os.fork", "_thread.start_new_thread")
sys.addaudithook(lambda event, args: events.append(event) if event.startswith(WATCHED) else None)
threads = threading.active_count()
import glmflash
seconds = time.process_time() - start
import glmflash.observability  # whose extras are loaded when they are used
import io
from PIL import Image
from glmflash.media import InputPolicy, read
for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF"):
    Image.new("RGB", (9, 9)).save(file := io.BytesIO(), kind)
    read(file.getvalue(), policy=InputPolicy.trusted())
print(json.dumps({
    "parsers": [name for name in sys.modules if name.startswith("PIL.") and name.endswith("ImagePlugin")],
    "seconds": seconds,
    "events": events,
    "threads": threading.active_count() - threads,
    "cuda": torch.cuda.is_initialized(),
    "modules": sorted({name.split(".")[0] for name in set(sys.modules) - before}),
}))
"""


@pytest.fixture(scope="module")
def imported() -> dict[str, object]:
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return cast("dict[str, object]", json.loads(done.stdout))


@pytest.mark.slow
def test_import_starts_nothing(imported: dict[str, object]) -> None:
    assert imported["events"] == []
    assert imported["threads"] == 0
    assert imported["cuda"] is False


@pytest.mark.slow
def test_import_takes_less_than_two_seconds_of_a_processor_beyond_torch(imported: dict[str, object]) -> None:
    assert cast("float", imported["seconds"]) < 2


@pytest.mark.slow
def test_pictures_load_no_parser_of_other_formats(imported: dict[str, object]) -> None:
    loaded = set(cast("list[str]", imported["parsers"]))
    allowed = ("Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP")  # Pillow itself loads the first five
    assert loaded <= {f"PIL.{name}ImagePlugin" for name in allowed}


@pytest.mark.slow
def test_import_loads_no_extra(imported: dict[str, object]) -> None:
    loaded = set(cast("list[str]", imported["modules"]))
    extras = {"transformers", "jinja2", "llguidance", "redis", "prometheus_client", "opentelemetry", "av"}
    assert not loaded & (
        extras | {"IPython", "pypdfium2", "fastapi", "uvicorn", "pydantic", "pandas", "matplotlib"}
    )
