"""Input: one order whatever the source, the devices and the restarts."""

import json
import logging
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from brainjax.data import batches, take_rows
from brainjax.errors import InputRefusedError
from brainjax.parallel import batch_sharding, make_mesh
from brainjax.train.input import SOURCES, open_input
from brainjax.train.streamed import Streamed
from tests.data.fake_records import Fake
from tests.simulated import run_simulated

INDICES = np.asarray([1, 2, 3, 5, 7, 8, 11, 13, 14])
BATCH, SEED = 16, 4


def opened(dataset, mesh, **words):
    words = {"batch": BATCH, "seed": SEED, "start_step": 0, **words}
    return open_input(dataset, INDICES, mesh=mesh, **words)


def wanted_steps(dataset, start: int, steps: int) -> list:
    loader = batches(dataset, INDICES, batch=BATCH, seed=SEED, start_step=start)
    got = [next(loader) for _ in range(steps)]
    loader.close()
    return got


def volumes_of(batch: dict, mesh) -> np.ndarray:
    if "volumes" in batch:
        return np.asarray(batch["volumes"])
    take = jax.jit(lambda held, rows: take_rows(held, rows, mesh))
    return np.asarray(take(batch["dataset"], batch["rows"]))


def check_batch(batch: dict, wanted, slots, mesh) -> None:
    np.testing.assert_array_equal(volumes_of(batch, mesh), wanted.volumes[slots])
    for name in ("subjects", "positions"):
        np.testing.assert_array_equal(batch[name], getattr(wanted, name)[slots])
        assert batch[name].dtype == np.int32
    for name, leaf in batch.items():
        assert leaf.sharding.is_equivalent_to(batch_sharding(mesh), leaf.ndim), name


def check_source(mesh, source: str, bad: tuple[int, ...], start: int) -> None:
    dataset = Fake(15, bad)
    scans = opened(dataset, mesh, source=source, start_step=start)
    for wanted in wanted_steps(Fake(15, bad), start, 4):
        check_batch(next(scans), wanted, slice(None), mesh)
    assert scans.bad == {
        f"scan {i}": f"record {i}: wanted a checksum, got another" for i in bad
    }
    scans.close()


def check_streamed(mesh, count: int, start: int) -> None:
    scans = opened(
        Fake(15, (3,)), mesh, source="stream", micro_batches=count, start_step=start
    )
    for wanted in wanted_steps(Fake(15, (3,)), start, 3):
        streamed = next(scans)
        assert isinstance(streamed, Streamed)
        for micro_batches in (streamed.first, streamed.second):
            got = list(micro_batches)
            assert len(got) == count
            for number, micro in enumerate(got):
                check_batch(micro, wanted, slice(number, None, count), mesh)
    scans.close()


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("start", [0, 3])
def test_every_source_gives_the_same(source, start):
    check_source(make_mesh(), source, (3, 11), start)


@pytest.mark.parametrize("start", [0, 2])
def test_micro_batches_come_twice(start):
    check_streamed(make_mesh(), 4, start)


