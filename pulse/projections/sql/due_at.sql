-- A part of other statements: when a releaser has to process the order `q`, from its settled slices
-- and the next one (see `due_at` in pulse.domain.releases). NULL if it has no next slice.
SELECT CASE WHEN s.scheduled_at - s.released_at >= rule.distance
            THEN GREATEST(s.scheduled_at, q.updated_at + LEAST(
                     rule.distance, s.scheduled_at - s.released_at - rule.catch_up))
            ELSE s.scheduled_at END AS due_at
  FROM (SELECT make_interval(secs => %(distance_seconds)b::float8) AS distance,
               make_interval(secs => %(catch_up_seconds)b::float8) AS catch_up) rule
 CROSS JOIN (
       SELECT max(scheduled_at) FILTER (WHERE sequence_number > length(q.settled)) AS scheduled_at,
              max(scheduled_at) FILTER (WHERE sequence_number = length(q.settled)
                                          AND right(q.settled, 1) = 'R') AS released_at
         FROM scheduled_slices
        WHERE created_position = q.created_position
          AND sequence_number BETWEEN length(q.settled) AND length(q.settled) + 1
       OFFSET 0) s
