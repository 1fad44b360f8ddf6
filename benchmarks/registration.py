"""How well N4 and the registration to the template do, where the answer is known.

    python benchmarks/registration.py --phantoms 100
    python benchmarks/registration.py --ixi IXI_FOLDER --scans 100
    python benchmarks/registration.py --speed IXI_FOLDER --scans 3 --full 2

--phantoms: heads deformed and of four contrasts, turned by up to 30 degrees, shifted by
up to 30 mm, scaled by up to 10 %, with a bias field and noise. --ixi: real heads moved
by known rigid transforms, and where their DLMUSE regions come to lie in the template.
--speed: seconds a scan on one core beside N4 at full resolution and SimpleITK's rigid
registration with 1 % of the voxels. Prints tables; --out writes JSON.
"""

import argparse
import time
from pathlib import Path

import nibabel as nib
import numpy as np
from common import Report, summary, table, write
from nibabel.affines import apply_affine
from registration_phantoms import (
    apart,
    ask,
    brain_points,
    draw_move,
    head_mask,
    lay,
    rms,
    warm,
)

from brainjax.volume.bias import correct_bias
from brainjax.volume.itk import Image, to_itk
from brainjax.volume.placing import template_on_scan
from brainjax.volume.register import align_to_template, rigid_part
from brainjax.volume.scan import Scan, read_scan
from brainjax.volume.template import load_template
from brainjax.volume.through import resample_through

SEQUENCES = ("T1w", "T2w", "FLAIR", "T1CE")
LEAST_VOXELS = 50
"""A region of fewer voxels has no centroid worth a row."""


