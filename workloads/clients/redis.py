"""A client of Redis with Sentinel, as Redis' own guidelines want one (redis.io/docs/reference/sentinel-clients).

It asks its group's sentinel who the primary is, connects there, and checks by ROLE that it is one; it asks again when
the connection ends, when the node says that it is no primary, or when another client of its process has learned of
another. Nothing is sent twice.
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final
from weakref import WeakValueDictionary

import hiredis

from ...harness.interfaces import Address
from ...harness.operation import Outcome
from .. import outcomes
from ..client import Answer, ClientSetup
from ..http_client import ClientError, Trouble
from ..outcomes import Completion
from ..requests import Request
from .resp import RespConnection

__all__ = ["RedisClient"]

# Error replies that Redis gives before it does anything (server.c, processCommand); the code that each stands for.
# Whatever is not here promises nothing.
_REFUSALS: Final = {
    "READONLY": "not-primary",
    "MASTERDOWN": "not-primary",
    "NOREPLICAS": "refused",
    "LOADING": "refused",
    "MISCONF": "refused",
    "OOM": "refused",
    "BUSY": "refused",
    "NOAUTH": "bad-request",
    "NOPERM": "bad-request",
    "WRONGTYPE": "bad-request",
}
_CONNECT_TROUBLES: Final = (Trouble.CONNECT_REFUSED, Trouble.CONNECT_TIMEOUT, Trouble.CONNECT_FAILED)
_INTEGER: Final = re.compile(rb"-?[0-9]{1,19}")
_INT64: Final = range(-(2**63), 2**63)


class RedisClient:
    """Keeps workloads.client.Client.

    Of its group's addresses, those named in the setting `members` (a node's own `host:port` -> its name) are nodes, and
    the other one is the group's sentinel. `service` is what the sentinels call the primary. With `wait` > 0 a write is
    acknowledged when that many replicas have confirmed it (WAIT) within `wait_timeout_ms`, and unknown otherwise.
    """

    functions: ClassVar[frozenset[str]] = frozenset({"read", "write", "insert"})

    def __init__(self, setup: ClientSetup) -> None:
        self._addresses = setup.addresses
        self._members: Mapping[str, str] = setup.settings["members"]
        self._service: str = setup.settings["service"]
        self._wait: int = setup.settings["wait"]
        self._wait_timeout_ms: int = setup.settings["wait_timeout_ms"]
        (self._sentinel,) = set(setup.addresses) - set(self._members.values())
        self._group = _group_of(setup.addresses)
        self._primary = ""
        self._connection: RespConnection | None = None

    def connect(self, *, deadline_ns: int) -> None:
        self._find_primary(deadline_ns)

    def execute(self, request: Request, *, key: str, request_id: str, deadline_ns: int) -> Answer:
        # Redis has no request ids: a request whose answer was lost is not sent again.
        commands = [_command(request, key)]
        if self._wait and request.f != "read":
            # In one piece, for WAIT speaks only of writes that came before it on its own connection.
            commands.append(("WAIT", str(self._wait), str(self._wait_ms(deadline_ns))))
        replies = self._ask(*commands, deadline_ns=deadline_ns)
        if isinstance(replies, Completion):
            return Answer(replies)
        end_ns = time.monotonic_ns()
        completion, note = self._completed(request.f, replies[0]), ""
        if completion.error in outcomes.DEFECTS:
            note = f"{commands[0][0]} was answered with {replies[0]!r}"
        if completion.result == "done" and not all(self._enough(reply) for reply in replies[1:]):
            completion = outcomes.ended("not-replicated")
        return Answer(completion, end_ns, _size(replies[0]), note)

    def read_many(self, keys: Sequence[str], *, request_id: str, deadline_ns: int) -> Sequence[Completion]:
        replies = self._ask(("MGET", *keys), deadline_ns=deadline_ns)
        if isinstance(replies, Completion):
            return [replies] * len(keys)
        (reply,) = replies
        if isinstance(reply, list) and len(reply) == len(keys):
            return [self._completed("read", one) for one in reply]
        ended = self._completed("read", reply) if isinstance(reply, hiredis.ReplyError) else outcomes.ended("malformed")
        return [ended] * len(keys)

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    # ------------------------------------------------------------------------------------------ the primary

    def _ask(self, *commands: tuple[str, ...], deadline_ns: int) -> list[Any] | Completion:
        """The primary's replies, or the end of an operation that got none."""
        missing = self._find_primary(deadline_ns)
        if missing is not None:
            return missing
        assert self._connection is not None
        try:
            return self._connection.ask(*commands, deadline_ns=deadline_ns)
        except ClientError as error:
            self.close()
            return outcomes.of_trouble(error.trouble)

    def _find_primary(self, deadline_ns: int) -> Completion | None:
        """Be connected to the primary. None, or how an operation ends for which that was not possible."""
        connection = self._connection
        if connection is not None and self._primary == self._group.primary and connection.alive():
            return None
        self.close()
        try:
            self._primary = self._named_primary(deadline_ns)
            if not self._primary:
                return outcomes.ended("no-primary")
            self._group.primary = self._primary
            self._connection = RespConnection(self._addresses[self._primary], deadline_ns=deadline_ns)
            (role,) = self._connection.ask(("ROLE",), deadline_ns=deadline_ns)
        except ClientError as error:
            self.close()
            # Nothing of the operation has left this process yet, however its preparation ended.
            certain = error.trouble in _CONNECT_TROUBLES
            return outcomes.of_trouble(error.trouble) if certain else outcomes.ended("no-primary")
        if isinstance(role, list) and role and role[0] == b"master":
            return None
        self.close()
        return outcomes.ended("not-primary")

    def _named_primary(self, deadline_ns: int) -> str:
        """The member that the group's sentinel says is the primary; empty when it names none that is known."""
        sentinel = RespConnection(self._addresses[self._sentinel], deadline_ns=deadline_ns)
        try:
            question = ("SENTINEL", "GET-MASTER-ADDR-BY-NAME", self._service)
            (named,) = sentinel.ask(question, deadline_ns=deadline_ns)
        finally:
            sentinel.close()
        if not isinstance(named, list) or not all(isinstance(part, bytes) for part in named):
            return ""
        return self._members.get(b":".join(named).decode("utf-8", "replace"), "")

    def _wait_ms(self, deadline_ns: int) -> int:
        """How long Redis may wait for replicas; never 0, which would mean for ever."""
        left_ms = (deadline_ns - time.monotonic_ns()) // 1_000_000
        return max(1, min(self._wait_timeout_ms, left_ms))

    def _enough(self, replicas: Any) -> bool:
        return isinstance(replicas, int) and replicas >= self._wait

    def _completed(self, f: str, reply: Any) -> Completion:
        """The end that a reply means. After an error the next operation asks anew who the primary is."""
        if isinstance(reply, hiredis.ReplyError):
            self.close()
            return outcomes.ended(_REFUSALS.get(str(reply).partition(" ")[0], "protocol-error"))
        return _of_reply(f, reply)


