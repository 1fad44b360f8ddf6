"""What a series shows, told from the words and the timing of its header."""

import re
from typing import NamedTuple

from brainjax.anatomy import sequence_name


class Guess(NamedTuple):
    """A sequence, or None; and why the series is no anatomical scan, if it is none."""

    sequence: str | None
    left_out: str | None


class Timing(NamedTuple):
    """Of an MR pulse sequence: times in ms, flip angle in degrees; None if unstated."""

    te: float | None = None
    tr: float | None = None
    ti: float | None = None
    flip: float | None = None


OTHER_KINDS = {
    "localiser": r"local[iy][sz]er|\bloc\b|scout|\bsurvey|plan ?scan|\b3 ?plane?\b",
    "diffusion": r"diff|\bdwi|\bdti|\badc\b|tensor|\btrace|\bb ?\d{3,4}\b",
    "susceptibility": r"\bswi|\bswan\b|venobold|suscept|\bqsm\b",
    "projection": r"\bm(in)?ip\b|projection",
    "perfusion": r"perf|\bp?c?asl\b|\bdsc\b|\bdce\b|\b(rel ?|r)?cb[fv]\b|\bmtt\b",
    "angiography": r"\btof|angio|\bmra\b|\bmrv\b|\b3d ?pca?\b|phase ?contrast",
    "function": r"bold|fmri|\brest(ing)?\b|\btask\b|\bep2d",
    "field map": r"field ?map|gre ?field|\bb[01] ?map|\bfmap\b",
    "phase": r"\bphase\b(?! ?(enc|ap|pa|lr|rl)\b)|\bpha\b",
    "spectroscopy": r"spectro|\bmrs\b|\bcsi\b|\bsvs\b|\bpress\b",
    "quantitative map": r"\b(t[12]\*?|r[12]s?|pd) ?map|relaxo",
    "report": r"report|screen ?(save|shot|cap)|protocol ?page|phoenix|\bsummary\b",
}
"""Words of a series that is no anatomical scan of the brain, by what it is."""

OTHER_TYPES = {
    "localiser": {"LOCALIZER"},
    "diffusion": {"DIFFUSION", "ADC", "TRACEW", "TRACE", "FA", "TENSOR", "AVERAGE_DC"},
    "perfusion": {"PERFUSION", "ASL", "CBF", "CBV", "RELCBF", "RELCBV", "MTT", "TTP"},
    "function": {"FMRI", "MOSAIC"},
    "angiography": {"ANGIO", "ANGIO_TIME", "TOF"},
    "susceptibility": {"SWI", "MNIP"},
    "phase": {"P", "PHASE", "PHASE MAP", "VELOCITY"},
    "complex part": {"I", "IMAGINARY", "R", "REAL"},
    "quantitative map": {"T1 MAP", "T2 MAP", "T1_MAP", "T2_MAP", "T2_STAR_MAP"},
    "projection": {"PROJECTION IMAGE", "MIP", "MAX_IP", "MIN_IP"},
    "spectroscopy": {"SPECTROSCOPY"},
}
"""Values of ImageType that say the same; of its third value on."""

_FLAVOURS = {
    "T1": "T1w",
    "T2": "T2w",
    "FLUID_ATTENUATED": "FLAIR",
    "T2_STAR": "T2starw",
}
"""What ImageType may say of the contrast (DICOM PS3.3 C.8.13.3.1.1)."""

OTHER_BODY_PARTS = (
    *(
        "ABDOMEN",
        "ANKLE",
        "BREAST",
        "CHEST",
        "CSPINE",
        "ELBOW",
        "FOOT",
        "HAND",
        "HEART",
    ),
    *("HIP", "KNEE", "LEG", "LIVER", "LSPINE", "PELVIS", "PROSTATE", "SHOULDER"),
    *("SPINE", "TSPINE", "WRIST"),
)

_FLAIR = r"flair|dark ?fluid|\bt2f\b"
_T1 = r"t1(?!\d)|mp2?rage|bravo|\bf?spgr\b|\btfl3d"
_T2 = r"t2(?!\d)"
_STAR = r"t2w?\*|t2 ?star|\bmedic\b|\bhemo|\bgre\b.*\bt2|t2.*\b(gre|ffe)\b"
_CONTRAST = (
    r"\+ ?(c|gd|gad|km|ce|contrast)\b|\bc\+|\b(ce|gd|gad|gado\w*|contrast|kontrast"
    r"|km|post|post ?(con\w*|gd|gad)|t1 ?(c|ce|gd|post)|t1w ?(c|ce))\b"
)
_NO_CONTRAST = r"\b(pre|non|no|without|w ?o|ohne|nativ)\b"


def guess_sequence(
    words: str,
    image_type: tuple[str, ...],
    timing: Timing,
    *,
    contrast: bool = False,
    body_part: str = "",
) -> Guess:
    """Tells the sequence of an MR series, or that it is no anatomical brain scan.

    Args:
        words: of SeriesDescription, ProtocolName and SequenceName, as they come.
        image_type: of the header; of an enhanced file with its frame type.
        timing: in ms and degrees.
        contrast: a contrast agent is stated.
        body_part: BodyPartExamined.

    Words go before timing, which alone names a sequence only where it is plain.
    """
    text = _plain(words)
    reason = _other(text, image_type, body_part)
    if reason:
        return Guess(None, reason)
    flavours = (_FLAVOURS.get(value.upper()) for value in image_type[2:])
    flavour = next((name for name in flavours if name), None)
    name = _by_words(text) or flavour or _by_timing(timing)
    said = contrast or re.search(_CONTRAST, text)
    if name == "T1w" and said and not re.search(_NO_CONTRAST, text):
        name = "T1CE"
    return Guess(name, None)


def _plain(words: str) -> str:
    """Gives lower-case words with one space between them; + and * are kept."""
    return " ".join(re.sub(r"[^a-z0-9+*]+", " ", words.lower()).split())


def _other(text: str, image_type: tuple[str, ...], body_part: str) -> str | None:
    values = {value.upper().strip() for value in image_type[2:]}
    for reason, types in OTHER_TYPES.items():
        if values & types:
            return reason
    if body_part.upper().replace(" ", "") in OTHER_BODY_PARTS:
        return "another part of the body"
    found = (why for why, pattern in OTHER_KINDS.items() if re.search(pattern, text))
    return next(found, None)


def _by_words(text: str) -> str | None:
    if re.search(_FLAIR, text):
        return "T1w" if re.search(r"t1(?!\d)", text) else "FLAIR"
    if re.search(_STAR, text):
        return "T2starw"
    first, second = re.search(_T1, text), re.search(_T2, text)
    if first and second:
        return None
    if first or second:
        return "T1w" if first else "T2w"
    named = (sequence_name(word) for word in text.split())
    return next((name for name in named if name), None) or (
        "PDw" if re.search(r"\bpdw?\b|proton ?dens", text) else None
    )


def _by_timing(timing: Timing) -> str | None:
    """Gives the sequence of the usual times at 1.5 and 3 tesla; None in between."""
    te, tr, ti, flip = timing
    if te is None or tr is None:
        return None
    if ti and ti > 1500 and te > 60 and tr > 4000:
        return "FLAIR"
    if ti and 500 <= ti <= 1300 and te < 10:
        return "T1w"
    if tr > 2000 and te > 70 and not ti:
        return "T2w"
    if te < 25 and 300 < tr < 900 and (flip is None or flip >= 60):
        return "T1w"
    if te < 8 and tr < 40 and flip is not None and flip >= 10:
        return "T1w"
    return None
