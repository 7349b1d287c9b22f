"""A configuration that can be run: the file, and all that it names, looked at before anything is changed."""

from __future__ import annotations

from pathlib import Path

from haagent.adapters.etcd.settings import EtcdSettings, EtcdSettingsError, targets
from haagent.adapters.fencing import UnfitError, inspect
from haagent.config.build import Config
from haagent.config.load import Invalid, Loaded
from haagent.config.read import read


def prepare(path: Path) -> Loaded | Invalid:
    """Read the file and all that it names; what is loaded can be run."""
    loaded = read(path)
    if isinstance(loaded, Loaded):
        try:
            targets(etcd_settings(loaded.config))
        except (EtcdSettingsError, OSError, UnicodeDecodeError) as error:
            return Invalid((f"{path.name}: etcd: {error}",))
        try:
            if loaded.config.fencing is not None:
                inspect(loaded.config.fencing)
        except UnfitError as error:
            return Invalid((f"{path.name}: fence.exec: {error}",))
    return loaded


def etcd_settings(config: Config) -> EtcdSettings:
    """For the adapter. OSError or UnicodeDecodeError if the password can not be read."""
    keys = config.etcd
    password = keys.password
    if keys.password_file is not None:
        password = Path(keys.password_file).read_text().rstrip("\r\n")
    return EtcdSettings(
        endpoints=keys.endpoints,
        cluster=config.cluster,
        ca=_path(keys.ca),
        certificate=_path(keys.cert),
        key=_path(keys.key),
        user=keys.user,
        password=password,
    )


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)
