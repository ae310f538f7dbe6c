"""Harbor's replication policies (API v2.0, `ReplicationPolicy` of /replication/policies) as a profile."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from profiles.imports.draft import Draft, Entry, Part
from profiles.imports.image_reference import ImageReference, has_login, login_note

if TYPE_CHECKING:
    from collections.abc import Iterable

    from profiles.imports.section import Section

_META: Final = re.compile(r"[*?\[{]")
_NO_REGISTRY: Final = ("helm-hub", "artifact-hub")
# What is about Harbor's own bookkeeping, and what of a registry.
_SILENT: Final = (
    "id",
    "description",
    "creation_time",
    "update_time",
    "dest_registry",
    "single_active_replication",
)
_SILENT_OF_REGISTRY: Final = ("id", "name", "description", "status", "creation_time", "update_time", "type")


def convert(policies: Iterable[Section]) -> Draft:
    """Raises `ProfileInvalid` for values of the wrong kind."""
    draft = Draft(notes=["From replication policies of Harbor."])
    for policy in policies:
        draft.entries.append(_entry(draft, policy))
    return draft


def _entry(draft: Draft, policy: Section) -> Entry:
    name = policy.text("name")
    source = policy.section("src_registry")
    url = source.text("url")
    found = ImageReference.parse(_host(url), is_registry=True) if url else None
    if found is None or source.text("type") in _NO_REGISTRY:
        pushes = "it pushes from Harbor itself: write an entry whose URL is Harbor's"
        why = "no registry is there" if url else pushes
        return Entry(notes=[f"The policy {name!r} is left out: {why}."])
    entry = Entry(keys={"name": re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:100]})
    entry.keys["urls"] = [_url(url, found)]
    _set_access(draft, entry, source, found)
    _set_schedule(entry, policy)
    rule = _rule(policy)
    _note_differences(entry, rule, policy)
    entry.rules.append(rule)
    return entry


def _host(url: str) -> str:
    host = re.sub(r"^https?://", "", url.strip()).strip("/")
    return "docker.io" if host in ("hub.docker.com", "registry.hub.docker.com") else host


def _url(url: str, found: ImageReference) -> str:
    scheme = "http" if url.strip().startswith("http://") else "https"
    return f"{scheme}://{found.registry}" + (f"/{found.repository}" if found.repository else "")


def _set_access(draft: Draft, entry: Entry, source: Section, found: ImageReference) -> None:
    if source.flag("insecure"):
        entry.keys["tlsVerify"] = False
    if source.section("credential").keys:
        draft.logins.append(found.registry)
    if has_login(_host(source.text("url"))):
        draft.logins.append(found.registry)
        entry.note(login_note(found.registry))
    if source.text("ca_certificate"):
        entry.note("Harbor has a CA for it: write certDir: FOLDER, and put the certificate there as ca.crt.")
    for key in _SILENT_OF_REGISTRY:
        source.has(key)
    entry.note(*(f"src_registry.{key} is left out: it is no key that is known." for key in source.rest))


def _set_schedule(entry: Entry, policy: Section) -> None:
    trigger = policy.section("trigger")
    kind, cron = trigger.text("type"), trigger.section("trigger_settings").text("cron")
    if policy.flag("enabled") is False:
        entry.note("Harbor's policy is switched off, so this entry has no schedule.")
    elif kind == "scheduled" and cron:
        entry.keys["schedule"] = _cron(entry, cron)
    elif kind == "event_based":
        entry.note(
            "Harbor sends what was pushed to it; see sync.notifications for that, or write pollInterval: 6h"
        )
    else:
        entry.note("Started by hand: only `mirrorflow sync` mirrors it. E.g. pollInterval: 6h")


def _cron(entry: Entry, cron: str) -> str:
    """Harbor's have seconds in front, which cron has not."""
    fields = cron.split()
    if len(fields) != 6:
        return cron
    if fields[0] not in ("0", "*"):
        entry.note(f"Harbor starts it at second {fields[0]}: a schedule here has no seconds.")
    return " ".join(fields[1:]).replace("?", "*")


def _rule(policy: Section) -> Part:
    rule = Part({"prefix": "**"})
    for each in policy.sections("filters"):
        kind, value, excludes = each.text("type"), each.texts("value"), each.text("decoration") == "excludes"
        if kind == "name" and value:
            rule.keys["prefix"] = value[0]
        elif kind == "tag" and value and value[0]:
            rule.keys.setdefault("tags", {})["excludeRegex" if excludes else "regex"] = _expression(value[0])
        elif kind == "resource" and value in (["image"], ["artifact"], [""]):
            continue
        else:
            rule.note(
                f"The filter {each.path} by {kind or 'nothing'} is left out: registries do not tell that."
            )
    _set_destination(rule, policy)
    return rule


def _expression(glob: str) -> str:
    """Harbor's patterns of tags as an expression for the whole tag."""
    out, depth = "", 0
    for part in re.findall(r"\*+|\{|\}|,|\?|[^*{},?]+", glob):
        depth += {"{": 1, "}": -1}.get(part, 0)
        out += {"{": "(?:", "}": ")", "?": ".", ",": "|" if depth else ","}.get(
            part, ".*" if part.startswith("*") else re.escape(part)
        )
    return out


def _set_destination(rule: Part, policy: Section) -> None:
    """`dest_namespace` takes the place of the first `dest_namespace_replace_count` parts; -1: of all but the
    last."""
    namespace, count = policy.text("dest_namespace").strip("/"), policy.number("dest_namespace_replace_count")
    if not namespace:
        return
    parts = rule.keys["prefix"].strip("/").split("/")
    base = next((at for at, part in enumerate(parts) if _META.search(part)), len(parts))
    replaced = len(parts) - 1 if count is None or count < 0 else min(int(count), len(parts) - 1)
    if base == len(parts):
        rule.keys |= {"destination": "/".join(["", namespace, *parts[replaced:]]), "stripPrefix": True}
        return
    exact = replaced in (0, base) and ((count is not None and count >= 0) or "**" not in parts[base:])
    rule.keys |= {"destination": f"/{namespace}", "stripPrefix": bool(replaced) or None}
    if not exact:
        kept = "/".join(parts[base if replaced else 0 :])
        rule.note(f"Harbor replaces other parts of these names; here {namespace} stands before {kept}.")


def _note_differences(entry: Entry, rule: Part, policy: Section) -> None:
    if policy.flag("override") is False:
        rule.note(
            "Harbor does not move a tag that is there (override: false); here a tag follows its upstream."
        )
    deletion, older = policy.flag("replicate_deletion"), policy.flag("deletion")
    if deletion or older:
        rule.note("Harbor deletes what its source deletes; here tags stay, see storage.retention.")
    policy.flag("copy_by_chunk")  # what breaks off is resumed anyway
    if (speed := policy.number("speed")) and speed > 0:
        entry.keys["bytesPerSec"] = int(speed * 1024)
    for key in _SILENT:
        policy.has(key)
    rule.note(*(f"{key} is left out: it is no key that is known." for key in policy.rest))
