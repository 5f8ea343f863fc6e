-- Extend the leases of running tasks. A lease that Redis has lost with all its data is written anew, if its holder had
-- it confirmed lately and nobody has claimed the task since (it is unknown, or registered again and no more). One that
-- another attempt holds, or that ended in a final state, is refused.
-- KEYS    task hashes
-- ARGV    1 lease in ms, 2 ttl of an unfinished task in seconds, 3 worker, then for each task: nonce, attempt, restorable (1 or 0)
-- returns one integer for each task: 1 held, 0 lost
local clock = redis.call('TIME')
local lease_end = string.format('%d', clock[1] * 1000 + math.floor(clock[2] / 1000) + ARGV[1])
local out = {}
for i, key in ipairs(KEYS) do
  local at = i * 3 + 1
  local task = redis.call('HMGET', key, 's', 'n', 'a')
  if task[1] == 'I' and task[2] == ARGV[at] then
    redis.call('HSET', key, 'l', lease_end)
    redis.call('EXPIRE', key, ARGV[2])
    out[i] = 1
  elseif ARGV[at + 2] == '1' and (not task[1] or (task[1] == 'Q' and not task[3])) then
    redis.call('HSET', key, 's', 'I', 'a', ARGV[at + 1], 'n', ARGV[at], 'l', lease_end, 'w', ARGV[3])
    redis.call('EXPIRE', key, ARGV[2])
    out[i] = 1
  else
    out[i] = 0
  end
end
return out
