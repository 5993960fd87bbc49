"""Files of checkpoints: whole or refused, replaced at once, and few."""

from __future__ import annotations

import errno
import json
import os
import random
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy

import arrayopt as optim
from arrayopt import checkpoint
from arrayopt.checkpoint import folder, host, layout
from arrayopt.checkpoint.container import Container
from arrayopt.checkpoint.layout import PIECE


def content(number: int = 1) -> dict[str, np.ndarray]:
    return {"w": np.full((3, 5), float(number)), "flags": np.arange(7) > number}


def save(path: Path, number: int = 1, **options: Any) -> Path:
    return checkpoint.save(path, model=content(number), extra={"number": number}, **options)


def number_in(path: Path) -> int:
    """The number of the checkpoint that is loaded, all of which is seen to be there."""
    model = content(99)
    number = checkpoint.load(path, model=model).extra["number"]
    assert [a.tobytes() for a in model.values()] == [a.tobytes() for a in content(number).values()]
    return number


def names(path: Path) -> list[str]:
    return sorted(os.listdir(path))


def numbers(path: Path) -> list[int]:
    return [int(name[len("checkpoint-") : -len(".safetensors")]) for name in names(path)]


# Killed


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process is forked")
def test_a_process_that_is_killed_leaves_the_last_checkpoint_or_the_one_before(tmp_path) -> None:
    script = Path(__file__).with_name("killed_saves.py")
    seed = str(random.randrange(2**32))
    command = [sys.executable, "-W", "error", str(script), str(tmp_path / "run"), seed]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"seed {seed}: {result.stderr}"
    deaths, _, abandoned = map(int, result.stdout.split())
    assert deaths > 10
    assert abandoned > 0  # some died while they wrote


# Damaged


def resumable() -> tuple[dict[str, np.ndarray], optim.Optimizer]:
    rng = np.random.default_rng(3)
    model = {"w": rng.standard_normal((5, 7)), "b": rng.standard_normal(3).astype(np.float32)}
    return model, optim.Adam(model.items(), lr=0.1, betas=(0.5, 0.9))


def state(model: dict[str, np.ndarray], opt: optim.Optimizer) -> Any:
    saved = opt.state_dict()
    arrays = [array for entry in saved["state"].values() for array in entry.values()]
    return (
        [array.tobytes() for array in model.values()],
        [np.asarray(array).tobytes() for array in arrays],
        [sorted(group.items()) for group in saved["param_groups"]],
    )


def damages(whole: bytes, count: int) -> Any:
    """So many files that are not what was written: a bit of each byte, and all kinds of others."""
    chance = random.Random(0)
    for place in range(len(whole)):
        yield flipped(whole, place, 1 << chance.randrange(8))
    left = count - len(whole)
    while left:
        damaged = chance.choice(DAMAGES)(whole, chance)
        if damaged != whole:  # as it is if equal bytes are swapped
            left -= 1
            yield damaged


def place_in(whole: bytes, chance: random.Random) -> int:
    """A place in the header, or anywhere."""
    length = int.from_bytes(whole[:8], "little")
    return chance.choice([chance.randrange(8, 8 + length), chance.randrange(len(whole))])


def cut(whole: bytes, chance: random.Random) -> bytes:
    return whole[: place_in(whole, chance)]


def replaced(whole: bytes, chance: random.Random) -> bytes:
    """Some bytes more, fewer, or as many others, at some place."""
    at, less = place_in(whole, chance), chance.choice([0, chance.randrange(1, 20)])
    return whole[:at] + chance.randbytes(chance.choice([0, less, 5])) + whole[at + less :]


def flipped_twice(whole: bytes, chance: random.Random) -> bytes:
    once = flipped(whole, place_in(whole, chance), 1 << chance.randrange(8))
    return flipped(once, place_in(whole, chance), 1 << chance.randrange(8))


