"""The lab: hosts, an etcd and a client on two networks, all in namespaces; faults, and their undoing.

    with Lab(hosts=3, etcd=1) as lab:
        n1 = lab.host("n1")
        agent = n1.spawn(["haagent", "run", "-c", "n1.yaml"])
        prober = lab.probe([vip4()])
        fault = lab.cut_from_etcd(n1)
        prober.wait_for_answer(vip4(), after=fault.moment.after, other_than="n1")
        fault.undo()

Nothing of it touches the machine's own network. It is gone when the block ends, also by an exception, Ctrl-C
or SIGTERM; if this process is killed, its processes die with it and the next lab removes the namespaces.
`topology.py` has the networks, names and addresses. It needs root, and the programs ip, nft, setpriv and
etcd.
"""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from haagent.core.units import Duration
from haagent.lab import namespaces, topology
from haagent.lab.commands import LabError, Moment, ip_batch
from haagent.lab.etcd import Etcd
from haagent.lab.etcd_setup import Place, Recipe, make_tls
from haagent.lab.faults import Direction, Drop, around, between
from haagent.lab.host import Host
from haagent.lab.prober import DEFAULT_STEP, Asker, Prober
from haagent.lab.probing import PathOrders
from haagent.lab.process import Launcher
from haagent.lab.signals import Deferred, end_on_sigterm
from haagent.lab.switch import Fault, Switch
from haagent.lab.topology import Extra, Network, Port, Station


