"""Checkpoints: bit for bit, verified, never lost to a kill or to flipped bytes."""

import json
import logging
import os
import signal
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from brainjax.checkpoint import INTEGRITY, Checkpoints
from brainjax.errors import InputRefusedError

EXTRA = {"config": {"seed": 3}, "recipe": "abc", "view": [96, 96, 96]}


def make_state(seed: int = 0) -> dict:
    keys = jax.random.split(jax.random.key(seed), 2)
    params = {
        "encoder": {
            "kernel": jax.random.normal(keys[0], (64, 33)),
            "bias": jnp.ones(3),
        },
        "head": {"kernel": jax.random.normal(keys[1], (3, 2)).astype(jnp.bfloat16)},
    }
    opt = optax.adam(1e-3).init(params)
    return {"params": params, "opt": opt, "step": jnp.asarray(seed, jnp.int32)}


def abstract(state):
    return jax.tree.map(
        lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=a.sharding), state
    )


@pytest.fixture
def run(tmp_path):
    """Two saved steps, 10 and 20, in a folder."""
    checkpoints = Checkpoints(tmp_path / "run")
    for step in (10, 20):
        checkpoints.save(step, make_state(step), {**EXTRA, "step": step})
    checkpoints.close()
    return tmp_path / "run"


def biggest_data_file(step_folder):
    files = [p for p in step_folder.rglob("d/*") if p.is_file()]
    return max(files, key=lambda p: p.stat().st_size)


def test_everything_comes_back_bit_for_bit(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2**32, (50, 7), dtype=np.uint32)
    odd = jnp.asarray(bits.view(np.float32))  # NaN payloads and denormals too
    checkpoints = Checkpoints(tmp_path)
    state = {**make_state(), "odd": odd}
    assert checkpoints.save(1, state, EXTRA, wait=True)
    back = checkpoints.restore(abstract(state))
    assert (back.extra, back.step) == (EXTRA, 1)
    chex.assert_trees_all_equal(back.state["params"], state["params"])
    chex.assert_trees_all_equal_structs(back.state, state)
    assert np.array_equal(np.asarray(back.state["odd"]).view(np.uint32), bits)
    checkpoints.close()


def test_a_save_in_flight_is_waited_for_and_none_is_skipped(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=5)
    for step in range(5):
        assert checkpoints.save(step, make_state(step), EXTRA)
    checkpoints.wait()
    assert checkpoints.steps() == [0, 1, 2, 3, 4]
    checkpoints.close()


def test_donating_the_state_after_an_async_save_does_not_change_it(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    bump = jax.jit(lambda x: x + 1, donate_argnums=0)
    values = jnp.zeros((512, 512))
    for step in range(4):
        checkpoints.save(step, {"values": values}, {})
        values = bump(values)
    checkpoints.wait()
    wanted = {"values": jax.ShapeDtypeStruct((512, 512), jnp.float32)}
    for step in checkpoints.steps():
        got = checkpoints.restore(wanted, step).state["values"]
        assert np.unique(np.asarray(got)).tolist() == [step]
    checkpoints.close()


def test_only_the_newest_and_the_best_are_kept(tmp_path):
    checkpoints = Checkpoints(tmp_path, best="min")
    for step, score in enumerate([3.0, 1.0, 2.0, 5.0, 4.0]):
        checkpoints.save(step, {"a": jnp.ones(2)}, {}, metrics={"score": score})
    checkpoints.wait()
    assert checkpoints.steps() == [1, 3, 4]
    assert checkpoints.best_step() == 1
    assert Checkpoints(tmp_path, best="max").best_step() == 3
    with pytest.raises(ValueError, match="wants metrics"):
        checkpoints.save(9, {"a": jnp.ones(2)}, {}, metrics={"loss": 0.0})
    checkpoints.save(9, {"a": jnp.ones(2)}, {}, wait=True)  # as SIGTERM does
    assert checkpoints.latest() == 9
    assert checkpoints.best_step() == 1
    checkpoints.close()


def test_the_best_is_kept_over_a_restart(tmp_path):
    for step, score in enumerate([3.0, 1.0, 2.0, 5.0]):
        checkpoints = Checkpoints(tmp_path, best="min")
        checkpoints.save(step, {"a": jnp.ones(2)}, {}, metrics={"score": score})
        checkpoints.close()
    assert checkpoints.steps() == [1, 2, 3]


def test_a_score_that_is_not_a_number_is_never_the_best(tmp_path):
    checkpoints = Checkpoints(tmp_path, best="max")
    for step, score in enumerate([1.0, np.nan, np.inf, 0.5, 0.2]):
        checkpoints.save(step, {"a": jnp.ones(2)}, {}, metrics={"score": score})
    checkpoints.wait()
    assert checkpoints.steps() == [0, 3, 4]
    assert checkpoints.best_step() == 0
    checkpoints.close()


def test_an_error_in_the_background_is_raised_by_the_next_call(tmp_path, monkeypatch):
    def no_space(folder):
        raise OSError("no space left")

    monkeypatch.setattr("brainjax.checkpoint.store.write_integrity", no_space)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"a": jnp.ones(2)}, {})
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(2, {"a": jnp.ones(2)}, {})
    with pytest.raises(OSError, match="no space left"):
        checkpoints.save(3, {"a": jnp.ones(2)}, {}, wait=True)
    assert checkpoints.latest() is None
    checkpoints.close()


