-- Check deferred constraints now and not at the commit, so that a failure rolls back to the
-- savepoint.
SET CONSTRAINTS ALL IMMEDIATE
