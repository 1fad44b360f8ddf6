"""Recipes that lay a head over the template: each step, alone and together."""

import dataclasses
import functools
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.phantom import cohort
from brainjax.volume import aligned, placing
from brainjax.volume.aligned import Aligned, prepare_aligned
from brainjax.volume.mask import find_mask, millilitres
from brainjax.volume.native import bring_back
from brainjax.volume.placing import mask_on_scan
from brainjax.volume.recipe import (
    AlignedRecipe,
    make_recipe,
    prepare_volume,
    recipe_from_dict,
)
from brainjax.volume.scan import read_scan
from brainjax.volume.through import resample_through
from tests.volume.heads import move

MM = 4.0
"""Of the phantoms: each alignment takes some seconds even so."""

BRAIN = (2, 3, 4)
"""Labels of a phantom's grey and white matter and ventricles."""


def recipe(name: str = "mni_affine", **words) -> AlignedRecipe:
    """A row at 4 mm, without N4 unless it is asked for."""
    if name != "brainiac_like":
        words = {"spacing": MM, **words}
    made = make_recipe(name, **{"bias": "none", **words})
    assert isinstance(made, AlignedRecipe)
    return made


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """The folder of one phantom: T1w and T2w heads, and true labels."""
    out = tmp_path_factory.mktemp("phantom")
    words = {"spacing": MM, "head": True, "workers": 1, "progress": False}
    cohort(out, subjects=1, seed=5, sequences=("T1w", "T2w"), **words)
    return out / "sub-0001" / "anat"


@pytest.fixture(scope="module")
def head(people) -> Path:
    return people / "sub-0001_T1w.nii.gz"


@pytest.fixture(scope="module")
def stripped(people, head, tmp_path_factory) -> Path:
    """The same brain with nothing round it."""
    scan = read_scan(head)
    brain = np.isin(read_scan(people / "sub-0001_dseg.nii.gz").voxels, BRAIN)
    path = tmp_path_factory.mktemp("stripped") / "sub-0001_T1w.nii"
    return save(path, scan.voxels * brain, scan.affine)


@pytest.fixture(scope="module", autouse=True)
def remembered():
    """Aligns and strips each scan once for all tests: both depend on the scan alone."""
    with pytest.MonkeyPatch.context() as patch:
        align = remember(aligned.align_to_template)
        patch.setattr(aligned, "align_to_template", align)
        patch.setattr(placing, "align_to_template", align)
        patch.setattr(placing, "find_brain", remember(placing.find_brain))
        yield


def remember(function):
    """The function, asked once for each scan and setting."""
    known = {}

    @functools.wraps(function)
    def ask(voxels, affine, **words):
        key = (voxels.tobytes(), affine.tobytes(), repr(sorted(words.items())))
        if key not in known:
            known[key] = function(voxels, affine, **words)
        return known[key]

    return ask


@pytest.fixture(scope="module")
def laid(head) -> Aligned:
    """The head as the recipe gives it."""
    return prepare_aligned(head, recipe())


def save(path: Path, voxels, affine) -> Path:
    image = nib.Nifti1Image(np.asarray(voxels, np.float32), affine)
    image.set_sform(affine, 1)
    nib.save(image, path)
    return path


def dice(one: np.ndarray, other: np.ndarray) -> float:
    return 2 * np.count_nonzero(one & other) / (one.sum() + other.sum())


def test_a_head_fills_the_template(laid):
    codes, affine, provenance = laid.canonical
    assert (codes.shape, codes.dtype) == ((48, 48, 48), np.uint8)
    assert provenance["space"] == "ICBM152"
    assert provenance["recipe"] == recipe().hash
    assert provenance["mask"] == laid.kept.facts["mask"] == "own"
    assert laid.kept.facts["overlap"] > 0.9
    # The phantom's brain with the fluid round it is of 2.4 l, and that is said.
    (doubt,) = laid.kept.facts["doubts"]
    assert doubt.endswith("ml, adults have 600-2200")
    assert dice(codes > 0, template_on(affine, codes.shape)) > 0.9


def template_on(affine, shape) -> np.ndarray:
    template = placing.load_template(2.0)
    brain = template.brain.astype(np.float32)
    return resample_through(brain, template.affine, np.eye(4), affine, shape) > 0.5


