"""Whether another host's address answers is found out on the wire: both families, and each way of not answering."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from haagent.adapters.neighbours import Asker
from haagent.core.model import VirtualAddress
from haagent.runtime.reached import Answers, Target
from tests.integration.kernel import until_true, vip
from tests.integration.namespace import Neighbour, in_namespace, sh
from tests.integration.speaking import HERE, HERE6, THERE, THERE6, address

pytestmark = pytest.mark.integration

FOUR, SIX = vip("10.9.0.100/24"), vip("2001:db8::64/64")


@dataclass
class Watch:
    """The asker here, the owner at the other end of the cable."""

    owner: Neighbour
    address: VirtualAddress
    changes: list[Answers] = field(default_factory=list)
    epoch: int = 1
    sources: tuple[bytes | None, bytes | None] = (HERE, HERE6)

    def __post_init__(self) -> None:
        control = THERE if len(self.address.address) == 4 else THERE6
        self.asker = Asker(
            lambda: [Target("web", self.epoch, self.address, control)],
            lambda: {"eth0": self.sources},
            lambda: self.changes.append(self.answers),
        )
        self.asker.start()

    @property
    def answers(self) -> Answers:
        return self.asker.verdicts["web"].answers

    @property
    def silent(self) -> tuple[str, ...]:
        return self.asker.verdicts["web"].silent

    async def at_the_owner(self, *lines: str) -> None:
        for line in lines:
            await asyncio.to_thread(self.owner.run, lambda line=line: sh(line))

    async def becomes(self, answers: Answers) -> None:
        await until_true(lambda: "web" in self.asker.verdicts and self.answers is answers, 10)


@asynccontextmanager
async def watch(held: VirtualAddress) -> AsyncGenerator[Watch]:
    owner = Neighbour("eth0", "peer")
    address(owner)
    made = Watch(owner, held)
    try:
        yield made
    finally:
        made.asker.close()


ADD = {FOUR: "ip address add 10.9.0.100/24 dev peer", SIX: "ip address add 2001:db8::64/64 dev peer nodad"}


def both_families(held: VirtualAddress, words: str) -> None:
    async def main() -> None:
        async with watch(held) as w:
            await w.becomes(Answers.NO)
            assert words in w.silent[0]
            await w.at_the_owner(ADD[held])
            await w.becomes(Answers.YES)
            assert w.silent == ()
            await w.at_the_owner("ip link set peer arp off" if held is FOUR else "ip link set peer multicast off down")
            await w.becomes(Answers.NO)

    asyncio.run(main())


@in_namespace
def test_ipv4_answers_or_not():
    both_families(FOUR, "10.9.0.100 answers no ARP on eth0")


@in_namespace
def test_ipv6_answers_or_not():
    both_families(SIX, "2001:db8::64 answers no neighbour solicitations on eth0")


def filtered(*rules: str) -> tuple[str, ...]:
    return ("nft add table inet t", "nft add chain inet t in { type filter hook input priority 0 ; }", *rules)


@in_namespace
def test_an_address_whose_packets_are_dropped_does_not_answer():
    async def main() -> None:
        async with watch(FOUR) as w:
            await w.at_the_owner(ADD[FOUR], *filtered("nft add rule inet t in ip daddr 10.9.0.100 drop"))
            await w.becomes(Answers.NO)
            assert w.silent == ("10.9.0.100 answers ARP, but no ICMP echo requests on eth0",)

    asyncio.run(main())


@in_namespace
def test_an_owner_that_drops_all_echo_requests_is_judged_by_arp():
    async def main() -> None:
        async with watch(FOUR) as w:
            await w.at_the_owner(ADD[FOUR], *filtered("nft add rule inet t in icmp type echo-request drop"))
            await w.becomes(Answers.YES)
            await asyncio.sleep(3)
            assert w.answers is Answers.YES
            assert w.changes.count(Answers.NO) == 0

    asyncio.run(main())


@in_namespace
def test_the_same_address_on_this_host_does_not_answer_in_the_owners_place():
    async def main() -> None:
        async with watch(FOUR) as w:
            sh("ip address add 10.9.0.100/32 dev lo")
            await w.becomes(Answers.NO)
            await w.at_the_owner(ADD[FOUR])
            await w.becomes(Answers.YES)

    asyncio.run(main())


@in_namespace
def test_without_an_address_to_ask_from_nothing_is_said():
    async def main() -> None:
        async with watch(FOUR) as w:
            w.sources = (None, None)
            await until_true(lambda: not w.asker.verdicts)
            assert not w.asker.verdicts

    asyncio.run(main())


@in_namespace
def test_an_interface_that_is_made_again_is_asked_on_again():
    async def main() -> None:
        async with watch(FOUR) as w:
            await w.at_the_owner(ADD[FOUR])
            await w.becomes(Answers.YES)
            sh("ip link del eth0")
            await w.becomes(Answers.NO)
            await asyncio.to_thread(w.owner.connect)
            await asyncio.to_thread(address, w.owner)
            await w.at_the_owner(ADD[FOUR])
            await w.becomes(Answers.YES)

    asyncio.run(main())
