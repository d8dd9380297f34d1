"""The doctor tells what can be done and why not, whatever is broken on the machine, in 100 columns."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from aftershock.harness import doctor, machine
from aftershock.harness.doctor_text import render
from aftershock.harness.errors import SetupError
from aftershock.harness.interfaces import Settings
from aftershock.harness.journal import registrations
from aftershock.harness.registry import Registry
from pydantic import Field

Asked = Callable[[Any], str | None]


class Limited(Settings):
    disk_mb: int | None = None


class Stage:
    def __init__(self, settings: Any) -> None:
        self.settings = settings

    def add(self, member: Any) -> None: ...
    def link(self, source: str, target: str, port: str) -> None: ...


def backend(its_name: str, *, why: str | None = None, model: type[Settings] = Settings, crash: str = "") -> Any:
    class Backend:
        name: ClassVar[str] = its_name
        settings: ClassVar[type[Settings]] = model
        opened: ClassVar[list[Any]] = []

        def __init__(self, settings: Any) -> None:
            self._settings = settings

        def available(self) -> str | None:
            return why

        @contextlib.contextmanager
        def open(self, **context: Any) -> Iterator[Stage]:
            if crash:
                raise RuntimeError(crash)
            context["journal"].record("end-processes", expires_ns=None, token="none")
            context["journal"].done("e1")
            self.opened.append(self._settings)
            yield Stage(self._settings)

    return Backend


def fault(its_name: str, asked: Asked, *, model: type[Settings] = Settings, its_kind: str = "network") -> Any:
    class Fault:
        name: ClassVar[str] = its_name
        kind: ClassVar[str] = its_kind
        settings: ClassVar[type[Settings]] = model

        def __init__(self, settings: Any) -> None: ...
        def describe(self) -> str:
            return ""

        def available(self, stage: Any) -> str | None:
            return asked(stage)

        def inject(self, context: Any) -> None: ...

    return Fault


def registry(backends: list[Any], faults: list[Any]) -> Registry:
    made = Registry()
    for plugin in backends:
        made.add("backend", plugin, origin="test")
    for plugin in faults:
        made.add("fault", plugin, origin="test")
    return made


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What this machine really has is `machine`'s to ask, and the process tests'."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setattr(machine, "kernel", lambda: {"block": None, "loss": "loss needs nft: apt-get install nftables"})
    monkeypatch.setattr(machine, "engine", lambda: {"problem": "there is no Docker engine", "images": {}})


def examine(backends: list[Any], faults: list[Any]) -> dict[str, Any]:
    found = doctor.examine(registry(backends, faults))
    json.dumps(found)
    return found


def no_disk(stage: Any) -> str | None:
    return None if getattr(stage.settings, "disk_mb", None) else "set disk_mb in [backend]"


def crashes(stage: Any) -> str | None:
    raise ZeroDivisionError("of the fault")


def test_each_fault_is_asked_on_each_backend(tmp_path: Path) -> None:
    found = examine(
        [backend("a"), backend("b")],
        [fault("cut", lambda stage: None), fault("loss", lambda stage: "links carry streams")],
    )

    yes, no = {"available": True, "reason": None}, {"available": False, "reason": "links carry streams"}
    assert found["faults"] == {"cut": {"a": yes, "b": yes}, "loss": {"a": no, "b": no}}
    assert found["backends"] == {"a": None, "b": None}
    assert found["usable"] is True
    assert registrations(tmp_path) == [], "the stages were registered, and have gone"


def test_what_works_with_a_limit_only_is_a_yes_that_says_so() -> None:
    docker = backend("docker", model=Limited)

    found = examine([docker, backend("process")], [fault("disk-full", no_disk), fault("cut", lambda stage: None)])

    assert found["faults"]["disk-full"] == {
        "docker": {"available": True, "reason": "set disk_mb in [backend]"},
        "process": {"available": False, "reason": "set disk_mb in [backend]"},
    }
    assert found["faults"]["cut"]["docker"] == {"available": True, "reason": None}
    assert len(docker.opened) == 2


def test_what_is_refused_with_its_limit_too_gets_the_better_reason() -> None:
    def asked(stage: Any) -> str | None:
        return "this kernel has no loop devices" if stage.settings.disk_mb else "set disk_mb"

    found = examine([backend("docker", model=Limited)], [fault("disk-full", asked)])

    assert found["faults"]["disk-full"]["docker"] == {"available": False, "reason": "this kernel has no loop devices"}


def test_second_asking_that_fails_makes_no_yes() -> None:
    class Picky(backend("docker", model=Limited)):  # type: ignore[misc]
        def available(self) -> str | None:
            return "no disk of that size" if self._settings.disk_mb else None

    found = examine([Picky], [fault("disk-full", no_disk)])

    assert found["faults"]["disk-full"]["docker"] == {"available": False, "reason": "set disk_mb in [backend]"}


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (backend("b", why="start the engine"), "start the engine"),
        (backend("b", crash="boom"), "it crashed when it was tried (RuntimeError: boom); please report that"),
    ],
)
def test_backend_that_cannot_be_used_keeps_no_other_from_being_asked(broken: Any, reason: str) -> None:
    found = examine([broken, backend("good")], [fault("cut", lambda stage: None)])

    assert found["backends"] == {"b": reason, "good": None}
    assert found["faults"]["cut"]["b"]["available"] is False
    assert found["faults"]["cut"]["good"]["available"] is True


def test_fault_that_crashes_or_needs_settings_is_no_yes() -> None:
    class Needs(Settings):
        key: str = Field()

    found = examine([backend("a")], [fault("bad", crashes), fault("asks", lambda stage: None, model=Needs)])

    assert "ZeroDivisionError: of the fault" in found["faults"]["bad"]["a"]["reason"]
    assert found["faults"]["asks"]["a"] == {
        "available": False,
        "reason": "it cannot be asked without settings (key): aftershock run SCENARIO --dry-run",
    }
    assert found["usable"] is False


def test_noop_alone_makes_no_machine_usable() -> None:
    assert examine([backend("a")], [fault("noop", lambda stage: None, its_kind="none")])["usable"] is False


def test_engine_that_cannot_even_be_asked_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> dict[str, Any]:
        raise OSError("no sockets here")

    monkeypatch.setattr(machine, "engine", crash)

    found = examine([backend("a")], [fault("cut", lambda stage: None)])

    assert found["engine"]["problem"] == "cannot be asked: OSError: no sockets here"
    assert "no sockets here" in render(found)


def test_backend_that_is_not_healed_cannot_be_used() -> None:
    class Leaves(backend("leaves")):  # type: ignore[misc]
        @contextlib.contextmanager
        def open(self, **context: Any) -> Iterator[Stage]:
            raise SetupError("no address range is free")
            yield

    found = examine([Leaves], [fault("cut", lambda stage: None)])

    assert found["backends"]["leaves"] == "no address range is free"


# ------------------------------------------------------------------------------------------------ for a person


def test_text_fits_in_100_columns_and_tells_each_reason_once() -> None:
    reason = "links of this backend carry byte streams, not packets; use a backend with packets, such as docker " * 2
    faults = [fault(f"fault-{n}", lambda stage: reason) for n in range(12)]

    text = render(examine([backend(f"backend-{n}") for n in range(9)], faults))

    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("links of this backend") == 2  # twice within the one note
    assert "fault-11" in text
    assert "backend-8" in text
    assert "does not: loss (1)" in text
    assert "No backend can run a fault on this machine" in text


def test_text_shows_yes_no_condition_and_backend_that_cannot_be_used() -> None:
    found = examine(
        [backend("a"), backend("b", why="start the engine"), backend("docker", model=Limited)],
        [fault("cut", lambda stage: None), fault("disk-full", no_disk)],
    )

    rows = {line.split()[0]: line.split()[1:] for line in render(found).splitlines() if line}
    assert rows["fault"] == ["a", "b", "docker"]
    assert rows["(backend)"] == ["yes", "no", "(2)", "yes"]
    assert rows["cut"] == ["yes", "-", "yes"]
    assert rows["disk-full"] == ["no", "(3)", "-", "yes", "(3)"]
    assert rows["2"] == ["start", "the", "engine"]


# ------------------------------------------------------------------------------------------------ this machine


def test_privileges_and_programs_are_those_of_this_process() -> None:
    held = machine.privileges()

    assert not set(held["capabilities"]) & set(held["missing"])
    assert held["root"] or not held["capabilities"]
    assert machine.programs()["mount"]["path"] is not None
    assert all(set(p) == {"path", "package", "needed_for"} for p in machine.programs().values())
