"""`mirrorflow serve` does what `http` of the profile says, over https, with users and a log."""

from __future__ import annotations

import json
import re
import signal
import socket
import ssl
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx

from tests.registry_server.http.auth.support import auth_of, write_users
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from pathlib import Path

PROFILE = """\
storage: {{rootDirectory: store}}
http:
  port: {port}
  tls: {{cert: server.cert, key: server.key, cacert: ca.crt}}
  auth: {{htpasswd: {{path: htpasswd}}}}
log: {{access: access.log}}
"""


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def test_serve_speaks_https_to_users_with_a_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.server()
    client = authority.client()
    write_users(tmp_path / "htpasswd")
    profile = tmp_path / "profile.yaml"
    profile.write_text(PROFILE.format(port=_free_port()))
    command = [sys.executable, "-c", "from flows.cli import main; main()", "serve", str(profile)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        said = ""
        while "https://" not in said:
            line = server.stderr.readline()
            assert line, said
            said += line
        [url] = re.findall(r"https://[0-9.:]+", said)
        context = ssl.create_default_context(cafile=str(authority.cert))
        context.load_cert_chain(client.cert, client.key)
        with httpx.Client(base_url=url, verify=context) as session:
            challenge = session.get("/v2/")
            answer = session.get("/v2/", auth=auth_of("alice"))
        server.send_signal(signal.SIGTERM)
    assert (challenge.status_code, answer.status_code) == (401, 200)
    assert f'realm="{url}/auth/token"' in challenge.headers["WWW-Authenticate"]
    records = [json.loads(line) for line in (tmp_path / "access.log").read_text().splitlines()]
    assert [record["user"] for record in records] == ["", "alice"]
