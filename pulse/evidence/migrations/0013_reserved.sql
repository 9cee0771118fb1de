-- Takes the number of a revision of another branch, until both are merged.
SELECT 1;
