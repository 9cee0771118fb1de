-- The names of the roles.
SELECT owner, runtime, reader FROM pulse_roles
