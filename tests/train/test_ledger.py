"""What a run costs: stated once, rightly, and over interruptions; traces of steps."""

import itertools
import json
import logging
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest

from brainjax.errors import InputRefusedError
from brainjax.train import ledger as ledgers
from brainjax.train.finetune import finetune
from brainjax.train.folder import RunFolder
from brainjax.train.hooks import MetricLog, Terminated, progress_bar
from brainjax.train.ledger import SPEEDS, TOTALS, Ledger
from brainjax.train.loop import train
from brainjax.train.peak import Peak
from brainjax.train.pretrain import pretrain
from brainjax.train.profiling import Profile
from tests.train.configs import tiny_finetuning, tiny_pretraining
from tests.train.test_resume import stop_after

COSTS = (*SPEEDS, *TOTALS, "compile_seconds")


class Device:
    """Takes its time for a step, one after the other, while the host goes on."""

    def __init__(self, seconds: float):
        self.seconds, self.free = seconds, 0.0

    def update(self, state, batch):
        self.free = max(self.free, time.perf_counter()) + self.seconds
        until = self.free

        def wait():
            time.sleep(max(0.0, until - time.perf_counter()))

        return state, {"loss": SimpleNamespace(block_until_ready=wait)}


def slow_batches(seconds: float):
    while True:
        time.sleep(seconds)
        yield {}


def run(ledger: Ledger, update, batches, *, steps: int, hooks=()) -> None:
    with ledger.running():
        train(
            {"step": 0},
            ledger.timed(update),
            ledger.watched(batches),
            steps=steps,
            hooks=hooks,
        )


@pytest.mark.parametrize(
    ("device", "host", "low", "high"),
    [(0.04, 0.01, 0.0, 0.25), (0.01, 0.04, 0.5, 0.95)],
    ids=["the device is slower", "the input is slower"],
)
def test_waiting_counts_while_the_device_has_nothing_to_do(device, host, low, high):
    ledger = Ledger(batch=4, views=2)
    run(ledger, Device(device).update, slow_batches(host), steps=10)
    assert ledger.total.steps == 10
    found = ledger.speeds(ledger.total)
    assert low <= found["input_wait_share"] <= high
    # A step takes as long as the slower of the two, and no less.
    assert found["scans_per_second"] < 4 / 0.04
    assert found["views_per_second"] == pytest.approx(
        2 * found["scans_per_second"], rel=1e-3
    )
    assert "mfu" not in found


def test_micro_batches_are_waited_for_inside_the_step():
    def update(state, batch):
        assert [*batch.first] == [*batch.second] == [{}, {}]
        return state, {}

    def streams():
        while True:
            first, second = (itertools.islice(slow_batches(0.01), 2) for _ in "12")
            yield SimpleNamespace(first=first, second=second)

    ledger = Ledger(batch=4)
    run(ledger, update, streams(), steps=3)
    assert ledger.total.waited > 3 * 4 * 0.01
    assert ledger.speeds(ledger.total)["input_wait_share"] > 0.5


def test_no_batch_is_kept_by_who_watches_it():
    class Batch(dict):
        alive = 0

        def __init__(self):
            Batch.alive += 1

        def __del__(self):
            Batch.alive -= 1

    watched = Ledger(batch=1).watched(Batch() for _ in range(3))
    for _ in range(3):
        next(watched)
        assert Batch.alive <= 1
    assert Batch.alive == 0


def test_hooks_at_a_log_point_are_in_no_speed():
    ledger = Ledger(batch=1)
    spans = []

    def log(step, state, metrics):
        if step % 2 == 0:
            spans.append(ledger.close_stretch())
            time.sleep(0.2)

    began = time.perf_counter()
    run(ledger, Device(0.0).update, slow_batches(0.001), steps=5, hooks=[log])
    whole = time.perf_counter() - began
    assert [span.steps for span in spans] == [2, 2]
    assert ledger.total.steps == 5
    assert ledger.total.seconds < whole - 0.4


def test_compiling_the_update_is_told_apart():
    step = jax.jit(lambda x: jnp.sin(x) @ jnp.cos(x.T) + len(jax.devices()))
    other = jax.jit(lambda x: jnp.tanh(x) @ x)
    compiled = []

    def update(state, batch):
        return state, {"loss": step(jnp.ones((7, 7)))}

    def hook(number, state, metrics):
        compiled.append(ledger.spent()["compile_seconds"])
        other(jnp.ones((7, 7)))  # of a probe, say

    jnp.ones((7, 7)).block_until_ready()
    ledger = Ledger(batch=1)
    run(ledger, update, slow_batches(0), steps=3, hooks=[hook])
    assert 0 < compiled[0] == compiled[1] == compiled[2]
    assert ledger.compiling == pytest.approx(compiled[0], rel=1e-3)


