"""A scenario: what to deploy, what load to drive, what to break and when, and what is promised.

`parse` turns TOML text into a `Scenario` that is valid from then on, or raises `ScenarioError` with every mistake
found (key, what was expected, the nearest valid name). `to_toml` writes a resolved scenario that parses to the same
value. Settings of systems, backends, workloads and faults are checked against the plugin's own model here, so that a
typing mistake is found before anything starts.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from .check_needs import unfed
from .errors import ScenarioError
from .fault_budget import FaultBudget, disk_losses_allowed
from .fault_draw import Frame, drawn_mistakes
from .fault_plans import Expect, FaultPlan, RandomPlan, misplaced, unrolled
from .registry import Registry
from .safety import SafetyPlan
from .safety import mistakes as safety_mistakes

__all__ = [
    "CHECK_NAMES",
    "Expect",
    "FaultPlan",
    "LoadPlan",
    "RandomPlan",
    "Scenario",
    "Targets",
    "WorkloadPlan",
    "frame",
    "load",
    "parse",
    "to_toml",
]

# Every check that a scenario may require; `harness.checks` has one function for each.
CHECK_NAMES = (
    "assumptions",
    "linearizability",
    "data-loss",
    "availability",
    "recovery",
    "latency",
    "load",
    "replica-agreement",
)


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WorkloadPlan(_Model):
    """One key space and its mix. `settings` are the workload's own."""

    name: str
    share: float = Field(gt=0, le=1, description="share of the arrivals")
    settings: dict[str, Any] = Field(default_factory=dict)


class LoadPlan(_Model):
    """An absolute arrival schedule: `rate_per_s` for `duration_s`, spread over the client groups."""

    rate_per_s: float = Field(default=300, gt=0, le=100_000)
    duration_s: float = Field(default=60, gt=0, le=86_400)
    timeout_s: float = Field(default=2.0, gt=0, le=60, description="an answer after this is no answer")
    in_flight: int = Field(default=400, ge=1, le=10_000, description="operations in flight at most, per client group")
    processes: int = Field(default=1, ge=1, le=8)
    record: bool = True


class Targets(_Model):
    """Promises that are judged. Each is required unless its name is in `advisory`; None is not judged."""

    success_ratio: float | None = Field(default=0.999, gt=0, le=1, description="owed operations outside fault windows")
    longest_gap_s: float | None = Field(default=None, gt=0, description="over all owed operations; none by default")
    latency_p99_ms: float | None = Field(default=None, gt=0, description="from the schedule, outside fault windows")
    on_time_ratio: float | None = Field(default=0.99, gt=0, le=1, description="operations that started within 50 ms")
    advisory: tuple[str, ...] = ()


class OnUnknown(_Model):
    """What an unknown verdict leads to: exit 3, or exit 0 with a warning in every output."""

    retry: int = Field(default=0, ge=0, le=10)
    then: Literal["stop", "warn"] = "stop"


class PluginChoice(_Model):
    """A plugin and its settings."""

    name: str
    settings: dict[str, Any] = Field(default_factory=dict)


class Scenario(_Model):
    """A whole scenario, resolved: names known, settings valid, repeated faults unrolled, windows inside the load.

    `random` says what a seed draws; `schedule.resolve` puts the drawn windows into `faults` and takes it out.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}$")
    description: str = ""
    seed: int | None = Field(default=None, ge=0, lt=2**63)
    control: bool = Field(default=False, description="true: there are no faults on purpose")
    system: PluginChoice
    backend: PluginChoice
    load: LoadPlan = LoadPlan()
    workloads: tuple[WorkloadPlan, ...]
    faults: tuple[FaultPlan, ...] = ()
    random: RandomPlan | None = None
    targets: Targets = Targets()
    required: tuple[str, ...] = CHECK_NAMES
    on_unknown: OnUnknown = OnUnknown()
    safety: SafetyPlan = SafetyPlan()
    settle_s: float = Field(default=20, gt=0, description="time for the system to be whole again after the load")


def load(
    path: Path, registry: Registry, *, overrides: Mapping[str, str] | None = None, backend: str | None = None
) -> Scenario:
    """Read and parse a scenario file. Raises ScenarioError naming the file and every mistake in it."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ScenarioError(str(path), [f"cannot be read: {error.strerror or error}"]) from None
    except UnicodeDecodeError as error:
        raise ScenarioError(str(path), [f"is not UTF-8 text (byte {error.start}); a scenario is a TOML file"]) from None
    return parse(text, registry, where=str(path), overrides=overrides, backend=backend)


