"""Several servers on one PostgreSQL and one S3 server, all as processes of a test that stops, kills and misleads them."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

from .buckets import S3, free_ports
from .server import Server

BIN = Path("/usr/lib/postgresql/15/bin")
START_SECONDS = 60
LEASE_SECONDS = 1.0
HOLD_SECONDS = 3.0


class Postgres:
    """A database server with a folder of its own, which can be killed, and put back to an earlier state."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._data = folder / "data"
        (self._port,) = free_ports(1)
        if os.geteuid() == 0:
            shutil.chown(folder, "postgres")
            folder.chmod(0o755)
        self.url = f"postgres://tests@127.0.0.1:{self._port}/postgres"
        self._make()
        self.start()

    def _make(self) -> None:
        """Makes the files of the database."""
        # Every commit is written by its process, and survives a kill of that process without a sync.
        self._run("initdb", "--pgdata", str(self._data), "--username", "tests", "--no-sync", "--auth", "trust")

    def _as_owner(self, *command: str) -> list[str]:
        if os.geteuid() != 0:
            return list(command)
        return ["runuser", "--user", "postgres", "--", *command]

    def _run(self, program: str, *arguments: str) -> None:
        command = self._as_owner(str(BIN / program), *arguments)
        done = subprocess.run(
            command, cwd="/", stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False,
            timeout=START_SECONDS,
        )
        assert done.returncode == 0, f"{program}: {done.stdout}{done.stderr}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        options = f"-h 127.0.0.1 -p {self._port} -k {self._folder} -F -N 100"
        log = str(self._folder / "log")
        command = ["start", "--wait", "--silent", "--pgdata", str(self._data), "--log", log, "--options", options]
        self._run("pg_ctl", *command)

    def stop(self) -> None:
        """Ends it at once, as a crash does."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--mode", "immediate", "--pgdata", str(self._data))

    def keep(self) -> Path:
        """Copies its files. It is down meanwhile."""
        self.stop()
        kept = self._folder / f"kept-{time.monotonic_ns()}"
        shutil.copytree(self._data, kept, symlinks=True)
        if os.geteuid() == 0:
            for path in [kept, *kept.rglob("*")]:
                shutil.chown(path, "postgres", "postgres")
        self.start()
        return kept

    def put_back(self, kept: Path) -> None:
        """Replaces its files by those that were kept: what was committed since is lost."""
        self.stop()
        shutil.rmtree(self._data)
        kept.rename(self._data)
        self.start()

    def ask(self, sql: str) -> list[str]:
        """The rows of a statement, as text."""
        done = subprocess.run(
            [str(BIN / "psql"), self.url, "--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--command", sql],
            capture_output=True, encoding="utf-8", check=True, timeout=START_SECONDS,
        )
        return done.stdout.splitlines()

    def cut(self) -> None:
        """Cuts all connections."""
        self.ask("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                 " AND backend_type = 'client backend'")


class Standby(Postgres):
    """A server that follows a primary one, and takes no writes."""

    def __init__(self, folder: Path, primary: Postgres) -> None:
        self._primary = primary
        super().__init__(folder)

    def _make(self) -> None:
        source = ["--dbname", self._primary.url, "--checkpoint", "fast", "--no-sync", "--write-recovery-conf"]
        self._run("pg_basebackup", "--pgdata", str(self._data), *source)

    def promote(self) -> None:
        """Makes it a primary one."""
        self._run("pg_ctl", "promote", "--wait", "--silent", "--pgdata", str(self._data))


class Cluster:
    """Three servers, their database and their bucket."""

    def __init__(self, folder: Path, count: int = 3, drain: str = "0s", lease: float = LEASE_SECONDS) -> None:
        self.folder, self._drain, self._lease = folder, drain, lease
        self.database = Postgres(folder / "postgres")
        self.buckets = S3(folder / "buckets")
        self.buckets.make_bucket("store")
        # Beside a name resolution, credentials are all that the servers take from the environment.
        os.environ.update(self.buckets.variables())
        self.addresses = [f"127.0.0.1:{port}" for port in free_ports(count)]
        self.servers = [self.make(number) for number in range(count)]

    def make(self, number: int) -> Server:
        """Starts a server."""
        server = Server(self.folder / f"server-{number}", *self.options(), listen=self.addresses[number])
        # Whatever is done to the servers, the test judges by their answers.
        server.expect("")
        return server

    def options(self) -> list[str]:
        """The options of each server."""
        return [
            "--database", self.database.url, "--blobs", "s3://store/parts", "--reserve", "0", "--drain-time", self._drain,
            "--lease", f"{self._lease}s", "--object-hold", f"{HOLD_SECONDS}s", "--reclaim-grace", "0s",
            "--sweep-every", "2s",
        ]

    def restart(self, number: int, **variables: str) -> None:
        """Starts a server again after its end, with these environment variables."""
        self.servers[number].start(self.addresses[number], **variables)

    def close(self) -> None:
        """Ends everything."""
        for server in self.servers:
            server.send(signal.SIGCONT)
            server.kill()
        self.buckets.process.send_signal(signal.SIGCONT)
        self.buckets.stop()
        self.database.stop()
