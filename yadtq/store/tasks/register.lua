-- QUEUED for every task that is not known yet. Idempotent: a known task is left as it is, but for the mark.
-- KEYS    1 the data set (incarnation.lua), 2.. task hashes
-- ARGV    1 ttl in seconds
-- returns nothing
local mark = redis.pcall('HGET', KEYS[1], 'm')
if type(mark) ~= 'string' then mark = nil end
for i = 2, #KEYS do
  local key = KEYS[i]
  local new = redis.pcall('HSETNX', key, 's', 'Q')
  if new == 1 then
    redis.call('EXPIRE', key, ARGV[1])
  elseif type(new) == 'table' and not is_damage(new.err) then
    return new
  end
  -- After Redis went back in time: Kafka holds this task, so what is known of it is confirmed (wait.lua).
  if mark and type(new) == 'number' then redis.call('HSET', key, 'm', mark) end
end
