"""Raw scans to canonical volumes, those of a session through one of them."""

import threading
from collections.abc import Sequence

from brainjax.records.sessions import plan_sessions
from brainjax.records.sources import Source
from brainjax.volume.aligned import Kept, settled
from brainjax.volume.aligned_recipe import AlignedRecipe, check_installed
from brainjax.volume.canonical import Canonical
from brainjax.volume.placing import Reference
from brainjax.volume.recipe import AnyRecipe, prepare_and_keep
from brainjax.volume.scan import read_scan


class _Session:
    """The scans of one session: which waits, which was done for the others' sake."""

    def __init__(self, positions: Sequence[int]):
        self.lock = threading.Lock()
        self.waiting = list(positions)
        self.left = len(self.waiting)
        self.done: dict[int, Canonical | Exception] = {}
        self.reference: Reference | None = None


class Sessions:
    """Prepares scans in any order, from any thread, as `brainjax prepare` does.

    The best reference of a session is prepared with the first of its scans that is
    asked for; where it is refused, the next best takes its place. A session's voxels
    are held from its first scan to its last: in `order` that is not for long.

    order: the scans, those of a session one after another.
    """

    def __init__(
        self, sources: Sequence[Source], recipe: AnyRecipe, orientation: str | None
    ):
        if isinstance(recipe, AlignedRecipe):
            check_installed(recipe)
        self._sources, self._recipe = sources, recipe
        self._orientation = orientation
        self._sessions: dict[int, _Session] = {}
        groups = plan_sessions(sources, recipe)
        firsts = sorted(groups, key=min)
        self.order = [position for group in firsts for position in sorted(group)]
        for positions in groups:
            session = _Session(positions)
            self._sessions |= dict.fromkeys(positions, session)

    def prepare(self, position: int) -> Canonical:
        """Gives the canonical volume of a scan, once.

        Raises:
          InputRefusedError: the scan is refused; one line that names it.
        """
        session = self._sessions.pop(position)
        with session.lock:
            while session.reference is None and session.waiting:
                self._try_reference(session, session.waiting.pop(0))
            found = session.done.pop(position, None)
            reference = session.reference
            session.left -= 1
            if not session.left:
                session.reference = None  # its voxels are needed no more
        if found is None:
            found, _ = self._prepare(position, reference)
        if isinstance(found, Exception):
            raise found
        return found

    def _try_reference(self, session: _Session, position: int) -> None:
        try:
            volume, kept = self._prepare(position, None)
        except Exception as error:  # told when this scan is asked for
            session.done[position] = error
            return
        session.done[position] = volume
        if kept is not None and session.waiting:
            session.reference = self._lend(position, volume, kept)
            session.waiting.clear()

    def _prepare(
        self, position: int, reference: Reference | None
    ) -> tuple[Canonical, Kept | None]:
        source = self._sources[position]
        return prepare_and_keep(
            source.path,
            self._recipe,
            mask_path=source.mask,
            orientation=self._orientation,
            reference=reference,
        )

    def _lend(self, position: int, volume: Canonical, kept: Kept) -> Reference:
        path = self._sources[position].path
        scan = settled(read_scan(path, orientation=self._orientation))
        to_scan = kept.to_scan
        return Reference(
            scan.voxels, scan.affine, kept.brain, volume.affine, to_scan, path
        )
