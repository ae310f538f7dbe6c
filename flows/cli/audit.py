"""`audit`: what today's policies make of everything that is stored, and a signed statement of it.

Images are reported as they are judged: a store with a hundred thousand of them needs no list of all.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import typer
from rich.table import Table
from rich.text import Text

from flows.cli.check import check_trust
from flows.entries import open_store
from flows.reporting.console import out, say
from flows.reporting.progress_bars import progress_line
from registry_server.counted import counted
from registry_server.oci.errors import MirrorflowError
from registry_server.whole_file import write_whole
from tasks.stored.audit import Result, audit
from tasks.stored.audit_statement import AuditStatement, summary
from tasks.stored.images import StoredImages

if TYPE_CHECKING:
    from flows.reporting.progress_bars import ProgressLine
    from profiles.loader import LoadedProfile
    from tasks.stored.audit import Audited

KEYLESS: Final = "keyless"
PASSWORDS: Final = ("MIRRORFLOW_ATTEST_PASSWORD", "COSIGN_PASSWORD")
_PAGE: Final = 40  # rows of one table
_SHOW_EVERY: Final = 32  # images; to show the progress takes longer than to judge one
_DIGEST: Final = 19  # `sha256:` and twelve hex digits
_STYLES: Final = {Result.PASSED: "green", Result.SHORT: "bold red", Result.NO_POLICY: "yellow"}


class StatementNotWritten(MirrorflowError):
    """There is no place for it."""


class AuditOutput(Protocol):
    def add(self, audited: Audited) -> None: ...

    def end(self, results: Counter[Result], not_judged: Counter[str]) -> None: ...


def run_audit(
    loaded: LoadedProfile, attestation: Attestation | None, *, everything: bool, as_json: bool
) -> bool:
    """Whether nothing falls short. `everything`: images that pass are listed too.

    Raises `TrustBroken`, `StoreError`, `NothingVerified` and `StatementNotWritten`.
    """
    check_trust(loaded.profile)
    images = StoredImages(loaded.profile, open_store(loaded.profile, create=False))
    results, when = Counter[Result](), datetime.now(UTC)
    statement = AuditStatement(loaded.sha256)
    with progress_line("reading the store", disable=as_json and out.is_terminal) as line:
        printer = _Json(loaded, when) if as_json else _Tables(line, everything)
        for audited in audit(images):
            results[audited.result] += 1
            if attestation is not None:
                statement.add(audited)
            printer.add(audited)
            if not results.total() % _SHOW_EVERY:
                line.show(in_words(results))
        not_judged = images.not_judged()
        printer.end(results, not_judged)
    if attestation is not None:
        attestation.write(statement.encoded(when, not_judged))
    return not results[Result.SHORT]


def in_words(results: Counter[Result]) -> str:
    """E.g. `3 images passed, 1 falls short, 2 have no policy`."""
    passed, short, without = (results[each] for each in (Result.PASSED, Result.SHORT, Result.NO_POLICY))
    return (
        f"{counted(passed, 'image')} passed, {short:,} fall{'s' * (short == 1)} short, "
        f"{without:,} {'has' if without == 1 else 'have'} no policy"
    )


@dataclass(slots=True)
class _Json:
    """One document, written image by image."""

    loaded: LoadedProfile
    when: datetime
    _begun: bool = False

    def add(self, audited: Audited) -> None:
        separator = "," if self._begun else self._head
        self._begun = True
        typer.echo(f"{separator}\n  {json.dumps(audited.to_json())}", nl=False)

    def end(self, results: Counter[Result], not_judged: Counter[str]) -> None:
        head = "" if self._begun else self._head
        typer.echo(f'{head}\n], "summary": {json.dumps(summary(results, not_judged))}}}')

    @property
    def _head(self) -> str:
        head = {
            "version": 1,
            "profile": str(self.loaded.path),
            "profileSha256": self.loaded.sha256,
            "when": self.when.isoformat(timespec="seconds"),
        }
        return json.dumps(head)[:-1] + ', "images": ['


@dataclass(slots=True)
class _Tables:
    """A table for each page of rows, then the summary."""

    line: ProgressLine
    everything: bool
    _rows: list[Audited] = field(default_factory=list)
    _head: bool = True

    def add(self, audited: Audited) -> None:
        if self.everything or audited.result is Result.SHORT:
            self._rows.append(audited)
        if len(self._rows) == _PAGE:
            self._print()

    def end(self, results: Counter[Result], not_judged: Counter[str]) -> None:
        self._print()
        with self.line.aside():
            out.print(Text(in_words(results), style="bold red" if results[Result.SHORT] else "bold"))
            for reason, count in not_judged.items():
                out.print(Text(f"not judged: {count:,} {reason}", style="yellow"))
        if not self.everything and results.total() > results[Result.SHORT]:
            say("only what falls short is listed; --all lists every image")

    def _print(self) -> None:
        if self._rows:
            with self.line.aside():
                out.print(render_audited(self._rows, head=self._head))
        self._rows, self._head = [], False


def render_audited(rows: list[Audited], *, head: bool = True) -> Table:
    """One line an image. What signers wrote is no markup."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=head)
    for column in ("registry", "image", "digest", "rule", "result", "why", "signed by", "when"):
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(
            Text(row.image.entry.name),
            Text(row.image.name),
            row.image.upstream_digest[:_DIGEST],
            row.rule,
            Text(row.result, style=_STYLES[row.result]),
            Text(row.reason or (row.outcome if row.verdict else "")),
            Text(", ".join(row.signers)),
            row.when,
        )
    return table


class Signer(Protocol):
    def bundle(self, statement: bytes) -> bytes: ...


@dataclass(frozen=True, slots=True)
class Attestation:
    """Who signs the result, and where it is written."""

    signer: Signer
    output: Path

    @classmethod
    def by(cls, key: str, output: Path, sigstore: Path | None = None) -> Attestation:
        """`key`: a file, whose password is in the environment, or `KEYLESS`; `sigstore` is for that one.

        Raises `StatementNotWritten`, and what `signer_for` raises.
        """
        if not output.parent.is_dir():
            raise StatementNotWritten(
                f"{output}: there is no folder {output.parent}; make it, or name another file with --output"
            )
        return cls(signer_for(key, sigstore), output)

    def write(self, statement: bytes) -> None:
        """An older file stays until the new one is whole. Raises `StatementNotWritten`."""
        content = self.signer.bundle(statement)
        try:
            write_whole(self.output, content)
        except OSError as error:
            raise StatementNotWritten(f"{self.output} cannot be written: {error.strerror}") from error
        say(f"the signed statement is in {self.output}")


def signer_for(key: str, sigstore: Path | None = None) -> Signer:
    """Whoever signs: `key` and `sigstore` as of `Attestation.by`.

    Raises `SigningKeyUnusable`, `IdentityUnusable`, `KeylessFailed`.
    """
    if key == KEYLESS:
        from tasks.trust.sigstore.keyless_signing import KeylessSigner

        return KeylessSigner.connect(sigstore)
    from tasks.trust.sigstore.key_signing import SigningKey

    password = next((os.environ[name] for name in PASSWORDS if os.environ.get(name)), None)
    return SigningKey.read(Path(key), password)
