"""Beside FRR's vrrpd, version 3 in both families: it follows our adverts and our farewell, and we follow its own."""

from __future__ import annotations

import pytest

from haagent.core.units import MS
from haagent.lab.commands import now
from tests.interop.agent import EARLY, SLACK, one_agent
from tests.interop.capture import Ear
from tests.interop.conftest import MakeLab
from tests.interop.dialect import V3, V6, Dialect
from tests.interop.frr import Vrrpd

pytestmark = pytest.mark.interop

LOWER, OURS, HIGHER = 50, 100, 200
SEVERAL = 5
DIALECTS = [V3, V6]


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_vrrpd_follows(dialect: Dialect, make_lab: MakeLab, request: pytest.FixtureRequest):
    """Backup to our master, it counts every advert; when we stop it waits its skew."""
    lab = make_lab(2)
    here, there = lab.hosts
    us = dialect.address(here)
    with Ear(lab.client) as ear:
        _, agent = one_agent(lab, here, dialect.router(here, there, priority=OURS))
        ear.wait(us)
        vrrpd = Vrrpd(lab, there, dialect, LOWER)
        vrrpd.wait("Backup")
        ear.wait(us, since=now(), count=SEVERAL)
        status = vrrpd.status
        assert status["status"] == "Backup"
        assert status["stats"]["transitions"] == 1
        assert status["stats"]["adverRx"] >= SEVERAL
        assert status["masterAdverInterval"] == dialect.interval // MS

        agent.process.stop()
        farewell = ear.farewell(us)
        first = ear.wait(vrrpd.source)
        request.node.user_properties.append(("took_ms", round((first.at - farewell.at) / MS, 1)))
        assert dialect.skew(LOWER) - EARLY < first.at - farewell.at < dialect.skew(LOWER) + SLACK
        assert first.mac == vrrpd.mac
        assert vrrpd.complaints == []
        assert agent.refusals == []


@pytest.mark.parametrize("dialect", DIALECTS, ids=str)
def test_haagent_follows(dialect: Dialect, make_lab: MakeLab, request: pytest.FixtureRequest):
    """Backup to its master, we accept every advert; when it stops we wait our skew."""
    lab = make_lab(2)
    here, there = lab.hosts
    us = dialect.address(here)
    with Ear(lab.client) as ear:
        vrrpd = Vrrpd(lab, there, dialect, HIGHER)
        ear.wait(vrrpd.source)
        _, agent = one_agent(lab, here, dialect.router(here, there, priority=OURS, strangers="yield"))
        agent.wait(f"alarm: stranger web: {vrrpd.source} advertises priority {HIGHER}")
        agent.wait("lease held")
        ear.wait(vrrpd.source, since=now() + dialect.down_interval(OURS), count=SEVERAL)
        assert agent.roles == ["BACKUP"]

        vrrpd.stop()
        farewell = ear.farewell(vrrpd.source)
        first = ear.wait(us)
        request.node.user_properties.append(("took_ms", round((first.at - farewell.at) / MS, 1)))
        assert dialect.skew(OURS) - EARLY < first.at - farewell.at < dialect.skew(OURS) + SLACK
        assert agent.roles == ["BACKUP", "MASTER"]
        assert agent.refusals == []
