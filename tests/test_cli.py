"""The command line from raw scans to answers, with good input and with bad."""

import argparse
import csv
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import pytest

from brainjax.cli import main
from brainjax.cli.processes import CUSTOMARY, read_words
from brainjax.errors import InputRefusedError
from tests.train.configs import CONFIGS

TINY = [
    "--config.view=24,24,24",
    "--config.encoder.width=2",
    "--config.optimizer.warmup=2",
    "--config.train.steps=4",
    "--config.train.batch=4",
    "--config.train.save_every=2",
    "--config.probe.every=2",
]
JOINING = ["--coordinator", "h:1", "--processes", "2", "--process-index", "0"]
TINY_AGE = [word for word in TINY if "view" not in word and "encoder" not in word]


@pytest.fixture(scope="module")
def house(tiny_cohort, tmp_path_factory) -> Path:
    """A folder in which every verb has run once."""
    home = tmp_path_factory.mktemp("house")
    labels = str(tiny_cohort / "participants.tsv")
    where = [f"--config.data.path={home / 'prepared'}"]
    prepare = ["prepare", str(tiny_cohort), "--labels", labels, "--spacing", "8"]
    assert main([*prepare, "--workers", "1", "--out", str(home / "prepared")]) == 0
    config = ["--config", str(CONFIGS / "quickstart.py")]
    workdir = ["--workdir", str(home / "encoder")]
    assert main(["pretrain", *config, *workdir, *where, *TINY]) == 0
    config = ["--config", str(CONFIGS / "quickstart_age.py")]
    init = [f"--config.init={home / 'encoder'}", "--config.data.train_subjects=0"]
    workdir = ["--workdir", str(home / "age")]
    assert main(["finetune", *config, *workdir, *where, *init, *TINY_AGE[:-1]]) == 0
    assert main(["evaluate", str(home / "encoder"), str(home / "age")]) == 0
    return home


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_embed_gives_one_row_a_scan_in_the_order_given(house, tiny_cohort, tmp_path):
    scans = [str(tiny_cohort / f"sub-{n:02d}_T1w.nii.gz") for n in (7, 2, 11)]
    out = tmp_path / "f.csv"
    assert main(["embed", str(house / "encoder"), *scans, "--out", str(out)]) == 0
    table = rows(out)
    assert [row["source"] for row in table] == scans
    assert list(table[0])[-1] == "feature_15"
    run = json.loads((house / "encoder" / "summary.json").read_text())
    assert {row["recipe"] for row in table} == {run["recipe"]}
    assert {row["checkpoint"] for row in table} == {run["checkpoint"]}


def test_however_a_scan_is_stored_it_has_one_embedding(house, tiny_cohort, tmp_path):
    image = nib.load(tiny_cohort / "sub-05_T1w.nii.gz")
    scans = []
    for codes in ("RAS", "LPS", "AIR", "SLP"):
        turn = nib.orientations.axcodes2ornt(codes)
        turned = image.as_reoriented(
            nib.orientations.ornt_transform(nib.orientations.axcodes2ornt("RAS"), turn)
        )
        scans.append(str(tmp_path / f"{codes}_T1w.nii.gz"))
        nib.save(turned, scans[-1])
    out = tmp_path / "f.csv"
    assert main(["embed", str(house / "encoder"), *scans, "--out", str(out)]) == 0
    features = {tuple(list(row.values())[-16:]) for row in rows(out)}
    assert len(rows(out)) == 4
    assert len(features) == 1


def test_predict_equals_evaluate_and_states_its_unit(house, tiny_cohort, tmp_path):
    wanted = {
        r["subject"]: r["prediction"] for r in rows(house / "age/predictions.csv")
    }
    scans = [str(tiny_cohort / f"sub-{name}_T1w.nii.gz") for name in sorted(wanted)]
    out = tmp_path / "p.csv"
    assert main(["predict", str(house / "age"), *scans, "--out", str(out)]) == 0
    table = rows(out)
    assert {row["unit"] for row in table} == {"years"}
    for row in table:
        prediction = float(wanted[row["subject"]])
        assert float(row["prediction"]) == pytest.approx(prediction, abs=1e-3)


def test_a_bad_scan_in_a_batch_is_listed_and_the_rest_goes_on(
    house, tiny_cohort, tmp_path, capsys
):
    bad = tmp_path / "broken.nii.gz"
    bad.write_bytes(b"no scan")
    good = str(tiny_cohort / "sub-03_T1w.nii.gz")
    out = tmp_path / "p.csv"
    assert main(["predict", str(house / "age"), str(bad), good, "--out", str(out)]) == 2
    assert [row["source"] for row in rows(out)] == [good]
    meaning, *said = capsys.readouterr().err.splitlines()
    assert meaning.startswith("Research use only")
    assert said == [
        "1 scan was refused:",
        f"  {bad}: wanted a gzip stream, got b'no scan'",
    ]


