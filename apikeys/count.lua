-- Add units that were not charged by the gate to the counters that are there: the period's own, and those that it was
-- carried into since. One that is not there begins with what PostgreSQL has, of which the units are part by then.
-- KEYS hashes of units used; ARGV the place of a hash among them, the counter's field, units, and so on.
for place = 1, #ARGV, 3 do
  local key, field, units = KEYS[tonumber(ARGV[place])], ARGV[place + 1], ARGV[place + 2]
  while field do
    if redis.call('HEXISTS', key, field) == 1 then
      redis.call('HINCRBY', key, field, units)
      redis.call('HINCRBY', key, 'ingested:' .. field, units) -- See drift.py.
    end
    field = redis.call('HGET', key, 'into:' .. field)
  end
end
return 'OK'