def parse(
    text: str,
    registry: Registry,
    *,
    where: str,
    overrides: Mapping[str, str] | None = None,
    backend: str | None = None,
) -> Scenario:
    """Parse TOML text. `overrides` are `--set` pairs: dotted key to TOML value (bare words are taken as strings).

    `backend` names another backend than the text does; of the text's settings it keeps those that it knows.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(where, [f"not valid TOML: {error}"]) from None
    problems: list[str] = []
    if backend is not None:
        _choose_backend(document, backend, registry)
    for key, value in (overrides or {}).items():
        _override(document, key, value, problems)
    scenario = _resolve(document, registry, problems)
    if problems or scenario is None:
        raise ScenarioError(where, problems)
    return scenario


def _choose_backend(document: dict[str, Any], name: str, registry: Registry) -> None:
    table = document.get("backend", {"name": "process"})
    if isinstance(table, dict) and table.get("name") != name:
        plugin = registry.find("backend", name)
        known = plugin.settings.model_fields if plugin is not None else {}
        document["backend"] = {**{key: value for key, value in table.items() if key in known}, "name": name}


def _override(document: dict[str, Any], key: str, text: str, problems: list[str]) -> None:
    try:
        value = tomllib.loads(f"v = {text}")["v"]
    except tomllib.TOMLDecodeError:
        value = text
    place: Any = document
    *path, last = key.split(".")
    for step in path:
        if isinstance(place, list):
            if not step.isdigit() or int(step) >= len(place):
                problems.append(f"--set {key}: there is no entry {step!r}; entries are numbered from 0")
                return
            place = place[int(step)]
        else:
            place = place.setdefault(step, {})
        if not isinstance(place, dict | list):
            problems.append(f"--set {key}: {step!r} is a value, it has no keys below it")
            return
    if isinstance(place, list):
        problems.append(f"--set {key}: name a key inside an entry, such as {key}.0.NAME")
    else:
        place[last] = value


# In the file, a plugin's settings stand beside its name; these are the keys that are ours.
_OWN_KEYS = {
    "system": {"name"},
    "backend": {"name"},
    "workload": {"name", "share"},
    "fault": {"name", "start_s", "duration_s", "expect", "rto_s", "id", "overlap", "every_s", "times"},
    "random.fault": {"name", "weight", "duration_s", "expect", "rto_s"},
}
_TOP = ("name", "description", "seed", "control", "settle_s", "schema")
_TABLES = ("load", "targets", "checks", "on_unknown", "safety", "system", "backend", "workload", "fault", "random")


def _resolve(document: dict[str, Any], registry: Registry, problems: list[str]) -> Scenario | None:
    for key in document:
        if key not in (*_TOP, *_TABLES):
            problems.append(f"{key}: unknown key{_nearest(key, [*_TOP, *_TABLES])}")
    if document.get("schema", 1) != 1:
        problems.append(f"schema: expected 1, found {document['schema']!r}; this version reads schema 1")
    values: dict[str, Any] = {key: document[key] for key in _TOP if key in document and key != "schema"}
    for key in ("load", "targets", "on_unknown", "safety"):
        if key in document:
            values[key] = document[key]
    checks = document.get("checks", {})
    if not isinstance(checks, dict):
        problems.append("checks: expected a table such as [checks] with required = [...]")
    else:
        for key in checks:
            if key != "required":
                problems.append(f"checks.{key}: unknown key{_nearest(key, ['required'])}")
        if "required" in checks:
            values["required"] = checks["required"]
            for name in checks["required"] if isinstance(checks["required"], list) else []:
                if name not in CHECK_NAMES:
                    problems.append(f"checks.required: unknown check {name!r}{_nearest(str(name), CHECK_NAMES)}")
    values["system"] = _plugin("system", document.get("system", {"name": "reference"}), registry, problems)
    values["backend"] = _plugin("backend", document.get("backend", {"name": "process"}), registry, problems)
    values["workloads"] = _plugins("workload", document.get("workload", []), registry, problems)
    problems.extend(_settle_required(values, registry))
    values["faults"] = _plugins("fault", document.get("fault", []), registry, problems)
    for number, fault in enumerate(values["faults"], start=1):
        if isinstance(fault, dict):
            fault.setdefault("id", f"f{number}")
    if "random" in document:
        values["random"] = _random(document["random"], registry, problems)
    try:
        scenario = Scenario.model_validate(values)
    except ValidationError as error:
        problems.extend(_sentences(error))
        return None
    windows = unrolled(scenario.faults, scenario.load.duration_s)
    resolved = scenario.model_copy(update={"faults": tuple(placed.plan for placed in windows)})
    problems.extend(misplaced(scenario.faults, windows, scenario.load.duration_s))
    problems.extend(_inconsistencies(resolved))
    return resolved


def _random(table: Any, registry: Registry, problems: list[str]) -> Any:
    """The section [random] with its templates, each checked against its fault's own settings."""
    if not isinstance(table, dict):
        problems.append("random: expected a table such as [random] with [[random.fault]] below it")
        return None
    known = [*(name for name in RandomPlan.model_fields if name != "faults"), "fault"]
    for key in table:
        if key not in known:
            problems.append(f"random.{key}: unknown key{_nearest(key, known)}")
    values = {key: value for key, value in table.items() if key in known and key != "fault"}
    templates = table.get("fault", [])
    if not isinstance(templates, list) or not templates:
        problems.append("random.fault: at least one kind of window is needed, written [[random.fault]]")
        return None
    values["faults"] = found = []
    for number, template in enumerate(templates):
        own = _plugin("fault", template, registry, problems, f"random.fault.{number}", _OWN_KEYS["random.fault"])
        plugin = registry.find("fault", str(own.get("name")))
        found.append({**own, "loses_disk": bool(getattr(plugin, "loses_disk", False))})
    return values


