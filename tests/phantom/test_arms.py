"""Diseases lie where, look as and end when the equations say."""

import nibabel as nib
import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from brainjax.errors import InputRefusedError
from brainjax.phantom import glioma, mci, stroke
from brainjax.phantom.anatomy import make_grid
from brainjax.phantom.arms import ARMS, COLUMNS, labels_of, latents_of, member
from brainjax.phantom.contrast import CONTRASTS, LABELS, make_labels
from brainjax.phantom.effects import make_anatomy
from brainjax.phantom.latents import draw_subject
from brainjax.phantom.survival import SCALE_DAYS, SHAPE, draw_survival, one_year

MANY = 1500
ALL = tuple(ARMS)


def people(arm, seed=5):
    return [draw_subject(seed, number, arm) for number in range(1, MANY)]


def anatomy_of(atlas, arm, number=1):
    grid = make_grid(6.0, head=False)
    return make_anatomy(draw_subject(0, number, arm), atlas, grid)


def test_arms_take_turns_and_know_their_own_labels_only():
    subjects = [member(0, number, ALL) for number in range(1, 9)]
    assert [s.arm for s in subjects] == [*ALL, *ALL]
    known = {
        "healthy": {"arm", "mci"},
        "mci": {"arm", "mci"},
        "glioma": {"arm", "idh", "survival_days", "event"},
        "stroke": {"arm", "stroke_days"},
    }
    for subject in subjects:
        row = dict(zip(COLUMNS, labels_of(subject), strict=True))
        assert {k for k, v in row.items() if v != "n/a"} == known[subject.arm]


def test_the_plain_cohort_has_no_arm_and_nothing_hidden():
    plain = member(0, 3, ("healthy",))
    assert plain.arm is None
    assert latents_of(plain) == {}


def test_an_arm_changes_neither_age_nor_sex():
    assert len({draw_subject(0, 7, arm).latents for arm in (None, *ALL)}) == 1


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        (("healthy", "tumour"), "arms: wanted some of healthy, mci.*got .*tumour"),
        ((), "arms: .* got none"),
        (("mci", "mci"), "arms: .*each once, got mci, mci"),
    ],
)
def test_bad_arms_are_refused(tmp_path, make_cohort, arms, message):
    with pytest.raises(InputRefusedError, match=message):
        make_cohort(tmp_path / "c", arms=arms)
    assert not (tmp_path / "c").exists()


def test_hippocampi_lose_volume_where_they_are_stated(atlas, monkeypatch):
    made = {}
    for loss in (0.0, 0.2, 0.6):
        monkeypatch.setattr(mci, "draw_mci", lambda _, loss=loss: mci.Mci(loss))
        made[loss] = anatomy_of(atlas, "mci")
    ml = [made[loss].answers["hippocampi_ml"] for loss in (0.0, 0.2, 0.6)]
    assert ml[0] > ml[1] > ml[2] > 0
    plain = anatomy_of(atlas, None)
    np.testing.assert_array_equal(made[0.0].tissues["csf"], plain.tissues["csf"])
    gain = made[0.6].tissues["csf"] - plain.tissues["csf"]
    body = np.array(mci.HIPPOCAMPUS).mean(0)
    for side in (-1, 1):
        here = side * plain.points[0] > 0
        place = (plain.points[:, here] * gain[here]).sum(1) / gain[here].sum()
        assert np.abs(place - body * (side, 1, 1)).max() < 4
        assert gain[here].sum() * 0.216 > 1


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize(("arm", "lesion"), [("glioma", glioma), ("stroke", stroke)])
def test_lesions_lie_in_the_brain_on_their_side(atlas, arm, lesion, number):
    anatomy = anatomy_of(atlas, arm, number)
    names = [n for n, label in LABELS.items() if label >= 9]
    share = sum(anatomy.tissues[n] for n in names if n in anatomy.tissues)
    drawn = getattr(lesion, f"draw_{arm}")(draw_subject(0, number, arm))
    right = anatomy.points[0] > 0
    assert share[right if drawn.side == "L" else ~right].sum() < 0.02 * share.sum()
    assert share[anatomy.maps["outside"] > 4].sum() < 0.02 * share.sum()
    total = sum(anatomy.tissues.values())
    plain = sum(anatomy_of(atlas, "healthy", number).tissues.values())
    deep = anatomy.maps["outside"] < -3
    np.testing.assert_allclose(total[deep], 1, atol=0.05)
    assert total.sum() == pytest.approx(plain.sum(), rel=0.02)
    assert 9 in make_labels(anatomy) or 12 in make_labels(anatomy)


def test_a_glioma_takes_the_room_it_states(atlas):
    ratios = []
    for number in range(1, 9):
        answers = anatomy_of(atlas, "glioma", number).answers
        drawn = glioma.draw_glioma(draw_subject(0, number, "glioma"))
        ratios.append((answers["core_ml"] + answers["rim_ml"]) / drawn.nominal_ml)
    assert 0.7 < np.mean(ratios) < 1.3


