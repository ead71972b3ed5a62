# SPDX-License-Identifier: GPL-2.0-only
"""The network of namespaces: who reaches whom, a cut link, what is left behind, and where it cannot be."""

from __future__ import annotations

import os
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.child import Child
from fixtures.hosts import HarnessError, Settings, Unsupported
from fixtures.namespaces import LINKS, NAMES, Network
from fixtures.qemu import QemuLauncher

ROOT = Path(__file__).parents[2]
PORT = 61234
#: Listens on all addresses, takes one connection after the other and sends back what comes.
ECHO = f"""
import socket
with socket.create_server(("0.0.0.0", {PORT})) as server:
    print("ready", flush=True)
    while True:
        connection, peer = server.accept()
        print(peer[0], flush=True)
        while data := connection.recv(4096):
            connection.sendall(data)
"""


@pytest.fixture
def network() -> Iterator[Network]:
    try:
        network = Network()
    except Unsupported as reason:
        pytest.skip(str(reason))
    with network:
        yield network


def await_line(child: Child) -> str:
    """The next line that a child says."""
    poll = select.poll()
    poll.register(child, select.POLLIN)
    while not (lines := child.read_lines()):
        assert poll.poll(5000), "it says nothing"
        assert child.poll() is None, child.last_line
    return lines[0]


@pytest.fixture
def echo(network: Network) -> Iterator[Child]:
    """An echo server at the source."""
    child = Child([*network.prefix("source"), sys.executable, "-c", ECHO])
    assert await_line(child) == "ready"
    yield child
    child.close()


def test_the_client_has_its_own_address(network: Network, echo: Child) -> None:
    address = network.addresses["source"]
    with network.connect((address, PORT)) as connection:
        assert connection.getpeername() == (address, PORT)
        assert connection.getsockname()[0] == "192.0.2.1"
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
    assert await_line(echo) == "192.0.2.1"


def test_the_hosts_reach_each_other_by_their_own_link(network: Network, echo: Child) -> None:
    network.cut("client", "source")
    call = f"import socket; socket.create_connection(({network.addresses['source']!r}, {PORT}), 5).close()"
    subprocess.run([*network.prefix("target"), sys.executable, "-c", call], check=True, timeout=20)
    assert await_line(echo) == "203.0.113.2"


def test_nobody_outside_is_reached(network: Network) -> None:
    with pytest.raises(OSError, match="unreachable"):
        network.connect(("10.255.255.1", PORT))
    with pytest.raises(OSError, match="refused"):
        network.connect((network.addresses["target"], PORT))


def test_a_connection_outlives_a_cut(network: Network, echo: Child) -> None:
    with network.connect((network.addresses["source"], PORT), timeout=10.0) as connection:
        network.cut("client", "source")
        connection.sendall(b"into the void")
        with pytest.raises(TimeoutError):
            network.connect((network.addresses["source"], PORT), timeout=0.1)
        network.mend("client", "source")
        assert connection.recv(13) == b"into the void"


def test_delay_or_a_clear_word(network: Network, echo: Child) -> None:
    refused = ""
    try:
        network.shape("client", "source", delay_ms=30.0)
    except Unsupported as reason:
        refused = str(reason)
    with network.connect((network.addresses["source"], PORT)) as connection:
        before = time.monotonic()
        connection.sendall(b"x")
        connection.recv(1)
        delayed = time.monotonic() - before >= 0.06
    assert delayed or re.match(r"the kernel cannot delay or lose packets \(netem\): \S[^\n]*$", refused)


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no qemu-system-x86_64 here")
def test_a_machine_moves_between_namespaces(network: Network) -> None:
    source, target = (
        QemuLauncher(prefix=network.prefix(name), address=network.addresses[name]).start(
            name, Settings(incoming=name == "target")
        )
        for name in ("source", "target")
    )
    with source, target:
        for host in (source, target):
            assert host.port is not None
            network.connect((host.address, host.port)).close()
        network.cut("client", "target")
        source.announce(target)
        assert source.begin_move(target)
        assert source.finish_move()


@pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="no qemu-system-x86_64 here")
def test_a_cut_between_the_hosts_stops_the_move(network: Network) -> None:
    source, target = (
        QemuLauncher(prefix=network.prefix(name), address=network.addresses[name]).start(
            name, Settings(incoming=name == "target")
        )
        for name in ("source", "target")
    )
    with source, target:
        network.cut("source", "target")
        source.deadline = 1.0
        with pytest.raises(HarnessError, match="hangs: nothing within 1 s"):
            source.begin_move(target)


def test_nothing_is_left_open() -> None:
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    try:
        Network().close()
    except Unsupported as reason:
        pytest.skip(str(reason))
    before = descriptors()
    network = Network()
    network.close()
    network.close()
    assert descriptors() == before
    with pytest.raises(HarnessError, match="is gone"):
        network.connect(("192.0.2.2", 1))


def test_it_does_not_outlive_us() -> None:
    program = (
        "import time\n"
        "from fixtures.namespaces import Network\n"
        "from fixtures.child import Child\n"
        "network = Network()\n"
        "inside = Child([*network.prefix('source'), 'sleep', '60'])\n"
        "print(network._holder.pid, inside.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as run:
        assert run.stdout is not None
        pids = [int(pid) for pid in run.stdout.readline().split()]
        if not pids:
            pytest.skip("no network namespaces here")
        ends = [os.pidfd_open(pid) for pid in pids]
        run.kill()
    for end in ends:
        assert select.select([end], [], [], 5.0)[0]
        os.close(end)


@pytest.mark.parametrize(
    ("limit", "reason"),
    [("max_net_namespaces", "unshare: No space left on device"), (None, "no program ip")],
)
def test_where_it_cannot_be_it_says_why(limit: str | None, reason: str) -> None:
    """In a user namespace that may have no network namespaces; and on a machine without iproute2."""
    program = (
        "import sys\n"
        "from fixtures import namespaces\n"
        "from fixtures.hosts import Unsupported\n"
        f"namespaces._PATH = '' if {limit is None} else namespaces._PATH\n"
        "try: namespaces.Network()\n"
        "except Unsupported as error: print(error)\n"
    )
    forbid = f"echo 0 > /proc/sys/user/{limit} && " if limit else ""
    outer = ["unshare", "--user", "--map-root-user", "sh", "-c", f'{forbid}exec "$@"', "sh"]
    done = subprocess.run(
        [*outer, sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if "unshare:" in done.stderr:
        pytest.skip("no user namespaces here")
    assert done.stdout.startswith(f"no network namespaces: {reason}"), done.stderr
    assert done.stdout.count("\n") == 1


def test_the_links_are_what_the_docstring_draws() -> None:
    import fixtures.namespaces

    assert set(NAMES) == {end for link in LINKS for end in link.ends}
    for link in LINKS:
        for address in link.addresses:
            assert re.search(rf"\b{re.escape(address)}\b", str(fixtures.namespaces.__doc__))
        one, other = (socket.inet_aton(address)[:3] for address in link.addresses)
        assert one == other
