import os
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict

from pulse.postgres.embedded import EmbeddedServerError
from pulse.postgres.embedded.directories import ServerPaths, create_private_directory

LIMIT_BYTES = 103  # fits everywhere


def test_the_socket_is_next_to_the_data_if_its_path_fits() -> None:
    place = ServerPaths.under(Path("/srv/data"))
    assert place.sockets == Path("/srv/data/postgres/socket")
    assert conninfo_to_dict(place.conninfo) == {
        "host": "/srv/data/postgres/socket",
        "port": "5432",
        "user": "pulse",
        "dbname": "pulse",
    }


def test_the_last_path_that_fits_is_used_and_a_longer_one_is_not() -> None:
    tail = len("/postgres/socket/.s.PGSQL.5432")
    fits = Path("/" + "x" * (LIMIT_BYTES - tail - 1))
    too_long = Path("/" + "x" * (108 - tail - 1))
    assert len(str(ServerPaths.under(fits).sockets / ".s.PGSQL.5432")) == LIMIT_BYTES
    assert ServerPaths.under(fits).sockets.is_relative_to(fits)
    assert not ServerPaths.under(too_long).sockets.is_relative_to(too_long)


def test_a_short_path_of_many_bytes_does_not_fit() -> None:
    wide = Path("/" + "€" * 30)
    assert not ServerPaths.under(wide).sockets.is_relative_to(wide)


@pytest.mark.parametrize("name", ["a,b", 'a"b', "a\nb", os.fsdecode(b"a\xffb")])
def test_a_path_that_libpq_or_the_server_would_split_or_misread_is_not_used(name: str) -> None:
    place = ServerPaths.under(Path("/srv") / name)
    assert not place.sockets.is_relative_to("/srv")
    assert len(os.fsencode(place.sockets / ".s.PGSQL.5432")) <= LIMIT_BYTES


def test_the_same_data_has_the_same_short_directory_and_other_data_another() -> None:
    data = Path("/" + "x" * 200)
    assert ServerPaths.under(data).sockets == ServerPaths.under(data / "." / "y" / "..").sockets
    assert ServerPaths.under(data).sockets != ServerPaths.under(data / "y").sockets


def test_quotes_and_backslashes_in_the_path_reach_libpq_unharmed() -> None:
    place = ServerPaths.under(Path("/srv/it's a \\ path"))
    assert conninfo_to_dict(place.conninfo)["host"] == "/srv/it's a \\ path/postgres/socket"


def test_missing_directories_are_created_private_whatever_the_umask(tmp_path: Path) -> None:
    before = tmp_path.stat().st_mode
    place = ServerPaths.under(tmp_path / "a" / "b")
    umask = os.umask(0o777)
    try:
        place.create_home()
    finally:
        os.umask(umask)
    expected = 0o711 if os.geteuid() == 0 else 0o700
    made = (tmp_path / "a", tmp_path / "a" / "b", place.home)
    assert {path.stat().st_mode & 0o777 for path in made} == {expected}
    assert tmp_path.stat().st_mode == before


def test_existing_directories_keep_their_mode(tmp_path: Path) -> None:
    data_dir = tmp_path / "data"
    data_dir.mkdir()
    data_dir.chmod(0o750)
    ServerPaths.under(data_dir).create_home()
    assert data_dir.stat().st_mode & 0o777 == 0o750


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises(EmbeddedServerError, match=r"cannot be created .*PULSE_DATA_DIR"):
        ServerPaths.under(tmp_path / "data").create_home()


def test_a_private_directory_is_created_once_and_found_again(tmp_path: Path) -> None:
    for _ in range(2):
        create_private_directory(tmp_path / "socket", os.geteuid(), os.getegid())
    assert (tmp_path / "socket").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the owner of files")
def test_only_an_empty_directory_of_the_process_changes_its_owner(tmp_path: Path) -> None:
    for name in ("empty", "filled"):
        (tmp_path / name).mkdir(mode=0o700)
    (tmp_path / "filled" / "file").write_text("")
    create_private_directory(tmp_path / "empty", 12345, 12345)
    assert (tmp_path / "empty").stat().st_uid == 12345
    with pytest.raises(EmbeddedServerError, match="id 12345"):
        create_private_directory(tmp_path / "filled", 12345, 12345)
    assert (tmp_path / "filled").stat().st_uid == 0
