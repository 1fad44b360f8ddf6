"""The same head stored in other ways: how far do its features move?

    python benchmarks/storage.py --run runs/study/pretrain --scans IXI/*T1w.nii.gz

Each scan is embedded as it is, as L-A-S and R-P-I (the same voxels), oblique (turned by
20 degrees onto another grid) and anisotropic (0.5 x 0.5 x 5 mm), through each recipe.
Distances are Euclidean, between features; beside them those between subjects. A run's
own recipe is not asked for: the network is the same whatever prepared the scan.
"""

import argparse
from pathlib import Path

import nibabel as nib
import numpy as np
from common import Report, table, write
from scipy.spatial.transform import Rotation

from brainjax.evaluate.features import encode_scans, make_encode
from brainjax.train.restore import load_run
from brainjax.volume.recipe import make_recipe, prepare_volume
from brainjax.volume.scan import Scan, read_scan
from brainjax.volume.through import resample_through

WAYS = ("L-A-S", "R-P-I", "oblique", "0.5 x 0.5 x 5 mm")
TURN_DEGREES = 20.0
THICK_MM = (0.5, 0.5, 5.0)


def main() -> None:
    options = parse()
    options.work.mkdir(parents=True, exist_ok=True)
    stored = [
        store_ways(path, options.work)
        for path in sorted(options.scans)[:: options.every]
    ][: options.count]
    run = load_run(options.run)
    encode = make_encode(run.graphdef, view=run.view)
    report: Report = {"scans": len(stored), "run": run.checkpoint}
    lines = []
    for name in options.recipes:
        recipe = make_recipe(name, spacing=192 / run.recipe.shape[0])
        codes = (prepare_volume(p, recipe).codes for row in stored for p in row)
        features = encode_scans(encode, run.params, run.batch_stats, codes, batch=4)
        features = np.asarray(features).reshape(len(stored), 1 + len(WAYS), -1)
        report[name], some = distances(features)
        lines += [[name, *line] for line in some]
    heads = [
        "recipe",
        "stored",
        "median",
        "largest",
        "of the distance between subjects",
    ]
    print(table([*heads, "nearest is itself"], lines))
    write(report, options.out)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--scans", type=Path, nargs="+", required=True)
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument(
        "--every", type=int, default=1, help="take each so manieth scan"
    )
    parser.add_argument("--recipes", nargs="+", default=["canonical", "mni_affine"])
    parser.add_argument("--work", type=Path, default=Path("runs/storage"))
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


def store_ways(path: Path, work: Path) -> list[Path]:
    """Writes a scan in each way; gives the files, the scan as it is first."""
    scan = read_scan(path)
    files = [work / f"{path.name.split('.')[0]}_{n}.nii.gz" for n in range(len(WAYS))]
    image = nib.Nifti1Image(scan.voxels, scan.affine)
    for file, letters in zip(files, ("LAS", "RPI"), strict=False):
        ways = nib.orientations.axcodes2ornt(tuple(letters))
        image.as_reoriented(ways.tolist()).to_filename(file)
    turn = np.eye(4)
    turn[:3, :3] = Rotation.from_euler(
        "xyz", [TURN_DEGREES, 8, -6], degrees=True
    ).as_matrix()
    oblique = on_grid(scan, turn, (1.0, 1.0, 1.0))
    on_grid(scan, np.eye(4), THICK_MM).to_filename(files[3])
    oblique.to_filename(files[2])
    return [path, *files]


def on_grid(scan: Scan, turn: np.ndarray, spacing: tuple) -> nib.Nifti1Image:
    """Gives a scan on a grid of another spacing, turned about its middle."""
    extent = np.array(scan.voxels.shape) * scan.spacing
    middle = scan.affine @ np.r_[(np.array(scan.voxels.shape) - 1) / 2, 1]
    shape = np.ceil(extent / spacing).astype(int)
    affine = turn @ np.diag([*spacing, 1.0])
    affine[:3, 3] = middle[:3] - affine[:3, :3] @ ((shape - 1) / 2)
    x, y, z = (int(n) for n in shape)
    voxels = resample_through(scan.voxels, scan.affine, np.eye(4), affine, (x, y, z))
    return nib.Nifti1Image(voxels, affine)


def distances(features: np.ndarray) -> tuple[Report, list[list[str]]]:
    """Gives distances of [scans, ways, d] to the scan as it is, and between scans."""
    first = features[:, 0]
    between = np.linalg.norm(first[:, None] - first[None], axis=-1)
    usual = float(np.median(between[np.triu_indices(len(first), 1)]))
    found: Report = {"between_subjects": usual}
    lines = []
    for number, way in enumerate(WAYS, start=1):
        moved = np.linalg.norm(features[:, number] - first, axis=-1)
        gaps = np.linalg.norm(features[:, number, None] - first[None], axis=-1)
        same = int((gaps.argmin(1) == np.arange(len(first))).sum())
        found[way] = {"distances": moved.tolist(), "nearest_is_itself": same}
        share = f"{np.median(moved) / usual:.3f} ({moved.max() / usual:.3f})"
        cells = [f"{np.median(moved):.3f}", f"{moved.max():.3f}", share]
        lines.append([way, *cells, f"{same} of {len(first)}"])
    return found, lines


if __name__ == "__main__":
    main()
