-- wrk: each request is a GET of the next path in a file (one path per line), repeatedly.
-- Arguments after `--`: a prefix (unused) and the file.
function init(args)
  paths = {}
  for line in io.lines(args[2]) do paths[#paths + 1] = line end
  count = 0
end

function request()
  count = count % #paths + 1
  return wrk.format("GET", paths[count])
end
