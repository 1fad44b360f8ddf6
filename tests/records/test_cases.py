"""Cases: scans of one subject and session together; what is missing is zeros."""

import logging
import pickle

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.records.cases import Cases, open_cases
from tests.conftest import write_scan

SCANS = (
    *("sub-1_T1w", "sub-1_FLAIR"),
    *("sub-2_ses-a_FLAIR", "sub-2_ses-b_T1w", "sub-2_ses-b_FLAIR"),
    *("sub-3_T2w", "sub-4_run-1_T1w", "sub-4_run-2_T1w"),
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """Four subjects, of whom one has neither sequence and one has T1w twice."""
    from brainjax.records.prepare import prepare
    from brainjax.records.sources import find_sources
    from brainjax.volume.recipe import make_recipe

    folder = tmp_path_factory.mktemp("cases")
    for seed, name in enumerate(SCANS):
        write_scan(folder / "scans" / f"{name}.nii.gz", seed=seed)
    table = folder / "participants.tsv"
    table.write_text("participant_id\tage\n1\t30\n2\t40\n3\t50\n4\tn/a\n")
    out = folder / "prepared"
    sources = find_sources([folder / "scans"])
    recipe = make_recipe(spacing=16.0)
    prepare(sources, out, recipe, labels=table, progress=False)
    return out


def test_a_case_is_a_subject_and_session_with_any_of_the_sequences(prepared):
    cases = open_cases(prepared, ("FLAIR", "T1w"))
    assert isinstance(cases, Cases)
    found = [(r["subject"], r["session"], r["sequence"]) for r in cases.rows]
    assert found == [
        ("1", None, "FLAIR+T1w"),
        ("2", "a", "FLAIR"),
        ("2", "b", "FLAIR+T1w"),
        ("4", None, "T1w"),
    ]
    wanted = [[True, True], [True, False], [True, True], [False, True]]
    np.testing.assert_array_equal(cases.present, wanted)
    assert cases.subject_ids.tolist() == [0, 1, 1, 2]
    assert cases.labels("age") == [30, 40, 40, None]
    assert cases.labels("subject") == ["1", "2", "2", "4"]
    assert cases.labels("sequence")[1] == "FLAIR"


def test_volumes_are_those_of_the_scans_and_zeros_where_one_is_missing(prepared):
    cases = pickle.loads(pickle.dumps(open_cases(prepared, ["FLAIR", "T1w"])))
    scans = open_cases(prepared)
    by_source = {row["source"]: i for i, row in enumerate(scans.rows)}
    for number, row in enumerate(cases.rows):
        volumes = cases.read(number)
        assert volumes.shape == (2, *scans.shape)
        assert volumes.dtype == np.uint8
        parts = iter(row["source"].split("+"))
        for volume, there in zip(volumes, cases.present[number], strict=True):
            wanted = scans.read(by_source[next(parts)]) if there else 0
            np.testing.assert_array_equal(volume, np.broadcast_to(wanted, volume.shape))
            assert volume.any() == there


def test_of_two_scans_the_first_counts_and_one_warning_says_so(prepared, caplog):
    with caplog.at_level(logging.WARNING, "brainjax"):
        cases = open_cases(prepared, ("FLAIR", "T1w"))
    assert [r.getMessage() for r in caplog.records] == [
        f"{prepared}: leaving out 1 scans of a sequence that their session has already"
    ]
    assert cases.rows[3]["source"].endswith("sub-4_run-1_T1w.nii.gz")


def test_one_sequence_gives_its_scans_and_none_gives_all(prepared):
    flair = open_cases(prepared, ("FLAIR",))
    assert len(flair) == 3
    assert flair.read(0).shape == flair.shape
    assert len(open_cases(prepared)) == len(SCANS)


def test_the_hash_of_a_case_says_which_sequence_is_missing(prepared):
    one, other = (
        open_cases(prepared, names).rows[3]["codes_sha256"]
        for names in (("FLAIR", "T1w"), ("T1w", "FLAIR"))
    )
    assert one != other


@pytest.mark.parametrize(
    ("sequences", "wanted"),
    [
        (("FLAIR", "T1"), "wanted scans of sequence T1, .* did you mean T1w"),
        (("T1w", "T1w"), "wanted each once, got T1w, T1w"),
    ],
)
def test_sequences_that_cannot_be_are_refused(prepared, sequences, wanted):
    with pytest.raises(InputRefusedError, match=wanted):
        open_cases(prepared, sequences)


def test_scans_of_a_case_must_agree(prepared):
    cases = open_cases(prepared, ("FLAIR", "T1w"))
    assert isinstance(cases, Cases)
    cases.scans.rows[0]["labels"] = {"age": 31}
    with pytest.raises(InputRefusedError, match=r"wanted one age of .*, got 3[01], 3"):
        cases.labels("age")