def swapped(whole: bytes, chance: random.Random) -> bytes:
    one, other = place_in(whole, chance), place_in(whole, chance)
    changed = bytearray(whole)
    changed[one], changed[other] = changed[other], changed[one]
    return bytes(changed)


def lying(whole: bytes, chance: random.Random) -> bytes:
    """Another length of the header."""
    near = int.from_bytes(whole[:8], "little") + chance.randrange(-99, 99)
    return (
        chance.choice([chance.randrange(2**64), near, 2**63, 0]).to_bytes(8, "little") + whole[8:]
    )


def lost(whole: bytes, chance: random.Random) -> bytes:
    """Zeros from some place on, or noise."""
    at = place_in(whole, chance)
    return chance.choice([whole[:at] + bytes(len(whole) - at), chance.randbytes(at)])


DAMAGES = [cut, replaced, flipped_twice, swapped, lying, lost]


def flipped(whole: bytes, place: int, bit: int) -> bytes:
    return whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]


#: What would tell that something in a file was run.
RUNS = ("exec", "compile", "import", "pickle.find_class", "subprocess.Popen", "os.system", "ctypes")
_seen: list[str] | None = None


def _watch(event: str, details: Any) -> None:
    if _seen is not None and event.startswith(RUNS):
        _seen.append(f"{event} {details}")


sys.addaudithook(_watch)


def test_ten_thousand_damaged_files_are_refused(tmp_path) -> None:
    global _seen
    model, opt = resumable()
    opt.step(grads=[array + 1 for array in model.values()])
    file = checkpoint.save(
        tmp_path / "run.safetensors", model=model, optimizer=opt, extra=[1.5, (2, "x")]
    )
    whole, expected = file.read_bytes(), state(model, opt)
    fresh, other = resumable()
    before = state(fresh, other)
    assert before != expected
    checkpoint.load(file, model=fresh, optimizer=other)  # (imports what is imported when needed)
    fresh, other = resumable()
    count = 0
    try:
        _seen = []
        with open(file, "r+b", buffering=0) as written:
            for damaged in damages(whole, 10_000):
                written.seek(0)
                written.write(damaged)
                written.truncate()
                count += 1
                with pytest.raises(checkpoint.DamagedCheckpoint):
                    checkpoint.load(file, model=fresh, optimizer=other)
                assert state(fresh, other) == before
        assert _seen == []
    finally:
        _seen = None
    assert count == 10_000
    file.write_bytes(whole)
    assert checkpoint.load(file, model=fresh, optimizer=other).extra == [1.5, (2, "x")]
    assert state(fresh, other) == expected


def test_a_header_that_has_changed_is_shown_to_nobody(tmp_path, monkeypatch) -> None:
    file = save(tmp_path)
    whole = file.read_bytes()
    monkeypatch.setattr(layout, "require", lambda library: pytest.fail(f"{library} is asked"))
    for place in range(8 + len(layout.BEGIN), 8 + int.from_bytes(whole[:8], "little"), 7):
        file.write_bytes(flipped(whole, place, 2))
        with pytest.raises(checkpoint.DamagedCheckpoint, match="its header has changed since it"):
            Container(file)


@pytest.mark.parametrize("piece", [0, 1, 2])
def test_every_piece_of_a_large_array_is_checked_before_anything_changes(tmp_path, piece) -> None:
    model = {"small": np.ones(3), "large": np.zeros(2 * PIECE // 8 + 5)}
    file = checkpoint.save(tmp_path, model=model)
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) - model["large"].nbytes - 24 + piece * PIECE + 30] ^= 1
    file.write_bytes(damaged)
    fresh = {name: array + 7 for name, array in model.items()}
    with pytest.raises(
        checkpoint.DamagedCheckpoint, match=r"model\.large has changed since it was"
    ):
        checkpoint.load(file, model=fresh)
    assert all((fresh[name] == array + 7).all() for name, array in model.items())
    with pytest.raises(checkpoint.DamagedCheckpoint):  # though nobody asked for the model
        checkpoint.load(file)


