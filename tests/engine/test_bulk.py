"""Many files: the share of each process, and reading and writing beside the network."""

import threading

import pytest

from crisscross.engine.bulk import AHEAD, VARIABLES, Share, overlapped, share
from crisscross.errors import CrissCrossError


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch):
    for names in VARIABLES:
        for name in names:
            monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("count", [0, 1, 3, 50])
def test_every_item_goes_through_all_three_in_order(count):
    found = list(overlapped(range(count), lambda n: n + 1, lambda n: n * 10, lambda n: n - 1))
    assert found == [(n + 1) * 10 - 1 for n in range(count)]


def test_reading_and_writing_go_on_while_the_network_works():
    read, written = [threading.Event() for _ in range(6)], [threading.Event() for _ in range(6)]

    def work(n):
        # The next is read, and the one before is written, while this one is worked on.
        assert n == 5 or read[n + 1].wait(60)
        assert n == 0 or written[n - 1].wait(60)
        return n

    def write(n):
        written[n].set()
        return n

    assert list(overlapped(range(6), lambda n: read[n].set() or n, work, write)) == list(range(6))


def test_few_items_are_held():
    counts, most, lock = {"read": 0, "written": 0}, [0, 0], threading.Lock()
    gate, names = threading.Semaphore(0), set()

    def read(n):
        with lock:
            counts["read"] += 1
            most[0] = max(most[0], counts["read"] - worked[0])
        return n

    def write(n):
        names.add(threading.current_thread().name)
        gate.acquire()
        with lock:
            counts["written"] += 1
        return n

    worked = [0]

    def work(n):
        worked[0] += 1
        with lock:
            most[1] = max(most[1], worked[0] - counts["written"])
        if worked[0] > AHEAD:
            gate.release()
        return n

    for _ in range(AHEAD):
        gate.release()
    assert len(list(overlapped(range(200), read, work, write))) == 200
    assert most[0] <= AHEAD and most[1] <= AHEAD + 2
    # One thread writes, so what is written in order stays in order.
    assert len(names) == 1 and threading.current_thread().name not in names


@pytest.mark.parametrize("place", ["read", "work", "write"])
def test_an_error_ends_the_work_and_what_came_before_is_written(place):
    written = []

    def fail(name):
        def step(n):
            if name == place and n == 7:
                raise CrissCrossError("seven")
            if name == "write":
                written.append(n)
            return n

        return step

    with pytest.raises(CrissCrossError, match="seven"):
        list(overlapped(range(1000), fail("read"), fail("work"), fail("write")))
    assert written[:7] == list(range(7)) and 7 not in written and len(written) < 20


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, Share(0, 1, 0)),
        ({"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, Share(2, 4, 1)),
        ({"SLURM_PROCID": "7", "SLURM_NTASKS": "8", "SLURM_LOCALID": "3"}, Share(7, 8, 3)),
        # torchrun within Slurm.
        ({"RANK": "1", "WORLD_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, Share(1, 2, 0)),
        ({"RANK": "1"}, Share(0, 1, 0)),
    ],
)
def test_launchers_say_the_share(variables, expected, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert share() == expected


@pytest.mark.parametrize(("rank", "size"), [("2", "2"), ("-1", "2"), ("0", "0"), ("x", "2"), ("0", "1.5")])
def test_variables_that_make_no_sense(rank, size, monkeypatch):
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", size)
    with pytest.raises(CrissCrossError, match=f"^RANK='{rank}' and WORLD_SIZE='{size}': must be"):
        share()


def test_shares_are_disjoint_and_complete():
    items = {name: name.upper() for name in "abcdefghij"}
    parts = [Share(rank, 3).of(items) for rank in range(3)]
    assert [list(part) for part in parts] == [list("adgj"), list("beh"), list("cfi")]
    assert Share().of(items) == items and parts[0]["d"] == "D"


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [Share(rank, 6, rank % 3).device("cuda") for rank in range(3)] == ["cuda:0", "cuda:1", "cuda:0"]
    assert Share(1, 6, 1).device("cpu") == "cpu" and Share().device("cuda") == "cuda"
