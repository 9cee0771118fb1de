-- Store the checkpoint of the tree as it is now.
UPDATE seal_state
   SET checkpoint = %b::text, checkpoint_size = size, checkpoint_at = clock_timestamp()
