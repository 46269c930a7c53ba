"""Ray clusters of this machine, whose nodes are processes that can be killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"
NODE = ("--num-cpus=1", "--object-store-memory=80000000", "--disable-usage-stats")
SECRET = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef" * 4}
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(SRC), **SECRET}


WAIT = """import logging, ray, sys, time
ray.init(address=sys.argv[1], logging_level=logging.ERROR, log_to_driver=False)
until = time.monotonic() + 60
while sum(node["Alive"] for node in ray.nodes()) != int(sys.argv[2]):
    assert time.monotonic() < until, ray.nodes()
    time.sleep(0.2)"""


class Cluster:
    """Nodes on this machine, each a process of its own that can be killed."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.nodes = folder, []
        self.port, self.client = free_port(), free_port()
        head = ("--head", f"--port={self.port}", f"--ray-client-server-port={self.client}")
        self.start(*head, "--include-dashboard=false", f"--temp-dir={folder}")
        wait_for(self.port)
        wait_for(self.client)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        words = words or (f"--address={self.address}",)
        log = (self.folder / f"node{len(self.nodes)}.log").open("wb")
        node = subprocess.Popen(
            [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", *words, *NODE,
             "--node-ip-address=127.0.0.1"],
            env={**os.environ, **QUIET}, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        log.close()
        self.nodes.append(node)
        return node

    def wait_for_nodes(self, count: int) -> None:
        """Until that many have joined, as Ray itself sees it."""
        words = [sys.executable, "-c", WAIT, self.address, str(count)]
        subprocess.run(words, env={**os.environ, **QUIET}, check=True)

    def stop(self) -> None:
        for process in reversed(self.nodes):
            kill_tree(process.pid)
            process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(port: int) -> None:
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise TimeoutError(port)


def kill_tree(pid: int, *, but_root: bool = False) -> None:
    """What the end of a machine does: every process at once, nobody says goodbye."""
    import psutil

    try:
        root = psutil.Process(pid)
    except psutil.NoSuchProcess:
        return
    for process in [*root.children(recursive=True), *([] if but_root else [root])]:
        try:
            process.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            continue
