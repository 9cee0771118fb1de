-- The roles that have the rights on Pulse's objects. A migration grants them the rights on what it creates.
CREATE TABLE IF NOT EXISTS pulse_roles (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    owner text NOT NULL,
    runtime text NOT NULL,
    reader text NOT NULL
)
