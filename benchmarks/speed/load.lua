-- What wrk sends, and what it says at the end. Arguments: the file that holds a request, as it is sent.
--
-- A mark in the request gives way to another number of as many digits in each request.

local mark = "00000000000000000000000000000000"
local before, after, number

function init(arguments)
  local file = assert(io.open(arguments[1], "rb"))
  local whole = file:read("*a")
  file:close()
  local first, last = whole:find(mark, 1, true)
  before, after, number = whole, nil, 0
  if first then
    before, after = whole:sub(1, first - 1), whole:sub(last + 1)
  end
end

function request()
  if not after then
    return before
  end
  number = number + 1
  return before .. string.format("%032x", number) .. after
end

function done(summary, latency, _)
  local errors = 0
  for _, count in pairs(summary.errors) do
    errors = errors + count
  end
  io.write(string.format('\n{"requests": %d, "seconds": %.6f, "read": %d, "errors": %d, "p50": %.4f, "p99": %.4f}\n',
    summary.requests, summary.duration / 1e6, summary.bytes, errors,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3))
end
