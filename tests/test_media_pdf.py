"""PDFs of every kind, real and hostile: what is drawn, and what is said of what cannot be."""

import io
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("pypdfium2")

import pdfs

from glmflash import FetchError, ImageError, InputPolicy, ParameterError, Pipeline, Url, read_pdf
from glmflash.media import read

pytestmark = pytest.mark.extras

RED = b"1 0 0 rg 0 0 100 100 re f"  # the left half
GREEN = b"0 1 0 rg 0 0 100 100 re f"
BLUE = b"0 0 1 rg 0 0 100 100 re f"
TEXT = b"BT /F 24 Tf 10 40 Td (Total 5.75) Tj ET"
TREE = {1: "<< /Type /Catalog /Pages 2 0 R >>"}
ROUND = TREE | {
    2: "<< /Type /Pages /Kids [2 0 R 10 0 R] /Count 5 >>",
    10: "<< /Type /Pages /Parent 2 0 R /Kids [2 0 R] /Count 4 >>",
}
LIE = TREE | {2: "<< /Type /Pages /Kids [] /Count 2000000000 >>"}
DEEP = (
    TREE
    | {number: f"<< /Type /Pages /Kids [{number + 1} 0 R] /Count 1 >>" for number in range(2, 3000)}
    | {3000: "<< /Type /Page /MediaBox [0 0 10 10] >>"}
)


def left(picture: Image.Image) -> tuple[int, int, int]:
    return picture.getpixel((5, 5))


@pytest.fixture(scope="module")
def three() -> bytes:
    return pdfs.document(RED, GREEN, BLUE)


@pytest.fixture
def drawing():
    sys.path.insert(0, str(Path(__file__).parents[1] / "examples" / "tiny"))
    import draw

    yield draw
    sys.path.remove(str(Path(draw.__file__).parent))


def test_pages_are_pictures_in_a_sequence(three):
    pages = read_pdf(three, dpi=72)
    assert len(pages) == pages.total == 3
    assert [left(page) for page in pages] == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    assert (pages[0].mode, pages[0].size) == ("RGB", (200, 100))
    assert pages[0].getpixel((150, 50)) == (255, 255, 255)
    assert left(pages[-1]) == (0, 0, 255)
    assert [left(page) for page in pages[::-1]] == [(0, 0, 255), (0, 255, 0), (255, 0, 0)]
    assert len(pages[3:]) == 0
    with pytest.raises(IndexError):
        pages[3]
    assert repr(pages[1:]) == "<PdfPages: 2 of 3 pages of picture (bytes), 72 dpi>"


def test_pages_are_chosen_by_the_numbers_people_write(three):
    assert [left(page) for page in read_pdf(three, pages="3, 1-2")] == [(0, 0, 255), (255, 0, 0), (0, 255, 0)]
    assert left(read_pdf(three, pages=2)[0]) == (0, 255, 0)
    with pytest.raises(ParameterError, match="numbered from 1, and the last is 3"):
        read_pdf(three, pages=4)
    with pytest.raises(ImageError, match="which is max_pages"):
        read_pdf(three, max_pages=2)


def test_path_bytes_and_files_are_the_same(three, tmp_path):
    path = tmp_path / "three.pdf"
    path.write_bytes(three)
    with path.open("rb") as file:
        for source in (path, str(path), memoryview(three), bytearray(three), io.BytesIO(three), file):
            assert left(read_pdf(source, pages=3)[0]) == (0, 0, 255)
    assert "'three.pdf'" in repr(read_pdf(path))


def test_a_page_is_not_drawn_before_it_is_asked_for(three, monkeypatch):
    import pypdfium2

    drawn = []
    render = pypdfium2.PdfPage.render
    monkeypatch.setattr(
        pypdfium2.PdfPage, "render", lambda page, **how: drawn.append(page) or render(page, **how)
    )
    pages = iter(read_pdf(three)[1:])
    assert not drawn
    next(pages)
    assert len(drawn) == 1


