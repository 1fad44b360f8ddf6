"""Brain masks: the template's fitted to a head, other people's commands, agreement."""

import sys
import textwrap
import time
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from brainjax.errors import InputRefusedError
from brainjax.volume import brain_commands, brain_own
from brainjax.volume.brain_commands import COMMANDS, find_by_command
from brainjax.volume.brain_own import find_by_network
from brainjax.volume.brain_surface import template_surface
from brainjax.volume.brain_template import find_by_template
from brainjax.volume.brainmask import (
    BACKENDS,
    agreement,
    compare,
    find_brain,
    find_doubts,
    register_own,
)
from brainjax.volume.mask import millilitres
from brainjax.volume.register import Alignment
from brainjax.volume.through import resample_through
from tests.volume.scans import affine, body

SCAN = body().astype(np.float32)
BRAIN = SCAN > 0

SAVE = """
import pathlib, sys
words = sys.argv[1:]
at = lambda flag: words[words.index(flag) + 1]
scan = pathlib.Path(at("-i")).stat().st_size
out = at("-m") if "-m" in words else at("-o").replace("brain.nii", "brain_bet.nii")
pathlib.Path(out).write_bytes(pathlib.Path(__file__).with_name(NAME).read_bytes())
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Puts a Python script on PATH under a name, and nothing else.

    SAVE copies the answer of a NAME: what the command would find.
    """
    answers = {
        "mask": (BRAIN, affine()),
        "small": (BRAIN[1:], affine()),
        "moved": (BRAIN, affine() + np.eye(4)),
        "empty": (BRAIN & False, affine()),
    }
    for name, (mask, matrix) in answers.items():
        image = nib.Nifti1Image(mask.astype(np.uint8), matrix)
        nib.save(image, tmp_path / f"{name}.nii.gz")
    (tmp_path / "text.nii.gz").write_text("not a mask")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(brain_commands.importlib.util, "find_spec", lambda name: None)

    def make(program: str, text: str, answer: str = "mask") -> None:
        path = tmp_path / program
        text = f"NAME = '{answer}.nii.gz'\n" + textwrap.dedent(text)
        path.write_text(f"#!{sys.executable} -IS\n{text}")
        path.chmod(0o755)

    return make


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_gives_the_mask_it_writes(name, program):
    program(COMMANDS[name].programs[0], SAVE)
    found = find_brain(SCAN, affine(), backend=name)
    np.testing.assert_array_equal(found.mask, BRAIN)
    assert found.backend == name
    assert found.ml == pytest.approx(millilitres(BRAIN, affine()), abs=0.1)


@pytest.mark.parametrize("name", COMMANDS)
def test_an_absent_command_says_how_to_get_it(name, program):
    with pytest.raises(InputRefusedError) as error:
        find_brain(SCAN, affine(), backend=name)
    assert COMMANDS[name].get in str(error.value)
    assert "\n" not in str(error.value)


FAIL = """
import sys
print("hello\\nout of memory", file=sys.stderr)
sys.exit(3)
"""
SILENT = "import sys; print('sorry', file=sys.stderr)"
BAD = [
    ("exit code 3: out of memory", FAIL, ""),
    ("got no file: sorry", SILENT, ""),
    (r"mask of \(30, 36, 28\) voxels, got \(29, 36, 28\)", SAVE, "small"),
    ("wanted a mask on the scan's grid", SAVE, "moved"),
    ("wanted a brain, got none", SAVE, "empty"),
    ("wanted a gzip stream", SAVE, "text"),
]


@pytest.mark.parametrize(("wanted", "text", "answer"), BAD)
def test_a_command_that_fails_is_one_line(wanted, text, answer, program):
    program("mri_synthstrip", text, answer)
    with pytest.raises(InputRefusedError, match=wanted) as error:
        find_brain(SCAN, affine(), backend="synthstrip")
    assert "\n" not in str(error.value)
    assert "brainjax-mask-" not in str(error.value)


def test_a_command_that_hangs_is_ended_with_all_it_started(program, tmp_path):
    note = tmp_path / "pid"
    program(
        "synthstrip",
        f"""
        import subprocess, sys, time
        wait = "import time; time.sleep(60)"
        child = subprocess.Popen([sys.executable, "-ISc", wait])
        open({str(note)!r}, "w").write(str(child.pid))
        time.sleep(60)
        """,
    )
    with pytest.raises(InputRefusedError, match="no end within 3 s"):
        find_by_command("synthstrip", SCAN, affine(), limit_s=3)
    # A killed process takes a moment to be gone.
    until = time.monotonic() + 10
    while runs(int(note.read_text())) and time.monotonic() < until:
        time.sleep(0.05)
    assert not runs(int(note.read_text()))


def runs(process: int) -> bool:
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except OSError:
        return False
    return stat.rsplit(")", 1)[1].split()[0] not in "ZX"


