-- Extend the leases of running tasks. A lease that Redis has lost is written again, if its holder had it confirmed lately
-- and nobody else holds the task (state.lua). One that another attempt holds, or that ended in a final state, is refused.
-- KEYS    task hashes
-- ARGV    1 lease in ms, 2 ttl of an unfinished task in seconds, 3 worker, then for each task: nonce, attempt,
--         restorable (0, or 1, or the home to be written with it)
-- returns one integer for each task: 1 held, 0 lost
local lease_end = string.format('%d', now + ARGV[1])
local out = {}
for i, key in ipairs(KEYS) do
  local at = i * 3 + 1
  local task = redis.pcall('HMGET', key, 's', 'n', 'a')
  if task.err and not is_damage(task.err) then return task end
  if task[1] == 'I' and task[2] == ARGV[at] then
    redis.call('HSET', key, 'l', lease_end)
    redis.call('EXPIRE', key, ARGV[2])
    out[i] = 1
  elseif ARGV[at + 2] ~= '0' and is_lost(key, task, ARGV[at + 1], ARGV[2]) then
    redis.call('HSET', key, 's', 'I', 'a', ARGV[at + 1], 'n', ARGV[at], 'l', lease_end, 'w', ARGV[3])
    set_home(key, ARGV[at + 2])
    redis.call('EXPIRE', key, ARGV[2])
    out[i] = 1
  else
    out[i] = 0
  end
end
return out
