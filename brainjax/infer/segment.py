"""Raw scans to outlines on the grid of their own files."""

import itertools
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Shaped, UInt8

from brainjax.errors import InputRefusedError
from brainjax.infer.program import Program, make_program, structures_of
from brainjax.infer.scans import Prepared, check_recipe, list_scans, prepare_scans
from brainjax.infer.together import choose_scans
from brainjax.records.cases import SAME_GRID, voxels_apart
from brainjax.records.serving import describe_error
from brainjax.records.sources import Source, name_stem
from brainjax.train.restore import Run, load_run
from brainjax.volume.canonical import Canonical
from brainjax.volume.components import clean
from brainjax.volume.native import FileGrid, file_grid, to_file_grid
from brainjax.volume.outlines import labels_on, masks_on

Failures = list[tuple[str, str]]
Case = tuple[Source, ...]


class Outlined(NamedTuple):
    """What a run answers for one case.

    Attributes:
      source: the scan whose grid it is on; of several sequences the first there is.
      scans: all scans of the case, in the order of the run's sequences.
      name: of its files, different for each.
      grid: of the scan's file.
      labels: class numbers, 1 to n in the order of `names`, 0 outside; or, where
        structures may overlap, a mask of each.
      names: of the structures.
      probabilities: of each structure, if they were asked for.
    """

    source: Source
    scans: tuple[Source, ...]
    name: str
    grid: FileGrid
    labels: UInt8[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k n"]
    names: tuple[str, ...]
    probabilities: tuple[Float32[np.ndarray, "i j k"], ...]

    def mask(self, number: int) -> Bool[np.ndarray, "i j k"]:
        """Gives where a structure is, by its place in `names`."""
        if self.labels.ndim == 4:
            return self.labels[..., number].astype(bool)
        return self.labels == number + 1


class Segment:
    """Outlines the structures of a segmentation run in raw scans, one after another.

    Iterating gives `Outlined`; `failures` then has (path, reason) of what was refused.

    Args:
      run: a segmentation run, trained here or converted.
      scans: NIfTI files, DICOM series, folders or tables.
      recipe: name or hash that the run's must agree with; its own if None.
      orientation: of scans whose header states none, such as "RAS".
      workers: scans prepared at a time.
      probabilities: whether to give them, too.
      flips: whether to average over a scan and its mirror image.
      largest, least_ml: see `components.clean`.
      memory_bytes: that the network may take; a share of what is free where None.

    Raises:
      InputRefusedError: the run, the recipe or the list of scans.
    """

    def __init__(
        self,
        run: str | Path | Run,
        scans: Sequence[str],
        *,
        recipe: str | None = None,
        orientation: str | None = None,
        workers: int = 1,
        probabilities: bool = False,
        flips: bool = False,
        largest: bool = False,
        least_ml: float = 0.0,
        memory_bytes: int | None = None,
    ):
        self.run = run if isinstance(run, Run) else load_run(run)
        check_recipe(self.run, recipe)
        self.names = structures_of(self.run).names
        self.orientation, self.workers = orientation, workers
        self.probabilities, self.flips = probabilities, flips
        self.kept = {"largest": largest, "least_ml": least_ml}
        self.memory_bytes = memory_bytes
        sequences = tuple(self.run.network.get("sequences") or ())
        chosen, self.failures = choose_scans(list_scans(scans), sequences)
        self.cases = group_cases(chosen, sequences)
        self.program: Program | None = None

    def __iter__(self) -> Iterator[Outlined]:
        sources = [source for case in self.cases for source in case]
        if not sources:
            return
        prepared = prepare_scans(
            sources,
            self.run.recipe,
            orientation=self.orientation,
            workers=self.workers,
        )
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(next, prepared)
            # Compiled while the first scan is prepared: neither waits for the other.
            self.program = make_program(
                self.run, flips=self.flips, memory_bytes=self.memory_bytes
            )
            names = dict(zip(self.cases, name_cases(self.cases), strict=True))
            for case, volumes in self._whole(
                itertools.chain([first.result()], prepared)
            ):
                try:
                    found = self._outline(self.program, case, volumes, names[case])
                except Exception as error:  # must not lose the others' answers
                    self.failures.append((case[0].path, describe_error(error)))
                else:
                    yield found

    def _whole(
        self, prepared: Iterator[Prepared]
    ) -> Iterator[tuple[Case, list[Canonical | None]]]:
        """Gives cases when all of their scans have been prepared or refused."""
        case_of = {source: case for case in self.cases for source in case}
        waiting: dict[Case, dict[Source, Canonical | None]] = {}
        for one in prepared:
            if one.volume is None:
                self.failures.append((one.source.path, one.reason))
            case = case_of[one.source]
            done = waiting.setdefault(case, {})
            done[one.source] = one.volume
            if len(done) < len(case):
                continue
            del waiting[case]
            volumes = [done[source] for source in case]
            if any(volume is not None for volume in volumes):
                yield case, volumes

    def _outline(
        self,
        program: Program,
        case: Case,
        volumes: Sequence[Canonical | None],
        name: str,
    ) -> Outlined:
        there = [(s, v) for s, v in zip(case, volumes, strict=True) if v is not None]
        source, volume = there[0]
        for other, its in there[1:]:
            check_same_grid(volume, its, other.path)
        codes = self._codes(case, volumes)
        grid = file_grid(source.path, orientation=self.orientation)
        found = program.call(codes)
        way = (volume.affine, to_scan_of(volume), grid)
        labels = labels_of(found, program.structures.sigmoid, *way)
        chances = ()
        if self.probabilities:
            own = found if program.structures.sigmoid else found[1:]
            chances = tuple(to_file_grid(one, *way, order="linear") for one in own)
        return Outlined(
            source,
            tuple(source for source, _ in there),
            name,
            grid,
            clean(labels, grid.affine, **self.kept),
            program.structures.names,
            chances,
        )

    def _codes(
        self, case: Case, volumes: Sequence[Canonical | None]
    ) -> Shaped[np.ndarray, "s x y z"]:
        """Puts each scan in the place of its sequence; what is missing is code 0."""
        sequences = tuple(self.run.network.get("sequences") or ()) or (None,)
        shape = (len(sequences), *self.run.recipe.shape)
        codes = np.zeros(shape, self.run.recipe.storage)
        for source, volume in zip(case, volumes, strict=True):
            if volume is not None:
                known = source.sequence in sequences
                place = sequences.index(source.sequence) if known else 0
                codes[place] = volume.codes
        return codes


def labels_of(
    found: Float32[np.ndarray, "c x y z"],
    sigmoid: bool,
    affine: np.ndarray,
    to_scan: np.ndarray,
    grid: FileGrid,
) -> UInt8[np.ndarray, "i j k"] | Bool[np.ndarray, "i j k n"]:
    """Gives outlines on a file's grid; one structure alone is a map of class 1."""
    if not sigmoid:
        return labels_on(found, affine, to_scan, grid)
    masks = masks_on(found, affine, to_scan, grid)
    return masks[..., 0].astype(np.uint8) if masks.shape[3] == 1 else masks


def to_scan_of(volume: Canonical) -> np.ndarray:
    """Gives mm of a canonical volume to mm of its scan."""
    return np.array(volume.provenance.get("to_scan", np.eye(4)), np.float64)


def check_same_grid(one: Canonical, other: Canonical, path: str) -> None:
    """Refuses sequences whose voxels do not lie over one another, to half a voxel."""
    worst = voxels_apart(one.affine, other.affine, one.codes.shape)
    if worst > SAME_GRID:
        raise InputRefusedError(
            f"{path}: wanted it where the other sequences of its session are, got it "
            f"{worst:.1f} voxels away; use a recipe that aligns them"
        )


def group_cases(sources: Sequence[Source], sequences: Sequence[str]) -> list[Case]:
    """Gives the scans of every subject and session together, in the run's order.

    Without sequences every scan is a case of its own.
    """
    if not sequences:
        return [(source,) for source in dict.fromkeys(sources)]
    found: dict[tuple, list[Source]] = {}
    for source in sources:
        who = (source.subject or source.path, source.session)
        found.setdefault(who, []).append(source)
    order = list(sequences)
    return [
        tuple(sorted(scans, key=lambda s: order.index(str(s.sequence))))
        for scans in found.values()
    ]


def name_cases(cases: Sequence[Case]) -> list[str]:
    """Gives a name for the files of every case: that of its first scan's file.

    Where two are called alike, the folders they are in come before it, or a number
    behind.
    """
    plain = [_plain(case[0].path) for case in cases]
    names = [
        name if plain.count(name) == 1 else f"{_folder(case[0].path)}_{name}"
        for case, name in zip(cases, plain, strict=True)
    ]
    seen: dict[str, int] = {}
    for place, name in enumerate(names):
        seen[name] = seen.get(name, 0) + 1
        if seen[name] > 1:
            names[place] = f"{name}_{seen[name]}"
    return names


def _plain(path: str) -> str:
    return name_stem(Path(path).name).replace("::", "_")


def _folder(path: str) -> str:
    return Path(path).absolute().parent.name
