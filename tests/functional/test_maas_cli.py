# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""`maas login`, `maas enlist` and `maas check`, with two simulated hosts and a fake region."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import os
import pty
import re
import signal
import stat
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from maas_virtualbox.cli import main
from maas_virtualbox.config import tokens
from maas_virtualbox.maas import messages
from maas_virtualbox.simulator import Simulator
from maas_virtualbox.virtualbox.states import VMState

from tests import fake_maas
from tests.fake_maas import KEY, USER_KEY, Region
from tests.service import PROGRAM, interruptible

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence
    from pathlib import Path

    from tests.functional.conftest import Run


@dataclasses.dataclass
class Lab:
    """Two hosts with five VMs each, a region, and a configuration file for both."""

    region: Region
    first: Simulator
    second: Simulator
    config_file: Path
    options: dict[str, object]
    run: Run

    def configure(self, **options: object) -> None:
        """Write the configuration file with changed options."""
        self.options |= {name.replace("_", "-"): value for name, value in options.items()}
        self.config_file.write_text(yaml.safe_dump(self.options))

    def maas(self, *arguments: str) -> tuple[int, str, str]:
        """Run `maas-virtualbox maas …` and check that its output contains no secret."""
        code, out, err = self.run("--config", str(self.config_file), "maas", *arguments)
        for part in KEY.split(":"):
            assert part not in out + err
        return code, out, err

    def enlist(self, *arguments: str) -> dict[str, Any]:
        """Clear the recorded calls and enlist without errors. Return the JSON."""
        self.region.clear_calls()
        code, out, err = self.maas("enlist", "--format", "json", *arguments)
        assert (code, err) == (0, "")
        return json.loads(out)


@pytest.fixture
def lab(tmp_path: Path, run: Run) -> Generator[Lab]:
    """All hosts are up, and nothing is enlisted."""
    with (
        fake_maas.served() as region,
        Simulator() as first,
        Simulator(key_file=first.key_file) as second,
    ):
        for number in range(1, 6):
            first.virtualbox.add_vm(f"mbp13-{number}", macs=[f"08:00:27:00:13:0{number}"])
            second.virtualbox.add_vm(f"mbp15-{number}", macs=[f"08:00:27:00:15:0{number}"])
        key_file = tmp_path / "key"
        key_file.write_text(f"{KEY}\n")
        tokens.save(tmp_path / "secrets.yaml", tokens.Secrets.new())
        made = Lab(region, first, second, tmp_path / "config.yaml", {}, run)
        made.configure(
            hosts=[
                f"{first.host_entry} name=one zone=izMBP13",
                f"{second.host_entry} name=two zone=izMBP15",
            ],
            ssh_private_key_file=str(first.key_file),
            known_hosts_file=str(tmp_path / "pins"),
            secrets_file=str(tmp_path / "secrets.yaml"),
            listen="10.0.0.2:5307",
            maas_url=region.url,
            maas_api_key_file=str(key_file),
        )
        yield made
        assert not region.unexpected


