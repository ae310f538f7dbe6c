"""Who changed what in the registry, with which right and from where: JSON lines (docs/audit.md).

Of reading there is a line only where that is wanted: there is much of it. Credentials are never in a line.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from registry_server.http.access_log import USER

if TYPE_CHECKING:
    from registry_server.append_log import AppendLog
    from registry_server.http.access_log import RequestRecord

RIGHTS: Final = "mirrorflow.rights"
"""In the ASGI scope: the sets of actions that the request needed, as far as its user has them."""
_AGENT: Final = 200  # characters
# By the kind of the route and the method. The begin and the pieces of an upload change nothing to be pulled.
_EVENTS: Final = {
    ("manifest", "PUT"): "push",
    ("manifest", "DELETE"): "delete",
    ("blob", "DELETE"): "delete",
    ("upload", "PUT"): "upload",
    ("upload", "POST"): "upload",
    ("upload", "PATCH"): "upload",
}
_PULLS: Final = {("manifest", "GET"): "pull", ("blob", "GET"): "pull"}
_REFUSED: Final = (401, 403, 429)
_FORM: Final = ("token", "POST")  # the one request whose password is in its body


class AuditLog:
    """Called after each request; for one that is not in the log it costs a look into a table."""

    def __init__(self, lines: AppendLog, *, pulls: bool) -> None:
        self._lines = lines
        self._events = _EVENTS | (_PULLS if pulls else {})

    def __call__(self, record: RequestRecord) -> None:
        if event := self._event(record):
            self._lines.write(line_of(record, event))

    def _event(self, record: RequestRecord) -> str:
        """ "" for what is not in the log."""
        status = record.status
        if status in (401, 429):
            sent = "authorization" in record.asked or (record.kind, record.method) == _FORM
            if status == 401 and not sent:
                return ""  # no attempt: clients ask first how to sign in
            if sent and USER not in record.scope:
                return "login"
        event = self._events.get((record.kind, record.method), "")
        if event == "upload" and status not in (201, *_REFUSED):
            return ""
        if event == "pull" and status not in (200, 206, 307):
            return ""
        return event


def line_of(record: RequestRecord, event: str) -> dict[str, Any]:
    """The fields in the order of docs/audit.md."""
    route, answered = record.route, record.answered
    reference = getattr(route, "reference", None)
    digest = answered.get("docker-content-digest") or getattr(route, "digest", None)
    rights = sorted(set().union(*record.scope.get(RIGHTS, ())))
    fields = {
        "time": datetime.fromtimestamp(record.arrived, UTC).isoformat(timespec="milliseconds"),
        "by": "server",
        "event": event,
        "outcome": _outcome(record.status),
        "user": record.scope.get(USER),
        "client": (record.scope.get("client") or ("",))[0],
        "rights": rights,
        "repository": getattr(route, "repository", None),
        "reference": reference,
        "tags": [each for each in answered.get("oci-tag", "").split(", ") if each],
        "digest": digest,
        "status": record.status,
        "request": record.id.decode(),
        "agent": record.asked.get("user-agent", "")[:_AGENT],
    }
    return {name: value for name, value in fields.items() if value not in (None, [], "")}


def _outcome(status: int) -> str:
    if status < 400:
        return "done"
    return "refused" if status in _REFUSED else "failed"
