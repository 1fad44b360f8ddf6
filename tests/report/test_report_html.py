"""The page: one file, complete, escaped, and honest about what is missing."""

import json
import re

import numpy as np
import pytest
from fake_runs import finetune_run, pretrain_run, write_json

from brainjax.errors import InputRefusedError, MissingExtraError
from brainjax.report import write_report

AGES = np.linspace(20, 80, 24)
HOSTILE = "<script>alert('x')</script>$\\frac{"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A pretraining run and three fine-tuned ones, one of them a classification."""
    base = tmp_path_factory.mktemp("runs")
    subjects = [HOSTILE, *(f"sub-{i:02d}" for i in range(19))]
    noise = np.random.default_rng(0).normal(size=(2, 24))
    sexes = np.array(["F", HOSTILE] * 12)
    return [
        pretrain_run(base / "pretrain", subjects=subjects),
        finetune_run(
            base / "age", init="pretrain", answers=AGES + 3 * noise[0], targets=AGES
        ),
        finetune_run(
            base / HOSTILE.replace("/", "|"),
            init="scratch",
            answers=AGES + 9 * noise[1],
            targets=AGES,
        ),
        finetune_run(
            base / "sex",
            init="pretrain",
            answers=np.array(["F"] * 24),
            targets=sexes,
            task="classification",
            target="sex",
            baseline=0.5,
        ),
    ]


@pytest.fixture(scope="module")
def page(folders, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "new" / "report.html"
    assert write_report(folders, out, title="A <title>") == out
    assert [file.name for file in out.parent.iterdir()] == ["report.html"]
    return out.read_text()


def test_it_asks_for_nothing_outside_itself(page):
    links = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert len(links) > 18
    assert all(link.startswith(("data:image/png;base64,", "#")) for link in links)
    assert not re.search(r"https?:|@import|url\((?!#)|<link|<script", page)


def test_names_are_shown_and_never_run(page):
    assert "<script" not in page
    assert "&lt;script&gt;alert(" in page
    assert "A &lt;title&gt;" in page


def test_the_headline_says_what_was_trained_and_what_it_showed(page):
    assert "Pretraining lowered the age error by " in page
    assert "vit encoder, 2.87 million parameters, 20 training scans, 60 steps" in page
    assert "2 min 51 s, 1 x cpu (2 cores, x86_64)." in page


def test_the_table_holds_the_numbers_of_the_evaluation(folders, page):
    for folder in folders[1:]:
        metrics = json.loads((folder / "evaluation.json").read_text())["metrics"]
        for metric in metrics.values():
            cell = f"{metric['value']:.2f} [{metric['low']:.2f}, {metric['high']:.2f}]"
            assert f"<td>{cell}</td>" in page
    assert "always the training mean</th><td>12.00</td>" in page


def test_what_runs_cost_is_told_with_what_it_is_measured_against(page):
    column = {
        "speed": "74.7 scans/s, 149.4 views/s",
        "model FLOPs of a scan": "1.722 GFLOP",
        "model FLOPs": "0.129 TFLOP/s",
        "MFU": "36.8% of 0.35 TFLOP/s float32, a matrix product measured here",
        "waiting for input": "2.1% of the time",
        "compiling": "12 s",
        "peak memory": "2.06 GiB of the process",
        "device": "1 x cpu (2 cores, x86_64)",
        "device hours": "0.0476",
    }
    for name, text in column.items():
        row = (
            rf'<th scope="row">{name}</th><td(?: class="long")?>{re.escape(text)}</td>'
        )
        assert re.search(row + "<td>–</td>" * 3, page)


def test_a_run_still_going_tells_its_costs_so_far(tmp_path):
    write_json(tmp_path / "config.json", {"kind": "pretrain"})
    lines = [
        {"step": 10, "loss": 1.0, "scans_per_second": 70.0, "device_hours": 1.0},
        {"step": 20, "loss": 0.9, "scans_per_second": 80.0, "device_hours": 2.0},
        {"step": 20, "probe/age/ridge_mae": 5.0},
    ]
    (tmp_path / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    page = write_report([tmp_path], tmp_path / "r.html").read_text()
    assert '<th scope="row">speed</th><td>80 scans/s</td>' in page
    assert '<th scope="row">device hours</th><td>2</td>' in page
    assert '<th scope="row">MFU</th>' not in page


def test_a_run_that_tells_no_costs_has_no_table_of_them(tmp_path):
    write_json(tmp_path / "config.json", {"kind": "pretrain"})
    page = write_report([tmp_path], tmp_path / "r.html").read_text()
    assert "<h2>Cost</h2>" not in page


def test_every_part_is_there(page):
    for heading in (
        *("Training", "Augmented views", "Embedding map", "Predicted against true"),
        *("Comparison", "Cost", "Provenance"),
    ):
        assert f"<h2>{heading}</h2>" in page
    assert "chance: log(2n − 1) = 4.14" in page
    assert page.count('src="data:image/png') == 3 * 2 * 3
    assert "Left of the picture is the subject's left" in page
    assert "Not shown: sequence (1 value)" in page
    assert ">12<br>" in page
    assert "Research use only" in page
    assert "no clinical evidence" in page
    assert "abc123def456" in page
    assert "0.10.2" in page


def test_charts_take_the_ink_of_the_page(page):
    assert "currentColor" in page
    assert "#0102" not in page
    identities = re.findall(r' id="([^"]+)"', page)
    assert set(re.findall(r'(?:href="|url\()#([^")]+)', page)) <= set(identities)


def test_the_same_runs_give_the_same_file(folders, page, tmp_path):
    again = write_report(folders, tmp_path / "again.html", title="A <title>")
    assert again.read_text() == page


def test_a_run_still_going_is_reported(tmp_path):
    run = tmp_path / "going"
    write_json(run / "config.json", {"kind": "pretrain", "train": {"batch": 8}})
    lines = ['{"step": 10, "loss": NaN}', '{"step": 20, "loss": null}', '{"step": 3']
    (run / "metrics.jsonl").write_text("\n".join(lines))
    (run / "views.npz").write_bytes(b"PK half a file")
    tuned = tmp_path / "tuned"
    config = {"kind": "finetune", "task": {"target": "age"}, "weights": "random"}
    write_json(tuned / "config.json", config)
    page = write_report([run, tuned], tmp_path / "r.html").read_text()
    assert "not ended, at step 20" in page
    assert "going: no summary.json (the run has not ended)" in page
    assert "going: no views.npz (cannot be read: " in page
    assert "going: no embeddings.npz" in page
    assert "tuned: no evaluation.json (run `brainjax evaluate`)" in page
    assert "tuned: no metrics.jsonl (nothing logged yet)" in page
    assert "No two fine-tuned runs of one target to compare." in page


def test_runs_without_answers_are_named_in_the_verdict(folders, tmp_path):
    tuned = tmp_path / "tuned"
    write_json(tuned / "config.json", {"kind": "finetune", "task": {"target": "age"}})
    page = write_report([folders[2], tuned], tmp_path / "r.html").read_text()
    assert "nothing to compare on age" in page


def test_numbers_that_are_not_finite_are_said_to_be_so(tmp_path):
    run = finetune_run(tmp_path / "a", init="scratch", answers=AGES, targets=AGES)
    evaluation = json.loads((run / "evaluation.json").read_text())
    evaluation["metrics"] = {"mae": {"value": None, "low": None, "high": None, "n": 0}}
    write_json(run / "evaluation.json", evaluation)
    page = write_report([run], tmp_path / "r.html").read_text()
    assert "<td>not finite</td>" in page


@pytest.mark.parametrize("part", ["first", "features", "predictions"])
def test_a_damaged_part_is_named_and_the_rest_is_kept(tmp_path, part):
    subjects = [f"s{i}" for i in range(6)]
    run = pretrain_run(tmp_path / "pretrain", subjects=subjects)
    tuned = finetune_run(tmp_path / "a", init="scratch", answers=AGES, targets=AGES)
    if part == "first":
        np.savez(run / "views.npz", first=np.zeros((2, 3, 3, 3)), second=1, subjects=[])
    elif part == "features":
        np.savez(run / "embeddings.npz", features=np.zeros((2, 3)), subjects=["a"])
    else:
        (tuned / "predictions.csv").write_text("source,subject\nx,y\n")
    page = write_report([run, tuned], tmp_path / "r.html").read_text()
    assert page.count("cannot be read") == 1
    assert "<h2>Provenance</h2>" in page


def test_bad_records_are_listed(tmp_path):
    run = pretrain_run(tmp_path / "p", subjects=["a", "b", "c"])
    summary = json.loads((run / "summary.json").read_text())
    summary |= {"bad_records": {"x.nii.gz": "damaged"}, "skipped_steps": 4}
    write_json(run / "summary.json", summary)
    page = write_report([run], tmp_path / "r.html").read_text()
    assert "p: x.nii.gz left out: damaged" in page
    assert "p: 4 steps were skipped" in page


def test_features_without_variance_still_give_a_page(tmp_path):
    run = pretrain_run(tmp_path / "p", subjects=["a", "b", "c"])
    labels = json.dumps({"sex": ["F", "M", None]})
    np.savez(
        run / "embeddings.npz",
        features=np.ones((3, 4)),
        subjects=["a", "b", "c"],
        labels_json=labels,
    )
    assert "0% of variance" in write_report([run], tmp_path / "r.html").read_text()


def test_what_can_be_known_of_a_cohort(folders, tmp_path):
    cohort = tmp_path / "cohort"
    truth = {
        "seed": 0,
        "targets": {
            "age": {"unit": "years", "mae": {"oracle": 2.345, "histogram": None}},
            "sex": {"auc": {"oracle": 0.987, "histogram": 0.5}},
        },
    }
    write_json(cohort / "truth.json", truth)
    page = write_report(folders[1:2], tmp_path / "r.html", cohort=cohort).read_text()
    assert ">oracle<" in page
    row = '<th scope="row">age, mean absolute error</th><td>years</td><td>2.35</td>'
    assert row + "<td>–</td>" in page
    assert "sex, AUC</th><td>–</td><td>0.99</td><td>0.50</td>" in page
    (cohort / "truth.json").unlink()
    page = write_report(folders[1:2], tmp_path / "r.html", cohort=cohort).read_text()
    assert "holds no truth.json" in page


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "no config.json in it"),
        ({"kind": "else"}, "got 'else'"),
        ([1], "got None"),
    ],
)
def test_a_folder_that_is_no_run_is_refused(tmp_path, content, words):
    if content is not None:
        write_json(tmp_path / "config.json", content)
    with pytest.raises(InputRefusedError, match=words) as refused:
        write_report([tmp_path], tmp_path / "r.html")
    assert str(tmp_path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "r.html").exists()


def test_no_run_and_no_cohort_are_refused(folders, tmp_path):
    with pytest.raises(InputRefusedError, match="at least one run"):
        write_report([], tmp_path / "r.html")
    with pytest.raises(InputRefusedError, match="cohort folder"):
        write_report(folders[1:2], tmp_path / "r.html", cohort=tmp_path / "nothing")


def test_the_extra_is_named_when_jinja_is_absent(folders, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "jinja2", None)
    with pytest.raises(MissingExtraError, match=r"brainjax\[report\]"):
        write_report(folders, tmp_path / "r.html")


def test_probes_of_a_pretraining_run_have_their_table(tmp_path):
    run = pretrain_run(tmp_path / "p", subjects=["a", "b", "c"])
    metric = {"value": 6.25, "low": 5.5, "high": 7.125, "n": 9}
    evaluation = {"task": "probe", "target": "age", "unit": "", "split": "test"}
    evaluation |= {"n_subjects": 9, "metrics": {"age/ridge_mae": metric}}
    write_json(run / "evaluation.json", evaluation)
    page = write_report([run], tmp_path / "r.html").read_text()
    assert "Probes of the frozen features of p, test split, 9 subjects" in page
    row = '<th scope="row">age</th><td>ridge</td><td>mean absolute error</td>'
    assert row + "<td>6.25 [5.50, 7.12]</td>" in page


def test_runs_of_one_name_are_told_apart(tmp_path):
    folders = [
        finetune_run(tmp_path / at / "age", init=init, answers=AGES + k, targets=AGES)
        for at, init, k in (("one", "pretrain", 1), ("two", "scratch", 2))
    ]
    page = write_report([*folders, folders[0]], tmp_path / "r.html").read_text()
    assert page.count("<b>one/age</b>") == page.count("<b>two/age</b>") == 1


def test_outlines_have_a_table_of_their_structures(tmp_path):
    run = tmp_path / "brain"
    classes = [["white_matter", [81, 82]], ["ventricles", [51]]]
    task = {"name": "segmentation", "classes": classes}
    write_json(run / "config.json", {"kind": "segment", "task": task})
    write_json(run / "summary.json", {"train_scans": 103, "steps": 9})
    metric = {"value": 0.75, "low": 0.5, "high": 0.875, "n": 29}
    metrics = {f"{name}/dice": metric for name in ("mean", "white_matter")}
    metrics["white_matter/hd95_mm"] = metric | {"value": 2.5, "low": 2, "high": 3}
    evaluation = {"task": "segmentation", "split": "test", "n_subjects": 29}
    write_json(run / "evaluation.json", evaluation | {"metrics": metrics})
    page = write_report([run], tmp_path / "r.html").read_text()
    assert "(segmentation): outlines white_matter, ventricles, from scratch" in page
    assert "Outlines of brain, test split, 29 subjects" in page
    row = '<th scope="row">white_matter</th><td>0.75 [0.50, 0.88]</td>'
    assert row + "<td>2.50 [2.00, 3.00]</td>" in page
    assert "predictions.csv" not in page
