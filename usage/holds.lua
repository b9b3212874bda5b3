-- What readers of a stream have in hand. KEYS: the stream, and the hash of holds, in one slot. ARGV: what to do, the
-- group, and what that takes. A hold is first|last|size|since|consumer: ids, the last of them empty and the size 0
-- while they are not known, and the moment in milliseconds of Redis's clock.
local stream, held = KEYS[1], KEYS[2]
local group = ARGV[2]

local function info(...)
    local about = {}
    local flat = redis.call('XINFO', ...)
    for place = 1, #flat, 2 do about[flat[place]] = flat[place + 1] end
    return about
end

local function cursor()
    if redis.call('EXISTS', stream) == 0 then return nil end
    for _, each in ipairs(redis.call('XINFO', 'GROUPS', stream)) do
        local about = {}
        for place = 1, #each, 2 do about[each[place]] = each[place + 1] end
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

local function put(token, first, last, size, since, consumer)
    -- Redis lets a script that has begun to write go on where its memory is full, and HDEL it lets begin. It must: what
    -- is read and stored is what makes room.
    redis.call('HDEL', held, token)
    local hold = string.format('%s|%s|%.0f|%.0f|%s', first, last, size, since, consumer)
    redis.call('HSET', held, token, hold)
end

local function holds()
    local found, flat = {}, redis.call('HGETALL', held)
    for place = 1, #flat, 2 do
        local first, last, size, since, consumer =
            string.match(flat[place + 1], '^([^|]+)|([^|]*)|(%d+)|(%d+)|(.*)$')
        found[#found + 1] = {
            token = flat[place], first = first, last = last,
            size = tonumber(size), since = tonumber(since), consumer = consumer,
        }
    end
    table.sort(found, function(one, other) return is_before(one.first, other.first) end)
    return found
end

local act = {}

-- token, consumer: hold all that comes next, before it is read. Returns the id after which that is, and 1; that alone
-- where there is nothing, and no hold then.
function act.hold(token, consumer)
    local at = cursor()
    if not at then return redis.error_reply('NOGROUP There is no such group') end
    if not is_before(at, info('STREAM', stream)['last-generated-id']) then return {at} end
    put(token, following(at), '', 0, now(), consumer)
    return {at, 1}
end

-- token, first, last, size, since, consumer, and so on: say what is held, from now on where nothing is said of it.
function act.put(...)
    local said = {...}
    for place = 1, #said, 6 do
        local since = said[place + 4] == '' and now() or said[place + 4]
        put(said[place], said[place + 1], said[place + 2], said[place + 3], since, said[place + 5])
    end
end

-- tokens: let go of the holds, and take out of the stream all that everybody is done with, which is quick, because whole
-- nodes go at once. Returns the first id that somebody still has in hand, and for how many milliseconds.
function act.release(...)
    for _, token in ipairs({...}) do redis.call('HDEL', held, token) end
    local at = cursor()
    if not at then return false end
    local first, up_to = holds()[1], following(at)
    if first and is_before(first.first, up_to) then up_to = first.first end
    redis.call('XTRIM', stream, 'MINID', up_to)
    return first and {first.first, now() - first.since} or false
end

-- consumer, idle, owner, most: take over what was held for so many milliseconds, by whomever or by the owner alone,
-- until it is so many entries. Returns token, first, last, size and so on, in the stream's order.
function act.claim(consumer, idle, owner, most)
    local moment, size, taken = now(), 0, {}
    for _, hold in ipairs(holds()) do
        if size >= tonumber(most) then break end
        if moment - hold.since >= tonumber(idle) and (owner == '' or owner == hold.consumer) then
            local last = hold.last
            if last == '' then last = cursor() or hold.first end
            put(hold.token, hold.first, last, hold.size, moment, consumer)
            for _, part in ipairs({hold.token, hold.first, last, hold.size}) do taken[#taken + 1] = part end
            size = size + (hold.size > 0 and hold.size or most)
        end
    end
    return taken
end

-- token, consumer: hold what version 0.1 had in hand, which was kept in the group, entry by entry.
function act.adopt(token, consumer)
    local pending = redis.call('XPENDING', stream, group)
    if pending[1] == 0 then return 0 end
    put(token, pending[2], pending[3], 0, 0, consumer)
    for _, each in ipairs(redis.call('XPENDING', stream, group, '-', '+', pending[1])) do
        redis.call('XACK', stream, group, each[1])
    end
    return pending[1]
end

-- consumer, idle: take the name of a reader off the group, or all that were not heard of for so many milliseconds, but
-- for those that have something in hand. Returns how many.
function act.remove(consumer, idle)
    local busy, removed = {}, 0
    for _, hold in ipairs(holds()) do busy[hold.consumer] = true end
    for _, each in ipairs(redis.call('XINFO', 'CONSUMERS', stream, group)) do
        local about = {}
        for place = 1, #each, 2 do about[each[place]] = each[place + 1] end
        local is_meant = about.name == consumer or consumer == '' and about.idle > tonumber(idle)
        if is_meant and not busy[about.name] then
            redis.call('XGROUP', 'DELCONSUMER', stream, group, about.name)
            removed = removed + 1
        end
    end
    return removed
end

return act[ARGV[1]](unpack(ARGV, 3))
