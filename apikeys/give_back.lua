-- Give units back to the quota they were charged to, where that period is still counted, and to those that it was
-- carried into since. Answers how many.
-- KEYS[1] hash of units used; ARGV counter's field, units, what the call came to, "born" as the gate answered it.
local field, most = ARGV[1], tonumber(ARGV[2])
-- Where the counter was lost while the call was being served, it began anew without it: nothing of it is to be given
-- back, and what it came to is not counted yet.
local is_lost = ARGV[4] ~= '' and redis.call('HGET', KEYS[1], 'born') ~= ARGV[4]
local given
while field do
  local used = tonumber(redis.call('HGET', KEYS[1], field))
  if not used then break end
  local units = is_lost and -tonumber(ARGV[3]) or math.min(used, most)
  if units ~= 0 then redis.call('HINCRBY', KEYS[1], field, -units) end
  given = given or math.max(units, 0)
  field = redis.call('HGET', KEYS[1], 'into:' .. field)
end
return given or 0
