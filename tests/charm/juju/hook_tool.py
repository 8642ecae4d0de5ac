#!/usr/bin/python3 -IS
# Copyright 2026 The maas-virtualbox authors
# SPDX-License-Identifier: Apache-2.0
"""The program of every hook tool. It sends the call to the agent and prints the response.

It starts without site-packages to save time, because a hook makes a dozen calls.
"""

import json
import os
import signal
import socket
import sys

_TIMEOUT_S = 60.0


def _files(arguments: list[str]) -> dict[str, str]:
    """Read the files in the arguments, because the agent may have a different /tmp."""
    found: dict[str, str] = {}
    for index, argument in enumerate(arguments):
        if index and arguments[index - 1] == "--file":
            name = argument
        else:
            option, equals, name = argument.partition("=")
            if not equals or (option != "--file" and not option.endswith("#file")):
                continue
        if name == "-":
            found[name] = sys.stdin.read()
        else:
            with open(name, encoding="utf-8") as file:
                found[name] = file.read()
    return found


def main() -> int:
    """Make the call. Return the exit code."""
    request = {
        "context": os.environ.get("JUJU_CONTEXT_ID", ""),
        "tool": os.path.basename(sys.argv[0]),
        "arguments": sys.argv[1:],
        "files": _files(sys.argv[1:]),
    }
    with socket.socket(socket.AF_UNIX) as agent:
        agent.settimeout(_TIMEOUT_S)
        # "@" marks an abstract socket, which can be reached from every mount namespace.
        agent.connect(os.environ["JUJU_AGENT_SOCKET_ADDRESS"].replace("@", "\0", 1))
        agent.sendall(json.dumps(request).encode() + b"\n")
        with agent.makefile("rb") as answer:
            code, output, errors = json.loads(answer.readline())
    if code < 0:
        # Kill the process group, which is the whole hook, as the kernel does if memory is short.
        os.kill(0, signal.SIGKILL)
    sys.stdout.write(output)
    sys.stderr.write(errors)
    return code


if __name__ == "__main__":
    sys.exit(main())
