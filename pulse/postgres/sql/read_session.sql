-- The session's settings in their base units, and facts about the server.
SELECT pg_catalog.lower(name), setting
FROM pg_catalog.pg_settings
WHERE pg_catalog.lower(name) = ANY (%s::text[])
UNION ALL
SELECT fact.name, fact.value
FROM (
    VALUES
        ('in_recovery', pg_catalog.pg_is_in_recovery()::text),
        ('current_schema', pg_catalog.current_schema()::text),
        ('schemas', pg_catalog.array_to_string(pg_catalog.current_schemas(true), ','))
) AS fact (name, value)