def test_a_state_that_is_damaged_is_refused_before_anything_changes(tmp_path) -> None:
    model, opt = resumable()
    opt.step(grads=[array + 1 for array in model.values()])
    file = checkpoint.save(tmp_path, model=model, optimizer=opt)
    at = file.read_bytes().index(opt.state[opt.param_groups[0]["params"][0]]["exp_avg"].tobytes())
    file.write_bytes(flipped(file.read_bytes(), at, 8))
    fresh, other = resumable()
    before = state(fresh, other)
    with pytest.raises(checkpoint.DamagedCheckpoint, match=r"optimizer\.state\.0\.exp_avg has"):
        checkpoint.load(file, model=fresh, optimizer=other)
    assert state(fresh, other) == before


def test_a_header_that_lies_about_its_length_costs_nothing(tmp_path) -> None:
    file = save(tmp_path)
    whole = file.read_bytes()
    for length in (2**63, 2**40, 2**64 - 1, len(whole)):
        file.write_bytes(length.to_bytes(8, "little") + whole[8:])
        tracemalloc.start()
        with pytest.raises(checkpoint.DamagedCheckpoint, match="not as long as its header should"):
            checkpoint.load(file)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
        tracemalloc.stop()


def test_other_files_are_refused(tmp_path) -> None:
    file = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(content(), file, {"format": "np"})
    with pytest.raises(
        checkpoint.DamagedCheckpoint, match="does not begin as that of a checkpoint"
    ):
        checkpoint.load(file)
    for other in (b"", b"{}", bytes(7), bytes(8), b"\x80\x04K\x01."):
        file.write_bytes(other)
        with pytest.raises(checkpoint.DamagedCheckpoint, match="no whole checkpoint"):
            checkpoint.load(file)


