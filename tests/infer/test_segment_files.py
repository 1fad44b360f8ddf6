"""From a raw scan to outlines over it: same grid, same side, named, counted."""

import csv
import gzip
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest

from brainjax.cli import main
from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.infer import segment as module
from brainjax.infer.scans import Prepared
from brainjax.infer.segment import Outlined, Segment, name_cases
from brainjax.records.sources import Source
from brainjax.report import segmentation_files as files
from brainjax.report.segmentation_files import check_formats, write_answers
from brainjax.tasks import Segmentation
from brainjax.volume.native import FileGrid
from brainjax.volume.recipe import RECIPES, make_recipe
from tests.infer.segmenting import bright_run, draw, make_run
from tests.volume.scans import affine, body, write
from tests.volume.test_native_grid import turned
from tests.volume.test_orientation import stored

RECIPE = make_recipe(spacing=6.0)
VIEW = RECIPE.shape
BLOCK = (slice(17, 20), slice(22, 26), slice(17, 20))
CENTRE = affine() @ [18.0, 23.5, 18.0, 1.0]


@pytest.fixture(scope="module")
def run():
    return bright_run(Path("runs/none"), recipe=RECIPE, view=VIEW)


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "volumes.csv").open() as file:
        return list(csv.DictReader(file))


def centre_mm(image: Any) -> np.ndarray:
    where = np.argwhere(np.asarray(image.dataobj) == 1).mean(0)
    return (image.affine @ [*where, 1])[:3]


@pytest.mark.parametrize("codes", ["RAS", "LAS", "PIR", "oblique"])
def test_a_landmark_on_the_right_is_outlined_there_on_the_files_own_grid(
    codes, run, tmp_path
):
    voxels, matrix = (body(), turned(20)) if codes == "oblique" else stored(codes)
    words = {"qform": matrix, "qform_code": 2, "sform_code": 3}
    path = write(tmp_path / "sub-1_T1w.nii.gz", voxels, matrix, **words)
    answers = Segment(run, [str(path)], largest=True)
    assert write_answers(answers, tmp_path / "out") == answers.failures == []
    scan: Any = nib.load(path)
    found: Any = nib.load(tmp_path / "out" / "sub-1_T1w_dseg.nii.gz")
    assert found.shape == scan.shape
    assert np.array_equal(found.affine, scan.affine)
    for field in ("sform_code", "qform_code", "pixdim", "quatern_c", "xyzt_units"):
        assert np.array_equal(found.header[field], scan.header[field]), field
    assert set(np.unique(found.dataobj)) == {0, 1}
    block = np.argwhere(np.asarray(scan.dataobj) == 900).mean(0)
    wanted = (scan.affine @ [*block, 1])[:3]
    np.testing.assert_allclose(centre_mm(found), wanted, atol=3.0)
    by_name = {row["structure"]: row for row in rows_of(tmp_path / "out")}
    assert list(by_name) == ["left_a", "right_a", "b"]
    ml = float((np.asarray(found.dataobj) == 1).sum()) * 5 * 4.5 * 6 / 1000
    assert float(by_name["left_a"]["volume_ml"]) == pytest.approx(ml)
    assert float(by_name["b"]["volume_ml"]) == 0
    assert by_name["b"]["recipe"] == RECIPE.hash
    assert by_name["b"]["subject"] == "1"
    table = (tmp_path / "out" / "labels.tsv").read_text()
    assert table == "index\tname\n1\tleft_a\n2\tright_a\n3\tb\n"


def test_the_same_scan_gives_the_same_bytes_and_probabilities_if_asked(run, tmp_path):
    path = str(write(tmp_path / "scan.nii"))
    for name in ("one", "two"):
        write_answers(Segment(run, [path], probabilities=True), tmp_path / name)
    files = sorted(p.name for p in (tmp_path / "one").iterdir())
    assert files == sorted(
        ["labels.tsv", "scan_dseg.nii.gz", "volumes.csv"]
        + [f"scan_{name}_probseg.nii.gz" for name in ("b", "left_a", "right_a")]
    )
    for file in files:
        one, two = ((tmp_path / name / file).read_bytes() for name in ("one", "two"))
        assert one == two, file
    image: Any = nib.load(tmp_path / "one" / "scan_left_a_probseg.nii.gz")
    chances = image.get_fdata()
    labels: Any = nib.load(tmp_path / "one" / "scan_dseg.nii.gz")
    assert chances.max() > 0.99
    sure = np.abs(chances - 0.5) > 0.02
    assert np.array_equal(
        (chances > 0.5)[sure], (np.asarray(labels.dataobj) == 1)[sure]
    )
    assert gzip.decompress((tmp_path / "one" / "scan_dseg.nii.gz").read_bytes())[:4]


