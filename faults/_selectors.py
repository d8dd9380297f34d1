"""Who a fault hits: selectors such as `primary`, resolved on the running cluster when the fault is injected.

A selector that matches nothing raises UsageError: a fault that silently hit nobody would make a pass worthless. Where
the seed chooses, it chooses among members that run. docs/scenarios.md has the table.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Annotated

from pydantic import AfterValidator

from ..harness.errors import UsageError
from ..harness.interfaces import FaultContext, MemberState, Role, ShardState
from ..harness.relation import clients_of
from ._links import live_links

__all__ = [
    "Selector",
    "Selectors",
    "insist_all_running",
    "insist_running",
    "means_several",
    "select",
    "select_many",
    "words",
    "words_of_many",
]

_WORDS = {
    "primary": "the primary of the hot key's shard",
    "backup": "an in-sync backup of the hot key's shard",
    "random-node": "a node chosen by the seed",
    "random-router": "a router chosen by the seed",
    "controller": "a controller",
}
_KEYED = {"primary": "the primary of the shard of key {}", "backup": "an in-sync backup of the shard of key {}"}
_NAMED = {"node": Role.NODE, "router": Role.ROUTER, "controller": Role.CONTROLLER, "clients": Role.CLIENT}
# Shares of a role: every:node, half:node, 40%:node.
_SHARES = {"every": 1.0, "half": 0.5}
_SHARED = _NAMED
_PERCENT = re.compile(r"^(\d{1,2}(?:\.\d+)?)%$")
_HELP = "expected primary, primary:KEY, backup, backup:KEY, random-node, random-router, controller, or a member's name"
_HELP_MANY = "every:ROLE, half:ROLE or N%:ROLE (ROLE is node, router, controller or clients)"


def _share(head: str) -> float | None:
    """The share of a role that the first part of a selector asks for, or None."""
    percent = _PERCENT.match(head)
    return float(percent[1]) / 100 if percent else _SHARES.get(head)


def _well_formed(selector: str) -> str:
    head, colon, rest = selector.partition(":")
    if colon and (_share(head) is not None or head.endswith("%")):
        raise ValueError(f"this fault hits one member, {selector!r} means several; {_HELP}, such as node:n3")
    if not selector or (colon and (head not in {*_KEYED, *_NAMED} or not rest)):
        raise ValueError(f"{_HELP}, such as node:n3{_nearest_head(head, [*_KEYED, *_NAMED]) if colon else ''}")
    return selector


def _well_formed_share(selector: str) -> str:
    head, colon, rest = selector.partition(":")
    if not colon or (_share(head) is None and not head.endswith("%")):
        if colon and head not in {*_KEYED, *_NAMED}:
            hint = _nearest_head(head, [*_KEYED, *_NAMED, *_SHARES])
            raise ValueError(f"{_HELP}, {_HELP_MANY}{hint}")
        return _well_formed(selector)
    if _share(head) is None or _share(head) == 0:
        raise ValueError(f"{selector!r}: a share is more than 0 % and less than 100 %, such as 40%:node")
    if rest not in _SHARED:
        raise ValueError(f"{selector!r}: expected {_HELP_MANY}{_nearest_head(rest, [*_SHARED])}")
    return selector


def _nearest_head(head: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(head, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _all_well_formed(selectors: str | tuple[str, ...]) -> str | tuple[str, ...]:
    each = (selectors,) if isinstance(selectors, str) else selectors
    if not each:
        raise ValueError("an empty list hits nobody; name a member, such as node:n3")
    for selector in each:
        _well_formed_share(selector)
    return selectors


# For settings models; what only the running cluster can tell is told by `select` and `select_many`.
Selector = Annotated[str, AfterValidator(_well_formed)]
Selectors = Annotated[str | tuple[str, ...], AfterValidator(_all_well_formed)]


def words(selector: str) -> str:
    """The selector for a person, before there is a cluster."""
    head, colon, rest = selector.partition(":")
    if not colon:
        return _WORDS.get(selector, f"member {selector}")
    if _share(head) is not None:
        whom = "client group" if rest == "clients" else rest
        if head == "every":
            return f"every {whom}"
        return f"{'half' if head == 'half' else head} of the {whom}s, chosen by the seed (one at least, never all)"
    return _KEYED[head].format(rest) if head in _KEYED else f"{head} {rest}"


def words_of_many(selectors: str | Sequence[str]) -> str:
    """The same for what `select_many` takes."""
    each = [words(selector) for selector in _listed_selectors(selectors)]
    return each[0] if len(each) == 1 else ", ".join(each[:-1]) + " and " + each[-1]


def select(selector: str | Sequence[str], context: FaultContext) -> str:
    """Name of the one member that the selector means now; choices are made by the window's own `rng`.

    Raises UsageError when nothing or more than one matches, naming what there is.
    """
    found = select_many(selector, context)
    if len(found) != 1:
        raise UsageError(f"target = {selector!r}: means {_listed(list(found))}, and this fault hits one member only")
    return found[0]


def select_many(selectors: str | Sequence[str], context: FaultContext) -> tuple[str, ...]:
    """Names of the members that one selector, or each of a list, means now; none of them twice.

    Raises UsageError when one of them matches nothing.
    """
    found = [name for selector in _listed_selectors(selectors) for name in _members(selector, context)]
    return tuple(dict.fromkeys(found))


def means_several(selectors: str | Sequence[str]) -> bool:
    """Whether these selectors may mean more than one member, as far as can be told before there is a cluster."""
    each = _listed_selectors(selectors)
    return len(each) > 1 or any(
        colon and _share(head) is not None for head, colon, _ in (s.partition(":") for s in each)
    )


def insist_running(target: str, context: FaultContext) -> None:
    """Raise UsageError unless the target's process runs: breaking what is already down would prove nothing."""
    stage = context.cluster.stage
    if stage.members[target].role is Role.CLIENT:
        return
    state = stage.processes.state(target)
    if state is not MemberState.RUNNING:
        raise UsageError(
            f"{target} is {state} before the fault was injected, so there is nothing to break; see its log"
        )


