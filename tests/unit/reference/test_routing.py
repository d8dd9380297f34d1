"""A router's retry rules (docs/replication.md section 6), against scripted nodes on loopback."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from typing import Any

from aftershock.systems_under_test.reference import wire
from aftershock.systems_under_test.reference.messages import ClientOp, Config, Reply, ReplyKind
from aftershock.systems_under_test.reference.routing import Certainty, Outcome, Remote, Routing, Table
from aftershock.systems_under_test.reference.settings import MS, ClusterSettings
from aftershock.systems_under_test.reference.transport import Connection, FrameServer, listening_socket

OK = Reply(ReplyKind.OK, True, 1, 5, 9)
REFUSED = Reply(ReplyKind.REFUSED, reason="no lease")
SILENCE = "silence"
HANG_UP = "hang up"
Script = list[Reply | str]


def config(primary: str, epoch: int = 1) -> Config:
    isr = frozenset({"n1:a", "n2:b"})
    return Config(shard=0, epoch=epoch, term=epoch, primary=primary, isr=isr)


class ScriptedNode:
    """Answers operation number k with step k of its script; the last step is repeated."""

    def __init__(self, *script: Reply | str) -> None:
        self.script = list(script)
        self.ops: list[ClientOp] = []
        self.connections: set[Connection] = set()
        self.server = FrameServer(self._on_frame)
        self.listener = listening_socket("127.0.0.1", 0)
        self.address = self.listener.getsockname()[:2]

    def _on_frame(self, connection: Connection, frame: list[Any]) -> None:
        self.connections.add(connection)
        if frame[0] == wire.ASK_TABLE:
            connection.send(wire.pack_frame(wire.TABLE, frame[1], 1, [wire.pack_config(config("n1:a"))], {0: 77}))
            return
        self.ops.append(wire.unpack_op(frame[2]))
        step = self.script[min(len(self.ops), len(self.script)) - 1]
        if isinstance(step, Reply):
            connection.send(wire.pack_frame(wire.REPLY, frame[1], wire.pack_reply(step)))
        elif step == HANG_UP:
            connection.abort()


class Bench:
    """Routing with scripted nodes n1, n2, ...; n1 is the primary."""

    def __init__(self, *nodes: ScriptedNode, **settings: Any) -> None:
        self.nodes = nodes
        rng = random.Random(1)
        self.remotes = {f"n{i}": Remote(f"n{i}", node.address, rng=rng) for i, node in enumerate(nodes, start=1)}
        values = {"router_attempt_ns": 60 * MS, **settings}
        self.routing = Routing(settings=ClusterSettings(**values), nodes=self.remotes, rng=rng)
        self.routing.learn((config("n1:a"),))

    async def __aenter__(self) -> Bench:
        for node, remote in zip(self.nodes, self.remotes.values(), strict=True):
            await node.server.start(node.listener)
            remote.start()
        async with asyncio.timeout(5):
            while not all(remote.connected for remote in self.remotes.values()):
                await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *_: object) -> None:
        for remote in self.remotes.values():
            await remote.close()
        for node in self.nodes:
            await node.server.close()

    async def put(self, *, within_s: float = 0.3, kind: str = "put") -> Outcome:
        return await self.routing.execute(
            shard=0,
            kind=kind,
            key="k",
            args=(1,) if kind == "put" else (),
            request_id=("c", 1),
            deadline=asyncio.get_running_loop().time() + within_s,
        )


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


def outcome_of(*script: Reply | str) -> tuple[Outcome, list[ClientOp]]:
    async def test() -> tuple[Outcome, list[ClientOp]]:
        async with Bench(ScriptedNode(*script)) as bench:
            return await bench.put(), bench.nodes[0].ops

    return asyncio.run(test())


def test_answered_at_once() -> None:
    outcome, ops = outcome_of(OK)
    assert (outcome.certainty, outcome.attempts, outcome.reply) == (Certainty.ANSWERED, 1, OK)
    assert len(ops) == 1


def test_a_mismatch_is_an_answer() -> None:
    outcome, _ = outcome_of(Reply(ReplyKind.CAS_FAILED, True, 3, 4, 9))
    assert outcome.certainty is Certainty.ANSWERED


def test_refused_every_time_is_certain() -> None:
    outcome, ops = outcome_of(REFUSED)
    assert outcome.certainty is Certainty.REFUSED
    assert outcome.attempts == len(ops) > 2
    assert "no lease" in outcome.detail


def test_one_attempt_without_answer_makes_it_unknown_even_if_the_last_was_refused() -> None:
    for step in (SILENCE, HANG_UP, Reply(ReplyKind.UNKNOWN)):
        outcome, ops = outcome_of(REFUSED, step, REFUSED)
        assert outcome.certainty is Certainty.UNKNOWN, step
        assert len(ops) > 2


def test_all_attempts_carry_the_same_id_and_the_first_born() -> None:
    late = Reply(ReplyKind.REFUSED, commit=500)
    outcome, ops = outcome_of(late, SILENCE, late, OK)
    assert outcome.certainty is Certainty.ANSWERED
    assert outcome.attempts == 4
    assert {(op.request_id, op.born) for op in ops} == {(("c", 1), 0)}


def test_too_old_is_unknown_and_not_tried_again() -> None:
    outcome, ops = outcome_of(Reply(ReplyKind.TOO_OLD))
    assert (outcome.certainty, len(ops)) == (Certainty.UNKNOWN, 1)


def test_a_dead_node_is_certain() -> None:
    async def test() -> None:
        async with Bench(ScriptedNode(OK)) as bench:
            await bench.nodes[0].server.close()
            while bench.remotes["n1"].connected:
                await asyncio.sleep(0.001)
            outcome = await bench.put(within_s=0.1)
            assert outcome.certainty is Certainty.REFUSED
            assert outcome.attempts > 0

    run(test)


def test_a_shard_that_nobody_knows_is_certainly_refused() -> None:
    async def test() -> None:
        routing = Routing(settings=ClusterSettings(), nodes={}, rng=random.Random(1))
        deadline = asyncio.get_running_loop().time() + 0.05
        outcome = await routing.execute(shard=0, kind="put", key="k", args=(1,), request_id=("c", 1), deadline=deadline)
        assert (outcome.certainty, outcome.attempts) == (Certainty.REFUSED, 0)

    run(test)


def test_a_refusal_teaches_the_newer_configuration() -> None:
    async def test() -> None:
        newer = Reply(ReplyKind.REFUSED, reason="not the primary", config=config("n2:b", epoch=2))
        async with Bench(ScriptedNode(newer), ScriptedNode(OK)) as bench:
            outcome = await bench.put()
            assert (outcome.certainty, outcome.attempts) == (Certainty.ANSWERED, 2)
            assert len(bench.nodes[0].ops) == len(bench.nodes[1].ops) == 1
            bench.routing.learn((config("n1:a", epoch=1),))
            assert bench.routing.configs[0].primary == "n2:b", "an older configuration is not believed"

    run(test)


def test_a_new_primary_ends_the_attempt_at_the_old_one() -> None:
    async def test() -> None:
        async with Bench(ScriptedNode(SILENCE), ScriptedNode(OK), router_attempt_ns=5_000 * MS) as bench:
            running = asyncio.create_task(bench.put(within_s=10))
            while not bench.nodes[0].ops:
                await asyncio.sleep(0.001)
            bench.routing.learn((config("n2:b", epoch=2),))
            async with asyncio.timeout(2):
                outcome = await running
            assert (outcome.certainty, outcome.attempts) == (Certainty.ANSWERED, 2)

    run(test)


def test_silence_opens_a_new_connection_but_a_slow_answer_does_not() -> None:
    async def test() -> None:
        async with Bench(ScriptedNode(SILENCE, OK)) as bench:
            assert (await bench.put(within_s=2)).certainty is Certainty.ANSWERED
            assert len(bench.nodes[0].connections) == 2
        async with Bench(ScriptedNode(SILENCE)) as bench:

            async def keep_talking() -> None:
                while True:
                    await bench.remotes["n1"].ask_table(hold_ms=0, timeout_s=1)
                    await asyncio.sleep(0.005)

            talking = asyncio.create_task(keep_talking())
            assert (await bench.put(within_s=0.2)).certainty is Certainty.UNKNOWN
            talking.cancel()
            await asyncio.gather(talking, return_exceptions=True)
            assert len(bench.nodes[0].connections) == 1

    run(test)


def test_born_is_learnt_from_tables_and_replies() -> None:
    async def test() -> None:
        async with Bench(ScriptedNode(OK)) as bench:
            table = await bench.remotes["n1"].ask_table(hold_ms=0, timeout_s=1)
            assert isinstance(table, Table)
            assert table.configs == (config("n1:a"),)
            bench.routing.learn_commit(0, table.commits[0])
            bench.routing.learn_commit(0, 5)
            await bench.put()
            assert bench.nodes[0].ops[0].born == 77

    run(test)


def test_reads_go_anywhere_only_with_the_unsafe_setting() -> None:
    async def reads(read_from: str) -> list[int]:
        async with Bench(ScriptedNode(OK), ScriptedNode(OK), read_from=read_from) as bench:
            for _ in range(6):
                assert (await bench.put(kind="get")).certainty is Certainty.ANSWERED
                assert (await bench.put(kind="put")).certainty is Certainty.ANSWERED
            assert all(op.kind == "get" for op in bench.nodes[1].ops)
            return [sum(op.kind == "get" for op in node.ops) for node in bench.nodes]

    assert asyncio.run(reads("primary")) == [6, 0]
    assert asyncio.run(reads("any")) == [3, 3]
