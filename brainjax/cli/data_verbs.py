"""What the verbs do that make data of scans: phantom, prepare, strip.

What a verb needs is imported when it runs, so that `--help` answers at once.
"""

import argparse
import sys

from brainjax.cli.codes import GOOD
from brainjax.cli.listing import listed
from brainjax.errors import InputRefusedError

STEPS = ("bias", "registration", "mask", "session")
"""Words of `prepare` that go into its recipe."""


def phantom(options: argparse.Namespace) -> int:
    """Generates a cohort with known answers."""
    from brainjax.phantom import cohort

    cohort(
        options.out,
        subjects=options.subjects,
        seed=options.seed,
        spacing=options.spacing,
        head=options.head,
        sequences=tuple(options.sequences),
        arms=tuple(options.arms),
        workers=options.workers,
    )
    return GOOD


def prepare(options: argparse.Namespace) -> int:
    """Brings raw scans into shards; refused if any scan was."""
    from brainjax.records.pairing import pair_label_maps
    from brainjax.records.plan import memory_need, show_plan
    from brainjax.records.runners import Way
    from brainjax.records.sources import find_sources
    from brainjax.volume.recipe import make_recipe

    fov = tuple(options.fov_mm) if options.fov_mm else None
    steps = {name: getattr(options, name) for name in STEPS}
    recipe = make_recipe(options.recipe, spacing=options.spacing, fov_mm=fov, **steps)
    memory = options.memory_gb
    if memory is not None and not 0 < memory < 1e6:
        raise InputRefusedError(f"memory-gb: wanted more than 0, got {memory:g}")
    way = Way(
        workers=options.workers,
        limit_s=options.limit_s,
        memory_bytes=memory_need(recipe) if memory is None else int(memory * 2**30),
        scheduler=options.scheduler,
        cluster=options.cluster,
    )
    sources = find_sources(options.sources)
    if options.dry_run:
        if options.label_maps:
            sources = pair_label_maps(sources, options.label_maps).sources
        show_plan(sources, recipe, way, options.out)
        return GOOD
    result = _prepare(
        options,
        sources,
        recipe,
        way,
    )
    print(
        f"{options.out}: {result.done} of {result.total} scans prepared "
        f"({result.reused} reused), {len(result.failures)} refused"
    )
    if result.label_maps or result.bad_maps:
        print(f"{options.out}: label maps of {result.label_maps} scans")
    _tell_quality(options, result.flagged)
    return max(listed(result.failures), listed(result.bad_maps, "label map"))


def _prepare(options: argparse.Namespace, sources, recipe, way):
    """Prepares; where all that was found stands out, the page still says why."""
    from brainjax.records.prepare import prepare as prepare_scans

    try:
        return prepare_scans(
            sources,
            options.out,
            recipe,
            labels=options.labels,
            label_maps=options.label_maps,
            orientation=options.orientation,
            way=way,
            header_labels=options.header_labels,
            exclude_flagged=options.exclude_flagged,
        )
    except InputRefusedError:
        if options.exclude_flagged:
            _tell_quality(options, None)
        raise


def _tell_quality(options: argparse.Namespace, flagged: int | None) -> None:
    """Writes the page of quality where there is something to show, and says so."""
    from importlib.util import find_spec

    table = options.out / "qc.tsv"
    if not table.is_file():
        return
    out = "left out" if options.exclude_flagged else "kept"
    words = f"{table}: {'all' if flagged is None else flagged} stand out ({out})"
    if find_spec("jinja2") is None or find_spec("matplotlib") is None:
        print(f"{words}; a page of pictures takes: pip install 'brainjax[report]'")
        return
    from brainjax.report.qc import write_page_of

    try:
        print(f"{words}; {write_page_of(options.out)}: open it in a browser")
    except InputRefusedError as error:  # the list of refused scans must still come
        print(f"{words}; no page: {error}", file=sys.stderr)


def strip(options: argparse.Namespace) -> int:
    """Writes brains and masks of scans; refused if any scan was."""
    from brainjax.records.strip import strip as strip_scans

    return listed(
        strip_scans(
            options.scans,
            options.out,
            backend=options.mask,
            orientation=options.orientation,
            tell=print,
        )
    )
