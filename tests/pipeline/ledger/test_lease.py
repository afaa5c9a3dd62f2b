"""One writer a dataset: the second is told who holds it, waits, or takes over from the dead."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.errors import ExecutionError
from pipeline.ledger import lease as module
from pipeline.ledger.lease import FILE, Holder, Lease
from pipeline.storage.processes import process_born
from pipeline.storage.storage import Storage

STORAGE = Storage()


def held_by(folder: Path, **changes: object) -> Path:
    """A lease file of somebody else."""
    now = time.time()
    other = {"host": "elsewhere", "pid": 7, "born": "1", "run": "r", "since": now, "beat": now}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / FILE).write_text(json.dumps({**other, **changes}))
    return folder / FILE


@contextmanager
def zombie() -> Iterator[int]:
    """A process that ended and that its parent, this one, does not wait for."""
    with subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()  # its end closes the pipe
        time.sleep(0.2)
        yield process.pid


def test_a_lease_is_a_file_while_it_is_held(tmp_path):
    with Lease(STORAGE, str(tmp_path / "out")) as lease:
        assert not (tmp_path / "out").exists()
        lease.take()
        lease.take()
        lease.check()
        data = json.loads((tmp_path / "out" / FILE).read_text())
        assert data["pid"] == os.getpid()
    assert not (tmp_path / "out" / FILE).exists()


def test_the_second_run_is_told_who_holds_it(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FADES_S", 0.2)
    with Lease(STORAGE, str(tmp_path)) as first:
        first.take()
        with (
            Lease(STORAGE, str(tmp_path)) as second,
            pytest.raises(ExecutionError, match=rf"pid {os.getpid()}, for 0 min.*--wait"),
        ):
            second.take()
        first.check()


def test_waiting_ends_when_the_first_lets_go(tmp_path):
    order: list[str] = []
    entered = threading.Event()

    def second() -> None:
        with Lease(STORAGE, str(tmp_path), wait=True) as lease:
            entered.set()
            lease.take()
            order.append("second")

    with Lease(STORAGE, str(tmp_path)) as first:
        first.take()
        thread = threading.Thread(target=second)
        thread.start()
        entered.wait(10)
        order.append("first")
    thread.join(20)
    assert order == ["first", "second"]


def test_a_dead_process_of_this_machine_holds_nothing(tmp_path):
    code = (
        "import os, signal, sys; from pipeline.ledger.lease import Lease;"
        "from pipeline.storage.storage import Storage; Lease(Storage(), sys.argv[1]).take();"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    assert (tmp_path / FILE).exists()
    with Lease(STORAGE, str(tmp_path)) as lease:
        lease.take()
        lease.check()
        assert lease.after_death
    with Lease(STORAGE, str(tmp_path)) as lease:
        lease.take()
        assert not lease.after_death


def test_a_killed_process_that_nobody_waited_for_holds_nothing(tmp_path):
    """As in a container whose first process waits for nobody: the zombie stays."""
    with zombie() as pid:
        held_by(tmp_path, host=Holder.here().host, pid=pid, born=process_born(pid))
        assert process_born(pid)
        with Lease(STORAGE, str(tmp_path)) as lease:
            lease.take()


def test_a_process_that_is_about_to_be_gone_is_waited_for(tmp_path):
    """A killed run's second process ends a moment after its first."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        born = process_born(process.pid)
        held_by(tmp_path, host=Holder.here().host, pid=process.pid, born=born)
        threading.Timer(0.5, process.kill).start()
        with Lease(STORAGE, str(tmp_path)) as lease:
            lease.take()
            assert lease.after_death


def test_a_pid_that_was_given_out_again_is_another_process(tmp_path):
    here = Holder.here()
    held_by(tmp_path, host=here.host, pid=here.pid, born="1")
    with Lease(STORAGE, str(tmp_path)) as lease:
        lease.take()


def test_another_machine_is_believed_as_long_as_it_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.2)
    monkeypatch.setattr(module, "_POLL_S", 0.05)
    held_by(tmp_path)
    with (
        Lease(STORAGE, str(tmp_path)) as lease,
        pytest.raises(ExecutionError, match="elsewhere, pid 7"),
    ):
        lease.take()
    held_by(tmp_path, beat=time.time() - 1000)
    with Lease(STORAGE, str(tmp_path)) as lease:
        lease.take()


def test_a_holder_with_a_slow_clock_is_not_robbed(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BEAT_S", 0.5)
    monkeypatch.setattr(module, "_POLL_S", 0.05)
    ended = threading.Event()

    def writes() -> None:
        while not ended.wait(0.1):
            held_by(tmp_path, beat=time.time() - 1000)

    held_by(tmp_path, beat=time.time() - 1001)
    thread = threading.Thread(target=writes)
    thread.start()
    try:
        with Lease(STORAGE, str(tmp_path)) as lease, pytest.raises(ExecutionError):
            lease.take()
    finally:
        ended.set()
        thread.join()


def test_who_was_robbed_notices_and_leaves_the_thief_s_file(tmp_path):
    with Lease(STORAGE, str(tmp_path)) as lease:
        lease.take()
        held_by(tmp_path)
        with pytest.raises(ExecutionError, match="another run took over"):
            lease.check()
    assert json.loads((tmp_path / FILE).read_text())["host"] == "elsewhere"


def test_a_byte_that_turns_over_on_the_way_robs_nobody(tmp_path, monkeypatch):
    read, spoilt = Storage.read, []

    def flipped(self, uri, **options):
        data = read(self, uri, **options)
        if uri.endswith(FILE) and len(spoilt) % 3 != 2:  # two of three
            spoilt.append(uri)
            return data.replace(b'"run": "', b'"run": "x')
        spoilt.append("")
        return data

    with Lease(STORAGE, str(tmp_path)) as lease:
        lease.take()
        monkeypatch.setattr(Storage, "read", flipped)
        lease.check()
        monkeypatch.undo()
    assert len(spoilt) == 3
    assert not (tmp_path / FILE).exists()


def test_a_reading_that_is_damaged_once_takes_nothing_from_the_living(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_FADES_S", 0.2)
    read, readings = Storage.read, []

    def flipped(self, uri, **options):
        readings.append(uri)
        return b"{" if len(readings) == 1 else read(self, uri, **options)

    with Lease(STORAGE, str(tmp_path)) as first:
        first.take()
        monkeypatch.setattr(Storage, "read", flipped)
        with (
            Lease(STORAGE, str(tmp_path)) as second,
            pytest.raises(ExecutionError, match="another run writes"),
        ):
            second.take()
        first.check()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"host": 1}', "[" * 9999])
def test_a_damaged_lease_is_nobody_s(text, tmp_path):
    (tmp_path / FILE).write_text(text)
    with Lease(STORAGE, str(tmp_path)) as lease:
        lease.take()
