-- For the rest of this transaction rows come in the order an index has them, never fetched whole and
-- sorted. A plan that is made once for any parameters knows neither that a page is wanted nor which
-- instrument, and statistics are behind where orders come in bursts: either misleads the planner to
-- sort a hundred thousand rows for fifty. Sorts without an alternative, of a page, still happen; up
-- to Postgres 17 they are priced beyond all measure, which would have a page compiled, hence no JIT.
SELECT set_config('enable_sort', 'off', true), set_config('jit', 'off', true)