def test_a_step_that_fails_ends_the_thread_beside_the_loop():
    def update(state, batch):
        raise ValueError("out of memory")

    before = threading.active_count()
    with pytest.raises(ValueError, match="out of memory"):
        run(Ledger(batch=1), update, slow_batches(0), steps=3)
    assert threading.active_count() == before


def test_mfu_is_model_flops_over_the_peak(monkeypatch):
    peak = Peak(8e12, "8 TFLOP/s bf16, data sheet of a chip")
    monkeypatch.setattr(ledgers, "find_peak", lambda devices: peak)
    ledger = Ledger(batch=4, flops=lambda: 5_000_000_000)
    run(ledger, Device(0.0).update, slow_batches(0.01), steps=3)
    found = ledger.summary()
    wanted = found["scans_per_second"] * 5e9
    assert found["model_tflop_per_second"] == pytest.approx(wanted / 1e12, rel=1e-3)
    assert found["mfu"] == pytest.approx(wanted / 8e12, rel=1e-3)
    assert found["mfu_of"] == peak.name
    assert ledger.basis() == f"5 GFLOP a scan; MFU is of {peak.name}"


def test_the_fullest_device_tells_its_peak_where_it_can(monkeypatch):
    devices = [
        SimpleNamespace(memory_stats=lambda used=used: {"peak_bytes_in_use": used})
        for used in (5, 7, 6)
    ]
    monkeypatch.setattr(jax, "local_devices", lambda: devices)
    assert ledgers.peak_memory() == (7, "the fullest device")
    monkeypatch.undo()
    here, whose = ledgers.peak_memory()
    assert whose == "the process"
    assert 2**27 < here < 2**37


def test_costs_of_a_run_add_up_over_its_calls(tmp_path):
    lines = [
        {"step": 2, "loss": 1.0, "seconds": 50.0, "device_hours": 8.0, "mfu": 0.5},
        {"step": 4, "loss": 1.0, "seconds": 90.0, "device_hours": 9.0, "mfu": 0.4}
        | {"peak_memory_gib": 512.0},
        {"step": 4, "probe/age/ridge_mae": 5.0, "seconds": 100.0},
        {"step": 6, "loss": 1.0, "seconds": 200.0, "device_hours": 99.0},
    ]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    folder = RunFolder(tmp_path)
    folder.metrics.write_text(text + '{"step": 7, "lo')
    log = MetricLog(folder, start=4, every=2, batch=1)
    assert folder.metrics.read_text() == "".join(text.splitlines(True)[:3])
    assert 100 <= log.seconds < 200
    found = log.ledger.summary()
    assert 9 <= found["device_hours"] < 10
    assert found["peak_memory_gib"] == 512
    assert found["mfu"] == 0.4  # of the newest line, as no step was taken
    log.close()


def test_who_does_not_write_times_and_touches_no_file(tmp_path, caplog):
    log = MetricLog(RunFolder(tmp_path), start=0, every=1, batch=4, writing=False)
    update, batches = Device(0.0).update, slow_batches(0.001)
    with caplog.at_level(logging.INFO), progress_bar("test", 2, log) as show:
        metrics = {"loss": 1.0}
        hooks = [lambda step, state, _: log(step, state, metrics), show]
        run(log.ledger, update, batches, steps=2, hooks=hooks)
    log.close()
    assert log.latest["scans_per_second"] > 0
    assert not [*tmp_path.iterdir()]
    assert not caplog.messages


