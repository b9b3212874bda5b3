-- The gate: one decision about one call, in one round trip. A refusal consumes nothing.
--
-- KEYS[1] hash   what PostgreSQL knows: see facts_of in cache.py
-- KEYS[2] list   the times of the organization's admitted calls of the last minute, newest first
-- KEYS[3] hash   units used, by "<meter>:<period start>", a test key's by "test:<meter>:<period start>"; "tat",
--                the burst's theoretical arrival time; "born", which another hash in its place has another of; and by
--                "into:<meter>:<period start>" the counter that began with that one's units
-- KEYS[4] list   as KEYS[2], of this key alone, where it has a cap of its own
-- KEYS[5] hash   the organization's reservations, by id; this and what follows only where the call makes one
-- KEYS[6] string what the reservation came to: see settle.lua
-- ARGV    digest, meter, cost, now in microseconds ("" for this server's own clock), scopes that the call
--         wants with spaces between, the caller's address in digits (addresses.py) or "", "1" to leave the rates
--         uncounted: they do not refuse then, and are told as they stand; for a reservation its id, for how many
--         microseconds it is held, and the end of its event ("<method>|<status>|<ms>|<endpoint>")
--
-- All keys carry the organization's ref in braces: one slot of a cluster.
-- Answers {verdict, now} where nothing is known of the key, {verdict, now, key, organization, mode} where it is
-- refused for its own sake, else also {policy that refused, microseconds until it would not; rate, left,
-- microseconds until more; burst, left, until more; the key's cap, left, until more; quota, units at which the
-- spend cap stops, used, period start, period end, born}, and the record of a reservation that was made: see
-- reservations.py. An empty string stands for unlimited.
--
-- It runs at every call, on Redis's one thread: what most calls do not need is asked for only where they do, and
-- there are few functions, because Lua makes them anew at each run.

local call = redis.call
local meter, cost, now = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
if not now then
  local time = call('TIME')
  now = time[1] * 1000000 + time[2]
end
local stamp = string.format('%.0f', now) -- tostring() would answer 1.7e+15.
local WINDOW = 60 * 1000000
-- A window's list is kept for this long from its first call on, and anew, at most once a minute, when a call drops out
-- of it: so it is never gone while one of the last minute is in it. Writes are dear.
local KEPT, RENEWED_BELOW = 5 * 60 * 1000, 4 * 60 * 1000

if ARGV[8] then
  -- Taken back by who gave up waiting for this very answer.
  if call('EXISTS', KEYS[6]) == 1 then return {'gate_unavailable', stamp} end
  local held = call('HGET', KEYS[5], ARGV[8])
  if held then
    -- Asked again because the answer was lost: charged already. The limits are told to the first question alone.
    local mode, at, organization, key, period =
      string.match(held, '^%l+|%d+|(%l+)|%x+|(%d+)|([^|]*)|([^|]*)|[^|]*|%d+|(%d+)|')
    local field = (mode == 'test' and 'test:' or '') .. meter .. ':' .. period
    return {'admitted', at, key, organization, mode, '', 0, '', 0, 0, '', 0, 0, '', 0, 0, '', '',
      call('HGET', KEYS[3], field) or '0', period, call('HGET', KEYS[1], 'period_end') or period, '', held}
  end
end

local facts = call('HMGET', KEYS[1],
  'organization', 'valid_until', 'key:' .. ARGV[1], 'access', 'period_start', 'period_end',
  'rate', 'burst', 'quota:' .. meter, 'ceiling:' .. meter, 'born')
local organization, key = facts[1], facts[3]
local period_start, period_end, rate, burst, quota, ceiling =
  facts[5], facts[6], facts[7], facts[8], facts[9], facts[10]
-- Without a burst the copy is an older release's.
if not organization or not burst then
  return {call('HEXISTS', KEYS[1], 'absent') == 1 and 'invalid_key' or 'cold', stamp}
end
if not key then return {'invalid_key', stamp} end
if now >= tonumber(facts[2]) then return {'stale', stamp} end

-- "<36 characters of id>|<live or test>", and where it is restricted "|expires|cap|scopes|networks".
local id, mode, cap = string.sub(key, 1, 36), string.sub(key, 38, 41), ''
if #key > 41 then
  local expires, own, scopes, networks = string.match(key, '^([^|]*)|([^|]*)|([^|]*)|([^|]*)$', 43)
  cap = own
  if expires ~= '' and now >= tonumber(expires) then
    return {'expired_key', stamp, id, organization, mode}
  end
  if networks ~= '' then
    local inside = false
    for first, last in string.gmatch(networks, '(%x+)-(%x+)') do
      if ARGV[6] >= first and ARGV[6] <= last then inside = true break end
    end
    if not inside then return {'address_not_allowed', stamp, id, organization, mode} end
  end
  if scopes ~= '' and ARGV[5] ~= '' then
    for wanted in string.gmatch(ARGV[5], '%S+') do
      if not string.find(' ' .. scopes .. ' ', ' ' .. wanted .. ' ', 1, true) then
        return {'insufficient_scope', stamp, id, organization, mode}
      end
    end
  end
end

local counter, used = meter .. ':' .. period_start, 0
if not quota then
  if cost > 0 then return {'not_in_plan', stamp, id, organization, mode} end
  quota, ceiling = '', '' -- What costs nothing needs no quota.
elseif mode == 'test' then
  -- Never billed, so there is nothing beyond what is included, and nothing in PostgreSQL to begin with.
  counter, quota, ceiling = 'test:' .. counter, call('HGET', KEYS[1], 'included:' .. meter), ''
  used = tonumber(call('HGET', KEYS[3], counter) or '0')
else
  used = call('HGET', KEYS[3], counter)
  -- The counter is gone while the facts are not: only PostgreSQL knows how much was used.
  if not used then return {'cold', stamp} end
  used = tonumber(used)
end

-- Everything is asked before anything is charged. Of several policies that refuse, the one that lasts longest
-- answers: who waits for it is not refused by the next one.
local verdict, policy, wait = 'admitted', '', 0
local counted, limit = ARGV[7] ~= '1', tonumber(rate)
local rate_left, rate_until, burst_left, burst_until, cap_left, cap_until = 0, 0, 0, 0, 0, 0
local interval, arrival, reservation

-- Exact sliding window: what left the last 60 seconds is dropped, and what is left is counted. A token
-- bucket of the same size would let nearly twice the limit through in one minute.
local function look_at_window(list, limit, name)
  local oldest = call('LINDEX', list, -1)
  if oldest and tonumber(oldest) + WINDOW <= now then
    repeat
      call('RPOP', list)
      oldest = call('LINDEX', list, -1)
    until not oldest or tonumber(oldest) + WINDOW > now
    if oldest and call('PTTL', list) < RENEWED_BELOW then call('PEXPIRE', list, KEPT) end
  end
  local inside = oldest and call('LLEN', list) or 0
  if inside < limit then return limit - inside, oldest and tonumber(oldest) + WINDOW - now or 0 end
  -- Not the oldest: after a change to a smaller plan more than `limit` calls lie in the window.
  local freeing = tonumber(call('LINDEX', list, limit - 1)) + WINDOW - now
  if counted and freeing > wait then verdict, policy, wait = 'rate_limited', name, freeing end
  return 0, freeing
end

if facts[4] == 'none' and cost > 0 then
  -- Calls that cost nothing, such as those that pay what is owed, stay open.
  verdict = 'suspended'
else
  if limit then
    rate_left, rate_until = look_at_window(KEYS[2], limit, 'minute')
    local size = tonumber(burst)
    if size then
      -- GCRA (ITU-T I.371): `arrival` is when the bucket would be full again.
      interval = math.ceil(WINDOW / limit)
      arrival = math.max(tonumber(call('HGET', KEYS[3], 'tat') or '0'), now)
      -- After a change to a slower rate or a smaller burst it may lie further off than a full burst reaches.
      arrival = math.min(arrival, now + size * interval)
      burst_left = math.floor((size * interval - (arrival - now)) / interval)
      burst_until = math.max(arrival - now - (size - burst_left - 1) * interval, 0)
      local freeing = arrival - now - (size - 1) * interval
      if counted and freeing > wait then verdict, policy, wait = 'rate_limited', 'burst', freeing end
    end
  end
  if cap ~= '' then cap_left, cap_until = look_at_window(KEYS[4], tonumber(cap), 'key') end
  if cost > 0 then
    -- After a change to a smaller plan more may be used than is included: what costs nothing may buy more.
    local freeing = period_end - now
    if quota ~= '' and used + cost > tonumber(quota) then
      if freeing > wait then verdict, policy, wait = 'quota_exceeded', 'period', freeing end
    elseif ceiling ~= '' and used + cost > tonumber(ceiling) then
      if freeing > wait then verdict, policy, wait = 'spend_cap_reached', 'spend_cap', freeing end
    end
  end
end

if verdict == 'admitted' then
  if counted then
    if limit then
      call('LPUSH', KEYS[2], stamp)
      if rate_left == limit then call('PEXPIRE', KEYS[2], KEPT) end
      rate_left = rate_left - 1
      if rate_until == 0 then rate_until = WINDOW end
    end
    if interval then
      arrival = arrival + interval
      call('HSET', KEYS[3], 'tat', string.format('%.0f', arrival))
      burst_left = burst_left - 1
      burst_until = arrival - now - (tonumber(burst) - burst_left - 1) * interval
    end
    if cap ~= '' then
      call('LPUSH', KEYS[4], stamp)
      if cap_left == tonumber(cap) then call('PEXPIRE', KEYS[4], KEPT) end
      cap_left = cap_left - 1
      if cap_until == 0 then cap_until = WINDOW end
    end
  end
  if cost > 0 then used = call('HINCRBY', KEYS[3], counter, cost) end
  if ARGV[8] and cost > 0 then
    -- In the one step that charges: there is no moment at which units are charged and nobody answers for them.
    reservation = string.format('open|%.0f|%s|%s|%.0f|%s|%s|%s|%d|%s|%s', now + ARGV[9], mode, ARGV[8],
      math.max(now, tonumber(period_start)), organization, id, meter, cost, period_start, ARGV[10])
    call('HSET', KEYS[5], ARGV[8], reservation)
  end
end
return {verdict, stamp, id, organization, mode, policy, wait, rate, rate_left, rate_until,
  burst, burst_left, burst_until, cap, cap_left, cap_until, quota, ceiling, used, period_start, period_end,
  facts[11] or '', reservation}
