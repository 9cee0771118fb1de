-- The session's settings as the server shows them, and facts about the server. The view pg_settings
-- would compute all settings, which takes 1 ms more.
SELECT needed.name, pg_catalog.current_setting(needed.name, true)
FROM pg_catalog.unnest(%s::text[]) AS needed (name)
UNION ALL
SELECT fact.name, fact.value
FROM (
    VALUES
        ('in_recovery', pg_catalog.pg_is_in_recovery()::text),
        ('current_schema', pg_catalog.current_schema()::text),
        ('schemas', pg_catalog.array_to_string(pg_catalog.current_schemas(true), ','))
) AS fact (name, value)