@pytest.fixture(scope="module")
def pretrained(tiny_prepared, tmp_path_factory):
    """A pretraining run that was interrupted after its third step, and its log."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    config = tiny_pretraining(
        tiny_prepared, "--config.profile_steps=5,6", "--config.train.save_every=3"
    )
    said: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    logger = logging.getLogger("brainjax")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    with pytest.MonkeyPatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(Terminated):
            pretrain(config, folder)
    assert not (folder / "profile").exists()
    pretrain(config, folder)
    logger.setLevel(level)
    logger.removeHandler(handler)
    return RunFolder(folder), said


def test_every_line_with_a_loss_says_what_it_cost(pretrained):
    rows = [json.loads(line) for line in pretrained[0].metrics.read_text().splitlines()]
    rows = [row for row in rows if "loss" in row]
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    for row in rows:
        assert set(COSTS) <= set(row)
        assert row["views_per_second"] == pytest.approx(
            2 * row["scans_per_second"], rel=1e-3
        )
        assert 0 <= row["input_wait_share"] <= 1
        assert row["mfu"] > 0
    hours = [row["device_hours"] for row in rows]
    assert hours == sorted(hours)
    # Both calls compiled; what that took is in no speed.
    assert rows[0]["compile_seconds"] > 0
    assert rows[-1]["compile_seconds"] > 0


def test_the_summary_says_it_too_and_names_its_peak(pretrained):
    folder, _ = pretrained
    summary = json.loads(folder.summary.read_text())
    last = [json.loads(line) for line in folder.metrics.read_text().splitlines()][-1]
    assert set(COSTS) <= set(summary)
    assert summary["device_hours"] >= last.get("device_hours", 0)
    assert summary["peak_memory_of"] == "the process"
    assert summary["mfu_of"].endswith("TFLOP/s float32, a matrix product measured here")
    tokens, width = 8, 24
    block = 2 * tokens * width * width * 12 + 4 * tokens**2 * width
    patches = 2 * tokens * 12**3 * width
    projector = 2 * (width * 32 + 32 * 16)
    found = summary["scan_gflop"] * 1e9
    assert found == pytest.approx(6 * (2 * block + patches + projector), rel=0.02)


def test_progress_is_a_line_where_there_is_no_terminal(pretrained):
    lines = [text for text in pretrained[1] if text.startswith("pretrain")]
    assert "GFLOP a scan; MFU is of" in lines[0]
    shown = [text for text in lines if "loss" in text]
    assert [text.split()[1] for text in shown] == [f"{n}/6" for n in range(1, 7)]
    for word in ("views/s", "MFU", "wait"):
        assert all(word in text for text in shown)


def test_a_trace_of_the_asked_steps_is_on_disk(pretrained):
    traces = [*pretrained[0].path.glob("profile/plugins/profile/*/*.xplane.pb")]
    assert len(traces) == 1
    assert steps_in(traces[0]) == [5, 6]


def steps_in(trace: Path) -> list[int]:
    """The numbers of the training steps that a trace holds."""
    data = jax.profiler.ProfileData.from_file(str(trace))
    lines = (line for plane in data.planes for line in plane.lines)
    events = (event for line in lines for event in line.events)
    return [dict(event.stats)["step_num"] for event in events if event.name == "train"]


@pytest.mark.slow
def test_fine_tuning_takes_one_view_and_traces_too(pretrained, tiny_prepared, tmp_path):
    folder = finetune(
        tiny_finetuning(
            tiny_prepared,
            pretrained[0].path,
            "--config.profile_steps=3,3",
            "--config.train.steps=3",
        ),
        tmp_path / "run",
    )
    summary = json.loads(folder.summary.read_text())
    assert summary["views_per_second"] == summary["scans_per_second"]
    (trace,) = folder.path.glob("profile/plugins/profile/*/*.xplane.pb")
    assert steps_in(trace) == [3]


def traced(monkeypatch, steps, *, start=0, total=6) -> list[int]:
    """The numbers of the steps during which a trace was being written."""
    state = {"on": False, "steps": []}
    monkeypatch.setattr(
        jax.profiler, "start_trace", lambda *_, **__: state.update(on=True)
    )
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: state.update(on=False))

    def update(given, batch):
        if state["on"]:
            state["steps"].append(given["step"] + 1)
        return {"step": given["step"] + 1}, {}

    profile = Profile(None, steps, start=start, total=total)
    with profile.ready():
        train(
            {"step": start},
            update,
            itertools.repeat({}),
            steps=total,
            hooks=[profile.after_step, profile.before_next],
        )
    assert not state["on"]
    return state["steps"]


@pytest.mark.parametrize(
    ("steps", "start", "found"),
    [
        ((), 0, []),
        ((3, 4), 0, [3, 4]),
        ((1, 1), 0, [1]),
        ((6, 6), 0, [6]),
        ((2, 4), 2, [3, 4]),
        ((2, 4), 4, []),
    ],
)
def test_whole_steps_are_traced(monkeypatch, steps, start, found):
    assert traced(monkeypatch, steps, start=start) == found


@pytest.mark.parametrize(
    "steps", [(3,), (1, 2, 3), (3, 2), (0, 2), (5, 7), (1.0, 2), ("a", "b")]
)
def test_steps_that_cannot_be_traced_are_refused(steps):
    wanted = r"config\.profile_steps: wanted the first and the last .* of 6, got "
    with pytest.raises(InputRefusedError, match=wanted) as refused:
        Profile(None, steps, start=0, total=6)
    assert "\n" not in str(refused.value)
