"""The values that configuration keys take: how each is written, what it is inside, and what is allowed.

Each kind is an annotation for pydantic: it reads the text that stands in the file, raises ValueError with what is
allowed ("must be 1 to 255"; the caller knows what was given), and describes itself for the JSON schema.
"""

from __future__ import annotations

import ipaddress
import re
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from pydantic import GetCoreSchemaHandler, PlainValidator

from haagent.config.durations import duration, written
from haagent.core.units import Duration
from haagent.runtime.windows import PATTERN, Window, window

Ip = ipaddress.IPv4Address | ipaddress.IPv6Address

_WORD = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_HOST_PORT = re.compile(r"(?:\[(?P<six>[0-9A-Fa-f:.]{2,45})\]|(?P<host>[A-Za-z0-9._-]{1,253})):(?P<port>[0-9]{1,5})")
_HOST_PORT_PLAIN = r"(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9._-]{1,253}):[0-9]{1,5}"
_YES, _NO = ("true", "yes", "on"), ("false", "no", "off")


class _Kind(ABC):
    """What makes a class with `parse` and `schema` an annotation that pydantic understands."""

    __slots__ = ()

    @abstractmethod
    def parse(self, value: object) -> object:
        """What the text (or whatever else stands there) means; ValueError with what is allowed."""

    @abstractmethod
    def schema(self) -> dict[str, Any]:
        """What is allowed, as JSON schema."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> Any:
        # Of `source` pydantic would only take how to serialize it, and warn where a default is a text already.
        return PlainValidator(self.parse).__get_pydantic_core_schema__(Any, handler)

    def __get_pydantic_json_schema__(self, schema: object, handler: object) -> dict[str, Any]:
        return self.schema()


@dataclass(frozen=True, slots=True)
class Whole(_Kind):
    """A whole number within bounds."""

    low: int
    high: int

    def parse(self, value: object) -> int:
        # Leading zeros are refused: whether 051 is 51 or 41 is nothing to guess.
        if isinstance(value, str) and re.fullmatch(r"0|[1-9][0-9]{0,17}", value):
            number = int(value)
            if self.low <= number <= self.high:
                return number
        raise ValueError(f"must be {self.low} to {self.high}")

    def schema(self) -> dict[str, Any]:
        return {"type": "integer", "minimum": self.low, "maximum": self.high}


@dataclass(frozen=True, slots=True)
class Span(_Kind):
    """A duration within bounds. `zero`: 0 is allowed too, and means never. `step`: only multiples of it."""

    low: Duration
    high: Duration
    zero: bool = False
    step: Duration = 1

    def parse(self, value: object) -> Duration:
        try:
            span = duration(value)
        except ValueError:
            raise ValueError(f"must be a duration, {self._allowed()}") from None
        if (self.low <= span <= self.high and span % self.step == 0) or (self.zero and span == 0):
            return span
        raise ValueError(f"must be {self._allowed()}")

    def schema(self) -> dict[str, Any]:
        zero = "^0$|" if self.zero else ""
        pattern = rf"{zero}^[0-9]+(\.[0-9]+)?(us|ms|s|m|h)$"
        return {
            "type": ["string", "integer"] if self.zero else "string",
            "pattern": pattern,
            "description": f"a duration, {self._allowed()}",
        }

    def _allowed(self) -> str:
        bounds = f"{written(self.low)} to {written(self.high)}"
        if self.step > 1:
            bounds += f", a multiple of {written(self.step)}"
        return f"0s or {bounds}" if self.zero else bounds


@dataclass(frozen=True, slots=True)
class Switch(_Kind):
    """true or false (also yes, no, on, off)."""

    def parse(self, value: object) -> bool:
        if isinstance(value, str) and value.lower() in _YES + _NO:
            return value.lower() in _YES
        raise ValueError("must be true or false")

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Choice(_Kind):
    """One of a few words, turned into what `make` makes of them."""

    words: tuple[str, ...]
    make: Callable[[str], object] = str

    def parse(self, value: object) -> object:
        if isinstance(value, str) and value in self.words:
            return self.make(value)
        raise ValueError("must be " + " or ".join(self.words))

    def schema(self) -> dict[str, Any]:
        numeric = all(word.isdigit() for word in self.words)
        return {"enum": [int(word) for word in self.words] if numeric else list(self.words)}


@dataclass(frozen=True, slots=True)
class Word(_Kind):
    """A name that becomes a part of an etcd key."""

    def parse(self, value: object) -> str:
        if isinstance(value, str) and is_word(value):
            return value
        raise ValueError("must be 1 to 64 of A-Z a-z 0-9 . _ -, the first a letter or digit")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{_WORD.pattern}$"}


@dataclass(frozen=True, slots=True)
class Text(_Kind):
    """Any text of printable characters, not empty."""

    longest: int = 4096

    def parse(self, value: object) -> str:
        if isinstance(value, str) and value.isprintable() and 1 <= len(value) <= self.longest:
            return value
        raise ValueError(f"must be a text of 1 to {self.longest} printable characters")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": self.longest}


@dataclass(frozen=True, slots=True)
class Absolute(_Kind):
    """The path of a file, from the root on."""

    def parse(self, value: object) -> str:
        if isinstance(value, str) and value.isprintable() and re.fullmatch(r"/.{1,4095}", value):
            return value
        raise ValueError("must be an absolute path")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^/.", "maxLength": 4096}


@dataclass(frozen=True, slots=True)
class Password(_Kind):
    """The password of VRRPv2's simple authentication: bytes on the wire, so ASCII only (RFC 2338 5.3.6)."""

    def parse(self, value: object) -> str:
        if isinstance(value, str) and value.isascii() and value.isprintable() and 1 <= len(value) <= 64:
            return value
        raise ValueError("must be 1 to 8 printable ASCII characters")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "minLength": 1, "maxLength": 64}


