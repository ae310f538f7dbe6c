"""`python -m benchmarks.terminal_picture docs/pictures/terminal.svg`: the README's picture, of real commands.

The commands run against the sample registry of the demo, in a temporary folder, with a terminal for standard
output. The picture shows the folder as /srv.
"""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import tempfile
from contextlib import suppress
from io import StringIO
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

from flows.demo.sample_upstream import fill_sample_upstream
from registry_server.http.server_process import running_server
from registry_server.store.store import Store

COLUMNS: Final = 110
COMMANDS: Final = (("plan", "profile.yaml"), ("sync", "profile.yaml"), ("status", "profile.yaml"))
PROFILE: Final = """
storage: {{rootDirectory: mirror}}
sync:
  registries:
    - name: sample
      urls: ["{url}"]
      pollInterval: 6h
      content:
        - prefix: library/nginx
          tags: {{semverRange: ">=1.25 <2"}}
        - prefix: charts/*
          destination: /upstream
          tags: {{semver: true, newest: 2}}
"""
_FONT_FACES: Final = re.compile(r"\s*@font-face \{.*?\}", re.DOTALL)  # of a font on the web


def draw(path: Path) -> None:
    """Run the commands, and write what they print as an SVG."""
    console = Console(record=True, file=StringIO(), width=COLUMNS, force_terminal=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        fill_sample_upstream(Store.open(folder / "upstream", durability="none"))
        with running_server(folder / "upstream", port=0) as url:
            (folder / "profile.yaml").write_text(PROFILE.format(url=url))
            for command in COMMANDS:
                console.print(
                    Text.assemble(("$ ", "bold green"), ("mirrorflow " + " ".join(command), "bold"))
                )
                console.print(Text.from_ansi(_run(command, folder).replace(name, "/srv")))
    path.write_text(console.export_svg(title="mirrorflow", theme=MONOKAI, unique_id="mirrorflow"))


def _run(command: tuple[str, ...], folder: Path) -> str:
    ours, theirs = pty.openpty()
    terminal = {"COLUMNS": str(COLUMNS), "TERM": "xterm-256color", "PYTHONPATH": str(Path.cwd())}
    with subprocess.Popen(
        [sys.executable, "-c", "from flows.cli import main; main()", *command],
        cwd=folder,
        env={**os.environ, **terminal},
        stdout=theirs,
    ) as child:
        os.close(theirs)
        shown = b""
        with suppress(OSError):  # the other end is closed
            while chunk := os.read(ours, 65536):
                shown += chunk
    os.close(ours)
    if child.returncode not in {0, 2}:  # 2: plan has something to do
        raise RuntimeError(f"mirrorflow {' '.join(command)} ended with {child.returncode}")
    return shown.decode().replace("\r\n", "\n")


if __name__ == "__main__":
    draw(Path(sys.argv[1]))