def test_structures_that_overlap_have_a_file_each(tmp_path):
    task = Segmentation.make(
        classes=(("whole", [1, 2]), ("core", [2])), overlapping=True
    )
    run = bright_run(Path("x"), recipe=RECIPE, view=VIEW, task=task)
    gain = np.array([20.0, 20.0], np.float32)  # both of them, where it is bright
    run = run._replace(params={**run.params, "gain": gain})
    write_answers(Segment(run, [str(write(tmp_path / "scan.nii"))]), tmp_path / "out")
    one, other = (
        np.asarray(nib.load(tmp_path / "out" / f"scan_{name}_mask.nii.gz").dataobj)
        for name in task.classes
    )
    assert one.sum() > 20
    assert np.array_equal(one, other)
    assert not (tmp_path / "out" / "scan_dseg.nii.gz").exists()


def test_small_parts_are_dropped_where_asked(run, tmp_path):
    path = str(write(tmp_path / "scan.nii"))
    (kept,) = Segment(run, [path], least_ml=0.5)
    (none,) = Segment(run, [path], least_ml=500)
    assert kept.labels.any()
    assert not none.labels.any()


def test_a_bad_scan_is_named_and_the_others_are_answered(run, tmp_path):
    good = write(tmp_path / "good.nii")
    bad = tmp_path / "bad.nii"
    bad.write_bytes(good.read_bytes()[:2000])
    answers = Segment(run, [str(bad), str(good)])
    assert write_answers(answers, tmp_path / "out") == []
    ((path, reason),) = answers.failures
    assert path == str(bad)
    assert "truncated" in reason
    assert (tmp_path / "out" / "good_dseg.nii.gz").is_file()


def test_sequences_of_a_session_answer_together(tmp_path):
    names = ("FLAIR", "T1w")
    run = bright_run(Path("x"), recipe=RECIPE, view=VIEW, sequences=names)
    plain = np.where(body() == 900, 450, body()).astype(np.int16)
    write(tmp_path / "sub-1_T1w.nii", plain)
    write(tmp_path / "sub-1_FLAIR.nii")
    write(tmp_path / "sub-2_T1w.nii")
    one, other = Segment(run, [str(tmp_path)])
    assert [s.sequence for s in one.scans] == ["FLAIR", "T1w"]
    assert one.name == "sub-1_FLAIR"
    assert (one.labels == 1).sum() > 20  # the network looks at the first sequence
    assert other.name == "sub-2_T1w"
    assert not other.labels.any()  # which this session does not have
    moved = affine()
    moved[0, 3] += 30
    voxels = np.roll(body(), 6, axis=0)
    voxels[:8] = body()[:8]
    write(tmp_path / "sub-1_T1w.nii", voxels[2:], moved)
    answers = Segment(run, [str(tmp_path)])
    assert [one.name for one in answers] == ["sub-2_T1w"]
    assert "where the other sequences of its session are" in answers.failures[0][1]


@pytest.mark.parametrize("codes", ["RAS", "LPI", "SAL"])
def test_a_recipe_of_axes_as_stored_comes_back_too(codes, tmp_path):
    recipe = replace(RECIPES["brainiac_v2"], size=32)
    run = bright_run(Path("x"), recipe=recipe, view=(32, 32, 32))
    run = run._replace(kind="segmentation", task=None, network={"outputs": 4})
    voxels, matrix = stored(codes)
    path = write(tmp_path / "scan.nii", voxels, matrix)
    (found,) = Segment(run, [str(path)])
    assert found.names == ("structure_1", "structure_2", "structure_3")
    where = np.argwhere(found.labels == 1).mean(0)
    np.testing.assert_allclose(where, np.argwhere(voxels == 900).mean(0), atol=0.5)
    with pytest.raises(InputRefusedError, match="--flips: wanted a recipe whose first"):
        list(Segment(run, [str(path)], flips=True))


def test_a_converted_unetr_answers(tmp_path):
    encoder = {"shape": [32] * 3, "patch": 16, "width": 12, "depth": 10, "heads": 2}
    network = {"encoder": encoder, "feature_size": 2, "outputs": 1}
    recipe = replace(RECIPES["brainiac_v2"], size=32)
    made, params = draw("segmentation", network)
    run = make_run(Path("x"), recipe=recipe, view=(32, 32, 32))._replace(
        kind="segmentation",
        task=None,
        network=network,
        graphdef=made.graphdef,
        params=params,
    )
    (found,) = Segment(run, [str(write(tmp_path / "scan.nii"))], probabilities=True)
    assert found.names == ("structure",)
    assert found.labels.shape == found.probabilities[0].shape == body().shape
    assert np.array_equal(found.labels == 1, found.probabilities[0] > 0.5)


def test_files_of_two_scans_never_have_one_name():
    paths = ("a/s1/T1w.nii", "a/s2/T1w.nii.gz", "b/s2/T1w.nii", "c/other.nii")
    cases = [(Source(path),) for path in paths]
    assert name_cases(cases) == ["s1_T1w", "s2_T1w", "s2_T1w_2", "other"]


