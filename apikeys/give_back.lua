-- Give units back to the quota they were charged to, where that period is still counted. Answers how many.
-- KEYS[1] hash of units used; ARGV counter's field, units, what the call came to, "born" as the gate answered it.
local used = tonumber(redis.call('HGET', KEYS[1], ARGV[1]))
if not used then return 0 end
if ARGV[4] ~= '' and redis.call('HGET', KEYS[1], 'born') ~= ARGV[4] then
  -- The counter was lost while the call was being served, and began anew without it: nothing of it is to be given
  -- back, and what it came to is not counted yet.
  if tonumber(ARGV[3]) > 0 then redis.call('HINCRBY', KEYS[1], ARGV[1], ARGV[3]) end
  return 0
end
local units = math.min(used, tonumber(ARGV[2]))
if units > 0 then redis.call('HINCRBY', KEYS[1], ARGV[1], -units) end
return units
