"""The dashboard in a real Chromium: what changes is seen within a second, what must be seen is, and text stays text.

One browser for all of it, each test with an agent and a page of its own.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from haagent.api.http.feed import as_json
from haagent.core.units import MS, S
from haagent.v1 import status_pb2 as pb
from tests.integration.browser import Page, chromium
from tests.unit.api.values import Agent, status

pytestmark = pytest.mark.integration

EVIL = "<img src=x onerror=\"document.title='owned'\">"
WIDE = "document.documentElement.scrollWidth > innerWidth"


def own(shown: pb.Status) -> pb.NodeStatus:
    return getattr(shown, "self")  # noqa: B009 - to the type checker it is no name for a field


async def opened(page: Page, port: int, **how: Any) -> None:
    await page.open(f"http://127.0.0.1:{port}/", **how)
    await page.until("document.querySelector('#groups tbody tr') !== null")


async def changes_show_within_a_second(page: Page) -> None:
    agent = Agent()
    async with agent.serving() as port:
        await opened(page, port)
        assert (
            " ".join((await page.text("#groups tbody th")).split())
            == "web n1, epoch 42, for 1 h 2 min (there was no owner)"
        )
        assert "BACKUP → MASTER" in await page.text("#changes")
        assert "78 ms without an owner" in await page.text("#changes")
        assert "none" in await page.text("#faults")
        took: list[float] = []
        for owner in ("n2", "n3", "n1", "n3", "n2"):  # the quickest counts: this machine may be busy with other things
            agent.status.CopyFrom(status(owners=(owner, "n2")))
            agent.feed.changed()
            shown = f"document.querySelector('#groups tbody tr').innerText.includes('{owner}, epoch 42')"
            took.append(await page.until(shown))
        assert min(took) < 1
        marks = "[...document.querySelectorAll('#groups tbody tr')[0].querySelectorAll('.mark')].map(m => m.innerText)"
        assert await page.js(marks) == ["BACKUP", "MASTER", "BACKUP"]
        own(agent.status).groups[0].faults.append("interface eth0 is down or absent")
        own(agent.status).alarms.add(kind="stranger", subject="web", detail="10.0.0.9 advertises priority 150")
        agent.feed.changed()
        await page.until("document.querySelector('#faults').innerText.includes('interface eth0 is down')")
        assert "stranger web: 10.0.0.9" in await page.text("#faults")


async def banners_cannot_be_missed(page: Page) -> None:
    agent = Agent()
    async with agent.serving() as port:
        await opened(page, port)
        shown = "[...document.querySelectorAll('.banner')].filter(b => b.offsetParent).map(b => b.id)"
        assert await page.js(shown) == []
        failsafe = own(agent.status).failsafe
        failsafe.active, failsafe.left_ns = True, 280 * S
        failsafe.missing.append("n3")
        agent.status.paused_by = "anna"
        agent.feed.changed()
        await page.until("!document.querySelector('#paused').hidden")
        assert await page.js(shown) == ["failsafe", "paused"]
        assert "for 4 min 40 s more at most. No promise from n3." in await page.text("#failsafe")
        assert "By anna" in await page.text("#paused")
        agent.status.members[1].status.groups[0].role = pb.MASTER
        agent.feed.changed()
        await page.until("!document.querySelector('#two-owners').hidden")
        assert "web: n1 and n2 both say MASTER" in await page.text("#two-owners")
        red = await page.js("getComputedStyle(document.querySelector('#two-owners')).backgroundColor")
        assert red == "rgb(179, 18, 31)"
        agent.status.CopyFrom(status(owners=("", "n2")))
        own(agent.status).etcd.reachable = False
        agent.feed.changed()
        await page.until("document.querySelector('#two-owners').hidden")
        assert await page.js(shown) == ["ownerless", "etcd"]


async def a_handover_that_crosses_is_no_alarm(page: Page) -> None:
    """What n1 and n2 say reaches the page a moment apart: for that moment both seem to own."""
    agent = Agent()
    both = status()
    both.members[1].status.groups[0].role = pb.MASTER
    async with agent.serving() as port:
        await opened(page, port)
        heard = "source.dispatchEvent(new MessageEvent('status', {data: JSON.stringify(%s)}));"
        flashes = await page.js(
            "(async () => { let shown = 0; const banner = document.querySelector('#two-owners');"
            "new MutationObserver(() => { shown += !banner.hidden; }).observe(banner, {attributes: true});"
            + heard % as_json(both).decode()
            + heard % as_json(agent.status).decode()
            + "await new Promise((done) => setTimeout(done, 600)); return shown; })()"
        )
        assert flashes == 0


async def a_lost_agent_is_shown_and_found_again(page: Page) -> None:
    agent = Agent()
    async with agent.serving() as port:
        await opened(page, port)
    await page.until("!document.querySelector('#stale').hidden")
    assert "No connection with the agent since" in await page.text("#stale")
    async with agent.serving(f"127.0.0.1:{port}"):
        await page.until("document.querySelector('#stale').hidden")


async def the_lease_runs_down_between_renewals(page: Page) -> None:
    agent = Agent()
    own(agent.status).lease.left_ns, own(agent.status).lease.ttl_ns = 4 * S, 4 * S
    async with agent.serving() as port:
        await opened(page, port)
        width = "document.querySelector('#bar div').getBoundingClientRect().width"
        first = await page.js(width)
        await page.until(f"{width} < {first} - 5")
        assert "last renewal took 3.0 ms" in await page.text("#lease")
        own(agent.status).lease.held = False
        agent.feed.changed()
        await page.until(f"{width} == 0")
        assert "not held" in await page.text("#lease")


async def text_stays_text(page: Page) -> None:
    agent = Agent(status(groups=(EVIL, "db")))
    agent.status.cluster = agent.status.paused_by = EVIL
    agent.status.groups[0].last_owner = agent.status.groups[0].owner = EVIL
    agent.status.groups[1].intent.to = agent.status.groups[1].intent.by = EVIL
    agent.status.members[1].node = agent.status.members[1].release = agent.status.members[1].peer.error = EVIL
    agent.status.changes[0].why = agent.status.changes[0].group = EVIL
    own(agent.status).groups[0].faults.append(EVIL)
    own(agent.status).alarms.add(kind=EVIL, subject=EVIL, detail=EVIL)
    own(agent.status).failsafe.active = True
    own(agent.status).failsafe.missing.append(EVIL)
    async with agent.serving() as port:
        await opened(page, port)
        assert await page.js("document.images.length") == 0
        for place in ("#groups", "#faults", "#nodes", "#changes", "#paused", "#failsafe", "#cluster"):
            assert EVIL in await page.text(place), place
        assert await page.js("document.title") != "owned"


async def a_phone_is_wide_enough(page: Page) -> None:
    agent = Agent(status(groups=("a-group-with-a-rather-long-name-of-sixty-four-characters-or-so.1", "db")))
    own(agent.status).groups[0].faults.append("interface a-long-interface has no link-local IPv6 address")
    own(agent.status).alarms.add(
        kind="address-elsewhere", subject="web", detail="02:00:00:00:00:01 says that it has it"
    )
    for _ in range(30):
        agent.status.changes.add(at_wall_ns=time.time_ns(), group="db", why="the lease of n2 lapsed", gap_ns=12 * MS)
    async with agent.serving() as port:
        await opened(page, port, width=360, height=740)
        assert await page.js(WIDE) is False
        assert "n2" in await page.text("#groups tbody tr td:nth-child(3)"), "each cell says whose it is"
        await page.resize(1200, 900)
        assert await page.js(WIDE) is False


async def light_and_dark_can_both_be_read(page: Page) -> None:
    """WCAG 2.1, 1.4.3: a contrast of at least 4.5 between each text and what is behind it."""
    agent = Agent()
    agent.status.paused_by = "anna"
    agent.status.members[1].status.groups[0].role = pb.MASTER
    agent.status.members[2].peer.connected = False
    own(agent.status).groups[1].role = pb.FAULT
    own(agent.status).alarms.add(kind="stranger", subject="web", detail="10.0.0.9")
    async with agent.serving() as port:
        pages: list[str] = []
        for dark in (False, True):
            await opened(page, port, dark=dark)
            await page.until("!document.querySelector('#two-owners').hidden")
            pages.append(await page.js("getComputedStyle(document.body).backgroundColor"))
            assert await page.js(CONTRAST) == []
        assert pages[0] != pages[1]


CONTRAST = """(() => {
  const parts = (color) => color.match(/[\\d.]+/g).map(Number);
  const light = (color) => parts(color).slice(0, 3)
    .map((c) => c / 255).map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (; node; node = node.parentElement) {
      const color = getComputedStyle(node).backgroundColor;
      if ((parts(color)[3] ?? 1) > 0) return color;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const texts = [...node.childNodes].some((one) => one.nodeType === 3 && one.textContent.trim());
    if (!texts || !node.checkVisibility()) continue;
    const [a, b] = [light(getComputedStyle(node).color), light(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < 4.5) poor.push(`${node.tagName} ${node.className} ${node.textContent.trim()}: ${contrast}`);
  }
  return poor;
})()"""

ACTS: tuple[Callable[[Page], Awaitable[None]], ...] = (
    changes_show_within_a_second,
    banners_cannot_be_missed,
    a_handover_that_crosses_is_no_alarm,
    a_lost_agent_is_shown_and_found_again,
    the_lease_runs_down_between_renewals,
    text_stays_text,
    a_phone_is_wide_enough,
    light_and_dark_can_both_be_read,
)


def test_the_dashboard(tmp_path: Path):
    async def run() -> None:
        async with chromium(tmp_path / "profile") as page:
            for act in ACTS:
                page.console.clear()
                await page.prefer(False)
                try:
                    await act(page)
                except (AssertionError, TimeoutError) as error:
                    error.add_note(f"in {act.__name__}; the page complained of {page.console}")
                    raise
                # Each act ends with its agent, and so does the stream of events, or what is loaded at that moment.
                ended = ('/events"', "ERR_CONNECTION_REFUSED", "ERR_EMPTY_RESPONSE", "ERR_CONNECTION_RESET")
                assert [line for line in page.console if not any(sign in line for sign in ended)] == [], act.__name__

    asyncio.run(run())
