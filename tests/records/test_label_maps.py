"""Label maps: beside their scans, on the grid of the volumes, and back again."""

import itertools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from brainjax.cli import main
from brainjax.errors import InputRefusedError
from brainjax.records import label_maps as label_maps_module
from brainjax.records import staging as staging_module
from brainjax.records.cases import open_cases
from brainjax.records.classes import UNKNOWN, make_classes
from brainjax.records.pairing import pair_label_maps
from brainjax.records.prepare import prepare
from brainjax.records.segmentations import Segmentations
from brainjax.records.sources import Source, describe, find_sources
from brainjax.records.store import RecordDataset, open_dataset
from brainjax.volume.label_maps import LabelMap, lay_over, read_label_map
from brainjax.volume.native import file_grid, to_file_grid
from brainjax.volume.recipe import make_recipe, prepare_volume
from tests.records.test_prepare import contents
from tests.volume import scans

RECIPE = make_recipe(spacing=8.0)
LEFT, RIGHT, BLOCK = 1, 2, 300


def ids() -> np.ndarray:
    """Left and right half of the body, and a block on its right front top, RAS."""
    inside = scans.body() > 0
    labels = np.where(inside, LEFT, 0)
    labels[15:][inside[15:]] = RIGHT
    labels[17:20, 22:26, 17:20] = BLOCK
    return labels.astype(np.int16)


def stored(voxels, matrix, axes, flips):
    """Gives an array and its affine in another of the 48 orientations."""
    turned = np.transpose(voxels, axes)
    affine = matrix.copy()
    affine[:3, :3] = matrix[:3, :3][:, axes]
    for axis, flip in enumerate(flips):
        if flip:
            affine[:3, 3] += affine[:3, axis] * (turned.shape[axis] - 1)
            affine[:3, axis] *= -1
            turned = np.flip(turned, axis)
    return np.ascontiguousarray(turned), affine


def nearest(labels, affine, to_scan, grid, shape):
    """A plain twin: nearest ids, and where two voxels are not equally near."""
    pull = np.linalg.inv(affine) @ to_scan @ grid
    at = np.indices(shape).reshape(3, -1)
    at = pull[:3, :3] @ at + pull[:3, 3:]
    sure = (np.abs(at - np.floor(at) - 0.5) > 2e-3).all(axis=0).reshape(shape)
    at = np.round(at).astype(int)
    size = np.array(labels.shape)[:, None]
    within = ((at >= 0) & (at < size)).all(axis=0)
    x, y, z = np.clip(at, 0, size - 1)
    return np.where(within, labels[x, y, z], 0).reshape(shape), sure


def canonical(voxels, affine):
    """Gives an array and its affine in RAS+."""
    image = nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
    return np.asarray(image.dataobj), image.affine


def run(sources, out, **words):
    return prepare(sources, out, RECIPE, progress=False, **words)


@pytest.fixture
def folder(tmp_path) -> Path:
    """Two subjects with a T1w, a FLAIR and a label map each, a third without a map."""
    for number, subject in enumerate("abc"):
        for gain, sequence in enumerate(("T1w", "FLAIR"), start=1 + 2 * number):
            body = (scans.body() * gain).astype(np.int16)
            scans.write(tmp_path / "in" / f"sub-{subject}_{sequence}.nii.gz", body)
        if subject != "c":
            labels, affine = stored(
                ids(), scans.affine(), (2, 0, 1), (True, False, True)
            )
            name = f"sub-{subject}_dseg.nii.gz"
            scans.write(tmp_path / "in" / name, labels, affine)
    return tmp_path / "in"


@pytest.fixture
def out(folder, tmp_path) -> Path:
    """The folder, prepared."""
    run(find_sources([folder]), tmp_path / "out", label_maps="dseg")
    return tmp_path / "out"


def test_label_maps_lie_on_the_grid_of_the_volumes(out, folder):
    dataset = open_dataset(out)
    labels = dataset.read_label_map(1)
    assert (labels.dtype, labels.shape) == (np.uint16, (24, 24, 24))
    affine = np.array(dataset.rows[1]["affine"])
    wanted, sure = nearest(ids(), scans.affine(), np.eye(4), affine, labels.shape)
    np.testing.assert_array_equal(labels[sure], wanted[sure])
    assert set(np.unique(labels)) == {0, LEFT, RIGHT, BLOCK}
    assert dataset.rows[1]["label_map_source"] == str(folder / "sub-a_dseg.nii.gz")
    assert [row["label_map"] is None for row in dataset.rows] == [False] * 4 + [
        True
    ] * 2
    assert len(list((out / "label_maps").iterdir())) == 4
    with pytest.raises(InputRefusedError, match=r"sub-c_FLAIR.*got none"):
        dataset.read_label_map(4)


