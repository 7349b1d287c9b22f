"""The lab's etcd: it answers, and can be stopped, paused, killed, compacted, wiped, locked; its leader too."""

from __future__ import annotations

import os

import pytest

from haagent.lab.commands import LabError
from haagent.lab.etcd import Etcd, loopback_etcd
from tests.integration.conftest import MakeLab

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


def value(etcd: Etcd, key: str) -> str:
    return etcd.ctl("get", key, "--print-value-only").strip()


def test_data_outlives_stop_and_kill_but_not_a_wipe(make_lab: MakeLab) -> None:
    etcd = make_lab(hosts=1, etcd=1).etcd
    etcd.ctl("put", "a", "1")
    for end in (etcd.stop, etcd.kill):
        moment = end()
        assert moment.before <= moment.after
        assert not etcd.members[0].running
        etcd.start()
        assert value(etcd, "a") == "1"
    etcd.wipe()
    assert value(etcd, "a") == ""


def test_a_paused_member_does_not_answer_until_it_is_resumed() -> None:
    with loopback_etcd() as etcd:
        (member,) = etcd.members
        etcd.pause()
        assert member.running
        assert not member.healthy()
        etcd.resume()
        etcd.wait_ready()
        etcd.pause()
        etcd.stop()
        assert not member.running
        with pytest.raises(LabError, match="is not running"):
            member.pause()


def test_compaction_forgets_history() -> None:
    with loopback_etcd() as etcd:
        etcd.ctl("put", "a", "1")
        etcd.ctl("put", "a", "2")
        revision = etcd.compact()
        assert revision > 2
        assert value(etcd, "a") == "2"
        with pytest.raises(LabError, match="compacted"):
            etcd.ctl("get", "a", "--rev=2")


def test_three_members_elect_another_leader_when_theirs_is_killed(make_lab: MakeLab) -> None:
    etcd = make_lab(hosts=1, etcd=3).etcd
    etcd.ctl("put", "a", "1")
    leader = etcd.leader()
    leader.kill()
    assert etcd.leader() is not leader
    assert value(etcd, "a") == "1"
    leader.start()
    etcd.wait_ready()


def test_tls_and_passwords() -> None:
    with loopback_etcd(tls=True, demand_client_certificate=True) as etcd:
        assert etcd.endpoints[0].startswith("https://127.0.0.1:")
        etcd.ctl("put", "a", "1")
        etcd.require_password("haagent", "secret")
        assert value(etcd, "a") == "1"
        # Without the password, all that the server knows is the name in the certificate, and that is nobody.
        etcd.credentials = None
        with pytest.raises(LabError, match="permission denied"):
            etcd.ctl("get", "a")