def test_a_package_serves_where_its_command_is_absent(tmp_path, monkeypatch):
    (tmp_path / "deepbet.py").write_text(
        "import nibabel as nib\n"
        "def run_bet(scans, brains, masks, no_gpu):\n"
        "    scan = nib.load(scans[0])\n"
        "    mask = (scan.get_fdata() > 0).astype('uint8')\n"
        "    nib.save(nib.Nifti1Image(mask, scan.affine), masks[0])\n"
    )
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    found = find_brain(SCAN, affine(), backend="deepbet")
    np.testing.assert_array_equal(found.mask, BRAIN)


def test_a_stripped_scan_is_taken_at_its_word():
    found = find_brain(SCAN, affine())
    assert found.backend == "nonzero"
    np.testing.assert_array_equal(found.mask, BRAIN)


def test_an_unknown_back_end_names_the_known_ones():
    with pytest.raises(InputRefusedError, match=r"auto, template.*got 'bet'"):
        find_brain(SCAN, affine(), backend="bet")


def test_own_is_refused_without_its_weights(monkeypatch, tmp_path):
    monkeypatch.setitem(BACKENDS, "own", find_by_network)
    monkeypatch.setattr(brain_own, "WEIGHTS", tmp_path / "none.safetensors")
    with pytest.raises(InputRefusedError, match="wanted the weights"):
        find_brain(SCAN, affine(), backend="own")
    register_own(lambda voxels, affine: voxels > 400)
    found = find_brain(SCAN, affine(), backend="own")
    np.testing.assert_array_equal(found.mask, SCAN > 400)


def test_two_boxes_agree_as_they_were_made():
    one = np.zeros((20, 20, 20), bool)
    one[5:15, 5:15, 5:15] = True
    other = np.roll(one, 2, axis=0)
    found = agreement({"a": one, "b": other, "c": one}, np.diag([1.5, 1.0, 1.0, 1.0]))
    assert list(found) == [("a", "b"), ("a", "c"), ("b", "c")]
    assert found["a", "b"] == (0.8, 3.0, 0.0)
    assert found["a", "c"] == (1.0, 0.0, 0.0)
    sheared = np.eye(4)
    sheared[1, 2] = 0.5
    empty = agreement({"a": one, "b": one & False}, sheared)
    assert empty["a", "b"] == (0.0, None, 1.0)


def test_an_odd_volume_and_a_cut_are_doubts():
    mask = np.zeros((80, 80, 80), bool)
    mask[10:70, 10:70, 10:70] = True
    assert find_doubts(mask, (2.0, 2.0, 2.0), 1728) == ()
    assert "2765 ml" in find_doubts(mask, (2.0, 2.0, 3.2), 2765)[0]
    mask[10:70, 10:70, 70:] = True
    doubts = find_doubts(mask, (2.0, 2.0, 2.0), 2016)
    assert doubts == ("brain cut off on the superior side (144 cm2)",)


CONTRASTS = {
    # Brain, fluid, bone, scalp.
    "T1w": (0.7, 0.2, 0.05, 0.9),
    "T2w": (0.5, 1.0, 0.05, 0.4),
    "FLAIR": (0.7, 0.1, 0.05, 0.5),
}


def bent(points: np.ndarray) -> np.ndarray:
    """Up to 5 mm, smooth over the surface."""
    x, y, z = points.T
    return 3 * np.sin(x / 35) + 2 * np.cos(y / 40) * np.sin(z / 30 + 1)


@pytest.fixture(scope="module")
def surface():
    pytest.importorskip("nilearn")
    return template_surface()


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_a_bent_brain_is_found_in_every_contrast(contrast, surface):
    brain, fluid, bone, scalp = CONTRASTS[contrast]
    depth = surface.moved(bent(surface.points))
    noise = np.random.default_rng(0).normal(0, 0.03, depth.shape)
    gyri = 1 + 2 * np.sin(np.indices(depth.shape).sum(0) / 2)
    layers = [depth < -gyri - 1, depth < 0, depth < 5, depth < 11]
    head = np.select(layers, (brain, fluid, bone, scalp), 0.0) + noise
    identity = Alignment(np.eye(4), 1.0, "affine")
    found = find_by_template(head.astype(np.float32), surface.affine, identity)
    before = compare(surface.depth < 0, depth < 0, surface.affine)
    after = compare(found, depth < 0, surface.affine)
    assert before.dice < 0.95
    assert after.dice > 0.97


def test_the_mask_lies_on_the_scans_own_grid(surface):
    """Twice the spacing, sheared and shifted: the same brain in mm."""
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[0, 2], affine[:3, 3] = 0.8, (-112.0, -112.0, -96.0)
    shape = (56, 56, 56)
    head = (surface.depth < 0).astype(np.float32)
    identity = np.eye(4)
    scan = resample_through(head, surface.affine, identity, affine, shape)
    alignment = Alignment(identity, 1.0, "affine")
    found = find_by_template(scan, affine, alignment)
    assert found.shape == shape
    assert compare(found, scan > 0.5, affine).dice > 0.95
    again = find_by_template(scan, affine, alignment)
    np.testing.assert_array_equal(found, again)
