-- Lock the tree's row until the transaction ends. Waits while another process holds it.
SELECT verifier_key, size, position, last_entry, frontier, checkpoint, checkpoint_size,
       EXTRACT(EPOCH FROM clock_timestamp() - checkpoint_at)::float8
  FROM seal_state
   FOR UPDATE
