"""The timeline: order of events, times, stop, what fails and what goes on. With a fault whose every step can fail."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from aftershock.harness.errors import HealError, UsageError
from aftershock.harness.interfaces import Evidence, FaultContext, Injection, MemberState, Settings, Stage
from aftershock.harness.registry import Registry
from aftershock.harness.schedule import Schedule, Window
from aftershock.harness.timeline import Timeline

from tests.fakes import FakeCluster, FakeJournal, RecordedEvents, small_cluster

GOOD = Evidence(proven=True, facts=("seen",))
BAD = Evidence(proven=False, facts=("n1 still deaf",))


class ScriptedSettings(Settings):
    fail: str = ""
    draws: bool = False


class Scripted:
    """A fault whose steps fail on demand, and that notes which were taken."""

    name: ClassVar[str] = "scripted"
    kind: ClassVar[str] = "network"
    settings: ClassVar[type[Settings]] = ScriptedSettings
    steps: ClassVar[list[str]] = []
    contexts: ClassVar[list[FaultContext]] = []
    began: ClassVar[list[int]] = []

    def __init__(self, settings: ScriptedSettings) -> None:
        self._fail = settings.fail

    def describe(self) -> str:
        return "Scripted."

    def available(self, stage: Stage) -> str | None:
        return "this kernel has no such thing; load the module" if self._fail == "available" else None

    @contextlib.contextmanager
    def inject(self, context: FaultContext) -> Iterator[Injection]:
        self.contexts.append(context)
        if self._fail == "inject":
            raise UsageError("target = 'n9': no member has this name")
        if self._fail == "inject-heal":
            raise HealError("half of it is still on")
        time.sleep(0.002)  # as opening the connections of a proof takes; the first change comes after it
        began_ns = time.monotonic_ns()
        self.began.append(began_ns)
        if self._fail == "inject-leaves-paused":
            context.cluster.stage.processes.pause("n2", expires_ns=context.expires_ns)
            raise OSError("broke off")
        self.steps.append("on")
        try:
            yield Injection(
                targets=("n1",),
                description="n1 is deaf",
                cut_off={"clients-r1": None, "clients-r2": (0, 3)},
                prove=lambda: self._step("prove", GOOD),
                verify_healed=lambda: self._step("verify", GOOD),
                reaction={"kind": "new-epoch", "shards": (1, 2)},
                still_on=lambda: self._step("still", GOOD),
                began_ns=None if self._fail == "no-began" else began_ns,
            )
        finally:
            self.steps.append("off")
            if self._fail == "leave":
                raise OSError("the proxy server is gone")

    def _step(self, step: str, evidence: Evidence) -> Evidence:
        self.steps.append(step)
        if self._fail == f"{step}-raises":
            raise ConnectionError("no route")
        return BAD if self._fail == step else evidence


@pytest.fixture(autouse=True)
def fresh_script() -> None:
    Scripted.steps.clear()
    Scripted.contexts.clear()
    Scripted.began.clear()


def timeline(
    cluster: FakeCluster, events: RecordedEvents, *fails: str, length_s: float = 0.03, origin_ns: int | None = None
) -> Timeline:
    windows = tuple(
        Window(
            id=f"f{n}",
            name="scripted",
            start_s=2 * n * length_s,
            end_s=2 * n * length_s + length_s,
            expect="recovers",
            rto_s=4.0,
            settings={"fail": fail},
            rng_seed=n,
        )
        for n, fail in enumerate(fails)
    )
    registry = Registry()
    registry.add("fault", Scripted, origin="test")
    return Timeline(
        schedule=Schedule(scenario="t", seed=1, rate_per_s=300, load_s=60, settle_s=20, windows=windows),
        cluster=cluster,
        registry=registry,
        events=events,
        journal=FakeJournal(),
        origin_ns=time.monotonic_ns() if origin_ns is None else origin_ns,
        hot_key="h-1",
    )


def outcome(*fails: str) -> tuple[RecordedEvents, Timeline]:
    events = RecordedEvents()
    ran = timeline(small_cluster(), events, *fails)
    ran.run(threading.Event())
    return events, ran


def failed(*fails: str) -> tuple[RecordedEvents, Timeline, str]:
    events = RecordedEvents()
    ran = timeline(small_cluster(), events, *fails)
    with pytest.raises(HealError) as caught:
        ran.run(threading.Event())
    return events, ran, str(caught.value)


ONE = ["fault.injected", "fault.proven", "fault.healing", "fault.healed"]


def test_all_is_planned_first_then_each_window_in_order() -> None:
    events, ran = outcome("", "")

    assert events.kinds() == ["fault.planned", "fault.planned", *ONE, *ONE]
    assert [event["fault"] for event in events.all] == ["f0", "f1", *["f0"] * 4, *["f1"] * 4]
    assert Scripted.steps == ["on", "prove", "still", "off", "verify"] * 2
    assert [(r.proven, r.heal_verified, r.targets) for r in ran.records] == [(True, True, ("n1",))] * 2


def test_events_have_the_fields_of_the_run_folder() -> None:
    """docs/run-folder.md, events."""
    events, _ = outcome("")
    planned, injected, proven, healing, healed = ({**e, "t_ns": 0, "source": ""} for e in events.all)

    rest = {"t_ns": 0, "source": "", "fault": "f0"}
    assert planned == rest | {
        "kind": "fault.planned",
        "name": "scripted",
        "fault_kind": "network",
        "start_s": 0.0,
        "end_s": 0.03,
        "expect": "recovers",
        "rto_s": 4.0,
        "settings": {"fail": ""},
    }
    assert injected == rest | {
        "kind": "fault.injected",
        "targets": ["n1"],
        "description": "n1 is deaf",
        "cut_off": {"clients-r1": None, "clients-r2": [0, 3]},
        "reaction": {"kind": "new-epoch", "shards": [1, 2]},
    }
    assert proven == rest | {"kind": "fault.proven", "facts": ["seen"]}
    assert healing == rest | {"kind": "fault.healing"}
    assert healed == rest | {"kind": "fault.healed", "verified": True, "facts": ["seen"]}


def test_the_injection_is_dated_from_the_first_change() -> None:
    """Operations that fail between the first change and the end of `inject` belong to the window."""
    events, ran = outcome("", "no-began")
    injected = events.of("fault.injected")

    assert [e["t_ns"] for e in injected] == [r.injected_ns for r in ran.records]
    assert injected[0]["t_ns"] == Scripted.began[0]
    assert injected[1]["t_ns"] < Scripted.began[1], "a fault that does not say is dated from when it was entered"
    times = [e["t_ns"] for e in events.all if e["kind"] != "fault.planned"]
    assert times == sorted(times)
    for record in ran.records:
        assert record.injected_ns is not None
        assert record.healing_ns is not None
        assert record.planned_start_ns <= record.injected_ns
        assert record.healing_ns >= record.planned_end_ns


def test_a_fault_that_cannot_be_injected_does_not_stop_the_run() -> None:
    events, ran = outcome("inject", "available", "")

    assert events.kinds()[3:] == ["fault.failed", "fault.failed", *ONE]
    assert [e["error"] for e in events.of("fault.failed")] == [
        "target = 'n9': no member has this name",
        "this kernel has no such thing; load the module",
    ]
    assert [(r.proven, r.injected_ns is None, r.heal_verified) for r in ran.records[:2]] == [(False, True, None)] * 2


def test_a_fault_that_broke_off_and_left_something_is_a_failed_heal() -> None:
    events, _, message = failed("inject-leaves-paused", "")

    assert "n2 is still paused" in message
    assert events.kinds()[2:] == ["fault.failed", "fault.healed"]
    assert Scripted.steps == []


def test_a_heal_error_of_an_injection_ends_the_run_as_it_is() -> None:
    _, ran, message = failed("inject-heal", "")

    assert message == "half of it is still on"
    assert [r.heal_verified for r in ran.records] == [False]


@pytest.mark.parametrize(
    ("fail", "fact"),
    [("prove", "n1 still deaf"), ("prove-raises", "the proof itself failed: ConnectionError: no route")],
)
def test_what_is_not_proven_is_unproven_and_the_run_goes_on(fail: str, fact: str) -> None:
    events, ran = outcome(fail, "")

    assert events.kinds()[2:5] == ["fault.injected", "fault.unproven", "fault.healing"]
    assert events.of("fault.unproven")[0]["facts"] == [fact]
    assert [r.proven for r in ran.records] == [False, True]


@pytest.mark.parametrize(
    ("fail", "fact"),
    [("still", "n1 still deaf"), ("still-raises", "whether it was still on cannot be told: ConnectionError: no route")],
)
def test_what_did_not_last_takes_the_proof_back(fail: str, fact: str) -> None:
    events, ran = outcome(fail)

    assert events.kinds()[1:] == ["fault.injected", "fault.proven", "fault.unproven", "fault.healing", "fault.healed"]
    assert events.of("fault.unproven")[0]["facts"] == [fact]
    assert [r.proven for r in ran.records] == [False]


@pytest.mark.parametrize(
    ("fail", "fact"),
    [
        ("leave", "OSError: the proxy server is gone"),
        ("verify", "n1 still deaf"),
        ("verify-raises", "healing could not be verified: ConnectionError: no route"),
    ],
)
def test_a_heal_that_cannot_be_verified_ends_the_run(fail: str, fact: str) -> None:
    events, ran, message = failed(fail, "")

    assert fact in message
    assert "f0 (scripted)" in message
    assert "aftershock heal" in message
    assert events.kinds()[-1] == "fault.healed"
    assert events.all[-1]["verified"] is False
    assert fact in events.all[-1]["facts"]
    assert Scripted.steps == ["on", "prove", "still", "off", "verify"]
    assert [r.heal_verified for r in ran.records] == [False]


def test_what_the_fault_believes_is_not_enough() -> None:
    """The stage itself is asked after every window."""
    cluster, events = small_cluster(), RecordedEvents()
    cluster.world.states["n4"] = MemberState.PAUSED

    with pytest.raises(HealError, match="n4 is still paused"):
        timeline(cluster, events, "").run(threading.Event())

    assert [e["verified"] for e in events.of("fault.healed")] == [False]


def test_a_proof_that_came_after_the_expiry_is_none() -> None:
    """By then the watchdog may have undone the fault, so what was seen need not have lasted."""
    events, clock = RecordedEvents(), [time.monotonic_ns()]
    ran = timeline(small_cluster(), events, "", origin_ns=clock[0])
    ran._clock_ns = lambda: clock[0]

    class Slow(Scripted):
        def _step(self, step: str, evidence: Evidence) -> Evidence:
            if step == "prove":
                clock[0] += 11_000_000_000
            return super()._step(step, evidence)

    ran._faults["f0"] = Slow(ScriptedSettings())
    ran.run(threading.Event())

    assert "after the fault's own expiry" in events.of("fault.unproven")[0]["facts"][-1]


def test_expiry_is_a_margin_after_the_planned_end_and_after_now_when_late() -> None:
    now_ns = time.monotonic_ns()
    early = timeline(small_cluster(), RecordedEvents(), "", origin_ns=now_ns)
    late = timeline(small_cluster(), RecordedEvents(), "", origin_ns=now_ns - 60_000_000_000)
    (first,), _ = early.run(threading.Event()), late.run(threading.Event())

    assert Scripted.contexts[0].expires_ns == first.planned_end_ns + 8_000_000_000
    assert Scripted.contexts[1].expires_ns >= now_ns + 8_000_000_000


def test_the_context_has_what_a_fault_may_use() -> None:
    outcome("", "")
    first, second = Scripted.contexts

    assert (first.fault_id, first.hot_key, first.duration_s) == ("f0", "h-1", pytest.approx(0.03))
    assert first.rng.random() != second.rng.random()


def test_stop_before_the_first_window_plans_and_injects_nothing() -> None:
    events, stop = RecordedEvents(), threading.Event()
    stop.set()

    assert timeline(small_cluster(), events, "", "").run(stop) == []
    assert events.kinds() == ["fault.planned"] * 2


def test_stop_while_waiting_for_a_window_returns_at_once() -> None:
    events, stop = RecordedEvents(), threading.Event()
    ran = timeline(small_cluster(), events, "", "", length_s=1000.0)
    thread = threading.Thread(target=ran.run, args=(stop,))
    thread.start()
    while "fault.proven" not in events.kinds():
        thread.join(timeout=0.005)

    stop.set()
    thread.join(timeout=5)

    assert not thread.is_alive()
    assert Scripted.steps == ["on", "prove", "still", "off", "verify"]
    assert [r.heal_verified for r in ran.records] == [True]


def test_an_interrupt_inside_the_window_heals_and_goes_up() -> None:
    class InterruptedEvent(threading.Event):
        def wait(self, timeout: Any = None) -> bool:
            raise KeyboardInterrupt

    events = RecordedEvents()
    with pytest.raises(KeyboardInterrupt):
        timeline(small_cluster(), events, "", length_s=1.0, origin_ns=time.monotonic_ns()).run(InterruptedEvent())

    assert Scripted.steps == ["on", "prove", "off", "verify"]
    assert events.kinds()[-1] == "fault.healed"


def test_a_fault_that_is_not_installed_is_found_before_anything_starts() -> None:
    with pytest.raises(UsageError, match="unknown fault 'scripted'"):
        Timeline(
            schedule=timeline(small_cluster(), RecordedEvents(), "")._schedule,
            cluster=small_cluster(),
            registry=Registry(),
            events=RecordedEvents(),
            journal=FakeJournal(),
            origin_ns=0,
            hot_key="h-1",
        )
