"""scapy agrees, in both directions: it reads what we write, and we read what it writes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from haagent.core.units import MS, S
from haagent.wire import arp, ndisc
from haagent.wire.inet import split_ipv4, to_text
from haagent.wire.rejection import Rejected
from haagent.wire.vrrp import Dialect, decode, encode
from tests.wire import oracle
from tests.wire.values import IPV4, MACS, UNICAST_IPV6, Sent, sent


def below(item: Sent):
    """scapy's IP header for an advert."""
    layer = oracle.IP if len(item.source) == 4 else oracle.IPv6
    rest = {"proto": 112, "ttl": 255} if len(item.source) == 4 else {"nh": 112, "hlim": 255}
    return layer(src=to_text(item.source), dst=to_text(item.destination), **rest)


def theirs(item: Sent):
    """The same advert as scapy builds it."""
    advert = item.advert
    fields = {"vrid": advert.vrid, "priority": advert.priority, "addrlist": [*map(to_text, advert.addresses)]}
    if advert.version == 3:
        return oracle.VRRPv3(**fields, adv=advert.interval // (10 * MS))
    password = (advert.password or b"").ljust(8, b"\0")
    return oracle.VRRP(
        **fields,
        adv=advert.interval // S,
        authtype=0 if advert.password is None else 1,
        auth1=int.from_bytes(password[:4]),
        auth2=int.from_bytes(password[4:]),
    )


@given(sent())
def test_scapy_writes_the_same_advert(item: Sent):
    ours = encode(item.advert, source=item.source, destination=item.destination)
    packet = bytes(below(item) / theirs(item))
    header = 20 if len(item.source) == 4 else 40
    assert same_but_for_zero(packet[header:], ours)


@given(sent())
def test_we_read_what_scapy_writes(item: Sent):
    packet = bytes(below(item) / theirs(item))
    if len(item.source) == 4:
        outer = split_ipv4(packet)
        assert not isinstance(outer, Rejected)
        assert (outer.source, outer.destination, outer.ttl) == (item.source, item.destination, 255)
        pdu = outer.payload
    else:
        pdu = packet[40:]
    assert decode(pdu, source=item.source, destination=item.destination, ttl=255, multicast=True) == item.advert


@given(sent())
def test_scapy_reads_what_we_write(item: Sent):
    pdu = encode(item.advert, source=item.source, destination=item.destination)
    outer = below(item)
    read = type(outer)(bytes(outer / pdu)).payload
    advert = item.advert
    assert (read.version, read.type, read.vrid, read.priority) == (
        advert.version,
        1,
        advert.vrid,
        advert.priority,
    )
    assert read.adv * (S if advert.version == 2 else 10 * MS) == advert.interval
    assert list(read.addrlist) == [*map(to_text, advert.addresses)]


@given(sent(versions=(2,)))
def test_without_a_pseudo_header_the_sum_is_scapys(item: Sent):
    """Version 2's sum, and version 3's in its old style, against scapy's plain checksum."""
    pdu = encode(item.advert, source=item.source, destination=item.destination, dialect=Dialect.V2STYLE)
    assert oracle.checksum(pdu) in (0, 0xFFFF)


@given(IPV4, MACS, st.booleans())
def test_gratuitous_arp(address: bytes, mac: bytes, reply: bool):
    read = oracle.Ether(arp.gratuitous(address, mac, reply=reply))
    assert (read.dst, read.src, read.type) == ("ff:ff:ff:ff:ff:ff", mac.hex(":"), 0x0806)
    assert read.op == (2 if reply else 1)
    assert (read.hwsrc, read.psrc, read.pdst) == (mac.hex(":"), to_text(address), to_text(address))
    assert read.hwdst == (mac.hex(":") if reply else "ff:ff:ff:ff:ff:ff")


@given(IPV4, IPV4, MACS, MACS, st.sampled_from(arp.Operation))
def test_arp_of_scapy(sender: bytes, target: bytes, mac: bytes, to: bytes, operation: arp.Operation):
    frame = oracle.Ether(src=mac.hex(":"), dst=to.hex(":")) / oracle.ARP(
        op=int(operation), hwsrc=mac.hex(":"), psrc=to_text(sender), hwdst=to.hex(":"), pdst=to_text(target)
    )
    assert arp.decode(bytes(frame)) == arp.Arp(operation, mac, sender, to, target)
    assert arp.decode(bytes(frame).ljust(60, b"\xa5")) == arp.Arp(operation, mac, sender, to, target)


@given(UNICAST_IPV6, MACS, st.booleans())
def test_unsolicited_advertisement(address: bytes, mac: bytes, router: bool):
    frame = ndisc.unsolicited(address, mac, router=router)
    read = oracle.Ether(frame)
    assert (read.dst, read.src) == ("33:33:00:00:00:01", mac.hex(":"))
    assert (read[oracle.IPv6].src, read[oracle.IPv6].dst) == (to_text(address), "ff02::1")
    told = read[oracle.ICMPv6ND_NA]
    assert (read[oracle.IPv6].hlim, told.R, told.S, told.O) == (255, int(router), 0, 1)
    assert (told.tgt, told[oracle.ICMPv6NDOptDstLLAddr].lladdr) == (to_text(address), mac.hex(":"))
    del read[oracle.ICMPv6ND_NA].cksum
    assert same_but_for_zero(bytes(read)[54:], frame[54:], at=2)


@given(UNICAST_IPV6, UNICAST_IPV6, MACS)
def test_solicitation(target: bytes, source: bytes, mac: bytes):
    for sender in (source, ndisc.ANY_ADDRESS):
        frame = ndisc.solicitation(target, mac=mac, source=sender)
        read = oracle.Ether(frame)
        assert read.dst == f"33:33:ff:{target[-3:].hex(':')}"
        assert read[oracle.ICMPv6ND_NS].tgt == to_text(target)
        assert (oracle.ICMPv6NDOptSrcLLAddr in read) == (sender == source)
        expected_mac = mac if sender == source else None
        assert ndisc.decode(frame) == ndisc.Solicitation(sender, frame[38:54], target, expected_mac)


@given(UNICAST_IPV6, UNICAST_IPV6, UNICAST_IPV6, MACS, st.tuples(st.booleans(), st.booleans(), st.booleans()))
def test_advertisement_of_scapy(
    source: bytes, destination: bytes, target: bytes, mac: bytes, flags: tuple[bool, bool, bool]
):
    router, solicited, override = flags
    frame = (
        oracle.Ether(src=mac.hex(":"), dst="02:00:00:00:00:01")
        / oracle.IPv6(src=to_text(source), dst=to_text(destination), hlim=255)
        / oracle.ICMPv6ND_NA(tgt=to_text(target), R=router, S=solicited, O=override)
        / oracle.ICMPv6NDOptDstLLAddr(lladdr=mac.hex(":"))
    )
    assert ndisc.decode(bytes(frame)) == ndisc.Advertisement(source, destination, target, mac, *flags)


def same_but_for_zero(theirs: bytes, ours: bytes, at: int = 6) -> bool:
    """Equal, or different only in how a checksum of zero is written: as 0 or as 0xffff (RFC 1624)."""
    if theirs == ours:
        return True
    sums = {theirs[at : at + 2], ours[at : at + 2]}
    return theirs[:at] + theirs[at + 2 :] == ours[:at] + ours[at + 2 :] and sums == {b"\0\0", b"\xff\xff"}
