"""Who has been announced on a stage."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from ..errors import SetupError
from ..interfaces import Member

__all__ = ["Roster"]


class Roster:
    """A stage's members by name, in the order of their announcement."""

    def __init__(self, *, taken: Collection[str] = ()) -> None:
        """`taken`: names that the backend uses itself."""
        self._taken = frozenset(taken)
        self._members: dict[str, Member] = {}

    @property
    def members(self) -> Mapping[str, Member]:
        return dict(self._members)

    def add(self, member: Member) -> None:
        """Raises SetupError for a name that is taken."""
        if member.name in self._members or member.name in self._taken:
            raise SetupError(f"member name {member.name!r} is taken; names are unique in a run")
        self._members[member.name] = member

    def insist(self, member: str) -> None:
        """Raise SetupError for a name that nobody has."""
        if member not in self._members:
            raise SetupError(f"no member {member!r} on this stage; announced: {', '.join(self._members) or 'none'}")
