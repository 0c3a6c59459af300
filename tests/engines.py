"""Engines for the tests: a Spark cluster, and a PostgreSQL of Debian's packages, on loopback, each started once."""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

QUICK = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC -Xshare:auto"  # a JVM that starts fast and need not last
SPARK_SETTINGS = {
    "spark.executor.memory": "512m",
    "spark.cores.max": "2",
    "spark.log.level": "ERROR",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    "spark.sql.shuffle.partitions": "2",
    "spark.executor.extraJavaOptions": QUICK,
}
BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin"))


def missing(reason: str) -> None:
    """Skip with the reason, or fail where CI has promised to have it."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"CI must have it: {reason}")
    pytest.skip(reason)


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


class Spark:
    """Spark's own standalone master and two workers of one core on loopback, driven from a process of its own."""

    def __init__(self, home: Path, *, folder: Path) -> None:
        self.folder, self.started = folder, []
        self._env = os.environ | {
            "SPARK_LOCAL_IP": "127.0.0.1",
            "SPARK_HOME": str(home),
            "SPARK_DAEMON_MEMORY": "256m",
            "SPARK_DAEMON_JAVA_OPTS": QUICK,
            "PYSPARK_SUBMIT_ARGS": f"--driver-java-options '{QUICK}' pyspark-shell",
        }
        port = free_port()
        address, web = f"spark://127.0.0.1:{port}", ["--host", "127.0.0.1", "--webui-port", "0"]
        worker = ["worker.Worker", address, *web, "--cores", "1", "--memory", "700m", "--work-dir", str(folder)]
        commands = [["master.Master", "--port", str(port), *web], worker, worker]
        for number, (name, *options) in enumerate(commands):
            run = [str(home / "bin" / "spark-class"), f"org.apache.spark.deploy.{name}", *options]
            with (folder / f"{number}.log").open("w") as log:
                self.started.append(subprocess.Popen(run, stdout=log, stderr=log, env=self._env))
        script = [
            sys.executable,
            str(Path(__file__).with_name("customers") / "spark_side.py"),
            address,
            json.dumps(SPARK_SETTINGS),
        ]
        with (folder / "driver.log").open("w") as log:
            self._driver = subprocess.Popen(script, stdin=-1, stdout=-1, stderr=log, text=True, env=self._env)

    def ask(self, **asked: Any) -> None:
        """Merge days on the cluster and make features of them; `spark_side.py` says how."""
        self._driver.stdin.write(json.dumps(asked) + "\n")
        self._driver.stdin.flush()
        self.answer("done")

    def stop(self) -> None:
        with self._driver as driver:
            driver.communicate()
        for process in self.started:
            process.terminate()
        for process in self.started:
            process.wait(timeout=30)

    def answer(self, wanted: str) -> None:
        """Wait for a word of the driver."""
        found = self._driver.stdout.readline().strip()
        assert found == wanted, (self.folder / "driver.log").read_text()[-3000:]


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    """A small Spark cluster, started once."""
    if shutil.which("java") is None:
        missing("Spark needs Java, and there is none")
    if find_spec("pyspark") is None:
        missing("pyspark is not installed")
    found = Spark(Path(find_spec("pyspark").origin).parent, folder=tmp_path_factory.mktemp("spark"))
    try:
        found.answer("ready")
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server in a folder of its own; root may not run one, so the user postgres does."""
    if not BINARIES or shutil.which("initdb", path=str(BINARIES[-1])) is None:
        missing("PostgreSQL is not installed (Debian: postgresql)")
    if find_spec("psycopg") is None:
        missing("psycopg is not installed")
    home, port = Path(tempfile.mkdtemp(prefix="segkit-postgres-")), free_port()  # pytest's own are root's alone
    data, as_user = home / "data", []
    if os.geteuid() == 0:
        if shutil.which("runuser") is None:
            missing("PostgreSQL does not run as root, and there is no runuser")
        as_user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(home, "postgres")
    run = [*as_user, str(BINARIES[-1] / "initdb"), "-D", str(data), "-A", "trust", "-U", "postgres", "-N", "-E", "UTF8"]
    subprocess.run(run, check=True, capture_output=True, cwd=home)
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={home} -c fsync=off"
    control = [*as_user, str(BINARIES[-1] / "pg_ctl"), "-D", str(data)]
    subprocess.run(
        [*control, "-w", "-o", options, "-l", str(home / "log"), "start"], check=True, capture_output=True, cwd=home
    )
    yield f"postgres://postgres@127.0.0.1:{port}/postgres"
    subprocess.run([*control, "-m", "immediate", "stop"], check=False, capture_output=True, cwd=home)
    shutil.rmtree(home, ignore_errors=True)
