"""`mirrorflow import` prints no password, wherever it stands in the other program's configuration."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from profiles.errors import ProfileInvalid
from profiles.imports.importer import profile_text
from tests.profiles.imports.test_imports import SECRET, comments, harbor, imported, regsync, rule_of, skopeo

LOGIN: Final = f"somebody:{SECRET}@"
LEFT_OUT: Final = "has a login in it, which is left out"


def skopeo_at(host: str, **keys: Any) -> dict[str, Any]:
    return {host: skopeo(**keys)["registry.example.com"]}


@pytest.mark.parametrize(
    ("document", "urls"),
    [
        (regsync(creds=[{"registry": "quay.io", "hostname": f"{LOGIN}q.example:5000"}]), ["q.example:5000"]),
        (regsync(creds=[{"registry": "quay.io", "hostname": f"u:p@{LOGIN}q.example"}]), ["q.example"]),
        (regsync(creds=[{"registry": f"{LOGIN}quay.io", "surprise": 1}]), ["quay.io"]),
        (
            regsync(creds=[{"registry": "quay.io", "mirrors": [f"{LOGIN}m.example"]}]),
            ["m.example", "quay.io"],
        ),
        (regsync({"source": f"{LOGIN}quay.io/a/b"}), ["quay.io"]),
        (regsync({"source": f"{LOGIN}localhost/a/b"}), ["localhost"]),
        (regsync({"type": "registry", "source": f"{LOGIN}quay.io", "target": "m.example"}), ["quay.io"]),
        (skopeo_at(f"{LOGIN}r.example", images={"a": []}, surprise=1), ["r.example"]),
        (skopeo_at(f"{LOGIN}r.example", images={"a": [], "A B": []}), ["r.example"]),
        (harbor(src_registry={"url": f"https://{LOGIN}q.example"}), ["q.example"]),
    ],
)
def test_a_login_in_an_address_is_left_out(document: Any, urls: list[str]) -> None:
    text, _ = imported(document)
    assert "somebody" not in text
    assert rule_of(text)["urls"] == [f"https://{url}" for url in urls]
    assert LEFT_OUT in comments(text)
    assert "credentialsFile: " in text


@pytest.mark.parametrize("source", [f"alpine@sha256:{'0' * 64}", f"quay.io/a/b@sha256:{'0' * 64}"])
def test_a_digest_is_no_login(source: str) -> None:
    text, _ = imported(regsync({"type": "image", "source": source}))
    assert LEFT_OUT not in text
    assert f"@sha256:{'0' * 64}" in rule_of(text)["images"][0]


def test_of_a_credential_helper_only_the_program_is_named() -> None:
    helper = f"docker-credential-x --password {SECRET}"
    text, _ = imported(regsync(creds=[{"registry": "quay.io", "credHelper": helper}]))
    assert "quay.io: docker-credential-x (its arguments are left out)" in comments(text)


@pytest.mark.parametrize(
    "text",
    [
        f"creds:\n- registry: quay.io\n  pass: *{SECRET}\n",
        f"creds:\n- registry: quay.io\n  pass: !{SECRET}\n",
        f"creds:\n- registry: quay.io\n  pass: &{SECRET} a\n  user: &{SECRET} b\n",
        f"creds:\n- registry: quay.io\n  pass: %{SECRET}\n",
        f"%{SECRET}\n---\na: 1\n",
        f'{{"creds": [{{"pass": {SECRET}}}]}}',
        json.dumps({"a": 1}) + SECRET,
        f"{LOGIN}r.example: 5\nb.example: {{images: {{a: []}}}}\n",
        f'{{"{LOGIN}r.example": {{"images": 5}}}}',
    ],
)
def test_an_error_quotes_nothing_of_the_file(text: str) -> None:
    with pytest.raises(ProfileInvalid, match=r"^input:\d+:\d+: ") as raised:
        profile_text(text, Path("input"))
    assert SECRET not in str(raised.value)
