"""The text of a connection's fault repeats nothing of the connection string."""

import psycopg
import pytest

from pulse.postgres import describe

AT = 'connection failed: connection to server at "hidden" (10.9.7.31), port 9731 failed: '
ON = 'connection failed: connection to server on socket "/hidden/.s.PGSQL.9731" failed: '


@pytest.mark.parametrize(
    ("said", "described"),
    [
        (f"{AT}Connection refused", "connection failed: Connection refused"),
        (f"{ON}No such file or directory", "connection failed: No such file or directory"),
        (
            f'{AT}FATAL:  password authentication failed for user "hid"den"',
            "connection failed: FATAL:  password authentication failed for user ***",
        ),
        (
            f'{ON}FATAL:  no pg_hba.conf entry for host "hidden", user "hidden", database "hidden"',
            "connection failed: FATAL:  no pg_hba.conf entry for host ***",
        ),
        (
            "failed to resolve host 'hid'den': [Errno -2] Name or service not known",
            "failed to resolve host ***: [Errno -2] Name or service not known",
        ),
        (
            f"{ON}FATAL:  invalid command-line argument for server process: hidden",
            "connection failed: FATAL:  invalid command-line argument for server process: ***",
        ),
        (
            f"{AT}FATAL:  no such database: hidden",
            "connection failed: FATAL:  no such database: ***",
        ),
        (
            'connection is bad: definition of service "hidden" not found',
            "connection is bad: definition of service *** not found",
        ),
        ("server closed the connection unexpectedly", "server closed the connection unexpectedly"),
    ],
)
def test_a_fault_is_described_without_the_values_of_the_connection_string(
    said: str, described: str
) -> None:
    assert describe(psycopg.OperationalError(f"{said}\n\tmore of hidden")) == described


def test_the_servers_message_about_a_statement_is_kept() -> None:
    error = psycopg.errors.UndefinedTable('relation "order_queue" does not exist')
    assert describe(error) == 'relation "order_queue" does not exist'