def test_left_is_left_in_the_files(tmp_path, make_cohort):
    out = tmp_path / "c"
    make_cohort(out, subjects=4, arms=("stroke", "glioma"), sequences=("T1w",))
    for number in range(1, 5):
        name = f"sub-{number:04d}"
        path = out / name / "anat" / f"{name}_dseg.nii.gz"
        labels = nib.as_closest_canonical(nib.load(path)).get_fdata()
        subject = member(0, number, ("stroke", "glioma"))
        drawn = (
            stroke.draw_stroke(subject)
            if subject.arm == "stroke"
            else glioma.draw_glioma(subject)
        )
        x = np.argwhere(labels >= 9).mean(0)[0] - np.argwhere(labels > 0).mean(0)[0]
        assert (x > 0) == (drawn.side == "R")


def test_a_subject_is_the_same_beside_any_other_arms(tmp_path, make_cohort):
    folders = []
    for first in ("healthy", "mci"):
        out = tmp_path / first
        make_cohort(out, arms=(first, "stroke"))
        folders.append(sorted((out / "sub-0002" / "anat").iterdir()))
    for a, b in zip(*folders, strict=True):
        assert a.read_bytes() == b.read_bytes()
    with pytest.raises(InputRefusedError, match=r"'stroke'.*holds.*'mci'"):
        make_cohort(tmp_path / "mci", arms=("healthy", "stroke"))


def test_sequences_show_lesions_as_they_do():
    t1, t2, flair, ce = (CONTRASTS[n] for n in ("T1w", "T2w", "FLAIR", "T1CE"))
    assert t1["oedema"] < t1["white"]
    assert min(t2["oedema"] - t2["grey"], flair["oedema"] - flair["grey"]) > 0.1
    assert ce["rim"] > ce["white"] > ce["margin"]
    # The mismatch of a mutant: bright on T2w, dark on FLAIR.
    assert t2["tumour"] > t2["necrosis"]
    assert flair["tumour"] < flair["necrosis"]
    assert flair["acute"] > flair["grey"] > flair["chronic"]
    assert t1["acute"] > t1["subacute"] > t1["chronic"]
    assert t2["acute"] < t2["subacute"] < t2["chronic"]


def test_the_oracles_reach_what_is_stated():
    losses = [[mci.draw_mci(s)[0] for s in people(a, i)] for i, a in enumerate(ALL[:2])]
    ill = np.repeat([0, 1], MANY - 1)
    assert roc_auc_score(ill, np.concatenate(losses)) == pytest.approx(0.93, abs=0.015)
    drawn = [glioma.draw_glioma(s) for s in people("glioma")]
    mutant = np.array([g.idh == "mutant" for g in drawn])
    odds = np.array([g.oracle_mutant for g in drawn])
    assert roc_auc_score(mutant, odds) == pytest.approx(0.955, abs=0.015)
    # Calibrated: of those it gives 80 to 95 %, so many are mutant.
    sure = (odds > 0.8) & (odds < 0.95)
    assert mutant[sure].mean() == pytest.approx(odds[sure].mean(), abs=0.06)


def test_survival_follows_the_stated_hazard():
    lives = [draw_survival(s) for s in people("glioma")]
    eta = np.array([life.log_hazard for life in lives])
    death = np.array([life.death_days for life in lives])
    spent = (death / SCALE_DAYS) ** SHAPE * np.exp(eta)
    assert spent.mean() == pytest.approx(1, abs=0.1)
    assert spent.std() == pytest.approx(1, abs=0.15)
    assert abs(np.corrcoef(eta, spent)[0, 1]) < 0.08
    events = np.array([life.event for life in lives])
    assert 0.6 < events.mean() < 0.75
    for life in lives:
        days = min(life.death_days, life.follow_up_days)
        assert life.survival_days == max(round(days), 1)
        assert life.event == (life.death_days <= life.follow_up_days)


def test_one_year_is_unknown_where_follow_up_ended_before():
    life = draw_survival(draw_subject(0, 1, "glioma"))
    cases = {(300, 1): True, (300, 0): None, (365, 1): True, (366, 1): False}
    cases |= {(366, 0): False, (365, 0): None}
    for (days, event), wanted in cases.items():
        assert one_year(life._replace(survival_days=days, event=event)) is wanted


def test_days_can_be_read_from_stage_and_size_in_part():
    drawn = [stroke.draw_stroke(s) for s in people("stroke")]
    days = np.array([s.stroke_days for s in drawn])
    error = np.array([stroke.oracle_days(s) for s in drawn]) - days
    assert days.min() >= 1
    assert days.max() <= 180
    assert np.abs(error).mean() < 0.4 * np.abs(days - np.median(days)).mean()
    assert abs((error > 0).mean() - 0.5) < 0.05


@pytest.mark.parametrize("stage", [-1.0, -0.2, 0.0, 0.5, 0.9, 1.2, 2.0])
def test_stages_share_the_lesion(stage):
    shares = stroke.stage_shares(stage)
    assert sum(shares.values()) == pytest.approx(1)
    assert min(shares.values()) >= 0
