# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The commands to try the project out: `demo` and `simulate`.

`demo` plays MAAS. It starts the power service as a process and lets MAAS's webhook driver power
all VMs on and off through it, as MAAS does: over HTTP, with a new connection for each request and
with MAAS's pauses. What it prints for a VM can be pasted into MAAS.
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from maas_virtualbox import errors
from maas_virtualbox.cli import output
from maas_virtualbox.cli.app import EXIT_FAILED, Options, Panel, app
from maas_virtualbox.config import host_list, tokens
from maas_virtualbox.deadline import Deadline
from maas_virtualbox.maas.power_parameters import PowerParameters

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from maas_virtualbox.config.host_list import HostConfig
    from maas_virtualbox.simulator import maas

_READY_TIMEOUT_S = 30.0
_READY_POLL_S = 0.1
_REQUEST_TIMEOUT_S = 10.0
_STOP_TIMEOUT_S = 15.0
_MAX_THREADS = 64


@app.command(rich_help_panel=Panel.DEMO)
def demo(
    ctx: typer.Context,
    vms: Annotated[int, typer.Option(min=1, max=1000, help="Number of simulated VMs.")] = 10,
) -> None:
    """Play MAAS: start the power service and power all VMs on and off through it, verified.

    Uses the VMs of --hosts or --config, or of a simulated host. Skips VMs that are on.
    """
    options: Options = ctx.obj
    if options.hosts or options.config:
        succeeded = run(options.host_configs(), options.service_options(), options.format)
    else:
        succeeded = run_simulated(vms, options.format)
    if not succeeded:
        raise typer.Exit(EXIT_FAILED)


@app.command(rich_help_panel=Panel.DEMO)
def simulate(
    vms: Annotated[int, typer.Option(min=0, max=10_000, help="Number of VMs.")] = 10,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port.")] = 0,
) -> None:
    """Simulate a VirtualBox host on 127.0.0.1 until interrupted.

    Prints the options with which other commands reach it.
    """
    from maas_virtualbox import simulator  # noqa: PLC0415 - slow to load

    with simulator.Simulator(vms=vms, port=port, timings=simulator.Timings.real()) as host:
        fingerprint = host_list.key_fingerprint(host.host_key)
        print(
            f"--hosts '{host.host_entry} host-key={fingerprint}' --key {host.key_file}", flush=True
        )
        print("Interrupt (Ctrl-C) to stop.", file=sys.stderr, flush=True)
        while True:
            time.sleep(3600)


def run_simulated(vms: int, as_format: output.Format) -> bool:
    """Run the demo on a simulated host with the timings of a real one."""
    from maas_virtualbox import simulator  # noqa: PLC0415 - slow to load

    with simulator.Simulator(vms=vms, timings=simulator.Timings.real()) as host:
        print(f"A simulated VirtualBox host with {vms} VMs: {host.host_entry}")
        fingerprint = host_list.key_fingerprint(host.host_key)
        hosts = host_list.parse_hosts(f"{host.host_entry} name=demo host-key={fingerprint}")
        return run(hosts, {"ssh-private-key-file": str(host.key_file)}, as_format)


def run(hosts: Sequence[HostConfig], options: dict[str, object], as_format: output.Format) -> bool:
    """Run the demo. Return whether every VM was powered on and off.

    Skips VMs that are on. Powers off, in any case, every VM that it powered on.

    Args:
        hosts: the hosts.
        options: additional options for the service's configuration file.
        as_format: how VMs and parameters are printed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="maas-virtualbox-demo-") as folder,
        _running_service(Path(folder), hosts, options) as service,
    ):
        vms = _choose_vms(service, as_format)
        return bool(vms) and _Demo(service, vms, as_format).run()


# -- The power service ------------------------------------------------------------------------


class _DemoService:
    """A client of the running power service."""

    def __init__(self, port: int, secrets: tokens.Secrets) -> None:
        self._port = port
        self._secrets = secrets

    def get(self, path: str) -> Any:
        """Send a GET request to the API and return the decoded JSON."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            headers={"Authorization": f"Bearer {self._secrets.admin_token()}"},
        )
        with urllib.request.urlopen(request, timeout=_REQUEST_TIMEOUT_S) as response:  # noqa: S310
            return json.load(response)

    def parameters(self, uuid: str) -> PowerParameters:
        """Return the power parameters of a VM, as MAAS needs them."""
        token = self._secrets.vm_token(uuid)
        return PowerParameters.of(uuid, token, address="127.0.0.1", port=self._port, tls=False)


