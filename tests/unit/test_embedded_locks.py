import os
import subprocess
import sys
from pathlib import Path

import pytest

from pulse.postgres.embedded.errors import EmbeddedServerError
from pulse.postgres.embedded.locks import Lock, exclusive


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "some.lock"


def test_two_share_and_neither_gets_it_alone_until_the_other_is_gone(file: Path) -> None:
    one, other = Lock(file), Lock(file)
    assert one.try_shared()
    assert other.try_shared()
    assert not one.try_exclusive()
    one.close()
    assert other.try_exclusive()
    other.close()


def test_one_who_failed_to_get_it_alone_holds_nothing_any_more(file: Path) -> None:
    one, other = Lock(file), Lock(file)
    assert one.try_shared()
    assert other.try_shared()
    assert not one.try_exclusive()
    assert other.try_exclusive()
    one.close()
    other.close()


def test_waiting_for_it_alone_ends_with_the_time(file: Path) -> None:
    holder = Lock(file)
    assert holder.try_shared()
    with pytest.raises(EmbeddedServerError, match=r"more than 0\.05 s"), exclusive(file, 0.05):
        pytest.fail("the lock is held by someone else")
    holder.close()
    with exclusive(file, 0.05):
        assert not Lock(file).try_shared()
    assert Lock(file).try_exclusive()


def test_closing_twice_is_harmless(file: Path) -> None:
    lock = Lock(file)
    lock.close()
    lock.close()
    assert lock.closed


def test_a_lock_is_given_back_when_the_block_fails(file: Path) -> None:
    with pytest.raises(ZeroDivisionError), exclusive(file, 1):
        raise ZeroDivisionError
    with exclusive(file, 0):
        pass


def test_a_started_program_does_not_inherit_it(file: Path) -> None:
    lock = Lock(file)
    assert lock.try_exclusive()
    with subprocess.Popen(
        [sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"up\n"
        lock.forget()
        with exclusive(file, 0):
            program.kill()


def test_a_forked_child_does_not_hold_it(file: Path) -> None:
    lock = Lock(file)
    assert lock.try_exclusive()
    child = os.fork()
    if child == 0:
        os._exit(0 if lock.closed else 1)
    _, status = os.waitpid(child, 0)
    assert status == 0
    assert not Lock(file).try_shared()
    lock.close()


def test_a_link_in_place_of_the_file_is_refused(file: Path, tmp_path: Path) -> None:
    file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(EmbeddedServerError, match="cannot be opened"):
        Lock(file)
    assert not (tmp_path / "elsewhere").exists()
