"""The VRRP machine of one virtual router: RFC 9568 6.4 (v3) and RFC 3768 6.4 (v2), without the right to elect.

What the RFC's timers decide is decided by the lease: `promoted` and `demoted` are told, not inferred. What is left of
the state machine is what it says (adverts, announcements) and what it notices: the owner's adverts stop (a hint, never
a reason to become MASTER), a member or a stranger advertises. With `strangers: yield` a stranger is treated as the RFC
says: it may depose, and it is waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

from haagent.core.model import AdvertReceived, Announce, Resolve, RouterRules, SendAdvert, Strangers
from haagent.core.units import MS, NEVER, Duration, Instant, S

ANNOUNCE_AGAIN: Duration = 5 * S
"""keepalived's garp_master_delay: neighbours that missed the first announcements get a second chance."""
ANNOUNCE_PAUSE: Duration = 100 * MS
"""Between announcements for which there is a reason each time: what comes sooner is made up for by one, then."""
DISPUTE_PAUSE: Duration = 1 * S
"""The same while somebody else goes on saying that an address is his: two who both defend one must not flood the
network (RFC 5227 2.4, which asks for longer of hosts that may let go)."""
DISPUTE_GRACE: Duration = 1 * S
"""What the owner before us said last may arrive so much after we became MASTER."""
DISPUTE_OVER: Duration = 60 * S
"""Neighbours keep what they were told for about that long."""
RESOLUTION: Duration = 1500 * MS
"""What a unicast peer may take to send us its first advert, when its first question for our MAC address was lost: ARP
and neighbour discovery ask again after a second."""
RESOLVE_PAUSE: Duration = 500 * MS
PRIORITY_OWNER = 255
PRIORITY_STOP = 0


class By(Enum):
    """Whose advert it is: the group's recorded owner, another member of the cluster, or nobody we know."""

    OWNER = "owner"
    MEMBER = "member"
    STRANGER = "stranger"


class Signal(Enum):
    """What the group should know."""

    OWNER_STOPPED = "the owner said that it stops"
    OWNER_SILENT = "the owner's adverts are lost"
    OWNER_HEARD = "the owner's adverts are heard again"
    RIVAL = "another member advertises"
    STRANGER_HEARD = "a stranger advertises"
    STRANGER_GONE = "the stranger fell silent"
    LISTENED = "whoever was master would have been heard by now"


@dataclass(frozen=True, slots=True)
class Initialize:
    """RFC 9568 6.4.1: not taking part, the interface is unfit."""


@dataclass(frozen=True, slots=True)
class Backup:
    """RFC 9568 6.4.2. `down_at`: the Active_Down_Timer, armed only by the owner's adverts."""

    down_at: Instant = NEVER
    silent: bool = False


@dataclass(frozen=True, slots=True)
class Master:
    """RFC 9568 6.4.3 (there called Active).

    `again_at`: an announcement beside those of `announce_at` is owed by then. `disputed_until`: somebody else said that
    an address of ours is his, and that counts until then.
    """

    advertise_at: Instant
    announce_at: Instant
    advertised_at: Instant
    announced_at: Instant
    since: Instant
    again_at: Instant = NEVER
    disputed_until: Instant = NEVER


@dataclass(frozen=True, slots=True)
class Stranger:
    """A speaker that is no member, and until when its last advert counts."""

    source: bytes
    priority: int
    until: Instant


@dataclass(frozen=True, slots=True)
class Router:
    """A virtual router's state: its phase, the stranger on its VRID, if one advertises, and until when one may come.

    `listens_until`: with `strangers: yield`, who begins to take part waits until then for a master to be heard.
    `resolve_at`: when unicast peers are to be resolved (again); until `resolve_until`.
    """

    phase: Initialize | Backup | Master = Initialize()
    stranger: Stranger | None = None
    listens_until: Instant = NEVER
    resolve_at: Instant = NEVER
    resolve_until: Instant = NEVER


Said = tuple[SendAdvert | Announce | Resolve, ...]
Step = tuple[Router, Said, tuple[Signal, ...]]


def skew(priority: int, version: int, interval: Duration) -> Duration:
    """Skew_Time: (256 - priority) / 256 of the master's interval (RFC 9568 6.1), of one second in v2 (RFC 3768 6.1)."""
    return (256 - priority) * (S if version == 2 else interval) // 256


def master_down_interval(priority: int, version: int, interval: Duration) -> Duration:
    """Three intervals and the skew (RFC 9568 6.1: Active_Down_Interval; RFC 3768 6.1)."""
    return 3 * interval + skew(priority, version, interval)


