-- QUEUED for every task that is not known yet. Idempotent: a known task is left as it is, but for the mark.
-- KEYS    1 the data set (data_set.lua), 2.. task hashes
-- ARGV    1 ttl in seconds, 2 the data set in which the tasks were submitted, empty for tasks that were read from Kafka,
--         3.. the home of each task or empty; or none at all
-- returns 1, or 0 if this is another data set: then nothing is written. A task that was submitted before a loss may have
--         ended before it, too: registered now, it would be QUEUED for ever.
local data_set = redis.pcall('HMGET', KEYS[1], 'i', 'm')
if data_set.err then
  if not is_damage(data_set.err) then return data_set end
  data_set = { false, false }
end
if ARGV[2] ~= '' and ARGV[2] ~= data_set[1] then return 0 end
local mark = data_set[2]
for i = 2, #KEYS do
  local key = KEYS[i]
  local new = redis.pcall('HSETNX', key, 's', 'Q')
  if new == 1 then
    redis.call('EXPIRE', key, ARGV[1])
    local home = ARGV[i + 1]
    if home and home ~= '' then redis.call('HSET', key, 'h', home) end
  elseif type(new) == 'table' and not is_damage(new.err) then
    return new
  end
  -- After Redis went back in time: Kafka holds this task, so what is known of it is confirmed (wait.lua).
  if mark and type(new) == 'number' then redis.call('HSET', key, 'm', mark) end
end
return 1
