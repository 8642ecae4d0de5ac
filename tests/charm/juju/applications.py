# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The interface for tests: a model, its applications and their units."""

from __future__ import annotations

import contextlib
import itertools
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.charm.juju import client, resolver
from tests.charm.juju.agent import Agent, Run
from tests.charm.juju.context import Action
from tests.charm.juju.model import (
    Address,
    Charm,
    JujuError,
    Relation,
    Secret,
    State,
    Version,
    application_of,
    check_secret_content,
    secret_id,
)
from tests.charm.juju.places import Here

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from typing_extensions import Self

    from tests.charm.juju.places import Place

_AGENTS = "/var/lib/juju/agents"
_TOOLS = "/var/lib/juju/tools"
_HOOKS_LIMIT = 500
"""More hooks than any test needs. If there are more, the charm has a defect."""


class HookFailed(JujuError):
    """A hook has exited with an error. Its changes are lost. `settle` runs it again."""


class ActionFailed(JujuError):
    """An action has failed, or its parameters were refused.

    Attributes:
        results: The results that it has set.
    """

    def __init__(self, message: str, results: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.results = results


class Juju:
    """A model and its controller. A context manager.

    Args:
        folder: The folder for units that run on this machine.
        version: The version of Juju. Since 4.0, the URI of a secret needs its scheme. Since 4.0.1,
            a hook that reads a secret by its label reads its own write.
    """

    def __init__(self, folder: Path, version: str = "3.6.12") -> None:
        self.folder = folder
        self.version = Version.parse(version)
        self._numbers = itertools.count(0)
        self.state = State()
        self.applications: dict[str, Application] = {}
        self.log: list[str] = []
        """Each call of a hook tool with its arguments, and the log and output of hooks."""
        self.agent = Agent(self)

    def __enter__(self) -> Self:
        self.agent.__enter__()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self.agent.__exit__()
        if kind is None:
            self.check()

    @property
    def units(self) -> list[Unit]:
        """The units of all applications."""
        return [unit for application in self.applications.values() for unit in application.units]

    def check(self) -> None:
        """Raise JujuError if a hook has made an unknown call."""
        if self.agent.faults:
            raise JujuError("unknown calls:\n" + "\n".join(self.agent.faults))

    def deploy(
        self,
        charm: Path,
        name: str,
        *,
        units: int = 1,
        on: Sequence[Place] = (),
        config: Mapping[str, object] | None = None,
    ) -> Application:
        """Deploy an unpacked charm; its hooks run with `settle`.

        Args:
            charm: The folder of the charm.
            name: The name of the application.
            units: The number of units.
            on: The place of each unit. Default: a folder of this machine.
            config: Options, as for `Application.config`.
        """
        if name in self.applications:
            raise JujuError(f'cannot add application "{name}": application already exists')
        application = Application(self, Charm.load(charm), name)
        application.config(config or {})
        self.applications[name] = application
        for endpoint, offered in application.charm.endpoints.items():
            if offered.role == "peers":
                self._add_relation({name: endpoint})
        for place in on or [None] * units:
            application.add_unit(place)
        return application

    def settle(self) -> None:
        """Run hooks until none is due.

        Raises:
            HookFailed: A hook has failed.
            JujuError: There are always more hooks, or a hook made an unknown call.
        """
        for _ in range(_HOOKS_LIMIT):
            ran = [unit.run_next_hook() for unit in self.units]
            if not any(ran):
                return
        raise JujuError(f"still hooks to run after {_HOOKS_LIMIT} rounds: {self.log[-20:]}")

    # --- Relations

    def relate(self, one: str, other: str) -> Relation:
        """Relate two endpoints, each written "application:endpoint"."""
        ends = dict(end.split(":", 1) for end in (one, other))
        offers = [self.applications[name].charm.endpoints.get(ends[name]) for name in ends]
        first, second = offers
        if (
            first is None
            or second is None
            or first.interface != second.interface
            or {first.role, second.role} != {"provides", "requires"}
        ):
            raise JujuError(f"no relations found: {one} {other}")
        return self._add_relation(ends)

    def remove_relation(self, one: str, other: str) -> None:
        """Remove a relation. `settle` runs the hooks."""
        ends = dict(end.split(":", 1) for end in (one, other))
        for relation in self.state.relations.values():
            if relation.endpoints == ends:
                relation.dying = True
                return
        raise JujuError(f'relation "{one} {other}" not found')

    def databag(self, endpoint: str, owner: str = "") -> dict[str, str]:
        """Return a databag of the only relation of an endpoint.

        Args:
            endpoint: "application:endpoint".
            owner: The application or unit of either side. Default: the application.
        """
        application, _, name = endpoint.partition(":")
        (relation,) = (
            it for it in self.state.relations.values() if it.endpoints.get(application) == name
        )
        return dict(relation.bags.get(owner or application, {}))

    def _add_relation(self, endpoints: dict[str, str]) -> Relation:
        if any(it.endpoints == endpoints for it in self.state.relations.values()):
            raise JujuError(f"relation {endpoints} already exists")
        relation = Relation(next(self._numbers), endpoints)
        self.state.relations[relation.id] = relation
        return relation

    # --- User secrets

    def add_secret(self, content: dict[str, str]) -> str:
        """Add a secret. Return its URI, for config."""
        secret = Secret("", {1: check_secret_content(content)})
        self.state.secrets[secret.id] = secret
        return secret.uri

    def update_secret(self, uri: str, content: dict[str, str]) -> None:
        """Add a revision to a secret."""
        secret = self.state.secrets[secret_id(uri)]
        secret.revisions[secret.latest + 1] = check_secret_content(content)

    def grant_secret(self, uri: str, application: str) -> None:
        """Grant a secret to an application. As in Juju, this fires no event."""
        self.state.secrets[secret_id(uri)].grants[application] = None

    def revoke_secret(self, uri: str, application: str) -> None:
        """Revoke a grant."""
        del self.state.secrets[secret_id(uri)].grants[application]

    def remove_secret(self, uri: str) -> None:
        """Remove a secret with all its revisions."""
        del self.state.secrets[secret_id(uri)]


class Application:
    """An application. `Juju.deploy` creates it."""

    def __init__(self, juju: Juju, charm: Charm, name: str) -> None:
        self.juju = juju
        self.charm = charm
        self.name = name
        self.units: list[Unit] = []
        self.leader: Unit | None = None
        self.status: tuple[str, str] = ("unknown", "")
        self.config_version = 0
        self.dying = False
        self._set: dict[str, object] = {}
        self._numbers = itertools.count(0)

    @property
    def config_values(self) -> dict[str, object]:
        """The result of config-get: the options that are set or have a default."""
        return {**self.charm.defaults(), **self._set}

    def add_unit(self, place: Place | None = None) -> Unit:
        """Add a unit on a machine. Default: in a folder of this machine."""
        unit = Unit(self, next(self._numbers), place or Here(self.juju.folder))
        self.units.append(unit)
        self.leader = self.leader or unit
        return unit

    def config(self, options: Mapping[str, object]) -> None:
        """Set options. None resets an option to its default."""
        new = dict(self._set)
        for name, value in options.items():
            if value is None and name in self.charm.options:
                new.pop(name, None)
            else:
                new[name] = self.charm.config_value(name, value, self.juju.version)
        if new != self._set:
            self._set = new
            self.config_version += 1

    def refresh(self, charm: Path) -> None:
        """Refresh all units to another revision of the charm, with `Unit.refresh`."""
        for unit in self.units:
            unit.refresh(charm)

    def remove(self) -> None:
        """Remove the application, its relations and its units. `settle` runs their last hooks."""
        self.dying = True
        for relation in self.juju.state.relations.values():
            if self.name in relation.endpoints:
                relation.dying = True
        for unit in self.units:
            unit.dying = True


class Unit:
    """A unit of an application. `Application.add_unit` creates it."""

    def __init__(self, application: Application, number: int, place: Place) -> None:
        self.application = application
        self.juju = application.juju
        self.name = f"{application.name}/{number}"
        self.place = place
        tag = f"unit-{application.name}-{number}"
        self.charm = f"{_AGENTS}/{tag}/charm"
        """The charm's folder, on its machine."""
        self.tools = f"{_TOOLS}/{tag}"
        """The folder of its hook tools, on its machine."""
        self.workload_status: tuple[str, str] = ("waiting", "waiting for machine")
        """Status and message that the charm has set."""
        self.workload_version = ""
        self.runs: list[Run] = []
        """Every hook and action that ran, including failed ones."""
        self.view = resolver.UnitView()
        self.upgrades = 0
        self.dying = False
        self.failed: resolver.Hook | None = None
        """The failed hook, which Juju retries before any other."""
        self.addresses: tuple[Address, ...] = (Address(place.address),)
        """The addresses of its machine. A change fires config-changed."""
        self._kill_at = ""
        self._charm_folder = application.charm.folder
        self._in_place = self._charm_folder
        self._deployed: list[Path] = []
        self._put(self._charm_folder)
        self.juju.agent.install_tools(self)

    @property
    def is_leader(self) -> bool:
        """Whether it leads its application."""
        return self.application.leader is self

    @property
    def status(self) -> tuple[str, str]:
        """Status and message of `juju status`. While a hook fails, the status is error."""
        if self.failed is not None:
            return ("error", f'hook failed: "{self.failed.name}"')
        return self.workload_status

    @property
    def ports(self) -> set[str]:
        """The ports it has opened, as "80/tcp"."""
        return self.juju.state.ports.get(self.name, set())

    @property
    def hook_seconds(self) -> list[tuple[str, float]]:
        """The duration of each hook and action, in order."""
        return [(run.name, run.seconds) for run in self.runs]

    def fire(self, hook: str) -> None:
        """Run a hook that has no cause in the model, such as update-status."""
        self._run(resolver.Hook(hook))

    def kill_at(self, call: str) -> None:
        """Kill the next hook that makes a call, at that call, once.

        Args:
            call: The beginning of the call of the hook tool, for example "config-get".
        """
        self._kill_at = call

    def run_next_hook(self) -> bool:
        """Run the next hook. Return whether there was one. Raise HookFailed if it failed."""
        hook = resolver.next_hook(self) if self in self.application.units else None
        if hook is not None:
            self._run(hook)
        return hook is not None

    def run(
        self, name: str, *arguments: str, string_args: bool = False, wait: float = 60.0
    ) -> str:
        """Run an action as a person types it: `juju run UNIT NAME ARGUMENTS`.

        Args:
            name: The name of the action.
            arguments: For example "vm=node1". Juju reads them as YAML.
            string_args: Whether they are text (`--string-args`).
            wait: Seconds to wait. The action continues after that.

        Returns:
            The output.

        Raises:
            ActionFailed: Juju refuses the arguments, or the action failed or took too long.
        """
        action = self._action(name, arguments, string_args=string_args)
        run = self._run_action(action)
        if run.seconds > wait:
            message = f"timed out waiting for results from: unit {self.name}"
            raise ActionFailed(message, action.results)
        return client.show(action.results, failure=action.failure)

    def run_action(
        self, name: str, parameters: Mapping[str, object] | None = None
    ) -> dict[str, Any]:
        """Run an action as a program does, with parameters that are not read as YAML.

        Returns:
            The results. A dot in a key makes a nested result. Results of the charm are strings.

        Raises:
            ActionFailed: The action failed, or its schema does not allow the parameters.
        """
        action = self._action(name, given=parameters)
        self._run_action(action)
        return action.results

    def refresh(self, charm: Path) -> None:
        """Refresh the unit to another revision of the charm. upgrade-charm replaces the folder."""
        self.application.charm = Charm.load(charm)
        self._charm_folder = charm
        self.upgrades += 1

    def remove(self) -> None:
        """Remove the unit. `settle` runs its last hooks."""
        self.dying = True

    # --- For the agent and the resolver

    def is_killed_at(self, call: str) -> bool:
        """Return whether the hook is killed at this call."""
        killed = bool(self._kill_at) and call.startswith(self._kill_at)
        if killed:
            self._kill_at = ""
        return killed

    def swap_charm(self) -> None:
        """Replace the charm's folder, if the unit was refreshed."""
        if self._in_place != self._charm_folder:
            self._put(self._charm_folder)

    def commit(self, state: State, before: State) -> None:
        """Apply the changes of a hook of this unit."""
        for relation, name in state.count_changes_since(before):
            # A leader gets no event for its own changes of the peer data.
            if relation.is_peer and name == self.application.name:
                self.view.relations[relation.id].application = relation.versions[name]
        self.juju.state = state

    def left(self, relation: int) -> None:
        """Leave a relation. The last unit that leaves a dying relation removes it."""
        state = self.juju.state
        self.view.relations.pop(relation, None)
        state.relations[relation].members.discard(self.name)
        if state.relations[relation].dying and not state.relations[relation].members:
            del state.relations[relation]
            for secret in state.secrets.values():
                secret.grants = {
                    name: grant for name, grant in secret.grants.items() if grant != relation
                }

    def gone(self) -> None:
        """Delete Juju's files from the machine, and elect another leader."""
        for folder in (self.place.path(self.charm).parent, self.place.path(self.tools)):
            shutil.rmtree(folder)
            with contextlib.suppress(OSError):
                # Folders that other units also use are not empty.
                folder.parent.rmdir()
                folder.parent.parent.rmdir()
        self.juju.state.ports.pop(self.name, None)
        self.application.units.remove(self)
        if self.is_leader:
            units = self.application.units
            self.application.leader = units[0] if units else None
        if self.application.dying and not self.application.units:
            del self.juju.applications[self.application.name]
            self.juju.state.secrets = {
                identifier: secret
                for identifier, secret in self.juju.state.secrets.items()
                if application_of(secret.owner) != self.application.name
            }

    def _action(
        self,
        name: str,
        arguments: Sequence[str] = (),
        *,
        string_args: bool = False,
        given: Mapping[str, object] | None = None,
    ) -> Action:
        charm = self.application.charm
        if name not in charm.actions:
            raise ActionFailed(f'action "{name}" not defined on unit "{self.name}"', {})
        try:
            parameters = client.parameters(
                charm.folder / "actions.yaml",
                name,
                arguments,
                string_args=string_args,
                given=given,
            )
        except JujuError as error:
            raise ActionFailed(str(error), {}) from None
        return Action(name, parameters)

    def _run_action(self, action: Action) -> Run:
        # Juju runs an action between hooks, even before a retry, but never before install.
        while self.failed is None and (not self.view.installed or self.view.queued):
            self.run_next_hook()
        run = self.juju.agent.run(self, resolver.Hook("", action=action))
        self.runs.append(run)
        self.juju.log += [f"{self.name} action {action.name}: {line}" for line in action.messages]
        self.juju.check()
        if run.code:
            action.failure = f"exit status {run.code}"
        if action.failure:
            self.juju.log.append(f"{self.name} action {action.name} failed: {action.failure}")
            output = f":\n{run.output}" if run.code else ""
            raise ActionFailed(f"{action.failure}{output}", action.results)
        return run

    def _run(self, hook: resolver.Hook) -> None:
        run = self.juju.agent.run(self, hook)
        self.runs.append(run)
        self.juju.check()
        self.failed = hook if run.code else None
        if run.code:
            log = "\n".join(line for line in self.juju.log[-100:] if line.startswith(self.name))
            raise HookFailed(f"{self.name}: {run.name} failed with {run.code}:\n{log}")

    def _put(self, source: Path) -> None:
        """Copy a charm to its folder. As in Juju, files that hooks have written there stay."""
        self._in_place = source
        folder = self.place.path(self.charm)
        for old in self._deployed:
            (folder / old).unlink(missing_ok=True)
        shutil.copytree(source, folder, symlinks=True, dirs_exist_ok=True)
        self._deployed = [
            path.relative_to(source)
            for path in source.rglob("*")
            if path.is_symlink() or not path.is_dir()
        ]