def main() -> None:
    options = parse()
    warm()
    report: Report = {}
    if options.phantoms:
        numbers = range(options.first, options.first + options.phantoms)
        report["phantoms"] = phantoms(numbers, options.spacing)
    if options.ixi:
        report["ixi"] = real_heads(options.ixi, options.scans)
    if options.speed:
        report["speed"] = speed(options.speed, options.scans, options.full)
    write(report, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--phantoms", type=int, default=0)
    # Up to 100 they were looked at while the registration was made.
    parser.add_argument("--first", type=int, default=101, help="number of a phantom")
    parser.add_argument("--spacing", type=float, default=2.0, help="of phantoms, mm")
    parser.add_argument("--ixi", type=Path)
    parser.add_argument("--speed", type=Path, help="folder as for --ixi")
    parser.add_argument(
        "--full", type=int, default=2, help="scans through full N4, 1 or more"
    )
    parser.add_argument("--scans", type=int, default=100)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def phantoms(numbers: range, spacing: float) -> Report:
    """Asks about each phantom, its sequence in turn."""
    rows = []
    for number in numbers:
        rows.append(ask(number, SEQUENCES[number % 4], spacing))
        moved = rows[-1]["moved"]
        facts = [f"{n} {moved[n]:.3f}" for n in ("error", "dice", "metric", "seconds")]
        print(number, rows[-1]["sequence"], *facts, flush=True)
    lines = []
    for name in ("all", *SEQUENCES):
        some = [r for r in rows if name in ("all", r["sequence"])]
        if some:
            lines.append([name, len(some), *_phantom_line(some)])
    heads = ["sequence", "n", "moved and still apart, mm", "error, mm"]
    heads += ["no affine follows, mm", "Dice", "field left, of", "metric"]
    print(table(heads, lines))
    return {"rows": rows}


def _phantom_line(rows: list[Report]) -> list[str]:
    moved = [row["moved"] for row in rows]
    before = np.median([row["field_before"] for row in moved])
    after = [row["field_after"] for row in moved]
    return [
        spread([row["disagree"] for row in rows]),
        spread([row["error"] for row in moved]),
        spread([row["rest"] for row in rows]),
        f"{np.median([row['dice'] for row in moved]):.3f}",
        f"{spread(after, 3)} of {before:.3f}",
        f"{min(row['metric'] for row in moved):.3f} at least",
    ]


def spread(values: list[float], digits: int = 2) -> str:
    """Gives "median (95th percentile, most)"."""
    middle, high = np.percentile(values, (50, 95))
    return f"{middle:.{digits}f} ({high:.{digits}f}, {max(values):.{digits}f})"


def real_heads(folder: Path, count: int) -> Report:
    """Moves real heads, asks again, and lays their regions over each other."""
    rows, places = [], {"affine": [], "rigid": [], "as they lie": []}
    for number, path in enumerate(ixi_scans(folder, count)):
        row, laid_by = real_head(path, np.random.default_rng([7, number]))
        rows.append(row)
        regions = centroids(path.with_name(path.name.replace("T1w", "dlmuse")))
        for name, matrix in laid_by.items():
            places[name].append(laid(regions, np.linalg.inv(matrix)))
        print(number, path.name, f"{row['affine']:.2f} mm", flush=True)
    lines = []
    for name, found in places.items():
        apart_mm = spread([row[name] for row in rows]) if name in rows[0] else "-"
        lines.append([name, apart_mm, spread(list(region_spread(found).values()))])
    print(table(["", "moved and still apart, mm", "regions' spread, mm"], lines))
    print("metric at least", min(row["metric"] for row in rows))
    return {"rows": rows, "spread": {n: region_spread(f) for n, f in places.items()}}


def real_head(path: Path, rng: np.random.Generator) -> tuple[Report, dict]:
    """Gives how far the head and itself moved come to lie apart; and where it lies."""
    scan = read_scan(path)
    start = time.process_time()
    first = lay(scan.voxels, scan.affine, scan.spacing)
    seconds = time.process_time() - start
    matrix = first.alignment.matrix
    centre = np.eye(4)
    centre[:3, 3] = matrix[:3, 3]
    move = centre @ draw_move(rng, scale=0.0) @ np.linalg.inv(centre)
    # Interpolated on the same grid: what leaves it is lost, as in a scanner.
    grid = scan.affine, scan.voxels.shape
    moved = resample_through(scan.voxels, scan.affine, np.linalg.inv(move), *grid)
    again = lay(moved, scan.affine, scan.spacing).alignment.matrix
    back = np.linalg.inv(move) @ again
    rigid = [rigid_part(m, brain_points()) for m in (matrix, back)]
    row = {
        "scan": path.name,
        "affine": rms(apart(matrix, back)),
        "rigid": rms(apart(*rigid)),
        "metric": first.alignment.metric,
        "seconds": seconds,
    }
    return row, {"affine": matrix, "rigid": rigid[0], "as they lie": centre}


def ixi_scans(folder: Path, count: int) -> list[Path]:
    return sorted(folder.glob("*_T1w.nii.gz"))[:count]


def centroids(path: Path) -> dict[int, np.ndarray]:
    """Gives the centroid of each region of a label map, scan mm."""
    image: nib.Nifti1Image = nib.load(path)  # type: ignore[assignment]
    labels = np.asarray(image.dataobj).astype(np.int32)
    used = np.argwhere(labels > 0)
    names = labels[labels > 0]
    counts = np.bincount(names)
    sums = [np.bincount(names, used[:, axis]) for axis in range(3)]
    return {
        int(label): apply_affine(image.affine, [s[label] / counts[label] for s in sums])
        for label in np.flatnonzero(counts >= LEAST_VOXELS)
    }


def laid(regions: dict[int, np.ndarray], matrix: np.ndarray) -> dict[int, np.ndarray]:
    return {k: apply_affine(matrix, at) for k, at in regions.items()}


def region_spread(found: list[dict[int, np.ndarray]]) -> dict[int, float]:
    """Gives how far a region's centroids lie from their mean, root mean square, mm."""
    spreads = {}
    for label in sorted({k for regions in found for k in regions}):
        at = np.array([regions[label] for regions in found if label in regions])
        if len(at) > len(found) / 2:
            spreads[label] = rms(np.linalg.norm(at - at.mean(0), axis=1))
    return spreads


def speed(folder: Path, count: int, full: int) -> Report:
    """Times our steps and the same of SimpleITK on the same scans, in one run.

    Of the scans so many as `full` says go through N4 in full: minutes each.
    """
    sides: dict[str, list] = {name: [] for name in WAYS}
    for number, path in enumerate(ixi_scans(folder, count)):
        scan = read_scan(path)
        regions = centroids(path.with_name(path.name.replace("T1w", "dlmuse")))
        for name, way in WAYS.items():
            if name != "ours" and number >= full:
                continue
            run = way(scan)
            matrix = run.pop("matrix")
            run["white_cv"] = white_variation(run.pop("voxels"), path)
            run["rerun_mm"] = rms(apart(matrix, run.pop("again")))
            run["white_before"] = white_variation(scan.voxels, path)
            run["regions"] = laid(regions, np.linalg.inv(matrix))
            sides[name].append(run)
            seconds = f"N4 {run['n4_s']:.1f} s, place {run['align_s']:.1f} s"
            print(path.name, name, seconds, flush=True)
    keys = {"n4_s": 1, "align_s": 1, "white_before": 3, "white_cv": 3, "rerun_mm": 3}
    lines = []
    for name, rows in sides.items():
        cells = [spread([row[key] for row in rows], n) for key, n in keys.items()]
        regions = spread(list(region_spread([r["regions"] for r in rows]).values()))
        lines.append([name, len(rows), *cells, regions])
    heads = ["", "n", "N4, s", "place, s", "white matter's variation before", "after"]
    print(table([*heads, "two runs apart, mm", "regions' spread, mm"], lines))
    return {
        name: {key: summary(r[key] for r in rows) for key in keys}
        for name, rows in sides.items()
    }


def ours(scan: Scan) -> Report:
    """Our steps in their order, timed."""
    rough, rough_s = clocked(align_to_template, scan.voxels, scan.affine)
    near = head_mask(scan.voxels, scan.spacing) & template_on_scan(scan, rough)
    voxels, n4_s = clocked(correct_bias, scan.voxels, scan.spacing, near)
    voxels = voxels.voxels
    start = time.process_time()
    found = align_to_template(voxels, scan.affine, kind="rigid", start=rough)
    align_s = rough_s + time.process_time() - start
    again = align_to_template(scan.voxels, scan.affine)
    again = align_to_template(voxels, scan.affine, kind="rigid", start=again)
    return {
        "n4_s": n4_s,
        "align_s": align_s,
        "voxels": voxels,
        "matrix": found.matrix,
        "again": again.matrix,
    }


def in_full(scan: Scan) -> Report:
    """N4 on every voxel, then a rigid registration by 1 % of them, drawn anew."""
    inside = head_mask(scan.voxels, scan.spacing)
    voxels, n4_s = clocked(full_n4, scan, inside)
    matrix, align_s = clocked(sampled_rigid, voxels, scan.affine)
    return {
        "n4_s": n4_s,
        "align_s": align_s,
        "voxels": voxels,
        "matrix": matrix,
        "again": sampled_rigid(voxels, scan.affine),
    }


WAYS = {"ours": ours, "SimpleITK in full": in_full}


def clocked(step, *given) -> tuple:
    start = time.process_time()
    return step(*given), time.process_time() - start


def white_variation(voxels: np.ndarray, path: Path) -> float:
    """Gives the spread of lobar white matter (DLMUSE 81-94) over its mean."""
    labels = path.with_name(path.name.replace("T1w", "dlmuse"))
    region = read_scan(labels).voxels
    values = voxels[(region >= 81) & (region <= 94)]
    low, high = np.percentile(values, (5, 95))
    return float((high - low) / (low + high))


def full_n4(scan, inside):
    """N4 on every voxel, SimpleITK's settings, one thread."""
    import SimpleITK

    image = SimpleITK.GetImageFromArray(scan.voxels)
    image.SetSpacing([float(mm) for mm in scan.spacing[::-1]])
    mask = SimpleITK.GetImageFromArray(inside.astype(np.uint8))
    mask.CopyInformation(image)
    corrector = SimpleITK.N4BiasFieldCorrectionImageFilter()
    corrector.SetNumberOfThreads(1)
    return SimpleITK.GetArrayFromImage(corrector.Execute(image, mask))


def sampled_rigid(voxels, affine):
    """Rigid by mutual information on 1 % of the voxels, drawn anew each time."""
    import SimpleITK

    template = load_template(1.0)
    fixed = to_itk(Image(template.t1, template.affine))
    moving = to_itk(Image(voxels, affine))
    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricAsMattesMutualInformation(numberOfHistogramBins=50)
    method.SetMetricSamplingStrategy(method.RANDOM)
    method.SetMetricSamplingPercentage(0.01)
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsGradientDescent(1.0, 100, 1e-6, 10)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([4, 2, 1])
    method.SetSmoothingSigmasPerLevel([2, 1, 0])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
    first = SimpleITK.CenteredTransformInitializer(
        fixed,
        moving,
        SimpleITK.Euler3DTransform(),
        SimpleITK.CenteredTransformInitializerFilter.GEOMETRY,
    )
    method.SetInitialTransform(first)
    found = method.Execute(fixed, moving)
    ends = np.array([found.TransformPoint(p) for p in np.eye(4, 3, -1).tolist()])
    matrix = np.eye(4)
    matrix[:3, 3] = ends[0]
    matrix[:3, :3] = (ends[1:] - ends[0]).T
    return matrix


if __name__ == "__main__":
    main()