@contextlib.contextmanager
def _running_service(
    folder: Path, hosts: Sequence[HostConfig], options: dict[str, object]
) -> Generator[_DemoService]:
    """Start the power service, and stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    secrets = tokens.Secrets.new()
    config_file = _write_config(folder, port, secrets, hosts, options)
    command = [sys.executable, "-m", "maas_virtualbox", "serve", "--config", str(config_file)]
    # Ctrl-C must not reach the service, which is still needed to power off the VMs.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        service = _DemoService(port, secrets)
        _wait_until_ready(service, process)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _write_config(
    folder: Path,
    port: int,
    secrets: tokens.Secrets,
    hosts: Sequence[HostConfig],
    options: dict[str, object],
) -> Path:
    secrets_file = folder / "secrets.yaml"
    tokens.save(secrets_file, secrets)
    content: dict[str, object] = {
        "hosts": [
            host.model_dump(mode="json", by_alias=True, exclude_defaults=True) for host in hosts
        ],
        "secrets-file": str(secrets_file),
        "vm-hosts-file": str(folder / "vm-hosts.json"),
        "listen": f"127.0.0.1:{port}",
        "log-level": "warning",
        **options,
    }
    config_file = folder / "config.yaml"
    config_file.write_text(yaml.safe_dump(content))
    return config_file


def _wait_until_ready(service: _DemoService, process: subprocess.Popen[bytes]) -> None:
    deadline = Deadline.after(_READY_TIMEOUT_S)
    while True:
        with contextlib.suppress(OSError):
            service.get("/readyz")
            return
        if process.poll() is not None or deadline.is_past:
            raise errors.Error("the power service did not start; its messages are above")
        time.sleep(_READY_POLL_S)


# -- MAAS -------------------------------------------------------------------------------------


def _choose_vms(service: _DemoService, as_format: output.Format) -> list[dict[str, Any]]:
    """Print all VMs, and return those that are off."""
    answer = service.get("/api/v1/vms")
    for reason in answer["unreachable"].values():
        output.print_error(reason)
    output.print_vm_views(answer["vms"], as_format)
    chosen = [vm for vm in answer["vms"] if vm["power"] == "off"]
    if not chosen:
        output.print_error("no VM is off, so the demo has nothing to do")
    elif skipped := len(answer["vms"]) - len(chosen):
        print(f"{skipped} VMs are not off and are skipped.")
    return chosen


class _Demo:
    """Powers VMs on and off through the service, all at once, as MAAS does."""

    def __init__(
        self, service: _DemoService, vms: Sequence[dict[str, Any]], as_format: output.Format
    ) -> None:
        from maas_virtualbox.simulator import maas  # noqa: PLC0415 - slow to load

        self._service = service
        self._vms = vms
        self._format = as_format
        self._drivers = [maas.Driver(service.parameters(vm["uuid"])) for vm in vms]
        self._timings: list[str] = []

    def run(self) -> bool:
        """Power on, verify, power off, verify. Return whether all of it succeeded."""
        print("\nThe power parameters of the first VM (type webhook; the token is temporary):")
        first = self._vms[0]
        output.print_parameters([(first, self._service.parameters(first["uuid"]))], self._format)
        print()
        try:
            succeeded = self._do("on", lambda driver: driver.power_on())
            succeeded &= self._do("verify on", lambda driver: _verify(driver, "on"))
            output.print_vm_views(self._service.get("/api/v1/vms")["vms"], self._format)
        finally:
            is_off = self._do("off", lambda driver: driver.power_off())
        succeeded &= is_off
        succeeded &= self._do("verify off", lambda driver: _verify(driver, "off"))
        requests = sum(len(driver.exchanges) for driver in self._drivers)
        result = "on, verified, off, verified" if succeeded else "tried, with errors,"
        print(
            f"{len(self._vms)} VMs {result} by MAAS's webhook driver in {requests} requests: "
            + ", ".join(self._timings)
        )
        return succeeded

    def _do(self, step: str, action: Callable[[maas.Driver], object]) -> bool:
        """Let all drivers do one thing at once, with progress. Return whether all succeeded."""
        began = time.monotonic()
        succeeded = True
        with output.progress_bar() as bar, futures.ThreadPoolExecutor(_MAX_THREADS) as threads:
            task = bar.add_task(step, total=len(self._drivers))
            jobs = {
                threads.submit(action, driver): vm
                for driver, vm in zip(self._drivers, self._vms, strict=True)
            }
            for job in futures.as_completed(jobs):
                bar.advance(task)
                if (error := job.exception()) is not None:
                    output.print_error(f"{jobs[job]['name']}: {error}")
                    succeeded = False
        self._timings.append(f"{step} {time.monotonic() - began:.2f} s")
        return succeeded


def _verify(driver: maas.Driver, power: str) -> None:
    from maas_virtualbox.simulator import maas  # noqa: PLC0415 - slow to load

    if (state := driver.query()) != power:
        raise maas.PowerFailed(f"it is {state}, not {power}")
