"""With only local files, nothing reaches for a network: not loading, not asking, not any library below."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import json, sys
calls = []
WATCHED = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto")
sys.addaudithook(lambda event, args: calls.append(event) if event in WATCHED else None)
from PIL import Image
from glmflash import Pipeline
white = Image.new("RGB", (60, 40), "white")
few = {"max_new_tokens": 2, "temperature": 0}

def ask(pipe):
    yield from (pipe("What?", images=white, **few) for _ in range(5))
    yield from pipe.batch(["What?"] * 3, **few)
    yield pipe.chat([{"role": "user", "content": "What?"}], **few)
    with pipe.session(**few) as session:
        yield session.ask("What?", images=pipe.encode(white))

asked = []
for name in sys.argv[1:]:
    with Pipeline.from_pretrained(name, device="cpu", local_files_only=True, progress=False) as pipe:
        asked.append(len(list(ask(pipe))))
before = list(calls)
import socket
socket.socket().connect_ex(("127.0.0.1", 9))
print(json.dumps({"asked": asked, "calls": before, "heard": calls}))
"""


@pytest.mark.slow
def test_b3_loading_and_ten_requests_open_no_connection(nano_checkpoint: Path, tmp_path: Path) -> None:
    """By folder, by the id of a checkpoint that was downloaded before, and embedded."""
    repository, commit = tmp_path / "hub" / "models--some-owner--nano", "0" * 40
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots").mkdir()
    (repository / "snapshots" / commit).symlink_to(nano_checkpoint)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(nano_checkpoint), "some-owner/nano", "tiny"],
        capture_output=True, text=True, check=False,
        env={"HOME": str(tmp_path), "HF_HOME": str(tmp_path), "PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"asked": [10] * 3, "calls": [], "heard": ["socket.connect"]}