def _settle_required(values: dict[str, Any], registry: Registry) -> list[str]:
    """Requires all checks that the workloads can feed, where the text names none; what it names must be among them."""
    functions: set[str] = set()
    for own in values["workloads"]:
        plugin = registry.find("workload", str(own.get("name")))
        if plugin is None or not hasattr(plugin, "functions") or "settings" not in own:
            return []  # another mistake, or a saved run, whose scenario was settled when it ran
        functions |= plugin.functions(plugin.settings.model_validate(own["settings"]))
    missing = unfed(functions) if values["workloads"] else {}
    if "required" not in values:
        values["required"] = [name for name in CHECK_NAMES if name not in missing]
        return []
    named = values["required"] if isinstance(values["required"], list) else []
    return [
        f"checks.required: {name} can never be judged in this scenario. {missing[name]} Leave it out, or add a workload"
        for name in named
        if name in missing
    ]


def _plugin(
    kind: str,
    table: Any,
    registry: Registry,
    problems: list[str],
    where: str | None = None,
    own_keys: set[str] | None = None,
) -> Any:
    where, own_keys = where or kind, own_keys or _OWN_KEYS[kind]
    if not isinstance(table, dict):
        problems.append(f"{where}: expected a table, found {type(table).__name__}")
        return {"name": "-"}
    name = table.get("name")
    own = {key: value for key, value in table.items() if key in own_keys}
    settings = {key: value for key, value in table.items() if key not in own_keys}
    if not isinstance(name, str):
        problems.append(f"{where}.name: missing; known: {', '.join(registry.names(kind))}")
        return {**own, "name": "-"}
    plugin = registry.find(kind, name)
    if plugin is None:
        known = registry.names(kind)
        problems.append(f"{where}.name: unknown {kind} {name!r}{_nearest(name, known)}")
        return own
    model = plugin.settings
    unreachable = sorted(own_keys & set(model.model_fields))
    if unreachable:
        problems.append(
            f"{where}: {kind} {name!r} has settings of its own named {', '.join(unreachable)}, which this table uses "
            "itself, so they could never be set; they must be renamed in the plugin"
        )
    try:
        own["settings"] = model.model_validate(settings).model_dump(mode="json", exclude_none=True)
    except ValidationError as error:
        fields = [*model.model_fields, *sorted(own_keys)]
        problems.extend(f"{where}.{sentence}" for sentence in _sentences(error, fields))
    return own


