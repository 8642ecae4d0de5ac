# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The demonstration: the power service as a process of its own, and MAAS's driver for every VM.

All VMs on, verified, off, verified, as MAAS does it: over HTTP, a new connection each time, with
its pauses. What is printed of a VM is what one would paste into MAAS.
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
from typing import TYPE_CHECKING, Any, TypeVar

import yaml

from maas_virtualbox import errors, simulator
from maas_virtualbox.cli import output
from maas_virtualbox.config import host_list, tokens
from maas_virtualbox.maas.power_parameters import PowerParameters
from maas_virtualbox.simulator import maas

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from maas_virtualbox.config.host_list import HostConfig

_T = TypeVar("_T")

_READY_S = 30.0
_STOP_S = 15.0
_AT_ONCE = 64


def run_simulated(vms: int, as_format: output.Format) -> bool:
    """Run the demonstration on a simulated host with the timings of a real one."""
    with simulator.Simulator(vms=vms, timings=simulator.Timings.real()) as host:
        print(f"A simulated VirtualBox host with {vms} VMs: {host.host_entry}")
        fingerprint = host_list.key_fingerprint(host.host_key)
        listed = host_list.parse_hosts(f"{host.host_entry} name=demo host-key={fingerprint}")
        return run(listed, {"ssh-private-key-file": str(host.key_file)}, as_format)


def run(
    listed: Sequence[HostConfig], options: dict[str, object], as_format: output.Format
) -> bool:
    """Run the demonstration; true if every VM went on and off. VMs that are on stay alone.

    Whatever happens, what the demonstration switched on is switched off at the end.

    Args:
        listed: the hosts.
        options: more for the service's configuration file.
        as_format: how VMs and parameters are printed.
    """
    with (
        tempfile.TemporaryDirectory(prefix="maas-virtualbox-demo-") as folder,
        _service(Path(folder), listed, options) as service,
    ):
        return _play_maas(service, as_format)


class _Service:
    """The running power service, from the outside."""

    def __init__(self, port: int, secrets: tokens.Secrets) -> None:
        self._port = port
        self._secrets = secrets

    def get(self, path: str) -> Any:
        """Ask the API."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self._port}{path}",
            headers={"Authorization": f"Bearer {self._secrets.admin_token()}"},
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 - as above
            return json.load(answer)

    def parameters(self, uuid: str) -> PowerParameters:
        """What MAAS has to know of a VM."""
        token = self._secrets.vm_token(uuid)
        return PowerParameters.of(uuid, token, address="127.0.0.1", port=self._port, tls=False)


@contextlib.contextmanager
def _service(
    folder: Path, listed: Sequence[HostConfig], options: dict[str, object]
) -> Generator[_Service]:
    """Start the power service and stop it at the end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config_file, secrets_file = folder / "config.yaml", folder / "secrets.yaml"
    secrets = tokens.Secrets.new()
    tokens.save(secrets_file, secrets)
    content: dict[str, object] = {
        "hosts": [
            host.model_dump(mode="json", by_alias=True, exclude_defaults=True) for host in listed
        ],
        "secrets-file": str(secrets_file),
        "vm-hosts-file": str(folder / "vm-hosts.json"),
        "listen": f"127.0.0.1:{port}",
        "log-level": "warning",
        **options,
    }
    config_file.write_text(yaml.safe_dump(content))
    command = [sys.executable, "-m", "maas_virtualbox", "serve", "--config", str(config_file)]
    # Ctrl-C is for us: what is on has to be switched off through the service.
    process = subprocess.Popen(command, start_new_session=True)
    try:
        service = _Service(port, secrets)
        until = time.monotonic() + _READY_S
        while True:
            with contextlib.suppress(OSError):
                service.get("/readyz")
                break
            if process.poll() is not None or time.monotonic() > until:
                raise errors.Error("the power service did not start; see its words above")
            time.sleep(0.1)
        yield service
    finally:
        process.terminate()
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _play_maas(service: _Service, as_format: output.Format) -> bool:
    steps: list[tuple[str, float]] = []

    def timed(step: str, work: Callable[[], _T]) -> _T:
        began = time.monotonic()
        try:
            return work()
        finally:
            steps.append((step, time.monotonic() - began))

    answer = timed("list", lambda: service.get("/api/v1/vms"))
    for reason in answer["unreachable"].values():
        output.print_error(reason)
    before: list[dict[str, Any]] = answer["vms"]
    output.print_vm_views(before, as_format)
    chosen = [vm for vm in before if vm["power"] == "off"]
    if not chosen:
        output.print_error("no VM is off, so there is nothing to show")
        return False
    if len(chosen) < len(before):
        print(f"{len(before) - len(chosen)} VMs are not off and are left alone.")
    print("\nWhat MAAS is told of the first (power type webhook; the token is this demo's):")
    output.print_parameters([(chosen[0], service.parameters(chosen[0]["uuid"]))], as_format)
    print()
    drivers = [maas.Driver(service.parameters(vm["uuid"])) for vm in chosen]
    try:
        good = timed("on", lambda: _each("on", maas.Driver.power_on, drivers, chosen))
        good &= timed("verify", lambda: _all_are("on", drivers, chosen))
        output.print_vm_views(service.get("/api/v1/vms")["vms"], as_format)
    finally:
        good_off = timed("off", lambda: _each("off", maas.Driver.power_off, drivers, chosen))
    good &= good_off
    good &= timed("verify off", lambda: _all_are("off", drivers, chosen))
    requests = sum(len(driver.exchanges) for driver in drivers)
    print(
        f"{len(chosen)} VMs {'on, verified, off, verified' if good else 'tried, NOT all well'}"
        f" by MAAS's webhook driver in {requests} requests: "
        + ", ".join(f"{step} {seconds:.2f} s" for step, seconds in steps)
    )
    return good


def _each(
    verb: str,
    work: Callable[[maas.Driver], object],
    drivers: Sequence[maas.Driver],
    vms: Sequence[dict[str, Any]],
) -> bool:
    """Let all drivers do one thing at once, with a progress display; true if none failed."""
    good = True
    with output.progress_bar() as bar, futures.ThreadPoolExecutor(_AT_ONCE) as threads:
        task = bar.add_task(verb, total=len(drivers))
        jobs = {threads.submit(work, driver): vm for driver, vm in zip(drivers, vms, strict=True)}
        for job in futures.as_completed(jobs):
            bar.advance(task)
            if (error := job.exception()) is not None:
                output.print_error(f"{jobs[job]['name']}: {error}")
                good = False
    return good


def _all_are(
    wanted: maas.State, drivers: Sequence[maas.Driver], vms: Sequence[dict[str, Any]]
) -> bool:
    def check(driver: maas.Driver) -> None:
        if (state := driver.query()) != wanted:
            raise maas.PowerFailed(f"it is {state}, not {wanted}")

    return _each(f"verify {wanted}", check, drivers, vms)
