-- wrk: each request is a POST of an order with a new key.
-- Arguments after `--`: a prefix for the keys, and optionally a bearer token.
local threads = 0

function setup(thread)
  thread:set("number", threads)
  threads = threads + 1
end

function init(args)
  prefix = args[1] .. "-" .. number .. "-"
  count = 0
  wrk.method = "POST"
  wrk.headers["Content-Type"] = "application/json"
  if args[2] then
    wrk.headers["Authorization"] = "Bearer " .. args[2]
  end
end

function request()
  count = count + 1
  return wrk.format(nil, nil, nil, '{"order_unique_key":"' .. prefix .. count ..
    '","instrument":"NSE:RELIANCE","side":"BUY","total_quantity":100,' ..
    '"split_config":{"num_splits":5,"duration_minutes":60}}')
end
