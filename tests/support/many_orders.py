"""A queue and a log of very many orders, made in SQL: for plans and latencies, not for truth."""

from typing import Final

import psycopg

CLAIMS: Final = 40
SLICES_AN_ORDER: Final = 3

_FILL = (
    # Position of creation 2n, of the outcome 2n + 1; 2 % FAILED, the newest 1 % PENDING, of which
    # workers hold the oldest. Half of all orders are of one instrument.
    """
    INSERT INTO order_queue
    SELECT md5(n::text)::uuid, 'key-' || n, 'internal', 'me',
           'NSE:SYM' || CASE WHEN n %% 2 = 0 THEN 0 ELSE hashint4(n::int) & 511 END,
           'BUY', 99, %(slices)s, 60, true, 1, s.state,
           CASE s.state WHEN 'FAILED' THEN 'TOO_LATE' END,
           CASE s.state WHEN 'FAILED' THEN 'first claimed too late' END,
           CASE s.state WHEN 'PENDING' THEN 1 ELSE 2 END,
           CASE s.state WHEN 'PENDING' THEN 2 * n ELSE 2 * n + 1 END, 2 * n,
           t.created_at, t.created_at, CASE s.state WHEN 'COMPLETED' THEN t.created_at END
      FROM generate_series(1, %(orders)s::bigint) n
     CROSS JOIN LATERAL (
           SELECT CASE WHEN n > %(orders)s::bigint * 0.99 THEN 'PENDING'
                       WHEN n %% 50 = 7 THEN 'FAILED'
                       ELSE 'COMPLETED' END AS state) s
     CROSS JOIN LATERAL (
           SELECT '2026-01-05T03:45:00Z'::timestamptz + n * interval '250 ms' AS created_at) t""",
    """
    INSERT INTO order_slices
    SELECT q.order_id, i, q.instrument, q.side, 33, q.created_at + (i - 1) * interval '30 min'
      FROM order_queue q CROSS JOIN generate_series(1, %(slices)s) i
     WHERE q.state = 'COMPLETED'""",
    """
    INSERT INTO order_claims
    SELECT order_id, 'worker-' || created_position %% 4, now(), now()
      FROM order_queue WHERE state = 'PENDING' ORDER BY created_position LIMIT %(claims)s""",
    """
    INSERT INTO stored_events
    SELECT order_id, v, CASE WHEN v = 1 THEN 'pulse.domain:OrderCreated'
                             WHEN state = 'COMPLETED' THEN 'pulse.domain:SlicesScheduled'
                             ELSE 'pulse.domain:SplittingFailed' END,
           convert_to(json_build_object('timestamp', created_at, 'instrument', instrument)::text,
                      'utf8'),
           created_position + v - 1, created_at
      FROM order_queue CROSS JOIN generate_series(1, 2) v
     WHERE v <= version
     ORDER BY created_position, v""",
    "UPDATE notification_tracking SET notification_id = 2 * %(orders)s + 1",
)


def fill(conninfo: str, orders: int) -> None:
    """Fill an empty database and let the planner know."""
    parameters = {"orders": orders, "claims": CLAIMS, "slices": SLICES_AN_ORDER}
    with psycopg.connect(conninfo, autocommit=True) as connection:
        for statement in _FILL:
            connection.execute(statement, parameters, prepare=False)
        connection.execute("VACUUM (ANALYZE)")
