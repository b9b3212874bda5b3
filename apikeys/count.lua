-- Add units that were not charged by the gate to the counters that are there: the period's own, and those that it was
-- carried into since. One that is not there begins with what PostgreSQL has, of which the units are part by then.
-- KEYS[1] hash of units used; ARGV counter's field, units, and so on.
for place = 1, #ARGV, 2 do
  local field = ARGV[place]
  while field do
    if redis.call('HEXISTS', KEYS[1], field) == 1 then redis.call('HINCRBY', KEYS[1], field, ARGV[place + 1]) end
    field = redis.call('HGET', KEYS[1], 'into:' .. field)
  end
end
return 'OK'
