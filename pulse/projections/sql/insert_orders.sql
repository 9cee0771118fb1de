-- New orders, as they are at the end of the batch; a column that this code does not know keeps its
-- default.
INSERT INTO order_queue ({columns})
SELECT {columns} FROM json_populate_recordset(NULL::order_queue, %s::json)
