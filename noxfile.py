"""The table of contents of what can be checked: `nox` runs lint, typecheck and tests; the rest by name."""

import os
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5"
nox.options.sessions = ["lint", "typecheck", "tests"]
# In an active virtual environment the sessions share it, so torch is installed once; else each makes its own.
nox.options.default_venv_backend = "none" if "VIRTUAL_ENV" in os.environ else "virtualenv"
nox.options.reuse_venv = "yes"

# The tests' matrices are too small for more threads, and so their rounding is the same on every machine.
# Bytecode is kept, whatever the environment says: they are compiled by pytest, and start many processes.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": None}
# Whole files, for what a file's tests share is made once. More processes would need more memory.
# In the order of names: else files of few and long tests come last, and one process waits for the other.
TWO_PROCESSES = ("--numprocesses", "2", "--dist", "loadfile", "--no-loadscope-reorder")

PYPROJECT = nox.project.load_toml("pyproject.toml")


def groups(*names: str) -> list[str]:
    """Requirements of the named dependency groups of pyproject.toml."""
    return list(nox.project.dependency_groups(PYPROJECT, *names))


def pip(session: nox.Session, *arguments: str) -> None:
    """Install into the session's environment."""
    session.run_install("python", "-m", "pip", "install", "--quiet", *arguments)


def install(session: nox.Session, *names: str) -> None:
    """Install torch, then this tree and the named groups.

    Torch goes first and alone: with its pin met, nothing that follows can pull in another build.
    """
    pip(session, *groups("torch"))
    pip(session, "--editable", ".", *groups("torch", *names))


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: format and rules."""
    pip(session, *groups("lint"))
    session.run("ruff", "format", "--check", ".")
    session.run("ruff", "check", ".")


@nox.session
def typecheck(session: nox.Session) -> None:
    """Mypy, strict."""
    install(session, "typecheck", "nox")
    pip(session, "--editable", ".[serve]")  # examples/serve.py is checked too
    session.run("mypy")


@nox.session
def tests(session: nox.Session) -> None:
    """Unit and property tests, and docstrings."""
    install(session, "test")
    session.run("pytest", *TWO_PROCESSES, *session.posargs, env=ONE_THREAD)


@nox.session
def parity(session: nox.Session) -> None:
    """Every stage against the pinned transformers."""
    install(session, "parity")
    session.run("pytest", "-m", "parity", *(session.posargs or ["tests"]), env=ONE_THREAD)
    if not session.posargs:  # what the reference has rendered and encoded lies in files: GLMFLASH_TEST_DATA
        goldens = ("tests/test_prompt_template.py", "tests/test_prompt_tokenizer.py")
        session.run("pytest", *goldens, env=ONE_THREAD)


@nox.session
def extras(session: nox.Session) -> None:
    """What needs an optional extra, with all of them there."""
    install(session, "extras")
    session.run("pytest", "-m", "extras", *(session.posargs or ["tests"]), env=ONE_THREAD)
    if not session.posargs:  # elsewhere what this page shows is skipped
        session.run("pytest", "docs/how-to/pdf.md", env=ONE_THREAD)


@nox.session
def ray(session: nox.Session) -> None:
    """A folder of pictures through Ray Data, with workers that are killed: minutes."""
    install(session, "ray")
    session.run("pytest", "-m", "ray", *(session.posargs or ["tests"]), env=ONE_THREAD)


@nox.session
def soak(session: nox.Session) -> None:
    """Thousands of requests and conversations: what takes minutes to go wrong."""
    install(session, "extras")
    session.run("pytest", "-m", "soak", *(session.posargs or ["tests"]), env=ONE_THREAD)
    if not session.posargs:  # what is promised in seconds: not to be looked at while the machine is busy
        timed = (f"tests/test_engine_{name}.py" for name in ("lifecycle", "faults", "worker"))
        session.run("pytest", *timed, env=ONE_THREAD | {"GLMFLASH_QUIET_MACHINE": "1"})


@nox.session
def fuzz(session: nox.Session) -> None:
    """Anything at every way in, a minute each: `nox -s fuzz -- --seconds 600 picture url`."""
    install(session, "extras")
    session.run("python", "tests/fuzz/fuzz.py", *session.posargs, env=ONE_THREAD)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the pages with every warning an error, and run what they show."""
    install(session, "docs", "test")
    session.run("sphinx-build", "-W", "-n", "--keep-going", "docs", "docs/_build/html")
    session.run("pytest", *(session.posargs or ["docs", "README.md"]), env=ONE_THREAD)


@nox.session
def examples(session: nox.Session) -> None:
    """Run every script of examples/ on the embedded checkpoint; `extras` runs the server, `ray` the batch."""
    install(session)
    for script in sorted(Path("examples").glob("*.py")):
        if script.stem in ("serve", "ray_batch"):
            continue
        session.run("python", str(script), *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure the network, the engine, INT8, formats of answers, observers, answers kept, as JSON."""
    install(session, "parity", "extras")
    for script in (
        "bench.py",
        "engine.py",
        "int8.py",
        "kernels.py",
        "decode_step.py",
        "guided.py",
        "watch.py",
        "answers.py",
    ):
        session.run("python", f"tests/bench/{script}", *session.posargs)


@nox.session
def fullsize(session: nox.Session) -> None:
    """Load, ask, save and reload the published sizes as INT8: 35 GB of disk, 14 GB of memory."""
    install(session)
    session.run("python", "tests/fullsize.py", *session.posargs)


@nox.session
def mutants(session: nox.Session) -> None:
    """Make mistakes in the block pool and the parser on purpose; their tests must notice each."""
    install(session, "test")
    session.run("python", "tests/mutants.py", *session.posargs)


@nox.session(venv_backend="virtualenv")
def build(session: nox.Session) -> None:
    """Build the sdist, install it, and test the installed copy away from this tree."""
    pip(session, "build")
    pip(session, *groups("torch"))
    out = Path(session.create_tmp()).resolve()
    shutil.rmtree(out)
    session.run("python", "-m", "build", "--sdist", "--outdir", str(out))
    (sdist,) = out.glob("glmflash-*.tar.gz")
    pip(session, str(sdist), *groups("torch", "test"))
    pip(session, "--force-reinstall", "--no-deps", str(sdist))
    shutil.unpack_archive(sdist, out, filter="data")
    away = out / sdist.name.removesuffix(".tar.gz")
    shutil.rmtree(away / "glmflash")
    session.chdir(away)
    session.run("pytest", *(session.posargs or ["tests"]), env=ONE_THREAD)


@nox.session(venv_backend="virtualenv")
def minimums(session: nox.Session) -> None:
    """Test with the lowest versions that pyproject.toml admits.

    Torch stays at its pin, unless its name is given: `nox -s minimums -- torch` takes its lowest version too.
    """
    floors = [line.replace(">=", "==") for line in PYPROJECT["project"]["dependencies"]]
    if "torch" not in session.posargs:
        floors = [*(line for line in floors if not line.startswith("torch")), *groups("torch")]
    pip(session, *(line for line in floors if line.startswith("torch")))
    pip(session, *floors, *groups("test"))
    pip(session, "--no-deps", "--editable", ".")
    session.run("pytest", "tests", env=ONE_THREAD)
