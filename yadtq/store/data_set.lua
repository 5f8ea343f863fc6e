-- Which data set is this, and does it still hold all that the caller has seen in it? A count goes up about once a second for
-- as long as anybody asks; one that is lower than a caller has seen tells that Redis came back with older data (a snapshot,
-- a replica that lagged). Then the data set gets another name, so that all who ask learn of it, and a mark, by which what
-- is confirmed after that is told from what is only remembered (register.lua, wait.lua).
-- KEYS    1 the data set
-- ARGV    1 random, for a new name, 2 the name that the caller has seen, 3 the count that it has seen
-- returns name, count and age in ms
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local found = redis.pcall('HMGET', KEYS[1], 'i', 'b', 't')
if found.err then
  if not string.find(found.err, 'WRONGTYPE', 1, true) then return found end
  redis.call('DEL', KEYS[1])
  found = { false, false, false }
end
local name, count, at = found[1], tonumber(found[2] or ''), tonumber(found[3] or '')
local fresh = string.format('%d-', now) .. ARGV[1]

-- Names begin with the time at which the data set began.
local function began(text)
  return tonumber(string.match(text, '^%d+') or '') or 0
end

if not (name and count and at and count >= 0 and count < 1e15) then
  redis.call('HSET', KEYS[1], 'i', fresh, 'b', 1, 't', string.format('%d', now))
  redis.call('HDEL', KEYS[1], 'm')
  return { fresh, 1, 0 }
end
if (name == ARGV[2] and count < tonumber(ARGV[3])) or began(name) < began(ARGV[2]) then
  redis.call('HSET', KEYS[1], 'i', fresh, 'b', 1, 't', string.format('%d', now), 'm', ARGV[1])
  return { fresh, 1, 0 }
end
if now - at >= 1000 or now < at then
  count = count + 1
  redis.call('HSET', KEYS[1], 'b', count, 't', string.format('%d', now))
end
return { name, count, math.max(0, now - began(name)) }
