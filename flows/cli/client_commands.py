"""Commands for those who pull: client, doctor."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.profile_commands import Json, ProfilePath, Registries, load
from flows.reporting.console import out, print_json, say, warn

if TYPE_CHECKING:
    from flows.client_config.model import ClientConfig


class ClientKind(StrEnum):
    """What pulls."""

    CONTAINERD = "containerd"
    DOCKER = "docker"
    PODMAN = "podman"
    CRI_O = "cri-o"
    BUILDKIT = "buildkit"
    K3S = "k3s"


Address = Annotated[
    str | None,
    typer.Option(
        "--address",
        metavar="HOST:PORT",
        help="How clients reach the server, or its URL. Default: what `http` in the profile says.",
    ),
]


def register(app: typer.Typer) -> None:
    app.command()(client)
    app.command()(doctor)


def client(
    kind: Annotated[ClientKind, typer.Argument(metavar="KIND", help=f"One of: {', '.join(ClientKind)}.")],
    profile: ProfilePath,
    *,
    address: Address = None,
    authority: Annotated[
        Path | None,
        typer.Option(
            "--ca",
            metavar="FILE",
            help="Certificate of the CA that signed the server's certificate, for clients to trust.",
        ),
    ] = None,
    fallback: Annotated[
        bool,
        typer.Option(
            "--fallback/--no-fallback",
            help="Whether clients may pull from the upstream registry when the mirror fails or refuses.",
        ),
    ] = True,
    write: Annotated[
        Path | None,
        typer.Option(
            "--write", metavar="DIR", help="Write the files below this folder; `/` is this machine itself."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print the configuration that makes a client pull through the mirror, each file with its place.

    It contains no password: a comment says where to put one.
    """
    from flows.client_config.generate import make, mirror_of, warnings
    from flows.client_config.model import write_files

    loaded = load(profile).profile
    mirror = mirror_of(loaded, address=address or "", authority=authority, fallback=fallback)
    warn(warnings(loaded, mirror, address=address or ""))
    made = make(kind, loaded, mirror)
    if write is not None:
        for path in write_files(made.files, write):
            say(f"wrote {path}")
    if as_json:
        print_json(_document(made))
    elif write is None:
        typer.echo("\n".join(f"# {file.path}\n{file.content}" for file in made.files), nl=False)
    if not as_json:
        for step in made.steps:
            say(f"- {step}")


def _document(made: ClientConfig) -> dict[str, object]:
    files = [{"path": file.path, "content": file.content} for file in made.files]
    return {"files": files, "steps": list(made.steps)}


def doctor(
    profile: ProfilePath,
    *,
    registry: Registries = None,
    image: Annotated[
        str | None,
        typer.Option(
            "--image",
            "-i",
            metavar="REF",
            help="REPO[:TAG] to request from the upstream, by its upstream name.",
        ),
    ] = None,
    address: Address = None,
    cert_dir: Annotated[
        Path | None,
        typer.Option(
            "--cert-dir",
            metavar="DIR",
            help="Folder with the CA of the server (*.crt) and, if required, a client certificate "
            "(*.cert, *.key).",
        ),
    ] = None,
    timeout: Annotated[
        float,
        typer.Option("--timeout", metavar="SECONDS", min=1, help="Time limit for all checks together."),
    ] = 30,
    as_json: Json = False,
) -> None:
    """Check the upstreams and the server with the requests of clients, and give advice for what fails.

    Also checks the store, the disk, the port, clocks and Prefect. Tries of an upstream what the profile
    wants, with some ten requests and no counted pull. Of a destination it opens an upload and cancels it, to
    see whether a push would be let in. A server that does not run is a note, unless
    --address names it. Exit code 0: no check failed; 1: one failed.
    """
    from flows.doctor.checks import build_checks, run_checks
    from flows.doctor.findings import CheckStatus, render
    from flows.entries import find_entry

    loaded = load(profile).profile
    enabled = loaded.sync.registries if loaded.sync.enable else ()
    entries = [find_entry(loaded, name) for name in registry] if registry else enabled
    checks = build_checks(
        loaded, entries, os.environ, address=address or "", cert_dir=cert_dir, image=image or ""
    )
    findings = run_checks(checks, seconds=timeout)
    failed = any(each.outcome is CheckStatus.FAILED for each in findings)
    if as_json:
        document = {"ok": not failed, "findings": [each.to_json() for each in findings]}
        print_json(document)
    else:
        for part in render(findings):
            out.print(part)
    raise typer.Exit(int(failed))