def due(router: Router) -> Instant:
    """When the machine wants `tick`."""
    match router.phase:
        case Initialize():
            at = NEVER
        case Backup(down_at=down_at, silent=silent):
            at = NEVER if silent else down_at
        case Master() as master:
            at = min(master.advertise_at, master.announce_at, master.again_at, master.disputed_until)
    at = min(at, router.listens_until, router.resolve_at)
    return at if router.stranger is None else min(at, router.stranger.until)


def fit(rules: RouterRules, router: Router, now: Instant) -> Router:
    """The interface is fit: take part, as backup."""
    if not isinstance(router.phase, Initialize):
        return router
    # RFC 9568 6.4.1: who begins arms its Active_Down_Timer, but for priority 255. The lease may be there sooner than
    # the next advert of a stranger, who must not be deposed only because it was not heard yet.
    waits = rules.strangers is Strangers.YIELD and rules.priority != PRIORITY_OWNER
    down = master_down_interval(rules.priority, rules.version, rules.advert_interval)
    router = replace(router, phase=Backup(), listens_until=now + down if waits else NEVER)
    if not rules.unicast:
        return router
    # A unicast master's adverts wait in its kernel until that knows our MAC address. We help, and listen for longer.
    listens = router.listens_until + RESOLUTION if waits else NEVER
    return replace(router, listens_until=listens, resolve_at=now, resolve_until=now + RESOLUTION)


def promoted(rules: RouterRules, router: Router, now: Instant) -> Step:
    """The lease made this node the owner and the kernel has the addresses: as RFC 9568 6.4.2 ends."""
    master = Master(
        advertise_at=now + rules.advert_interval,
        announce_at=now + ANNOUNCE_AGAIN,
        advertised_at=now,
        announced_at=now,
        since=now,
    )
    said = (SendAdvert(rules.name, rules.priority), Announce(rules.name))
    return replace(router, phase=master), said, ()


def demoted(router: Router) -> Router:
    """The node no longer owns. Whether a last advert with priority 0 may be sent is the lease's affair."""
    return router if isinstance(router.phase, Initialize) else replace(router, phase=Backup())


def tick(rules: RouterRules, router: Router, now: Instant) -> Step:
    """`due` has come."""
    signals: list[Signal] = []
    said: Said = ()
    if now >= router.resolve_at:
        at = now + RESOLVE_PAUSE
        router = replace(router, resolve_at=at if at < router.resolve_until else NEVER)
        said = (Resolve(rules.name),)
    if router.stranger is not None and now >= router.stranger.until:
        router = replace(router, stranger=None)
        signals.append(Signal.STRANGER_GONE)
    if now >= router.listens_until:
        router = replace(router, listens_until=NEVER)
        signals.append(Signal.LISTENED)
    match router.phase:
        case Backup(down_at=down_at, silent=False) if now >= down_at:
            signals.append(Signal.OWNER_SILENT)
            return replace(router, phase=Backup(silent=True)), said, tuple(signals)
        case Master() as master:
            router, more = _speak(rules, router, master, now)
            return router, said + more, tuple(signals)
        case Initialize() | Backup():
            return router, said, tuple(signals)


def _speak(rules: RouterRules, router: Router, master: Master, now: Instant) -> tuple[Router, Said]:
    said: list[SendAdvert | Announce] = []
    if now >= master.advertise_at:
        said.append(SendAdvert(rules.name, rules.priority))
        master = replace(master, advertise_at=now + rules.advert_interval, advertised_at=now)
    if now >= min(master.announce_at, master.again_at):
        # The second chance, soon after the promotion, is as the first; the others tell who lost both, or forgot.
        refresh = now < master.again_at and master.announce_at > master.since + ANNOUNCE_AGAIN
        said.append(Announce(rules.name, refresh))
        pause = rules.announce_refresh or NEVER - now
        at = now + pause if now >= master.announce_at else master.announce_at
        master = replace(master, announced_at=now, again_at=NEVER, announce_at=at)
    if now >= master.disputed_until:
        master = replace(master, disputed_until=NEVER)
    return replace(router, phase=master), tuple(said)


def repaired(rules: RouterRules, router: Router, now: Instant) -> Step:
    """An address was gone and is there again, perhaps at another MAC address: tell the neighbours."""
    match router.phase:
        case Master() as master:
            return *_announce_again(rules, router, master, ANNOUNCE_PAUSE, now), ()
        case Initialize() | Backup():
            return router, (), ()


