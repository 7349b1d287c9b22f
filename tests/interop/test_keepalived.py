"""Beside a real keepalived, in every dialect: it follows our adverts and our farewell, and we follow its own.

keepalived's log must have nothing against our packets: no word of a checksum, a TTL, a password, an interval, or of
which addresses we list. When who moves is dated by a capture, against the timers of RFC 9568 6.1 and RFC 3768 6.1.
"""

from __future__ import annotations

import re

import pytest

from haagent.core.units import MS
from haagent.lab.commands import now
from tests.interop import dialect as dialects
from tests.interop.agent import EARLY, SLACK, one_agent
from tests.interop.capture import Advert, Ear
from tests.interop.conftest import MakeLab
from tests.interop.dialect import ALL, V2, V2_PASS, V2_UNICAST, V3, V6, Dialect
from tests.interop.keepalived import Keepalived

pytestmark = pytest.mark.interop

LOWER, OURS, HIGHER = 50, 100, 200
SEVERAL = 5
"""Adverts in a row: a backup that does not accept them would have taken over in the time of four.

Version 2 needs whole seconds for that, so each test has of its dialects only what no other shows.
"""


def took(before: Advert, after: Advert, told: pytest.FixtureRequest) -> int:
    """The time between two adverts, which the report of the tests keeps."""
    told.node.user_properties.append(("took_ms", round((after.at - before.at) / MS, 1)))
    return after.at - before.at


@pytest.mark.parametrize("dialect", [each for each in ALL if each is not V2], ids=str)
def test_keepalived_follows(dialect: Dialect, make_lab: MakeLab, request: pytest.FixtureRequest):
    """Backup to our master, it accepts every advert; when we stop it waits its skew, no longer and no shorter."""
    lab = make_lab(2)
    here, there = lab.hosts
    us = dialect.address(here)
    with Ear(there) as ear:
        cluster, agent = one_agent(lab, here, dialect.router(here, there, priority=OURS))
        ear.wait(us)
        keepalived = Keepalived(lab, there, here, dialect, LOWER)
        keepalived.wait("Entering BACKUP STATE")
        ear.wait(us, since=now(), count=SEVERAL)
        assert keepalived.states == ["BACKUP"]

        agent.process.stop()
        farewell = ear.farewell(us)
        keepalived.wait("Entering MASTER STATE")
        first = ear.wait(keepalived.source)
        assert dialect.skew(LOWER) - EARLY < took(farewell, first, request) < dialect.skew(LOWER) + SLACK
        keepalived.wait("Backup received priority 0 advertisement")
        assert ear.hear(us, since=farewell.at) == []
        record = cluster.record()
        assert record is not None
        assert record["clean"]
        assert keepalived.complaints == []
        assert agent.refusals == []


@pytest.mark.parametrize("dialect", [each for each in ALL if each not in (V2, V2_UNICAST)], ids=str)
def test_haagent_follows(dialect: Dialect, make_lab: MakeLab, request: pytest.FixtureRequest):
    """Backup to its master, we accept every advert; when it stops we wait our skew, no longer and no shorter."""
    lab = make_lab(2)
    here, there = lab.hosts
    us = dialect.address(here)
    with Ear(there) as ear:
        keepalived = Keepalived(lab, there, here, dialect, HIGHER)
        ear.wait(keepalived.source)
        _, agent = one_agent(lab, here, dialect.router(here, there, priority=OURS, strangers="yield"))
        agent.wait(f"alarm: stranger web: {keepalived.source} advertises priority {HIGHER}")
        agent.wait("lease held")
        ear.wait(keepalived.source, since=now(), count=SEVERAL)
        assert agent.roles == ["BACKUP"]

        keepalived.stop()
        farewell = ear.farewell(keepalived.source)
        first = ear.wait(us)
        assert dialect.skew(OURS) - EARLY < took(farewell, first, request) < dialect.skew(OURS) + SLACK
        agent.wait("-> MASTER")
        agent.wait("alarm over: stranger web")
        assert agent.roles == ["BACKUP", "MASTER"]
        assert keepalived.complaints == []
        assert agent.refusals == []


