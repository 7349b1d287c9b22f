"""VRRP on the wire: the `Speaker` port by raw sockets of protocol 112, announcements by packet sockets.

`VrrpSpeaker` is the port: it knows the virtual routers, encodes, and judges what comes. A `channel` is the socket of
one family on one interface, shared by the virtual routers there; `announcer` sends gratuitous ARP and
unsolicited neighbour advertisements; `rejections` counts and logs what is refused, in bounded memory.

All of it runs on the event loop: no call blocks, and a flood is read in small bites between which timers and etcd
have their turn. What the kernel dropped meanwhile is in `VrrpSpeaker.overflowed`.
"""

from haagent.adapters.vrrp_socket.speaker import VrrpSpeaker

__all__ = ["VrrpSpeaker"]
