"""Proofs by application bytes: probes through the faulted path, on connections opened before the fault and on new ones.

What a probe must see on a link follows from the flows alone (`_links.expected`): the request is delivered unless
source -> target is cut, and the answer comes unless target -> source is cut too. So one comparison catches a cut that
did not take, one that took in both directions when one was asked, one that old or new connections escape, and one that
cuts more than it should. Whole links are probed at the same time: on a machine that stalls for a second every link
looks cut, and that must not count as a proof.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from ..harness.errors import AftershockError
from ..harness.interfaces import Cluster, Evidence, Link, Probe, ProbeOutcome
from ._links import SILENT, WHOLE

__all__ = [
    "Observation",
    "OldConnections",
    "answers_again",
    "at_once",
    "judge",
    "observe",
    "observe_new",
    "old_connections",
]

# Probes run at once, so a proof lasts about as long as its slowest probe.
PROBE_TIMEOUT_S = 0.8
# When anything that should have been seen was not, the load may keep the machine busy, and then the silence of the
# others says nothing either: everything gets a second, longer look. A cut that did not take cannot hide in it, for more
# time only lets more through.
PATIENCE_S = 2.0
# What a connection may raise: sockets their own errors, an adapter ours. Either is something seen, not a crash.
_BROKEN = (OSError, AftershockError)
# More than a proof has probes (24 pairs both ways and 8 whole links, old and new: 112): whole links that were probed
# only after the silent ones had had their time would say nothing about it.
_THREADS = 128

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """How far one probe came, how long it took, and the error if the connection broke instead of staying silent."""

    outcome: ProbeOutcome
    seconds: float
    error: str = ""
    early: bool = False  # no answer, and the connection did not wait for one: it was refused, reset or closed
    unopened: bool = False  # where packets are cut a connection stays silent before it is one

    def words(self) -> str:
        if self.unopened:
            return "a connection that does not open, with nothing said"
        if self.error:
            return f"connection error ({self.error})"
        closed = f", and the connection ended after {self.seconds:.2f} s instead of staying silent"
        return _words(self.outcome) + (closed if self.early else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class OldConnections:
    """Connections opened before the fault. `broken` says which did not work even then: those can prove nothing."""

    probes: Mapping[Link, Probe]
    broken: tuple[str, ...]


# ------------------------------------------------------------------------------------------------ looking


def observe(probe: Probe, *, timeout_s: float) -> Observation:
    """One exchange on a connection, timed. A connection that breaks is an observation, not an error of ours."""
    begun_ns, error = _now_ns(), ""
    try:
        outcome = probe.exchange(timeout_s=timeout_s)
    except _BROKEN as problem:
        outcome, error = SILENT, f"{type(problem).__name__}: {problem}"
    seconds = (_now_ns() - begun_ns) / 1e9
    early = not outcome.answered and seconds < 0.9 * timeout_s
    return Observation(outcome=outcome, seconds=seconds, error=error, early=early)


def observe_new(cluster: Cluster, link: Link, *, timeout_s: float) -> Observation:
    """One exchange on a connection that is opened for it."""
    begun_ns = _now_ns()
    try:
        probe = cluster.open_probe(link)
    except TimeoutError as problem:
        waited_s = (_now_ns() - begun_ns) / 1e9
        return Observation(outcome=SILENT, seconds=waited_s, error=f"TimeoutError: {problem}", unopened=True)
    except _BROKEN as problem:
        return Observation(outcome=SILENT, seconds=0.0, error=f"{type(problem).__name__}: {problem}", early=True)
    with contextlib.closing(probe):
        return observe(probe, timeout_s=timeout_s)


@contextlib.contextmanager
def old_connections(cluster: Cluster, links: Iterable[Link]) -> Iterator[OldConnections]:
    """Open a connection on every link, have each show that it works, and close them at the end."""

    def opened(link: Link) -> Probe | str:
        try:
            return cluster.open_probe(link)
        except _BROKEN as problem:
            return f"{type(problem).__name__}: {problem}"

    broken: list[str] = []
    probes: dict[Link, Probe] = {}
    with contextlib.ExitStack() as stack:
        for link, probe in at_once(opened, links).items():
            if isinstance(probe, str):
                broken.append(f"before the fault {_arrow(link)} could not be opened: {probe}")
            else:
                probes[link] = probe
                stack.callback(probe.close)
        seen = at_once(lambda link: observe(probes[link], timeout_s=PATIENCE_S), probes)
        broken += [
            f"before the fault {_arrow(link)} did not answer: {it.words()}"
            for link, it in seen.items()
            if not it.outcome.answered
        ]
        yield OldConnections(probes=probes, broken=tuple(broken))


class _Trial(NamedTuple):
    link: Link
    old: bool

    def words(self) -> str:
        return f"{'old' if self.old else 'new'} connection {_arrow(self.link)}"


def judge(
    cluster: Cluster, old: OldConnections, wanted: Mapping[Link, ProbeOutcome], *, endings_allowed: bool = False
) -> Evidence:
    """Probe every link on its old and on a new connection, all at once, and compare with what must be seen.

    `endings_allowed`: a connection that ends counts as silence (a dead process resets its own). A partition's may not:
    being refused tells clients that a request certainly did not happen, where a real network says nothing.

    Silence counts only beside whole links that answer in the same look; where there is no whole link, it must outlast
    the longer look too. What came through in any look stays.

    Where packets are cut, a new connection needs both directions to open. So under a cut of the answers alone it may
    also not open; that the requests still pass is then for the old connection to show, which every link must have.
    """

    def look(trial: _Trial, timeout_s: float) -> Observation:
        if trial.old:
            return observe(old.probes[trial.link], timeout_s=timeout_s)
        return observe_new(cluster, trial.link, timeout_s=timeout_s)

    def is_right(trial: _Trial) -> bool:
        it, must = seen[trial], wanted[trial.link]
        if it.unopened and not trial.old and not must.answered:
            return True
        return it.outcome == must and (endings_allowed or not it.early)

    def may_be_right(trial: _Trial) -> bool:
        return is_right(trial) or (
            seen[trial].outcome != wanted[trial.link] and not _exceeds(seen[trial].outcome, wanted[trial.link])
        )

    trials = [_Trial(link, is_old) for link in wanted for is_old in (True, False) if not is_old or link in old.probes]
    seen = at_once(lambda trial: look(trial, PROBE_TIMEOUT_S), trials)
    alone = WHOLE not in wanted.values() and all(is_right(trial) for trial in trials)
    if alone or any(_lacks(seen[trial].outcome, wanted[trial.link]) and not is_right(trial) for trial in trials):
        again = [trial for trial in trials if may_be_right(trial)]
        seen |= at_once(lambda trial: look(trial, PATIENCE_S), again)

    wrong = [
        f"{trial.words()}: expected {_words(wanted[trial.link])}, saw {it.words()}"
        for trial, it in seen.items()
        if not is_right(trial)
    ]
    facts, touched = _counted(wanted, {trial: is_right(trial) for trial in seen})
    if not touched:
        wrong.append("no running member has a link to what was broken, so nothing could be probed")
    return Evidence(proven=not wrong and not old.broken, facts=(*facts, *old.broken, *_shortened(wrong)))


def answers_again(cluster: Cluster, links: Iterable[Link], *, deadline_s: float) -> Evidence:
    """Poll new connections until all of them answer, or say which did not."""
    waiting, begun_ns = list(links), _now_ns()
    count, seen = len(waiting), dict[Link, Observation]()
    while waiting:
        seen = at_once(lambda link: observe_new(cluster, link, timeout_s=PROBE_TIMEOUT_S), waiting)
        waiting = [link for link in waiting if not seen[link].outcome.answered]
        if waiting and (_now_ns() - begun_ns) / 1e9 >= deadline_s:
            silent = [f"new connection {_arrow(link)} still fails: {seen[link].words()}" for link in waiting]
            return Evidence(proven=False, facts=tuple(_shortened(silent)))
        if waiting:
            _pause_s(0.02)
    took_s = (_now_ns() - begun_ns) / 1e9
    return Evidence(
        proven=True, facts=(f"new connections on all {count} probed links answer again, {took_s:.2f} s after",)
    )


def at_once(work: Callable[[_Key], _Value], keys: Iterable[_Key]) -> dict[_Key, _Value]:
    """Do the same for every key in threads, and wait for all."""
    wanted = list(keys)
    if not wanted:
        return {}
    with ThreadPoolExecutor(max_workers=min(_THREADS, len(wanted)), thread_name_prefix="probe") as pool:
        return dict(zip(wanted, pool.map(work, wanted), strict=True))


# ------------------------------------------------------------------------------------------------ words


def _counted(wanted: Mapping[Link, ProbeOutcome], right: Mapping[_Trial, bool]) -> tuple[list[str], int]:
    """Sentences that count what was probed, and how many probes were on links that the fault touches."""
    kinds: dict[ProbeOutcome, list[_Trial]] = {}
    for trial in right:
        kinds.setdefault(wanted[trial.link], []).append(trial)
    facts, touched = [], 0
    for outcome, trials in sorted(kinds.items()):
        count_right = sum(right[trial] for trial in trials)
        old = sum(trial.old for trial in trials)
        touched += 0 if outcome == WHOLE else len(trials)
        links = len({trial.link for trial in trials})
        count = (
            f"{count_right} of {len(trials)} probes on {links} links ({old} old connections, {len(trials) - old} new)"
        )
        facts.append(f"{count}: {_words(outcome)}, as it must be")
    return facts, touched


def _lacks(seen: ProbeOutcome, wanted: ProbeOutcome) -> bool:
    return (wanted.delivered and not seen.delivered) or (wanted.answered and not seen.answered)


def _exceeds(seen: ProbeOutcome, wanted: ProbeOutcome) -> bool:
    return _lacks(wanted, seen)


def _words(outcome: ProbeOutcome) -> str:
    if outcome.answered:
        return "request delivered and answered" if outcome.delivered else "answered without having been delivered"
    return "request delivered, not answered" if outcome.delivered else "request not delivered"


def _arrow(link: Link) -> str:
    return f"{link.source} -> {link.target}"


def _shortened(lines: list[str], *, at_most: int = 6) -> list[str]:
    return lines if len(lines) <= at_most else [*lines[:at_most], f"and {len(lines) - at_most} more"]


def _now_ns() -> int:
    return time.monotonic_ns()


def _pause_s(duration_s: float) -> None:
    time.sleep(duration_s)