@pytest.mark.parametrize("dialect", [V2, V3, V6], ids=str)
def test_haagent_claims_when_keepalived_is_lost(dialect: Dialect, make_lab: MakeLab, request: pytest.FixtureRequest):
    """Its host is gone, without a farewell: we claim after three of its intervals and our skew."""
    lab = make_lab(2)
    here, there = lab.hosts
    with Ear(lab.client) as ear:
        keepalived = Keepalived(lab, there, here, dialect, HIGHER)
        ear.wait(keepalived.source)
        _, agent = one_agent(lab, here, dialect.router(here, there, priority=OURS, strangers="yield"))
        agent.wait("lease held")
        agent.wait("alarm: stranger web")
        lab.lose_host(there)
        first = ear.wait(dialect.address(here))
        last = ear.hear(keepalived.source)[-1]
        assert last.priority == HIGHER
        down = dialect.down_interval(OURS)
        assert down - EARLY < took(last, first, request) < down + SLACK
        assert agent.roles == ["BACKUP", "MASTER"]


@pytest.mark.parametrize(
    "theirs, ours, named",
    [
        (Dialect("", version=2, interval=V2.interval, password="other"), V2_PASS, "auth_mismatch"),
        (V2, V2_PASS, "auth_type_mismatch"),
    ],
    ids=["wrong", "missing"],
)
def test_a_wrong_password_is_refused_by_name(theirs: Dialect, ours: Dialect, named: str, make_lab: MakeLab):
    """Neither side believes the other; ours says why, once and not at every packet, and owns as if nobody spoke."""
    lab = make_lab(2)
    here, there = lab.hosts
    with Ear(lab.client) as ear:
        keepalived = Keepalived(lab, there, here, theirs, HIGHER)
        ear.wait(keepalived.source)
        # Once we speak, it may not: in keepalived any packet on its VRID, a refused one too, puts its next advert off.
        _, agent = one_agent(lab, here, ours.router(here, there, priority=OURS), ttl="2s")
        agent.wait("refused")
        agent.wait("-> MASTER")
        ear.wait(dialects.V2.address(here), count=3)
        assert agent.refusals == [named]
        assert agent.lines("alarm: stranger") == []
        assert agent.roles == ["BACKUP", "MASTER"]
        password = {dialects.PASSWORD, dialects.PASSWORD[:8], "other"}
        assert not [line for line in agent.lines("") if any(word in line for word in password)]
        assert keepalived.complaints  # the same, the other way round


@pytest.mark.parametrize(
    "theirs, ours, says",
    [
        (None, "group", "Setting unicast VRRPv3 checksum to old version"),
        (None, "plain", "Invalid VRRPv3 checksum"),
        ("", "rfc", "Invalid VRRPv3 checksum"),
        ("never", "group", "Invalid VRRPv3 checksum"),
    ],
    ids=["learns", "plain", "only old", "never old"],
)
def test_which_checksums_keepalived_takes(theirs: str | None, ours: str, says: str, make_lab: MakeLab):
    """Unicast in version 3: `old_unicast_checksum` takes only the old one, `never` only the RFC's, and it may learn.

    That is what `checksum` is chosen by. We take them all, whatever we send: a keepalived that refuses our adverts
    and calls itself master is heard as a stranger.
    """
    dialect = Dialect("", unicast=True, checksum=ours, old_checksum=theirs)
    lab = make_lab(2)
    here, there = lab.hosts
    with Ear(there) as ear:
        _, agent = one_agent(lab, here, dialect.router(here, there, priority=OURS))
        ear.wait(dialect.address(here))
        keepalived = Keepalived(lab, there, here, dialect, LOWER)
        keepalived.wait(re.escape(f"(web) {says}"))
        if says.startswith("Invalid"):
            heard = ear.wait(keepalived.source)
            assert heard.checksum_holds is (theirs != "")
            agent.wait("alarm: stranger web")
        else:
            ear.wait(dialect.address(here), since=now(), count=SEVERAL)
            assert keepalived.states == ["BACKUP"]
        assert agent.refusals == []
