-- For the rest of this transaction rows come in the order an index has them, never fetched whole and
-- sorted. A plan that is made once for any parameters knows neither that a page is wanted nor which
-- instrument, and statistics are behind where orders come in bursts: either misleads the planner to
-- sort a hundred thousand rows for fifty. Sorts without an alternative, of a page, still happen.
SET LOCAL enable_sort = off
