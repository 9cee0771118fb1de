"""A queue and a log with many orders, generated in SQL, for tests of plans and latency."""

from typing import Final

import psycopg

CLAIMS: Final = 40
SLICES_PER_ORDER: Final = 3

_FILL = (
    # Position of creation 2n, of the outcome 2n + 1; 2 % FAILED and 2 % CANCELLED, none of them of
    # NSE:SYM0; the newest PENDING, of which workers hold the oldest. Half of all orders are of
    # NSE:SYM0, half of the caller `me` and half of the trace `trace-of-many`. Of the COMPLETED ones
    # with slices one in ten still has two to release.
    """
    INSERT INTO order_queue
    SELECT lpad(to_hex(n), 32, '0')::uuid, 2 * n, 99, t.created_at, %(slices)s, 60, 1, true,
           'NSE:SYM' || CASE WHEN n %% 2 = 0 THEN 0 ELSE 1 + hashint4(n::int) & 511 END,
           'BUY', 'internal',
           CASE WHEN n %% 4 < 2 THEN 'me' ELSE 'caller-' || (hashint4(n::int) & 1023) END,
           'key-' || n,
           CASE s.state WHEN 'PENDING' THEN 1 ELSE 2 END,
           CASE s.state WHEN 'PENDING' THEN 2 * n ELSE 2 * n + 1 END,
           t.created_at, CASE s.state WHEN 'COMPLETED' THEN t.created_at END, s.state,
           CASE s.state WHEN 'FAILED' THEN 'TOO_LATE' END,
           CASE s.state WHEN 'FAILED' THEN 'first claimed too late' END,
           CASE WHEN n %% 4 IN (0, 3) THEN 'trace-of-many' ELSE 'trace-' || n END, true,
           CASE WHEN s.state <> 'COMPLETED' THEN 0 WHEN n %% 10 = 3 THEN 33 ELSE 99 END,
           CASE s.state WHEN 'CANCELLED' THEN 99 ELSE 0 END,
           CASE s.state WHEN 'FAILED' THEN 99 ELSE 0 END,
           CASE WHEN s.state <> 'COMPLETED' THEN '' WHEN n %% 10 = 3 THEN 'R' ELSE 'RRR' END
      FROM generate_series(1, %(orders)s::bigint) n
     CROSS JOIN LATERAL (
           SELECT CASE WHEN n > %(orders)s::bigint - %(pending)s THEN 'PENDING'
                       WHEN n %% 50 = 7 THEN 'FAILED'
                       WHEN n %% 50 = 9 THEN 'CANCELLED'
                       ELSE 'COMPLETED' END AS state) s
     CROSS JOIN LATERAL (
           SELECT '2026-01-05T03:45:00Z'::timestamptz + n * interval '250 ms' AS created_at) t""",
    """
    INSERT INTO scheduled_slices
    SELECT created_position, created_at + (i - 1) * interval '30 min', 33, i
      FROM order_queue CROSS JOIN generate_series(1, %(slices)s) i
     WHERE created_position <= 2 * %(logged)s AND state = 'COMPLETED'""",
    """
    INSERT INTO due_orders
    SELECT created_position, created_at + interval '30 min'
      FROM order_queue
     WHERE created_position <= 2 * %(logged)s AND state = 'COMPLETED' AND settled = 'R'""",
    """
    INSERT INTO pending_orders
    SELECT created_position, order_id, created_at, splitter_version, instrument, c.at, c.at,
           CASE WHEN c.at IS NOT NULL THEN 'worker-' || created_position %% 4 END
      FROM order_queue
     CROSS JOIN LATERAL (
           SELECT CASE WHEN created_position <= 2 * (%(orders)s::bigint - %(pending)s + %(claims)s)
                       THEN now() END AS at) c
     WHERE created_position > 2 * (%(orders)s::bigint - %(pending)s)""",
    """
    INSERT INTO stored_events
    SELECT order_id, v, CASE WHEN v = 1 THEN 'pulse.domain:OrderCreated'
                             WHEN state = 'COMPLETED' THEN 'pulse.domain:SlicesScheduled'
                             WHEN state = 'CANCELLED' THEN 'pulse.domain:OrderCancelled'
                             ELSE 'pulse.domain:SplittingFailed' END,
           convert_to(json_build_object('timestamp', created_at, 'instrument', instrument)::text,
                      'utf8'),
           created_position + v - 1, created_at
      FROM order_queue CROSS JOIN generate_series(1, 2) v
     WHERE created_position <= 2 * %(logged)s AND v <= version
     ORDER BY created_position, v""",
    "UPDATE notification_tracking SET notification_id = 2 * %(orders)s::bigint + 1",
)


def fill(conninfo: str, orders: int, *, pending: int, logged: int) -> None:
    """Fill an empty database and update the planner's statistics.

    The oldest `logged` orders have events and, if COMPLETED, slices; the newest are `pending`.
    """
    parameters = {
        "orders": orders,
        "pending": pending,
        "logged": logged,
        "claims": CLAIMS,
        "slices": SLICES_PER_ORDER,
    }
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in _FILL:
            connection.execute(statement, parameters, prepare=False)
        connection.execute("VACUUM (ANALYZE)")
