"""A real etcd of one or three members, as processes of the lab: started, stopped, killed, stopped in its
tracks, wiped.

Inside a lab each member is a station on the control network. `loopback_etcd` is the same without a lab, on
127.0.0.1, for tests that need an etcd and no hosts. Data is in memory where there is /dev/shm, so the disk of
the machine does not matter.
"""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Generator, Sequence
from pathlib import Path

from haagent.lab import namespaces
from haagent.lab.commands import LabError, Moment, now, run
from haagent.lab.etcd_setup import Place, Recipe, Tls, make_tls
from haagent.lab.process import Launcher, Process


class Member:
    """One etcd process. Methods that change it return when it took effect; it may be started again after all
    of them.
    """

    def __init__(self, place: Place, recipe: Recipe) -> None:
        self.place = place
        self.recipe = recipe
        self._process: Process | None = None

    @property
    def name(self) -> str:
        return self.place.name

    @property
    def endpoint(self) -> str:
        """Where clients reach it, as a URL."""
        scheme = "https" if self.recipe.tls else "http"
        return f"{scheme}://{self.place.address}:{self.place.client_port}"

    @property
    def running(self) -> bool:
        """Whether the process exists; a paused one does."""
        return self._process is not None and self._process.running

    @property
    def log(self) -> Path:
        return self.recipe.logs / f"{self.name}.log"

    def start(self) -> None:
        """Start the process, which is not running; `Etcd.wait_ready` tells when it answers."""
        assert not self.running, f"{self.name} already runs"
        self._process = self.recipe.launcher.spawn(
            self.recipe.argv(self.place), log=self.log, namespace=self.place.namespace
        )

    def stop(self) -> Moment:
        """SIGTERM, and wait for the end."""
        return self._end(signal.SIGTERM)

    def kill(self) -> Moment:
        """SIGKILL, and wait for the end."""
        return self._end(signal.SIGKILL)

    def pause(self) -> Moment:
        """SIGSTOP: its connections stay open, and nothing answers."""
        before = now()
        self._must_run().pause()
        return Moment(before, now())

    def resume(self) -> Moment:
        """SIGCONT."""
        before = now()
        self._must_run().resume()
        return Moment(before, now())

    def healthy(self) -> bool:
        """Whether it answers, and sees a leader."""
        return '"true"' in (self._get("/health") or "")

    def leads(self) -> bool:
        """Whether it says that it is the leader."""
        return "\netcd_server_is_leader 1" in (self._get("/metrics") or "")

    def begin_end(self, number: int) -> None:
        """Send the signal that shall end it, and do not wait; nothing happens if it does not run."""
        if self._process is not None:
            self._process.signal(number)
            # What is paused must be continued to see a SIGTERM.
            self._process.resume()

    def wait_end(self) -> None:
        """Wait until it has ended."""
        if self._process is not None:
            self._process.wait()

    def _end(self, number: int) -> Moment:
        before = now()
        self.begin_end(number)
        self.wait_end()
        return Moment(before, now())

    def _must_run(self) -> Process:
        if self._process is None or not self._process.running:
            raise LabError(f"{self.name}: is not running")
        return self._process

    def _get(self, path: str) -> str | None:
        if not self.running:
            return None
        with contextlib.suppress(OSError, http.client.HTTPException), namespaces.inside(self.place.namespace):
            connection = http.client.HTTPConnection("127.0.0.1", self.place.metrics_port, timeout=0.5)
            with contextlib.closing(connection):
                connection.request("GET", path)
                return connection.getresponse().read().decode()
        return None


