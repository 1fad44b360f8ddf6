"""A notebook's pictures lie the right way round, and words beside them are right."""

import csv
import json

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.report.figures import PLANES
from brainjax.report.pictures import (
    _plot_plane,
    describe_answer,
    picture_answers,
    picture_features,
    picture_training,
    picture_volumes,
    read_rows,
)

INTERVAL = {"value": 5.0, "low": 4.0, "high": 6.0, "n": 3}
ROWS = {
    "regression": [
        {"target": t, "prediction": t + 1, "coverage": 0.9, "low": t - 2, "high": t + 4}
        for t in (20.5, 40.0, 60.0)
    ],
    "classification": [
        {"target": t, "prediction": p} for t, p in zip("FMM", "FFM", strict=True)
    ],
    "survival": [
        {"target": t, "event": e, "prediction": -t / 100}
        for t, e in ((100, 1), (300, 0), (500, 1))
    ],
}
METRICS = ("mae", "balanced_accuracy", "c_index")


def drawn(volume: np.ndarray, plane: str):
    from matplotlib.figure import Figure

    axes = Figure().add_subplot()
    _plot_plane(axes, volume, plane)
    return axes


@pytest.mark.parametrize("plane", PLANES)
def test_planes_are_upright_with_left_on_the_left(plane):
    # One bright voxel block in each of three corners tells every axis and direction.
    volume = np.full((9, 9, 9), 1, np.uint8)
    volume[8, 4, 4] = volume[4, 8, 4] = volume[4, 4, 8] = 200  # right, front, top
    axes = drawn(volume, plane)
    image = axes.images[0]
    assert image.origin == "lower"
    bright = np.argwhere(np.asarray(image.get_array()) > 0.5)
    assert {tuple(map(int, place)) for place in bright} == {(4, 8), (8, 4)}
    right = axes.transData.transform((8, 4))
    place = {text.get_text(): text.get_position() for text in axes.texts}
    letter = {"axial": "R", "coronal": "R", "sagittal": "A"}[plane]
    assert axes.transAxes.inverted().transform(right)[0] > 0.5
    assert place[letter][0] > 0.5


def test_the_outside_of_a_plane_is_black_and_the_inside_is_not():
    volume = np.zeros((4, 4, 4), np.float32)
    volume[:2] = -9
    volume[0, 0] = -5
    image = np.asarray(drawn(volume, "axial").images[0].get_array())
    assert np.all(image[:, 2:] == 0)
    assert np.all(image[:, :2] > 0)


def write_run(folder, task: str) -> None:
    about = {
        "task": task,
        "target": "age",
        "unit": "years",
        "metrics": dict.fromkeys(METRICS, INTERVAL),
    }
    (folder / "evaluation.json").write_text(json.dumps(about))
    rows = ROWS[task]
    with (folder / "predictions.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)


@pytest.mark.parametrize("task", ROWS)
def test_answers_of_every_task_have_a_picture(tmp_path, task):
    write_run(tmp_path, task)
    picture = picture_answers(tmp_path)
    picture.save(tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert len(repr(picture)) < 100


def test_an_answer_in_words_has_its_interval_and_its_doubt():
    row = {
        "source": "a.nii.gz",
        "subject": "01",
        "target": "age",
        "unit": "years",
        "prediction": "41.234",
        "low": "30.01",
        "high": "52.46",
        "in_distribution": "yes",
    }
    assert describe_answer(row) == "01: age 41.2 (30.0 to 52.5) years"
    words = describe_answer(row | {"in_distribution": "no"})
    assert words.endswith("UNLIKE THE TRAINING SCANS")


def test_a_class_in_words_is_not_rounded_and_has_its_set():
    row = {"source": "a.nii.gz", "subject": "", "target": "grade", "unit": ""}
    words = describe_answer(row | {"prediction": "2", "prediction_set": "2|3"})
    assert words == "a.nii.gz: grade 2; one of 2, 3"


def write_features(folder) -> None:
    (folder / "f.csv").write_text(
        "source,subject,session,sequence,feature_0,feature_1\n"
        "a,01,,T1w,1,2\nb,02,,T1w,3,4\nc,,,T1w,5,1\n"
    )
    (folder / "p.tsv").write_text(
        "participant_id\tage\tsex\nsub-01\t30\tF\n02\t50\tM\n"
    )


@pytest.mark.parametrize("by", ["age", "sex"])
def test_features_have_a_picture_whether_or_not_a_scan_has_a_label(tmp_path, by):
    write_features(tmp_path)
    found = picture_features(tmp_path / "f.csv", tmp_path / "p.tsv", by, mark="c")
    assert found.png.startswith(b"\x89PNG")


def test_what_there_is_no_picture_of_is_refused_in_one_line(tmp_path):
    write_features(tmp_path)
    (tmp_path / "empty.csv").write_text("source,prediction\n")
    for call, words in (
        (lambda: picture_volumes([]), "wanted a volume at least, got none"),
        (lambda: read_rows(tmp_path / "none.csv"), "none.csv: wanted a table"),
        (lambda: read_rows(tmp_path / "empty.csv"), "with a scan, got none"),
        (lambda: picture_training(tmp_path), "wanted the log of a run"),
        (
            lambda: picture_features(tmp_path / "f.csv", tmp_path / "p.tsv", "height"),
            "wanted a column height, got age, sex",
        ),
    ):
        with pytest.raises(InputRefusedError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
