"""The commands `config check`, `config show`, `config schema`: about the file alone, no agent is asked."""

from __future__ import annotations

import json
import os

import click

from haagent.cli.ctl.errors import FAILED, RefusedError
from haagent.cli.ctl.options import common, given
from haagent.cli.ctl.show import data


@click.group()
def config() -> None:
    """The configuration file: check it, show it with its defaults, or print its schema.

    \b
    Examples:
      haagentctl config check -c new.yaml
      haagentctl config show
      haagentctl config schema > haagent.schema.json
    """


@config.command()
@click.option("--strict", is_flag=True, help="Warnings, too, end with 1.")
@common
@click.pass_context
def check(ctx: click.Context, strict: bool) -> None:
    """Read the file, and all that it names, and say what is wrong: file, line, key, what is allowed.

    \b
    Examples:
      haagentctl config check
      haagentctl config check --strict -c new.yaml && cp new.yaml /etc/haagent/haagent.yaml && haagentctl reload
    """
    from haagent.config.load import Invalid
    from haagent.prepare import prepare

    path = given(ctx).file
    result = prepare(path)
    lines = result.errors if isinstance(result, Invalid) else result.warnings
    for line in lines:
        click.echo(line, err=True)
    if isinstance(result, Invalid):
        ctx.exit(FAILED)
    click.echo(f"{path.name}: ok, {result.config.summary()}")
    ctx.exit(FAILED if strict and lines else 0)


@config.command()
@common
@click.pass_context
def show(ctx: click.Context) -> None:
    """What the file means: every key with its value, the defaults as well, passwords hidden. YAML, or JSON.

    \b
    Examples:
      haagentctl config show
      haagentctl config show -f json | jq .lease
    """
    from haagent.config.effective import effective
    from haagent.config.load import Invalid
    from haagent.config.read import read_text

    options = given(ctx)
    if options.format == "tsv":
        raise click.UsageError("--format: tsv, must be yaml or json: a configuration is no table")
    text = read_text(options.file)
    found = text if isinstance(text, Invalid) else effective(text, options.file.name, os.uname().nodename)
    if isinstance(found, Invalid):
        for line in found.errors:
            click.echo(line, err=True)
        raise RefusedError(f"{options.file}: cannot be used")
    data(found, "json" if options.format == "json" else "yaml")


@config.command()
def schema() -> None:
    """The JSON schema of the file, for editors and for whoever generates configurations.

    \b
    Example:
      haagentctl config schema > haagent.schema.json
    """
    from haagent.config.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2))
