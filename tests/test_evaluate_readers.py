"""Readers, on small folders in the layouts that DocVQA, ChartQA and OCRBench are published in."""

import json

import pytest
from PIL import Image

from glmflash.errors import QuestionError
from glmflash.evaluate import Question, read_chartqa, read_docvqa, read_ocrbench, score


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 4)).save(path)
    return path


def save(path, data):
    path.write_text(json.dumps(data))
    return path


DOCVQA = {
    "questionId": 49153,
    "question": "What is the region number?",
    "question_types": ["form", "layout"],
    "image": "documents/pybv0228_81.png",
    "docId": 14465,
    "ucsf_document_id": "pybv0228",
    "ucsf_document_page_no": "81",
    "answers": ["2000", "Region 2000"],
    "data_split": "val",
}
HUMAN = {"imgname": "41699051005347.png", "query": "How many food items?", "label": "14"}
OCR = {
    "dataset_name": "IIIT5K",
    "id": 2843,
    "image_path": "IIIT5K/test/918_1.png",
    "question": "what is written in the image?",
    "answers": "CENTRE",
    "type": "Regular Text Recognition",
}


def docvqa(folder, *entries):
    head = {"dataset_name": "SP-DocVQA Task1", "dataset_version": "1.0", "dataset_split": "val"}
    picture(folder / "documents" / "pybv0228_81.png")
    return save(folder / "val_v1.0_withQT.json", {**head, "data": list(entries)})


def test_docvqa(tmp_path):
    older = {key: value for key, value in DOCVQA.items() if key != "question_types"} | {"questionId": 1}
    one, two = read_docvqa(docvqa(tmp_path, DOCVQA, older))
    assert one == Question(
        id="49153", text="What is the region number?", images=(tmp_path / "documents" / "pybv0228_81.png",),
        answers=("2000", "Region 2000"), kind="form", metric="anls",
    )  # fmt: skip
    assert (two.id, two.kind) == ("1", "")
    assert score(one, "region 2000") == 1


def test_docvqa_with_its_pictures_elsewhere_and_infographics(tmp_path):
    path = docvqa(tmp_path, {**DOCVQA, "image": None, "image_local_name": "20471.jpeg"})
    picture(tmp_path / "pictures" / "20471.jpeg")
    (question,) = read_docvqa(path, images=tmp_path / "pictures")
    assert question.paths == (tmp_path / "pictures" / "20471.jpeg",)


def test_chartqa(tmp_path):
    for name in ("41699051005347.png", "two_col_1.png"):
        picture(tmp_path / "test" / "png" / name)
    other = {"imgname": "two_col_1.png", "query": "Which year?", "label": "2014"}
    human = save(tmp_path / "test" / "test_human.json", [HUMAN])
    save(tmp_path / "test" / "test_augmented.json", [other, {**other, "query": "How much?", "label": "9.5"}])
    (question,) = read_chartqa(human)
    assert question == Question(
        id="human-1", text="How many food items?", images=(tmp_path / "test" / "png" / "41699051005347.png",),
        answers=("14",), kind="human", metric="relaxed",
    )  # fmt: skip
    both = read_chartqa(tmp_path / "test")
    assert [one.id for one in both] == ["human-1", "augmented-1", "augmented-2"]
    assert [score(one, "9.6") for one in both] == [0, 0, 1]


def test_ocrbench(tmp_path):
    formula = {**OCR, "dataset_name": "HME100k", "answers": ["x ^ { 2 }"], "type": "Handwritten Mathematical"}
    picture(tmp_path / "OCRBench_Images" / "IIIT5K" / "test" / "918_1.png")
    one, two = read_ocrbench(save(tmp_path / "OCRBench.json", [OCR, formula]))
    assert one == Question(
        id="IIIT5K-1", text="what is written in the image?", answers=("CENTRE",), metric="contains",
        images=(tmp_path / "OCRBench_Images" / "IIIT5K" / "test" / "918_1.png",),
        kind="Regular Text Recognition",
    )  # fmt: skip
    assert (two.metric, two.kind) == ("contains_formula", "Handwritten Mathematical")
    assert (score(one, "The centre"), score(two, "$x^{2}$")) == (1, 1)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"answers": None}, "has no answers; those of the test split"),
        ({"question": 5.5}, "question is 5.5; allowed: a string"),
        ({"image": "documents/none.png"}, "picture 'documents/none.png' is not there"),
        ({"image": "../../etc/passwd"}, "outside"),
        ({"image": "/etc/passwd"}, "outside"),
        ({"answers": [["2000"]]}, "answers is"),
        ({"answers": []}, "answers is"),
        ({"answers": [" "]}, "a text that is not blank"),
        ({"question_types": [1.5]}, "question_types is"),
    ],
)
def test_a_bad_entry_is_named(tmp_path, change, problem):
    path = docvqa(tmp_path, DOCVQA, {**DOCVQA, "questionId": 2, **change})
    with pytest.raises(QuestionError) as caught:
        read_docvqa(path)
    assert str(caught.value).startswith("val_v1.0_withQT.json, entry 2: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("read", [read_docvqa, read_chartqa, read_ocrbench])
@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "[1]", "null", '{"data": {}}', '{"data": []}', "[{}]", "{"]
)
def test_files_of_another_kind(tmp_path, read, content):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(QuestionError, match=r"other\.json"):
        read(path)


def test_nothing_there(tmp_path):
    with pytest.raises(QuestionError, match=r"none\.json: is not there"):
        read_docvqa(tmp_path / "none.json")
    with pytest.raises(QuestionError, match="holds no"):
        read_chartqa(tmp_path)


def test_ids_are_distinct(tmp_path):
    with pytest.raises(QuestionError, match="entry 2: id '49153' is that of another question"):
        read_docvqa(docvqa(tmp_path, DOCVQA, DOCVQA))
