-- The database's clock, and the role that this session logged in as.
SELECT clock_timestamp(), session_user::text
