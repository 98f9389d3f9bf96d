"""The name of a checkpoint (folder, hub id, "tiny") → the folder that holds it."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from glmflash.errors import DownloadError, ParameterError
from glmflash.progress import Progress, wants_bar
from glmflash.weights.staged import complete

__all__ = ["resolve", "settle"]

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_ALLOWED = "an existing folder, a hub id like 'zai-org/GLM-4.6V-Flash', or 'tiny' for the embedded model"
_WANTED = ["*.json", "*.jinja", "*.safetensors"]  # data only: nothing that could run
_SMALL = ["config.json", "preprocessor_config.json", "processor_config.json"]


def __dir__() -> list[str]:
    return __all__


def resolve(
    name: str | Path,
    *,
    revision: str | None = None,
    local_files_only: bool = False,
    progress: Progress = None,
    config_only: bool = False,
) -> Path:
    """Find the folder of a checkpoint, and download it first where need be.

    Args:
        name: An existing folder (`~` is the home), a hub id ("zai-org/GLM-4.6V-Flash"), or "tiny" for the
            model that comes with glmflash. A folder that is called tiny is "./tiny".
        revision: Branch, tag or commit of a hub id. All files are of one commit, even if the branch moves
            meanwhile.
        local_files_only: Use what is on disk, open no connection.
        progress: False hides the download's bars, True shows them, None shows them where a person watches. A
            function hides them too; it hears of loading, and of no download.
        config_only: Fetch no weights, only the small files that say what they are.

    Raises:
        DownloadError: If there is no such folder, or the checkpoint cannot be had.
        ParameterError: If `name` or `progress` is of another type, or `revision` is given for what is not
            a hub id.

    Example:
        >>> resolve("no/such/folder")
        Traceback (most recent call last):
        glmflash.errors.DownloadError: 'no/such/folder': no such folder. ...
    """
    if not isinstance(name, str | Path):
        raise ParameterError("model", f"is a {type(name).__name__}; allowed: {_ALLOWED}")
    bar = wants_bar(progress)
    given = None if name == "tiny" else _folder(name)
    if name == "tiny" or given is not None:
        if revision is not None:
            raise ParameterError("revision", f"is {revision!r}, but {str(name)!r} is a folder; leave it out")
        return given or _embedded()
    if not isinstance(name, str) or not _HUB_ID.fullmatch(name):
        raise DownloadError(f"{str(name)!r:.300}: no such folder. Give {_ALLOWED}.")
    folder = _download(name, revision, local_files_only, bar, _SMALL if config_only else _WANTED)
    weights = config_only or any(folder.glob("*.safetensors"))
    if not (folder / "config.json").is_file() or not weights:
        raise DownloadError(
            f"{name!r} holds no config.json with safetensors weights; other formats are not read"
        )
    return folder


def settle(name: str | Path, *, revision: str | None = None) -> str:
    """The name of a checkpoint that means the same to a process which stands in another folder.

    A folder that is here becomes its full path. Nothing is fetched, and what is not here may be elsewhere.

    Args:
        name: As for `resolve`.
        revision: As for `resolve`.

    Raises:
        DownloadError: If it is no folder, no full path, and not of the form of a hub id.
        ParameterError: As for `resolve`.

    Example:
        >>> settle("zai-org/GLM-4.6V-Flash"), settle("tiny")
        ('zai-org/GLM-4.6V-Flash', 'tiny')
    """
    if not isinstance(name, str | Path):
        raise ParameterError("model", f"is a {type(name).__name__}; allowed: {_ALLOWED}")
    here = None if name == "tiny" else _folder(name)
    if here is None and isinstance(name, str) and _HUB_ID.fullmatch(name):
        return name
    if name != "tiny" and here is None and not Path(name).is_absolute():
        raise DownloadError(f"{str(name)!r:.300}: no such folder. Give {_ALLOWED}.")
    if revision is not None:
        raise ParameterError("revision", f"is {revision!r}, but {str(name)!r} is a folder; leave it out")
    return "tiny" if name == "tiny" else str((here or Path(name)).absolute())


def _folder(name: str | Path) -> Path | None:
    if not name:
        return None  # as a path, it would be the current folder
    try:
        path = Path(name).expanduser()
        return complete(path) if path.is_dir() else None
    except (OSError, RuntimeError):  # too long, or behind a folder that may not be entered; no such home
        return None


def _embedded() -> Path:
    folder = files("glmflash") / "tiny"
    if not isinstance(folder, Path) or not folder.is_dir():
        raise DownloadError(
            "'tiny': this installation of glmflash is incomplete, its folder glmflash/tiny is missing; "
            "install glmflash again, unpacked into a folder, or name another checkpoint"
        )
    return folder


def _download(name: str, revision: str | None, local_files_only: bool, bar: bool, wanted: list[str]) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]  # re-exported without saying so

    class Silent(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  # passed on as they come
            super().__init__(*args, **{**kwargs, "disable": True})  # type: ignore[no-untyped-call]  # tqdm has none

    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                local_files_only=local_files_only,
                allow_patterns=wanted,
                ignore_patterns=["*/*"],
                tqdm_class=tqdm if bar else Silent,
            )
        )
    except Exception as error:  # the HTTP library's own errors too, whichever library it is
        raise DownloadError(f"{name!r}: {_reason(error, revision, local_files_only)}") from error


def _reason(error: Exception, revision: str | None, local_files_only: bool) -> str:
    """Say what failed and what to do, without the error's own text: it may hold addresses and tokens."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "access is restricted; accept its terms on the hub, then `hf auth login`"
    if isinstance(error, errors.RepositoryNotFoundError):
        return (
            "no such folder, and no such public repository on the hub; check the spelling, or `hf auth login`"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return f"has no revision {revision!r}; give a branch, tag or commit of it"
    if isinstance(error, errors.HFValidationError):
        return "not a valid hub id; expected 'owner/name'"
    if isinstance(error, errors.LocalEntryNotFoundError):
        if local_files_only:
            return "not, or not completely, on this disk; download it first without local_files_only=True"
        return "not on this disk, and the hub cannot be reached; connect, or give the path of a copy"
    cause = getattr(error, "strerror", None) or type(error).__name__
    return f"the download failed ({cause}); try again: it goes on where it stopped"