def rows(found: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Return the kind, VM, text and result of each change."""
    return [
        (change["kind"], change["vm"], change["text"], change["result"])
        for change in found["changes"]
    ]


# -- enlist -------------------------------------------------------------------------------------


def test_enlist_creates_machines_once(lab: Lab) -> None:
    planned = lab.enlist("--dry-run")
    assert lab.region.writes == []
    done = lab.enlist()

    assert planned["summary"] == done["summary"] == "10 create"
    assert {change["result"] for change in planned["changes"]} == {""}
    assert {change["result"] for change in done["changes"]} == {"done"}
    assert [zone["name"] for zone in done["zones"]] == ["izMBP13", "izMBP15"]
    assert lab.region.zones["izMBP13"] == lab.first.host_entry
    names = {machine["hostname"] for machine in lab.region.machines.values()}
    assert names == {f"mbp{kind}-{number}" for kind in (13, 15) for number in range(1, 6)}
    uri = lab.region.machine("mbp13-1")["power_parameters"]["power_on_uri"]
    uuid = lab.first.virtualbox.vm("mbp13-1").uuid
    assert uri == f"http://10.0.0.2:5307/vm/{uuid}/on"

    again = lab.enlist()
    assert (again["changes"], again["summary"]) == ([], "10 up to date")
    assert lab.region.writes == []
    assert len(lab.region.reads) == 8


def test_enlist_in_a_pipe_prints_a_plain_table(lab: Lab) -> None:
    code, out, err = lab.maas("enlist")

    heading, *rows = out.splitlines()
    assert (code, err) == (0, "")
    assert heading.split() == ["PLAN", "HOST", "VM", "MACHINE", "WHAT", "HINT"]
    assert rows[0].index("MAC 08:00:27") == heading.index("WHAT")
    assert rows[-1] == "10 of 10 machines written"
    assert "\x1b" not in out
    assert lab.maas("enlist")[1] == "nothing to do: 10 up to date\n"
    assert lab.maas("enlist", "--format", "plain")[1] == ""


def test_enlist_with_new_address_updates_all_machines(lab: Lab) -> None:
    lab.enlist()

    done = lab.enlist("--address", "10.0.0.9")

    assert done["summary"] == "10 update"
    assert [call.method for call in lab.region.writes] == ["PUT"] * 10
    uris = [
        machine["power_parameters"]["power_off_uri"] for machine in lab.region.machines.values()
    ]
    assert all(uri.startswith("http://10.0.0.9:5307/") for uri in uris)


def test_enlist_after_changes_updates_these_machines(lab: Lab) -> None:
    lab.enlist()
    renamed = lab.first.virtualbox.vm("mbp13-1")
    renamed.name = "web"
    lab.first.virtualbox.vm("mbp13-2").macs = ["080027001399"]
    moved = lab.first.virtualbox.vm("mbp13-3")
    lab.first.vboxmanage("unregistervm", moved.uuid)
    lab.second.virtualbox.add_vm(moved.name, macs=moved.macs, uuid=moved.uuid)

    done = lab.enlist()

    assert rows(done) == [
        ("update", "web", "hostname mbp13-1 → web; tag", "done"),
        ("update", "mbp13-2", "MAC 08:00:27:00:13:99", "done"),
        ("update", "mbp13-3", "zone izMBP13 → izMBP15", "done"),
    ]
    assert len(lab.region.writes) == 4
    assert lab.enlist()["changes"] == []


def test_enlist_with_filter_commissions_selected_vms(lab: Lab) -> None:
    done = lab.enlist("--host", "one", "--name", "*-[12]", "--commission")
    assert [change["vm"] for change in done["changes"]] == ["mbp13-1", "mbp13-2"]
    assert lab.region.machine("mbp13-1")["status_name"] == "Commissioning"

    assert len(lab.enlist("--zone", "izMBP15")["changes"]) == 5
    code, _, err = lab.maas("enlist", "--host", "three")
    assert code == main.EXIT_FAILED
    assert "no host 'three' in the host list" in err


def test_enlist_with_a_conflict_enlists_the_others(lab: Lab) -> None:
    lab.second.virtualbox.vm("mbp15-1").macs = ["080027001301"]

    code, out, _ = lab.maas("enlist")

    assert code == main.EXIT_FAILED
    assert out.count("conflict") == 3  # two lines and the summary
    assert "its MAC 08:00:27:00:13:01 also belongs to two/mbp15-1" in out
    assert len(lab.region.machines) == 8


def test_enlist_with_a_host_down_continues(lab: Lab) -> None:
    lab.enlist()
    lab.second.close_port()

    code, out, err = lab.maas("enlist", "--format", "json")

    assert code == main.EXIT_HOST_DOWN
    assert json.loads(out)["changes"] == []
    assert "two: " in err


@pytest.mark.parametrize(
    ("response", "text"),
    [
        ((401, "no"), "is the API key right?"),
        ((403, "no"), "does the API key belong to an administrator?"),
        ((200, "<html>"), "the response is not JSON"),
    ],
)
def test_enlist_with_a_failing_maas_prints_one_sentence(
    lab: Lab, response: tuple[int, str], text: str
) -> None:
    lab.region.forced = [response]

    code, out, err = lab.maas("enlist")

    assert (code, out) == (main.EXIT_FAILED, "")
    assert err.startswith("maas-virtualbox: http://127.0.0.1:")
    assert text in err
    assert err.count("\n") == 1


def test_enlist_after_a_crash_of_maas_completes(lab: Lab) -> None:
    lab.region.dies_after_writes = 7
    code, out, err = lab.maas("enlist", "--format", "json")

    assert code == main.EXIT_FAILED
    assert err.count("no response from MAAS") == 1
    results = {change["result"] for change in json.loads(out)["changes"]}
    assert "done" not in results or results >= {"done", "not tried"}

    lab.region.dies_after_writes = None
    lab.enlist()
    assert lab.enlist()["summary"] == "10 up to date"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_enlist_interrupted_finishes_machines_in_progress(
    lab: Lab, number: signal.Signals
) -> None:
    code, err = interrupted_by(lab, number)

    assert code == main.EXIT_INTERRUPTED
    count = len(lab.region.machines)
    assert 0 < count <= 8
    tagged = {len(machine["tag_names"]) for machine in lab.region.machines.values()}
    assert tagged == {1}, err
    assert err.endswith(
        f"interrupted: {count} of 10 machines written: enlist again for the others\n"
    )
    lab.enlist()
    assert lab.enlist()["summary"] == "10 up to date"


def test_enlist_interrupted_also_shows_what_failed(lab: Lab) -> None:
    lab.region.loses_answer_to = "tags/"

    code, err = interrupted_by(lab, signal.SIGINT)

    assert code == main.EXIT_INTERRUPTED
    assert f"{lab.region.url}/api/2.0/tags/: no response" in err
    assert err.endswith("0 of 10 machines written: enlist again for the others\n")


def test_enlist_after_being_killed_completes(lab: Lab) -> None:
    code, _ = interrupted_by(lab, signal.SIGKILL)

    assert code == -signal.SIGKILL
    lab.enlist()
    assert lab.enlist()["summary"] == "10 up to date"
    assert len(lab.region.machines) == 10


def interrupted_by(lab: Lab, number: signal.Signals) -> tuple[int, str]:
    """Enlist, and send a signal after the first machine, while others are in progress."""
    lab.region.pauses_after_writes = 3  # two zones and a machine
    process = subprocess.Popen(
        interruptible(PROGRAM, "--config", lab.config_file, "maas", "enlist"),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    err = ""
    try:
        while process.poll() is None and lab.region.answers.is_set():
            time.sleep(0.02)
        process.send_signal(number)
        for line in process.stderr:
            err += line
            if str(messages.FINISHING) in line:
                break
        lab.region.answers.set()
        err += process.stderr.read()
        process.wait(60)
    finally:
        process.kill()
        process.wait(10)
        process.stderr.close()
    return process.returncode, err


# -- Time limits --------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["enlist", "check"])
def test_command_with_a_hanging_maas_ends_at_its_timeout(lab: Lab, command: str) -> None:
    lab.region.answers.clear()

    code, out, err = lab.maas(command, "--timeout", "1", "--format", "plain")

    lab.region.answers.set()
    assert code == main.EXIT_FAILED
    assert re.search("no response from MAAS within|no time left", out + err)


# -- A fresh region -----------------------------------------------------------------------------


@pytest.fixture
def real_lab(lab: Lab) -> Lab:
    """A fresh region without images and racks, with a thousandth of a real region's latencies."""
    fresh = Region.real()
    lab.region.latencies, lab.region.devices = fresh.latencies, fresh.devices
    lab.region.images, lab.region.racks = [], {}
    return lab


def test_enlist_in_a_fresh_maas_prints_two_sentences(real_lab: Lab) -> None:
    code, _, err = real_lab.maas("enlist", "--commission")

    assert code == main.EXIT_FAILED
    vms = "10 VMs (one/mbp13-1, one/mbp13-2, one/mbp13-3, …)"
    assert err.splitlines() == [
        f"maas-virtualbox: {messages.NO_RACK}",
        f"maas-virtualbox: {vms}: {messages.NO_IMAGES}",
    ]
    assert real_lab.region.machines == {}


def test_enlist_dry_run_reports_problems_of_maas(real_lab: Lab) -> None:
    _, _, err = real_lab.maas("enlist", "--dry-run")

    assert err.splitlines() == [
        f"maas-virtualbox: {messages.NO_IMAGES}",
        f"maas-virtualbox: {messages.NO_RACK}",
    ]
    assert real_lab.region.writes == []


def test_enlist_commissions_when_a_rack_is_reachable(real_lab: Lab) -> None:
    real_lab.region.images = ["amd64"]
    real_lab.region.racks = {"rack1": ["192.168.0.0/24"]}
    code, out, err = real_lab.maas("enlist", "--commission", "--format", "json")

    results = {change["result"] for change in json.loads(out)["changes"]}
    assert (code, results) == (main.EXIT_FAILED, {"not commissioned"})
    assert err.count("\n") == 1
    assert str(messages.NOT_COMMISSIONED) in err

    real_lab.region.racks = {"rack1": ["10.0.0.0/24"]}
    done = real_lab.enlist("--commission")
    assert (done["summary"], len(real_lab.region.machines)) == ("10 update", 10)
    assert {change["text"] for change in done["changes"]} == {"commission"}
    assert real_lab.enlist("--commission")["changes"] == []


def test_enlist_in_a_terminal_shows_the_time_left(lab: Lab) -> None:
    lab.region.delay_s = 0.05
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, "--config", lab.config_file, "maas", "enlist"],
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(theirs)
    shown = b""
    with contextlib.suppress(OSError):  # at its end
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)

    assert process.wait(60) == 0
    assert b"reading MAAS" in shown
    plain = re.sub(rb"\x1b\[[0-9;?]*[a-zA-Z]", b"", shown)
    assert re.search(rb"enlisting [^\r]* \d+/10 \d:\d\d:\d\d [-\d]:[-\d]{2}:[-\d]{2}", plain), (
        plain
    )


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"maas_url": ""}, "maas enlist needs maas-url and maas-api-key-file"),
        ({"maas_api_key_file": "/nosuch"}, "/nosuch cannot be read"),
        ({"maas_url": "10.0.0.2"}, "maas-url: expected http://ADDRESS:5240/MAAS"),
    ],
)
def test_enlist_with_incomplete_configuration_says_so(
    lab: Lab, options: dict[str, object], text: str
) -> None:
    lab.configure(**options)

    code, _, err = lab.maas("enlist")

    assert code == main.EXIT_USAGE
    assert text in err


