"""What truth.json says of the arms, and that the plain cohort stays what it was."""

import csv
import itertools
import json

import nibabel as nib
import numpy as np
import pytest

from brainjax.phantom.arms import ARMS, COLUMNS
from brainjax.phantom.survival import c_index
from brainjax.phantom.truth_arms import cumulative_hazard

SUBJECTS = 96

PEOPLE = (
    "participant_id\tage\tsex\n"
    "sub-0001\t30\tM\nsub-0002\t38.1\tM\nsub-0003\t79.3\tM\nsub-0004\t73.2\tM\n"
)
"""Of seed 0, since the first version."""

MEANS = {
    (1, "T2w"): (43.6071, 68.6802),
    (2, "T1w"): (484.8865, 782.3927),
    (3, "T2w"): (41.2458, 67.1397),
    (4, "T1w"): (302.2634, 512.7258),
}
"""Mean and sd of what is stored, of (subject, sequence) of seed 0 at 6 mm."""


@pytest.fixture(scope="module")
def arms_8mm(tmp_path_factory, make_cohort):
    out = tmp_path_factory.mktemp("arms") / "cohort"
    options = {"subjects": SUBJECTS, "spacing": 8.0, "arms": tuple(ARMS)}
    make_cohort(out, sequences=("FLAIR", "T1CE"), **options)
    return out


@pytest.fixture(scope="module")
def targets(arms_8mm):
    return json.loads((arms_8mm / "truth.json").read_text())["targets"]


def read(path):
    return list(csv.DictReader(path.read_text().splitlines(), delimiter="\t"))


def test_the_plain_cohort_is_what_it_always_was(small):
    assert (small / "participants.tsv").read_text() == PEOPLE
    assert "arm" not in (small / "phantom.json").read_text()
    targets = json.loads((small / "truth.json").read_text())["targets"]
    assert set(targets) == {"age", "sex", "sequence"}
    for (number, sequence), (mean, spread) in MEANS.items():
        name = f"sub-{number:04d}"
        scan = nib.load(small / name / "anat" / f"{name}_{sequence}.nii.gz")
        values = scan.dataobj.get_unscaled().astype(float)
        # Not a hash: the last bit of exp and tanh is the processor's own.
        assert values.mean() == pytest.approx(mean, rel=1e-4)
        assert values.std() == pytest.approx(spread, rel=1e-4)


def test_every_target_is_stated_with_chance_and_oracle(targets):
    scores = {
        "mci": ("auc", 0.5),
        "idh": ("auc", 0.5),
        "survival_days": ("c_index", 0.5),
        "one_year_survival": ("auc", 0.5),
    }
    for target, (name, chance) in scores.items():
        row = targets[target][name]
        assert row["chance"] == chance
        assert 0.7 < row["oracle"] <= 1
        assert row["share"] < 0.75
    days = targets["stroke_days"]["mae"]
    assert days["oracle"] < 0.5 * days["chance"]
    assert days["share"] < 0.75
    assert set(targets) == {"age", "sex", "sequence", "stroke_days", *scores}


def test_labels_and_latents_agree(arms_8mm):
    people, hidden = read(arms_8mm / "participants.tsv"), read(arms_8mm / "latents.tsv")
    assert list(people[0]) == ["participant_id", "age", "sex", *COLUMNS]
    for person, latents in zip(people, hidden, strict=True):
        assert person["arm"] == latents["arm"]
        assert person["idh"] == latents["idh"]
        assert person["stroke_days"] == latents["stroke_days"]
        assert 0 <= float(latents["hippocampal_loss"]) <= 0.8
        if person["arm"] == "glioma":
            assert float(latents["rim_ml"]) > 0
            assert person["event"] in "01"
            assert int(person["survival_days"]) >= 1


def test_a_cohort_of_one_arm_has_null_where_a_class_is_missing(tmp_path, make_cohort):
    make_cohort(tmp_path / "c", arms=("mci",), spacing=8.0)
    targets = json.loads((tmp_path / "c" / "truth.json").read_text())["targets"]
    assert targets["mci"]["auc"] == {
        **dict.fromkeys(("oracle", "histogram", "share")),
        "chance": 0.5,
    }
    assert "idh" not in targets


def test_c_index_equals_counting_pairs():
    rng = np.random.default_rng(0)
    times, events = rng.integers(1, 9, 40).astype(float), rng.integers(0, 2, 40)
    risks = rng.integers(0, 5, 40).astype(float)
    right = pairs = 0.0
    for i, j in itertools.permutations(range(40), 2):
        later = times[i] < times[j] or (times[i] == times[j] and not events[j])
        if events[i] and later:
            pairs += 1
            right += (risks[i] > risks[j]) + 0.5 * (risks[i] == risks[j])
    assert c_index(times, events, risks) == pytest.approx(right / pairs)
    assert c_index(times, np.zeros(40), risks) is None


def test_cumulative_hazard_by_hand():
    times, events = np.array([1.0, 2, 2, 4]), np.array([1, 0, 1, 1])
    wanted = [1 / 4, 1 / 4 + 1 / 3, 1 / 4 + 1 / 3, 1 / 4 + 1 / 3 + 1]
    np.testing.assert_allclose(cumulative_hazard(times, events), wanted)