def test_keys_that_would_come_back_as_others_are_refused(tmp_path):
    with pytest.raises(TypeError, match="wanted string keys, got 0"):
        Checkpoints(tmp_path).save(1, {"stages": {0: jnp.ones(2)}}, {})


def test_a_stranger_with_a_number_for_a_name_is_not_removed(tmp_path):
    (tmp_path / "2024").mkdir()
    (tmp_path / "2024" / "scan.txt").write_text("precious")
    checkpoints = Checkpoints(tmp_path)
    with pytest.raises(InputRefusedError, match=r"2024: wanted a checkpoint, .* scan"):
        checkpoints.save(1, {"a": jnp.ones(2)}, {})
    assert (tmp_path / "2024" / "scan.txt").read_text() == "precious"
    checkpoints.close()


def test_a_step_that_is_there_is_not_written_twice(run):
    checkpoints = Checkpoints(run)
    before = checkpoints.hash(20)
    assert checkpoints.save(20, make_state(5), EXTRA, wait=True) is False
    assert checkpoints.hash(20) == before
    checkpoints.close()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x10
    path.write_bytes(bytes(data))


DAMAGES = {
    "flipped": lambda step: flip(biggest_data_file(step)),
    "truncated": lambda step: os.truncate(biggest_data_file(step), 100),
    "missing": lambda step: biggest_data_file(step).unlink(),
    "extra": lambda step: (step / "stranger").write_text("x"),
    "metadata": lambda step: flip(step / "_CHECKPOINT_METADATA"),
    "integrity": lambda step: (step / INTEGRITY).write_text("{"),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=list(DAMAGES))
def test_a_damaged_step_is_named_and_the_one_before_used(run, damage, caplog):
    damage(run / "20")
    checkpoints = Checkpoints(run)
    with caplog.at_level(logging.WARNING, "brainjax"):
        back = checkpoints.restore(abstract(make_state()))
    assert "step 20 is damaged" in caplog.text
    assert (back.step, back.extra["step"]) == (10, 10)
    chex.assert_trees_all_equal(back.state, make_state(10))
    with pytest.raises(InputRefusedError, match="step 20 is damaged"):
        checkpoints.restore(abstract(make_state()), step=20)


def test_a_run_goes_on_over_a_damaged_step(run):
    flip(biggest_data_file(run / "20"))
    checkpoints = Checkpoints(run)
    checkpoints.restore(abstract(make_state()))
    checkpoints.save(15, make_state(15), EXTRA, wait=True)
    assert checkpoints.steps() == [10, 15]  # the damaged one pushed nothing out
    assert checkpoints.save(20, make_state(20), EXTRA, wait=True)
    assert checkpoints.restore(abstract(make_state())).step == 20
    checkpoints.close()


