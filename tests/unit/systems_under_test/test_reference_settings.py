"""Settings of the reference system, and what it copies from members' event logs."""

from __future__ import annotations

import pytest
from aftershock.harness.interfaces import System
from aftershock.systems_under_test.reference.settings import ClusterSettings
from aftershock.systems_under_test.reference_system import ReferenceSettings, ReferenceSystem, _copy_event
from pydantic import ValidationError

from tests.processes.stages import Events


def test_defaults_are_safe_and_are_the_clusters_own() -> None:
    settings = ReferenceSettings()
    told = ClusterSettings(**settings.of_cluster())
    assert told == ClusterSettings()
    assert told.unsafe() == []
    assert (settings.nodes, settings.routers, settings.controllers) == (5, 2, 1)
    assert isinstance(ReferenceSystem(), System)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"controllers": 3}, "runs exactly 1"),
        ({"nodes": 2}, "replicas is 3, but there are only 2 nodes to hold them"),
        ({"min_in_sync": 4}, "min_in_sync is 4, but a shard has 3 replicas"),
        ({"ack": "some"}, "'all' or 'primary'"),
        ({"shard": 4}, "Extra inputs"),
        ({"routers": 0}, "greater than or equal to 1"),
    ],
)
def test_what_does_not_fit_together_is_said(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        ReferenceSettings.model_validate(values)


def test_event_lines_keep_time_and_source_and_a_torn_one_is_told() -> None:
    events = Events()
    assert _copy_event(b'{"t_ns": 7, "source": "n1", "kind": "primary.open", "shard": 3, "epoch": 2}\n', events)
    assert events.seen == [("primary.open", {"shard": 3, "epoch": 2, "source": "n1", "t_ns": 7})]
    for line in (b'{"t_ns": 7, "sour', b"[]", b'{"t_ns": 7}', b"\xff\n"):
        assert not _copy_event(line, events)
    assert len(events.seen) == 1
