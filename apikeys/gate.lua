-- The gate: one decision about one call, in one round trip. A refusal charges nothing.
--
-- KEYS[1] hash   what PostgreSQL knows: organization, period, limits, and "key:<digest>" for each active key
-- KEYS[2] list   the times of the admitted calls of the last minute, newest first
-- KEYS[3] hash   units used, by "<meter>:<period start>"
-- ARGV    digest, meter, cost, now in microseconds ("" for this server's own clock)
--
-- Answers {verdict, now, key, organization, rate limit, calls left, microseconds until more are, quota,
-- used, period start, period end}; verdict is cold, stale, unknown_key, unknown_meter, suspended,
-- rate_limited, quota_exceeded or admitted. An empty string stands for unlimited.

local digest, meter, cost = ARGV[1], ARGV[2], tonumber(ARGV[3])
local now = tonumber(ARGV[4])
if not now then
  local time = redis.call('TIME')
  now = time[1] * 1000000 + time[2]
end
local stamp = string.format('%.0f', now) -- tostring() would answer 1.7e+15.
local WINDOW = 60 * 1000000

local facts = redis.call('HMGET', KEYS[1],
  'organization', 'period_start', 'period_end', 'rate', 'quota:' .. meter, 'key:' .. digest, 'absent',
  'valid_until', 'access')
local organization, period_start, period_end, rate, quota, key = unpack(facts, 1, 6)
local valid_until, access = facts[8], facts[9]
if facts[7] then return {'unknown_key', stamp} end
if not organization or not valid_until then return {'cold', stamp} end
if not key then return {'unknown_key', stamp} end
if now >= tonumber(valid_until) then return {'stale', stamp} end
if not quota and cost > 0 then return {'unknown_meter', stamp} end

local counter = meter .. ':' .. period_start
local used = '0'
if quota then
  used = redis.call('HGET', KEYS[3], counter)
  -- The counter is gone while the facts are not: only PostgreSQL knows how much was used.
  if not used then return {'cold', stamp} end
else
  quota = '' -- What costs nothing needs no quota.
end
used = tonumber(used)

local limit = tonumber(rate)
local function answer(verdict, calls_left, wait)
  return {verdict, stamp, key, organization, rate, calls_left, wait, quota, used, period_start, period_end}
end

-- Calls that cost nothing, such as those that pay what is owed, stay open here and below.
if access == 'none' and cost > 0 then return answer('suspended', 0, 0) end

-- Exact sliding window: what left the last 60 seconds is dropped, and what is left is counted. A token
-- bucket of the same size would let nearly twice the limit through in one minute.
local inside = 0
if limit then
  local oldest = redis.call('LINDEX', KEYS[2], -1)
  while oldest and tonumber(oldest) + WINDOW <= now do
    redis.call('RPOP', KEYS[2])
    oldest = redis.call('LINDEX', KEYS[2], -1)
  end
  inside = redis.call('LLEN', KEYS[2])
  if inside >= limit then
    -- Not the oldest: after a change to a smaller plan more than `limit` calls lie in the window.
    local freeing = tonumber(redis.call('LINDEX', KEYS[2], limit - 1))
    return answer('rate_limited', 0, freeing + WINDOW - now)
  end
end

-- After a change to a smaller plan more may be used than is included: what costs nothing may buy more.
local included = tonumber(quota)
if included and cost > 0 and used + cost > included then
  return answer('quota_exceeded', limit and limit - inside or 0, tonumber(period_end) - now)
end

local wait = 0
if limit then
  redis.call('LPUSH', KEYS[2], stamp)
  redis.call('PEXPIRE', KEYS[2], WINDOW / 1000)
  wait = tonumber(redis.call('LINDEX', KEYS[2], -1)) + WINDOW - now
end
if cost > 0 then used = redis.call('HINCRBY', KEYS[3], counter, cost) end
return answer('admitted', limit and limit - inside - 1 or 0, wait)