def test_a_layout_of_the_future_is_told_from_damage(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(layout, "VERSION", 2)
    save(tmp_path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="version 1 of the layout, but got 2; a later") as caught:
        checkpoint.load(tmp_path)
    assert not isinstance(caught.value, checkpoint.DamagedCheckpoint)


def test_a_file_that_the_library_refuses_is_damaged(tmp_path, monkeypatch) -> None:
    """(Whoever computes the digest of a header can write what he likes.)"""
    monkeypatch.setitem(host.DTYPES, "float64", "F99")
    with pytest.raises(safetensors.SafetensorError):
        save(tmp_path)
    assert names(tmp_path) == []
    monkeypatch.setattr(layout, "require", lambda name: _Lenient)
    monkeypatch.setattr(layout, "digest_of", lambda piece: 0)
    file = save(tmp_path, keep=None)
    monkeypatch.undo()
    with pytest.raises(checkpoint.DamagedCheckpoint, match="unknown variant `F99`"):
        checkpoint.load(file)


class _Lenient:
    """A library that takes everything."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def __enter__(self) -> _Lenient:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def keys(self) -> list[str]:
        return []


_Lenient.safe_open = _Lenient


def test_a_file_that_is_replaced_while_it_is_read(tmp_path, monkeypatch) -> None:
    file = save(tmp_path / "run.safetensors", 1)
    original = layout.require

    def replaced(library: str) -> Any:
        if library == "safetensors":
            monkeypatch.undo()
            save(file, 2)
        return original(library)

    with Container(file) as first:
        assert first.content["extra"] == {"number": 1}
        save(file, 3)
        first.check()  # what is open stays
    monkeypatch.setattr(layout, "require", replaced)
    with pytest.raises(checkpoint.DamagedCheckpoint, match="another file took its place"):
        Container(file)


def test_what_the_disk_cannot_read_is_damaged(tmp_path, monkeypatch) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    original, bad = layout.read_some, tmp_path / "checkpoint-00000002.safetensors"
    cause = [errno.EIO]

    def read(file: Any, buffer: memoryview, offset: int) -> int:
        if Path(file.name) == bad:
            raise OSError(cause[0], os.strerror(cause[0]))
        return original(file, buffer, offset)

    monkeypatch.setattr(layout, "read_some", read)
    with pytest.warns(UserWarning, match=r"00000002.* the disk cannot read it"):
        assert number_in(tmp_path) == 1
    cause[0] = errno.EACCES
    with pytest.raises(PermissionError):
        number_in(tmp_path)
    monkeypatch.setattr(layout, "read_some", lambda *_: 0)
    with pytest.raises(checkpoint.DamagedCheckpoint, match="it was cut short"):
        number_in(bad)


# The newest one


def test_damaged_files_are_passed_over_with_a_warning(tmp_path) -> None:
    for number in (1, 2, 3):
        save(tmp_path, number)
    files = [tmp_path / name for name in names(tmp_path)]
    files[2].write_bytes(files[2].read_bytes()[:-5])
    with pytest.warns(
        UserWarning, match=r"00000002\.safetensors is loaded, since .*3\.saf"
    ) as told:
        assert number_in(tmp_path) == 2
    assert len(told) == 1
    assert told[0].filename == __file__
    files[1].write_bytes(b"")
    with pytest.warns(UserWarning, match=r"3\.safetensors is no whole .*; .*2\.safetensors is no"):
        assert number_in(tmp_path) == 1
    files[0].write_bytes(flipped(files[0].read_bytes(), 300, 1))
    with pytest.raises(checkpoint.DamagedCheckpoint, match="no checkpoint is whole: ") as caught:
        number_in(tmp_path)
    assert all(file.name in str(caught.value) for file in files)
    save(tmp_path, 4)
    assert number_in(tmp_path) == 4
    assert numbers(tmp_path) == [1, 2, 3, 4]  # only one of them is whole


def test_a_checkpoint_of_another_model_is_not_passed_over(tmp_path) -> None:
    save(tmp_path, 1)
    checkpoint.save(tmp_path, model={"other": np.ones(1)})
    with pytest.raises(ValueError, match=r"00000002.safetensors does not fit the model given"):
        number_in(tmp_path)


def test_there_is_no_checkpoint(tmp_path) -> None:
    (tmp_path / "notes.safetensors").write_bytes(b"")
    with pytest.raises(FileNotFoundError, match=f"no checkpoint in {tmp_path}"):
        checkpoint.load(tmp_path)
    for path in (tmp_path / "none", tmp_path / "none.safetensors"):
        with pytest.raises(FileNotFoundError, match="none"):
            checkpoint.load(path)


# Replacing


def test_damaged_files_do_not_count_as_kept(tmp_path) -> None:
    for number in (1, 2, 3, 4):
        save(tmp_path, number, keep=None)
    newest = tmp_path / "checkpoint-00000004.safetensors"
    newest.write_bytes(newest.read_bytes()[:-1])
    save(tmp_path, 5, keep=2)
    assert [*folder.numbered(tmp_path)] == [5, 4, 3]
    save(tmp_path, 6, keep=1)
    assert [*folder.numbered(tmp_path)] == [6]


def test_a_folder_keeps_the_last_ones(tmp_path) -> None:
    for number in range(1, 6):
        assert save(tmp_path / "a" / "b", number).name == f"checkpoint-{number:08d}.safetensors"
    assert numbers(tmp_path / "a" / "b") == [3, 4, 5]
    save(tmp_path / "a" / "b", 6, keep=None)
    assert numbers(tmp_path / "a" / "b") == [3, 4, 5, 6]
    save(tmp_path / "a" / "b", 7, keep=1)
    assert numbers(tmp_path / "a" / "b") == [7]
    assert number_in(tmp_path / "a" / "b") == 7


def test_numbers_go_beyond_their_digits(tmp_path) -> None:
    save(tmp_path).rename(tmp_path / "checkpoint-99999999.safetensors")
    assert save(tmp_path, 2).name == "checkpoint-100000000.safetensors"
    assert number_in(tmp_path) == 2


def test_a_single_file_is_replaced(tmp_path) -> None:
    for number in (1, 2):
        file = save(tmp_path / "new" / "run.safetensors", number, keep=1)
        assert number_in(file) == number
    assert names(tmp_path / "new") == ["run.safetensors"]
    assert checkpoint.load(file).number is None


def test_links_are_followed(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "run").symlink_to("real")
    save(tmp_path / "run", 1)
    assert number_in(tmp_path / "run") == number_in(tmp_path / "real") == 1
    (tmp_path / "last.safetensors").symlink_to("real/one.safetensors")
    for number in (2, 3):
        save(tmp_path / "last.safetensors", number)
        assert number_in(tmp_path / "real" / "one.safetensors") == number
    assert (tmp_path / "last.safetensors").is_symlink()


@pytest.mark.skipif(os.name == "nt", reason="Windows has other permissions")
def test_permissions_follow_the_umask(tmp_path) -> None:
    before = os.umask(0o027)
    try:
        assert save(tmp_path).stat().st_mode & 0o777 == 0o640
    finally:
        os.umask(before)


def test_the_order_in_which_things_become_durable(tmp_path, monkeypatch) -> None:
    save(tmp_path, 1)
    done: list[str] = []

    def tell(owner: Any, name: str) -> None:
        original = getattr(owner, name)

        def call(first: Any, *rest: Any, **options: Any) -> Any:
            is_folder = isinstance(first, int) and os.path.isdir(f"/proc/self/fd/{first}")
            done.append(f"{name} of the folder" if is_folder else name)
            return original(first, *rest, **options)

        monkeypatch.setattr(owner, name, call)

    for owner, name in ((os, "fsync"), (os, "replace"), (Path, "unlink"), (layout, "_pwrite")):
        tell(owner, name)
    save(tmp_path, 2, keep=1)
    while "_pwrite" in done[1:]:
        done.remove("_pwrite")
    assert done == ["_pwrite", "fsync", "replace", "fsync of the folder", "unlink"]
    done.clear()
    save(tmp_path / "new" / "run", 1)
    assert done[:2] == ["fsync of the folder"] * 2  # the names of the new folders stay


@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("single", [False, True])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, after, single) -> None:
    path = tmp_path / "run.safetensors" if single else tmp_path
    save(path, 1)
    before, original, calls = names(tmp_path), layout._pwrite, []

    def write(file: Any, data: memoryview, offset: int) -> int:
        calls.append(1)
        if len(calls) > after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(file, data[: max(1, len(data) // 2)], offset)

    monkeypatch.setattr(layout, "_pwrite", write)
    with pytest.raises(OSError, match="No space left"):
        save(path, 2, keep=1)
    assert names(tmp_path) == before
    monkeypatch.undo()
    assert number_in(path) == 1


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "no"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_whatever_fails_leaves_what_was_there(tmp_path, monkeypatch, call, fault) -> None:
    save(tmp_path, 1)

    def fail(*_: Any) -> None:
        raise fault

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(fault)):
        save(tmp_path, 2, keep=1)
    monkeypatch.undo()
    assert numbers(tmp_path) == [1]
    assert number_in(tmp_path) == 1


def test_short_writes_and_systems_without_positions(tmp_path, monkeypatch) -> None:
    model = {"w": np.random.default_rng(0).standard_normal(3 * PIECE // 8)}
    original = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, at: original(fd, data[:100_001], at))
    checkpoint.save(tmp_path, model=model)
    monkeypatch.delattr(os, "pwrite")
    monkeypatch.delattr(os, "preadv")
    checkpoint.save(tmp_path, model=model)
    whole = {file.read_bytes() for file in tmp_path.iterdir()}
    assert len(whole) == 1
    fresh = {"w": np.zeros_like(model["w"])}
    checkpoint.load(tmp_path, model=fresh)
    assert (fresh["w"] == model["w"]).all()


def test_temporary_files_are_removed_when_their_process_is_gone(tmp_path) -> None:
    path, file = folder._create(tmp_path / "checkpoint-00000001.safetensors")
    file.write(b"half")
    (tmp_path / ".notes.tmp").touch()
    save(tmp_path, 1)
    assert path.exists()
    file.close()
    save(tmp_path, 2)
    assert [name for name in names(tmp_path) if name.startswith(".")] == [".notes.tmp"]


def test_temporary_files_are_removed_where_no_open_file_can_be(tmp_path, monkeypatch) -> None:
    """As on Windows, where there are no such locks either."""
    opened: list[Any] = []

    def keep(*args: Any, **settings: Any) -> Any:
        opened.append(open(*args, **settings))  # noqa: SIM115
        return opened[-1]

    def unlink(path: Path, missing_ok: bool = False) -> None:
        if any(Path(file.name) == path and not file.closed for file in opened):
            raise PermissionError(f"{path} is used by a process")
        os.unlink(path)

    monkeypatch.setattr(folder, "fcntl", None)
    monkeypatch.setattr(folder, "open", keep, raising=False)
    monkeypatch.setattr(Path, "unlink", unlink)
    left, file = folder._create(tmp_path / "checkpoint-00000001.safetensors")
    file.close()
    used, file = folder._create(tmp_path / "checkpoint-00000001.safetensors")
    save(tmp_path, 1)
    assert (left.exists(), used.exists()) == (False, True)
    file.close()


def test_a_file_that_is_taken_for_abandoned_too_early_is_made_again(tmp_path, monkeypatch) -> None:
    original, removed = folder._lock, []

    def lock(file: Any, wait: bool) -> None:
        if not removed:
            removed.append(file.name)
            os.unlink(file.name)
        original(file, wait)

    monkeypatch.setattr(folder, "_lock", lock)
    save(tmp_path, 1)
    assert number_in(tmp_path) == 1
    assert len(removed) == 1


def test_threads_may_save_to_folders_of_their_own(tmp_path) -> None:
    def go(number: int) -> None:
        for _ in range(5):
            save(tmp_path / str(number), number)

    threads = [threading.Thread(target=go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [number_in(tmp_path / str(number)) for number in range(4)] == [0, 1, 2, 3]


# Memory


def test_arrays_are_saved_and_loaded_without_copies(tmp_path) -> None:
    model = {"w": np.ones((4, PIECE)), "t": np.ones((2, PIECE)).T, "big": np.ones(PIECE, ">f8")}
    opt = optim.Adam(model.items())
    opt.step(grads=[np.ones_like(array) for array in model.values()])
    tracemalloc.start()
    checkpoint.save(tmp_path, model=model, optimizer=opt)
    assert tracemalloc.get_traced_memory()[1] < 8 * PIECE
    tracemalloc.reset_peak()
    other = optim.Adam(model.items())
    checkpoint.load(tmp_path, model=model, optimizer=other)
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept > 2 * sum(array.nbytes for array in model.values())
    assert peak - kept < 8 * PIECE


def test_a_header_that_no_library_would_read(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(layout, "LONGEST", 1000)
    with pytest.raises(ValueError, match="expected at most 1,000 bytes of names and numbers, but"):
        checkpoint.save(tmp_path, extra=[*range(1000)])
    assert names(tmp_path) == []


def test_the_digests_are_where_the_documentation_tells(tmp_path) -> None:
    with safetensors.safe_open(save(tmp_path), framework="numpy") as file:
        metadata = file.metadata()
    assert len(metadata["sha256"]) == 64
    assert json.loads(metadata["arrayopt"])["xxh3"].keys() == {"model.w", "model.flags"}