@pytest.mark.slow
def test_a_head_moved_on_a_sheared_grid_gives_nearly_the_same(head, laid, tmp_path):
    scan = read_scan(head)
    shear = scan.affine.copy()
    shear[:3, 2] += 0.2 * shear[:3, 1]
    shear[:3, 3] -= 0.1 * scan.voxels.shape[2] * shear[:3, 1]
    voxels = resample_through(
        scan.voxels, scan.affine, np.eye(4), shear, scan.voxels.shape, order="spline"
    )
    away = move((12.0, -8.0, 15.0), (9.0, -14.0, 11.0))
    moved = save(tmp_path / "moved.nii", np.clip(voxels, 0, None), away @ shear)
    found = prepare_aligned(moved, recipe())
    one, other = laid.canonical.codes, found.canonical.codes
    both = (one > 0) & (other > 0)
    assert dice(one > 0, other > 0) > 0.96
    assert np.corrcoef(one[both], other[both])[0, 1] > 0.93
    back = np.linalg.inv(away) @ found.kept.to_scan
    centre = laid.canonical.affine @ [23.5, 23.5, 23.5, 1]
    assert np.linalg.norm((back - laid.kept.to_scan) @ centre) < MM / 2


@pytest.mark.parametrize(
    ("words", "mask", "space"),
    [
        ({"mask": "head"}, "head", "ICBM152"),
        ({"registration": "none"}, "own", "scan"),
        ({"registration": "none", "mask": "head"}, "head", "scan"),
        ({"session": False}, "own", "ICBM152"),
    ],
)
def test_every_step_can_be_left_out(head, laid, words, mask, space):
    codes, _, provenance = prepare_volume(head, recipe(**words))
    assert (provenance["mask"], provenance["space"]) == (mask, space)
    assert (space == "scan") == (provenance["to_scan"] == np.eye(4).tolist())
    same = np.array_equal(codes, laid.canonical.codes)
    assert same == ("session" in words)
    if mask == "head":
        assert (codes > 0).sum() > 1.5 * (laid.canonical.codes > 0).sum()


def test_what_needs_no_template_looks_for_none(head, monkeypatch):
    monkeypatch.setattr(aligned, "align_to_template", None)
    kept = prepare_aligned(head, recipe(registration="none", mask="head")).kept
    assert kept.facts["metric"] is None


def test_the_agreement_of_masks_names_both_and_its_sign(stripped):
    names = ["nonzero", "head"]
    settings = recipe(registration="none", mask=",".join(names))
    (row,) = prepare_aligned(stripped, settings).kept.facts["agreement"]
    assert [row["first"], row["second"]] == names
    scan = read_scan(stripped)
    ml = [find_mask(scan.voxels, scan.spacing, kind=name) for name in names]
    ml = [millilitres(mask_on_scan(mask, scan), scan.affine) for mask in ml]
    assert row["first_minus_second_ml"] == pytest.approx(ml[0] - ml[1])
    assert row["dice"] == pytest.approx(1.0, abs=0.2)


def test_a_rigid_way_keeps_sizes_and_an_affine_one_does_not(head, laid):
    rigid = prepare_aligned(head, recipe("mni_rigid"))
    turn = rigid.kept.to_scan[:3, :3]
    np.testing.assert_allclose(turn @ turn.T, np.eye(3), atol=1e-9)
    assert np.linalg.det(turn) > 0
    assert abs(np.linalg.det(laid.kept.to_scan[:3, :3]) - 1) > 0.01
    np.testing.assert_array_equal(rigid.canonical.affine, laid.canonical.affine)


def test_brainiac_like_gives_zscores_of_the_brain(head):
    codes, affine, provenance = prepare_volume(head, recipe("brainiac_like"))
    assert (codes.shape, codes.dtype) == ((96, 96, 96), np.float32)
    inside = codes != 0
    assert codes[0, 0, 0] == 0
    assert 0.05 < inside.mean() < 0.4
    assert abs(codes[inside].mean()) < 1e-4
    assert abs(codes[inside].std() - 1) < 1e-3
    np.testing.assert_allclose(np.diag(affine)[:3], np.array([197, 233, 189]) / 96)
    assert provenance["intensity_scale"] > 0


def test_n4_flattens_what_a_coil_bends(stripped, tmp_path):
    scan = read_scan(stripped)
    x, _, z = np.indices(scan.voxels.shape) / 60
    field = np.exp(1.5 * x - z)
    bent = save(tmp_path / "bent.nii", scan.voxels * field, scan.affine)
    flat = prepare_aligned(bent, recipe(bias="n4", registration="none"))
    assert flat.kept.facts["doubts"] == []
    plain = recipe(registration="none")
    as_is, true = (prepare_volume(path, plain).codes for path in (bent, stripped))

    def unlike(codes):
        inside = (codes > 0) & (true > 0)
        return 1 - np.corrcoef(codes[inside], true[inside])[0, 1]

    assert unlike(flat.canonical.codes) < 0.5 * unlike(as_is)


