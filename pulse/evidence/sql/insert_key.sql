-- Record the key that signs from now on.
WITH current AS (
    UPDATE seal_state SET verifier_key = %(key)b::text
)
INSERT INTO seal_keys (number, verifier_key, rotation)
SELECT COALESCE(max(number), 0) + 1, %(key)b::text, %(rotation)b::text
  FROM seal_keys
