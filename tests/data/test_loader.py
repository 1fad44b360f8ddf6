"""Batches: the same whatever the threads, processes, restarts and bad records."""

import logging

import numpy as np
import pytest

from brainjax.data import batches, load_resident, sample_indices
from brainjax.errors import InputRefusedError
from tests.data.fake_records import SHAPE, Fake


def take(loader, steps: int) -> list:
    got = [next(loader) for _ in range(steps)]
    loader.close()
    return got


def check_equal(first, second):
    for a, b in zip(first, second, strict=True):
        for left, right in zip(a, b, strict=True):
            np.testing.assert_array_equal(left, right)
            assert left.dtype == right.dtype


def test_a_batch_is_what_the_order_says():
    indices = np.asarray([3, 5, 8, 9, 11])
    for step, got in enumerate(take(batches(Fake(12), indices, batch=4, seed=1), 4)):
        wanted = indices[sample_indices(1, step, size=5, batch=4)]
        np.testing.assert_array_equal(got.records, wanted)
        np.testing.assert_array_equal(got.volumes[:, 0, 0, 0], wanted)
        np.testing.assert_array_equal(got.subjects, wanted // 2)
        np.testing.assert_array_equal(got.positions, step * 4 + np.arange(4))
        assert got.volumes.shape == (4, *SHAPE)
        assert [a.dtype for a in got] == [np.uint8, np.int32, np.int32, np.int32]


@pytest.mark.parametrize("bad", [(), (2, 3, 4)], ids=["good", "some bad"])
@pytest.mark.parametrize("start", [1, 5])
def test_the_state_is_the_step(start, bad):
    words = {"batch": 3, "seed": 2}
    whole = take(batches(Fake(7, bad), np.arange(7), **words), 8)
    rest = batches(
        Fake(7, bad), np.arange(7), **words, start_step=start, threads=1, prefetch=1
    )
    check_equal(take(rest, 8 - start), whole[start:])


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_read_the_one_process_batch(count):
    words = {"batch": 8, "seed": 2}
    data = Fake(13, (5,))
    whole = take(batches(data, np.arange(13), **words), 3)
    parts = [
        take(
            batches(data, np.arange(13), **words, process_index=p, process_count=count),
            3,
        )
        for p in range(count)
    ]
    joined = [
        [np.concatenate(arrays) for arrays in zip(*step, strict=True)]
        for step in zip(*parts, strict=True)
    ]
    check_equal(joined, whole)


def numbered(batch: int, micro_batches: int, passes: int) -> list[list[int]]:
    """Slots of the micro-batches of a step, as the docstring has them."""
    one = [list(range(j, batch, micro_batches)) for j in range(micro_batches)]
    return one * passes


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("start", [0, 3])
def test_micro_batches_are_the_strided_slots_once_a_pass(count, start):
    data, words = Fake(11, (4,)), {"batch": 12, "seed": 3}
    whole = take(batches(data, np.arange(11), **words), start + 2)[start:]
    cut = {"micro_batches": 3, "passes": 2, "start_step": start, "prefetch": 1}
    parts = [
        take(
            batches(
                data,
                np.arange(11),
                **words,
                **cut,
                process_index=p,
                process_count=count,
            ),
            12,
        )
        for p in range(count)
    ]
    joined = [
        [np.concatenate(arrays) for arrays in zip(*micro, strict=True)]
        for micro in zip(*parts, strict=True)
    ]
    wanted = [
        [array[slots] for array in batch]
        for batch in whole
        for slots in numbered(12, 3, 2)
    ]
    check_equal(joined, wanted)


def test_micro_batches_that_do_not_divide_are_refused():
    with pytest.raises(InputRefusedError, match=r"3 micro-batches on 2 .* of 8"):
        batches(
            Fake(5), np.arange(5), batch=8, seed=0, process_count=2, micro_batches=3
        )


def test_few_volumes_are_held_at_a_time():
    read, given = [], []

    class Watched(Fake):
        def read(self, index):
            read.append(index)
            return super().read(index)

    words = {"batch": 64, "seed": 0, "micro_batches": 16, "passes": 2}
    loader = batches(Watched(99), np.arange(99), **words, threads=2, prefetch=1)
    for _ in range(20):
        given.append(next(loader))
        # A micro-batch of four given, one being made up, one ready, one each in hand.
        assert len(read) <= 4 * len(given) + 4 + 4 + 2
    loader.close()


def test_a_bad_record_is_replaced_counted_and_named(caplog):
    loader = batches(Fake(6, (1, 4)), np.arange(6), batch=6, seed=0)
    with caplog.at_level(logging.WARNING, "brainjax"):
        got = take(loader, 3)
    assert sorted(loader.bad) == [1, 4]
    assert loader.bad[4] == "record 4: wanted a checksum, got another"
    assert caplog.text.count("replacing record 4") == 1
    for step, batch in enumerate(got):
        order = sample_indices(0, step, size=6, batch=6)
        good = ~np.isin(order, [1, 4])
        np.testing.assert_array_equal(batch.records[good], order[good])
        assert not set(batch.records[~good]) & {1, 4}
        np.testing.assert_array_equal(batch.volumes[:, 0, 0, 0], batch.records)


def test_the_last_good_record_is_found():
    data = Fake(20, tuple(range(19)))
    (got,) = take(batches(data, np.arange(20), batch=5, seed=0), 1)
    assert got.records.tolist() == [19] * 5


def test_all_bad_is_refused_in_one_line():
    data = Fake(5, tuple(range(5)))
    loader = batches(data, np.arange(5), batch=2, seed=0)
    with pytest.raises(InputRefusedError, match=r"got 5 damaged.*checksum") as caught:
        next(loader)
    assert "\n" not in str(caught.value)
    loader.close()


def test_what_cannot_be_batched_is_refused():
    with pytest.raises(InputRefusedError, match="got 0"):
        batches(Fake(5), np.arange(0), batch=2, seed=0)
    with pytest.raises(InputRefusedError, match=r"4 processes do not divide .* of 6"):
        batches(Fake(5), np.arange(5), batch=6, seed=0, process_count=4)


def test_a_resident_set_gives_the_same_batches():
    data, indices = Fake(9, (2, 6)), np.asarray([0, 2, 3, 6, 8])
    resident = load_resident(data, indices)
    assert sorted(resident.bad) == [2, 6]
    assert resident.volumes.shape == (5, *SHAPE)
    np.testing.assert_array_equal(resident.volumes[:, 0, 0, 0], [0, 0, 3, 0, 8])
    words = {"batch": 4, "seed": 5}
    check_equal(
        take(batches(resident, indices, **words), 4),
        take(batches(data, indices, **words), 4),
    )


@pytest.mark.parametrize(("indices", "got"), [([], "no records"), ([1], "record 1")])
def test_a_resident_set_of_nothing_is_refused(indices, got):
    with pytest.raises(InputRefusedError, match=f"got {got}"):
        load_resident(Fake(3, (1,)), np.asarray(indices, dtype=int))
