"""A real S3 server for the test session: Ceph's RADOS Gateway over one in-memory OSD, on loopback.

It refuses what a mock lets pass (checksums, conditional writes, signatures). `apt.txt` names its
packages; it starts in a few seconds, once, when the first test asks for it.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.config import Config

from schemas.config.job import StorageConfig

BINARIES = ("ceph-mon", "ceph-osd", "radosgw", "radosgw-admin", "ceph-authtool")
SKIP_REASON = "needs Ceph's RADOS Gateway: install the packages that apt.txt names"
_KEY, _SECRET = "test-key", "test-secret"
_START_S = 60.0
_CONF = """
[global]
fsid = {fsid}
keyring = {folder}/keyring
mon host = [v2:127.0.0.1:{mon_port}]
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
run dir = {folder}
admin socket = {folder}/$name.$pid.asok
log file = {folder}/$name.log
crash dir = {folder}
public addr = 127.0.0.1
cluster addr = 127.0.0.1
ms bind msgr1 = false
setuser match path =
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 1
osd pool default pgp num = 1
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon data avail crit = 1
[mon]
mon data = {folder}/mon
mon cluster log file = {folder}/cluster.log
[osd]
osd data = {folder}/osd
osd objectstore = memstore
memstore device bytes = 2147483648
[client.rgw]
rgw frontends = beast endpoint=127.0.0.1:{port}
rgw data = {folder}/rgw
rgw enable usage log = false
rgw dns name = 127.0.0.1
"""


@dataclass(frozen=True)
class S3Server:
    """A running server.

    Attributes:
        endpoint: "http://127.0.0.1:PORT".
        config: Reaches it with full rights.
    """

    endpoint: str
    config: StorageConfig
    _client: Any = field(repr=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1), repr=False)

    @property
    def environment(self) -> dict[str, str]:
        """Variables that give another process the same access without any option."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": _KEY,
            "AWS_SECRET_ACCESS_KEY": _SECRET,
            "AWS_DEFAULT_REGION": "default",
        }

    def new_bucket(self, *, public: bool = False) -> str:
        """Creates an empty bucket and returns its URI; `public` = anybody may list and read."""
        name = f"bucket-{next(self._numbers)}"
        self._client.create_bucket(Bucket=name)
        if public:
            self._client.put_bucket_policy(
                Bucket=name,
                Policy='{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal":'
                ' "*", "Action": ["s3:GetObject", "s3:ListBucket"], "Resource":'
                f' ["arn:aws:s3:::{name}", "arn:aws:s3:::{name}/*"]}}]}}',
            )
        return f"s3://{name}"


@pytest.fixture(scope="session")
def s3_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A real S3 server that lives as long as the test session."""
    missing = [name for name in BINARIES if shutil.which(name) is None]
    if missing:
        pytest.skip(SKIP_REASON)
    folder = tmp_path_factory.mktemp("ceph")
    daemons: list[subprocess.Popen[bytes]] = []
    try:
        port = _start(folder, daemons)
        endpoint = f"http://127.0.0.1:{port}"
        client = botocore.session.get_session().create_client(
            "s3",
            endpoint_url=endpoint,
            region_name="default",
            aws_access_key_id=_KEY,
            aws_secret_access_key=_SECRET,
            config=Config(proxies={}),
        )
        config = StorageConfig(endpoint_url=endpoint, key=_KEY, secret=_SECRET, region="default")
        yield S3Server(endpoint, config, client)
    finally:
        for daemon in reversed(daemons):
            daemon.kill()
        for daemon in daemons:
            daemon.wait(timeout=20)


def _start(folder: Path, daemons: list[subprocess.Popen[bytes]]) -> int:
    mon_port, port = _free_port(), _free_port()
    conf = folder / "ceph.conf"
    conf.write_text(_CONF.format(folder=folder, mon_port=mon_port, port=port, fsid=uuid.uuid4()))
    for name in ("mon", "osd", "rgw"):
        (folder / name).mkdir()

    def call(*command: str) -> None:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_START_S, env=environment, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")

    def daemon(*command: str) -> None:
        with (folder / f"{command[0]}.out").open("wb") as out:
            daemons.append(
                subprocess.Popen(
                    # The kernel kills it when the test process dies, however that happens.
                    ["setpriv", "--pdeathsig", "KILL", *command, "-f"],
                    stdout=out,
                    stderr=out,
                    env=environment,
                )
            )

    environment = {**os.environ, "CEPH_CONF": str(conf)}
    keyring = str(folder / "keyring")
    call("ceph-authtool", "-C", keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
    for name in ("client.admin", "client.rgw", "osd.0"):
        caps = [word for part in ("mon", "osd", "mgr") for word in ("--cap", part, "allow *")]
        call("ceph-authtool", keyring, "--gen-key", "-n", name, *caps)
    # The first map already holds osd.0, so that no command line client has to add it.
    osdmap = str(folder / "osdmap")
    call("osdmaptool", "--createsimple", "1", osdmap, "--clobber")
    monmap = str(folder / "monmap")
    fsid = conf.read_text().partition("fsid = ")[2].partition("\n")[0]
    address = f"[v2:127.0.0.1:{mon_port}]"
    call("monmaptool", "--create", "--fsid", fsid, "--addv", "a", address, monmap)
    call(
        *("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap),
        *("--keyring", keyring, "--osdmap", osdmap),
    )
    daemon("ceph-mon", "-i", "a")
    call("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", str(uuid.uuid4()))
    daemon("ceph-osd", "-i", "0")
    call(
        *("radosgw-admin", "-n", "client.rgw", "user", "create", "--uid=test"),
        *("--display-name=test", f"--access-key={_KEY}", f"--secret-key={_SECRET}"),
    )
    daemon("radosgw", "-n", "client.rgw")
    _wait(lambda: _answers(port), folder, daemons)
    return port


def _wait(ready: Callable[[], bool], folder: Path, daemons: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + _START_S
    while not ready():
        if time.monotonic() > deadline or any(d.poll() is not None for d in daemons):
            tails = (f"{path.name}: {path.read_text()[-1500:]}" for path in folder.glob("*.out"))
            raise RuntimeError("Ceph did not start\n" + "\n".join(tails))
        time.sleep(0.1)


def _answers(port: int) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        opener.open(f"http://127.0.0.1:{port}/", timeout=2).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
