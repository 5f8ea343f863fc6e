-- A death certificate: the leases of this worker process are void now. Certificates over an hour old are removed.
-- KEYS    1 death certificates
-- ARGV    1 worker, 2 control channel, 3 "o" if its end came from outside, else empty
-- returns nothing
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local all = redis.pcall('HGETALL', KEYS[1])
if all.err then
  if not string.find(all.err, 'WRONGTYPE', 1, true) then return all end
  redis.call('DEL', KEYS[1]) -- a key of another type certifies nobody
end
for i = 1, #all, 2 do
  if now - (tonumber(string.match(all[i + 1], '^%d+')) or 0) > 3600000 then redis.call('HDEL', KEYS[1], all[i]) end
end
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d', now) .. ARGV[3])
redis.pcall('PUBLISH', ARGV[2], 'dead ' .. ARGV[1])
