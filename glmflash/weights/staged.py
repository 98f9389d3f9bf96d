"""A checkpoint's folder → a folder in it to write to, whose files replace the old ones all at once."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from glmflash.weights.files import locked, sync
from glmflash.weights.manifest import MANIFEST_FILE
from glmflash.weights.shards import INDEX_FILE, SINGLE_FILE

__all__ = ["complete", "staged"]

_LOCK, _STAGE = ".saving", ".saving-"
_COMPLETE = ".saved"  # a stage by this name is the checkpoint, whatever lies around it
_FIRST, _LEADERS = "config.json", (INDEX_FILE, SINGLE_FILE)


def __dir__() -> list[str]:
    return __all__


@contextmanager
def staged(folder: Path) -> Iterator[Path]:
    """A folder to write to; its files move to `folder` at the end; on an error they are thrown away.

    Several files cannot be replaced at once, but one folder can be renamed: from that moment on `complete`
    finds the new checkpoint there. Whoever is stopped between then and the end has lost nothing, and the next
    writer finishes the work. Writers wait for each other.

    Args:
        folder: Made if it is not there. Other files in it stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / _LOCK):
        _clear(folder)
        _finish(folder)
        stage = Path(tempfile.mkdtemp(prefix=_STAGE, dir=folder))
        try:
            yield stage
            sync(stage)
            stage.rename(folder / _COMPLETE)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise
        sync(folder)
        _finish(folder)


def complete(folder: Path) -> Path:
    """Where in the folder its checkpoint lies: there, or where a writer that was stopped has left it."""
    left = folder / _COMPLETE
    return left if not left.is_symlink() and (left / _FIRST).is_file() else folder


def _finish(folder: Path) -> None:
    """Put a complete stage in its place. If that is cut short, it can be done again."""
    done = complete(folder)
    if done == folder:
        shutil.rmtree(folder / _COMPLETE, ignore_errors=True)
        return
    order = {_FIRST: -1, **dict.fromkeys(_LEADERS, 1)}  # without a leader other programs see no checkpoint
    files = sorted(done.iterdir(), key=lambda path: order.get(path.name, 0))
    old = {*_LEADERS, MANIFEST_FILE, *(path.name for path in folder.glob("model-*-of-*.safetensors"))}
    for name in sorted(old, key=lambda name: -order.get(name, 0)):
        (folder / name).unlink(missing_ok=True)
    for path in files:
        _place(path, folder / path.name)
    sync(folder)
    done.rename(folder / f"{_STAGE}done")
    _clear(folder)


def _place(path: Path, target: Path) -> None:
    """One file under two names, so that the stage stays complete until all are placed."""
    target.unlink(missing_ok=True)
    try:
        os.link(path, target)
    except OSError:  # no links here: a stop on the way leaves what is refused, never a mixture
        path.replace(target)


def _clear(folder: Path) -> None:
    """Remove what writers that were stopped have left."""
    for left in folder.glob(f"{_STAGE}*"):
        with suppress(OSError):
            shutil.rmtree(left)
