"""What a reload may not change, and what it says of what it may."""

from __future__ import annotations

from textwrap import dedent

from haagent.config.build import Config
from haagent.config.changes import difference, needs_restart
from haagent.config.load import Loaded, load

TEXT = """
    cluster: prod
    etcd: {endpoints: [http://10.0.0.1:2379]}
    virtual_routers:
      - {name: web, vrid: 51, interface: eth0, addresses: [10.0.0.100]}
"""
PEERS = "    peers: {listen: '10.0.0.1:8501', ca: a, cert: b, key: c}\n"


def config(more: str = "") -> Config:
    loaded = load(dedent(TEXT + more).lstrip("\n"), "haagent.yaml", "n1")
    assert isinstance(loaded, Loaded), loaded.errors
    return loaded.config


def test_where_peers_are_listened_for_needs_a_restart():
    assert needs_restart(config(), config(PEERS)) == ["peers.listen"]
    assert needs_restart(config(PEERS), config(PEERS.replace("8501", "8502"))) == ["peers.listen"]
    plain = PEERS.replace("ca: a, cert: b, key: c", "insecure: true")
    assert needs_restart(config(PEERS), config(plain)) == ["peers.insecure"]


def test_where_they_find_us_and_how_we_prove_who_we_are_does_not():
    new = config(PEERS.replace("ca: a", "ca: new, advertise: 'n1:1'") + "    failsafe: {max: 1m}\n")
    assert needs_restart(config(PEERS), new) == []
    assert difference(config(PEERS), new) == "peers; failsafe"
