"""Disjoint sets (union-find): values that must have something in common, joined as the reasons are found."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

Member = TypeVar("Member", bound=Hashable)


class DisjointSets(Generic[Member]):
    """A partition that starts with every member in a set of its own."""

    def __init__(self) -> None:
        self._parents: dict[Member, Member] = {}

    def root(self, member: Member) -> Member:
        """The member that stands for a member's whole set; it changes when sets are joined."""
        while (parent := self._parents.get(member, member)) != member:
            self._parents[member] = self._parents.get(parent, parent)  # halves the path for the next search
            member = parent
        return member

    def join(self, first: Member, *others: Member) -> None:
        """Make one set of the sets that these members lie in."""
        for other in others:
            a, b = self.root(first), self.root(other)
            if a != b:
                self._parents[b] = a
