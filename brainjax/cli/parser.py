"""The words that each verb of the command line takes."""

import argparse
import os
from pathlib import Path

from brainjax import __version__
from brainjax.cli import data_verbs
from brainjax.cli import verbs as actions
from brainjax.cli.one_line import OneLineParser, seconds, sizes

BACKENDS = "auto, own, template, nonzero, hd-bet, deepbet, synthstrip"
"""Ways to find a brain."""


def make_parser() -> argparse.ArgumentParser:
    """Describes every verb."""
    parser = OneLineParser(
        prog="brainjax",
        description="Foundation models of brain MRI. Research use only.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    parser.add_argument(
        "--traceback", action="store_true", help="show where an error came from"
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="verb")
    _add_data_verbs(verbs)
    _add_training_verbs(verbs)
    _add_answer_verbs(verbs)
    return parser


def _add_data_verbs(verbs) -> None:
    verb = _add(verbs, data_verbs.phantom, "generate a cohort with known answers")
    verb.add_argument("--subjects", type=int, default=200)
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--seed", type=int, default=0)
    verb.add_argument("--spacing", type=float, default=2.0, help="mm")
    verb.add_argument("--head", action="store_true", help="whole heads, not stripped")
    verb.add_argument("--sequences", nargs="+", default=["T1w"])
    verb.add_argument(
        "--arms", nargs="+", default=["healthy"], help="healthy, mci, glioma, stroke"
    )
    _workers(verb)

    verb = _add(verbs, data_verbs.prepare, "raw scans to canonical volumes in shards")
    verb.add_argument(
        "sources",
        nargs="+",
        metavar="SRC",
        help="NIfTI files, DICOM series, folders, tables",
    )
    verb.add_argument("--out", type=Path, required=True)
    verb.add_argument("--labels", type=Path, help="participants.tsv or .csv")
    verb.add_argument(
        "--label-maps",
        metavar="WORD",
        help="take in ..._WORD.nii.gz beside the scans, such as dseg or lesions",
    )
    verb.add_argument("--recipe", default="canonical")
    verb.add_argument("--spacing", type=float, help="mm; 1 if left out")
    verb.add_argument("--fov-mm", type=float, nargs=3, help="192 192 192 if left out")
    verb.add_argument(
        "--header-labels", action="store_true", help="age and sex of DICOM headers"
    )
    verb.add_argument(
        "--dry-run", action="store_true", help="only list what is found and planned"
    )
    _orientation(verb)
    _workers(verb)
    _add_steps(verb)
    _add_ways(verb)

    verb = _add(verbs, data_verbs.strip, "brains without what is round them, and masks")
    verb.add_argument("scans", nargs="+", metavar="SCAN")
    verb.add_argument("--out", type=Path, required=True, help="a folder")
    verb.add_argument("--mask", default="auto", metavar="NAME", help=BACKENDS)
    _orientation(verb)


def _add_steps(verb: argparse.ArgumentParser) -> None:
    words = verb.add_argument_group(
        "recipes that find the brain: mni_affine, mni_rigid, brainiac_like"
    )
    words.add_argument("--bias", help="n4 or none")
    words.add_argument("--registration", help="affine, rigid or none")
    words.add_argument(
        "--mask",
        metavar="NAMES",
        help=f"{BACKENDS}, head; of several with commas the first is used, the others "
        "held against it",
    )
    words.add_argument(
        "--no-session",
        dest="session",
        action="store_false",
        default=None,
        help="each scan by itself, not through one scan of its session",
    )
    words.add_argument(
        "--exclude-flagged",
        action="store_true",
        help="leave out scans whose quality stands out (qc.tsv lists them)",
    )


def _add_ways(verb: argparse.ArgumentParser) -> None:
    words = verb.add_argument_group("many scans (docs/scanner.md)")
    words.add_argument(
        "--limit-s",
        type=seconds,
        default=1800.0,
        help="seconds a scan may take; 0 or none: as long as it likes",
    )
    words.add_argument(
        "--memory-gb", type=float, help="a worker needs; fewer work if there is less"
    )
    words.add_argument("--scheduler", help="of Dask, as tcp://host:8786")
    words.add_argument("--cluster", help="Dask workers through slurm")


def _add_training_verbs(verbs) -> None:
    for action, text in (
        (actions.pretrain, "learn an encoder from unlabelled scans"),
        (actions.finetune, "learn a task from labelled scans"),
    ):
        verb = _add(verbs, action, text + "; any key: --config.train.steps=100")
        verb.add_argument("--config", type=Path, required=True)
        verb.add_argument("--workdir", type=Path, required=True)
        _processes(verb)


