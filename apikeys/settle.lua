-- Decide what a reservation came to: once, whoever asks, and however often.
--
-- KEYS[1] hash   the organization's reservations, by id; see reservations.py for the records
-- KEYS[2] string what this one came to
-- KEYS[3] hash   units used, as in gate.lua
-- ARGV    id, what it came to, its units, the record that it began with ("" where nobody has been told), the
--         record to leave where an event is still to be stored or "", how, now in microseconds or "" for this
--         server's own clock
--
-- How: "settle", for who served the call; "sure", the same with the entitlement's row locked and the ledger asked;
-- "overdue", for who bills what nobody settled; "withdraw", for who never had the gate's answer.
-- Answers {"claimed"}; {"known", what it came to}; {"unknown", now}, of which Redis has lost all; {"cold"}, where
-- the lock is needed; {"open"} where it is not overdue.

local call = redis.call
local id, outcome, units, record, how = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5], ARGV[6]
local now = tonumber(ARGV[7])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local REMEMBERED = 3600 * 1000 -- Past the deadline, so that late repetitions hear what they heard before.

local known = call('GET', KEYS[2])
if known then return {'known', known} end

local held = call('HGET', KEYS[1], id)
local is_open = held and string.sub(held, 1, 5) == 'open|'
local deadline, mode, admitted, meter, cost, period = string.match(
  is_open and held or ARGV[4], '^open|(%d+)|(%l+)|%x+|(%d+)|[^|]*|[^|]*|([^|]*)|(%d+)|(%d+)|')
deadline = tonumber(deadline or now)
local field = period and (mode == 'test' and 'test:' or '') .. meter .. ':' .. period
local used = field and tonumber(call('HGET', KEYS[3], field) or '')
if is_open then
  if how == 'overdue' and now < deadline then return {'open'} end
  local back = cost - units
  if back > 0 then
    if used then
      -- And from those that it was carried into since, as give_back.lua does.
      while used do
        local units = math.min(used, back)
        call('HINCRBY', KEYS[3], field, -units)
        local mark = call('HGET', KEYS[3], 'mark:' .. field)
        if mark and tonumber(mark) >= tonumber(admitted) then call('HINCRBY', KEYS[3], 'back:' .. field, units) end
        field = call('HGET', KEYS[3], 'into:' .. field)
        used = field and tonumber(call('HGET', KEYS[3], field) or '')
      end
    elseif how == 'settle' and mode ~= 'test' then
      -- Somebody may be filling the counter, and has seen all of it reserved: not between the two.
      return {'cold'}
    end
  end
elseif how == 'sure' then
  -- Lost, and the counter was filled without it: it is charged what it came to.
  if used and units > 0 then call('HINCRBY', KEYS[3], field, units) end
  -- Who measures the counter would miss its event, which is still to come: measured again later. See drift.py.
  if used then call('HDEL', KEYS[3], 'mark:' .. field, 'read:' .. field, 'back:' .. field) end
elseif how ~= 'withdraw' then
  return {'unknown', string.format('%.0f', now)}
end

local milliseconds = math.max(deadline - now, 0) / 1000 + REMEMBERED
call('SET', KEYS[2], outcome, 'PX', string.format('%.0f', milliseconds))
if record ~= '' then
  call('HSET', KEYS[1], id, record)
else
  call('HDEL', KEYS[1], id)
end
return {'claimed'}
