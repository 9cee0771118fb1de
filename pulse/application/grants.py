"""The rights on every object of the database, collected from the packages that own them."""

from typing import Final

from pulse.eventstore.grants import GRANTS as LOG
from pulse.evidence.grants import GRANTS as SEAL
from pulse.postgres.grants import GRANTS as SCHEMA
from pulse.postgres.grants import Grant
from pulse.projections.grants import GRANTS as QUEUE

_CLOCKS: Final = (
    Grant(
        "TABLE",
        "clock_offsets",
        runtime=(
            "SELECT",
            (
                "INSERT (instance, code_version, measurements, min_offset_seconds, "
                "max_offset_seconds, max_error_seconds)"
            ),
            "DELETE",
        ),
        reader=("SELECT",),
    ),
)

GRANTS: Final = (*SCHEMA, *LOG, *QUEUE, *SEAL, *_CLOCKS)
