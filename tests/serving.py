"""The server of examples/ on a free port of this machine, on a thread; and tokens for it."""

import importlib.util
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "examples" / "serve"
SECRET = "a secret of this test and of no other, long enough"


def modules():
    """The server's own modules, found as its script finds them."""
    if str(FOLDER) not in sys.path:
        sys.path.insert(0, str(FOLDER))
    import app
    import guard

    return app, guard


def script():
    """The command line, examples/serve.py."""
    spec = importlib.util.spec_from_file_location("serve_script", FOLDER.with_suffix(".py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def token(name="tester", *, secret=SECRET, hours=1.0) -> str:
    return modules()[1].token(secret, name, hours=hours)


@contextmanager
def served(pipe, **settings) -> Iterator[str]:
    """Its address, while it serves."""
    import uvicorn

    app = modules()[0].make(pipe, secret=SECRET, **settings)
    config = uvicorn.Config(app, host="127.0.0.1", port=0, access_log=False, log_config=None)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        (one,) = server.servers
        yield f"http://127.0.0.1:{one.sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(30)
        assert not thread.is_alive()
