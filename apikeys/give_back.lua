-- Give units back to the quota they were charged to, where that period is still counted.
-- KEYS[1] hash of units used; ARGV counter's field, units.
local used = tonumber(redis.call('HGET', KEYS[1], ARGV[1]))
if not used then return 0 end
local units = math.min(used, tonumber(ARGV[2]))
if units > 0 then redis.call('HINCRBY', KEYS[1], ARGV[1], -units) end
return units