def test_enlist_with_a_name_as_address_writes_nothing(lab: Lab) -> None:
    code, _, err = lab.maas("enlist", "--address", "maas.example")

    assert code == main.EXIT_USAGE
    assert "expected a literal IP address, not 'maas.example'" in err
    assert lab.region.writes == []


# -- login --------------------------------------------------------------------------------------


def log_in(config: Sequence[str], key: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `maas login` with the key on standard input."""
    return subprocess.run(
        [PROGRAM, *config, "maas", "login", *arguments],
        input=f"{key}\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_login_stores_the_key(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "key"
    with fake_maas.served() as region:
        done = log_in([], KEY, region.url, "--key-file", str(path))

    assert (done.returncode, done.stderr) == (0, "")
    assert path.read_text() == f"{KEY}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "the API key of admin, an administrator of MAAS (mode 0600)" in done.stdout
    lines = done.stdout.partition("In the configuration file:\n\n")[2]
    assert yaml.safe_load(lines) == {"maas-url": region.url, "maas-api-key-file": str(path)}
    assert KEY not in done.stdout


@pytest.mark.parametrize(
    ("key", "code", "text"),
    [
        (USER_KEY, main.EXIT_USAGE, "bob, the user of this API key, is not an administrator"),
        ("wrong:wrong-token:wrong-secret", main.EXIT_FAILED, "is the API key right?"),
        ("no key", main.EXIT_USAGE, "expected a key of three parts"),
        ("", main.EXIT_USAGE, "expected a key of three parts"),
    ],
)
def test_login_rejects_unusable_keys(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str, code: int, text: str
) -> None:
    path = tmp_path / "key"
    monkeypatch.setattr("sys.stdin", io.StringIO(key))
    with fake_maas.served() as region:
        left, out, err = run("maas", "login", region.url, "--key-file", str(path))

    assert (left, out) == (code, "")
    assert text in err
    assert not key or key not in err
    assert not path.exists()


# -- check --------------------------------------------------------------------------------------


def findings(lab: Lab, *arguments: str) -> tuple[int, dict[str, list[dict[str, str]]]]:
    """Return the exit code and the findings of `maas check`, by check."""
    code, out, _ = lab.maas("check", "--format", "json", *arguments)
    found: dict[str, list[dict[str, str]]] = {}
    for finding in json.loads(out):
        found.setdefault(finding["check"], []).append(finding)
    return code, found


def test_check_without_problems_reports_ok(lab: Lab) -> None:
    lab.enlist()
    lab.first.virtualbox.vm("mbp13-1").state = VMState.SAVED
    for machine in lab.region.machines.values():
        machine["power_state"] = "off"

    code, found = findings(lab)

    assert code == 0
    assert {name: len(findings) for name, findings in found.items()} == {
        "API": 1,
        "API key": 1,
        "rack": 1,
        "power": 10,
    }
    assert {finding["level"] for group in found.values() for finding in group} == {"ok"}
    assert found["API"][0]["text"] == "MAAS 3.7.3 answers"


def test_check_reports_missing_machines_and_wrong_power(lab: Lab) -> None:
    lab.enlist("--host", "one")
    lab.region.machine("mbp13-1")["power_state"] = "on"

    code, found = findings(lab)

    assert code == 0
    assert len(found["create"]) == 5
    assert found["create"][0]["hint"] == "maas-virtualbox maas enlist"
    (wrong,) = (finding for finding in found["power"] if finding["vm"] == "mbp13-1")
    assert wrong["text"] == "MAAS reports mbp13-1 as on, but VirtualBox reports off"
    assert wrong["level"] == "warning"


def test_check_with_unreachable_address_reports_the_subnets(lab: Lab) -> None:
    lab.enlist()

    code, found = findings(lab, "--address", "192.168.7.7")

    assert code == main.EXIT_FAILED
    assert len(found["update"]) == 10
    assert "URIs http://10.0.0.2:5307 → http://192.168.7.7:5307" in found["update"][0]["text"]
    assert "no rack controller is on a subnet of 192.168.7.7" in found["rack"][0]["text"]
    assert "10.0.0.0/24" in found["rack"][0]["hint"]


def test_check_reports_old_version_user_key_and_loopback(lab: Lab) -> None:
    lab.region.version = "2.9.1"
    lab.region.users[KEY] = ("bob", False)

    code, found = findings(lab, "--address", "127.0.0.1")

    assert code == main.EXIT_FAILED
    assert "2.9.2 introduced the webhook power type" in found["API"][0]["hint"]
    assert "bob is not an administrator" in found["API key"][0]["text"]
    assert "MAAS cannot reach 127.0.0.1" in found["rack"][0]["text"]


def test_check_reports_missing_images_and_racks(real_lab: Lab) -> None:
    code, found = findings(real_lab)

    assert code == main.EXIT_FAILED
    (images,), (rack,) = found["images"], found["rack"]
    assert (images["level"], rack["level"]) == ("error", "error")
    assert f"{images['text']}: {images['hint']}" == str(messages.NO_IMAGES)
    assert f"{rack['text']}: {rack['hint']}" == str(messages.NO_RACK)


def test_check_reports_missing_architecture(lab: Lab) -> None:
    lab.region.images = ["arm64"]

    code, found = findings(lab)

    assert code == main.EXIT_FAILED
    (images,) = found["images"]
    message = messages.NO_IMAGE.of(architecture="amd64")
    assert f"{images['text']}: {images['hint']}" == str(message)


@pytest.mark.parametrize(
    ("version", "level", "message"),
    [
        ("2.9.2", "warning", messages.VERIFY_SSL_IGNORED),
        ("3.0.0", "error", messages.VERIFY_SSL_BROKEN),
        ("3.4.9", "error", messages.VERIFY_SSL_BROKEN),
        ("3.5.4", "error", messages.VERIFY_SSL_BROKEN),
        ("3.6.0", "error", messages.VERIFY_SSL_BROKEN),
        ("3.5.5", "", None),
        ("3.5.10", "", None),
        ("3.6.1", "", None),
        ("3.7.3", "", None),
    ],
)
def test_check_reports_versions_that_break_verify_ssl(
    lab: Lab, version: str, level: str, message: messages.Message | None
) -> None:
    lab.enlist()
    lab.region.version = version
    assert "certificates" not in findings(lab)[1]
    lab.region.machine("mbp13-1")["power_parameters"]["power_verify_ssl"] = "y"

    found = findings(lab)[1].get("certificates", [])

    assert [finding["level"] for finding in found] == ([level] if level else [])
    if message is not None:
        assert found[0]["text"] == f"{message.of(version=version).text}: mbp13-1"
        assert found[0]["hint"] == message.hint


def test_check_reports_a_failing_maas(lab: Lab) -> None:
    lab.region.forced = [(500, "")]

    code, found = findings(lab)

    assert code == main.EXIT_FAILED
    assert "MAAS answered 500" in found["API"][0]["text"]


def test_enlist_only_writes_selected_kinds(lab: Lab) -> None:
    assert lab.enlist("--only", "update")["summary"] == "0 up to date"
    assert lab.region.writes == []

    lab.enlist("--only", "create")
    lab.configure(listen="10.0.0.3:5307")

    assert lab.enlist("--only", "adopt")["changes"] == []
    assert lab.enlist("--only", "update", "--only", "adopt")["summary"] == "10 update"