def _plugins(kind: str, tables: Any, registry: Registry, problems: list[str]) -> list[Any]:
    if not isinstance(tables, list):
        problems.append(f"{kind}: expected an array of tables, written [[{kind}]]")
        return []
    return [_plugin(kind, table, registry, problems, f"{kind}.{i}") for i, table in enumerate(tables)]


def _sentences(error: ValidationError, known: list[str] | None = None) -> list[str]:
    found = []
    for item in error.errors(include_url=False):
        path = (
            ".".join(str(part) for part in item["loc"]).replace("workloads.", "workload.").replace("faults.", "fault.")
        )
        if item["type"] == "extra_forbidden":
            found.append(f"{path}: unknown key{_nearest(str(item['loc'][-1]), known or [])}")
        elif item["type"] == "missing":
            found.append(f"{path}: missing")
        else:
            found.append(f"{path}: {item['msg'][0].lower()}{item['msg'][1:]}, found {item['input']!r}")
    return found


def _nearest(name: str, known: list[str] | tuple[str, ...]) -> str:
    # What somebody wrote the beginning of is nearer than any spelling.
    close = [other for other in known if name and other.startswith(name)] or difflib.get_close_matches(name, known, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(sorted(known))}" if known else ""


def _inconsistencies(scenario: Scenario) -> list[str]:
    """Mistakes that only the whole shows; each would otherwise waste a run."""
    found = []
    if not scenario.workloads:
        found.append("workload: at least one [[workload]] is needed")
    share = sum(w.share for w in scenario.workloads)
    if scenario.workloads and not math.isclose(share, 1.0, abs_tol=1e-6):
        found.append(f"workload: the shares add up to {share:g}, expected 1")
    if scenario.control and any(f.name != "noop" for f in scenario.faults):
        found.append("control: a control run may hold no fault but noop")
    if scenario.control and scenario.random is not None:
        found.append("control: a control run may hold no fault but noop, and [random] draws others")
    if not scenario.control and not scenario.faults and scenario.random is None:
        found.append("fault: there is none; add [[fault]], or say control = true if that is meant")
    ids = [f.id for f in scenario.faults]
    found.extend(f"fault: the id {i!r} is used twice" for i in sorted({i for i in ids if ids.count(i) > 1}))
    if scenario.random is not None:
        found.extend(drawn_mistakes(scenario.random, frame(scenario)))
    found.extend(_unresolvable(scenario))
    found.extend(safety_mistakes(scenario.safety, load_s=scenario.load.duration_s))
    for name in scenario.targets.advisory:
        if name not in Targets.model_fields or name == "advisory":
            names = [n for n in Targets.model_fields if n != "advisory"]
            found.append(f"targets.advisory: unknown target {name!r}{_nearest(name, names)}")
    return found


