"""How like the truth the brain masks are: Dice on real heads and on phantoms.

    python benchmarks/brainmask.py --ixi IXI_FOLDER --pictures runs/brainmask
    brainjax phantom --head --sequences T1w T2w FLAIR T1CE --out PHANTOMS
    python benchmarks/brainmask.py --phantoms PHANTOMS
    python benchmarks/brainmask.py --ixi IXI_FOLDER --backend own template

--ixi: against `*_dlmuse.nii.gz` beside each scan (made by a model, not by hand): all
labels, and all but label 1, which is fluid round and between the gyri. --phantoms:
against the true labels: with the fluid round the brain, and without it (the tissue,
closed by CLOSED_MM); the neck's cord, below the template, is left out. --n4 removes the
bias field first, as a recipe does. --backend names another row of BACKENDS; several
are compared with each other too. Of "own", scans of subjects that the network learnt
from or was chosen by are a group apart. Prints tables; --out writes JSON; --pictures
draws best, median and worst.
"""

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import Report, table, write
from scipy import ndimage

from brainjax.records.sources import describe
from brainjax.train.restore import hash_subject
from brainjax.volume.bias import correct_bias
from brainjax.volume.brain_own import weights_facts
from brainjax.volume.brainmask import Brain, agreement, compare, find_brain
from brainjax.volume.mask import find_mask
from brainjax.volume.register import Alignment, align_to_template
from brainjax.volume.scan import Scan, read_scan
from brainjax.volume.space import Grid, GridAxis
from brainjax.volume.template import BOX_MM

FLUID = 1
"""Label of DLMUSE that is fluid outside the ventricles."""

SEEN = "ixi seen"
"""Group of the subjects that the network learnt from or was chosen by."""

PHANTOM_BRAIN = (1, 2, 3, 4, 9, 10, 11, 12)
CLOSED_MM = 6.0


class Case(NamedTuple):
    """A scan, its truth, and the group it is counted in."""

    name: str
    group: str
    scan: Path
    labels: Path


