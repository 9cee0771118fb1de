"""What every revision does: run the `.sql` file beside it."""

from pathlib import Path

from alembic import op


def run_sql_beside(revision_file: str) -> None:
    """Run the file of the same name that ends in `.sql`, whole, in the migration's transaction."""
    statements = Path(revision_file).with_suffix(".sql").read_text(encoding="utf-8")
    op.get_bind().execution_options(no_parameters=True).exec_driver_sql(statements)