def insist_all_running(targets: Sequence[str], context: FaultContext) -> None:
    """`insist_running` for each of them, before anything is done to the first."""
    for target in targets:
        insist_running(target, context)


# ------------------------------------------------------------------------------------------------ resolving


def _listed_selectors(selectors: str | Sequence[str]) -> Sequence[str]:
    return (selectors,) if isinstance(selectors, str) else selectors


def _members(selector: str, context: FaultContext) -> Sequence[str]:
    head, colon, rest = selector.partition(":")
    members = context.cluster.stage.members
    if head in _KEYED and (colon or selector not in members):
        return [_of_shard(head, rest or context.hot_key, context)]
    if not colon and selector in members:
        return [selector]
    share = _share(head) if colon else None
    if share is not None:
        return _share_of(selector, share, _SHARED[rest], context)
    if colon:
        return [_named(selector, head, rest, context)]
    if selector not in _WORDS:
        known = [*_WORDS, *members]
        close = difflib.get_close_matches(selector, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else _HELP
        raise UsageError(
            f"target = {selector!r}: no member has this name; there are {_listed(sorted(members))}; {hint}"
        )
    role = {"random-node": Role.NODE, "random-router": Role.ROUTER}.get(selector, Role.CONTROLLER)
    return [context.rng.choice(_that_run(selector, role, context))]


def _named(selector: str, head: str, rest: str, context: FaultContext) -> str:
    """`node:n3`; `clients:r1` is the client group that is pinned to r1."""
    role = _NAMED[head]
    names = _of_role(role, context)
    name = clients_of(rest) if role is Role.CLIENT and rest not in names else rest
    if name not in names:
        there = [each.removeprefix(clients_of("")) for each in names] if role is Role.CLIENT else names
        what = f"no client group is pinned to {rest}" if role is Role.CLIENT else f"no {role} has this name"
        raise UsageError(f"target = {selector!r}: {what}; there are {_listed(there)}")
    return name


def _share_of(selector: str, share: float, role: Role, context: FaultContext) -> Sequence[str]:
    """Of all members of a role: all for `every`, else the nearest whole number, one at least and never all."""
    names = _of_role(role, context)
    if not names:
        there = _listed(sorted(context.cluster.stage.members))
        raise UsageError(f"target = {selector!r}: this system has no {role}; there are {there}")
    if share >= 1:
        return names
    if len(names) == 1:
        raise UsageError(
            f"target = {selector!r}: {names[0]} is the only {role}, and a share never means all; name it, or use "
            f"every:{selector.partition(':')[2]}"
        )
    running = _that_run(selector, role, context)
    # Half of five is two: the smaller part, since a system may be expected to survive that.
    wanted = min(max(1, int(share * len(names) + 0.5 - 1e-9)), len(names) - 1)
    if len(running) < wanted:
        raise UsageError(f"target = {selector!r}: {wanted} of {len(names)} are wanted, and only {_listed(running)} run")
    return sorted(context.rng.sample(running, wanted))


def _of_role(role: Role, context: FaultContext) -> list[str]:
    return sorted(name for name, member in context.cluster.stage.members.items() if member.role is role)


def _that_run(selector: str, role: Role, context: FaultContext) -> list[str]:
    """Members to choose from: those that run and that no other window has isolated, or else all that run.

    A fault that hits somebody who is cut off already could not be proven: nothing that it silences speaks.
    """
    names, processes = _of_role(role, context), context.cluster.stage.processes
    if not names:
        there = _listed(sorted(context.cluster.stage.members))
        raise UsageError(f"target = {selector!r}: this system has no {role}; there are {there}")
    running = [name for name in names if role is Role.CLIENT or processes.state(name) is MemberState.RUNNING]
    if not running:
        raise UsageError(f"target = {selector!r}: no {role} runs at this moment, of {_listed(names)}")
    return _spoken_to(running, context)


def _spoken_to(running: list[str], context: FaultContext) -> list[str]:
    """Those of them that still have a link which no other window impairs; all of them when nobody has."""
    linked = {name for link in live_links(context.cluster.stage) for name in link}
    return [name for name in running if name in linked] or running


def _of_shard(head: str, key: str, context: FaultContext) -> str:
    state = _shard(head, key, context)
    if head == "primary":
        if state.primary is None:
            raise UsageError(f"target = 'primary': shard {state.shard} (key {key!r}) has no primary at this moment")
        return state.primary
    backups = sorted(set(state.in_sync) - {state.primary})
    if not backups:
        raise UsageError(f"target = 'backup': shard {state.shard} (key {key!r}) has no in-sync backup at this moment")
    processes = context.cluster.stage.processes
    running = [name for name in backups if processes.state(name) is MemberState.RUNNING]
    return context.rng.choice(_spoken_to(running or backups, context))


def _shard(head: str, key: str, context: FaultContext) -> ShardState:
    number = context.cluster.shard_of(key)
    if number is None:
        raise UsageError(f"target = {head!r}: this system has no shards, so no {head}; name a member instead")
    for state in context.cluster.topology().shards:
        if state.shard == number:
            return state
    raise UsageError(f"target = {head!r}: the system's topology does not list shard {number} (of key {key!r})")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