def test_cases_and_class_numbers_come_from_disk(out):
    cases = open_cases(out, ("T1w", "FLAIR"))
    classes = make_classes({"left": (LEFT,), "right": (RIGHT, BLOCK)})
    dataset = Segmentations(cases, classes)
    assert dataset.labelled.tolist() == [True, True, False]
    both = dataset.read(0)
    assert both.shape == (3, 24, 24, 24)
    np.testing.assert_array_equal(both[:2], cases.read(0))
    np.testing.assert_array_equal(both[2], classes.of(cases.read_label_map(0)))
    assert (dataset.read(2)[2] == UNKNOWN).all()
    assert dataset.rows[0]["codes_sha256"] != cases.rows[0]["codes_sha256"]
    with pytest.raises(InputRefusedError, match="wanted a scan with a label map"):
        Segmentations(_only_c(out), classes)


def _only_c(out: Path) -> RecordDataset:
    dataset = open_dataset(out)
    return RecordDataset(out, dataset.recipe, dataset.rows[4:], dataset._shards)


def test_a_second_call_makes_nothing_and_two_workers_write_the_same(
    out, folder, tmp_path, monkeypatch
):
    sources = find_sources([folder])
    run(sources, tmp_path / "two", label_maps="dseg", workers=2)
    assert contents(tmp_path / "two") == contents(out)
    before = contents(out)
    monkeypatch.setattr(staging_module, "prepare_and_keep", None)
    monkeypatch.setattr(label_maps_module, "read_label_map", None)
    result = run(sources, out, label_maps="dseg")
    assert (result.done, result.reused, result.label_maps) == (6, 6, 4)
    assert contents(out) == before


def test_a_changed_label_map_is_done_again_without_its_volume(out, folder, monkeypatch):
    before = open_dataset(out).read_label_map(0)
    monkeypatch.setattr(staging_module, "prepare_and_keep", None)
    scans.write(folder / "sub-a_dseg.nii.gz", np.where(ids() == LEFT, 7, ids()))
    result = run(find_sources([folder]), out, label_maps="dseg")
    assert (result.reused, result.bad_maps) == (6, [])
    after = open_dataset(out).read_label_map(0)
    np.testing.assert_array_equal(after, np.where(before == LEFT, 7, before))
    assert len(list((out / "label_maps").iterdir())) == 4


def test_a_damaged_stored_label_map_is_named_and_mended(out, folder):
    row = open_dataset(out).rows[0]
    path = out / "label_maps" / row["label_map"]
    good = path.read_bytes()
    path.write_bytes(good[:100] + b"\xff" * 20 + good[120:])
    with pytest.raises(InputRefusedError, match=f"{path}: damaged label map"):
        open_dataset(out).read_label_map(0)
    run(find_sources([folder]), out, label_maps="dseg")
    assert path.read_bytes() == good


def test_a_bad_label_map_fails_alone(folder, tmp_path, capsys):
    scans.write(folder / "sub-b_dseg.nii.gz", ids() + 0.5)
    out = tmp_path / "out"
    words = ["--label-maps", "dseg", "--spacing", "8", "--workers", "1"]
    assert main(["prepare", str(folder), "--out", str(out), *words]) == 2
    printed = capsys.readouterr()
    assert "6 of 6 scans prepared" in printed.out
    assert "label maps of 2 scans" in printed.out
    assert printed.err.count("sub-b_dseg.nii.gz: wanted whole numbers") == 1
    assert "sub-b_dseg" in (out / "failures.tsv").read_text()
    known = [row["label_map"] is not None for row in open_dataset(out).rows]
    assert known == [True, True, False, False, False, False]


def test_without_label_maps_nothing_is_said_of_them(out, folder, tmp_path):
    run(find_sources([folder]), tmp_path / "bare")
    assert "label_map" not in open_dataset(tmp_path / "bare").rows[0]
    run(find_sources([folder]), out)  # what an earlier call took in, leaves
    assert contents(out) == contents(tmp_path / "bare")


