"""Loading as INT8 takes the memory of the result, and at most that of the largest tensor on top of it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fullsize import watched

from glmflash.testing import random_checkpoint

MB = 1_000_000
# Two tables of 84 MB, and 40 MB of layers, as bfloat16. Made floating, one table would be 168 MB.
SIZES = {
    "text_config": {
        "vocab_size": 81920, "hidden_size": 512, "intermediate_size": 4096, "num_attention_heads": 8,
        "head_dim": 64, "rope_parameters": {"mrope_section": [4, 6, 6]},
    },
    "vision_config": {"out_hidden_size": 512},
}  # fmt: skip
CHILD = """
import gc, json, sys, time
from pathlib import Path
from glmflash.weights import load_model, save_pretrained
from fullsize import anonymous
import os
def say(**facts):
    gc.collect()
    print(json.dumps({"now": anonymous(os.getpid()), **facts}), flush=True)
    time.sleep(0.1)
nano, source, saved = sys.argv[1:]
model = load_model(nano, quantize="int8", device="cpu")  # what is loaded once and stays
save_pretrained(model, saved, source=nano)
del model
say(phase="before")
model = load_model(source, quantize="int8", device="cpu")
say(phase="load")
save_pretrained(model, saved, source=source)
say(phase="save")
del model
say(phase="gone")
model = load_model(saved, device="cpu")
say(phase="reload")
"""


@pytest.mark.soak
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_peak_memory_is_the_result_and_the_largest_tensor(nano_checkpoint: Path, tmp_path: Path) -> None:
    source = random_checkpoint(tmp_path / "source", dtype="bfloat16", overrides=SIZES)
    command = [sys.executable, "-c", CHILD, *map(str, (nano_checkpoint, source, tmp_path / "saved"))]
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    # What is freed goes back to the system at once: else the C library keeps some tens of megabytes.
    fixed = {"OMP_NUM_THREADS": "2", "MALLOC_MMAP_THRESHOLD_": "2000000", "PYTHONPATH": path}
    now, most = {}, {}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | fixed)
    with process, watched(process.pid) as peak:
        for line in process.stdout:
            said = json.loads(line)
            now[said["phase"]], most[said["phase"]] = said["now"], peak[0]
            peak[0] = 0
    assert process.returncode == 0
    print(now, most)
    final = now["load"] - now["before"]
    assert 140 * MB < final < 165 * MB  # the table, and a byte for each weight of the layers
    largest = 84 * MB
    assert most["load"] - now["load"] < largest + 16 * MB
    assert most["reload"] - now["reload"] < largest + 16 * MB
    assert most["save"] - now["load"] < largest + 16 * MB  # the head, unpacked in two steps
    assert now["gone"] - now["before"] < 10 * MB
