"""A sender that floods: run in the client's namespace with `Orders` as JSON, it sends frames at a rate, in turn.

A process of its own, so that what it costs is not counted as the test's; frames are made before, and a burst that was
late is caught up with, but never by more than `BURST` at once.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from typing import Final, TypedDict

BURST: Final = 200
PAUSE: Final = 0.002


class Orders(TypedDict):
    """`frames` in hexadecimal, sent in turn on `interface`; `rate` a second, for `seconds`."""

    interface: str
    frames: list[str]
    rate: int
    seconds: float


class Report(TypedDict):
    """How many of each frame were sent, in how many seconds, and how often the kernel had no room."""

    sent: list[int]
    seconds: float
    refused: int


def flood(orders: Orders) -> Report:
    frames = [bytes.fromhex(frame) for frame in orders["frames"]]
    sent, refused, turn = [0] * len(frames), 0, 0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as out:
        out.bind((orders["interface"], 0))
        began = time.monotonic()
        while (passed := time.monotonic() - began) < orders["seconds"]:
            for _ in range(min(BURST, int(passed * orders["rate"]) - turn)):
                index = turn % len(frames)
                turn += 1
                try:
                    out.send(frames[index])
                    sent[index] += 1
                except OSError:
                    refused += 1
            time.sleep(PAUSE)
    return Report(sent=sent, seconds=time.monotonic() - began, refused=refused)


if __name__ == "__main__":
    print(json.dumps(flood(json.load(sys.stdin))))
