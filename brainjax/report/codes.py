"""What a structure's name means to a hospital: coded terms, mostly of SNOMED CT.

Values and meanings are those of DICOM's own context groups where these have the
structure (PS3.16, CID 7140, 7150, 7153, 7159). A name that is not in the table gets a
private code that holds the name, and `Structure.standard` says so.
"""

import hashlib
from typing import NamedTuple

from brainjax.anatomy import split_side


class Code(NamedTuple):
    """A coded term: value (16 characters at most), scheme and meaning."""

    value: str
    scheme: str
    meaning: str


class Structure(NamedTuple):
    """What a segment shows.

    Attributes:
      category: the kind of thing it is, of CID 7150.
      kind: what it is.
      site: where it is, of what has no place of its own: the brain of a lesion.
      side: left or right; None where the name says neither.
      standard: the term is of a public scheme.
    """

    category: Code
    kind: Code
    site: Code | None = None
    side: Code | None = None
    standard: bool = True


ANATOMY = Code("91723000", "SCT", "Anatomical Structure")
MORPHOLOGY = Code("49755003", "SCT", "Morphologically Abnormal Structure")
TISSUE = Code("85756007", "SCT", "Tissue")
SUBSTANCE = Code("91720002", "SCT", "Body Substance")
BRAIN = Code("12738006", "SCT", "Brain")

SIDES = {
    "left": Code("7771000", "SCT", "Left"),
    "right": Code("24028007", "SCT", "Right"),
}

PRIVATE = "99BRAINJAX"
"""Scheme of names without a public code; 99 marks private ones (PS3.16, 8)."""

_ANATOMY = {
    "brain": ("12738006", "Brain"),
    "grey_matter": ("40146001", "Cerebral cortex"),
    "white_matter": ("68523003", "Cerebral White Matter"),
    # DICOM lists no basal ganglia; the concept is SNOMED CT's own.
    "basal_ganglia": ("244434001", "Entire basal ganglion"),
    "ventricles": ("35764002", "Brain ventricle"),
    "cerebellum": ("113305005", "Cerebellum"),
    "cerebellar_white_matter": ("33060004", "Cerebellar White Matter"),
    "cerebellar_cortex": ("25991003", "Cerebellar Cortex"),
    "brain_stem": ("119238007", "Brain Stem"),
    "midbrain": ("61962009", "Midbrain"),
    "lateral_ventricle": ("66720007", "Lateral Ventricle"),
    "inferior_lateral_ventricle": (
        "53118009",
        "Inferior Horn of Lateral Ventricle",
    ),
    "third_ventricle": ("49841001", "Third ventricle"),
    "fourth_ventricle": ("35918002", "Fourth Ventricle"),
    "thalamus": ("42695009", "Thalamus"),
    "caudate": ("11000004", "Caudate Nucleus"),
    "putamen": ("89278009", "Putamen"),
    "pallidum": ("14738005", "Globus Pallidus"),
    "accumbens": ("427667007", "Nucleus Accumbens"),
    "hippocampus": ("5366008", "Hippocampus"),
    "amygdala": ("4958002", "Amygdala"),
    "insula": ("36169008", "Insula"),
    "corpus_callosum": ("88442005", "Corpus callosum"),
    "fornix": ("87463005", "Cerebral fornix"),
    "frontal_lobe": ("83251001", "Frontal lobe"),
    "temporal_lobe": ("78277001", "Temporal lobe"),
    "parietal_lobe": ("16630005", "Parietal lobe"),
    "occipital_lobe": ("31065004", "Occipital lobe"),
    "limbic_lobe": ("279215006", "Limbic lobe"),
    "cerebral_hemisphere": ("372073000", "Cerebral hemisphere"),
    "head": ("69536005", "Head"),
}

