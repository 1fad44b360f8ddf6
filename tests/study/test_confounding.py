"""A label that follows the scanner is found; one that does not is left in peace."""

import numpy as np
import pytest

from brainjax.study.confounding import LEVEL, associate, cramers_v, scan_properties

N = 80


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_cramers_v_is_0_to_1():
    codes = np.arange(12) % 3
    assert cramers_v(codes, codes) == pytest.approx(1)
    assert cramers_v(codes, np.repeat(np.arange(4), 3)) == pytest.approx(0)


@pytest.mark.parametrize("kind", ["site", "spacing", "numbers", "sites"])
def test_a_label_that_follows_how_scans_were_made_is_found(kind):
    generator = draw()
    label = ["MN"[i % 2] for i in range(N)]
    if kind == "site":
        made = [v if generator.random() < 0.8 else "K" for v in label]
    elif kind == "sites":
        label = generator.normal(size=N).tolist()
        made = ["abc"[int(np.clip(v + 1.5, 0, 2))] for v in label]
    elif kind == "spacing":
        made = [1 + (v == "M") + generator.normal(0, 0.4) for v in label]
    else:
        label = generator.normal(size=N).tolist()
        made = [v + generator.normal() for v in label]
    found = associate(kind, made, label, [f"s{i}" for i in range(N)])
    assert found is not None
    assert found.p < LEVEL
    assert found.strength > 0.4


def test_a_label_that_does_not_is_left_in_peace():
    ps = []
    for seed in range(8):
        generator = draw(seed)
        site = generator.choice(list("abc"), N).tolist()
        found = associate(
            "site", site, generator.normal(size=N).tolist(), [str(i) for i in range(N)]
        )
        assert found is not None
        ps.append(found.p)
    assert np.mean(np.array(ps) < 0.02) <= 0.15


def test_many_scans_of_a_subject_are_no_more_evidence():
    # Eight subjects of ten scans each, one site a subject: chance alone gives this.
    site = np.repeat(list("aabbabab"), 10).tolist()
    label = np.repeat(list("MMNNMNNM"), 10).tolist()
    found = associate(
        "site", site, label, np.repeat(np.arange(8), 10).astype(str).tolist()
    )
    assert found is not None
    assert found.p > 0.1


def test_what_does_not_vary_is_not_tested():
    rows = [
        {
            "labels": {"Site": "a", "age": 4},
            "sequence": q,
            "original_spacing": [1, 1, 3],
        }
        for q in ("T1w", "T2w")
    ]
    assert list(scan_properties(rows)) == ["sequence"]
    assert associate("site", ["a", "b"], ["M", None], ["1", "2"]) is None
