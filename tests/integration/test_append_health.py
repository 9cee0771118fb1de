"""The health of the appender: from appends, or from a probe while there are none."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import uuid4

import psycopg
import pytest
from eventsourcing.persistence import StoredEvent
from psycopg import sql
from psycopg.conninfo import make_conninfo

from pulse.eventstore import Appender, AppendLimits, AppendRefused, VersionTaken
from pulse.postgres import Database
from tests.support.database import as_superuser
from tests.support.events import foreign_event, foreign_events
from tests.support.log import (
    append_all,
    append_singly,
    fetch,
    fetch_as_superuser,
    log_locked,
    running_appender,
    stored_log,
    terminate,
    unlock,
)
from tests.support.proxy import proxied
from tests.support.waiting import until


async def until_fault(appender: Appender, words: str) -> None:
    async def named() -> bool:
        return words in (await appender.fault() or "")

    await until(named, f"the appender says {words}")


async def until_well(appender: Appender) -> None:
    async def well() -> bool:
        return await appender.fault() is None

    await until(well, "the appender is well")


async def last_id(database: Database) -> int:
    ((issued,),) = await fetch(
        database, "SELECT COALESCE(pg_sequence_last_value('stored_events_notification_id_seq'), 0)"
    )
    return int(issued)


async def test_a_probe_of_an_idle_appender_takes_no_id_and_sends_no_notification(
    database: Database,
) -> None:
    committed: list[None] = []
    async with running_appender(database, on_commit=lambda: committed.append(None)) as appender:
        assert await appender.fault() is None
    assert (await last_id(database), await stored_log(database), committed) == (0, {}, [])


@asynccontextmanager
async def role_of(database: Database, *grants: str) -> AsyncIterator[Database]:
    """A role that can read the log, with these additional grants."""
    name = f"pulse_{uuid4().hex[:12]}"
    statements = [f"CREATE ROLE {name} LOGIN", f"GRANT SELECT ON stored_events TO {name}"]
    statements += [f"GRANT EXECUTE ON FUNCTION lock_log TO {name}"]
    statements += [f"GRANT {grant} TO {name}" for grant in grants]
    async with await Database(as_superuser(database.conninfo), pool_size=1).connect(
        "test"
    ) as admin:
        for statement in statements:
            await admin.execute(statement.encode())
        yield Database(make_conninfo(database.conninfo, user=name), pool_size=1)
        await admin.execute(f"DROP OWNED BY {name}".encode())
        await admin.execute(f"DROP ROLE {name}".encode())


async def test_a_role_without_the_right_to_insert_is_named(database: Database) -> None:
    async with role_of(database) as limited, running_appender(limited) as appender:
        assert "permission denied" in (await appender.fault() or "")


async def test_a_role_without_the_right_to_the_sequence_is_named_with_the_grant(
    database: Database,
) -> None:
    insert = "INSERT (originator_id, originator_version, topic, state) ON stored_events"
    async with role_of(database, insert) as limited, running_appender(limited) as appender:
        fault = await appender.fault() or ""
        assert "GRANT USAGE ON SEQUENCE public.stored_events_notification_id_seq" in fault


async def test_rights_to_the_four_columns_and_the_sequence_are_enough(database: Database) -> None:
    grants = (
        "INSERT (originator_id, originator_version, topic, state) ON stored_events",
        "USAGE ON SEQUENCE stored_events_notification_id_seq",
    )
    async with role_of(database, *grants) as limited, running_appender(limited) as appender:
        assert await appender.fault() is None


async def set_read_only(conninfo: str, setting: str) -> None:
    async with await psycopg.AsyncConnection.connect(
        as_superuser(conninfo), autocommit=True
    ) as connection:
        await connection.execute("SET default_transaction_read_only = off")
        name = sql.Identifier(connection.info.dbname)
        change = sql.SQL("ALTER DATABASE {} SET default_transaction_read_only = {}")
        await connection.execute(change.format(name, sql.SQL(setting)))


async def test_a_read_only_database_is_reported_before_any_append(
    database: Database,
) -> None:
    await set_read_only(database.conninfo, "on")
    async with running_appender(database) as appender:
        await until_fault(appender, "read-only")
        await set_read_only(database.conninfo, "off")
        await until_well(appender)
    assert await stored_log(database) == {}


@pytest.mark.timing
async def test_a_locked_log_is_reported_within_the_deadline(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pulse.eventstore.appender.MAX_PROBE_SECONDS", 0.3)
    async with running_appender(database) as appender, log_locked(database) as holder:
        assert "within 0.3 s" in (await appender.fault() or "")
        await unlock(holder)
        await until_well(appender)


async def test_a_lost_connection_that_cannot_be_replaced_is_reported(database: Database) -> None:
    """As for a role at its connection limit: existing connections keep working."""
    async with (
        proxied(database.conninfo) as proxy,
        running_appender(Database(proxy.conninfo, pool_size=1)) as appender,
    ):
        assert await appender.fault() is None
        proxy.refuse()
        await until_fault(appender, "the appender has no connection")
        await proxy.accept()
        await until_well(appender)


async def test_a_lost_idle_connection_is_replaced_without_a_fault(database: Database) -> None:
    async with running_appender(database) as appender:
        await appender.append([foreign_event()])
        await terminate(database, "appender")

        async def replaced() -> bool:
            assert await appender.fault() is None
            rows = await fetch(
                database,
                "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pulse:appender@%%'"
                " AND datname = current_database()",
            )
            return bool(rows)

        await until(replaced, "the connection is replaced")


REFUSE = """
    CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'no space, as it were' USING ERRCODE = 'disk_full'; END $$;
    CREATE TRIGGER refuse BEFORE INSERT ON stored_events
       FOR EACH ROW EXECUTE FUNCTION refuse()
