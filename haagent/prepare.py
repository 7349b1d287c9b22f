"""A configuration that can be run: the file, and all that it names, looked at before anything is changed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from haagent import __version__
from haagent.adapters.etcd import EtcdSettings, EtcdSettingsError, check
from haagent.adapters.fencing import UnfitError, inspect
from haagent.api.credentials import Credentials, CredentialsError, load
from haagent.api.peers import Greeting, GrpcPeers
from haagent.config.build import Config
from haagent.config.build import EtcdSettings as EtcdKeys
from haagent.config.load import Invalid, Loaded
from haagent.config.read import read, read_etcd
from haagent.core.units import S
from haagent.onhost import look
from haagent.runtime.ports import Deliver


def prepare(path: Path) -> Loaded | Invalid:
    """Read the file and all that it names; what is loaded can be run."""
    loaded = read(path)
    if isinstance(loaded, Loaded):
        try:
            check(etcd_settings(loaded.config))
        except EtcdSettingsError as error:
            return Invalid((f"{path.name}: etcd: {error}",))
        try:
            if loaded.config.fencing is not None:
                inspect(loaded.config.fencing)
        except UnfitError as error:
            return Invalid((f"{path.name}: fence.exec: {error}",))
        for section, found in (("peers", peers_credentials), ("control", control_credentials)):
            try:
                found(loaded.config)
            except CredentialsError as error:
                return Invalid((f"{path.name}: {section}.{error}",))
        errors, warnings = look(loaded.config)
        if errors:
            return Invalid(tuple(f"{path.name}: {line}" for line in errors))
        return replace(loaded, warnings=(*loaded.warnings, *(f"{path.name}: {line}" for line in warnings)))
    return loaded


def prepare_etcd(path: Path) -> EtcdSettings | Invalid:
    """How etcd is reached, as far as the file says that; it need not describe a whole node."""
    found = read_etcd(path)
    if isinstance(found, Invalid):
        return found
    made = _etcd_settings(*found)
    try:
        check(made)
    except EtcdSettingsError as error:
        return Invalid((f"{path.name}: etcd: {error}",))
    return made


def etcd_settings(config: Config) -> EtcdSettings:
    """For the adapter."""
    return _etcd_settings(config.cluster, config.etcd)


def _etcd_settings(cluster: str, keys: EtcdKeys) -> EtcdSettings:
    return EtcdSettings(
        endpoints=keys.endpoints,
        cluster=cluster,
        ca=_path(keys.ca),
        certificate=_path(keys.cert),
        key=_path(keys.key),
        user=keys.user,
        password=keys.password,
        password_file=_path(keys.password_file),
        compact_after=keys.compact_after / S,
    )


def peers_credentials(config: Config) -> Credentials | None:
    """For talking with peers; None: in plain text, or not at all. CredentialsError if the files can not work."""
    keys = config.peers
    if keys is None or keys.ca is None or keys.cert is None or keys.key is None:
        return None
    return load(Path(keys.ca), Path(keys.cert), Path(keys.key), config.node)


def control_credentials(config: Config) -> Credentials | None:
    """For listening to operators over TCP; None: nobody does. CredentialsError if the files can not work.

    Which name they are for is not looked at: operators go by the name of the host, whatever that is to them.
    """
    keys = config.control
    if keys.listen is None or keys.ca is None or keys.cert is None or keys.key is None:
        return None
    return load(Path(keys.ca), Path(keys.cert), Path(keys.key), None)


def peers_of(config: Config, incarnation: str, deliver: Deliver) -> GrpcPeers | None:
    """The port at which this start of the agent talks with its peers; None: it has none."""
    if config.peers is None:
        return None
    ours = Greeting(config.cluster, config.node, incarnation, __version__)
    return GrpcPeers(ours, config.peers.listen, peers_credentials(config), deliver)


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