class Etcd:
    """The cluster of all members."""

    def __init__(self, places: Sequence[Place], recipe: Recipe) -> None:
        self._recipe = recipe
        self.members = tuple(Member(place, recipe) for place in places)
        self.credentials: tuple[str, str] | None = None

    @property
    def tls(self) -> Tls | None:
        """What a client needs to speak TLS; None if there is none."""
        return self._recipe.tls

    @property
    def endpoints(self) -> tuple[str, ...]:
        """A URL for each member."""
        return tuple(member.endpoint for member in self.members)

    def start(self) -> None:
        """Start the members that do not run, and wait until all answer."""
        for member in self.members:
            if not member.running:
                member.start()
        self.wait_ready()

    def wait_ready(self, timeout: float = 15.0) -> None:
        """Wait until every running member answers; LabError after `timeout` seconds."""
        give_up = time.monotonic() + timeout
        waiting = [member for member in self.members if member.running]
        while waiting := [member for member in waiting if not member.healthy()]:
            dead = [member for member in waiting if not member.running]
            if dead or time.monotonic() > give_up:
                member = (dead or waiting)[0]
                tail = member.log.read_text(errors="replace").splitlines()[-3:]
                raise LabError(f"etcd {member.name} does not answer: {' / '.join(tail)}")
            time.sleep(0.01)

    def stop(self) -> Moment:
        """Stop every member, all at once."""
        return self._end(signal.SIGTERM)

    def kill(self) -> Moment:
        """Kill every member, all at once."""
        return self._end(signal.SIGKILL)

    def pause(self) -> Moment:
        """Pause every running member."""
        before = now()
        for member in self.members:
            if member.running:
                member.pause()
        return Moment(before, now())

    def resume(self) -> Moment:
        """Resume every running member."""
        before = now()
        for member in self.members:
            if member.running:
                member.resume()
        return Moment(before, now())

    def wipe(self) -> None:
        """Kill every member, throw all data away, start anew and wait until all answer."""
        self.kill()
        for member in self.members:
            shutil.rmtree(self._recipe.data(member.name), ignore_errors=True)
        self.credentials = None
        self.start()

    def save(self, snapshot: Path) -> None:
        """Write what it knows now to a file."""
        snapshot.unlink(missing_ok=True)
        self.ctl("snapshot", "save", str(snapshot))

    def go_back(self, snapshot: Path) -> None:
        """Kill every member, have all know what a snapshot says and nothing else, and start them; do not wait."""
        self.kill()
        cluster = ",".join(f"{p.name}=http://{p.address}:{p.peer_port}" for p in self._recipe.places)
        for place in self._recipe.places:
            data = self._recipe.data(place.name)
            shutil.rmtree(data, ignore_errors=True)
            options = [f"--name={place.name}", f"--data-dir={data}", f"--initial-cluster={cluster}"]
            options.append(f"--initial-advertise-peer-urls=http://{place.address}:{place.peer_port}")
            argv = ["etcdctl", "snapshot", "restore", str(snapshot), *options]
            run(argv, env={**os.environ, "ETCDCTL_API": "3"})
        for member in self.members:
            member.start()

    def leader(self, timeout: float = 10.0) -> Member:
        """The member that leads; waits for an election to end, LabError after `timeout` seconds."""
        give_up = time.monotonic() + timeout
        while time.monotonic() < give_up:
            for member in self.members:
                if member.leads() and member.healthy():
                    return member
            time.sleep(0.01)
        raise LabError(f"etcd has no leader after {timeout} s")

    def compact(self) -> int:
        """Forget all history before the newest revision, and return that revision."""
        text = self.ctl("put", "haagent-lab/compaction", "", "--write-out=fields")
        revision = next(line.partition(":")[2] for line in text.splitlines() if '"Revision"' in line)
        self.ctl("compact", revision.strip())
        return int(revision)

    def limit(self, quota: int) -> None:
        """Restart every member with a database of so many bytes at most, and wait until all answer."""
        self.stop()
        self._recipe = dataclasses.replace(self._recipe, quota=quota)
        for member in self.members:
            member.recipe = self._recipe
        self.start()

    def fill(self) -> None:
        """Write until etcd has no space left, and raises its alarm NOSPACE. It must have a small quota."""
        filler = "x" * 500_000
        for number in range(100):
            try:
                self.ctl("put", f"haagent-lab/filler/{number}", stdin=filler)
            except LabError as error:
                if "database space exceeded" in str(error):
                    return
                raise
        raise LabError("etcd took 50 MB, and is not full")

    def make_room(self) -> None:
        """What an operator does then: delete, compact, defragment, disarm the alarm."""
        self.ctl("del", "--prefix", "haagent-lab/filler/")
        shown = json.loads(self.ctl("endpoint", "status", "--write-out=json"))
        self.ctl("compact", str(shown[0]["Status"]["header"]["revision"]))
        for member in self.members:
            self.ctl("defrag", f"--endpoints={member.endpoint}")
        self.ctl("alarm", "disarm")

    def require_password(self, user: str, password: str) -> None:
        """Switch authentication on, with `user` as an administrator; `ctl` uses it from then on."""
        self.ctl("user", "add", f"root:{password}")
        self.ctl("user", "grant-role", "root", "root")
        if user != "root":
            self.ctl("user", "add", f"{user}:{password}")
            self.ctl("user", "grant-role", user, "root")
        self.ctl("auth", "enable")
        self.credentials = (user, password)

    def ctl(self, *words: str, stdin: str = "") -> str:
        """Run etcdctl against all members, from where the first one lives, and return what it prints."""
        options = [f"--endpoints={','.join(self.endpoints)}"]
        if self.tls:
            options += [f"--cacert={self.tls.ca}"]
            options += [f"--cert={self.tls.client.certificate}", f"--key={self.tls.client.key}"]
        if self.credentials:
            options += [f"--user={':'.join(self.credentials)}"]
        namespace = self.members[0].place.namespace
        into = [] if namespace is None else ["ip", "netns", "exec", namespace]
        argv = [*into, "etcdctl", *options, *words]
        return run(argv, env={**os.environ, "ETCDCTL_API": "3"}, stdin=stdin).stdout

    def _end(self, number: int) -> Moment:
        before = now()
        for member in self.members:
            # Each is told before any is waited for; a lone member that saw the others go would hold an
            # election.
            member.begin_end(number)
        for member in self.members:
            member.wait_end()
        return Moment(before, now())


@contextlib.contextmanager
def loopback_etcd(members: int = 1, *, tls: bool = False, demand_client_certificate: bool = False) -> Generator[Etcd]:
    """An etcd on 127.0.0.1, on free ports, that answers; gone, with its data, when the block ends."""
    launcher = Launcher()
    directory = namespaces.new_directory(namespaces.new_prefix())
    try:
        ports = _free_ports(3 * members)
        places = [Place(f"e{n + 1}", None, "127.0.0.1", *ports[3 * n : 3 * n + 3]) for n in range(members)]
        made = None
        if tls:
            made = make_tls(directory / "tls", (), demand_client_certificate=demand_client_certificate)
        etcd = Etcd(places, Recipe(launcher, directory, directory, tuple(places), made))
        etcd.start()
        yield etcd
    finally:
        launcher.close()
        shutil.rmtree(directory, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    """Ports that nobody listens on. Somebody else may take one before it is used; then the start fails, and
    says so.

    None of those that the kernel gives to connections (net.ipv4.ip_local_port_range, from 32768 on): while a member
    is down its port would be one of them, even for whoever tries to connect to it.
    """
    found: list[int] = []
    while len(found) < count:
        port = random.randrange(20_000, 32_768)
        with contextlib.closing(socket.socket()) as opened, contextlib.suppress(OSError):
            opened.bind(("127.0.0.1", port))
            if port not in found:
                found.append(port)
    return found