"""


@pytest.mark.timing
async def test_after_a_failed_append_the_probe_writes_a_row_and_rolls_back(
    database: Database,
) -> None:
    """With a full disk, a probe that writes nothing would succeed."""
    async with running_appender(database, limits=AppendLimits(answer_seconds=0.3)) as appender:
        await appender.append([foreign_event()])
        async with await Database(as_superuser(database.conninfo), pool_size=1).connect(
            "test"
        ) as admin:
            await admin.execute(REFUSE)
            with pytest.raises(AppendRefused):
                await appender.append([foreign_event()])
            await until_fault(appender, "no space")
            for _ in range(3):
                assert "no space" in (await appender.fault() or "")
            await admin.execute("DROP TRIGGER refuse ON stored_events")
        await until_well(appender)
    assert len(await stored_log(database)) == 1


async def test_an_invalid_event_is_not_a_fault_of_the_appender(database: Database) -> None:
    async with running_appender(database) as appender:
        wrong = foreign_event(version=2**63)
        with pytest.raises(psycopg.DataError):
            await appender.append([wrong])
        assert await appender.fault() is None


@pytest.mark.timing
async def test_a_used_id_refuses_the_append(
    database: Database,
) -> None:
    """A sequence that was restored to a value below the log: ids are used a second time."""
    async with running_appender(database, limits=AppendLimits(answer_seconds=0.3)) as appender:
        written = foreign_events(50)
        await append_singly(appender, written)
        await fetch_as_superuser(database, "SELECT setval('stored_events_notification_id_seq', 1)")
        outcomes = await append_singly(appender, foreign_events(3))
        outcomes += await append_all(appender, [foreign_events(2)])
        assert {type(outcome) for outcome in outcomes} == {AppendRefused}
        await until_fault(appender, "ids that are taken")
        with pytest.raises(VersionTaken):
            await append_again(appender, database, written[0])


async def append_again(appender: Appender, database: Database, event: StoredEvent) -> None:
    """Append at a used version, after ids are free again."""
    await fetch_as_superuser(database, "SELECT setval('stored_events_notification_id_seq', 100)")
    await until_well(appender)
    await appender.append([foreign_event(event.originator_id)])
