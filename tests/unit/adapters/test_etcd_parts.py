"""The etcd adapter's parts that need no etcd: settings, what failures mean, histories that break off."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from aetcd import rpc

from haagent.adapters.etcd import EtcdSettings, EtcdSettingsError, EtcdStore
from haagent.adapters.etcd.failures import Trouble, failure
from haagent.adapters.etcd.lineage import Lineage
from haagent.adapters.etcd.requests import transaction
from haagent.adapters.etcd.settings import targets
from haagent.core.model import Ask, Asking, Commit
from haagent.core.records import HistoryEntry, Key, Kind, Put
from haagent.core.units import S


def settings(*endpoints: str, **more: Any) -> EtcdSettings:
    return EtcdSettings(endpoints, "c", **more)


@pytest.mark.parametrize(
    "endpoint, address, tls",
    [
        ("http://10.0.0.1:2379", "10.0.0.1:2379", False),
        ("https://etcd.example:2379/", "etcd.example:2379", True),
        ("10.0.0.1:2379", "10.0.0.1:2379", False),
        ("http://[fd00::1]:2379", "[fd00::1]:2379", False),
    ],
)
def test_endpoints(endpoint: str, address: str, tls: bool):
    target = targets(settings(endpoint))[0]
    assert target.name == address
    assert target.tls is tls


@pytest.mark.parametrize(
    "endpoint", ["", "10.0.0.1", "ftp://a:1", "http://a:0", "http://a:65536", "http://a:1/b", "http://fd00::1:1"]
)
def test_endpoints_that_are_none(endpoint: str):
    with pytest.raises(EtcdSettingsError, match="endpoints: "):
        targets(settings(endpoint))


def test_settings_that_can_not_work_say_why(tmp_path: Path):
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    for wrong, why in (
        (settings(), "endpoints: none given"),
        (settings("a:1", user="u"), "user and password: give both or neither"),
        (settings("a:1", certificate=broken), "certificate and key: give both or neither"),
        (settings("a:1", ca=tmp_path / "none.pem"), "none.pem: No such file or directory"),
        (settings("a:1", ca=broken), "broken.pem: no certificate in PEM form"),
        (settings("a:1", certificate=broken, key=broken), "certificate and key: .*broken.pem"),
        (settings("http://a:1", ca=broken), "write https://"),
    ):
        with pytest.raises(EtcdSettingsError, match=why):
            EtcdStore(wrong, lambda _: None)


def test_a_password_is_not_shown():
    assert "secret" not in repr(settings("a:1", user="u", password="secret"))


@pytest.mark.parametrize(
    "code, details, trouble",
    [
        (grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses; last error: x", Trouble.UNKNOWN),
        (grpc.StatusCode.UNAVAILABLE, "Socket closed", Trouble.UNKNOWN),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: leader changed", Trouble.UNKNOWN),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out", Trouble.UNKNOWN),
        (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader", Trouble.TURNED_AWAY),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, "etcdserver: too many requests", Trouble.TURNED_AWAY),
        (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded", Trouble.UNKNOWN),
        (grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token", Trouble.TOKEN),
        (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: user name is empty", Trouble.TOKEN),
        (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found", Trouble.LEASE_GONE),
        (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied", Trouble.REFUSED),
        (grpc.StatusCode.INTERNAL, "", Trouble.UNKNOWN),
    ],
)
def test_only_what_etcd_says_is_taken_for_not_done(code: grpc.StatusCode, details: str, trouble: Trouble):
    metadata = grpc.aio.Metadata()
    error = failure(grpc.aio.AioRpcError(code, metadata, metadata, details))
    assert error.trouble is trouble
    assert error.why


def test_what_grpc_raises_besides_is_a_failure_too():
    assert failure(grpc.aio.UsageError("closed")).trouble is Trouble.UNKNOWN


def header(cluster: int, revision: int) -> rpc.ResponseHeader:
    made = rpc.ResponseHeader()
    made.cluster_id, made.revision = cluster, revision
    return made


def test_a_history_goes_on():
    lineage = Lineage()
    assert lineage.has(header(7, 1), lineage.mark())
    assert lineage.begin(header(7, 10), lineage.mark()) == "7"
    mark = lineage.mark()
    lineage.saw(12)
    assert lineage.has(header(7, 11), mark)
    assert lineage.begin(header(7, 12), lineage.mark()) == "7"


def test_a_question_older_than_any_list_fits_what_was_listed():
    lineage = Lineage()
    asked = lineage.mark()
    lineage.begin(header(7, 10), lineage.mark())
    assert lineage.has(header(7, 9), asked)
    assert not lineage.has(header(8, 9), asked)


def test_revisions_that_go_back_are_another_history():
    lineage = Lineage()
    lineage.begin(header(7, 10), lineage.mark())
    asked = lineage.mark()
    assert not lineage.has(header(7, 9), asked)
    assert not lineage.has(header(8, 11), asked)
    assert lineage.begin(header(7, 3), lineage.mark()) == "7.1"
    assert lineage.has(header(7, 3), lineage.mark())
    # Asked about what was before: whatever the answer is, it is not about what is now.
    assert not lineage.has(header(7, 11), asked)


def test_a_history_that_ended_by_what_its_keys_show_has_no_more_answers():
    """The same cluster id, and ahead: nothing in a header tells."""
    lineage = Lineage()
    lineage.begin(header(7, 10), lineage.mark())
    asked = lineage.mark()
    lineage.end()
    assert not lineage.has(header(7, 99), asked)
    assert lineage.has(header(7, 99), lineage.mark())
    assert lineage.begin(header(7, 99), lineage.mark()) == "7.1"


def test_a_list_that_a_commit_overtook_is_no_break():
    lineage = Lineage()
    lineage.begin(header(7, 10), lineage.mark())
    asked = lineage.mark()
    lineage.saw(20)
    assert lineage.begin(header(7, 15), asked) == "7"
    assert not lineage.has(header(7, 19), lineage.mark())


def test_another_cluster_is_another_history():
    lineage = Lineage()
    lineage.begin(header(7, 10), lineage.mark())
    assert lineage.begin(header(8, 20), lineage.mark()) == "8"
    assert lineage.begin(header(7, 11), lineage.mark()) == "7"


def test_all_that_a_transaction_writes_has_one_date():
    """So many puts take longer to build than the date's millisecond."""
    puts = tuple(Put(Key(Kind.HISTORY, f"web/{epoch}"), HistoryEntry("a", epoch, "test")) for epoch in range(1, 2001))
    effect = Commit(Ask(Asking.CLAIM, "web", 1), (), puts, (), patience=S)
    written: Any = transaction("c", effect, session=0)
    dates = re.findall(rb'"since":"([^"]+)"', written.SerializeToString())
    assert len(dates) == 2000
    assert len(set(dates)) == 1
