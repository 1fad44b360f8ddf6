"""Records of exact recipes: float32 all the way, and bytes stay the bytes they were."""

import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from brainjax.augment import evaluation_view
from brainjax.data import batches, load_resident
from brainjax.errors import InputRefusedError
from brainjax.records.encoding import decode_record, encode_record
from brainjax.records.prepare import prepare
from brainjax.records.sources import find_sources
from brainjax.records.store import open_dataset
from brainjax.train.scans import hash_scans
from brainjax.volume import make_recipe, prepare_volume

SCANS = 4
RECIPE = make_recipe("brainiac_v2")


@pytest.fixture(scope="module")
def sources(tiny_cohort):
    return find_sources([tiny_cohort])[:SCANS]


@pytest.fixture(scope="module")
def prepared(sources, tmp_path_factory):
    out = tmp_path_factory.mktemp("exact") / "data"
    result = prepare(sources, out, RECIPE, progress=False)
    assert (result.done, result.failures) == (SCANS, [])
    return out


def test_records_are_what_prepare_volume_gives(prepared, sources):
    dataset = open_dataset(prepared)
    assert dataset.recipe == RECIPE
    assert dataset.shape == (96, 96, 96)
    for record, source in enumerate(sources):
        stored, volume = dataset.read(record), prepare_volume(source.path, RECIPE)
        assert stored.dtype == np.float32
        np.testing.assert_array_equal(stored, volume.codes)
        row = dataset.rows[record]
        assert row["codes_sha256"] == hashlib.sha256(volume.codes.tobytes()).hexdigest()
        assert (row["axes"], row["recipe"]) == ("stored", RECIPE.hash)
        np.testing.assert_array_equal(row["affine"], volume.affine)
    hashes = {hash_scans(dataset, np.array([i])) for i in range(SCANS)}
    assert len(hashes) == SCANS


def test_a_second_call_reuses_them_and_two_workers_write_the_same(
    prepared, sources, tmp_path
):
    assert prepare(sources, prepared, RECIPE, progress=False).reused == SCANS
    prepare(sources, tmp_path / "two", RECIPE, progress=False, workers=2)
    for path in sorted(prepared.rglob("*")):
        if path.is_file():
            other = tmp_path / "two" / path.relative_to(prepared)
            assert other.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("source", ["resident", "stream"])
def test_batches_hold_them(prepared, source):
    dataset = open_dataset(prepared)
    everything = np.arange(SCANS)
    held = load_resident(dataset, everything) if source == "resident" else dataset
    loader = batches(held, everything, batch=SCANS, seed=0)
    batch = next(loader)
    loader.close()
    assert batch.volumes.dtype == np.float32
    view = jax.jit(evaluation_view, static_argnums=1)
    for volume, record in zip(batch.volumes, batch.records, strict=True):
        stored = dataset.read(int(record))
        np.testing.assert_array_equal(volume, stored)
        np.testing.assert_array_equal(view(jnp.asarray(volume), dataset.shape), stored)


def test_another_recipe_is_refused_with_both_names(prepared, sources):
    wanted = (
        r"wanted a folder of recipe canonical \(24x24x24, 8 mm\) \w{12}, got one of "
        r"recipe brainiac_v2 \(96x96x96, float32\) \w{12}; prepare into another"
    )
    with pytest.raises(InputRefusedError, match=wanted):
        prepare(sources, prepared, make_recipe(spacing=8.0), progress=False)


def test_a_folder_of_another_version_is_named_too(prepared, sources, tmp_path):
    facts = json.loads((prepared / "dataset.json").read_text())
    facts["recipe"]["version"], facts["recipe_hash"] = 9, "0" * 12
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    with pytest.raises(InputRefusedError, match="of recipe brainiac_v2 version 9 0000"):
        prepare(sources, tmp_path, RECIPE, progress=False)


def test_a_record_of_another_storage_is_refused(prepared):
    dataset = open_dataset(prepared)
    dataset.recipe = make_recipe()
    with pytest.raises(InputRefusedError, match=r"wanted \w+ .* uint8 .* float32"):
        dataset.read(0)


FACTS = {"key": "k", "affine": [], "provenance": {"dtype": "int16"}}


def test_floats_come_back_bit_by_bit_and_aligned():
    values = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    values[0, 0] = [0.0, -0.0, 1e-42, np.inf, -np.inf, np.float32(1) / 3, 3e38]
    for extra in range(9):  # whatever the length of the header
        payload = encode_record(values, {**FACTS, "note": "x" * extra})
        back, header = decode_record(payload)
        assert back.tobytes() == values.tobytes()
        assert (back.dtype, header["dtype"]) == (np.float32, "float32")
        assert int.from_bytes(payload[4:8], "little") % 8 == 0


def test_bytes_of_uint8_records_are_as_ever():
    """Prepared data in the wild: the same scan must still give the same record."""
    codes = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    payload = encode_record(codes, FACTS)
    digest = hashlib.sha256(payload).hexdigest()
    assert digest[:16] == "3d3126705ce40778"
    back, header = decode_record(payload)
    assert "dtype" not in header
    np.testing.assert_array_equal(back, codes)


def test_an_unknown_storage_is_damage():
    payload = encode_record(np.ones((2, 2, 2), np.float32), FACTS)
    with pytest.raises((ValueError, KeyError)):
        decode_record(payload.replace(b'"float32"', b'"float99"'))