class Lab:
    """Hosts `n1`.. , etcd members `e1`.. (none, one or three) and the client `c1`; a context manager.

    `seed` seeds `random`, for whoever lets chance choose (the kernel's dice for packet loss are its own).
    `extras` are what every host has beside its two interfaces.
    `logs` is a directory in which every process's output stays; without it, logs are kept only if an
    exception ends the block, and its note says where. `tls` has etcd's clients speak TLS.

    Raises LabError if something of it can not be made.
    """

    def __init__(
        self,
        hosts: int = 3,
        etcd: int = 1,
        *,
        seed: int | None = None,
        logs: Path | None = None,
        tls: bool = False,
        extras: Collection[Extra] = (),
    ) -> None:
        if extras and hosts > topology.MOST_WITH_EXTRAS:
            raise LabError(f"{hosts} hosts with extras: must be at most {topology.MOST_WITH_EXTRAS}")
        if not 1 <= hosts <= topology.MOST_HOSTS:
            raise LabError(f"{hosts} hosts: must be 1 to {topology.MOST_HOSTS}")
        if etcd not in (0, 1, 3):
            raise LabError(f"{etcd} etcd members: must be 0, 1 or 3")
        self.seed = random.randrange(1 << 32) if seed is None else seed
        self.random = random.Random(self.seed)
        self._prefix = namespaces.new_prefix()
        given = frozenset(extras)
        self._stations = [
            *(topology.host(index + 1, given) for index in range(hosts)),
            *(topology.etcd_station(index + 1) for index in range(etcd)),
            topology.client(),
            topology.observer(),
        ]
        self._tls = tls
        self._logs = logs
        self._cleanup = ExitStack()
        self._signals = ExitStack()
        self._probers = 0

    def __enter__(self) -> Lab:
        self._signals.enter_context(end_on_sigterm())
        try:
            namespaces.sweep()
            self._build()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._signals, Deferred():
            self._cleanup.__exit__(kind, error, trace)

    def host(self, name: str) -> Host:
        """The station of that name: `n2`, `c1`, `e1`; LabError if there is none."""
        if name not in self._hosts:
            raise LabError(f"{name}: no such host, there are {', '.join(self._hosts)}")
        return self._hosts[name]

    @property
    def hosts(self) -> tuple[Host, ...]:
        """The hosts that agents run on, `n1` first."""
        return tuple(host for name, host in self._hosts.items() if name.startswith("n"))

    @property
    def client(self) -> Host:
        return self._hosts["c1"]

    @property
    def etcd(self) -> Etcd:
        """The etcd cluster; LabError if the lab was made without one."""
        if not self._etcd.members:
            raise LabError("this lab has no etcd")
        return self._etcd

    @property
    def faults(self) -> tuple[Fault, ...]:
        """What is in force, oldest first."""
        return tuple(self._switch.faults)

    def probe(self, vips: Sequence[str], *, step: Duration = DEFAULT_STEP) -> Prober:
        """Have the client ask every host for these addresses from now on, until it is stopped or the lab ends."""
        return self._probe(vips, step, {})

    def observe(self, vips: Sequence[str], *, step: Duration = DEFAULT_STEP) -> Prober:
        """As `probe`, and have every host asked by every path that a client may use."""
        paths = (each for host in self.hosts for each in self._paths(host))
        return self._probe(vips, step, dict(paths))

    def _probe(self, vips: Sequence[str], step: Duration, paths: Mapping[str, PathOrders]) -> Prober:
        self._probers += 1
        directory = self.directory / f"prober-{self._probers}"
        directory.mkdir()
        return Prober(
            self.client.spawn,
            directory,
            asker=Asker(self.client.namespace, self.client.ip, self.client.ip6, step),
            vips=vips,
            hosts={host.name: host.mac for host in self.hosts},
            paths=paths,
        )

    def _paths(self, host: Host) -> Iterator[tuple[str, PathOrders]]:
        """The cables by which a host is asked, by name, each with the MAC addresses that are at its other end."""
        askers = {port.network: port for port in topology.observer().ports}
        for port in host.station.ports:
            if port.network is not Network.CONTROL:
                macs = [port.mac]
                if port.interface == "eth0" and Extra.MACVLAN in host.station.extras:
                    macs.append(topology.macvlan_mac(host.station))
                asker = askers[port.network]
                yield f"{host.name} {port.interface}", _path(host, self._switch.namespace, port.name, asker, macs)
        if Extra.CONTAINER in host.station.extras:
            (asker,) = topology.container(int(host.name[1:])).ports
            macs = [topology.container_side_mac(host.station)]
            yield f"{host.name} container", _path(host, self._container(host.station), "eth0", asker, macs)

    def _container(self, station: Station) -> str:
        return f"{self._prefix}-k{station.name[1:]}"

    # Faults. Each is in force when its method returns; `Fault.moment` says when it began.

    def cut(self, source: Host, target: Host, *, network: Network | None = None, vrrp_only: bool = False) -> Fault:
        """Drop what goes from `source` to `target`, one way, on one network or on both."""
        drops: list[Drop] = []
        for each in Network if network is None else (network,):
            ports = source.station.port_names(each), target.station.port_names(each)
            drops += between(*ports, Direction.OUT, vrrp_only=vrrp_only)
        return self._fault(f"{source.name} cut off from {target.name}, one way", drops)

    def cut_from_etcd(self, host: Host, direction: Direction = Direction.BOTH) -> Fault:
        """Drop what goes between a host and every etcd member; OUT is towards etcd."""
        members = self._others(Network.CONTROL, "e")
        drops = between(host.station.port_names(Network.CONTROL), members, direction)
        return self._fault(f"{host.name} cut off from etcd ({direction.value})", drops)

    def cut_peers(self, host: Host, direction: Direction = Direction.BOTH) -> Fault:
        """Drop what goes between a host and the other hosts, on both networks; etcd and the client stay
        reachable.
        """
        drops: list[Drop] = []
        for network in Network:
            others = self._others(network, "n", but=host)
            drops += between(host.station.port_names(network), others, direction)
        return self._fault(f"{host.name} cut off from its peers ({direction.value})", drops)

    def cut_vrrp(self, host: Host, direction: Direction = Direction.BOTH) -> Fault:
        """Drop VRRP, and nothing else, between a host and the other hosts."""
        others = self._others(Network.SERVICE, "n", but=host)
        drops = between(host.station.port_names(Network.SERVICE), others, direction, vrrp_only=True)
        return self._fault(f"VRRP of {host.name} lost ({direction.value})", drops)

    def isolate(self, host: Host, direction: Direction = Direction.BOTH) -> Fault:
        """Drop everything that leaves a host, or that would reach it, or both; its links stay up."""
        drops = around(host.station.port_names(), direction)
        return self._fault(f"{host.name} cut off from everything ({direction.value})", drops)

    def lose_packets(
        self,
        host: Host,
        percent: float,
        direction: Direction = Direction.BOTH,
        network: Network | None = None,
    ) -> Fault:
        """Drop each frame from and to a host with this probability, above 0 and at most 100 percent."""
        drops = around(host.station.port_names(network), direction, percent)
        return self._fault(f"{host.name} loses {percent} % ({direction.value})", drops)

    def link_down(self, host: Host, network: Network | None = None) -> Fault:
        """Pull a host's cables, on one network or on both: the host sees that it has no carrier."""
        return Fault(self._switch, f"link of {host.name} down", ports_down=host.station.port_names(network))

    def lose_host(self, host: Host) -> Fault:
        """The host is gone: cables first, at `moment`; then every process, and its kernel's state.

        Undone, it comes back as after a reboot: with its own addresses, nothing else, and no process.
        """
        ports = host.station.port_names()
        fault = Fault(self._switch, f"{host.name} lost", drops=around(ports, Direction.BOTH), ports_down=ports)
        namespaces.kill_inside([host.namespace])
        self._switch.unplug(host.station)
        if Extra.CONTAINER in host.station.extras:  # the kernel takes its time to do this with the namespace
            ip_batch(["link del eth0"], namespace=self._container(host.station))
        namespaces.destroy([host.namespace])

        def boot() -> None:
            namespaces.create([host.namespace])
            self._switch.plug([(host.station, host.namespace)])
            self._configure(host.station, host.namespace)

        fault.before_undo = boot
        return fault

    def heal(self) -> Moment:
        """Undo every fault; those that only concern frames and links all at one moment, the last."""
        for fault in self.faults:
            if fault.before_undo is not None:
                fault.before_undo()
        return self._switch.remove(*self.faults)

    def _fault(self, what: str, drops: Sequence[Drop]) -> Fault:
        if not drops:
            raise LabError(f"{what}: there is nobody to cut off")
        return Fault(self._switch, what, drops=drops)

    def _others(self, network: Network, kind: str, but: Host | None = None) -> tuple[str, ...]:
        return tuple(
            port
            for station in self._stations
            if station.name.startswith(kind) and (but is None or station.name != but.name)
            for port in station.port_names(network)
        )

    # Making it, and unmaking it in reverse order.

    def _build(self) -> None:
        self.directory = namespaces.new_directory(self._prefix)
        self._cleanup.callback(shutil.rmtree, self.directory, ignore_errors=True)
        self.logs = self.directory / "logs" if self._logs is None else self._logs
        self.logs.mkdir(parents=True, exist_ok=True)
        if self._logs is None:
            self._cleanup.push(self._keep_logs)

        names = {station.name: f"{self._prefix}-{station.name}" for station in self._stations}
        switch = f"{self._prefix}-sw"
        inside = [self._container(station) for station in self._stations if Extra.CONTAINER in station.extras]
        self._cleanup.callback(namespaces.destroy, [*inside, *names.values(), switch])
        namespaces.create([switch, *inside, *names.values()])
        self._switch = Switch(switch)
        self._switch.build([(station, names[station.name]) for station in self._stations])
        for station in self._stations:
            self._configure(station, names[station.name])

        launcher = Launcher()
        self._cleanup.callback(launcher.close)
        self._hosts = {
            station.name: Host(station, names[station.name], launcher, self.logs) for station in self._stations
        }
        self._etcd = self._start_etcd(launcher)

    def _configure(self, station: Station, namespace: str) -> None:
        ip_batch(topology.station_commands(station), namespace=namespace)
        namespaces.set_sysctls(namespace, _NO_LIMITS)
        if Extra.ROUTED in station.extras or Extra.CONTAINER in station.extras:
            namespaces.set_sysctls(namespace, _ROUTER)
        if Extra.CONTAINER in station.extras:
            container, index = self._container(station), int(station.name[1:])
            ip_batch(topology.container_commands(station, container), namespace=namespace)
            own = (*topology.station_commands(topology.container(index)), *topology.routes_of_container(index))
            ip_batch(own, namespace=container)

    def _start_etcd(self, launcher: Launcher) -> Etcd:
        members = [host for name, host in self._hosts.items() if name.startswith("e")]
        places = tuple(Place(host.name, host.namespace, host.control_ip) for host in members)
        made = make_tls(self.directory / "tls", [p.address for p in places]) if self._tls else None
        etcd = Etcd(places, Recipe(launcher, self.directory, self.logs, places, made))
        etcd.start()
        return etcd

    def _keep_logs(
        self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        # Who interrupts a lab does not ask for logs.
        if isinstance(error, Exception) and any(log.stat().st_size for log in self.logs.iterdir()):
            # Not a name that the next lab would sweep.
            kept = Path(tempfile.gettempdir()) / f"haagent-logs-of-{self._prefix}"
            shutil.copytree(self.logs, kept)
            error.add_note(f"the lab's logs are kept in {kept}")


def _path(host: Host, namespace: str, interface: str, asker: Port, macs: Sequence[str]) -> PathOrders:
    ipv4, ipv6 = (address.partition("/")[0] for address in asker.addresses)
    return PathOrders(
        host=host.name,
        namespace=namespace,
        interface=interface,
        asker=asker.mac.replace(":", ""),
        ipv4=ipv4,
        ipv6=ipv6,
        macs=[mac.replace(":", "") for mac in macs],
    )


# An answer every millisecond or two is not a flood.
_NO_LIMITS = {
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_ratemask": "0",
    "net/ipv6/icmp/ratelimit": "0",
}
_ROUTER = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
