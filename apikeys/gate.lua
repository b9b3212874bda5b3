-- The gate: one decision about one call, in one round trip. A refusal consumes nothing.
--
-- KEYS[1] hash   what PostgreSQL knows: see facts_of in cache.py
-- KEYS[2] list   the times of the organization's admitted calls of the last minute, newest first
-- KEYS[3] hash   units used, by "<meter>:<period start>", a test key's by "test:<meter>:<period start>"; and
--                "tat", the burst's theoretical arrival time
-- KEYS[4] list   as KEYS[2], of this key alone, where it has a cap of its own
-- KEYS[5] zset   addresses that this key was used from, by when it was last
-- ARGV    digest, meter, cost, now in microseconds ("" for this server's own clock), scopes that the call
--         wants with spaces between, the caller's address as 32 hex digits or "", "1" to leave the rate uncounted
--
-- All keys carry the organization's ref in braces: one slot of a cluster.
-- Answers {verdict, now} where nothing is known of the key, {verdict, now, key, organization, mode} where it is
-- refused for its own sake, else also {policy that refused, microseconds until it would not; rate, left,
-- microseconds until more; burst, left, until more; the key's cap, left, until more; quota, units at which the
-- spend cap stops, used, period start, period end}. An empty string stands for unlimited.

local digest, meter, cost = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local stamp = string.format('%.0f', now) -- tostring() would answer 1.7e+15.
local WINDOW = 60 * 1000000
local SEEN_EVERY, SEEN_KEPT, SEEN_MOST = 10 * 1000000, 40 * 86400, 100

local facts = redis.call('HMGET', KEYS[1],
  'absent', 'organization', 'valid_until', 'key:' .. digest, 'access', 'period_start', 'period_end',
  'rate', 'burst', 'quota:' .. meter)
local organization, valid_until, key, access, period_start, period_end, rate, burst, quota =
  unpack(facts, 2, 10)
if facts[1] then return {'invalid_key', stamp} end
-- Without a burst the copy is an older release's.
if not organization or not burst then return {'cold', stamp} end
if not key then return {'invalid_key', stamp} end
if now >= tonumber(valid_until) then return {'stale', stamp} end

local id, mode, expires, cap, scopes, networks =
  string.match(key, '^([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)|([^|]*)$')
local function refuse(verdict) return {verdict, stamp, id, organization, mode} end
if expires ~= '' and now >= tonumber(expires) then return refuse('expired_key') end
if networks ~= '' then
  local inside = false
  for first, last in string.gmatch(networks, '(%x+)-(%x+)') do
    if ARGV[6] >= first and ARGV[6] <= last then inside = true break end
  end
  if not inside then return refuse('address_not_allowed') end
end
if ARGV[5] ~= '' and scopes ~= '' then
  for wanted in string.gmatch(ARGV[5], '%S+') do
    if not string.find(' ' .. scopes .. ' ', ' ' .. wanted .. ' ', 1, true) then
      return refuse('insufficient_scope')
    end
  end
end

local counter, used, spend_cap = meter .. ':' .. period_start, 0, ''
if quota then
  -- "included units|units at which the spend cap stops|1 where the included ones are the end"
  local included, ceiling, blocks = string.match(quota, '^(%d*)|(%d*)|(%d)$')
  if mode == 'test' then
    -- Never billed, so there is nothing beyond what is included, and nothing in PostgreSQL to begin with.
    counter, quota = 'test:' .. counter, included
    used = tonumber(redis.call('HGET', KEYS[3], counter) or '0')
  else
    quota, spend_cap = blocks == '1' and included or '', ceiling
    used = redis.call('HGET', KEYS[3], counter)
    -- The counter is gone while the facts are not: only PostgreSQL knows how much was used.
    if not used then return {'cold', stamp} end
    used = tonumber(used)
  end
elseif cost > 0 then
  return refuse('not_in_plan')
else
  quota = '' -- What costs nothing needs no quota.
end

-- What the answer says of the three rates: calls left, microseconds until more are.
local left, until_more = {0, 0, 0}, {0, 0, 0}
local function answer(verdict, policy, wait)
  return {verdict, stamp, id, organization, mode, policy, wait,
    rate, left[1], until_more[1], burst, left[2], until_more[2], cap, left[3], until_more[3],
    quota, spend_cap, used, period_start, period_end}
end

-- Calls that cost nothing, such as those that pay what is owed, stay open here and below.
if access == 'none' and cost > 0 then return answer('suspended', '', 0) end

-- Everything is asked before anything is charged. Of several policies that refuse, the one that lasts longest
-- answers: who waits for it is not refused by the next one.
-- Uncounted, the rates do not refuse, and are told as they stand.
local counted = ARGV[7] ~= '1'
local policy, wait = '', 0
local function refused(name, microseconds)
  if microseconds > wait then policy, wait = name, microseconds end
end
local function refused_by_rate(name, microseconds)
  if counted then refused(name, microseconds) end
end

-- Exact sliding window: what left the last 60 seconds is dropped, and what is left is counted. A token
-- bucket of the same size would let nearly twice the limit through in one minute.
local function count_window(list, limit, name, place)
  local oldest = redis.call('LINDEX', list, -1)
  while oldest and tonumber(oldest) + WINDOW <= now do
    redis.call('RPOP', list)
    oldest = redis.call('LINDEX', list, -1)
  end
  local inside = redis.call('LLEN', list)
  if inside >= limit then
    -- Not the oldest: after a change to a smaller plan more than `limit` calls lie in the window.
    local freeing = tonumber(redis.call('LINDEX', list, limit - 1)) + WINDOW - now
    until_more[place] = freeing
    refused_by_rate(name, freeing)
  else
    left[place] = limit - inside
    if oldest then until_more[place] = tonumber(oldest) + WINDOW - now end
  end
end
local function add_to_window(list, place)
  redis.call('LPUSH', list, stamp)
  redis.call('PEXPIRE', list, WINDOW / 1000)
  left[place] = left[place] - 1
  if until_more[place] == 0 then until_more[place] = WINDOW end
end

local limit, size, own = tonumber(rate), tonumber(burst), tonumber(cap)
local interval, arrival
if limit then count_window(KEYS[2], limit, 'minute', 1) end
if limit and size then
  -- GCRA (ITU-T I.371): `arrival` is when the bucket would be full again.
  interval = math.ceil(WINDOW / limit)
  arrival = math.max(tonumber(redis.call('HGET', KEYS[3], 'tat') or '0'), now)
  -- After a change to a slower rate or a smaller burst it may lie further off than a full burst reaches.
  arrival = math.min(arrival, now + size * interval)
  left[2] = math.floor((size * interval - (arrival - now)) / interval)
  if left[2] < 1 then refused_by_rate('burst', arrival - now - (size - 1) * interval) end
  until_more[2] = math.max(arrival - now - (size - left[2] - 1) * interval, 0)
end
if own then count_window(KEYS[4], own, 'key', 3) end

-- After a change to a smaller plan more may be used than is included: what costs nothing may buy more.
local included, ceiling = tonumber(quota), tonumber(spend_cap)
if cost > 0 and included and used + cost > included then
  refused('period', tonumber(period_end) - now)
elseif cost > 0 and ceiling and used + cost > ceiling then
  refused('spend_cap', tonumber(period_end) - now)
end
local VERDICTS = {period = 'quota_exceeded', spend_cap = 'spend_cap_reached'}
if policy ~= '' then return answer(VERDICTS[policy] or 'rate_limited', policy, wait) end

if counted then
  if limit then add_to_window(KEYS[2], 1) end
  if size and limit then
    arrival = arrival + interval
    redis.call('HSET', KEYS[3], 'tat', string.format('%.0f', arrival))
    left[2] = left[2] - 1
    until_more[2] = arrival - now - (size - left[2] - 1) * interval
  end
  if own then add_to_window(KEYS[4], 3) end
end
if cost > 0 then used = redis.call('HINCRBY', KEYS[3], counter, cost) end
local seen = redis.call('ZSCORE', KEYS[5], ARGV[6])
if not seen or now - tonumber(seen) >= SEEN_EVERY then
  redis.call('ZADD', KEYS[5], stamp, ARGV[6])
  redis.call('EXPIRE', KEYS[5], SEEN_KEPT)
  if not seen then redis.call('ZREMRANGEBYRANK', KEYS[5], 0, -SEEN_MOST - 1) end
end
return answer('admitted', '', 0)
