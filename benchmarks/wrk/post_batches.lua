-- wrk: each request is a POST of a batch of 1,000 orders with new keys.
-- Arguments after `--`: a prefix for the keys.
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
end

function request()
  local orders = {}
  for n = 1, 1000 do
    count = count + 1
    orders[n] = '{"order_unique_key":"' .. prefix .. count ..
      '","instrument":"NSE:RELIANCE","side":"BUY","total_quantity":100,' ..
      '"split_config":{"num_splits":5,"duration_minutes":60}}'
  end
  return wrk.format(nil, nil, nil, "[" .. table.concat(orders, ",") .. "]")
end
