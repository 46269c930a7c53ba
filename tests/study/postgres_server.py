"""A PostgreSQL server of our own: made in a temporary folder, ended with the tests."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from pathlib import Path
from typing import Any

PASSWORD = "correct horse"


def binaries() -> Path | None:
    """The folder of initdb and pg_ctl, which Debian keeps out of the PATH."""
    found = shutil.which("initdb")
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return Path(found).parent if found else folders[-1].parent if folders else None


class Server:
    """Listens on the loopback; whoever comes is trusted, but for `locked`, who has a password."""

    def __init__(self, programs: Path) -> None:
        self.programs, self.folder = programs, Path(tempfile.mkdtemp(prefix="paramcast-postgres-"))
        self.data = self.folder / "data"
        if os.getuid() == 0:  # it refuses to run as root
            shutil.chown(self.folder, "postgres", "postgres")
        self._do("initdb", "-D", self.data, "-U", "owner", "-A", "trust", "-E", "UTF8", "--no-sync")
        hba = (
            f"host all locked 127.0.0.1/32 scram-sha-256\n{(self.data / 'pg_hba.conf').read_text()}"
        )
        (self.data / "pg_hba.conf").write_text(hba)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.start()
        self.sql(f"CREATE ROLE locked LOGIN PASSWORD '{PASSWORD}'", "CREATE ROLE reader LOGIN")

    def start(self) -> None:
        options = f"-p {self.port} -k {self.folder} -h 127.0.0.1 -F"  # -F: no fsync, it is a test
        self._do("pg_ctl", "-D", self.data, "-w", "-l", self.folder / "log", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        self._do("pg_ctl", "-D", self.data, "-m", mode, "-w", "stop")

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder)

    def url(self, schema: str = "", user: str = "owner", database: str = "postgres") -> str:
        options = f"?options=-csearch_path%3D{schema}" if schema else ""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}{options}"

    def schema(self) -> str:
        name = f"s{uuid.uuid4().hex[:12]}"
        self.sql(f"CREATE SCHEMA {name}")
        return name

    def sql(self, *statements: str, schema: str = "") -> list[Any]:
        """The rows of the last statement, run as the owner."""
        import psycopg

        with psycopg.connect(self.url(schema), autocommit=True) as connection:
            for statement in statements:
                cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def _do(self, program: str, *words: Any) -> None:
        user: dict[str, Any] = {}
        if os.getuid() == 0:
            user = {"user": "postgres", "group": "postgres", "extra_groups": []}
        command = [self.programs / program, *words]
        # not a pipe: the server would keep it open
        with open(os.devnull, "w") as nowhere:
            subprocess.run(command, stdout=nowhere, check=True, cwd=self.folder, timeout=60, **user)
