-- wrk ... -- FILE same|fresh: sends the requests in FILE (separated by zero bytes) in turn, for ever.
-- `fresh` puts a number that was never used before in the place of each \1, so that no head comes twice.

local requests, count, at, serial = {}, 0, 0, 0

local function again()
   at = at % count + 1
   return requests[at]
end

local function never_seen()
   at = at % count + 1
   serial = serial + 1
   local text = requests[at]:gsub("\1", string.format("%016x", serial))
   return text
end

function init(args)
   local file = assert(io.open(args[1], "rb"))
   for text in file:read("*a"):gmatch("[^%z]+") do
      count = count + 1
      requests[count] = text
   end
   file:close()
   -- Runs differ in their numbers too: a proxy lives through several.
   serial = os.time() % 65536 * 4294967296
   request = args[2] == "fresh" and never_seen or again
end

-- A function at load time already: without one wrk takes the script for one fixed request.
request = again

function done(summary)
   local e = summary.errors
   io.write(string.format('BENCH {"requests": %d, "microseconds": %d, "errors": %d}\n',
      summary.requests, summary.duration, e.connect + e.read + e.write + e.status + e.timeout))
end