EIGHT = """
from brainjax.parallel import make_mesh
from tests.train.test_input import check_source, check_streamed
for fsdp in (1, 2):
    mesh = make_mesh(fsdp=fsdp)
    for source in ("stream", "resident", "device"):
        check_source(mesh, source, (3, 11), 2)
    check_streamed(mesh, 2, 1)
print("all hold")
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives():
    assert run_simulated(EIGHT, 8) == "all hold\n"


def test_the_data_set_on_the_devices_is_never_copied():
    scans = opened(Fake(15), make_mesh(), source="device")
    first, second = next(scans), next(scans)
    assert first["dataset"] is second["dataset"]
    assert first["dataset"].shape[0] == len(INDICES)
    scans.close()


@pytest.mark.parametrize("source", SOURCES)
def test_a_task_gets_its_labels(source):
    targets, weights = np.arange(15.0) * 10, np.ones(15, np.float32)
    weights[5] = 0
    dataset, mesh = Fake(15, (3,)), make_mesh()
    scans = opened(dataset, mesh, source=source, labels=(targets, weights))
    for wanted in wanted_steps(dataset, 0, 2):
        batch = next(scans)
        np.testing.assert_array_equal(batch["targets"], wanted.records * 10)
        np.testing.assert_array_equal(batch["weights"], wanted.records != 5)
    scans.close()


def test_a_step_that_is_not_read_to_its_end_is_skipped():
    mesh = make_mesh()
    scans = opened(Fake(15), mesh, source="stream", micro_batches=4)
    next(next(scans).first)
    for _ in next(scans).first:
        pass
    wanted = wanted_steps(Fake(15), 2, 1)[0]
    check_batch(next(next(scans).first), wanted, slice(0, None, 4), mesh)
    scans.close()


def test_the_second_pass_comes_second():
    scans = opened(Fake(15), make_mesh(), source="stream", micro_batches=4)
    with pytest.raises(RuntimeError, match=r"all 4 .* got 0"):
        next(next(scans).second)
    scans.close()


def test_a_scan_lost_between_the_passes_is_refused():
    class Fading(Fake):
        """Record 5 can be read as often as one pass needs it, and no more."""

        left = 0

        def read(self, index):
            if index == 5:
                self.left -= 1
                if self.left < 0:
                    raise InputRefusedError("record 5: gone")
            return super().read(index)

    data, mesh = Fading(15), make_mesh()
    data.left = int((wanted_steps(Fake(15), 0, 1)[0].records == 5).sum())
    scans = opened(data, mesh, source="stream", micro_batches=4)
    streamed = next(scans)
    assert len(list(streamed.first)) == 4
    with pytest.raises(InputRefusedError, match="wanted record 5 a second time") as one:
        list(streamed.second)
    assert "\n" not in str(one.value)
    scans.close()


def test_few_micro_batches_are_held():
    scans = opened(Fake(15), make_mesh(), source="stream", micro_batches=8)
    streamed = next(scans)
    for micro_batches in (streamed.first, streamed.second):
        for micro in micro_batches:
            time.sleep(0.02)
            shape = micro["volumes"].shape
            # This one and two ahead.
            assert sum(array.shape == shape for array in jax.live_arrays()) <= 3
    scans.close()


def test_what_goes_wrong_ahead_is_raised_in_its_turn():
    scans = opened(Fake(15, tuple(range(15))), make_mesh(), source="stream")
    with pytest.raises(InputRefusedError, match="wanted a readable record"):
        next(scans)
    scans.close()


def test_one_subject_is_warned_of_where_it_matters(caplog):
    def warned(**words) -> int:
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="brainjax"):
            scans = open_input(
                Fake(4),
                np.asarray([2, 3]),
                batch=4,
                seed=0,
                start_step=0,
                mesh=make_mesh(),
                **words,
            )
            for _ in range(2):
                got = next(scans)
                if isinstance(got, Streamed):
                    list(got.first)
            scans.close()
        return sum("one subject only" in message for message in caplog.messages)

    assert [warned(source=source) for source in SOURCES] == [1, 1, 1]
    assert warned(source="stream", micro_batches=2) == 1
    assert warned(negatives="within") == 0
    assert warned(labels=(np.zeros(4), np.ones(4))) == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"source": "disk"}, "wanted one of stream, resident, device, got 'disk'"),
        ({"micro_batches": 3}, "multiple of 1 devices x 3 micro-batches, got 16"),
        ({"batch": 0}, "multiple of 1 devices, got 0"),
    ],
)
def test_what_cannot_be_opened_is_refused(words, message):
    with pytest.raises(InputRefusedError, match=message):
        opened(Fake(15), make_mesh(), **words)


STOPS_EARLY = """
import sys
from brainjax.parallel import make_mesh
from tests.data.fake_records import Fake
from tests.train.test_input import opened
scans = opened(Fake(15), make_mesh(), source=sys.argv[1])
print(next(scans)["positions"].tolist())
raise SystemExit(0)
"""


@pytest.mark.parametrize("source", ["stream", "device"])
def test_a_run_that_stops_early_ends_cleanly(source):
    printed = run_simulated(STOPS_EARLY, 1, source)
    assert json.loads(printed) == list(range(BATCH))


TWO = """
import sys
import jax, numpy as np
from brainjax.data import take_rows
from brainjax.parallel import make_mesh, replicated, start_processes
from tests.data.fake_records import Fake
from tests.train.test_input import BATCH, opened, wanted_steps

start_processes(sys.argv[1], processes=2, index=int(sys.argv[2]))
mesh, bad = make_mesh(), (3, 11)  # one of the share of either process
everywhere = jax.jit(lambda x: x, out_shardings=replicated(mesh))
take = jax.jit(lambda *x: take_rows(*x, mesh), out_shardings=replicated(mesh))


def check(batch, wanted, slots):
    volumes = (everywhere(batch["volumes"]) if "volumes" in batch
               else take(batch["dataset"], batch["rows"]))
    assert np.array_equal(volumes, wanted.volumes[slots])
    for name in ("subjects", "positions"):
        assert np.array_equal(everywhere(batch[name]), getattr(wanted, name)[slots])


for source in ("stream", "resident", "device"):
    scans = opened(Fake(15, bad), mesh, source=source, start_step=2)
    for wanted in wanted_steps(Fake(15, bad), 2, 3):
        check(next(scans), wanted, slice(None))
    if source == "device":
        assert sorted(scans.bad) == ["scan 11", "scan 3"]
    scans.close()
scans = opened(Fake(15, bad), mesh, source="stream", micro_batches=4)
for wanted in wanted_steps(Fake(15, bad), 0, 2):
    streamed = next(scans)
    for micro_batches in (streamed.first, streamed.second):
        for number, micro in enumerate(micro_batches):
            check(micro, wanted, slice(number, None, 4))
scans.close()
print("all hold")
"""


@pytest.mark.slow
def test_two_processes_give_what_one_gives():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    with ThreadPoolExecutor(2) as pool:
        printed = pool.map(
            lambda index: run_simulated(TWO, 1, address, index), ("0", "1")
        )
        assert all("all hold" in text for text in printed)