def test_a_scan_with_no_zero_for_n4_is_doubted_and_kept(head, tmp_path):
    scan = read_scan(head)
    zscores = (scan.voxels - scan.voxels.mean()) / scan.voxels.std()
    path = save(tmp_path / "z.nii", zscores, scan.affine)
    settings = {"mask": "head", "registration": "none"}
    mask = save(tmp_path / "m.nii", scan.voxels > 1000, scan.affine)
    kept = prepare_aligned(path, recipe(bias="n4", **settings), mask_path=mask).kept
    (doubt,) = kept.facts["doubts"]
    assert "wanted" in doubt
    assert "\n" not in doubt


def test_a_given_mask_is_the_brain(people, head, tmp_path):
    labels = read_scan(people / "sub-0001_dseg.nii.gz")
    brain = np.isin(labels.voxels, BRAIN)
    mask = save(tmp_path / "mask.nii", brain, labels.affine)
    made = prepare_aligned(head, recipe(), mask_path=mask)
    assert made.canonical.provenance["mask"] == "given"
    assert made.kept.brain.sum() == brain.sum()
    elsewhere = save(tmp_path / "small.nii", brain[4:-4], labels.affine)
    with pytest.raises(InputRefusedError, match="wanted a mask on the grid of"):
        prepare_volume(head, recipe(), mask_path=elsewhere)


def test_a_stripped_scan_keeps_its_own_mask(stripped):
    made = prepare_aligned(stripped, recipe(registration="none"))
    assert made.canonical.provenance["mask"] == "nonzero"
    assert dice(made.kept.brain, read_scan(stripped).voxels > 0) > 0.99
    # Its edge is as bright as the brain, not darkened by the zeros beyond.
    edge = made.canonical.codes[made.canonical.codes > 0]
    assert np.count_nonzero(edge == 1) < 0.02 * edge.size


def test_maps_come_back_to_the_scan_within_a_voxel(laid):
    affine, (codes, out_affine, facts) = laid.kept.affine, laid.canonical
    brain = laid.kept.brain
    places = np.indices(brain.shape).astype(np.float32)
    to_scan = np.array(facts["to_scan"])
    back = functools.partial(
        bring_back,
        affine=out_affine,
        to_scan=to_scan,
        scan_affine=affine,
        scan_shape=brain.shape,
    )
    mask = back((codes > 0).astype(np.uint8)) > 0
    assert dice(mask, brain) > 0.95
    for place in places:
        there = resample_through(place, affine, to_scan, out_affine, codes.shape)
        here = back(there, order="linear")
        assert np.abs(here - place)[brain & mask].max() < 1


def test_a_scan_beside_its_reference_takes_its_way_and_brain(people, head, laid):
    scan = read_scan(head)
    reference = placing.Reference(
        *(scan.voxels, scan.affine, laid.kept.brain),
        *(laid.canonical.affine, laid.kept.to_scan, str(head)),
    )
    other = people / "sub-0001_T2w.nii.gz"
    made = prepare_aligned(other, recipe(), reference=reference)
    assert made.canonical.provenance["mask"] == "session"
    assert made.kept.facts["reference"] == str(head)
    assert dice(made.canonical.codes > 0, laid.canonical.codes > 0) > 0.95
    gap = np.array(made.kept.facts["reference_to_scan"]) - np.eye(4)
    assert np.abs(gap[:3] @ [20, -20, 20, 1]).max() < MM / 2  # of one anatomy


SETTINGS = {
    "spacing": 2.0,
    "fov_mm": (160.0, 192.0, 160.0),
    "bias": "none",
    "registration": "none",
    "mask": "template,nonzero",
    "session": False,
}


def test_a_hash_changes_with_each_setting_and_survives_json():
    made = [make_recipe(n) for n in ("mni_affine", "mni_rigid", "brainiac_like")]
    made += [make_recipe("mni_affine", **{k: v}) for k, v in SETTINGS.items()]
    made += [dataclasses.replace(made[0], clip=(1.0, 99.0))]
    assert len({one.hash for one in made}) == len(made)
    for one in made:
        again = recipe_from_dict(one.to_dict())
        assert (again, again.hash) == (one, one.hash)


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("mni_affine", {"bias": "n5"}, "bias: wanted one of n4, none, got 'n5'"),
        ("mni_affine", {"registration": "ants"}, "registration: wanted one of affine"),
        ("mni_rigid", {"registration": "affine"}, "got affine; .* recipe mni_affine"),
        ("mni_affine", {"mask": "template,bet"}, "mask: wanted one of auto, .*'bet'"),
        ("brainiac_like", {"spacing": 2.0}, "spacing: wanted none for recipe"),
        ("canonical", {"registration": "none"}, "registration: wanted none for"),
        ("canonical", {"session": False}, "session: wanted none for recipe"),
    ],
)
def test_settings_that_make_no_recipe_are_refused(name, words, message):
    with pytest.raises(InputRefusedError, match=message):
        make_recipe(name, **words)
