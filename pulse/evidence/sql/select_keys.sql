-- Every key that signed checkpoints, the current one last.
SELECT number, verifier_key, rotation, recorded_at FROM seal_keys ORDER BY number
