-- What readers of a stream have in hand. KEYS: the stream, and the hash of holds, in one slot. ARGV: what to do, the
-- group, and what that takes. A hold is first|last|size|since|consumer: ids, how many entries lie between them or 0 where
-- that is not known, and the moment in milliseconds of Redis's clock.
local stream, held = KEYS[1], KEYS[2]
local group = ARGV[2]
local NO_GROUP = 'NOGROUP There is no such group'

local function named(flat)
    local about = {}
    for place = 1, #flat, 2 do about[flat[place]] = flat[place + 1] end
    return about
end

local function cursor()
    if redis.call('EXISTS', stream) == 0 then return nil end
    for _, each in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        local about = named(each)
        if about.name == group then return about['last-delivered-id'] end
    end
end

local function parts(id)
    local ms, seq = string.match(id, '^(%d+)-(%d+)$')
    return tonumber(ms), tonumber(seq)
end

local function is_before(one, other)
    local ms, seq = parts(one)
    local other_ms, other_seq = parts(other)
    return ms < other_ms or ms == other_ms and seq < other_seq
end

local function following(id)
    local ms, seq = parts(id)
    return string.format('%.0f-%.0f', ms, seq + 1)
end

local function now()
    local time = redis.call('TIME')
    return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- With its memory full Redis lets a script that has begun to write go on; this is a beginning, and it must go on: what is
-- read and stored is what makes room.
local function begin_to_write()
    redis.call('HDEL', held, '')
end

local function put(token, first, last, size, consumer)
    begin_to_write()
    local hold = string.format('%s|%s|%.0f|%.0f|%s', first, last, size, now(), consumer)
    redis.call('HSET', held, token, hold)
end

local function holds()
    local found, flat = {}, redis.call('HGETALL', held)
    for place = 1, #flat, 2 do
        local first, last, size, since, consumer =
            string.match(flat[place + 1], '^([^|]+)|([^|]+)|(%d+)|(%d+)|(.*)$')
        found[#found + 1] = {
            token = flat[place], first = first, last = last,
            size = tonumber(size), since = tonumber(since), consumer = consumer,
        }
        found[#found].ms, found[#found].seq = parts(first)
    end
    return found
end

local function begins_before(one, other)
    return one.ms < other.ms or one.ms == other.ms and one.seq < other.seq
end

-- Whether it was not taken over, and not let go of.
local function is_of(consumer, token)
    local hold = redis.call('HGET', held, token)
    return hold and string.match(hold, '^[^|]+|[^|]+|%d+|%d+|(.*)$') == consumer
end

local act = {}

-- Make the group, where there is none.
function act.make()
    if cursor() then return end
    begin_to_write()
    redis.call('XGROUP', 'CREATE', stream, group, '0', 'MKSTREAM')
end

-- token, consumer, after, first, last, size: hold a page that was looked at, and have the group count on to its end. Only
-- if that is what comes next: the group stands at `after`, and behind that is `first`. Returns where the group stands, and
-- 1 where the page is held. Without a page, where it stands.
function act.take(token, consumer, after, first, last, size)
    local at = cursor()
    if not at then return redis.error_reply(NO_GROUP) end
    if not first then return {at} end
    if redis.call('HEXISTS', held, token) == 1 then return {at, 1} end -- It was said twice.
    local comes = redis.call('XRANGE', stream, following(after), '+', 'COUNT', 1)[1]
    if at ~= after or not comes or comes[1] ~= first then return {at} end
    put(token, first, last, size, consumer)
    redis.call('XGROUP', 'SETID', stream, group, last)
    return {last, 1}
end

-- consumer, and then old token, token, first, last, size and so on: hold what is left of a hold by itself as well.
function act.keep(consumer, ...)
    local said = {...}
    for place = 1, #said, 5 do
        if is_of(consumer, said[place]) then
            put(said[place + 1], said[place + 2], said[place + 3], said[place + 4], consumer)
        end
    end
end

-- consumer, tokens: let go of the holds that are still the consumer's, and take out of the stream all that everybody is done with, which is quick, because whole
-- nodes go at once. Returns the first id that somebody still has in hand, and for how many milliseconds.
function act.release(consumer, ...)
    for _, token in ipairs({...}) do
        if is_of(consumer, token) then redis.call('HDEL', held, token) end
    end
    local at = cursor()
    if not at then return false end
    local first, up_to = nil, following(at)
    for _, hold in ipairs(holds()) do
        if not first or begins_before(hold, first) then first = hold end
    end
    if first and is_before(first.first, up_to) then up_to = first.first end
    redis.call('XTRIM', stream, 'MINID', up_to)
    return first and {first.first, now() - first.since} or false
end

-- consumer, idle, owner, most: take over what was held for so many milliseconds, by whomever or by the owner alone,
-- until it is so many entries. Returns token, first, last, size and so on, in the stream's order.
function act.claim(consumer, idle, owner, most)
    local moment, number, due, taken = now(), 0, {}, {}
    for _, hold in ipairs(holds()) do
        if moment - hold.since >= tonumber(idle) and (owner == '' or owner == hold.consumer) then
            due[#due + 1] = hold
        end
    end
    table.sort(due, begins_before)
    for _, hold in ipairs(due) do
        if number >= tonumber(most) then break end
        put(hold.token, hold.first, hold.last, hold.size, consumer)
        for _, part in ipairs({hold.token, hold.first, hold.last, hold.size}) do taken[#taken + 1] = part end
        number = number + (hold.size > 0 and hold.size or most)
    end
    return taken
end

-- consumer, token, most: hold what version 0.1 had in hand, which was kept in the group, entry by entry. Returns how many.
function act.adopt(consumer, token, most)
    if not cursor() then return redis.error_reply(NO_GROUP) end
    local number = 0
    while true do
        local some = redis.call('XPENDING', stream, group, '-', '+', most)
        if #some == 0 then return number end
        -- Between them lie others, of other readers.
        put(token .. '-' .. number, some[1][1], some[#some][1], 0, consumer)
        for _, each in ipairs(some) do redis.call('XACK', stream, group, each[1]) end
        number = number + #some
    end
end

-- consumer, idle: take the name of a reader off the group, or all that were not heard of for so many milliseconds, but
-- for those that have something in hand. Returns how many.
function act.remove(consumer, idle)
    local busy, removed = {}, 0
    if not cursor() then return removed end
    for _, hold in ipairs(holds()) do busy[hold.consumer] = true end
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
        local about = named(each)
        local is_meant = about.name == consumer or consumer == '' and about.idle > tonumber(idle)
        if is_meant and not busy[about.name] then
            begin_to_write()
            redis.call('XGROUP', 'DELCONSUMER', stream, group, about.name)
            removed = removed + 1
        end
    end
    return removed
end

return act[ARGV[1]](unpack(ARGV, 3))
