"""Flags: what stands out is named with its number; what does not is left in peace."""

import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.records.flags import MEASURES, flag, group_rows, robust_z
from brainjax.records.qc_table import MISSING, PLACES, REASONS, write_qc_table
from brainjax.records.tables import read_table
from brainjax.volume.quality import measure


def rows(count=40, sequence="T1w", seed=0, **measures) -> list[dict]:
    """Scans alike but for a little chance; `measures` are mean and deviation."""
    rng = np.random.default_rng(seed)
    measures = {"snr": (20, 2), "brain_ml": (1400, 100), **measures}
    found = []
    for number in range(count):
        values = {
            # Never further out than 2.5 deviations.
            name: mean + sd * float(np.clip(rng.normal(), -2.5, 2.5))
            for name, (mean, sd) in measures.items()
        }
        labels = {"subject": f"sub-{number:02d}", "sequence": sequence}
        found.append({**labels, "key": f"k{number}", **values})
    return found


def test_the_measures_are_those_that_are_measured():
    nothing = np.zeros((9, 9, 9), bool)
    found = measure(np.zeros((9, 9, 9), np.float32), np.eye(4), nothing, nothing)
    assert set(found) == set(MEASURES)


def test_scans_alike_are_not_flagged():
    assert flag(rows()) == [()] * 40
    assert flag([]) == []


def test_an_outlier_is_named_with_its_number_and_z():
    scans = rows()
    scans[7]["snr"] = 4.1
    flags = flag(scans)
    values = np.array([scan["snr"] for scan in scans])
    z = (4.1 - np.median(values)) / (
        1.4826 * np.median(np.abs(values - np.median(values)))
    )
    assert flags[7] == (f"snr 4.1 (z {z:.1f})",)
    assert z < -5
    assert sum(map(bool, flags)) == 1


@pytest.mark.parametrize(("name", "worse"), [("snr", 4.0), ("ghosting", 0.9)])
def test_only_the_bad_side_is_flagged(name, worse):
    known = {"snr": (20, 2), "ghosting": (0.5, 0.02)}
    scans = rows(**known)
    middle = known[name][0]
    scans[3][name] = worse
    scans[4][name] = 2 * middle - worse
    flags = flag(scans)
    assert flags[3]
    assert not flags[4]


def test_both_sides_of_a_volume_are_flagged_and_limits_need_no_other_scan():
    scans = rows()
    scans[1]["brain_ml"], scans[2]["brain_ml"] = 700, 2310
    flags = flag(scans)
    assert flags[1][0].startswith("brain_ml 700 (z -")
    assert flags[2][0].startswith("brain_ml 2310 (limit 2200, z ")
    assert flag(scans[2:3]) == [("brain_ml 2310 (limit 2200)",)]
    lost = {"overlap": 0.52, "metric": 0.08, "cut_off_mm": 55.0}
    wanted = ("overlap 0.52 (limit 0.7)", "metric 0.08 (limit 0.2)")
    assert flag([lost]) == [(*wanted, "cut_off_mm 55 (limit 30)")]


def test_sequences_are_held_against_their_own():
    scans = rows() + rows(12, "FLAIR", snr=(60, 2))
    scans[45]["snr"] = 20  # what is usual in T1w
    flags = flag(scans)
    assert flags[45][0].startswith("snr 20 (z -")
    assert sum(map(bool, flags)) == 1


def test_few_scans_of_a_sequence_are_held_against_each_other():
    sequences = ["T1w"] * 10 + ["FLAIR", None, "FLAIR"] + ["T2w"] * 9
    assert group_rows(sequences) == [[*range(10)], [*range(10, 22)]]
    few = rows(9)
    few[0]["snr"] = 0.1
    assert flag(few) == [()] * 9


def test_what_is_missing_counts_nowhere():
    scans = rows()
    for scan in scans[:30]:
        scan["snr"] = None
    scans[35]["snr"] = 0.5
    flags = flag(scans)
    assert flags[35]
    assert sum(map(bool, flags)) == 1
    del scans[30]["snr"]  # nine are left
    assert flag(scans) == [()] * 40


def test_a_small_difference_from_scans_all_alike_is_no_reason():
    scans = rows(clipped=(0, 0), cut_off_mm=(0, 0))
    scans[0]["clipped"], scans[1]["clipped"] = 0.001, 0.2
    flags = flag(scans)
    assert flags[0] == ()
    assert flags[1][0].startswith("clipped 0.2 (z ")


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_z_does_not_know_units(scale):
    values = np.random.default_rng(0).normal(10, 1, 30)
    plain = robust_z(values, MEASURES["snr"])
    np.testing.assert_allclose(robust_z(scale * values, MEASURES["snr"]), plain)
    np.testing.assert_allclose(plain.std(), 1, atol=0.35)


def test_one_outlier_does_not_hide_another():
    scans = rows(20)
    scans[0]["snr"], scans[1]["snr"] = -1e9, 5.0
    flags = flag(scans)
    assert flags[0]
    assert flags[1]


def test_the_table_comes_back(tmp_path):
    scans = rows(2)
    hostile = 'a "name"\twith\nbreaks\u2028 and \x1c more'
    scans[0] |= {"source": hostile, "flags": ("snr 1 (z -9.0)", "b"), "doubts": ("c",)}
    scans[1] |= {"source": "b.nii\udcff", "snr": None, "unknown": 3}
    path = write_qc_table(tmp_path / "qc.tsv", scans)
    assert [file.name for file in tmp_path.iterdir()] == ["qc.tsv"]
    table = read_table(path)
    assert table.columns == (*PLACES, *MEASURES, *REASONS)
    first, second = [row for _, row in table.rows]
    assert first["source"] == 'a "name" with breaks  and   more'
    assert first["flags"] == "snr 1 (z -9.0); b"
    assert float(first["brain_ml"]) == pytest.approx(scans[0]["brain_ml"], rel=1e-5)
    assert second["source"] == "b.nii\\udcff"
    assert second["snr"] == second["flags"] == second["session"] == MISSING
    before = path.read_bytes()
    assert write_qc_table(path, scans).read_bytes() == before


def test_a_table_that_cannot_be_written_is_one_line(tmp_path):
    with pytest.raises(InputRefusedError, match=r"qc\.tsv: wanted a file to write"):
        write_qc_table(tmp_path / "absent" / "qc.tsv", rows(1))
