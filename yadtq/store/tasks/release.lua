-- Give leases back, unfinished: QUEUED again, claimable at once. Not a failure of the task, nor a crash.
-- Idempotent: the nonce stays until the next claim, so that a repeat gets the same answer.
-- KEYS    task hashes
-- ARGV    one nonce for each task
-- returns one integer for each task: 1 given back, 0 it was not held
local out = {}
for i, key in ipairs(KEYS) do
  local task = redis.pcall('HMGET', key, 's', 'n')
  if task.err and not is_damage(task.err) then return task end
  if task[1] == 'I' and task[2] == ARGV[i] then
    redis.call('HSET', key, 's', 'Q')
    redis.call('HDEL', key, 'l', 'w')
    out[i] = 1
  elseif task[1] == 'Q' and task[2] == ARGV[i] then
    out[i] = 1
  else
    out[i] = 0
  end
end
return out