def test_a_kill_before_the_hashes_leaves_the_step_before(run):
    (run / "20" / INTEGRITY).unlink()
    checkpoints = Checkpoints(run)
    assert checkpoints.latest() == 10
    assert checkpoints.restore(abstract(make_state())).step == 10
    checkpoints.save(20, make_state(20), EXTRA, wait=True)
    assert checkpoints.steps() == [10, 20]
    checkpoints.close()


def test_nothing_intact_is_refused(run, tmp_path):
    for step in ("10", "20"):
        flip(biggest_data_file(run / step))
    with pytest.raises(InputRefusedError, match=r"step 20 .*; step 10 is damaged"):
        Checkpoints(run).restore(abstract(make_state()))
    with pytest.raises(InputRefusedError, match="got none"):
        Checkpoints(tmp_path / "empty").restore({})
    assert Checkpoints(tmp_path / "empty").latest() is None
    assert not (tmp_path / "empty").exists()  # reading makes nothing


def test_extra_is_read_without_arrays(run):
    biggest_data_file(run / "20").unlink()
    checkpoints = Checkpoints(run)
    assert checkpoints.read_extra() == {**EXTRA, "step": 20}
    assert checkpoints.read_extra(10)["step"] == 10
    flip(run / "20" / "_CHECKPOINT_METADATA")
    assert checkpoints.read_extra()["step"] == 10


def test_the_hash_names_the_files(run):
    checkpoints = Checkpoints(run)
    back = checkpoints.restore(abstract(make_state()))
    assert back.hash == checkpoints.hash() == checkpoints.hash(20)
    assert len(int(back.hash, 16).to_bytes(6, "big").hex()) == len(back.hash) == 12
    assert back.hash != checkpoints.hash(10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["params"].pop("head"), "head/kernel wanted nothing got bfloat16"),
        (lambda s: s.update(new=s["step"]), r"new wanted int32\[\] got nothing"),
        (lambda s: s.update(step=jnp.ones(3)), r"step wanted float32\[3\] got int32"),
    ],
    ids=["left out", "new", "shape"],
)
def test_no_leaf_is_unaccounted_for(run, change, message):
    state = make_state()
    change(state)
    with pytest.raises(InputRefusedError, match=message):
        Checkpoints(run).restore(abstract(state))


def test_a_part_is_read_alone(run):
    wanted = {"params": {"encoder": abstract(make_state())["params"]["encoder"]}}
    back = Checkpoints(run).restore(wanted, parts=["params/encoder"])
    chex.assert_trees_all_equal(
        back.state, {"params": {"encoder": make_state(20)["params"]["encoder"]}}
    )
    with pytest.raises(InputRefusedError, match="head/kernel wanted nothing"):
        Checkpoints(run).restore(wanted, parts=["params"])


def test_reading_leaves_a_save_in_flight_alone(run):
    half = run / "30.orbax-checkpoint-tmp"
    half.mkdir()
    checkpoints = Checkpoints(run)
    checkpoints.restore(abstract(make_state()))
    checkpoints.close()
    assert half.exists()


def python(code: str, *arguments, devices: int = 1) -> subprocess.Popen:
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
    }
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    )


RESHARD = """
import sys, jax, numpy as np
from brainjax.checkpoint import Checkpoints
from brainjax.parallel import make_mesh, shard_parameters
mesh = make_mesh(data=2, fsdp=2)
shape = {"kernel": jax.ShapeDtypeStruct((64, 33), np.float32)}
wanted = jax.tree.map(
    lambda a, s: jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=s),
    shape, shard_parameters(shape, mesh),
)
back = Checkpoints(sys.argv[1]).restore(
    {"params": {"encoder": wanted}}, parts=["params/encoder/kernel"])
kernel = back.state["params"]["encoder"]["kernel"]
assert kernel.sharding == wanted["kernel"].sharding
assert {s.data.shape for s in kernel.addressable_shards} == {(32, 33)}
print(np.asarray(kernel).tobytes().hex())
"""