def test_nothing_stays_open(three):
    from pypdfium2.internal import ObjectTracker

    before = {kind: set(known) for kind, known in ObjectTracker.items()}
    pages = read_pdf(three)
    list(pages)
    with pytest.raises(ImageError):
        read_pdf(pdfs.document(RED, box="0 0 90000 90000"))[0]
    assert {kind: known for kind, known in ObjectTracker.items() if known} == {
        kind: known for kind, known in before.items() if known
    }


def test_dpi_is_pixels_per_inch():
    for box, size in (("0 0 612 792", (1275, 1650)), ("0 0 595.276 841.89", (1241, 1754))):
        assert read_pdf(pdfs.document(RED, box=box))[0].size == size


def test_a_turned_page_is_upright():
    (page,) = read_pdf(pdfs.document(RED, page="/Rotate 90"), dpi=72)
    assert page.size == (100, 200)
    assert (left(page), page.getpixel((5, 195))) == ((255, 0, 0), (255, 255, 255))


def test_text_is_drawn_and_twice_the_same():
    data = pdfs.document(TEXT)
    first, second = read_pdf(data)[0], read_pdf(data)[0]
    assert first.tobytes() == second.tobytes()
    assert 0.01 < (np.asarray(first) < 128).mean() < 0.5


def test_annotations_are_drawn_and_scripts_are_not_run():
    note = {
        1000: "<< /Type /Annot /Subtype /Square /Rect [0 0 100 100] /F 4 /AP << /N 1001 0 R >> >>",
        1001: pdfs.stream(RED, "/Type /XObject /Subtype /Form /BBox [0 0 100 100]"),
    }
    script = "/AA << /O << /S /JavaScript /JS (while (true) {}) >> >>"
    (page,) = read_pdf(pdfs.document(b"", page=f"/Annots [1000 0 R] {script}", more=note), dpi=72)
    assert left(page) == (255, 0, 0)


def test_a_page_too_large_is_refused_before_it_is_drawn_and_others_are_not():
    pages = read_pdf(pdfs.document(RED, box="0 0 200000 200000"))
    with pytest.raises(ImageError, match=r"page 1 would be 416667 x 416667 pixels.*fewer dpi"):
        pages[0]
    data = pdfs.document(RED)
    strict = InputPolicy(max_pixels=200 * 100)
    assert read_pdf(data, dpi=72, policy=strict)[0].size == (200, 100)
    with pytest.raises(ImageError, match=r"InputPolicy\.max_pixels"):
        read_pdf(data, dpi=73, policy=strict)[0]
    with pytest.raises(ImageError, match="page 1"):
        read_pdf(data, dpi=1e300)[0]
    with pytest.raises(ImageError, match=r"InputPolicy\.max_bytes"):
        read_pdf(data, policy=InputPolicy(max_bytes=100))


@pytest.mark.parametrize("box", ["0 0 0 0", "0 0 nan inf", "0 0 1e40 100", "0 0 0.001 0.001", "200 100 0 0"])
def test_a_strange_size_is_a_small_picture(box):
    (page,) = read_pdf(pdfs.document(RED, box=box))
    assert 1 <= page.size[0] * page.size[1] <= 1275 * 1650


def test_an_encrypted_file_needs_its_password():
    data = pdfs.encrypted(RED, b"sesame")
    with pytest.raises(ImageError, match=r"is encrypted; give its password: read_pdf\(\.\.\., password"):
        read_pdf(data)
    with pytest.raises(ParameterError, match="does not open") as caught:
        read_pdf(data, password="open")
    assert "open;" not in str(caught.value)
    pages = read_pdf(data, password="sesame")
    assert left(pages[0]) == (255, 0, 0)
    assert "sesame" not in repr(pages)


@pytest.mark.parametrize(
    "data",
    [b"", b"%PDF-1.7", b"\x89PNG\r\n\x1a\n", b"\0" * 1000, pdfs.document(), pdfs.pdf(LIE)],
    ids=["empty", "header", "png", "zeros", "no pages", "two billion pages that are not there"],
)
def test_what_is_no_pdf_is_one_error(data):
    with pytest.raises(ImageError, match="is not a PDF, has no pages, or is damaged"):
        read_pdf(data)


