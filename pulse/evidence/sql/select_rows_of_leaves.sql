-- Some rows of entries, by their first leaf.
SELECT first_index, entries FROM seal_entries WHERE first_index = ANY (%b::bigint[])
