"""Virtual addresses that somebody else configured on this host: an alarm each, unless this node owns one's group.

Nothing is done about them: what the agent did not put it does not remove. That the host does not answer for them is the
gate's affair.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

from haagent.core import fitness
from haagent.core.context import Context
from haagent.core.host import HostAddresses, Passing

KIND = "address-foreign"


class Foreign:
    """Keeps what the kernel told last."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._rules = context.rules
        self._found: dict[str, tuple[bytes, str]] = {}
        self._groups: dict[bytes, frozenset[str]] = {}
        self._dirty = False

    def found(self, event: HostAddresses) -> None:
        """These there are now, and no others."""
        told = ((fitness.text(each.address), each) for each in event.foreign)
        self._found = {f"{text} on {each.interface}": (each.address, each.interface) for text, each in told}
        self._dirty = True

    def tell(self, touched: Collection[str], owned: Callable[[], Collection[str]]) -> None:
        """Raise and end alarms; `touched`: the groups that were decided on since the last time."""
        context = self._context
        if self._found and self._rules is not context.rules:
            self._dirty = True
        if not self._dirty and not any(not groups.isdisjoint(touched) for groups in self._groups.values()):
            return
        self._dirty, self._rules = False, context.rules
        self._groups, owning = self._whose(), owned()
        wanted = {
            subject: f"{fitness.text(address)} is configured on {interface}, not by haagent"
            for subject, (address, interface) in self._found.items()
            if address in self._groups and self._groups[address].isdisjoint(owning)
        }
        for kind, subject in list(context.alarms):
            if kind == KIND and subject not in wanted:
                context.calm(kind, subject)
        for subject, detail in wanted.items():
            context.alarm(KIND, subject, detail)

    def _whose(self) -> dict[bytes, frozenset[str]]:
        """The groups of each address that was found."""
        addresses = {address for address, _ in self._found.values()}
        found: dict[bytes, set[str]] = {}
        for name, group in self._context.rules.groups.items():
            for router in group.routers:
                for each in router.addresses:
                    if each.address in addresses and each.without_lease is Passing.NOTHING:
                        found.setdefault(each.address, set()).add(name)
        return {address: frozenset(names) for address, names in found.items()}