def test_a_defect_in_one_scan_fails_that_scan_alone(
    house, tiny_cohort, tmp_path, monkeypatch, capsys
):
    from brainjax.infer import sessions

    bad, good = (str(tiny_cohort / f"sub-{n}_T1w.nii.gz") for n in ("03", "05"))
    prepare = sessions.prepare_and_keep

    def fail(path, *words, **named):
        if path == bad:
            raise RuntimeError("a\ndefect")
        return prepare(path, *words, **named)

    monkeypatch.setattr(sessions, "prepare_and_keep", fail)
    out = tmp_path / "p.csv"
    assert main(["predict", str(house / "age"), bad, good, "--out", str(out)]) == 2
    assert [row["source"] for row in rows(out)] == [good]
    assert f"{bad}: RuntimeError: a defect" in capsys.readouterr().err


def test_rows_keep_the_order_of_a_table_and_each_scan_is_once(
    house, tiny_cohort, tmp_path
):
    scans = [str(tiny_cohort / f"sub-{n:02d}_T1w.nii.gz") for n in (7, 2, 11)]
    table = tmp_path / "scans.csv"
    table.write_text("path,subject\n" + "".join(f"{p},{p[-13:-11]}\n" for p in scans))
    out = tmp_path / "p.csv"
    words = [str(table), scans[1], "--out", str(out)]
    assert main(["predict", str(house / "age"), *words]) == 0
    assert [row["source"] for row in rows(out)] == scans


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--out", "folder.csv"], "folder.csv: wanted a file, got a folder"),
        (["--out", "/proc/p.csv"], "/proc/p.csv: wanted a f"),
        (["--workers", "0"], "workers: wanted at least 1, got 0"),
    ],
)
def test_output_and_workers_are_refused_in_one_line(
    words, wanted, house, tiny_cohort, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.csv").mkdir()
    scan = str(tiny_cohort / "sub-03_T1w.nii.gz")
    assert main(["predict", str(house / "age"), scan, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert wanted in line


@pytest.mark.parametrize("verb", ["prepare", "pretrain", "finetune", "report"])
def test_a_place_that_cannot_be_written_is_refused(
    verb, house, tiny_cohort, tmp_path, capsys
):
    place = tmp_path / "file"
    place.touch()
    below = str(place / "below")
    data = f"--config.data.path={house / 'prepared'}"
    words = {
        "prepare": [str(tiny_cohort), "--spacing", "8", "--out", below],
        "pretrain": [
            *("--config", str(CONFIGS / "quickstart.py"), "--workdir", below, data),
            *TINY,
        ],
        "finetune": [
            *("--config", str(CONFIGS / "quickstart_age.py"), "--workdir", below, data),
            *(f"--config.init={house / 'encoder'}", "--config.data.train_subjects=0"),
            *TINY_AGE[:-1],
        ],
        "report": [str(house / "age"), "--out", below],
    }
    assert main([verb, *words[verb]]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"brainjax {verb}: {below}: wanted a f")


def test_another_recipe_is_refused_and_both_are_named(house, tiny_cohort, capsys):
    scan = str(tiny_cohort / "sub-03_T1w.nii.gz")
    code = main(["predict", str(house / "age"), scan, "--recipe", "raw_head"])
    assert code == 2
    said = capsys.readouterr().err
    assert "raw_head" in said
    assert "canonical" in said


def test_predict_wants_a_task(house, tiny_cohort, capsys):
    scan = str(tiny_cohort / "sub-03_T1w.nii.gz")
    assert main(["predict", str(house / "encoder"), scan]) == 2
    assert "wanted a fine-tuned run, got a pretraining one" in capsys.readouterr().err


def test_subjects_that_were_learnt_from_are_no_external_test(house, capsys):
    shutil.copytree(house / "prepared", house / "again", dirs_exist_ok=True)
    run, again = str(house / "age"), str(house / "again")
    assert main(["evaluate", run, "--prepared", again]) == 2
    assert "it learnt from, such as" in capsys.readouterr().err


def test_the_report_is_written(house, tmp_path):
    runs = [str(house / "encoder"), str(house / "age")]
    out = tmp_path / "report.html"
    assert main(["report", *runs, "--out", str(out)]) == 0
    assert "years" in out.read_text()


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--config.optimizer.paek=1"], "did you mean optimizer.peak"),
        (["--config.train.steps=many"], "wanted int"),
        (["--config.data.path=nowhere"], "nowhere"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(words, wanted, tmp_path, capsys):
    config = ["--config", str(CONFIGS / "quickstart.py")]
    workdir = ["--workdir", str(tmp_path / "run")]
    assert main(["pretrain", *config, *workdir, *words]) == 2
    said = capsys.readouterr().err.strip()
    assert wanted in said
    assert "\n" not in said
    assert not (tmp_path / "run").exists()


def test_our_own_failure_is_exit_code_1(monkeypatch, capsys):
    def fail():
        raise RuntimeError("a defect")

    monkeypatch.setattr("brainjax.report.doctor.show_machine", fail)
    assert main(["doctor"]) == 1
    assert "RuntimeError: a defect" in capsys.readouterr().err


def test_a_repeating_failure_is_said_once_and_traceback_follows_any_verb(
    monkeypatch, capsys
):
    def fail():
        raise RuntimeError("INTERNAL: " + "Error dispatching: " * 40 + "out of memory")

    monkeypatch.setattr("brainjax.report.doctor.show_machine", fail)
    assert main(["doctor"]) == 1
    said = capsys.readouterr().err
    assert "INTERNAL: Error dispatching: out of memory (--traceback" in said
    for words in (["doctor", "--traceback"], ["--traceback", "doctor"]):
        assert main(words) == 1
        assert "in fail" in capsys.readouterr().err


def test_doctor_is_content_here(capsys):
    assert main(["doctor"]) == 0
    assert "jax" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["--processes", "4"], "got no --coordinator and no --process-index"),
        (["--coordinator", "localhost:1"], "got no --processes and no --process-index"),
        (["--process-index", "0"], "got no --coordinator and no --processes"),
        (["--processes", "auto", "--process-index", "0"], "wanted it alone"),
        ([*JOINING[:4], "--process-index", "2"], "process index: wanted 0 to 1, got 2"),
        (
            [*JOINING[:3], "two", *JOINING[4:]],
            "--processes: wanted a number, got 'two'",
        ),
        (["--coordinator", "localhost", *JOINING[2:]], "wanted host:port"),
    ],
)
def test_half_a_start_of_processes_is_refused(words, wanted, tmp_path, capsys):
    config = ["--config", str(CONFIGS / "quickstart.py")]
    workdir = ["--workdir", str(tmp_path / "run")]
    assert main(["pretrain", *config, *workdir, *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("brainjax pretrain: ")
    assert wanted in line
    assert not (tmp_path / "run").exists()


def test_the_environment_says_who_a_process_is():
    options = argparse.Namespace(processes="auto", coordinator=None, process_index=None)
    said = dict(zip(CUSTOMARY, ("host:8476", "4", "3"), strict=True))
    wanted = {"coordinator": "host:8476", "processes": 4, "index": 3}
    assert read_words(options, said) == wanted
    assert read_words(options, {}) == {}  # jax looks for a cluster
    del said["JAX_PROCESS_ID"]
    with pytest.raises(InputRefusedError, match="got no JAX_PROCESS_ID"):
        read_words(options, said)
    options.processes = None
    assert read_words(options, {"JAX_PROCESS_ID": "3"}) is None


WAIT = """
import sys
from brainjax.cli import main, processes
read = processes.read_words
def hasty(*words):
    found = read(*words)
    return found and {**found, "patience": 2}
processes.read_words = hasty
sys.exit(main(sys.argv[1:]))
"""


def join_alone(*words: str) -> tuple[int, list[str]]:
    """Gives exit code and stderr of a process that is one of several, alone."""
    config = ["--config", str(CONFIGS / "quickstart.py"), "--workdir", "/nowhere"]
    kept = {name: v for name, v in os.environ.items() if name not in CUSTOMARY}
    done = subprocess.run(
        [sys.executable, "-c", WAIT, "pretrain", *config, *words],
        env={**kept, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr.splitlines()


def test_a_cluster_that_is_not_there_is_one_line():
    code, (line,) = join_alone("--processes", "auto")
    assert code == 2
    assert "wanted a cluster that jax knows (Cloud TPU, SLURM" in line


def test_a_coordinator_that_does_not_answer_is_one_line():
    with socket.socket() as taken:
        taken.bind(("localhost", 0))  # and does not listen
        coordinator = f"localhost:{taken.getsockname()[1]}"
        words = ["--coordinator", coordinator, *JOINING[2:4]]
        code, (line,) = join_alone(*words, "--process-index", "1")
    assert code == 2
    wanted = f"coordinator {coordinator}: wanted process 0 to answer within 2 s"
    assert line.startswith(f"brainjax pretrain: {wanted}")


def test_processes_that_do_not_come_are_one_line():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        coordinator = f"localhost:{free.getsockname()[1]}"
    code, lines = join_alone("--coordinator", coordinator, *JOINING[2:])
    assert code == 1
    assert lines[-1] == (
        "brainjax pretrain: stopped: not all processes came to the coordinator in "
        "time (see above)"
    )
