-- Counts answers by the version that gave them, and notes when each version answered first and last: epoch seconds.
-- One thread of wrk. The body of an answer is the version. Where nobody asks for versions, answers are not looked at.
local ffi = require("ffi")
ffi.cdef [[
typedef struct { long seconds; long nanoseconds; } timespec_t;
int clock_gettime(int clock, timespec_t *time);
]]
local time = ffi.new("timespec_t")
local threads = {}

local function now()
  ffi.C.clock_gettime(0, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

function setup(thread)
  table.insert(threads, thread)
end

function init(arguments)
  counts, first, last = {}, {}, {}
  if arguments[1] ~= "versions" then
    response = nil
  end
end

function response(status, headers, body)
  if status ~= 200 then
    return
  end
  local at = now()
  if not counts[body] then
    counts[body], first[body] = 0, at
  end
  counts[body], last[body] = counts[body] + 1, at
end


function done(summary, latency, requests)
  local thread = threads[1]
  local rows = {}
  for body, count in pairs(thread:get("counts")) do
    table.insert(rows, string.format('"%s": [%d, %.6f, %.6f]', body, count, thread:get("first")[body], thread:get("last")[body]))
  end
  local errors = summary.errors
  io.stderr:write(string.format(
    '{"requests": %d, "seconds": %.6f, "milliseconds": [%.4f, %.4f, %.4f], ' ..
      '"errors": {"connect": %d, "read": %d, "write": %d, "status": %d, "timeout": %d}, "versions": {%s}}\n',
    summary.requests, summary.duration / 1e6,
    latency:percentile(50) / 1e3, latency:percentile(95) / 1e3, latency:percentile(99) / 1e3,
    errors.connect, errors.read, errors.write, errors.status, errors.timeout, table.concat(rows, ", ")))
end