def main() -> None:
    options = parse()
    seen = weights_facts().get("subjects", []) if "own" in options.backend else []
    cases = [*real_heads(options.ixi, set(seen)), *phantoms(options.phantoms)]
    if options.held_out:
        cases = [case for case in cases if case.group != SEEN]
    if options.scans:
        cases = cases[:: max(len(cases) // options.scans, 1)][: options.scans]
    rows, pairs = [], []
    for case in cases:
        found, between = measure(case, options.backend, options.n4)
        rows += found
        pairs += between
        print(*(f"{k} {v}" for k, v in found[-1].items()), flush=True)
    report: Report = {"summary": summarise(rows), "scans": rows, "agreement": pairs}
    show(report)
    write(report, options.out)
    if options.pictures:
        draw(cases, rows, options.pictures, options.n4)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ixi", type=Path)
    parser.add_argument("--phantoms", type=Path)
    parser.add_argument("--backend", nargs="+", default=["template"])
    parser.add_argument("--n4", action="store_true")
    parser.add_argument("--held-out", action="store_true", help="not the group SEEN")
    parser.add_argument("--scans", type=int, help="at most so many, evenly picked")
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def real_heads(folder: Path | None, seen: set[str]) -> Iterator[Case]:
    """Gives heads with labels; `seen`: hashed subjects that a network learnt from."""
    for scan in sorted(folder.glob("*_T1w.nii.gz")) if folder else ():
        name = scan.name.removesuffix("_T1w.nii.gz")
        known = hash_subject(describe(scan).subject or "") in seen
        group = SEEN if known else "ixi"
        yield Case(name, group, scan, scan.with_name(f"{name}_dlmuse.nii.gz"))


def phantoms(folder: Path | None) -> Iterator[Case]:
    for labels in sorted(folder.glob("sub-*/anat/*_dseg.nii.gz")) if folder else ():
        name = labels.name.removesuffix("_dseg.nii.gz")
        for scan in sorted(labels.parent.glob(f"{name}_*.nii.gz")):
            sequence = scan.name.removesuffix(".nii.gz").rsplit("_", 1)[1]
            if scan != labels:
                yield Case(f"{name}_{sequence}", f"phantom {sequence}", scan, labels)


def measure(case: Case, backends: list[str], n4: bool) -> tuple[list, list]:
    """Gives a row for each back end, and one for each two of them."""
    scan, truths = read(case, n4)
    began = time.perf_counter()
    alignment = None
    if "template" in backends or not is_real(case):
        alignment = align_to_template(scan.voxels, scan.affine)
    rows, masks, aligned = [], {}, time.perf_counter() - began
    if alignment is not None and not is_real(case):
        here = above_stem(scan, alignment)
        truths = {name: truth & here for name, truth in truths.items()}
    for backend in backends:
        began = time.perf_counter()
        brain = find(scan, backend, alignment)
        seconds = time.perf_counter() - began
        masks[backend] = brain.mask
        row: dict = {"scan": case.name, "group": case.group, "backend": backend}
        for name, truth in truths.items():
            found = compare(brain.mask, truth, scan.affine)
            row[name] = round(float(found.dice), 4)
            row[f"{name}_hd95"] = found.hausdorff95_mm
            row[f"{name}_ml"] = round(found.first_minus_second_ml, 1)
        row |= {"align_s": round(aligned, 2), "mask_s": round(seconds, 2)}
        rows.append({**row, "doubts": list(brain.doubts)})
    between = agreement(masks, scan.affine)
    return rows, [[case.name, *pair, *map(float, v)] for pair, v in between.items()]  # type: ignore[arg-type]


def is_real(case: Case) -> bool:
    return case.group.startswith("ixi")


def find(scan: Scan, backend: str, alignment: Alignment | None) -> Brain:
    return find_brain(scan.voxels, scan.affine, backend=backend, alignment=alignment)


def read(case: Case, n4: bool) -> tuple[Scan, dict[str, np.ndarray]]:
    """Gives the scan, and what counts as its brain under each name."""
    scan, labels = read_scan(case.scan), read_scan(case.labels).voxels
    if n4:
        head = find_mask(scan.voxels, scan.spacing, kind="head").on(whole(scan))
        corrected = correct_bias(scan.voxels, scan.spacing, head)
        scan = scan._replace(voxels=corrected.voxels)
    if is_real(case):
        return scan, {"all": labels > 0, "tissue": labels > FLUID}
    tissue = np.isin(labels, PHANTOM_BRAIN[1:])
    outside = ndimage.distance_transform_edt(~tissue, sampling=scan.spacing)
    grown = np.asarray(outside) <= CLOSED_MM
    inside = ndimage.distance_transform_edt(grown, sampling=scan.spacing)
    closed = (np.asarray(inside) > CLOSED_MM) | tissue
    return scan, {"all": np.isin(labels, PHANTOM_BRAIN), "tissue": closed}


def above_stem(scan: Scan, alignment: Alignment) -> np.ndarray:
    """Gives where the scan is above the lower face of the template."""
    pull = np.linalg.inv(alignment.matrix) @ scan.affine
    i, j, k = np.ogrid[tuple(slice(n) for n in scan.voxels.shape)]
    height = pull[2, 0] * i + pull[2, 1] * j + pull[2, 2] * k + pull[2, 3]
    return height >= BOX_MM[2][0]


def whole(scan: Scan) -> Grid:
    return Grid(*(GridAxis(0.0, 1.0, n) for n in scan.voxels.shape))


def summarise(rows: list[dict]) -> list[dict]:
    """Gives, by group, back end and truth: Dice, distance, volume, seconds."""
    found = []
    keys = sorted({(r["group"], r["backend"]) for r in rows})
    for group, backend in keys:
        of = [r for r in rows if (r["group"], r["backend"]) == (group, backend)]
        for truth in ("all", "tissue"):
            if truth in of[0]:
                found.append(summary_row(group, backend, truth, of))
    return found


def summary_row(group: str, backend: str, truth: str, rows: list[dict]) -> dict:
    dice = [r[truth] for r in rows]
    worst = min(rows, key=lambda r: r[truth])
    return {
        "group": group,
        "backend": backend,
        "truth": truth,
        "n": len(rows),
        "dice": round(statistics.mean(dice), 4),
        "sd": round(statistics.pstdev(dice), 4),
        "median": round(statistics.median(dice), 4),
        "worst": worst[truth],
        "worst_scan": worst["scan"],
        "hd95_mm": round(statistics.median(r[f"{truth}_hd95"] for r in rows), 2),
        "ml": round(statistics.mean(r[f"{truth}_ml"] for r in rows), 1),
        "mask_s": statistics.median(r["mask_s"] for r in rows),
    }


def show(report: Report) -> None:
    found = report["summary"]
    print(table(list(found[0]), [list(row.values()) for row in found]))
    if report["agreement"]:
        heads = ("scan", "one", "other", "dice", "hd95 mm", "ml")
        print(table(heads, report["agreement"]))


def draw(cases: list[Case], rows: list[dict], folder: Path, n4: bool) -> None:
    """Draws best, median and worst of each group, three planes each."""
    folder.mkdir(parents=True, exist_ok=True)
    by_name = {case.name: case for case in cases}
    for group, backend in sorted({(r["group"], r["backend"]) for r in rows}):
        of = [r for r in rows if (r["group"], r["backend"]) == (group, backend)]
        of = sorted(of, key=lambda r: r["all"])
        picked = [of[-1], of[len(of) // 2], of[0]]
        out = folder / f"{group}_{backend}.png".replace(" ", "_")
        draw_rows([(by_name[r["scan"]], r) for r in picked], backend, n4, out)


def draw_rows(picked: list, backend: str, n4: bool, out: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(len(picked), 3, figsize=(12, 4 * len(picked)))
    for line, (case, row) in zip(axes, picked, strict=True):
        scan, truths = read(case, n4)
        mask = find(scan, backend, None).mask
        truth = truths["all" if is_real(case) else "tissue"]
        middle = np.argwhere(truth).mean(0).astype(int)
        for axis, place in enumerate(line):
            plane = scan.voxels.take(middle[axis], axis).T
            place.imshow(plane, cmap="gray", origin="lower")
            for what, colour in ((truth, "red"), (mask, "cyan")):
                edge = what.take(middle[axis], axis).T
                place.contour(edge, [0.5], colors=colour, linewidths=0.8)
            place.axis("off")
        line[0].set_title(f"{case.name} Dice {row['all']}")
    figure.tight_layout()
    figure.savefig(out, dpi=60)
    plt.close(figure)


if __name__ == "__main__":
    main()