def disputed(rules: RouterRules, router: Router, now: Instant) -> Step:
    """Somebody else told the neighbours that an address of ours is his: tell them better."""
    match router.phase:
        case Master() as master if now - master.since < DISPUTE_GRACE:
            return *_announce_again(rules, router, master, ANNOUNCE_PAUSE, now), ()
        case Master() as master:
            pause = ANNOUNCE_PAUSE if master.disputed_until == NEVER else DISPUTE_PAUSE
            master = replace(master, disputed_until=now + DISPUTE_OVER)
            return *_announce_again(rules, router, master, pause, now), ()
        case Initialize() | Backup():
            return router, (), ()


def _announce_again(
    rules: RouterRules, router: Router, master: Master, pause: Duration, now: Instant
) -> tuple[Router, Said]:
    """Announce at once, or as soon as the pause since the last time is over; then it stands for all that came since."""
    at = master.announced_at + pause
    if now < at:
        return replace(router, phase=replace(master, again_at=min(master.again_at, at))), ()
    return replace(router, phase=replace(master, announced_at=now, again_at=NEVER)), (Announce(rules.name),)


def heard(rules: RouterRules, router: Router, advert: AdvertReceived, by: By, own: bytes, now: Instant) -> Step:
    """A valid advert arrived; `own` is our source address, which breaks ties."""
    match router.phase, by:
        case Initialize(), _:
            return router, (), ()
        case Backup(silent=silent), By.OWNER:
            return _heard_owner(rules, router, advert, silent, now)
        case _, By.OWNER | By.MEMBER:
            return router, (), (Signal.RIVAL,)
        case _, By.STRANGER:
            return _heard_stranger(rules, router, advert, own, now)


def _heard_owner(rules: RouterRules, router: Router, advert: AdvertReceived, silent: bool, now: Instant) -> Step:
    if advert.priority == PRIORITY_STOP:
        # RFC 9568 6.4.2: the timer is set to the skew. Ours is the claim, which the record decides.
        down_at = now + skew(rules.priority, rules.version, advert.interval)
        return replace(router, phase=Backup(down_at)), (), (Signal.OWNER_STOPPED,)
    down_at = now + master_down_interval(rules.priority, rules.version, advert.interval)
    return replace(router, phase=Backup(down_at)), (), (Signal.OWNER_HEARD,) if silent else ()


def _heard_stranger(rules: RouterRules, router: Router, advert: AdvertReceived, own: bytes, now: Instant) -> Step:
    stop = advert.priority == PRIORITY_STOP
    lasts = (skew if stop else master_down_interval)(rules.priority, rules.version, advert.interval)
    stranger = Stranger(advert.source, advert.priority, now + lasts)
    match router.phase:
        case Master() as master if rules.strangers is Strangers.YIELD and not outranks(stranger, rules, own):
            # RFC 9568 6.4.3: assert ourselves. In v2 too, as keepalived does (RFC 3768 6.4.3 would say nothing); but
            # never more than doubling our own rate.
            if now - master.advertised_at < rules.advert_interval // 2:
                return replace(router, stranger=stranger), (), (Signal.STRANGER_HEARD,)
            master = replace(master, advertise_at=now + rules.advert_interval, advertised_at=now)
            said = (SendAdvert(rules.name, rules.priority),)
            return replace(router, phase=master, stranger=stranger), said, (Signal.STRANGER_HEARD,)
        case Initialize() | Backup() | Master():
            # A master that we would follow: it is what was listened for. From here on its own timer counts.
            listens = NEVER if advert.priority >= rules.priority else router.listens_until
            return replace(router, stranger=stranger, listens_until=listens), (), (Signal.STRANGER_HEARD,)


def outranks(stranger: Stranger, rules: RouterRules, own: bytes) -> bool:
    """RFC 9568 6.4.3: a higher priority, or the same and a higher primary address. Priority 0 is leaving."""
    return (stranger.priority, stranger.source) > (rules.priority, own) and stranger.priority != PRIORITY_STOP


def held_off(rules: RouterRules, router: Router, own: bytes, preempt: bool, owning: bool) -> bool:
    """Whether `strangers: yield` keeps this node from owning: plain VRRP would have it be (or stay) BACKUP.

    Priority 255 preempts whatever `preempt` says (RFC 9568 6.1, Preempt_Mode).
    """
    if rules.strangers is not Strangers.YIELD:
        return False
    stranger = router.stranger
    if stranger is None:
        return router.listens_until != NEVER and not owning
    if owning:
        return outranks(stranger, rules, own)
    # RFC 9568 6.4.2: a Backup of the same priority stays one whatever the addresses, and after 0 waits its skew.
    waits = stranger.priority >= rules.priority or stranger.priority == PRIORITY_STOP
    return waits or not (preempt or rules.priority == PRIORITY_OWNER)
