"""The notebook of examples/ runs from top to bottom, offline, and shows what it talks about."""

import os
import re
import tempfile
from pathlib import Path

import pytest

import glmflash

TOUR = Path(__file__).parents[1] / "examples" / "tour.ipynb"

pytestmark = [pytest.mark.extras, pytest.mark.slow, pytest.mark.enable_socket]


@pytest.fixture(scope="module")
def shown() -> list[tuple[str, str, str]]:
    """Of every cell of code: its source, its HTML and its text."""
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    pytest.importorskip("ipywidgets")
    notebook = nbformat.read(TOUR, as_version=4)
    with tempfile.TemporaryDirectory() as runtime, pytest.MonkeyPatch.context() as patch, quiet():
        patch.setenv("JUPYTER_RUNTIME_DIR", runtime)
        patch.setenv("PYTHONPATH", os.pathsep.join([str(Path(glmflash.__file__).parents[1])]))
        client = nbclient.NotebookClient(
            notebook, timeout=120, resources={"metadata": {"path": str(TOUR.parent)}}, kernel_name="python3"
        )
        client.execute()  # raises what a cell raises
    cells = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            data = [output.get("data", {}) for output in cell.outputs]
            html = "".join(one.get("text/html", "") for one in data)
            text = "".join(output.get("text", "") for output in cell.outputs)
            cells.append((cell.source, html, text + "".join(one.get("text/plain", "") for one in data)))
    return cells


def quiet() -> object:
    """What Jupyter's libraries say of themselves is not ours to answer for."""
    import warnings

    context = warnings.catch_warnings()
    warnings.simplefilter("ignore")
    return context


def of(shown: list[tuple[str, str, str]], part: str) -> tuple[str, str]:
    """HTML and text of the one cell with this in its source."""
    ((_, html, text),) = [cell for cell in shown if part in cell[0]]
    return html, text


def test_pictures_stand_beside_answers(shown) -> None:
    html, _ = of(shown, "result.view(receipt)")
    assert "<img" in html
    assert "data:image/png;base64," in html
    assert "TOTAL" in html
    html, _ = of(shown, "found.view(screen)")
    assert "<img" in html
    assert re.search(r"<code[^>]*>\d+, \d+, \d+, \d+</code>", html)  # a box, in pixels


def test_a_stream_shows_its_end_where_it_was_displayed(shown) -> None:
    html, text = of(shown, "display(stream)")
    assert "tokens" in html  # the summary of a result
    assert "<details>" in html  # thinking, folded now
    assert "…" not in html
    assert "pieces" in text


def test_a_session_shows_its_picture_and_reuses(shown) -> None:
    html, text = of(shown, "pipe.session()")
    assert html.count("<img") == 1
    cached = re.search(r"(\d+) of (\d+) prompt tokens", text)
    assert cached
    assert 0 < int(cached[1]) < int(cached[2])


def test_a_batch_has_a_bar_and_answers(shown) -> None:
    html, text = of(shown, "pipe.batch")
    assert "answered" in text
    assert "<img" in html


@pytest.mark.parametrize("part", ["card = small.card", "pipe.stats()", "Pipeline.plan", "pipe.extract"])
def test_tables_are_there(shown, part) -> None:
    assert "<table" in of(shown, part)[0]


def test_the_notebook_is_kept_without_outputs() -> None:
    nbformat = pytest.importorskip("nbformat")
    for cell in nbformat.read(TOUR, as_version=4).cells:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None
