"""`cover`: would a cluster, a chart or manifests find all their images here?"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.client_commands import Address, ClientKind
from flows.cli.profile_commands import Json, ProfilePath, load
from flows.reporting.console import out, print_json, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flows.cover.report import CoverReport
    from flows.cover.used_images import Use
    from profiles.loader import LoadedProfile
    from profiles.model.profile import Profile
    from registry_server.oci.descriptor import Platform


@dataclass(slots=True)
class _Sources:
    """What is looked at, and what came of it."""

    uses: list[Use]
    platforms: tuple[Platform, ...] = ()
    not_read: tuple[str, ...] = ()


def register(app: typer.Typer) -> None:
    app.command()(cover)


def cover(
    profile: ProfilePath,
    *,
    kubeconfig: Annotated[
        str | None,
        typer.Option(
            "--kubeconfig",
            metavar="FILE",
            help="The cluster that this kubeconfig names; `in-cluster`: that of the pod which runs this. "
            "Default, without any other source: what kubectl would take.",
        ),
    ] = None,
    context: Annotated[
        str | None, typer.Option("--context", metavar="NAME", help="Another context of the kubeconfig.")
    ] = None,
    namespace: Annotated[
        list[str] | None,
        typer.Option("--namespace", "-n", metavar="NAME", help="Only this namespace; may be repeated."),
    ] = None,
    run_exec: Annotated[
        bool,
        typer.Option(
            "--exec", help="Run the program that the kubeconfig names for the login (EKS, GKE, AKS)."
        ),
    ] = False,
    manifests: Annotated[
        list[Path] | None,
        typer.Option(
            "--manifests",
            metavar="PATH",
            help="A file with Kubernetes objects or of Compose, a folder of such files, or `-` for standard "
            "input; may be repeated.",
        ),
    ] = None,
    chart: Annotated[
        list[str] | None,
        typer.Option(
            "--chart",
            metavar="CHART",
            help="A Helm chart: folder, `.tgz` or oci://; needs helm. May be repeated.",
        ),
    ] = None,
    version: Annotated[
        str, typer.Option("--version", metavar="VERSION", help="The version of an oci:// chart.")
    ] = "",
    values: Annotated[
        list[Path] | None,
        typer.Option("--values", metavar="FILE", help="Values for the charts; may be repeated."),
    ] = None,
    images: Annotated[
        list[Path] | None,
        typer.Option(
            "--images", metavar="FILE", help="A file with an image a line, or `-`; may be repeated."
        ),
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            "--platform",
            metavar="PLATFORM",
            help="What the nodes are, e.g. linux/arm64; may be repeated. Default: what the cluster says, "
            "else what the content rules take.",
        ),
    ] = None,
    kind: Annotated[
        ClientKind,
        typer.Option("--client", metavar="KIND", help=f"What pulls: {', '.join(ClientKind)}."),
    ] = ClientKind.CONTAINERD,
    address: Address = None,
    write: Annotated[
        bool, typer.Option("--write", help="Add the missing content rules to the profile; comments stay.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Every image, not only those that are not covered.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show whether the images of a cluster, a chart or manifests would be there without their upstreams.

    For each image: where clients look for it with the configuration of `mirrorflow client`, and whether it is
    there, whole, for the platforms of the nodes, fresh, and admitted by the policies. Then the content rules
    that would take what is missing. Reads the store and what is given, and asks no upstream.

    Exit code 0: all images are covered; 2: one is not; 1: an error, or something could not be looked at.
    """
    from flows.client_config.generate import mirror_of
    from flows.cover.places import ClientView
    from flows.cover.report import cover as judge

    loaded = load(profile)
    found = _Sources(_uses_of_files(manifests, images, chart, version, values))
    if kubeconfig or context or namespace or run_exec or not (manifests or images or chart):
        _add_cluster(found, kubeconfig, context, namespace, run_exec=run_exec)
    mirror = mirror_of(loaded.profile, address=_address(loaded.profile, address))
    view = ClientView(loaded.profile, mirror, str(kind))
    platforms = _platforms(platform) or found.platforms
    report = judge(found.uses, view, platforms, time.time(), found.not_read)
    _print(report, everything=everything, as_json=as_json, write=write)
    if write and report.suggestions:
        _write(loaded, report)
    raise typer.Exit(report.exit_code)


def _uses_of_files(
    manifests: Sequence[Path] | None,
    images: Sequence[Path] | None,
    charts: Sequence[str] | None,
    version: str,
    values: Sequence[Path] | None,
) -> list[Use]:
    from flows.cover.charts import uses_of_chart
    from flows.cover.files import uses_of_list, uses_of_manifests

    return [
        *(use for path in manifests or () for use in uses_of_manifests(path)),
        *(use for path in images or () for use in uses_of_list(path)),
        *(
            use
            for chart in charts or ()
            for use in uses_of_chart(chart, version=version, values=values or ())
        ),
    ]


def _add_cluster(
    found: _Sources,
    kubeconfig: str | None,
    context: str | None,
    namespaces: Sequence[str] | None,
    *,
    run_exec: bool,
) -> None:
    from flows.cover.cluster import read_cluster
    from flows.cover.exec_plugin import with_credentials
    from flows.cover.kubeconfig import find_access

    access = with_credentials(find_access(kubeconfig, context), may_run=run_exec)
    say(f"reading the cluster {access.name} at {access.server}")
    cluster = read_cluster(access, tuple(namespaces or ()))
    found.uses += cluster.uses
    found.platforms, found.not_read = cluster.platforms, cluster.not_read


def _address(profile: Profile, address: str | None) -> str:
    """Only images that name the mirror itself depend on it: a port that is chosen later is no error."""
    if not address and not profile.http.port and not profile.http.external_url:
        return "localhost:0"
    return address or ""


def _platforms(texts: Sequence[str] | None) -> tuple[Platform, ...]:
    """Raises `InvalidName`."""
    from registry_server.oci.descriptor import Platform

    return tuple(Platform.parse(text) for text in texts or ())


def _print(report: CoverReport, *, everything: bool, as_json: bool, write: bool) -> None:
    from flows.cover.report import render_cover, render_suggestion

    if as_json:
        print_json(report.to_json())
        return
    for line in render_cover(report, everything=everything):
        out.print(line)
    if report.suggestions:
        hint = "" if write else " (--write adds them)"
        say(f"content rules that would take what is missing{hint}:")
    for addition in report.suggestions:
        typer.echo(render_suggestion(addition), nl=False)


def _write(loaded: LoadedProfile, report: CoverReport) -> None:
    from profiles.additions import write_rules

    write_rules(loaded.path, report.suggestions)
    names = ", ".join(each.entry for each in report.suggestions)
    say(f"{loaded.path}: added content rules to {names}; now run `mirrorflow sync {loaded.path}`")
