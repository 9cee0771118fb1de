-- Store the tree after a step.
UPDATE seal_state
   SET size = %(size)b::bigint, position = %(position)b::bigint, last_entry = %(last_entry)b::bytea,
       frontier = %(frontier)b::bytea, sealed_at = clock_timestamp()
