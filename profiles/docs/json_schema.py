"""A JSON schema of profiles, for editors that complete and check while one writes."""

from __future__ import annotations

from typing import Any

from profiles.model.profile import Profile

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def json_schema() -> dict[str, Any]:
    """For profiles in camelCase; `extensions.sync` is described like `sync`."""
    schema = Profile.model_json_schema(by_alias=True, mode="validation")
    sync = schema["properties"]["sync"]
    schema["properties"]["extensions"] = {
        "type": "object",
        "description": "zot's place for `sync`.",
        "properties": {"sync": sync},
    }
    # Editors look here, and a profile may say which schema it follows in a comment only.
    return {
        "$schema": _DIALECT,
        "title": "mirrorflow profile",
        **{k: v for k, v in schema.items() if k != "title"},
    }