def test_a_table_names_label_maps(folder, tmp_path):
    table = folder / "scans.csv"
    table.write_text(
        "path,subject,label_map\nsub-c_T1w.nii.gz,c,sub-a_dseg.nii.gz\n"
        "sub-a_T1w.nii.gz,a,n/a\n"
    )
    result = run(find_sources([table]), tmp_path / "out")
    assert (result.done, result.label_maps) == (2, 1)
    table.write_text("path,subject,label_map\nsub-c_T1w.nii.gz,c,nothing.nii.gz\n")
    with pytest.raises(InputRefusedError, match="column label_map: wanted a file"):
        find_sources([table])


def test_recipes_of_float_values_take_no_label_maps(folder, tmp_path):
    sources, recipe = find_sources([folder]), make_recipe("brainiac_v2")
    with pytest.raises(InputRefusedError, match="wanted a recipe of uint8 codes"):
        prepare(sources, tmp_path / "o", recipe, label_maps="dseg")


@pytest.mark.parametrize(
    ("files", "scan", "wanted"),
    [
        (["sub-1_dseg"], "sub-1_T1w", "sub-1_dseg"),
        (["sub-1_dseg", "sub-1_FLAIR_dseg"], "sub-1_FLAIR", "sub-1_FLAIR_dseg"),
        (["sub-1_dseg", "sub-1_FLAIR_dseg"], "sub-1_T1w", "sub-1_dseg"),
        (["sub-10_dseg"], "sub-1_T1w", None),
        (["sub-1_dseg"], "sub-1_run-2_T1w", "sub-1_dseg"),
        (["sub-1_ses-2_dseg"], "sub-1_T1w", None),
        (["sub-1_ses-1_dseg", "sub-1_ses-2_dseg"], "sub-1_ses-2_T1w", 1),
        (["p7_dseg", "p8_dseg"], "p7_T1POST", "p7_dseg"),
        (["p7_manual_dseg"], "p7_FLAIR", "p7_manual_dseg"),
        (["dseg"], "FLAIR", "dseg"),
        (["p8_dseg"], "T1_p7", None),
        (["p7_DSEG", "p7_mask"], "p7_T1", "p7_DSEG"),
        (["scan_002_dseg"], "scan_001", None),
        (["scan_002_dseg", "scan_003_dseg"], "scan_001", None),
        (["scan_001_manual_dseg", "scan_002_dseg"], "scan_001", 0),
        (["p7_followup_T1_dseg"], "p7_T1", None),
        (["p7_T1_2_dseg"], "p7_T1", None),
        (["p7_T1_mni_rater2_dseg"], "p7_T1_mni", 0),
        (["sub-1_dseg"], "sub-1_PDw", 0),
        (["sub-1_run-2_T1w_dseg"], "sub-1_T1w", None),
        (["sub-1_run-2_T1w_dseg"], "sub-1_run-1_T1w", None),
        (["sub-1_space-MNI152_dseg"], "sub-1_T1w", None),
        (["sub-1_space-MNI152_dseg"], "sub-1_bold", None),
        (["sub-1_dseg"], "sub-1_space-MNI152_T1w", None),
        (["sub-1_space-MNI152_desc-x_dseg"], "sub-1_space-MNI152_T1w", 0),
        (["sub-1_space-T1w_desc-x_dseg"], "sub-1_T1w", 0),
        (["sub-1_space-T1w_desc-x_dseg"], "sub-1_FLAIR", None),
        (["sub-1_T1w_dseg"], "sub-1_FLAIR", 0),
    ],
)
def test_names_pair_label_maps_with_scans(files, scan, wanted, tmp_path):
    wanted = files[wanted] if isinstance(wanted, int) else wanted
    for name in [*files, scan, "x_T1w", "x_dseg"]:
        (tmp_path / f"{name}.nii.gz").touch()
    found = [describe(tmp_path / f"{name}.nii.gz") for name in (scan, "x_T1w")]
    one, other = pair_label_maps(found, "dseg").sources
    assert (one.label_map and Path(one.label_map).name) == (
        wanted and f"{wanted}.nii.gz"
    )
    assert other.label_map == str(tmp_path / "x_dseg.nii.gz")


