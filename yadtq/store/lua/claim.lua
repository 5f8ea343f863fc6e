-- Take the leases of a batch of tasks. Idempotent: the same nonce again gets the same answer.
-- KEYS    1 death certificates, 2.. task hashes
-- ARGV    1 lease in ms, 2 ttl of an unfinished task in seconds, 3 worker, 4 suspects that may be granted,
--         5 crashes from which a task is a suspect, 6.. one nonce for each task
-- returns four integers for each task: verdict (attempt, or 0 final, -1 wait, -2 suspect), crashes, failures, wait in ms
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
local lease_end = string.format('%d', now + ARGV[1])
local ttl, worker = ARGV[2], ARGV[3]
local suspects, suspect_from = tonumber(ARGV[4]), tonumber(ARGV[5])
local out = {}
for i = 2, #KEYS do
  local key, nonce, at = KEYS[i], ARGV[i + 4], (i - 2) * 4
  local task = redis.call('HMGET', key, 's', 'a', 'n', 'l', 'w', 'k', 'f')
  local state, attempt = task[1], tonumber(task[2] or 0)
  local crashes, failures = tonumber(task[6] or 0), tonumber(task[7] or 0)
  local verdict, wait = nil, 0
  if state == 'S' or state == 'F' or state == 'C' then
    verdict = 0
  elseif state == 'I' then
    if task[3] == nonce then
      verdict = attempt
    else
      wait = tonumber(task[4] or 0) - now
      if wait > 0 and redis.call('HEXISTS', KEYS[1], task[5] or '') == 1 then wait = 0 end
      if wait <= 0 then
        -- The holder is dead or silent. The crash is charged now, whether or not this claim is granted.
        crashes = crashes + 1
        redis.call('HSET', key, 's', 'Q', 'k', crashes)
        redis.call('HDEL', key, 'n', 'l', 'w')
      end
    end
  elseif state == 'R' then
    wait = tonumber(task[4] or 0) - now
  end
  if not verdict then
    if wait > 0 then
      verdict = -1
    elseif crashes >= suspect_from and suspects <= 0 then
      verdict, wait = -2, 0
    else
      if crashes >= suspect_from then suspects = suspects - 1 end
      verdict, wait = attempt + 1, 0
      redis.call('HSET', key, 's', 'I', 'a', verdict, 'n', nonce, 'l', lease_end, 'w', worker)
      if not state then redis.call('EXPIRE', key, ttl) end
    end
  end
  out[at + 1], out[at + 2], out[at + 3], out[at + 4] = verdict, crashes, failures, wait
end
return out
