# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""Runs hooks as Juju's unit agent does: the charm's dispatch as a process, hook tools on its PATH.

As in Juju, the tools reach the agent over an abstract UNIX socket. Such a socket has no file, so a
machine with its own file systems can reach it if it shares the network of this machine.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import shutil
import socketserver
import threading
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from tests.charm.juju.hook_tools import NAMES, HookTools, UnknownCall
from tests.charm.juju.model import MODEL_UUID, JujuError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from typing_extensions import Self

    from tests.charm.juju.applications import Juju, Unit
    from tests.charm.juju.places import Completed
    from tests.charm.juju.resolver import Hook

_KILL = -1
"""A special exit code: the tool kills its hook."""
_BEFORE = {
    "install": ("maintenance", "installing charm software"),
    "stop": ("maintenance", "stopping charm software"),
    "remove": ("maintenance", "cleaning up prior to charm deletion"),
}
"""The statuses that Juju itself sets before hooks."""
_AFTER = {"stop": ("maintenance", ""), "remove": ("terminated", "")}
"""The statuses that Juju itself sets after hooks. They replace those of the charm."""
_HOOK_TIMEOUT_S = 300.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/snap/bin"


@dataclasses.dataclass(frozen=True)
class Run:
    """A hook or action that has run."""

    name: str
    code: int
    """The exit code of dispatch."""
    seconds: float
    """How long dispatch took."""
    output: str
    """Its standard output, followed by its standard error."""


class _Server(socketserver.ThreadingUnixStreamServer):
    daemon_threads = True
    request_queue_size = 64


