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
local out, held_back = {}, {}

-- The last words of a process that has been killed may arrive after its certificate. A lease that nobody uses would be
-- charged to the task as a crash.
if redis.call('HEXISTS', KEYS[1], worker) == 1 then
  for at = 0, (#KEYS - 2) * 4, 4 do
    out[at + 1], out[at + 2], out[at + 3], out[at + 4] = -1, 0, 0, tonumber(ARGV[1])
  end
  return out
end

local function grant(key, attempt, nonce)
  redis.call('HSET', key, 's', 'I', 'a', attempt, 'n', nonce, 'l', lease_end, 'w', worker)
  return attempt
end

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
      if crashes >= suspect_from then suspects = suspects - 1 end
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
  elseif state then
    wait = tonumber(task[4] or 0) - now
    -- A nonce whose attempt has ended is the echo of a claim that was answered long ago, on a connection that was cut
    -- since. Nobody hears the answer: a lease would lie there unused and be charged as a crash.
    if task[3] == nonce then wait = math.max(wait, tonumber(ARGV[1])) end
  end
  if not verdict then
    if wait > 0 then
      verdict = -1
    elseif crashes >= suspect_from then
      verdict, wait = -2, 0
      held_back[#held_back + 1] = { i, attempt }
    else
      verdict, wait = grant(key, attempt + 1, nonce), 0
      if not state then redis.call('EXPIRE', key, ttl) end
    end
  end
  out[at + 1], out[at + 2], out[at + 3], out[at + 4] = verdict, crashes, failures, wait
end
-- Suspects come last: a repeat of this call must count those that it was granted the first time.
for _, suspect in ipairs(held_back) do
  local i = suspect[1]
  local at = (i - 2) * 4
  if redis.call('HGET', KEYS[i], 's') == 'I' then -- the same task twice in one batch
    out[at + 1], out[at + 4] = -1, tonumber(ARGV[1])
  elseif suspects > 0 then
    suspects = suspects - 1
    out[at + 1] = grant(KEYS[i], suspect[2] + 1, ARGV[i + 4])
  end
end
return out
