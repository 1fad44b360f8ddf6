"""No mean brightness solves age; whoever looks at the place does better."""

import csv
import json

import nibabel as nib
import numpy as np
import pytest
from scipy import ndimage
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_val_predict

SUBJECTS = 120


@pytest.fixture(scope="module")
def cohort_4mm(tmp_path_factory, make_cohort):
    out = tmp_path_factory.mktemp("many") / "cohort"
    sequences = ("T1w", "FLAIR")
    make_cohort(out, subjects=SUBJECTS, spacing=4.0, sequences=sequences, workers=2)
    return out


@pytest.fixture(scope="module")
def targets(cohort_4mm):
    return json.loads((cohort_4mm / "truth.json").read_text())["targets"]


def test_a_histogram_stays_below_half_way_to_the_oracle_for_age(targets):
    for score in (targets["age"]["mae"], targets["age"]["r2"]):
        assert score["share"] < 0.5


def test_the_oracle_reads_age_well_but_not_perfectly(targets):
    assert 2.5 < targets["age"]["mae"]["oracle"] < 5.0
    assert targets["age"]["r2"]["oracle"] > 0.9


def test_sex_is_partly_and_sequence_wholly_readable(targets):
    assert (
        0.7
        < targets["sex"]["auc"]["histogram"]
        <= targets["sex"]["auc"]["oracle"] + 0.05
    )
    assert targets["sex"]["auc"]["oracle"] < 0.98
    assert targets["sequence"]["accuracy"]["histogram"] > 0.9


def coarse(path):
    """A scan at 8 mm, z-scored inside and centred: no registration beyond that."""
    image = nib.as_closest_canonical(nib.load(path))
    values = image.get_fdata(dtype=np.float32)
    mask = values > 0
    values = np.where(mask, (values - values[mask].mean()) / values[mask].std(), 0)
    values = ndimage.gaussian_filter(values, 0.8)
    half = np.array([80, 96, 80]) / 4
    centre = np.array(ndimage.center_of_mass(mask))
    at = np.stack(np.meshgrid(*(np.arange(-h, h, 2) for h in half), indexing="ij"))
    return ndimage.map_coordinates(values, at + centre[:, None, None, None], order=1)


def test_a_linear_reader_of_places_beats_the_histogram(cohort_4mm, targets):
    lines = (cohort_4mm / "participants.tsv").read_text().splitlines()
    rows = list(csv.DictReader(lines, delimiter="\t"))
    ages = np.array([float(row["age"]) for row in rows])
    paths = [
        cohort_4mm / r["participant_id"] / "anat" / f"{r['participant_id']}_T1w.nii.gz"
        for r in rows
    ]
    scans = np.stack([coarse(path).ravel() for path in paths])
    guess = cross_val_predict(RidgeCV(np.logspace(1, 5, 9)), scans, ages, cv=KFold(5))
    mae = np.abs(guess - ages).mean()
    assert mae < 0.75 * targets["age"]["mae"]["histogram"]
