"""Class numbers of raw ids, and volumes with their label maps as one array."""

import logging

import numpy as np
import pytest

from brainjax.data.resident import load_resident
from brainjax.errors import InputRefusedError
from brainjax.records.cases import Cases
from brainjax.records.classes import UNKNOWN, make_classes
from brainjax.records.segmentations import HeldScans, Segmentations

TUMOUR = {"core": (9, 11), "whole": (9, 10, 11)}


def held(sequences=2) -> HeldScans:
    """Three scans of 4x6x5 with ids 0 to 12, the last without a label map."""
    rng = np.random.default_rng(0)
    shape = (4, 6, 5)
    volumes = rng.integers(0, 256, (3, *([sequences] if sequences else []), *shape))
    maps = [rng.integers(0, 13, shape).astype(np.uint16) for _ in range(2)]
    return HeldScans(volumes.astype(np.uint8), [*maps, None])


def test_ids_of_one_class_each_count_from_1():
    classes = make_classes({"grey": (2, 700), "white": (3,)}, ignore=(9,))
    found = classes.of(np.array([[[0, 1, 2, 700, 3, 9, 65535]]], np.uint16))
    assert found.ravel().tolist() == [0, 0, 1, 1, 2, UNKNOWN, 0]
    assert classes.regions.tolist() == [[False] * 2, [True, False], [False, True]]


def test_overlapping_regions_have_a_number_for_each_combination():
    classes = make_classes(TUMOUR, overlapping=True)
    numbers = classes.numbers[[0, 1, 9, 10, 11]]
    assert numbers[0] == numbers[1] == 0
    assert numbers[2] == numbers[4]
    inside = classes.regions[numbers]
    assert inside.tolist() == [[0, 0], [0, 0], [1, 1], [0, 1], [1, 1]]
    assert len(classes.regions) == 3


def test_any_is_every_id_but_the_background():
    numbers = make_classes({"brain": "any"}).numbers
    assert numbers[0] == 0
    assert (numbers[1:] == 1).all()


@pytest.mark.parametrize(
    ("classes", "words", "message"),
    [
        ({}, {}, "wanted 1 class or more, got none"),
        (TUMOUR, {}, "wanted id 9 in one class, got it in core and whole"),
        ({"a": ()}, {}, "class a: wanted ids of 1 to 65535, got none"),
        ({"a": (0, 1)}, {}, "class a: wanted ids of 1 to 65535, got"),
        ({"a": "all"}, {}, "class a: wanted ids or 'any', got 'all'"),
        ({"a": (1,)}, {"ignore": (1,)}, "ignore: wanted ids of no class, got 1"),
        ({str(i): (i,) for i in range(1, 256)}, {}, "wanted at most 254 .*got 255"),
    ],
)
def test_refused_classes(classes, words, message):
    with pytest.raises(InputRefusedError, match=message):
        make_classes(classes, **words)


@pytest.mark.parametrize("sequences", [0, 1, 2])
def test_volumes_and_class_numbers_are_one_array(sequences):
    scans = held(sequences)
    classes = make_classes(TUMOUR, overlapping=True)
    dataset = Segmentations(scans, classes)
    both = dataset.read(1)
    assert (both.dtype, both.shape) == (np.uint8, (max(sequences, 1) + 1, 4, 6, 5))
    np.testing.assert_array_equal(np.squeeze(both[:-1]), np.squeeze(scans.read(1)))
    np.testing.assert_array_equal(both[-1], classes.of(scans.read_label_map(1)))
    assert dataset.labelled.tolist() == [True, True, False]
    assert (dataset.read(2)[-1] == UNKNOWN).all()
    resident = load_resident(dataset, np.arange(3))
    np.testing.assert_array_equal(resident.read(1), both)


def test_a_data_set_without_label_maps_is_refused(tiny_prepared):
    from brainjax.records.store import open_dataset

    with pytest.raises(InputRefusedError, match="wanted a scan with a label map"):
        Segmentations(open_dataset(tiny_prepared), make_classes({"brain": "any"}))


def moved(*voxels: float) -> Cases:
    """Two subjects' T1w and FLAIR with label maps, the FLAIR by so many voxels off."""
    scans = held(0)
    row = {**scans.rows[0], "session": None}
    scans.rows = []
    for subject, away in zip("ab", voxels, strict=True):
        for sequence, shift in (("T1w", 0.0), ("FLAIR", 2.0 * away)):
            affine = np.diag([2.0, 2.0, 2.0, 1.0])
            affine[1, 3] = shift
            named = {"subject": subject, "sequence": sequence}
            source = f"{subject}_{sequence}.nii"
            named |= {"source": source, "affine": affine.tolist()}
            scans.rows.append(row | named)
    return Cases(scans, ("T1w", "FLAIR"))


def test_scans_of_a_case_that_lie_apart_are_left_out_by_name(caplog):
    classes = make_classes({"lesion": "any"})
    with caplog.at_level(logging.WARNING, logger="brainjax"):
        assert Segmentations(moved(0.4, -0.4), classes).labelled.all()
        assert not caplog.messages
        found = Segmentations(moved(0.4, 0.6), classes)
    assert found.labelled.tolist() == [True, False]
    (line,) = caplog.messages
    assert "leaving out 1 of 2 cases" in line
    assert "b (b_FLAIR.nii is 0.6 voxels away from b_T1w.nii); prepare them" in line
    assert (found.read_classes(1) == UNKNOWN).all()
    message = r"none of 2, such as a \(a_FLAIR.nii is 1.0 voxels .* that aligns them"
    with pytest.raises(InputRefusedError, match=message):
        Segmentations(moved(1.0, 2.0), classes)