class Agent:
    """The agent of all units. A context manager: inside it, hook tools get responses."""

    def __init__(self, juju: Juju) -> None:
        self._juju = juju
        self._lock = threading.Lock()
        """Held during each call of a tool, and while a hook begins or ends."""
        self._contexts: dict[str, HookTools] = {}
        self.faults: list[str] = []
        """Unknown calls, and calls after the end of their hook."""
        answer = self._answer

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                self.wfile.write(answer(self.rfile.readline()) + b"\n")

        self._address = f"maas-virtualbox-tests/{uuid.uuid4()}"
        self._server = _Server(f"\0{self._address}", Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def install_tools(self, unit: Unit) -> None:
        """Install the hook tools for the hooks of a unit."""
        folder = unit.place.path(unit.tools)
        folder.mkdir(parents=True)
        tool = folder / ".hook-tool"
        shutil.copy(Path(__file__).with_name("hook_tool.py"), tool)
        tool.chmod(0o755)
        for name in NAMES:
            (folder / name).symlink_to(tool.name)

    def run(self, unit: Unit, hook: Hook) -> Run:
        """Dispatch a hook. Its changes take effect if it exits with 0."""
        hook.prepare()
        if hook.name in _BEFORE and not (hook.name == "install" and unit.view.status_set):
            unit.workload_status = _BEFORE[hook.name]
        context = f"{unit.name}-{hook.name or 'action'}-{uuid.uuid4()}"
        before = self._juju.state
        tools = HookTools(unit, hook, copy.deepcopy(before), before)
        with self._lock:
            self._contexts[context] = tools
        folder = unit.place.inner(unit.charm)
        name = hook.name or (hook.action.name if hook.action else "")
        self._juju.log.append(f"{unit.name} DEBUG running {name}")
        start = time.monotonic()
        try:
            done = unit.place.run(
                (f"{folder}/dispatch",),
                env=dict(self._environment(unit, hook, context)),
                cwd=folder,
                timeout=_HOOK_TIMEOUT_S,
            )
        finally:
            with self._lock:
                del self._contexts[context]
        run = Run(name, done.returncode, time.monotonic() - start, done.stdout + done.stderr)
        self._juju.log += [f"{unit.name} DEBUG {name}: {line}" for line in run.output.splitlines()]
        if hook.action:
            hook.action.results |= _output(done)
        if run.code == 0:
            unit.commit(tools.state, before)
            if hook.name == "start" and not unit.view.status_set:
                unit.workload_status = ("unknown", "")
            unit.workload_status = _AFTER.get(hook.name, unit.workload_status)
            hook.succeeded()
        return run

    def _environment(self, unit: Unit, hook: Hook, context: str) -> Iterable[tuple[str, str]]:
        folder = unit.place.inner(unit.charm)
        action = hook.action
        yield from {
            "APT_LISTCHANGES_FRONTEND": "none",
            "CHARM_DIR": folder,
            "DEBIAN_FRONTEND": "noninteractive",
            "JUJU_AGENT_SOCKET_ADDRESS": f"@{self._address}",
            "JUJU_AGENT_SOCKET_NETWORK": "unix",
            "JUJU_API_ADDRESSES": "127.0.0.1:17070",
            "JUJU_AVAILABILITY_ZONE": "default",
            "JUJU_CHARM_DIR": folder,
            "JUJU_CHARM_FTP_PROXY": "",
            "JUJU_CHARM_HTTPS_PROXY": "",
            "JUJU_CHARM_HTTP_PROXY": "",
            "JUJU_CHARM_NO_PROXY": "",
            "JUJU_CONTEXT_ID": context,
            "JUJU_DISPATCH_PATH": f"actions/{action.name}" if action else f"hooks/{hook.name}",
            "JUJU_HOOK_NAME": hook.name,
            "JUJU_MACHINE_ID": "0",
            "JUJU_MODEL_NAME": "test",
            "JUJU_MODEL_UUID": MODEL_UUID,
            "JUJU_PRINCIPAL_UNIT": "",
            "JUJU_UNIT_NAME": unit.name,
            "JUJU_VERSION": str(self._juju.version),
            "LANG": "C.UTF-8",
            "PATH": f"{unit.place.inner(unit.tools)}:{_PATH}",
            "TERM": "tmux-256color",
        }.items()
        if hook.relation is not None:
            relation = self._juju.state.relations[hook.relation]
            endpoint = relation.endpoints[unit.application.name]
            yield "JUJU_RELATION", endpoint
            yield "JUJU_RELATION_ID", f"{endpoint}:{relation.id}"
            yield "JUJU_REMOTE_APP", hook.remote_application
            yield "JUJU_REMOTE_UNIT", hook.remote_unit
            if hook.departing_unit:
                yield "JUJU_DEPARTING_UNIT", hook.departing_unit
        if action:
            yield "JUJU_ACTION_NAME", action.name
            yield "JUJU_ACTION_UUID", context[-36:]
            yield "JUJU_ACTION_TAG", f"action-{context[-36:]}"
        yield from hook.environment

    def _answer(self, line: bytes) -> bytes:
        request = json.loads(line)
        tool, arguments = request["tool"], request["arguments"]
        call = " ".join((tool, *arguments))
        with self._lock:
            tools = self._contexts.get(request["context"])
            if tools is None:
                self.faults.append(f"{call}: called outside of a hook")
                return json.dumps((1, "", f"ERROR {self.faults[-1]}\n")).encode()
            if tool != "juju-log":
                self._juju.log.append(f"{tools.unit.name} TRACE {call}")
            try:
                if tools.unit.is_killed_at(call):
                    answer = (_KILL, "", "")
                else:
                    answer = (0, tools.call(tool, arguments, request["files"]), "")
            except JujuError as error:
                answer = (error.code, "", f"ERROR {error}\n")
            except UnknownCall as error:
                self.faults.append(f"{tools.unit.name}: {call}: {error}")
                answer = (2, "", f"ERROR {call}: {error}\n")
            except Exception as error:  # noqa: BLE001  # the tool needs a response
                self.faults.append(f"{tools.unit.name}: {call}: {error!r}")
                answer = (2, "", f"ERROR the fake failed: {error!r}\n")
            return json.dumps(answer).encode()


def _output(done: Completed) -> dict[str, object]:
    """Return what Juju itself adds to an action's results."""
    written = {"stdout": done.stdout, "stderr": done.stderr}
    return {
        "return-code": done.returncode,
        **{name: text for name, text in written.items() if text},
    }
