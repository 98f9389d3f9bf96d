"""A hub on this machine → what becomes of downloads from it: several at once, and connections cut half way.

A script, so that the library finds the hub's address in its environment; prints what it found as JSON.
"""

import hashlib
import json
import os
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

REPOSITORY, LARGE = "some/nano", "model-00003-of-00004.safetensors"


class Hub(ThreadingHTTPServer):
    """A folder as two commits: asked for the branch it names the first, and gives files of the second."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        self.commits = ["a" * 40, "b" * 40]
        self.cut: int | None = None
        self.ranges: list[str] = []
        self.full: list[str] = []

    def content(self, commit: str, name: str) -> bytes:
        moved = commit == self.commits[1] and name.endswith(".json")
        return self.files[name] + (b"\n\n" if moved else b"")

    def digests(self, commit: str) -> dict[str, str]:
        return {name: hashlib.sha256(self.content(commit, name)).hexdigest() for name in self.files}


class Handler(BaseHTTPRequestHandler):
    """The few addresses that a download asks for."""

    protocol_version = "HTTP/1.1"
    server: Hub

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes, headers: dict[str, str], *, most: int | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[:most])
        if most is not None:
            self.close_connection = True

    def json(self, value: object) -> None:
        self.answer(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def do_GET(self) -> None:
        hub, (path, _, _) = self.server, self.path.partition("?")
        parts = path.strip("/").split("/")
        if "revision" in parts:
            commit = "a" * 40
            self.json(
                {"id": REPOSITORY, "sha": commit, "siblings": [{"rfilename": name} for name in hub.files]}
            )
        elif "tree" in parts:
            sizes = {name: len(hub.content(parts[-1], name)) for name in hub.files}
            self.json([
                {"type": "file", "path": name, "size": size, "oid": hashlib.sha1(name.encode()).hexdigest()}
                for name, size in sizes.items()
            ])  # fmt: skip
        elif "resolve" in parts and parts[-1] in hub.files:
            self.file(parts[-2] if parts[-2] in hub.commits else hub.commits[1], parts[-1])
        else:
            self.answer(404, b"", {})

    do_HEAD = do_GET  # noqa: N815  # the name that the library calls

    def file(self, commit: str, name: str) -> None:
        hub, body = self.server, self.server.content(commit, name)
        headers = {
            "ETag": f'"{hashlib.sha256(body).hexdigest()}"',
            "X-Repo-Commit": commit,
            "Accept-Ranges": "bytes",
        }
        given, most = self.headers.get("Range"), None
        if self.command == "GET":
            (hub.ranges if given else hub.full).append(f"{name} {given or ''}")
            if name == LARGE and hub.cut is not None:
                most, hub.cut = hub.cut, None
        if given:
            begin = int(given.removeprefix("bytes=").split("-")[0])
            headers["Content-Range"] = f"bytes {begin}-{len(body) - 1}/{len(body)}"
            self.answer(206, body[begin:], headers)
        else:
            self.answer(200, body, headers, most=most)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def together(hub: Hub, cache: Path) -> dict[str, object]:
    """Four processes ask for the same, and nobody has it yet."""
    from glmflash.weights import load_model, resolve

    children = []
    for number in range(4):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                folder = resolve(REPOSITORY, progress=False)
                load_model(folder, device="cpu")
                (cache / f"{number}.json").write_text(json.dumps([str(folder), digests(folder)]))
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    found = [json.loads(path.read_text()) for path in sorted(cache.glob("*.json"))]
    blobs = [
        path.name for path in cache.glob("**/blobs/*") if not path.name.endswith((".lock", ".incomplete"))
    ]
    return {
        "codes": codes,
        "folders": len({folder for folder, _ in found}),
        "commit": Path(found[0][0]).name,
        "right": all(files == hub.digests("a" * 40) for _, files in found),
        "copies": len(blobs) == len({digest for _, files in found for digest in files.values()}),
    }


def cut(hub: Hub, cache: Path, points: int) -> dict[str, object]:
    """The connection ends within the largest file; the library, or the next call, goes on from there."""
    from huggingface_hub import constants

    from glmflash.errors import DownloadError
    from glmflash.weights import resolve

    constants.DOWNLOAD_CHUNK_SIZE = 2**12  # usually more than this file has, so it would begin anew
    size, resumed, errors, right = len(hub.files[LARGE]), 0, 0, True
    for point in range(1, points + 1):
        constants.HF_HUB_CACHE = str(cache / str(point))
        hub.cut, hub.ranges = size * point // (points + 1), []
        try:
            folder = resolve(REPOSITORY, progress=False)
        except DownloadError:
            errors += 1
            folder = resolve(REPOSITORY, progress=False)
        resumed += any(name.startswith(LARGE) for name in hub.ranges)
        right &= digests(folder) == hub.digests("a" * 40)
    return {"points": points, "resumed": resumed, "errors": errors, "right": right}


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        hub = Hub(Path(sys.argv[1]))
        os.environ |= {
            "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}", "HF_HUB_CACHE": f"{scratch}/together",
            "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "HF_TOKEN": "", "NO_PROXY": "*",
        }  # fmt: skip
        import glmflash.weights  # noqa: F401  # before there is a thread: children are forked

        (Path(scratch) / "together").mkdir()
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        time.sleep(0.1)
        print(json.dumps(together(hub, Path(scratch) / "together")), flush=True)
        print(json.dumps(cut(hub, Path(scratch) / "cut", int(sys.argv[2]))), flush=True)
