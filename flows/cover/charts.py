"""Images of a Helm chart, as `helm template` renders it; and the chart itself, where a registry has it."""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import TYPE_CHECKING, Final

from flows.cover.files import uses_of_text
from flows.cover.used_images import Use
from registry_server.oci.errors import MirrorflowError
from tasks.upstream.helm.plain_yaml import PlainYamlInvalid, load_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_SCHEME: Final = "oci://"
_SECONDS: Final = 300  # a chart may be fetched, with its dependencies
_MOST_LINES: Final = 6  # of what helm said


class ChartNotRendered(MirrorflowError):
    """helm is missing, or refuses the chart."""


def uses_of_chart(chart: str, *, version: str = "", values: Sequence[Path] = ()) -> Iterator[Use]:
    """`chart`: a folder, a file `.tgz` or `oci://host/path`, with a `version` or a tag; `values`: files.

    Raises `ChartNotRendered`, `ManifestsUnreadable`.
    """
    which = ["--version", version] if version else []
    if chart.startswith(_SCHEME):
        yield Use(_image(chart, version, which), f"chart {_short(chart)}, the chart itself")
    given = [part for path in values for part in ("--values", str(path))]
    text = _helm(chart, ["template", "--include-crds", *which, *given, "--", "cover", chart])
    for use in uses_of_text(text, f"chart {chart}"):
        yield Use(use.image, f"chart {_short(chart)}: {use.place}")


def _image(chart: str, version: str, which: Sequence[str]) -> str:
    """helm takes a tag or a digest at the end, as docker does."""
    name = chart.removeprefix(_SCHEME)
    if "@" in name or ":" in name.rpartition("/")[2]:
        return name.replace("+", "_")
    return f"{name}:{_tag(chart, version, which)}"


def _tag(chart: str, version: str, which: Sequence[str]) -> str:
    """helm puts `_` for the `+` of a version, which no tag can have."""
    if not version:
        version = _described(chart, _helm(chart, ["show", "chart", *which, "--", chart]))
    return version.replace("+", "_")


def _described(chart: str, text: str) -> str:
    """The version in Chart.yaml. helm prints plainly what YAML 1.1 has types for, e.g. `=`: all are texts."""
    try:
        described = load_plain(text.encode())
    except PlainYamlInvalid as error:
        raise ChartNotRendered(
            f"--chart {chart}: helm shows no Chart.yaml: {error}; give --version"
        ) from error
    version = described.get("version") if isinstance(described, dict) else None
    return version if isinstance(version, str) else ""


def _helm(chart: str, arguments: Sequence[str]) -> str:
    helm = shutil.which("helm")
    if helm is None:
        raise ChartNotRendered(
            f"--chart {chart}: helm is not installed; install it, or render the chart elsewhere: "
            "`helm template CHART > rendered.yaml`, and give --manifests rendered.yaml"
        )
    try:
        done = subprocess.run(
            [helm, *arguments],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            stdin=subprocess.DEVNULL,
            env={**os.environ, "HELM_DEBUG": "false"},
        )
    except subprocess.TimeoutExpired:
        raise ChartNotRendered(f"--chart {chart}: helm did not end within {_SECONDS} s") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ChartNotRendered(f"--chart {chart}: helm cannot be run: {error}") from error
    if done.returncode:
        said = "; ".join(line.strip() for line in done.stderr.strip().splitlines()[-_MOST_LINES:])
        raise ChartNotRendered(f"--chart {chart}: helm refuses it: {said or 'it says nothing'}")
    return done.stdout


def _short(chart: str) -> str:
    return chart.rstrip("/").rpartition("/")[2] or chart