def _add_answer_verbs(verbs) -> None:
    verb = _add(verbs, actions.evaluate, "score runs on their held-out subjects")
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    verb.add_argument("--prepared", type=Path, help="another prepared data set, whole")

    for action, text, needs_out in (
        (actions.predict, "answer from raw scans", False),
        (actions.embed, "features of raw scans", True),
    ):
        verb = _add(verbs, action, text)
        verb.add_argument("run", metavar="RUN")
        verb.add_argument("scans", nargs="+", metavar="SCAN")
        verb.add_argument("--out", type=Path, required=needs_out, help=".csv, .parquet")
        verb.add_argument("--recipe", help="refused unless it is the run's own")
        _orientation(verb)
        _workers(verb)
        if action is actions.embed:
            verb.add_argument("--pool", help="mean, first_token or class_token (ViT)")
            _origin(verb)

    _add_segment(verbs)
    verb = _add(verbs, actions.convert, "another package's checkpoint to a run")
    _add_statement(verb)
    verb = _add(verbs, actions.export, "a run to files that need no brainjax")
    verb.add_argument("run", type=Path, metavar="RUN")
    verb.add_argument(
        "--to", default="safetensors", help="or torch, stablehlo, brain_mask"
    )
    verb.add_argument("--out", type=Path, required=True, help="a folder")
    verb.add_argument("--naming", default="monai", help="of keys; or brainiac")
    verb.add_argument(
        "--monai-version", default="", help="of the MONAI whose ViT is to load it"
    )

    verb = _add(verbs, actions.report, "one self-contained HTML page about runs")
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    verb.add_argument("--out", type=Path, default=Path("report.html"))
    verb.add_argument("--cohort", type=Path, help="phantom folder, for its truth.json")

    verb = _add(verbs, actions.study, "a grid of runs: what pretraining is worth")
    verb.add_argument("--config", type=Path, required=True)
    verb.add_argument("--workdir", type=Path, required=True)
    verb.add_argument(
        "--dry-run", action="store_true", help="only say how many runs, and how long"
    )
    verb = _add(verbs, actions.audit, "leaks: what test subjects share with training")
    verb.add_argument("runs", nargs="+", type=Path, metavar="RUN")

    _add(verbs, actions.doctor, "versions, devices, what is optional and missing")


def _add_segment(verbs) -> None:
    verb = _add(verbs, actions.segment, "outline structures, on the scans' own grids")
    verb.add_argument("run", metavar="RUN")
    verb.add_argument("scans", nargs="+", metavar="SCAN")
    verb.add_argument("--out", type=Path, required=True, help="a folder")
    verb.add_argument(
        "--format", default="nifti,csv", help="of nifti, csv, dicomseg, dicomsr"
    )
    verb.add_argument("--recipe", help="refused unless it is the run's own")
    verb.add_argument(
        "--probabilities", action="store_true", help="of every structure, as NIfTI"
    )
    verb.add_argument(
        "--flips", action="store_true", help="mean over a scan and its mirror image"
    )
    verb.add_argument(
        "--shape", action="store_true", help="shape features in the table, too"
    )
    verb.add_argument(
        "--largest", action="store_true", help="of each structure the largest part"
    )
    verb.add_argument(
        "--least-ml", type=float, default=0.0, help="drop parts under this, ml"
    )
    verb.add_argument(
        "--source", metavar="SERIES", help="DICOM series that a NIfTI scan is of"
    )
    verb.add_argument("--memory-gb", type=float, help="that the network may take")
    _orientation(verb)
    _workers(verb)


def _add_statement(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("file", metavar="FILE", help="or hf://owner/name/file")
    verb.add_argument("--out", type=Path, required=True, help="a new folder")
    _origin(verb)
    verb.add_argument("--recipe", help="how scans are prepared, if not as the origin's")
    verb.add_argument("--spacing", type=float, help="of that recipe, mm")
    verb.add_argument("--pool", default="", help="mean, first_token or class_token")
    verb.add_argument("--shape", type=sizes, help="input in voxels, as 96 or 96,112,96")
    verb.add_argument("--patch", type=sizes, help="resize to this patch, voxels")
    verb.add_argument("--inputs", type=int, default=1, help="scans of a subject")
    verb.add_argument("--task", help="of its head: regression or classification")
    verb.add_argument("--target", help="name of what the head answers")
    verb.add_argument("--unit", default="", help="of a regression")
    verb.add_argument("--classes", default="", help="names in the head's order, commas")
    verb.add_argument("--prefix", help="of the keys, where a file has several networks")
    verb.add_argument(
        "--set",
        dest="settings",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="of the encoder, where the file does not tell",
    )
    verb.add_argument(
        "--ignore", action="append", default=[], help="pattern of keys to leave out"
    )


def _origin(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--origin", default="", help="who trained a file, such as brainiac_v2, monai"
    )


def _add(verbs, action, text: str) -> argparse.ArgumentParser:
    verb = verbs.add_parser(action.__name__, help=text, description=text)
    verb.set_defaults(action=action)
    verb.add_argument(
        "--traceback",
        action="store_true",
        default=argparse.SUPPRESS,  # what was said before the verb holds
        help=argparse.SUPPRESS,
    )
    return verb


def _workers(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--workers",
        type=int,
        default=min(os.cpu_count() or 1, 8),
        help="scans at a time",
    )


def _processes(verb: argparse.ArgumentParser) -> None:
    words = verb.add_argument_group("one run of several processes (docs/launching.md)")
    words.add_argument(
        "--processes",
        metavar="auto|N",
        help="auto: as Cloud TPU, SLURM, Open MPI or Kubernetes say",
    )
    words.add_argument("--coordinator", metavar="HOST:PORT", help="of process 0")
    words.add_argument("--process-index", metavar="I", help="of this one, from 0")


def _orientation(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--orientation", help="of scans whose header does not say, such as RAS"
    )