class _Group:
    """What the clients of one group in one process have last learned.

    Pools of real clients share it in the same way: without it, each of many idle connections to a primary that was
    replaced would cost an operation to find that out.
    """

    primary = ""


_groups: WeakValueDictionary[frozenset[tuple[str, Address]], _Group] = WeakValueDictionary()


def _group_of(addresses: Mapping[str, Address]) -> _Group:
    return _groups.setdefault(frozenset(addresses.items()), _Group())


# ------------------------------------------------------------------------------------------------ commands and replies


def _command(request: Request, key: str) -> tuple[str, ...]:
    if request.f == "read":
        return ("GET", key)
    if request.f == "write":
        return ("SET", key, str(request.value))
    if request.f == "insert":
        # GET makes a refusal tell what stood there, at the same moment (Redis 7.0).
        return ("SET", key, str(request.value), "NX", "GET")
    raise ValueError(f"this client has no {request.f!r}; it can read, write and insert")


def _of_reply(f: str, reply: Any) -> Completion:
    if f == "write":
        return Completion(Outcome.OK, "done") if reply == b"OK" else outcomes.ended("malformed")
    if reply is None:
        return Completion(Outcome.OK, "done" if f == "insert" else "not-found")
    if not isinstance(reply, bytes) or not _INTEGER.fullmatch(reply) or int(reply) not in _INT64:
        return outcomes.ended("malformed")
    return Completion(Outcome.OK, "mismatch" if f == "insert" else "found", seen=int(reply))


def _size(reply: Any) -> int:
    return len(reply) if isinstance(reply, bytes) else 0