def test_restores_onto_another_mesh(run):
    process = python(RESHARD, run, devices=4)
    out, _ = process.communicate(timeout=60)
    wanted = np.asarray(make_state(20)["params"]["encoder"]["kernel"])
    assert process.returncode == 0
    assert out.strip() == wanted.tobytes().hex()


SAVE_FOREVER = """
import sys, jax.numpy as jnp
from brainjax.checkpoint import Checkpoints
checkpoints = Checkpoints(sys.argv[1])
for step in range(100000):
    checkpoints.save(step, {"a": jnp.full((256, 256), step, jnp.float32)}, {"s": step})
    print(step, flush=True)
"""


@pytest.mark.parametrize("after", [3, 4])
def test_kill_9_while_saving_loses_no_finished_step(tmp_path, after):
    process = python(SAVE_FOREVER, tmp_path)
    for _ in range(after):
        process.stdout.readline()
    time.sleep(0.005 * after)
    os.kill(process.pid, signal.SIGKILL)
    out, _ = process.communicate(timeout=10)
    started = max([after - 1, *map(int, out.split())])
    checkpoints = Checkpoints(tmp_path)
    back = checkpoints.restore({"a": jax.ShapeDtypeStruct((256, 256), jnp.float32)})
    # `save(n)` returned only after n - 1 was finished.
    assert back.step >= started - 1
    assert back.extra == {"s": back.step}
    assert np.unique(np.asarray(back.state["a"])).tolist() == [back.step]
    json.loads((tmp_path / str(back.step) / INTEGRITY).read_text())


FULL = """
import os, resource, sys
import jax, jax.numpy as jnp, numpy as np
from brainjax.checkpoint import Checkpoints

def state(step):
    draw = np.random.default_rng(step).random((512, 512), np.float32)
    return {"a": jnp.asarray(draw)}

folder, kind = sys.argv[1], sys.argv[2]
checkpoints = Checkpoints(folder + "/run")
checkpoints.save(10, state(10), {"step": 10}, wait=True)
if kind == "disk":
    left = os.statvfs(folder)
    with open(folder + "/ballast", "wb") as file:
        file.write(bytes(left.f_bavail * left.f_bsize - 300_000))
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
checkpoints.save(20, state(20), {"step": 20})
try:
    checkpoints.wait()
except OSError as error:
    print(" ".join(str(error).split()))
if kind == "disk":
    os.remove(folder + "/ballast")
else:
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
again = Checkpoints(folder + "/run")
back = again.restore({"a": jax.ShapeDtypeStruct((512, 512), jnp.float32)})
assert np.array_equal(back.state["a"], state(10)["a"])
again.save(20, state(20), {"step": 20}, wait=True)
print(back.step, again.steps(), sorted(os.listdir(folder + "/run")))
"""


@pytest.mark.parametrize(
    ("kind", "reason"), [("disk", "No space left"), ("limit", "File too large")]
)
def test_a_full_disk_keeps_what_was_saved(kind, reason, tmp_path):
    command = [sys.executable, "-c", FULL, str(tmp_path), kind]
    if kind == "disk":
        mount = 'mount -t tmpfs -o size=4m tmpfs "$0"'
        own = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
        try:
            subprocess.run([*own, mount, str(tmp_path)], check=True, timeout=10)
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("a small file system cannot be mounted here")
        command = [*own, f'{mount} && exec "$@"', str(tmp_path), *command]
    done = subprocess.run(
        command,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    error, after = done.stdout.splitlines(), done.stderr
    assert done.returncode == 0, after
    assert "a step was not saved; the newest that is: 10" in error[0]
    assert reason in error[0]
    assert error[1] == "10 [10, 20] ['10', '20']"