@dataclass(frozen=True, slots=True)
class Interface(_Kind):
    """The name of a network interface (linux/if.h: IFNAMSIZ; dev_valid_name)."""

    def parse(self, value: object) -> str:
        text = value if isinstance(value, str) and value.isprintable() else ""
        if re.fullmatch(r"[^\s/:]+", text) and text not in (".", "..") and len(text.encode()) <= 15:
            return text
        raise ValueError("must be the name of an interface: 1 to 15 characters, no blanks, slashes or colons")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[^\s/:]{1,15}$"}


class Prefixed(NamedTuple):
    """A virtual address as written, with its prefix length."""

    ip: Ip
    prefix: int


@dataclass(frozen=True, slots=True)
class Virtual(_Kind):
    """A virtual address; without a prefix length it is the host alone (/32, /128), as keepalived has it."""

    def parse(self, value: object) -> Prefixed:
        text, slash, length = value.partition("/") if isinstance(value, str) else ("", "", "")
        ip = _ip(text, "must be an IPv4 or IPv6 address with an optional prefix length, such as 10.0.0.100/24")
        if slash and not (re.fullmatch(r"[0-9]{1,3}", length) and 1 <= int(length) <= ip.max_prefixlen):
            raise ValueError(f"the prefix length must be 1 to {ip.max_prefixlen}")
        return Prefixed(_usable(ip), int(length) if slash else ip.max_prefixlen)

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"}


@dataclass(frozen=True, slots=True)
class Host(_Kind):
    """The address of a host."""

    def parse(self, value: object) -> Ip:
        return _usable(_ip(value, "must be an IPv4 or IPv6 address, such as 10.0.0.2"))

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}