def test_a_scan_with_two_label_maps_has_none_and_is_listed(folder, tmp_path):
    for name in ("sub-a_manual_dseg", "sub-a_rater2_dseg"):
        scans.write(folder / f"{name}.nii.gz", ids())
    (folder / "sub-a_dseg.nii.gz").unlink()
    result = run(find_sources([folder]), tmp_path / "out", label_maps="dseg")
    assert (result.done, result.label_maps, len(result.bad_maps)) == (6, 2, 2)
    reason = result.bad_maps[0][1]
    assert "got sub-a_manual_dseg.nii.gz, sub-a_rater2_dseg.nii.gz" in reason


def test_words_that_name_no_label_map_are_refused(folder):
    sources = [Source(str(folder / "sub-c_T1w.nii.gz"), "c")]
    with pytest.raises(InputRefusedError, match=r"got lesionz; did you mean lesion"):
        pair_label_maps(sources, "lesionz")
    with pytest.raises(InputRefusedError, match="got none for 1 scans"):
        pair_label_maps(sources, "aseg")


def many_ids() -> np.ndarray:
    return np.arange(ids().size).reshape(ids().shape) % 2000


@pytest.mark.parametrize(
    ("voxels", "message"),
    [
        (ids() * 0.5, "wanted whole numbers, as of a label map, got 0.5"),
        (-ids(), "wanted ids of 0 to 65535, got -300 to 0"),
        (ids() * 1000.0, "wanted ids of 0 to 65535, got 0 to 300000"),
        (ids() * 0, "wanted an image, got the constant 0"),
        (np.stack([ids()] * 2, -1), "wanted one 3D volume, got 2 frames"),
        (many_ids(), "wanted at most 1000 ids, as of a label map, got 2000"),
    ],
)
def test_what_is_no_label_map_is_refused(voxels, message, tmp_path):
    path = scans.write(tmp_path / "a_dseg.nii.gz", np.asarray(voxels, np.float32))
    with pytest.raises(InputRefusedError, match=f"{path}: {message}"):
        read_label_map(path)


def test_whole_numbers_of_any_type_are_ids(tmp_path):
    header_scaled = nib.Nifti1Image(ids().astype(np.int16), scans.affine())
    header_scaled.header.set_slope_inter(2.0, 0.0)
    nib.save(header_scaled, tmp_path / "scaled.nii.gz")
    float64 = scans.write(tmp_path / "float.nii.gz", ids().astype(np.float64))
    np.testing.assert_array_equal(read_label_map(float64).ids, ids())
    assert read_label_map(tmp_path / "scaled.nii.gz").ids.max() in (BLOCK, 2 * BLOCK)


def test_a_label_map_of_another_place_is_refused(tmp_path):
    scan = scans.write(tmp_path / "a_T1w.nii.gz")
    volume = prepare_volume(scan, RECIPE)
    away = scans.affine() + np.array([[0, 0, 0, 400.0], *[[0] * 4] * 3])
    path = scans.write(tmp_path / "a_dseg.nii.gz", ids(), away)
    with pytest.raises(InputRefusedError, match=f"{path}: wanted labels over its scan"):
        lay_over(read_label_map(path), volume.codes, volume.affine, np.eye(4))


def test_a_transform_is_gone_through_in_one_go():
    """Oblique, finer and cut off: as the plain twin, wherever one voxel is nearest."""
    to_scan = np.eye(4)
    to_scan[:3, :3] = Rotation.from_euler(
        "xyz", (10, -20, 15), degrees=True
    ).as_matrix()
    to_scan[:3, 3] = 5.0, -7.0, 3.0
    grid = np.diag([3.0, 4.0, 3.5, 1.0])
    grid[:3, 3] = -60.0, -60.0, -50.0
    codes = np.ones((36, 30, 32), np.uint8)
    labels = LabelMap(ids().astype(np.uint16), scans.affine(), "map")
    laid = lay_over(labels, codes, grid, to_scan)
    wanted, sure = nearest(ids(), scans.affine(), to_scan, grid, codes.shape)
    np.testing.assert_array_equal(laid.ids[sure], wanted[sure])
    assert sure.mean() > 0.98
    assert 0 < laid.outside < 0.5