_ABNORMAL = {
    "tumour": ("108369006", "SCT", "Neoplasm"),
    # Oedema is in it, which is no neoplasm.
    "whole_tumour": ("301766008", "SCT", "Lesion of Brain"),
    "necrosis": ("6574001", "SCT", "Necrosis"),
    "oedema": ("79654002", "SCT", "Edema"),
    "enhancing": ("C113842", "NCIt", "Enhancing Lesion"),
    "non_enhancing": ("C81175", "NCIt", "Non-Enhancing Lesion"),
    "lesion": ("52988006", "SCT", "Lesion"),
    "haemorrhage": ("50960005", "SCT", "Hemorrhage"),
    "white_matter_hyperintensity": (
        "110702",
        "DCM",
        "White Matter T2 Hyperintensity",
    ),
}

STRUCTURES = {
    **{
        name: Structure(ANATOMY, Code(value, "SCT", meaning))
        for name, (value, meaning) in _ANATOMY.items()
    },
    **{
        name: Structure(MORPHOLOGY, Code(*term), site=BRAIN)
        for name, term in _ABNORMAL.items()
    },
    "fluid": Structure(SUBSTANCE, Code("65216001", "SCT", "Cerebrospinal Fluid")),
    "deep_grey_matter": Structure(
        ANATOMY, Code("223151", "FMA", "Subcortical gray matter")
    ),
    "ventral_diencephalon": Structure(
        ANATOMY, Code("110700", "DCM", "Ventral Diencephalon")
    ),
}
"""Terms by name, without a side; see `structure_of`."""

_OTHER_NAMES = {
    "brain": ("brain_mask", "mask"),
    "brain_stem": ("brainstem",),
    "fluid": (
        *("csf", "other_csf", "other_fluid", "sulcal_fluid", "cerebrospinal_fluid"),
        "sulcal_csf",
    ),
    "ventricles": ("ventricle", "ventricular_system"),
    "grey_matter": ("grey", "cortical_grey", "cortical_grey_matter", "cortex"),
    "white_matter": ("white", "cerebral_white_matter"),
    "deep_grey_matter": ("deep_grey", "subcortical_grey_matter"),
    "cerebellar_white_matter": ("cerebellum_white", "cerebellum_white_matter"),
    "cerebellar_cortex": (
        *("cerebellum_grey", "cerebellum_grey_matter", "cerebellum_cortex"),
        "cerebellar_grey_matter",
    ),
    "pallidum": ("globus_pallidus",),
    "accumbens": ("nucleus_accumbens", "accumbens_area"),
    "caudate": ("caudate_nucleus",),
    "ventral_diencephalon": ("ventral_dc",),
    "inferior_lateral_ventricle": ("inf_lat_vent",),
    "whole_tumour": ("whole",),
    "tumour": ("glioma", "core", "tumour_core"),
    "necrosis": ("necrotic_core",),
    "oedema": ("edema",),
    "enhancing": ("enhancing_tumour",),
    "lesion": ("lesions", "ms_lesion", "ms_lesions"),
    "white_matter_hyperintensity": ("wmh", "white_matter_hyperintensities"),
    "haemorrhage": ("hemorrhage",),
}
_SAME = {other: name for name, others in _OTHER_NAMES.items() for other in others}


def structure_of(name: str) -> Structure:
    """Gives the coded terms of a class by its name; private ones where none is known.

    Spelling of either side of the Atlantic, "-", "_" and spaces are the same; a
    "left" or "right" before or behind the name is its side.

    >>> structure_of("Left Hippocampus").kind.meaning
    'Hippocampus'
    """
    side, rest = split_side(name)
    words = [{"gray": "grey", "tumor": "tumour"}.get(w, w) for w in rest.split("_")]
    plain = "_".join(words)
    plain = _SAME.get(plain, plain)
    if plain in STRUCTURES:
        return STRUCTURES[plain]._replace(side=SIDES[side] if side else None)
    return Structure(ANATOMY, _private(name), standard=False)


def _private(name: str) -> Code:
    """Gives a code whose meaning is the name, and whose value tells names apart."""
    digest = hashlib.sha256(name.encode()).hexdigest()[:12]
    return Code(f"B{digest}", PRIVATE, name.strip()[:64] or "unnamed")
