-- Check now what is deferred to the commit, so that a savepoint can undo what fails it.
SET CONSTRAINTS ALL IMMEDIATE
