-- Drop what Redis only copies from PostgreSQL, and cast doubt on what it counts, where that was in another run of this
-- server: see restarts.py. In one step, so that nobody is let in by what is about to go.
-- KEYS[1] which run the counters belong to. Answers how many keys that were.
local call = redis.call
local run = string.match(call('INFO', 'server'), 'run_id:(%x+)')
local known = call('GET', KEYS[1])
if not run or known == run then return 0 end
local dropped = 0
if known then
  local cursor = '0'
  repeat
    local page = call('SCAN', cursor, 'MATCH', 'tollgate:{*}:*', 'COUNT', 1000)
    cursor = page[1]
    for _, key in ipairs(page[2]) do
      if string.match(key, '}:facts$') then
        dropped = dropped + call('UNLINK', key)
      elseif string.match(key, '}:used$') then
        dropped = dropped + call('HDEL', key, 'born')
      end
    end
  until cursor == '0'
end
call('SET', KEYS[1], run)
return dropped
