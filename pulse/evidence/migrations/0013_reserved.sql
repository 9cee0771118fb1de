-- Takes the number of a revision of another branch, until that is merged.
SELECT 1;
