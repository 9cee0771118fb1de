"""The order queue: its rows, its slices, its position, and the view people query."""

from pulse.postgres.revision import run_sql_beside

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    run_sql_beside(__file__)
