"""From what the phantoms' hazard depends on, its order comes back."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from brainjax.evaluate.survival import harrell
from brainjax.phantom.glioma import draw_glioma
from brainjax.phantom.latents import draw_subject
from brainjax.phantom.survival import draw_survival
from brainjax.tasks import make_task
from brainjax.train.frozen import fit_head

TRAINED = 400


@pytest.fixture(scope="module")
def gliomas():
    """Features [600, 5] (the last two say nothing), times with events, log hazards."""
    noise = np.random.default_rng(0).standard_normal((600, 2))
    rows, values, hazards = [], [], []
    for number in range(1, 601):
        subject = draw_subject(0, number, "glioma")
        tumour, life = draw_glioma(subject), draw_survival(subject)
        mutant = tumour.idh == "mutant"
        rows.append([subject.latents.age, np.log(tumour.nominal_ml), float(mutant)])
        values.append((float(life.survival_days), bool(life.event)))
        hazards.append(life.log_hazard)
    return np.hstack([np.array(rows), noise]), values, np.array(hazards)


@pytest.mark.parametrize("loss", ["cox", "discrete"])
def test_the_known_hazard_comes_back(gliomas, loss):
    features, values, hazards = gliomas
    task = make_task("survival", target="days", event="event", loss=loss)
    task = task.fit(values[:TRAINED])
    fitted = fit_head(
        task, features[:TRAINED], values[:TRAINED], head={"norm": False}, steps=600
    )
    risk = task.risk(fitted.predict(features[TRAINED:]))
    assert spearmanr(risk, hazards[TRAINED:]).statistic > 0.95
    times, events = (np.array(part) for part in zip(*values[TRAINED:], strict=True))
    people = range(len(times))
    ours, best = (
        harrell(times, events, order, people, samples=0).value
        for order in (risk, hazards[TRAINED:])
    )
    assert best > 0.75  # what can be attained
    assert abs(best - ours) < 0.015
