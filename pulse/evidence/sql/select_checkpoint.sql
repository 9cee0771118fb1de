-- The latest checkpoint, the size of its tree, and the position of the last sealed event.
SELECT checkpoint, checkpoint_size, position FROM seal_state