@pytest.mark.parametrize("objects", [ROUND, DEEP], ids=["a tree that is its own child", "a tree too deep"])
def test_a_page_that_cannot_be_found_is_an_error_of_that_page(objects):
    with pytest.raises(ImageError, match="page 1 is damaged, and cannot be drawn"):
        read_pdf(pdfs.pdf(objects))[0]


def test_other_sources_are_refused_in_our_words():
    class Broken(io.BytesIO):
        def read(self, size=-1):
            raise RuntimeError("secret")

    for source in (None, 7, Broken(), "no-such-file.pdf", Path("/")):
        with pytest.raises(ImageError) as caught:
            read_pdf(source)
        assert "secret" not in str(caught.value)
    with pytest.raises(FetchError):
        read_pdf(Url("https://example.org/a.pdf"))
    with pytest.raises(ImageError, match=r"found PDF.*glmflash\.read_pdf"):
        read(pdfs.document(RED))


def test_cut_and_changed_files_are_drawn_or_refused(three):
    chance = Random(7)
    for number in range(300):
        data = bytearray(three)
        for _ in range(chance.randrange(1, 4)):
            data[chance.randrange(len(data))] = chance.randrange(256)
        data = data[: chance.randrange(len(data))] if number % 3 == 0 else data
        try:
            for page in read_pdf(data, dpi=20, policy=InputPolicy(max_pixels=100_000)):
                assert page.mode == "RGB"
        except (ImageError, ParameterError):
            pass


def test_threads_share_a_document(three):
    pages, barrier = read_pdf(three, dpi=72), threading.Barrier(6)

    def colours(number):
        barrier.wait()
        return [left(pages[(number + step) % 3]) for step in range(30)]

    expected = [left(page) for page in pages]
    with ThreadPoolExecutor(6) as pool:
        for number, found in enumerate(pool.map(colours, range(6))):
            assert found == [expected[(number + step) % 3] for step in range(30)]


def test_pages_are_a_value_that_can_be_pickled(three):
    pages = read_pdf(three, dpi=72)[1:]
    again = pickle.loads(pickle.dumps(pages))
    assert again == pages
    assert left(again[0]) == (0, 255, 0)


@pytest.mark.slow
def test_a_receipt_in_a_pdf_is_read_as_the_receipt(drawing):
    drawn = [drawing.receipt(Random(f"pdf {number}"), language="en") for number in range(4)]
    with Pipeline.from_pretrained("tiny", progress=False) as pipe:
        for picture, facts in drawn:
            exact = read_pdf(pdfs.picture(picture), dpi=72)
            assert exact[0].tobytes() == picture.tobytes()
            assert pipe("What is the total?", images=exact, max_new_tokens=16).text == facts.total
            saved = io.BytesIO()
            picture.save(saved, "PDF", resolution=72, quality=95)  # Pillow makes a JPEG of it
            answer = pipe("What is the total?", images=read_pdf(saved, dpi=72), max_new_tokens=16)
            assert answer.text == facts.total
        both = read_pdf(pdfs.document(RED, GREEN), dpi=72)
        assert pipe("What is this?", images=both, max_new_tokens=2).usage.prompt > 2 * (200 // 28) * (
            100 // 28
        )


@pytest.mark.slow
def test_a_file_that_never_ends_ends_with_the_process_that_draws_it(tmp_path):
    """What the guide says of strangers' files: nothing inside a process can stop this one."""
    draw_itself = "/Type /XObject /Subtype /Form /BBox [0 0 9 9] /Resources << /XObject << /X 1000 0 R >> >>"
    path = tmp_path / "bomb.pdf"
    path.write_bytes(pdfs.document(b"/X Do", more={1000: pdfs.stream(b"/X Do " * 10, draw_itself)}))
    command = [sys.executable, "-m", "pypdfium2", "render", str(path), "-o", str(tmp_path)]
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(command, timeout=2, check=True, capture_output=True)
