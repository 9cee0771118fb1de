-- The database's clock, the role that this session logged in as, and whether it may record exports.
SELECT clock_timestamp(), session_user::text, has_any_column_privilege('evidence_exports', 'INSERT')