@dataclass(frozen=True, slots=True)
class Endpoint(_Kind):
    """Where an etcd member answers clients: `http(s)://host:port`, kept as it is written."""

    def parse(self, value: object) -> str:
        allowed = "must be like https://10.0.0.1:2379"
        if not isinstance(value, str) or not value.isprintable() or re.search(r"\s", value):
            raise ValueError(allowed)
        try:
            url = urlsplit(value)
            port = url.port
        except ValueError:
            raise ValueError(allowed) from None
        if url.username is not None or url.password is not None:
            raise ValueError("must not hold a user or password: they have keys of their own")
        extra = url.path.strip("/") or url.query or url.fragment
        if url.scheme not in ("http", "https") or not url.hostname or not port or extra:
            raise ValueError(allowed)
        return value.rstrip("/")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": r"^https?://[^/@\s]+:[0-9]+/?$"}


@dataclass(frozen=True, slots=True)
class HostPort(_Kind):
    """An address and a port, IPv6 in brackets; with `names` a name in place of the address, but not "all addresses"."""

    names: bool

    def parse(self, value: object) -> str:
        found = _HOST_PORT.fullmatch(value) if isinstance(value, str) else None
        if found is None or not 1 <= int(found["port"]) <= 65535:
            raise ValueError(self._allowed())
        host = found["six"] or found["host"]
        try:
            ip = ipaddress.ip_address(host)
        except ValueError:
            if found["six"] or not self.names or not re.search("[A-Za-z]", host):
                raise ValueError(self._allowed()) from None
            return found[0]
        if (ip.version == 6) is not bool(found["six"]) or ip.is_multicast:
            raise ValueError(self._allowed())
        if self.names and ip.is_unspecified:
            raise ValueError("must be an address that the peers can dial, or a name")
        return found[0]

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": rf"^{_HOST_PORT_PLAIN}$"}

    def _allowed(self) -> str:
        return f"must be an address{' or a name' if self.names else ''} and a port, such as 10.0.0.1:8501"


@dataclass(frozen=True, slots=True)
class SocketPath(_Kind):
    """The path of a unix socket, which the kernel allows 107 bytes (linux/un.h)."""

    def parse(self, value: object) -> str:
        path = Absolute().parse(value)
        if len(path.encode()) > 107:
            raise ValueError("must be an absolute path of at most 107 bytes")
        return path

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": "^/.", "maxLength": 107}


@dataclass(frozen=True, slots=True)
class OrOff(_Kind):
    """Another kind, or the word `off`, which is None."""

    kind: _Kind

    def parse(self, value: object) -> object:
        if value == "off":
            return None
        try:
            return self.kind.parse(value)
        except ValueError as error:
            raise ValueError(f"{error}, or off") from None

    def schema(self) -> dict[str, Any]:
        return {"anyOf": [self.kind.schema(), {"const": "off"}]}


@dataclass(frozen=True, slots=True)
class Times(_Kind):
    """A failback window (`haagent.runtime.windows`)."""

    def parse(self, value: object) -> Window:
        return window(value if isinstance(value, str) else "")

    def schema(self) -> dict[str, Any]:
        return {"type": "string", "pattern": f"^{PATTERN}$"}


def is_word(text: str | None) -> bool:
    """Whether the text can be a name that becomes a part of an etcd key."""
    return text is not None and _WORD.fullmatch(text) is not None


def unspecified(host_port: str) -> bool:
    """Whether the address of a valid `HostPort` means all addresses of the host."""
    return set(host_port.rpartition(":")[0]) <= set("[0.:]")


def _ip(value: object, allowed: str) -> Ip:
    text = value if isinstance(value, str) else ""
    if "%" in text:
        raise ValueError("must not name an interface after %: that is a key of its own")
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        raise ValueError(allowed) from None


def _usable(ip: Ip) -> Ip:
    kinds = {"multicast": ip.is_multicast, "unspecified": ip.is_unspecified, "loopback": ip.is_loopback}
    broadcast = ip.version == 4 and int(ip) == (1 << 32) - 1
    for kind, is_kind in {**kinds, "broadcast": broadcast}.items():
        if is_kind:
            raise ValueError(f"must be the address of a host, not a {kind} address")
    return ip
