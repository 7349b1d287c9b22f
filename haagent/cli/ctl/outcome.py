"""What came of a request: its lines, and the exit code that says the same."""

from __future__ import annotations

from typing import Final

import click

from haagent.cli.ctl.errors import DONE, FAILED, UNKNOWN
from haagent.cli.ctl.options import Options
from haagent.cli.ctl.show import clean, data, plain, tsv
from haagent.cli.ctl.times import short
from haagent.core.units import MS
from haagent.v1 import control_pb2 as control

_CODES: Final = {
    control.DONE: DONE,
    control.SCHEDULED: DONE,
    control.REFUSED: FAILED,
    control.FAILED: FAILED,
    control.UNKNOWN: UNKNOWN,
}
_WORDS: Final = {
    control.DONE: "Done",
    control.SCHEDULED: "Scheduled",
    control.REFUSED: "Refused",
    control.FAILED: "Failed",
    control.UNKNOWN: "Outcome unknown",
}
_MOVE: Final = ("group", "from", "to", "from_epoch", "to_epoch", "gap_ms", "gap_error_ms", "verified")


def show_outcome(outcome: control.Outcome, options: Options) -> int:
    """Say it in the format that was asked for; returns the exit code. What did not work is said on standard error."""
    code = _CODES.get(outcome.result, UNKNOWN)
    match options.format:
        case "pretty":
            for move in outcome.moves:
                click.echo(clean(move_line(move)))
        case "tsv":
            tsv(_MOVE, [_move(move) for move in outcome.moves])
        case how:
            data(plain(outcome), how)
    told = _told(outcome)
    if code:
        click.echo(f"Error: {told}", err=True)
    elif options.format == "pretty" and any(map(_open, outcome.moves or [control.Move()])):
        # Else the lines of the moves have said all.
        click.echo(told)
    return code


def move_line(move: control.Move) -> str:
    """`web: n1 -> n2, epoch 41 -> 42, 14 ms without an owner`."""
    gap = f"{short(move.gap_ns)} without an owner" if move.gap_ns else "gap not measured"
    # Half a millisecond on ten is what clocks are like; more is worth a word.
    if move.gap_ns and move.gap_error_ns >= MS and move.gap_error_ns * 20 >= move.gap_ns:
        gap += f" (± {short(move.gap_error_ns)})"
    path = f"{move.from_node or '-'} -> {move.to_node or '-'}, epoch {move.from_epoch} -> {move.to_epoch}"
    return f"{move.group}: {path}, {gap}" + _doubts(move)


def _open(move: control.Move) -> bool:
    """Whether it is not known that the old owner let go and the new one has it."""
    return not (move.verified or move.known)


def _doubts(move: control.Move) -> str:
    if move.known:
        return f"; {move.known}"
    return ", not verified" if _open(move) else ""


def _told(outcome: control.Outcome) -> str:
    word = _WORDS.get(outcome.result, "Outcome unknown")
    why = ": ".join(part for part in (outcome.reason, outcome.text) if part)
    return clean(f"{word}: {why}" if why else word)


def _move(move: control.Move) -> list[str]:
    gap = f"{move.gap_ns / MS:.3f}" if move.gap_ns else ""
    error = f"{move.gap_error_ns / MS:.3f}" if move.gap_error_ns else ""
    epochs = [str(move.from_epoch), str(move.to_epoch)]
    return [move.group, move.from_node, move.to_node, *epochs, gap, error, str(move.verified).lower()]