SPACINGS = (4.0, 6.0, 8.0)
"""Finer than the scan's 5 x 4.5 x 6 mm, between, and coarser."""

ORIENTATIONS = list(
    itertools.product(
        itertools.permutations(range(3)), itertools.product((False, True), repeat=3)
    )
)


@pytest.mark.parametrize("spacing", SPACINGS)
def test_there_and_back_in_all_48_orientations(spacing, tmp_path):
    """Dice 1 where volumes are finer than scans; landmarks on their own side."""
    recipe = make_recipe(spacing=spacing, fov_mm=(192.0, 192.0, 192.0))
    first = None
    for axes, flips in ORIENTATIONS:
        turn = axes, flips
        scan = scans.write(
            tmp_path / "a_T1w.nii.gz", *stored(scans.body(), scans.affine(), *turn)
        )
        path = scans.write(
            tmp_path / "a_dseg.nii.gz", *stored(ids(), scans.affine(), *turn)
        )
        volume = prepare_volume(scan, recipe)
        laid = lay_over(read_label_map(path), volume.codes, volume.affine, np.eye(4))
        first = laid.ids if first is None else first
        np.testing.assert_array_equal(laid.ids, first)
        back = to_file_grid(laid.ids, volume.affine, np.eye(4), file_grid(scan))
        check_back(back, stored(ids(), scans.affine(), *turn), exact=spacing < 4.5)


def check_back(back, wanted, *, exact: bool) -> None:
    """Compares ids on the grid of a file with those that were sent."""
    labels, affine = wanted
    assert back.shape == labels.shape
    if exact:
        np.testing.assert_array_equal(back, labels)
    for number, least in ((LEFT, 0.9), (RIGHT, 0.9), (BLOCK, 0.6)):
        here, there = back == number, labels == number
        assert 2 * (here & there).sum() / (here.sum() + there.sum()) >= least
        places = [affine @ [*np.argwhere(m).mean(axis=0), 1] for m in (here, there)]
        assert np.linalg.norm(places[0] - places[1]) < 4.0, number
        middle = (affine @ [*(np.array(labels.shape) - 1) / 2, 1])[0]
        assert (places[0][0] > middle) == (number != LEFT)


def test_real_label_maps_go_there_and_back(sample_scans, tmp_path):
    """IXI at 2 mm: every id that the map has, over the brain it was drawn on."""
    scan = sample_scans / "ixi" / "sub-IXI013_T1w.nii.gz"
    recipe = make_recipe("raw_head", spacing=2.0, fov_mm=(192.0, 224.0, 192.0))
    sources = find_sources([scan])
    prepare(sources, tmp_path, recipe, label_maps="dlmuse", progress=False)
    dataset = open_dataset(tmp_path)
    labels = dataset.read_label_map(0)
    brain = labels > 0
    assert (dataset.read(0)[brain] > 0).mean() > 0.98
    row = dataset.rows[0]
    grid = file_grid(scan)
    back = to_file_grid(labels, np.array(row["affine"]), np.eye(4), grid)
    back, _ = canonical(back, grid.affine)
    true = read_label_map(row["label_map_source"]).ids
    overlap = (
        2 * ((back > 0) & (true > 0)).sum() / ((back > 0).sum() + (true > 0).sum())
    )
    assert overlap > 0.97


@pytest.mark.slow
def test_lesions_go_over_the_template_and_back(sample_scans, tmp_path):
    """Through a registration: bright in the FLAIR there, in their places back home."""
    scan = sample_scans / "open_ms" / "patient07" / "patient07_FLAIR.nii.gz"
    recipe = make_recipe("mni_affine", bias="none")
    prepare(
        find_sources([scan]), tmp_path, recipe, label_maps="lesions", progress=False
    )
    dataset = open_dataset(tmp_path)
    codes, lesions = dataset.read(0), dataset.read_label_map(0) > 0
    assert codes[lesions].mean() > 1.2 * codes[codes > 0].mean()
    row = dataset.rows[0]
    grid, to_scan = file_grid(scan), np.array(row["to_scan"])
    back = to_file_grid(lesions, np.array(row["affine"]), to_scan, grid) > 0
    back, _ = canonical(back.astype(np.uint8), grid.affine)
    true = read_label_map(row["label_map_source"]).ids
    assert 2 * (back & true).sum() / (back.sum() + true.sum()) > 0.8