def test_what_no_series_is_named_for_is_refused_before_the_work(run, tmp_path):
    path, out = str(write(tmp_path / "scan.nii")), tmp_path / "out"
    with pytest.raises(InputRefusedError, match="name its series: --source"):
        write_answers(Segment(run, [path]), out, formats=("dicomseg",))
    other = str(write(tmp_path / "other.nii"))
    words = {"formats": ("dicomsr",), "source": str(tmp_path)}
    with pytest.raises(InputRefusedError, match=r"wanted one scan .* got 2"):
        write_answers(Segment(run, [path, other]), out, **words)
    with pytest.raises(InputRefusedError, match="wanted some of nifti"):
        check_formats("nifti,jpeg")
    assert check_formats("csv, nifti") == ("csv", "nifti")


class Answers:
    """Answers that nothing computed, of scans called so."""

    def __init__(self, run, *names: str, matrix=None):
        grid = FileGrid((4, 4, 4), np.eye(4) if matrix is None else matrix, None)
        labels = np.ones((4, 4, 4), np.uint8)
        self.run, self.names, self.cases = run, ("a", "b"), ()
        self.answers = [
            Outlined(Source(name), (Source(name),), name, grid, labels, self.names, ())
            for name in names
        ]

    def __iter__(self):
        return iter(self.answers)


def test_one_odd_scan_leaves_the_tables_and_all_volumes(run, tmp_path, monkeypatch):
    def odd(answer, out, *, facts):
        if answer.name == "odd":
            raise ValueError("no such\n header")

    monkeypatch.setattr(files, "write_nifti", odd)
    answers: Any = Answers(run, "one", "odd", "two")
    failures = write_answers(answers, tmp_path)
    assert failures == [("odd", "ValueError: no such header")]
    assert [row["source"] for row in rows_of(tmp_path)][::2] == ["one", "odd", "two"]
    assert (tmp_path / "labels.tsv").is_file()


def test_an_interrupted_list_keeps_the_volumes_of_what_is_done(
    run, tmp_path, monkeypatch
):
    def stop(answer, out, *, facts):
        if answer.name == "two":
            raise KeyboardInterrupt

    monkeypatch.setattr(files, "write_nifti", stop)
    answers: Any = Answers(run, "one", "two", "three")
    with pytest.raises(KeyboardInterrupt):
        write_answers(answers, tmp_path)
    assert {row["source"] for row in rows_of(tmp_path)} == {"one"}


def test_volumes_of_a_sheared_grid_are_told_without_a_shape(run, tmp_path):
    pytest.importorskip("mirp")
    matrix = np.eye(4)
    matrix[0, 1] = 0.5
    answers: Any = Answers(run, "one", matrix=matrix)
    ((path, reason),) = write_answers(answers, tmp_path, shape=True)
    assert path == "one"
    assert "got a sheared affine" in reason
    one, other = rows_of(tmp_path)
    assert (one["volume_ml"], other["volume_ml"]) == ("0.064", "0.0")
    assert one["sphericity"] == other["sphericity"] == ""


@pytest.mark.parametrize(
    ("package", "words"),
    [
        ("mirp", {"shape": True}),
        ("mirp", {"formats": ("dicomsr",)}),
        ("highdicom", {"formats": ("nifti", "dicomseg")}),
    ],
)
def test_a_missing_package_is_told_before_the_work(
    package, words, run, tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "find_spec", lambda name: None if name == package else 1)
    answers: Any = Answers(run, "one")
    monkeypatch.setattr(answers, "answers", None)  # would fail if they were asked for
    with pytest.raises(MissingExtraError, match=rf"{package} .* 'brainjax\[segm"):
        write_answers(answers, tmp_path / "out", **words)
    assert not (tmp_path / "out").exists()


def test_an_odd_error_of_one_case_is_listed_and_the_others_are_answered(
    run, tmp_path, monkeypatch
):
    def odd(answers, program, case, volumes, name):
        if name == "odd":
            raise ValueError("no such\n header")
        return name

    volume: Any = "a volume"

    def prepared(sources, recipe, **words):
        return (Prepared(source, None, "", volume) for source in sources)

    monkeypatch.setattr(Segment, "_outline", odd)
    monkeypatch.setattr(module, "make_program", lambda run, **words: None)
    monkeypatch.setattr(module, "prepare_scans", prepared)
    for name in ("odd", "good"):
        (tmp_path / f"{name}.nii").touch()
    answers = Segment(run, [str(tmp_path)])
    assert list(answers) == ["good"]
    odd_path = str(tmp_path / "odd.nii")
    assert answers.failures == [(odd_path, "ValueError: no such header")]


def test_the_command_line_writes_and_lists_what_it_refused(
    run, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(module, "load_run", lambda folder: run)
    write(tmp_path / "in" / "good.nii")
    (tmp_path / "in" / "bad.nii").write_bytes(b"nothing")
    out = tmp_path / "out"
    words = ["segment", "RUN", str(tmp_path / "in"), "--out", str(out)]
    assert main([*words, "--format", "csv", "--workers", "1"]) == 2
    said = capsys.readouterr()
    assert "bad.nii" in said.err
    assert "1 scan was refused" in said.err
    assert len(rows_of(out)) == 3
    assert not (out / "good_dseg.nii.gz").exists()
