"""Finding somebody who answers: the agents in turn, then etcd."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import click

from haagent.cli.ctl.agent import Agent
from haagent.cli.ctl.errors import RefusedError, UnreachableError
from haagent.cli.ctl.options import Options
from haagent.cli.ctl.reach import Reach, reach
from haagent.cli.ctl.service import GET_STATUS, Service
from haagent.v1 import control_pb2 as control
from haagent.v1 import status_pb2


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers, and the status that showed it."""

    service: Service
    status: status_pb2.Status


@contextmanager
def connected(options: Options) -> Generator[Answering]:
    """Ask agents, then etcd, for the status, until somebody gives it. UnreachableError says who did not, and why.

    That an agent gave it is what later lets "may have been done" be told from "was never asked".
    """
    where = reach(options)
    try:
        answering = _ask_agents(where, options)
    except UnreachableError as error:
        if not options.told_of_etcd:
            click.echo(f"no agent answers on {', '.join(where.endpoints) or 'nothing'}; asking etcd", err=True)
            options.told_of_etcd = True
        answering = _ask_etcd(options, error)
    yield from _until_left(answering)


@contextmanager
def agents(options: Options) -> Generator[Answering]:
    """The same with agents alone, and without a word."""
    yield from _until_left(_ask_agents(reach(options), options))


def need_group(status: status_pb2.Status, group: str | None) -> None:
    """RefusedError if a group that was named does not exist."""
    known = [each.name for each in status.groups]
    if group is not None and group not in known:
        raise RefusedError(f"{group}: no such group; there are {', '.join(known) or 'none'}")


def _until_left(answering: Answering) -> Generator[Answering]:
    try:
        yield answering
    finally:
        answering.service.close()


def _ask_agents(where: Reach, options: Options) -> Answering:
    failures: list[str] = []
    for endpoint in where.endpoints:
        agent = Agent(endpoint, where.tls, options.timeout)
        try:
            return Answering(agent, agent.ask(GET_STATUS, control.GetStatusRequest()))
        except UnreachableError as error:
            agent.close()
            failures.append(error.message)
        except BaseException:
            agent.close()
            raise
    raise UnreachableError("; ".join(failures) or f"{options.file}: control has neither a socket nor a port")


def _ask_etcd(options: Options, unreachable: UnreachableError) -> Answering:
    from haagent.cli.ctl.records import Etcd  # with all that etcd needs, and pydantic
    from haagent.config.load import Invalid
    from haagent.prepare import prepare_etcd

    settings = prepare_etcd(options.file)
    if isinstance(settings, Invalid):
        raise UnreachableError(f"{unreachable.message}; {'; '.join(settings.errors)}")
    etcd = Etcd(settings)
    try:
        return Answering(etcd, etcd.ask(GET_STATUS, control.GetStatusRequest()))
    except UnreachableError as error:
        etcd.close()
        raise UnreachableError(f"{unreachable.message}; {error.message}") from None