def frame(scenario: Scenario) -> Frame:
    """What windows that are drawn for this scenario must fit into."""
    at_once = 1 if scenario.random is None else scenario.random.at_once
    rate_per_s = scenario.load.rate_per_s
    return Frame(
        load_s=scenario.load.duration_s,
        explicit=scenario.faults,
        budget=FaultBudget(at_once=at_once, disks=disk_losses_allowed(scenario.system.settings)),
        least_steady_s=max((needed for _, needed in _needed(scenario.targets)), default=0) / rate_per_s,
    )


# Fewer do not show a 99th percentile.
_LEAST_FOR_P99: Final = 1000


def _needed(targets: Targets) -> list[tuple[str, int]]:
    """Target -> operations outside recovery windows that it takes to tell a kept target from a broken one.

    A ratio that one failed operation already breaks cannot be told from none.
    """
    found = []
    if targets.success_ratio is not None and targets.success_ratio < 1:
        found.append(("success_ratio", math.ceil(1 / (1 - targets.success_ratio) - 1e-6)))
    if targets.latency_p99_ms is not None:
        found.append(("latency_p99_ms", _LEAST_FOR_P99))
    return found


def _unresolvable(scenario: Scenario) -> list[str]:
    """Targets for which there are too few operations outside the times in which failures are excused."""
    steady_s = frame(scenario).steady_s(())
    operations = steady_s * scenario.load.rate_per_s
    found = []
    for name, needed in _needed(scenario.targets):
        if operations >= needed - 1e-6:
            continue
        if name == "latency_p99_ms":
            found.append(
                f"targets.latency_p99_ms: needs {needed} operations outside recovery windows, there are about "
                f"{operations:.0f}"
            )
            continue
        found.append(
            f"targets.success_ratio = {scenario.targets.success_ratio:g}: needs {needed} operations outside recovery "
            f"windows to be told from 100 %, and this scenario has about {operations:.0f} ({steady_s:g} s at "
            f"{scenario.load.rate_per_s:g}/s); make the load longer, or lower the target"
        )
    return found


# ------------------------------------------------------------------------------------------------ writing


def to_toml(scenario: Scenario) -> str:
    """The scenario as TOML that `parse` reads back to an equal value; every default is written out."""
    data = scenario.model_dump(mode="json", exclude_none=True)
    lines = ["schema = 1"]
    lines += [f"{key} = {_value(data[key])}" for key in _TOP if key in data]
    for key in ("load", "targets", "on_unknown", "safety"):
        lines += ["", f"[{key}]", *(f"{k} = {_value(v)}" for k, v in data[key].items())]
    lines += ["", "[checks]", f"required = {_value(data['required'])}"]
    for key in ("system", "backend"):
        lines += ["", f"[{key}]", f"name = {_value(data[key]['name'])}", *_settings(data[key]["settings"])]
    random = data.get("random")
    if random is not None:
        lines += ["", "[random]", *(f"{k} = {_value(v)}" for k, v in random.items() if k != "faults")]
    templates = () if random is None else random["faults"]
    many_of = (("workload", data["workloads"]), ("fault", data["faults"]), ("random.fault", templates))
    for key, many in many_of:
        for item in many:
            own = [f"{k} = {_value(v)}" for k, v in item.items() if k not in ("settings", "loses_disk")]
            lines += ["", f"[[{key}]]", *own, *_settings(item["settings"])]
    return "\n".join(lines) + "\n"


def _settings(settings: dict[str, Any]) -> list[str]:
    return [f"{_key(key)} = {_value(value)}" for key, value in settings.items()]


def _key(key: str) -> str:
    return key if key.replace("_", "").replace("-", "").isalnum() else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        escaped = "".join(
            f"\\u{ord(c):04x}" if ord(c) < 32 or ord(c) == 127 else f"\\{c}" if c in '"\\' else c for c in value
        )
        return f'"{escaped}"'
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(v) for v in value) + "]"
    return repr(value)
