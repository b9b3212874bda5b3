-- Bring a counter in line with the ledger, by what was read at its mark: see drift.py.
-- KEYS[1] hash of units used; ARGV counter's field, the mark, units in the ledger of calls that were admitted up to it,
-- units in the ledger that came in as events, how long calls may take in microseconds, now in microseconds or "".
-- Answers {"mended", by how many units it was too high}, or why not: {"lost"}, {"early"}, {"unsettled"}.
local call = redis.call
local field, mark, known, ingested = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local now = tonumber(ARGV[6])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local held = call('HMGET', KEYS[1], field, 'mark:' .. field, 'read:' .. field, 'back:' .. field, 'ingested:' .. field,
  'into:' .. field, 'taken', 'born')
local used, taken = tonumber(held[1] or ''), tonumber(held[7] or '')
-- Without its birth it is of another run of Redis, and about to be made anew.
if not used or held[2] ~= ARGV[2] or not held[8] then return {'lost'} end
if now - mark < tonumber(ARGV[5]) then return {'early'} end
call('HDEL', KEYS[1], 'mark:' .. field, 'read:' .. field, 'back:' .. field)
if held[6] then return {'lost'} end
if taken and taken > mark then return {'unsettled'} end
local read, events = string.match(held[3], '^(%d+)|(%d+)$')
read, events = tonumber(read), tonumber(events)
-- Calls that are charged and neither came to anything nor are on their way.
local dead = read - events - tonumber(held[4]) - known
-- Of events nobody knows when they were charged: only what cannot be one that came since the mark.
local counted, strayed = tonumber(held[5] or '0'), 0
if ingested < events then
  strayed = events - ingested
elseif ingested > counted then
  strayed = counted - ingested
end
local units = math.min(dead + strayed, used)
if units ~= 0 then call('HINCRBY', KEYS[1], field, string.format('%.0f', -units)) end
if strayed ~= 0 then call('HINCRBY', KEYS[1], 'ingested:' .. field, string.format('%.0f', -strayed)) end
-- From here on a call of before the mark that ends after all finds its units taken off.
if dead > 0 then call('HSET', KEYS[1], 'mended:' .. field, ARGV[2]) end
return {'mended', string.format('%.0f', units)}
