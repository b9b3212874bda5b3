-- Begin to measure how far a quota's counter is from the ledger: see drift.py.
-- KEYS[1] hash of units used; ARGV counter's field, units that the ledger has, how long calls may take in
-- microseconds, now in microseconds or "" for this server's own clock.
-- Answers {"marked", the moment, the counter}, or why not: {"absent"}, {"succeeded"}, {"early"}, {"unsettled"}.
local call = redis.call
local field, now = ARGV[1], tonumber(ARGV[4])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local held = call('HMGET', KEYS[1], field, 'ingested:' .. field, 'into:' .. field, 'taken', 'born')
local used, taken = tonumber(held[1] or ''), tonumber(held[4] or '')
if not used or not held[5] then return {'absent'} end
if held[3] then return {'succeeded'} end
-- The period comes from another clock: of a call before it nobody could say when it was.
if now <= tonumber(string.match(field, '(%d+)$')) then return {'early'} end
-- PostgreSQL let calls in, by the clocks of several processes: not before they are surely past.
if taken and now - taken < tonumber(ARGV[3]) then return {'unsettled'} end
-- The ledger was asked before: whatever it has was charged. Upwards nobody is let past a quota.
local least = tonumber(ARGV[2])
if used < least then
  call('HSET', KEYS[1], field, string.format('%.0f', least))
  used = least
end
local stamp, units = string.format('%.0f', now), string.format('%.0f', used)
call('HSET', KEYS[1], 'mark:' .. field, stamp, 'read:' .. field, units .. '|' .. (held[2] or '0'), 'back:' .. field, 0)
return {'marked', stamp, units}
