"""A simulated sequential client with its private router: attempts, retries and outcomes of section 6."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aftershock.systems_under_test.reference.messages import ClientOp, Config, Reply, ReplyKind, node_of

from .engine import MS
from .register_check import INFINITY, Operation

if TYPE_CHECKING:
    from .world import World


@dataclass(slots=True)
class Running:
    """The operation that a client is busy with."""

    op: ClientOp
    start: int
    deadline: int
    tokens: set[int]
    maybe: bool = False  # an attempt may have been appended, or may yet be


class Client:
    """Puts, compare-and-sets and reads on few hot keys, and inserts of fresh keys. `name` is its endpoint."""

    def __init__(self, world: World, name: str, *, reads_only: bool = False) -> None:
        self._world = world
        self._engine = world.engine
        self.name = name
        self.reads_only = reads_only
        self.inserts = 0.25
        self.believed: dict[str, Any] = {}  # key -> value last seen, to aim compare-and-sets
        self._config: Config | None = None
        self._commit = 0  # what `born` is taken from
        self._number = 0
        self._sequence = 0
        self._running: Running | None = None
        self._engine.after(self._think(), self._next)

    def _think(self) -> int:
        return 2 * MS + int(self._engine.rng.random() * self._world.think_ns)

    def idle(self) -> bool:
        return self._running is None

    # ------------------------------------------------------------------------------------------ operations

    def _next(self) -> None:
        if self._world.load:
            kind, key, args = self._choose()
            self.begin(kind, key, args)

    def _choose(self) -> tuple[str, str, tuple[Any, ...]]:
        rng = self._engine.rng
        key = f"k{rng.randrange(self._world.keys)}"
        if self.reads_only or rng.random() < self._world.read_share:
            return "get", key, ()
        self._sequence += 1
        value = f"{self.name}.{self._sequence}"
        draw = rng.random()
        if draw < self.inserts:
            return "cas", f"i{value}", (("absent",), value)
        if draw < 0.65:
            return "put", key, (value,)
        seen = self.believed.get(key)
        return "cas", key, ((("value", seen) if seen is not None else ("absent",)), value)

    def begin(self, kind: str, key: str, args: tuple[Any, ...]) -> None:
        self._number += 1
        now = self._engine.now
        op = ClientOp(0, (self.name, self._number), self._commit, kind, key, args)
        self._running = Running(op, now, now + self._world.settings.deadline_ns, set())
        self._attempt(self._number)

    def _attempt(self, number: int) -> None:
        running = self._running
        if running is None or number != running.op.request_id[1]:
            return
        if self._engine.now >= running.deadline:
            self._conclude("unknown" if running.maybe else "fail")
            return
        target = self._target()
        self._world.tokens += 1
        token = self._world.tokens
        running.tokens.add(token)
        self._world.network.send(self.name, target, (token, running.op))
        self._engine.after(self._world.settings.router_attempt_ns, self._timed_out, number, token)

    def _target(self) -> str:
        settings = self._world.settings
        reading = self._running is not None and self._running.op.kind in ("get", "multi-get")
        if self._config is None or (reading and settings.read_from == "any"):
            return self._engine.rng.choice(list(self._world.nodes))
        return node_of(self._config.primary)

    def _timed_out(self, number: int, token: int) -> None:
        running = self._running
        if running is None or number != running.op.request_id[1] or token not in running.tokens:
            return
        running.maybe = True
        self._attempt(number)

    def receive(self, source: str, payload: Any) -> None:
        if source[0] == "k":
            self._learn(payload)
            return
        token, reply = payload
        self._commit = max(self._commit, reply.commit)
        running = self._running
        if running is None or token not in running.tokens:
            return
        if reply.kind in (ReplyKind.OK, ReplyKind.CAS_FAILED):
            self._conclude("ok", reply)
        elif reply.kind is ReplyKind.TOO_OLD:
            self._conclude("unknown")
        else:
            running.tokens.discard(token)
            running.maybe = running.maybe or reply.kind is ReplyKind.UNKNOWN
            if reply.config is not None:
                self._learn(reply.config)
            back_off = 10 * MS + int(self._engine.rng.random() * 50 * MS)
            self._engine.after(back_off, self._attempt, running.op.request_id[1])

    def _learn(self, config: Config) -> None:
        if self._config is None or config.epoch > self._config.epoch:
            self._config = config

    # ------------------------------------------------------------------------------------------ outcomes

    def _conclude(self, outcome: str, reply: Reply | None = None) -> None:
        running = self._running
        assert running is not None
        self._running = None
        op, start, now = running.op, running.start, self._engine.now
        record = self._world.record
        if op.kind == "multi-get":
            if reply is not None:
                for key, (found, value, _version) in reply.value.items():
                    record(Operation(key, "read", value if found else None, start, now))
                    self._world.final_missing.discard(key)
        elif reply is not None and (op.kind == "get" or reply.kind is ReplyKind.CAS_FAILED):
            self.believed[op.key] = reply.value if reply.found else None
            record(Operation(op.key, "read", self.believed[op.key], start, now))
        elif op.kind != "get" and outcome != "fail":
            known = outcome == "ok"
            f, expected = "write", None
            if op.kind == "cas":
                f, expected = "cas", op.args[0][1] if op.args[0][0] == "value" else None
            value = op.args[-1]
            record(Operation(op.key, f, value, start, now if known else INFINITY, expected, known))
            if known:
                self.believed[op.key] = value
                self._world.on_acknowledged(now)
        self._world.outcomes[outcome] += 1
        self._engine.after(self._think(), self._next)
