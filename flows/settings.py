"""What Prefect is told through its environment, for our own server and for whoever talks to one.

Prefect reads its settings when it is imported, so all this is environment variables, computed by
pure functions and set before the first import. Nothing here overrides what a user has set: a
variable of theirs wins over ours, and `PREFECT_API_URL` means "there is a server already". NO_PROXY alone is
rewritten, because Prefect's httpx cannot read all that Go and curl can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.upstream.connection.proxies import for_httpx

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from profiles.model.server.storage import Storage

MANY_RUNS = 4
"""So many flow runs that begin at once were seen to be too many for a Prefect server with SQLite."""
RETENTION_SECONDS = 30 * 24 * 3600
"""How long our own server keeps finished runs (some 20 kB a task run); reports stay in the store."""

# Measured: a task run costs the server 38 ms of CPU, and 10 ms when it records them in batches.
_BATCHED = {
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}

# Only what serves work pools and paused runs, which an own server has not, and the record of events: it is
# two thirds of what a poll leaves in the database and half of the server's CPU. Automations get events
# without it; the event feed of the UI is empty. Never the scheduler, the recorder, the repossessor (leases)
# or the cancellation cleanup.
_TRIMMED = {
    "PREFECT_SERVER_SERVICES_FOREMAN_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_PAUSE_EXPIRATIONS_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_CLEANUP_RECONCILER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_ENABLED": "false",
    "PREFECT_SERVER_SERVICES_LATE_RUNS_LOOP_SECONDS": "30",
}

_QUIET_SERVER = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "ERROR",
    "PREFECT_LOGGING_COLORS": "false",
    "NO_COLOR": "1",
}

_QUIET_CLIENT = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # A server that cannot be reached is an error to report, not a reason to start a hidden one.
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_CLIENT_SERVER_VERSION_CHECK_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    # Logs belong to the run in the UI; helpers that run outside of one are no reason to warn.
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
    "PREFECT_LOGGING_COLORS": "false",
    # What the steps say of themselves belongs to the run in the UI.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "mirrorflow",
}

SILENT_CONSOLE = {"PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
"""For a process whose terminal is the user's: Prefect still logs to the API, not to the screen."""


def prefect_home(storage: Storage) -> Path:
    """Where our own server keeps its database, UI files, logs and `server.json`."""
    return (storage.prefect_home or storage.root_directory / "prefect").resolve()


def own_server_wanted(environment: Mapping[str, str]) -> bool:
    """Without a server of the user's own, mirrorflow runs one. Only the environment says so: a
    demo must not end up in the workspace that some `prefect cloud login` once chose."""
    return not environment.get("PREFECT_API_URL")


def server_environment(environment: Mapping[str, str], home: Path) -> dict[str, str]:
    """The whole environment of our own Prefect server process."""
    ours = {
        "PREFECT_HOME": str(home),
        # Prefect copies its UI into its own package otherwise, which an install may not allow.
        "PREFECT_SERVER_UI_STATIC_DIRECTORY": str(home / "ui"),
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(RETENTION_SECONDS),
        **_BATCHED,
        **_TRIMMED,
        **_QUIET_SERVER,
    }
    return {**ours, **_without_profile(environment), **for_httpx(environment)}


def client_environment(
    environment: Mapping[str, str], *, api_url: str, home: Path, silent: bool = False
) -> dict[str, str]:
    """The whole environment of a process that talks to the Prefect server at `api_url`
    (`http://host:port/api`); `home` as of `prefect_home`; `silent` keeps Prefect's log off its terminal."""
    ours = {"PREFECT_API_URL": api_url, **_QUIET_CLIENT, **(SILENT_CONSOLE if silent else {})}
    if not own_server_wanted(environment):
        return {**ours, **environment, **for_httpx(environment)}  # their home: credentials are in it
    ours["PREFECT_HOME"] = str(home)
    return {**ours, **_without_profile(environment), **for_httpx(environment)}


def _without_profile(environment: Mapping[str, str]) -> dict[str, str]:
    """A profile lives in the home it was made in; ours has none, and Prefect refuses a missing one."""
    if "PREFECT_HOME" in environment:
        return {**environment}
    return {name: value for name, value in environment.items() if name != "PREFECT_PROFILE"}
