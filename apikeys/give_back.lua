-- Give units back to the quota they were charged to, where that period is still counted, and to those that it was
-- carried into since. Answers how many.
-- KEYS[1] hash of units used; ARGV counter's field, units, what the call came to, "born" as the gate answered it (empty
-- where PostgreSQL let it in), when the call was admitted in microseconds, "late" where that was long ago and its event
-- is still to come: see drift.py; by which name the counters took it up, for one that PostgreSQL let in.
local call = redis.call
local field, most, came_to, admitted = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[5])
-- Where the counter was lost while the call was being served, it began anew without it: nothing of it is to be given
-- back, and what it came to is not counted yet.
local is_lost = ARGV[4] ~= '' and call('HGET', KEYS[1], 'born') ~= ARGV[4]
  or ARGV[7] ~= '' and call('HDEL', KEYS[1], ARGV[7]) == 0
local given
while field do
  local held = call('HMGET', KEYS[1], field, 'mark:' .. field, 'mended:' .. field)
  local used, mark, mended = tonumber(held[1] or ''), tonumber(held[2] or ''), tonumber(held[3] or '')
  if not used then break end
  -- The same where it was taken for one that died, and its units were taken off.
  local is_gone = is_lost or mended and mended >= admitted
  local units = is_gone and -came_to or math.min(used, most)
  if units ~= 0 then call('HINCRBY', KEYS[1], field, -units) end
  if mark and mark >= admitted then
    if ARGV[6] == 'late' then
      -- Who measures would miss the event: measured again later.
      call('HDEL', KEYS[1], 'mark:' .. field, 'read:' .. field, 'back:' .. field)
    elseif units ~= 0 then
      call('HINCRBY', KEYS[1], 'back:' .. field, units)
    end
  end
  given = given or math.max(units, 0)
  field = call('HGET', KEYS[1], 'into:' .. field)
end
return given or 0
