"""Who a fault hits: selectors such as `primary`, resolved on the running cluster when the fault is injected.

A selector that matches nothing raises UsageError: a fault that silently hit nobody would make a pass worthless.
"""

from __future__ import annotations

import difflib
from typing import Annotated

from pydantic import AfterValidator

from ..harness.errors import UsageError
from ..harness.interfaces import FaultContext, MemberState, Role, ShardState

__all__ = ["Selector", "insist_running", "select", "words"]

_WORDS = {
    "primary": "the primary of the hot key's shard",
    "backup": "an in-sync backup of the hot key's shard",
    "random-node": "a node chosen by the seed",
    "random-router": "a router chosen by the seed",
    "controller": "a controller",
}
_KEYED = {"primary": "the primary of the shard of key {}", "backup": "an in-sync backup of the shard of key {}"}
_NAMED = {"node": Role.NODE, "router": Role.ROUTER, "controller": Role.CONTROLLER}
_HELP = "expected primary, primary:KEY, backup, backup:KEY, random-node, random-router, controller, or a member's name"


def _well_formed(selector: str) -> str:
    head, colon, rest = selector.partition(":")
    if not selector or (colon and (head not in {*_KEYED, *_NAMED} or not rest)):
        raise ValueError(f"{_HELP}, such as node:n3")
    return selector


# For settings models; what only the running cluster can tell is told by `select`.
Selector = Annotated[str, AfterValidator(_well_formed)]


def words(selector: str) -> str:
    """The selector for a person, before there is a cluster."""
    head, colon, rest = selector.partition(":")
    if not colon:
        return _WORDS.get(selector, f"member {selector}")
    return _KEYED[head].format(rest) if head in _KEYED else f"{head} {rest}"


def select(selector: str, context: FaultContext) -> str:
    """Name of the member that the selector means now; choices are made by the window's own `rng`.

    Raises UsageError when nothing matches, naming what there is.
    """
    head, colon, rest = selector.partition(":")
    members = context.cluster.stage.members
    if head in _KEYED and (colon or selector not in members):
        return _of_shard(head, rest or context.hot_key, context)
    if not colon and selector in members:
        return selector
    if colon:
        role = _NAMED[head]
        names = sorted(name for name, member in members.items() if member.role is role)
        if rest not in names:
            raise UsageError(f"target = {selector!r}: no {role} has this name; there are {_listed(names)}")
        return rest
    if selector not in _WORDS:
        known = [*_WORDS, *members]
        close = difflib.get_close_matches(selector, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else _HELP
        raise UsageError(
            f"target = {selector!r}: no member has this name; there are {_listed(sorted(members))}; {hint}"
        )
    role = {"random-node": Role.NODE, "random-router": Role.ROUTER}.get(selector, Role.CONTROLLER)
    names = sorted(name for name, member in members.items() if member.role is role)
    if not names:
        raise UsageError(f"target = {selector!r}: this system has no {role}; there are {_listed(sorted(members))}")
    return context.rng.choice(names)


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


def _of_shard(head: str, key: str, context: FaultContext) -> str:
    state = _shard(head, key, context)
    if head == "primary":
        if state.primary is None:
            raise UsageError(f"target = 'primary': shard {state.shard} (key {key!r}) has no primary at this moment")
        return state.primary
    backups = sorted(set(state.in_sync) - {state.primary})
    if not backups:
        raise UsageError(f"target = 'backup': shard {state.shard} (key {key!r}) has no in-sync backup at this moment")
    return context.rng.choice(backups)


def _shard(head: str, key: str, context: FaultContext) -> ShardState:
    number = context.cluster.shard_of(key)
    if number is None:
        raise UsageError(f"target = {head!r}: this system has no shards, so no {head}; name a member instead")
    for state in context.cluster.topology().shards:
        if state.shard == number:
            return state
    raise UsageError(f"target = {head!r}: the system's topology does not list shard {number} (of key {key!r})")


def _listed(names: list[str]) -> str:
    return ", ".join(names) or "none"
